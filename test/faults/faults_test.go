package faults

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// soak is one run.
type soak struct {
	t      *testing.T
	c      *cluster
	pairs  []*pair
	draw   *rand.Rand
	kinds  []kind
	rows   map[string]*Row
	broken int
	round  int
	late   lateness
}

// lateness is how much later than wanted the machine has let this process go on, at most: what the nodes do then says little about them.
type lateness struct {
	mu    sync.Mutex
	worst time.Duration
}

// tooBusy is from when on times are told and not judged.
const tooBusy = 250 * time.Millisecond

func (l *lateness) watch(done <-chan struct{}) {
	const step = 20 * time.Millisecond
	for {
		began := time.Now()
		select {
		case <-done:
			return
		case <-time.After(step):
		}
		l.mu.Lock()
		l.worst = max(l.worst, time.Since(began)-step)
		l.mu.Unlock()
	}
}

// busy says that the machine is too busy to be judged by times.
func (l *lateness) busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.worst > tooBusy
}

// since gives the worst since it was asked last.
func (l *lateness) since() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	worst := l.worst
	l.worst = 0
	return worst
}

// TestFaults makes faults for as long as it is told, one at a time, and tells what has become of the calls.
func TestFaults(t *testing.T) {
	if *long == 0 {
		t.Skip("no faults are made without -for: see make faults")
	}
	if *seed == 0 {
		*seed = rand.Uint64N(1 << 32)
	}
	fits := regexp.MustCompile(*only)
	s := &soak{t: t, draw: rand.New(rand.NewPCG(*seed, 0)), rows: map[string]*Row{}}
	for _, k := range kinds {
		if fits.MatchString(k.name) {
			s.kinds = append(s.kinds, k)
		}
	}
	fmt.Printf("faults for %s, seed %d (make faults FAULTS=%s SEED=%d)\n", *long, *seed, *long, *seed)
	done := make(chan struct{})
	defer close(done)
	go s.late.watch(done)
	s.open()
	for end := time.Now().Add(*long); time.Now().Before(end) && (*quitAt == 0 || s.broken < *quitAt); {
		s.once()
	}
	s.close()
	fmt.Print(Table(s.rows))
	fmt.Printf("%d faults, %d broken invariants, seed %d, logs in %s\n", s.round, s.broken, *seed, s.c.dir)
	if s.broken > 0 {
		t.Errorf("%d invariants are broken (seed %d)", s.broken, *seed)
	}
}

// open makes the cluster and its phones.
func (s *soak) open() {
	users := map[string]string{}
	for n := range *pairs {
		users[fmt.Sprintf("a%d", n)], users[fmt.Sprintf("b%d", n)] = fmt.Sprint(200+n), fmt.Sprint(300+n)
	}
	s.c = newCluster(s.t, users)
	if err := s.c.well(); err != nil {
		s.t.Fatal(err)
	}
	for n := range *pairs {
		p := &pair{c: s.c, n: n}
		if err := p.openAll(); err != nil {
			s.t.Fatal(err)
		}
		s.pairs = append(s.pairs, p)
	}
	for _, p := range s.pairs { // what the first call makes stays
		if err := p.begin(talking); err != nil {
			s.t.Fatal(err)
		}
		if err := p.hangUp(false); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, m := range s.c.nodes {
		m.measure()
	}
}

// measure notes what the node has when it has no calls.
func (m *member) measure() {
	m.base, _ = m.Debug()
	m.fds, m.udp = m.FDs(), m.sockets()
}

// sockets are the node's UDP ports: nobody else is on its machine.
func (m *member) sockets() (n int) {
	out, _ := m.net.Try("cat", "/proc/net/udp", "/proc/net/udp6")
	return strings.Count(string(out), "\n") - 2
}

// violated tells of a broken invariant.
func (s *soak) violated(format string, args ...any) {
	s.broken++
	fmt.Printf("BROKEN (seed %d, round %d): %s\n", *seed, s.round, fmt.Sprintf(format, args...))
}

// once makes one fault, or two, on calls in all states.
func (s *soak) once() {
	s.round++
	s.fill()
	double := *twice > 0 && s.round%*twice == 0
	all := []*fault{s.next()}
	if double {
		all = append(all, s.next())
	}
	name := all[0].name
	if double {
		name += " + " + all[1].name
	}
	began := time.Now()
	for _, p := range s.pairs {
		switch {
		case p.near == nil:
		case p.state == moving:
			p.startMove()
		case p.state == busy:
			p.startHolding()
		}
	}
	time.Sleep(time.Duration(s.draw.IntN(300)) * time.Millisecond)
	owners := map[*pair]string{}
	_ = s.late.since()
	for _, p := range s.pairs {
		owners[p] = s.c.history.Owner(p.id)
	}
	fmt.Printf("%s round %d: %s%s\n", clock(time.Now()), s.round, name, all[0].where())
	hold, limit := time.Duration(0), time.Duration(0)
	for _, f := range all {
		f.begin()
		hold, limit = max(hold, f.hold), max(limit, f.limit)
	}
	time.Sleep(hold)
	rest := time.Duration(0)
	for _, f := range all {
		f.end()
		rest = max(rest, f.rest)
	}
	time.Sleep(rest)
	s.judge(all, name, double, began, time.Now().Add(limit), owners)
}

func (f *fault) where() string {
	switch {
	case f.target != nil:
		return " (" + f.target.name + ")"
	case f.hit != nil:
		return " (" + f.hit.name() + ")"
	}
	return ""
}

// next draws a fault that can be made now.
func (s *soak) next() *fault {
	for {
		k := s.kinds[s.draw.IntN(len(s.kinds))]
		if strings.HasPrefix(k.name, "connection of") && s.talker(s.draw, "tcp") == nil || strings.HasPrefix(k.name, "device") && s.talker(s.draw, "udp") == nil {
			continue
		}
		f := k.make(s, s.draw)
		f.name = k.name
		return f
	}
}

// fill has each pair in a call, in a state that is drawn.
func (s *soak) fill() {
	states := []string{talking, talking, talking, talking, held, ringing, moving, leftIt, waiting, busy}
	var all sync.WaitGroup
	var mu sync.Mutex
	for _, p := range s.pairs {
		state := states[s.draw.IntN(len(states))]
		all.Go(func() {
			if err := p.enter(state); err != nil {
				mu.Lock()
				s.violated("between faults: %v\n%s", err, s.c.said(p.id))
				mu.Unlock()
				_ = p.reset()
				if err := p.begin(talking); err != nil {
					fmt.Println("and once more:", err)
					p.near, p.far = nil, nil
				}
			}
		})
	}
	all.Wait()
}

// enter brings the pair into a state; a call that there is goes on.
func (p *pair) enter(state string) error {
	if err := p.revive(); err != nil {
		return err
	}
	if state == ringing && p.near != nil {
		if err := p.hangUp(p.n%2 == 0); err != nil {
			return err
		}
	}
	if p.near == nil {
		if err := p.begin(state); err != nil || state == ringing {
			return err
		}
	}
	if state == moving || state == busy {
		p.state = state
		return nil
	}
	return p.become(state)
}

// judge looks at each call once the fault is over, and at what the nodes say.
func (s *soak) judge(all []*fault, name string, double bool, began, end time.Time, owners map[*pair]string) {
	row := s.rows[name]
	if double {
		name, row = "two at once", s.rows["two at once"]
	}
	if row == nil {
		row = &Row{Kind: name}
		s.rows[name] = row
	}
	row.Times++
	told := s.violated
	if double {
		told = func(format string, args ...any) {
			fmt.Printf("seen with two faults (round %d): %s\n", s.round, fmt.Sprintf(format, args...))
		}
	}
	var slow []string
	var wait sync.WaitGroup
	var mu sync.Mutex
	for _, p := range s.pairs {
		if p.near == nil {
			continue
		}
		wait.Go(func() {
			lines, gaps, answered := s.judgeOne(p, all, began, end, owners[p])
			mu.Lock()
			defer mu.Unlock()
			if long := tooLong(p, all, gaps); long != "" {
				slow = append(slow, fmt.Sprintf("%s (call %s at %s) %s", p.name(), p.id, owners[p], long))
			}
			if answered {
				row.Calls++
			}
			for _, line := range lines {
				row.Lost++
				told("%s\n%s\n%s", line, list(s.c.history.Of(p.id)), s.c.said(p.id))
			}
			row.Gaps = append(row.Gaps, gaps...)
		})
	}
	wait.Wait()
	if late := s.late.since(); late > tooBusy {
		fmt.Printf("    this machine stood still for %s meanwhile; not judged: %q\n", late.Round(time.Millisecond), slow)
	} else if len(slow) > 0 {
		told("%s", strings.Join(slow, "; "))
	}
	if err := s.c.well(); err != nil {
		s.violated("after %s: %v", name, err)
	}
	for _, line := range s.c.badLines() {
		s.violated("a log has %s", line)
	}
	for _, line := range s.c.history.Broken(time.Now(), 15*time.Second) {
		s.violated("%s", line)
	}
	s.renew(double)
	s.c.history.Forget(time.Now().Add(-time.Minute))
}

// judgeOne settles a pair and says what is wrong with it, and how long those of a talk heard nothing that the fault could reach.
func (s *soak) judgeOne(p *pair, all []*fault, began, end time.Time, owner string) (wrong []string, gaps []time.Duration, answered bool) {
	f := all[0]
	if p.state == ringing { // it may be lost: nobody had answered it. Whoever is in it now must be rid of it, and that is all
		err := p.finishRinging()
		if err != nil {
			wrong = append(wrong, err.Error())
		}
		return wrong, nil, false
	}
	was, near := p.state, p.near
	fate := p.settle(f.name, end)
	for try := 0; try < 3 && len(fate.Ended) == 0 && fate.Lost() && s.late.busy(); try++ { // it is given more time
		fate = p.settle(f.name, time.Now().Add(later))
	}
	if fate.Lost() {
		wrong = append(wrong, fate.String()+", owned by "+owner)
	}
	wrong = append(wrong, p.speakers(began)...)
	touched := f.hit == p || f.hit == nil && (f.target == nil || f.target.name == owner)
	if was == talking && p.near == near && touched && !fate.Lost() {
		time.Sleep(300 * time.Millisecond)
		gaps = p.gaps(began, time.Now().Add(-100*time.Millisecond))
	}
	if fate.Lost() {
		if err := p.reset(); err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	return wrong, gaps, true
}

// tooLong says that a pair whose phones are on UDP heard nothing for longer than a single fault of the kind may take.
func tooLong(p *pair, all []*fault, gaps []time.Duration) string {
	if len(all) > 1 || all[0].gap == 0 || p.near == nil || p.a[p.at].Config().Transport != "udp" || p.b.Config().Transport != "udp" {
		return ""
	}
	if most := phone.Quantile(gaps, 1); most > all[0].gap {
		return fmt.Sprintf("heard nothing for %s, limit %s", most.Round(time.Millisecond), all[0].gap)
	}
	return ""
}

// renew ends some calls, all after two faults at once: what those have done is not to be found later.
func (s *soak) renew(all bool) {
	for _, p := range s.pairs {
		if p.near == nil || !all && s.draw.IntN(3) > 0 {
			continue
		}
		if err := p.hangUp(s.draw.IntN(2) == 0); err != nil {
			id := p.id
			s.violated("between faults: %v\n%s", err, s.c.said(id))
			_ = p.reset()
		}
		for _, d := range []*device{p.a[0], p.a[1], p.b} {
			d.Forget()
		}
	}
}

// close ends all calls and sees that nothing is left.
func (s *soak) close() {
	s.renew(true)
	for _, p := range s.pairs {
		if err := p.reset(); err != nil {
			s.violated("%v", err)
		}
	}
	for _, m := range s.c.nodes {
		if err := m.idle(); err != nil {
			s.violated("%s: %v", m.name, err)
		}
	}
	if calls := s.left(); calls != "" {
		s.violated("Redis still has %s", calls)
	}
	for _, line := range s.c.history.Broken(time.Now(), 15*time.Second) {
		s.violated("%s", line)
	}
	for _, p := range s.pairs {
		for _, d := range []*device{p.a[0], p.a[1], p.b} {
			d.gone(d.Close)
		}
	}
	for _, line := range s.c.badLines() {
		s.violated("a log has %s", line)
	}
}

// idle waits until the node has no more than at the beginning.
func (m *member) idle() (err error) {
	for end := time.Now().Add(later); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		var d node.Debug
		if d, err = m.Debug(); err != nil {
			continue
		}
		err = m.grown(d)
		if err == nil {
			fmt.Printf("%s at the end: %d goroutines (%d at the beginning), %d file descriptors (%d), %d UDP ports (%d), %.1f MB of heap (%.1f)\n",
				m.name, d.Goroutines, m.base.Goroutines, m.FDs(), m.fds, m.sockets(), m.udp, float64(d.HeapBytes)/1e6, float64(m.base.HeapBytes)/1e6)
			return nil
		}
	}
	return err
}

// grown says what a node has that it had not. Phones may have come to it from other nodes: each has two goroutines and a descriptor.
func (m *member) grown(d node.Debug) error {
	const slack = 6
	phones := max(0, d.Connections.Open-m.base.Connections.Open)
	switch {
	case d.Calls+d.Streams+d.Dialogs+d.Records+d.Relays > 0:
		return fmt.Errorf("left over: %+v", d)
	case d.Goroutines > m.base.Goroutines+4*phones+slack:
		return fmt.Errorf("%d goroutines, %d at the beginning", d.Goroutines, m.base.Goroutines)
	case m.FDs() > m.fds+phones+slack:
		return fmt.Errorf("%d file descriptors, %d at the beginning", m.FDs(), m.fds)
	case m.sockets() > m.udp:
		return fmt.Errorf("%d UDP ports, %d at the beginning", m.sockets(), m.udp)
	case d.HeapBytes > 2*m.base.HeapBytes+8<<20:
		return fmt.Errorf("%d bytes of heap, %d at the beginning", d.HeapBytes, m.base.HeapBytes)
	}
	return nil
}

// left are the records of calls that are in Redis though there is no call.
func (s *soak) left() string {
	one, _ := s.c.master()
	if one == nil {
		return "no master"
	}
	var all []string
	for end := time.Now().Add(soon); ; time.Sleep(200 * time.Millisecond) {
		all = nil
		text, err := one.Do("EVAL", `local left = {}
for _, k in ipairs(redis.call('KEYS', 'baton:call:*')) do if redis.call('HEXISTS', k, 'b') == 1 then left[#left + 1] = k end end
return table.concat(left, ' ')`, "0")
		if err != nil {
			return err.Error()
		}
		if _, body, ok := strings.Cut(text, "\r\n"); ok {
			all = strings.Fields(body)
		}
		if len(all) == 0 || time.Now().After(end) {
			return strings.Join(all, " ")
		}
	}
}
