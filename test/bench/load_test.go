package bench

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// callsPerCPU is what a second of processor time is to do, calls without RTP.
const callsPerCPU = 1500

// stormCallsPerCPU is the same where nothing ever has to be woken; soundCallsPerCPU with 20 packets relayed of each call.
const (
	stormCallsPerCPU = 2000
	soundCallsPerCPU = 2500
)

// hold is how long a call of the load test lasts: ten packets of each side fit in.
const hold = 220 * time.Millisecond

// loaded are users in pairs that call each other without end.
type loaded struct {
	node    *node.Node
	callers []*agent
	callees []*agent

	mu     sync.Mutex
	setUps []time.Duration // of the calls so far: authenticated INVITE → 200
}

// unlimited has a node take whatever one source sends and one user begins: the load of many comes from few.
const unlimited = "limits:\n  stranger: 0\n  strangers: 0\n  source: 0\n  user: 0\n  calls: 1000000\n  cpu: 0\ncall:\n  per_user: 1000\n"

// loadedConfig gives the node so many ports that none is still at rest when it is wanted again.
var loadedConfig = "media:\n  address: " + node.IP(1).String() + "\n  ports: 10000-65535\n"

// newLoaded is a node without limits and so many pairs of users with a device each.
func newLoaded(t *testing.T, pairs int, legs *generator) *loaded {
	t.Helper()
	return newLoadedWith(t, loadedConfig+unlimited, pairs, legs)
}

// newLimited is one with the limits that it has when nothing is set.
func newLimited(t *testing.T, pairs int, legs *generator) *loaded {
	t.Helper()
	return newLoadedWith(t, loadedConfig, pairs, legs)
}

func newLoadedWith(t *testing.T, config string, pairs int, legs *generator) *loaded {
	t.Helper()
	return newLoadedOn(t, node.Options{Config: config}, pairs, legs)
}

// newLoadedOn adds the pairs to the users of the options.
func newLoadedOn(t *testing.T, o node.Options, pairs int, legs *generator) *loaded {
	t.Helper()
	users := map[string]string{}
	maps.Copy(users, o.Users)
	for i := range pairs {
		users[fmt.Sprintf("a%d", i)], users[fmt.Sprintf("b%d", i)] = fmt.Sprint(200+i), fmt.Sprint(300+i)
	}
	o.Users = users
	l := &loaded{node: node.Start(t, o)}
	for i := range pairs {
		a := newAgent(t, fmt.Sprintf("a%d", i), node.IP(2+i%9), l.node.UDP, legs)
		b := newAgent(t, fmt.Sprintf("b%d", i), node.IP(11+i%9), l.node.UDP, legs)
		must(t, a.register(a.user, 2*i))
		must(t, b.register(b.user, 2*i+1))
		l.callers, l.callees = append(l.callers, a), append(l.callees, b)
	}
	return l
}

// frames makes each side of every call send so many packets.
func (l *loaded) frames(n int) {
	for i := range l.callers {
		l.callers[i].frames, l.callees[i].frames = n, n
	}
}

// dialled is a call that has been answered and acknowledged.
type dialled struct {
	x      *exchange
	target string
	to     string
	leg    *leg
}

// dial calls a user with credentials and acknowledges the answer.
func (a *agent) dial(user string) (*dialled, error) {
	x := a.exchange(a.user)
	uri := fmt.Sprintf("sip:%s@%s", user, a.server)
	d := &dialled{x: x}
	res, err := x.authenticated(func() *phone.Message {
		m := x.request("INVITE", uri, "<"+uri+">")
		m.Add("Contact", a.contact())
		d.leg = a.describe(m, d.leg)
		return m
	})
	if err != nil {
		x.close()
		return nil, err
	}
	d.to, d.target = res.Get("To"), phone.AddrURI(res.Get("Contact"))
	if d.leg != nil {
		d.leg.to = audioAddress(res.Body)
		a.mu.Lock()
		a.made[x.id] = d.leg
		a.mu.Unlock()
	}
	a.send(x.request("ACK", d.target, d.to))
	return d, nil
}

// bye ends the call.
func (d *dialled) bye() error {
	defer d.x.close()
	defer func() {
		d.x.agent.mu.Lock()
		delete(d.x.agent.made, d.x.id)
		d.x.agent.mu.Unlock()
	}()
	res, err := d.x.final(d.x.request("BYE", d.target, d.to))
	if err == nil && res.Code != 200 {
		err = fmt.Errorf("BYE of %s: %s", d.x.user, res.Line())
	}
	return err
}

// call is one call from beginning to end.
func (l *loaded) call(i int) error { return l.callFor(i, hold) }

// callFor is one call that is up for a while.
func (l *loaded) callFor(i int, hold time.Duration) error {
	a := l.callers[i%len(l.callers)]
	d, err := a.dial(l.callees[i%len(l.callees)].user)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.setUps = append(l.setUps, d.x.took)
	l.mu.Unlock()
	end := time.Now().Add(hold)
	if d.leg != nil && a.frames > 0 {
		a.legs.speak(d.leg, a.frames)
	}
	time.Sleep(time.Until(end))
	return d.bye()
}

func TestCallRate(t *testing.T) {
	const rate, warm, calls = 50, 150, 1500
	legs := newGenerator(t)
	l := newLoaded(t, 20, legs)
	s := of(l.node)
	for _, frames := range []int{0, 10} {
		l.frames(frames)
		paced(t, warm, rate, l.call)
		legs.heard.Store(0)
		legs.window.Store(frames > 0)
		cpu := s.cpu()
		failed := paced(t, calls, rate, l.call)
		spent := s.cpu() - cpu
		legs.window.Store(false)
		if failed > 0 {
			t.Errorf("%d of %d calls failed", failed, calls)
		}
		each := perSecond(calls-failed, spent)
		if frames == 0 {
			more("calls per CPU-second at 50/s, no RTP", each, "/s")
			verdict(t, each >= callsPerCPU, "calls at %d/s without RTP: %.0f per CPU-second (limit %d), %.2f ms of CPU each, %d of %d failed",
				rate, each, callsPerCPU, 1e3/each, failed, calls)
			continue
		}
		more("calls per CPU-second at 50/s, 20 RTP packets each", each, "/s")
		heard := float64(legs.heard.Load()) / calls
		note("calls at %d/s with %.1f relayed packets each: %.0f per CPU-second, %.2f ms of CPU each, %d of %d failed",
			rate, heard, each, 1e3/each, failed, calls)
		if heard < 0.95*float64(2*frames) {
			t.Errorf("%.1f packets of each call were relayed, want %d", heard, 2*frames)
		}
	}
}

// TestCallSound makes as many calls at once as are enough to keep a core busy, each of which lasts for ten packets from either side, and ends.
func TestCallSound(t *testing.T) {
	const atOnce, frames, warm, calls = 256, 10, 500, 6000
	legs := newGenerator(t)
	l := newLoaded(t, 20, legs)
	l.frames(frames)
	s := of(l.node)
	loop := func(count int) int { return loopedBy(t, atOnce, count, l.call) }
	loop(warm)
	legs.heard.Store(0)
	legs.window.Store(true)
	cpu, start := s.cpu(), time.Now()
	wait := s.profiled(t, "calls with sound")
	failed := loop(calls)
	spent, took := s.cpu()-cpu, time.Since(start)
	legs.window.Store(false)
	wait()
	each, heard := perSecond(calls-failed, spent), float64(legs.heard.Load())/calls
	work := "calls per CPU-second, 20 RTP packets each, 256 at once"
	ok := each >= soundCallsPerCPU && failed == 0
	more(work, each, "/s")
	beside(work, "", "baton", each)
	held(work, fmt.Sprintf("≥ %d", soundCallsPerCPU), ok)
	verdict(t, ok, "%s: %.0f (limit %d), %.2f ms of CPU each, %.0f per second, %.1f packets of each relayed, %d of %d failed",
		work, each, soundCallsPerCPU, 1e3/each, float64(calls)/took.Seconds(), heard, failed, calls)
	if heard < 0.95*2*frames {
		t.Errorf("%.1f packets of each call were relayed, want %d", heard, 2*frames)
	}
}

// TestCallsAmongMany is what calls of some users cost while many of others stand, for what they cost without those. What standing calls cost by
// themselves is not in it.
func TestCallsAmongMany(t *testing.T) {
	const standing, calls = 2000, 2000
	l := newLoaded(t, 40, nil)
	s := of(l.node)
	others := &loaded{node: l.node, callers: l.callers[:20], callees: l.callees[:20]}
	l.callers, l.callees = l.callers[20:], l.callees[20:]
	cost := func() time.Duration {
		idle, begin := s.cpu(), time.Now()
		time.Sleep(3 * time.Second)
		rate := float64(s.cpu()-idle) / float64(time.Since(begin))
		cpu, begin := s.cpu(), time.Now()
		if failed := looped(t, calls, func(i int) error { return l.callFor(i, 0) }); failed > 0 {
			t.Errorf("%d of %d calls failed", failed, calls)
		}
		return (s.cpu() - cpu - time.Duration(rate*float64(time.Since(begin)))) / calls
	}
	cost()
	alone := cost()
	up := others.callsAt(t, standing, 200)
	among := cost()
	for _, d := range up {
		must(t, d.bye())
	}
	less("CPU of a call among 2,000 that stand, for alone", float64(among)/float64(alone), "×")
	verdict(t, among <= alone*3/2, "CPU of a call: %s ms alone, %s ms among %d that stand (limit 1.5 times as much)", ms(alone), ms(among), standing)
}

// TestCallStorm makes calls as fast as they go, each of which ends as soon as it is up.
func TestCallStorm(t *testing.T) {
	const warm, calls = 300, 4000
	l := newLoaded(t, 20, nil)
	s := of(l.node)
	loop := func(count int) int {
		return looped(t, count, func(i int) error { return l.callFor(i, 0) })
	}
	loop(warm)
	load := fmt.Sprintf("with %d in flight, no RTP", inFlight)
	cpu, start := s.cpu(), time.Now()
	wait := s.profiled(t, "calls "+load)
	failed := loop(calls)
	spent, took := s.cpu()-cpu, time.Since(start)
	wait()
	if failed > 0 {
		t.Errorf("%d of %d calls failed", failed, calls)
	}
	each := perSecond(calls-failed, spent)
	more("calls per CPU-second "+load, each, "/s")
	verdict(t, each >= stormCallsPerCPU, "calls %s: %.0f per CPU-second (limit %d), %.2f ms of CPU each, %.0f per second",
		load, each, stormCallsPerCPU, 1e3/each, float64(calls)/took.Seconds())
}

// TestSetUpTimeUnderLoad is TestSetUpTime while a hundred calls a second are made.
func TestSetUpTimeUnderLoad(t *testing.T) {
	const rate, warm, calls = 100, 200, 2000
	l := newLoaded(t, 20, nil)
	paced(t, warm, rate, l.call)
	l.setUps = nil
	if failed := paced(t, calls, rate, l.call); failed > 0 {
		t.Errorf("%d of %d calls failed", failed, calls)
	}
	p50, p99 := phone.Quantile(l.setUps, 0.5), phone.Quantile(l.setUps, 0.99)
	lessMS("call set-up at 100 calls a second, p50", p50)
	lessMS("call set-up at 100 calls a second, p99", p99)
	verdict(t, p50 <= 2*time.Millisecond && p99 <= 10*time.Millisecond,
		"call set-up at %d calls/s, authenticated INVITE → 200, %d calls: p50 %s, p99 %s ms (limit 2 / 10)", rate, len(l.setUps), ms(p50), ms(p99))
}

// looped does something count times, inFlight at a time, and gives how many failed.
func looped(t *testing.T, count int, do func(i int) error) int {
	t.Helper()
	return loopedBy(t, inFlight, count, do)
}

func loopedBy(t *testing.T, atOnce, count int, do func(i int) error) int {
	t.Helper()
	var wg sync.WaitGroup
	var next, failed atomic.Int64
	for range atOnce {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= count {
					return
				}
				if err := do(i); err != nil && failed.Add(1) <= 5 {
					t.Logf("%d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	return int(failed.Load())
}
