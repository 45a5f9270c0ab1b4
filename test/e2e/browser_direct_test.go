package e2e

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/test/wire"
)

// pcm are the samples of what a page gives as base64.
func pcm(text string) ([]float64, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	samples := make([]float64, len(b)/2)
	for i := range samples {
		samples[i] = float64(int16(uint16(b[2*i]) | uint16(b[2*i+1])<<8))
	}
	return samples, nil
}

// played is what a watched page has played since it was asked last, all of its connections together, and how much of that is missing.
func (p *tab) played() (samples []float64, missing time.Duration) {
	p.t.Helper()
	var kept struct {
		Sound  string
		Missed float64
	}
	p.must(&kept, "played")
	samples, err := pcm(kept.Sound)
	if err != nil {
		p.t.Fatal(err)
	}
	return samples, time.Duration(kept.Missed * float64(time.Millisecond))
}

// longestPause is the longest time in which a recording of a tone is silent: windows of 5 ms with less than a quarter of its loudness.
func longestPause(samples []float64) time.Duration {
	const window = rate / 200
	var loud []float64
	for i := 0; i+window <= len(samples); i += window {
		loud = append(loud, rms(samples[i:i+window]))
	}
	limit := 0.25 * middle(loud)
	longest, n := 0, 0
	for _, v := range loud {
		if n++; v > limit && v > 100 {
			n = 0
		}
		longest = max(longest, n)
	}
	return time.Duration(longest) * 5 * time.Millisecond
}

// pages are two people on the node's own page, in one call.
type pages struct {
	*world
	b          *browser
	alice, bob *tab
	tap        *wire.Tap
}

// twoPages has alice call bob, from page to page.
func twoPages(t *testing.T) *pages {
	t.Helper()
	b := theBrowser(t, "chromium")
	w := newWorld(t, directly)
	tap, err := wire.Listen()
	w.must(err)
	t.Cleanup(tap.Close)
	url := fmt.Sprintf("https://%s/", w.Web)
	c := &pages{world: w, b: b, alice: b.page(t, url), bob: b.page(t, url), tap: tap}
	c.alice.signIn("alice")
	c.bob.signIn("bob")
	c.dial()
	return c
}

func (c *pages) dial() {
	c.t.Helper()
	c.alice.fill(textbox("Number or name"), "102")
	c.alice.click(button("Call"))
	c.bob.says("is calling")
	c.bob.click(button("Answer"))
	c.bob.says("On this browser")
	c.alice.says("On this browser")
}

// hearing has all of them hear the tone of the others.
func (c *pages) hearing(all ...*tab) {
	c.t.Helper()
	for _, p := range all {
		c.t.Helper()
		p.playing(c.b.hz, 8*time.Second)
	}
}

// playing waits until the page plays a tone without more than a short pause: for half a second of which it sounds for nearly all.
func (p *tab) playing(hz float64, limit time.Duration) {
	p.t.Helper()
	p.played()
	for deadline := time.Now().Add(limit); ; {
		pause(700 * time.Millisecond)
		samples, _ := p.played()
		long := time.Duration(len(samples)) * time.Second / rate
		got := heardTone(samples, hz)
		if long > 300*time.Millisecond && got > long*7/10 {
			return
		}
		if time.Now().After(deadline) {
			p.shot("failed")
			p.t.Fatalf("%s: plays %g Hz for %s of %s; the page shows:\n%s", p.kind, hz, got, long, p.shown())
		}
	}
}

// atNode are the packets of sound that have come to the node or left it since.
func (c *pages) atNode(since time.Time) int {
	port := c.Web.Port() // browsers' sound has the same over UDP
	return len(c.tap.Packets(since, func(h wire.Heard) bool { return h.From.Port() == port || h.To.Port() == port }))
}

// past are those that have gone past it.
func (c *pages) past(since time.Time) int {
	port := c.Web.Port()
	return len(c.tap.Packets(since, func(h wire.Heard) bool { return h.From.Port() != port && h.To.Port() != port }))
}

// straight waits until the pages talk straight, and wants nothing of it to pass the node: it gives the packets that did.
func (c *pages) straight(all ...*tab) (atNode int) {
	c.t.Helper()
	call := c.goes("direct", "", 30*time.Second)
	// Who is told that the other hears him straight stops a moment later.
	c.Eventually(5*time.Second, "the pages to send to the node no more", func() error {
		since := time.Now()
		pause(300 * time.Millisecond)
		if n := c.atNode(since); n > 0 {
			return fmt.Errorf("%d packets", n)
		}
		return nil
	})
	before, err := c.theCall()
	c.must(err)
	since := time.Now()
	pause(2 * time.Second)
	n, past := c.atNode(since), c.past(since)
	if n > 0 || past < 50 {
		c.t.Errorf("media is direct, and in 2 s %d packets have passed the node, %d have gone past it", n, past)
	}
	after, err := c.theCall()
	c.must(err)
	for i, s := range after.Seats {
		was, is := before.Seats[i].Legs[0].Stats, s.Legs[0].Stats
		if is.In.Packets != was.In.Packets || is.Out.Packets != was.Out.Packets || is.In.Packets == 0 {
			c.t.Errorf("media is direct, and the node counts %d in and %d out, then %d and %d", was.In.Packets, was.Out.Packets, is.In.Packets, is.Out.Packets)
		}
	}
	if call.ID != after.ID {
		c.t.Errorf("call %s has become %s", call.ID, after.ID)
	}
	c.hearing(all...)
	for _, p := range all {
		p.says("direct", "end-to-end encrypted")
	}
	return n
}

// pageMove is what bob's page made of one move between two pages of alice's.
type pageMove struct {
	directMove
	Usual   time.Duration // his longest pause in two seconds before it
	Missing time.Duration // of the recording, for his page was too busy to keep it
}

// move has alice take the call on another page of hers by its own button, and waits until the two talk straight again.
func (c *pages) move(from, to *tab) pageMove {
	c.t.Helper()
	c.bob.played()
	pause(2 * time.Second)
	samples, missed := c.bob.played()
	m := pageMove{Usual: longestPause(samples)}
	m.Far, m.From, m.To, m.How, m.Missing = "Chromium", "page", "page", "its own button", missed
	began := time.Now()
	to.click(button("Move here"))
	to.says("On this browser")
	c.Eventually(5*time.Second, "the old page to have no call", func() error {
		if !strings.Contains(from.shown(), "Move here") {
			return errors.New("it says nothing of moving it back")
		}
		return nil
	})
	c.goes("direct", "", 30*time.Second)
	m.Back = time.Since(began)
	pause(time.Second)
	samples, missed = c.bob.played()
	m.Gap, m.Missing = longestPause(samples), m.Missing+missed
	m.Own = c.longestOwn(began, time.Now())
	m.AtNode = c.straight(to, c.bob)
	c.t.Logf("move: bob's longest pause %s, before it %s; what the browsers sent was up to %s apart; of his recording %s are missing", m.Gap, m.Usual, m.Own, m.Missing)
	if m.Gap > 300*time.Millisecond+max(m.Usual, m.Own) { // a browser that the machine lets wait sends nothing
		c.t.Errorf("bob heard nothing for %s in the move, before it for %s at the most; what the browsers sent was up to %s apart", m.Gap, m.Usual, m.Own)
	}
	return m
}

// longestOwn is the longest time between two packets that a browser sent by one way, which may begin and end.
func (c *pages) longestOwn(since, until time.Time) (longest time.Duration) {
	type way struct {
		from, to netip.AddrPort
		ssrc     uint32
	}
	last := map[way]time.Time{}
	port := c.Web.Port()
	for _, h := range c.tap.Packets(since, func(h wire.Heard) bool { return h.From.Port() != port && h.At.Before(until) }) {
		w := way{h.From, h.To, h.SSRC}
		if at, ok := last[w]; ok {
			longest = max(longest, h.At.Sub(at))
		}
		last[w] = h.At
	}
	return longest
}

// TestBrowsersDirect: two pages talk straight, encrypted between them; the call is held, moved to another page by its own button, and goes straight
// again after each. Then the page that has it is closed, and the other hears that at the node. With rounds in the environment, an even number, it is a
// measurement of so many moves, whose figures go to a file: see make bench.
func TestBrowsersDirect(t *testing.T) {
	c := twoPages(t)
	c.straight(c.alice, c.bob)
	if out, err := c.CLI("call", "show", c.callOf("alice")); err != nil || !strings.Contains(out, "straight between the browsers") {
		t.Errorf("baton call show says %v\n%s", err, out)
	}
	c.alice.accessible("a direct call")

	c.alice.click(button("Mute"))
	c.bob.played()
	c.Eventually(10*time.Second, "bob to hear nothing of alice, who is muted", func() error {
		pause(500 * time.Millisecond)
		if samples, _ := c.bob.played(); len(samples) < rate/4 || heardTone(samples, c.b.hz) > 60*time.Millisecond {
			return fmt.Errorf("he hears her for %s of %d ms", heardTone(samples, c.b.hz), len(samples)*1000/rate)
		}
		return nil
	})
	c.goes("direct", "", time.Second)
	c.alice.click(button("Unmute"))
	c.hearing(c.bob)

	c.alice.click(button("Hold"))
	c.alice.says("On hold")
	c.goes("relay", "hold", 5*time.Second)
	c.alice.click(button("Resume"))
	c.alice.says("On this browser")
	c.straight(c.alice, c.bob)

	other := c.b.page(t, fmt.Sprintf("https://%s/", c.Web))
	other.signIn("alice")
	moves := 2
	if n, err := strconv.Atoi(os.Getenv("BATON_TEST_ROUNDS")); err == nil {
		moves = n
	}
	var figures []pageMove
	defer func() { keepFigures(t, map[string]any{"far": "Chromium", "moves": figures}) }()
	for i := range moves {
		from, to := c.alice, other
		if i%2 == 1 {
			from, to = other, c.alice
		}
		figures = append(figures, c.move(from, to))
	}
	for line := range strings.Lines(c.Output()) {
		if strings.Contains(line, "not heard at the node") {
			t.Errorf("stepping in: %s", line)
		}
	}

	other.obey(nil, "close", nil) // no more than a page of hers
	c.alice.obey(nil, "close", nil)
	c.goes("relay", "", 15*time.Second)
	c.Eventually(10*time.Second, "alice to be lost", func() error {
		var calls []struct{ Seats []struct{ Lost bool } }
		if err := c.JSON(&calls, "calls", "--json"); err != nil || len(calls) != 1 || !calls[0].Seats[0].Lost {
			return fmt.Errorf("she is not: %+v, %v", calls, err)
		}
		return nil
	})
	c.Eventually(10*time.Second, "bob to hear the tone of the node", func() error {
		since := time.Now()
		pause(300 * time.Millisecond)
		if n := c.atNode(since); n < 5 {
			return fmt.Errorf("%d packets", n)
		}
		return nil
	})
	c.bob.click(button("Hang up"))
	c.bob.says("No calls right now")
}

// apart has a firewall let nothing pass between the ports that browsers take, of which the node has none. Until the function that it gives is called.
func (w *world) apart() (together func()) {
	w.t.Helper()
	const rule = "INPUT -p udp --sport 32768:60999 --dport 32768:60999 -j DROP"
	run := func(what string) {
		for _, tables := range []string{"iptables", "ip6tables"} { // they know each other's addresses of both kinds
			if out, err := exec.Command(tables, strings.Fields("-w "+what+" "+rule)...).CombinedOutput(); err != nil {
				w.t.Fatalf("%s %s: %v: %s", tables, what, err, out)
			}
		}
	}
	run("-A")
	together = sync.OnceFunc(func() { run("-D") })
	w.t.Cleanup(together)
	return together
}

// TestBrowsersApart: where a firewall is shut in the middle of a call that goes straight, both pages are back at the node by themselves; it is tried
// again, in vain, while they talk by the node. Their next call does not try, and says why.
func TestBrowsersApart(t *testing.T) {
	need(t, "iptables", "iptables")
	c := twoPages(t)
	c.straight(c.alice, c.bob)
	c.apart()
	c.goes("relay", "straight", 15*time.Second)
	c.hearing(c.alice, c.bob)
	c.goes("relay", "within", 40*time.Second)
	c.hearing(c.alice, c.bob)
	c.alice.click(button("Hang up"))
	c.bob.says("No calls right now")
	c.dial()
	c.goes("relay", "within", 10*time.Second)
	c.hearing(c.alice, c.bob)
	c.alice.click(button("Hang up"))
	c.bob.says("No calls right now")
}
