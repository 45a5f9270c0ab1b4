package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
	"baton/test/wire"
)

// directMoving is a direct call of alice's with bob, which is moved to and fro between two devices of hers.
type directMoving struct {
	*world
	tap     *wire.Tap
	far     *place
	farEnd  netip.AddrPort // where it hears
	places  [2]*place
	at      int
	figures []directMove
	since   time.Time // when the device that has the call got it
	had     [2]time.Duration
}

// directMove is what the far end had of one move, as the kernel saw its packets come.
type directMove struct {
	Far, From, To, How string
	Browser            bool          // is the new device; the call is relayed with it
	Gap                time.Duration // longest time between two packets to the far end, from the wish until the call goes its way again
	Own                time.Duration // the same of what the two devices sent
	Stall              time.Duration // the same of what the far end sent
	Back               time.Duration // from the wish until the call goes its way again
	AtNode             int           // packets of its sound that came to the node or left it in a second in which it was direct
}

// newDirectMoving makes the call.
func newDirectMoving(t *testing.T, rounds int, o node.Options, far func(*world) *place, devices ...func(*world) *place) *directMoving {
	t.Helper()
	o.Env = append(o.Env, directly.Env...)
	w := newWorld(t, o)
	w.long = time.Minute + time.Duration(rounds)*40*time.Second
	tap, err := wire.Listen()
	w.must(err)
	t.Cleanup(tap.Close)
	m := &directMoving{world: w, tap: tap, far: far(w), places: [2]*place{devices[0](w), devices[1](w)}}
	w.must(m.places[0].dial("102"))
	w.must(m.far.taken())
	m.since = time.Now()
	m.goes("direct", "", 60*time.Second)
	m.farEnd, _ = m.ends()
	return m
}

// ends are where bob's phone and alice's device hear.
func (m *directMoving) ends() (far, device netip.AddrPort) {
	m.t.Helper()
	c, err := m.theCall()
	m.must(err)
	for _, s := range c.Seats {
		if len(s.Legs) != 1 {
			m.t.Fatalf("%d legs of %s", len(s.Legs), s.User)
		}
		if s.User == "bob" {
			far = s.Legs[0].Stats.Remote
		} else {
			device = s.Legs[0].Stats.Remote
		}
	}
	return far, device
}

// atNode looks for a second how much sound of a direct call passes the node: all that comes to one of its ends or leaves it, and not to or from the
// other. A machine that stands still may have the call step in meanwhile: then it is waited and looked once more.
func (m *directMoving) atNode() int {
	m.t.Helper()
	far, device := m.ends()
	for try := 1; ; try++ {
		pause(100 * time.Millisecond) // what was on its way
		since := time.Now()
		pause(time.Second)
		straight, past := 0, 0
		for _, h := range m.tap.Packets(since, func(wire.Heard) bool { return true }) {
			switch {
			case h.From == far && h.To == device, h.From == device && h.To == far:
				straight++
			case h.From == far, h.To == far, h.From == device, h.To == device:
				past++
			}
		}
		c, err := m.theCall()
		switch m.must(err); {
		case c.Media == "direct" && straight > 0:
			return past
		case try == 3:
			m.t.Errorf("direct, and then %s (%s), with %d packets of a second straight", c.Media, c.MediaWhy, straight)
			return past
		}
		m.t.Logf("once more: %s (%s), with %d packets of a second straight", c.Media, c.MediaWhy, straight)
		m.goes("direct", "", 60*time.Second)
	}
}

// move brings the call to the other device and waits until it goes its way again.
func (m *directMoving) move(how string) {
	m.t.Helper()
	from, to := m.places[m.at], m.places[1-m.at]
	f := directMove{Far: m.far.name, From: from.name, To: to.name, How: how, Browser: to.page != nil}
	_, old := m.ends()
	if from.page == nil {
		f.AtNode = m.atNode()
	}
	began := time.Now()
	if how == "pull" {
		m.must(to.dial("*40"))
	} else {
		m.must(m.Post("/api/v1/moves", map[string]string{"user": "alice", "device": strconv.Itoa(to.index), "how": "cli"}, nil))
		m.must(to.taken())
	}
	if from.over != nil {
		m.must(from.over())
	}
	m.had[m.at] += time.Since(m.since)
	m.at, m.since = 1-m.at, time.Now()
	if f.Browser {
		m.goes("relay", "browser", 20*time.Second)
	} else {
		m.goes("direct", "", 60*time.Second)
	}
	f.Back = time.Since(began)
	pause(500 * time.Millisecond)
	if to.page != nil {
		listen(m.t, map[*place]float64{to: m.far.hz})
	}
	_, now := m.ends()
	until := time.Now().Add(-50 * time.Millisecond)
	packets := func(ok func(wire.Heard) bool) []phone.Packet {
		return packetsOf(m.tap.Packets(began.Add(-100*time.Millisecond), ok))
	}
	heard := packets(func(h wire.Heard) bool { return h.To == m.farEnd })
	var at time.Time
	f.Gap, at = phone.LongestGap(heard, began, until)
	f.Stall, _ = phone.LongestGap(packets(func(h wire.Heard) bool { return h.From == m.farEnd }), began, until)
	f.Own = max(longestOf(packets(func(h wire.Heard) bool { return h.From == old })), longestOf(packets(func(h wire.Heard) bool { return h.From == now })))
	m.figures = append(m.figures, f)
	m.t.Logf("%s → %s by %s: longest gap %s, %s after it was asked for (the devices' own %s, the far end's %s); on its way again after %s; %d packets at the node before",
		f.From, f.To, how, f.Gap.Round(time.Millisecond), at.Sub(began).Round(time.Millisecond), f.Own.Round(time.Millisecond), f.Stall.Round(time.Millisecond), f.Back.Round(time.Millisecond), f.AtNode)
}

// longestOf is the longest time between two packets of a device, which may begin and end.
func longestOf(sent []phone.Packet) (longest time.Duration) {
	for i := 1; i < len(sent); i++ {
		longest = max(longest, sent[i].At.Sub(sent[i-1].At))
	}
	return longest
}

// judge holds the figures to what holds on a busy machine (the limits of a quiet one are the bench's), and keeps them for who measures.
func (m *directMoving) judge() {
	m.t.Helper()
	for _, f := range m.figures {
		if f.Gap > time.Second+max(f.Own, f.Stall) {
			m.t.Errorf("%s → %s by %s: %s was sent nothing for %s", f.From, f.To, f.How, f.Far, f.Gap)
		}
		if f.AtNode > 0 {
			m.t.Errorf("%s → %s by %s: %d packets were at the node while the call was direct", f.From, f.To, f.How, f.AtNode)
		}
	}
	keepFigures(m.t, map[string]any{"far": m.far.name, "moves": m.figures})
}

// baresipOf and linphoneOf make a place in a world that is still to come.
func baresipOf(name, user string, hz float64) func(*world) *place {
	return func(w *world) *place { p, _ := w.baresipPlace(name, user, plain("udp", hz)); return p }
}

func linphoneOf(name, user string, hz float64) func(*world) *place {
	return func(w *world) *place {
		p, l := w.linphonePlace(name, user, hz)
		p.heard = func() []float64 { // at the end
			l.quit()
			samples, err := readWAV(l.dir + "/heard.wav")
			w.must(err)
			return samples
		}
		return p
	}
}

// TestDirectMovesOfClients moves direct calls of real phones to and fro: between two phones, and between a phone and a browser. What is on the wire to
// the far end, and what it hears, is the judge. With rounds in the environment it is a measurement, whose figures go to a file: see make bench.
func TestDirectMovesOfClients(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	rounds := 2
	if n, err := strconv.Atoi(os.Getenv("BATON_TEST_ROUNDS")); err == nil {
		rounds = n
	}
	for _, c := range []struct {
		name, browser string
		far, to       func(*world) *place
	}{
		{name: "far baresip", far: baresipOf("baresip", "bob", 660), to: linphoneOf("softphone", "alice", 550)},
		{name: "far linphonec", far: linphoneOf("linphonec", "bob", 660), to: baresipOf("softphone", "alice", 550)},
		{name: "by a browser", far: baresipOf("baresip", "bob", 660), browser: "chromium"},
	} {
		atOnce(t, &all, c.name, func(t *testing.T) {
			moves, o := rounds, node.Options{}
			if c.browser != "" {
				b := theBrowser(t, c.browser)
				o.Config = allowing(b)
				moves *= 2 // as many to the browser, and back
				c.to = func(w *world) *place { return w.browserPlace("browser", "alice", b) }
			}
			m := newDirectMoving(t, moves, o, c.far, baresipOf("desk", "alice", 440), c.to)
			for i := range moves {
				m.move([]string{"cli", "pull"}[i/2%2])
			}
			m.judge()
			m.had[m.at] += time.Since(m.since)
			m.places[m.at].end()
			if m.far.over != nil {
				m.must(m.far.over())
			}
			m.heardAll()
		})
	}
	all.Wait()
}

// heardAll wants the far end to have heard each device for as long as that had the call, and gives what it heard.
func (m *directMoving) heardAll() []float64 {
	m.t.Helper()
	samples := m.far.heard()
	for i, p := range m.places {
		got := heardTone(samples, p.hz)
		least := m.had[i] - m.had[i]/10 - 2*time.Second
		if m.t.Logf("%s heard %s for %s of %s", m.far.name, p.name, got, m.had[i].Round(time.Millisecond)); got < least {
			m.t.Errorf("%s heard %s for %s of %s", m.far.name, p.name, got, m.had[i])
		}
	}
	return samples
}

// TestDirectDeviceKilled has a real phone die in a direct call with another real one, without a word: who is left hears that he waits, and then,
// straight again, the phone that pulls the call, the same one started anew, or the same one that only stood still.
func TestDirectDeviceKilled(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for _, c := range []struct {
		name string
		far  func(*world) *place
		lose func(desk *baresip)
		back func(m *directMoving, desk *baresip)
	}{
		{
			"another pulls", linphoneOf("linphonec", "bob", 660), (*baresip).kill,
			func(m *directMoving, _ *baresip) { m.at = 1; m.must(m.places[1].dial("*40")) },
		},
		{
			"started anew", baresipOf("baresip", "bob", 660), (*baresip).kill,
			func(m *directMoving, desk *baresip) { desk.start(baresipProgram(t)); m.must(m.places[0].dial("*40")) },
		},
		{
			"stood still", baresipOf("baresip", "bob", 660),
			func(desk *baresip) { desk.cmd.Process.Signal(syscall.SIGSTOP) },
			func(_ *directMoving, desk *baresip) { desk.cmd.Process.Signal(syscall.SIGCONT) },
		},
	} {
		atOnce(t, &all, c.name, func(t *testing.T) {
			var desk *baresip
			deskOf := func(w *world) (p *place) { p, desk = w.baresipPlace("desk", "alice", plain("udp", 440)); return p }
			m := newDirectMoving(t, 2, node.Options{}, c.far, deskOf, baresipOf("softphone", "alice", 550))
			if n := m.atNode(); n > 0 {
				t.Errorf("%d packets were at the node while the call was direct", n)
			}
			began := time.Now()
			c.lose(desk)
			m.Eventually(25*time.Second, "alice to be lost", m.aliceLost)
			t.Logf("lost after %s", time.Since(began).Round(100*time.Millisecond))
			m.had[0] += began.Sub(m.since)
			pause(2 * time.Second) // of tone
			m.since = time.Now()
			c.back(m, desk)
			m.goes("direct", "", 60*time.Second)
			if n := m.atNode(); n > 0 {
				t.Errorf("%d packets were at the node while the call was direct again", n)
			}
			m.had[m.at] += time.Since(m.since)
			m.places[m.at].end()
			if m.far.over != nil {
				m.must(m.far.over())
			}
			samples := m.heardAll()
			if got := heardTone(samples, 425); got < 300*time.Millisecond {
				t.Errorf("%s heard the tone of an empty seat for %s", m.far.name, got)
			}
		})
	}
	all.Wait()
}

// aliceLost says whether her seat waits for her.
func (m *directMoving) aliceLost() error {
	c, err := m.theCall()
	m.must(err)
	for _, s := range c.Seats {
		if s.User == "alice" && s.Lost && s.Empty {
			return nil
		}
	}
	return fmt.Errorf("the call is %+v", c)
}

// kill ends the process without a word.
func (b *baresip) kill() {
	b.cmd.Process.Kill()
	b.cmd.Wait()
	b.ctrl.Close()
}
