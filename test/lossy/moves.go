package lossy

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"baton/test/phone"
	"baton/test/wire"
)

// Moved is what a series of moves came to.
type Moved struct {
	Moves   int
	There   int             // the call is on the other device, and both sides hear each other
	Back    []string        // it was not moved, and the old device talks as before: why
	Wrong   []string        // what no network excuses
	Told    int             // moves of which the one who asked was told something else than what came of them
	Took    []time.Duration // until the outcome was known, of those that came about
	Gap     time.Duration   // the longest time between two packets to the far phones, by their timestamps
	Dropped int             // SIP datagrams that did not arrive
}

// String is for people.
func (m Moved) String() string {
	return fmt.Sprintf("%d moves: %d there, %d rolled back, %d told wrongly; %s / %s (p50, max); from one packet to the next the far phones were sent %s at most; %d datagrams of SIP lost",
		m.Moves, m.There, len(m.Back), m.Told, round(phone.Quantile(m.Took, 0.5)), round(phone.Quantile(m.Took, 1)), round(m.Gap), m.Dropped)
}

// Moves has each pair set up a call, move it so often between the caller's two devices while the paths treat SIP and sound
// that way, and hang up.
func (p *Pairs) Moves(each int, ways wire.Ways) Moved {
	p.t.Helper()
	for i, one := range p.all {
		if one.another == nil {
			one.another = p.open("a"+one.name, 3*i+2)
		}
	}
	before := p.packets()
	calls := make([]*moving, len(p.all))
	for i, one := range p.all {
		calls[i] = &moving{pairs: p, pair: one}
		calls[i].begin()
	}
	p.treat(ways)
	var wg sync.WaitGroup
	for _, c := range calls {
		wg.Go(func() { c.run(each) })
	}
	wg.Wait()
	p.treat(wire.Ways{})
	m := Moved{}
	for _, c := range calls {
		m.add(c)
	}
	after := p.packets()
	m.Dropped = after[0] - before[0]
	slices.Sort(m.Took)
	return m
}

func (m *Moved) add(c *moving) {
	c.listen()
	m.Moves += c.Moves
	m.There += c.There
	m.Back = append(m.Back, c.Back...)
	m.Wrong = append(m.Wrong, c.Wrong...)
	m.Told += c.Told
	m.Took = append(m.Took, c.Took...)
	m.Gap = max(m.Gap, c.Gap)
}

// moving is one call that is moved again and again.
type moving struct {
	Moved
	pairs *Pairs
	pair  *pair
	index map[*end]int // of the devices, as baton numbers them
	at    *end
	leg   *phone.Call
	far   *phone.Call
	since time.Time
}

// begin sets the call up while the paths are good.
func (c *moving) begin() {
	t := c.pairs.t
	t.Helper()
	var list []struct {
		Instance string
		Index    int
	}
	if err := c.pairs.Node.JSON(&list, "devices", "a"+c.pair.name, "--json"); err != nil {
		t.Fatal(err)
	}
	c.index = map[*end]int{}
	for _, e := range []*end{c.pair.from, c.pair.another} {
		for _, d := range list {
			if d.Instance == e.Config().Instance {
				c.index[e] = d.Index
			}
		}
		e.Behave(phone.Behaviour{Ringless: true})
	}
	leg, err := c.pair.from.Dial("b" + c.pair.name)
	if err == nil {
		err = leg.Await(5 * time.Second)
	}
	if err != nil {
		t.Fatal(err)
	}
	far, err := c.pair.to.Ringing(time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c.at, c.leg, c.far, c.since = c.pair.from, leg, far, time.Now()
	if !c.talks(leg) {
		t.Fatalf("pair %s: they do not hear each other", c.pair.name)
	}
}

func (c *moving) talks(leg *phone.Call) bool {
	return leg.Hears(c.far, 5*time.Second) && c.far.Hears(leg, 5*time.Second)
}

func (c *moving) wrong(format string, args ...any) {
	c.Wrong = append(c.Wrong, "pair "+c.pair.name+": "+fmt.Sprintf(format, args...))
}

// run moves the call until that has been done often enough or the call is lost, then hangs up.
func (c *moving) run(each int) {
	for i := 0; i < each && len(c.Wrong) == 0; i++ {
		c.move([]string{"api", "refer", "pull"}[i%3])
	}
	_ = c.far.Hangup()
	for deadline := time.Now().Add(endIn); len(c.live()) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.wrong("alice's devices still have %d calls %s after the end", len(c.live()), endIn)
			return
		}
	}
}

// live are the calls of both devices.
func (c *moving) live() []*phone.Call {
	return append(c.pair.from.Calls(), c.pair.another.Calls()...)
}

// move tries one move, and looks what has come of it: the call must be on one device, and that one must talk.
func (c *moving) move(how string) {
	to := c.pair.another
	if c.at == to {
		to = c.pair.from
	}
	began := time.Now()
	told := c.ask(how, to)
	took := time.Since(began)
	if !c.alone() {
		return
	}
	now := c.live()[0]
	if !c.talks(now) {
		c.wrong("after a move by %s (told %v) %s and the far phone do not hear each other", how, told, now.Phone().Config().UserAgent)
		return
	}
	c.Moves++
	there := now.Phone() == to.Phone
	if there != (told == nil) {
		c.Told++
	}
	if there {
		c.There++
		c.Took = append(c.Took, took)
		c.at, c.leg = to, now
		return
	}
	c.Back = append(c.Back, fmt.Sprintf("%s: %v", how, told))
}

// ask has the call moved to a device, and says what the one who asked was told.
func (c *moving) ask(how string, to *end) error {
	switch how {
	case "api":
		return c.pairs.Node.Post("/api/v1/moves", map[string]string{"user": "a" + c.pair.name, "device": fmt.Sprint(c.index[to])}, nil)
	case "refer":
		r, err := c.leg.Refer(fmt.Sprintf("a%s*%d", c.pair.name, c.index[to]))
		if err != nil {
			return err
		}
		code, err := r.Wait(answerIn)
		if err == nil && code != 200 {
			err = fmt.Errorf("told %d", code)
		}
		return err
	}
	leg, err := to.Dial("a" + c.pair.name)
	if err == nil {
		err = leg.Await(answerIn)
	}
	return err
}

// alone waits until one of the devices has the call and the other one has none.
func (c *moving) alone() bool {
	for deadline := time.Now().Add(endIn); ; time.Sleep(5 * time.Millisecond) {
		live := c.live()
		switch {
		case len(live) == 1 && live[0].State() == phone.Up:
			return true
		case len(live) == 0 || c.far.State() != phone.Up:
			why, _ := c.far.Why()
			c.wrong("the call is lost: %d calls at alice's devices, the far one is %s (%s)", len(live), c.far.State(), why)
			return false
		case time.Now().After(deadline):
			c.wrong("%d calls at alice's devices %s after a move", len(live), endIn)
			return false
		}
	}
}

// listen looks at what the node sent the far phone: one stream without a tone in it, and how much sound is missing from it. Its
// timestamps say that, whatever the machine was busy with when the packets were sent.
func (c *moving) listen() {
	ssrcs := map[uint32]bool{}
	stamps := map[uint16]uint32{}
	var first uint16
	for _, p := range c.pair.to.path.Packets() {
		if p.Up || p.Kind != wire.RTP || p.At.Before(c.since) || len(p.Data) < 12 {
			continue
		}
		if len(stamps) == 0 {
			first = binary.BigEndian.Uint16(p.Data[2:])
		}
		ssrcs[binary.BigEndian.Uint32(p.Data[8:])] = true
		stamps[binary.BigEndian.Uint16(p.Data[2:])] = binary.BigEndian.Uint32(p.Data[4:])
	}
	c.Gap = longestStep(stamps, first)
	tones := 0
	for _, p := range phone.Between(c.far.Media().Heard(), c.since, time.Now()) {
		if p.Source == 0 && p.Event == nil {
			tones++
		}
	}
	if len(ssrcs) != 1 || tones > 0 {
		c.wrong("the far phone was sent %d streams, and %d packets of a tone", len(ssrcs), tones)
	}
}

// longestStep is the longest time from the beginning of one packet's sound to that of the next; what the node never sent
// has no number, so that a step over one is a step in time alone.
func longestStep(stamps map[uint16]uint32, first uint16) time.Duration {
	longest := int32(0)
	for n, seen := first, 1; seen < len(stamps); n++ {
		now, ok := stamps[n]
		next, after := stamps[n+1]
		if ok && after {
			longest = max(longest, int32(next-now))
		}
		if after {
			seen++
		}
	}
	return time.Duration(longest) * time.Second / 8000
}
