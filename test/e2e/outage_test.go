package e2e

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// The outages, and how soon everybody is to hear the other side when the network is back: phones and browsers, as measured and what a busy
// machine is given.
const (
	longCut       = 30 * time.Second
	officeRestart = 20 * time.Second
	phoneBack     = 5 * time.Second
	browserBack   = 10 * time.Second
)

// lasting is a call of two phones that shall outlive an outage.
type lasting struct {
	name    string
	out, in *phone.Call
	lost    []*phone.Call // those whose network goes
}

// again has the phones whose connections have died with the network connect and register anew, as phones do.
func (l lasting) again(w *world) {
	w.t.Helper()
	for _, c := range l.lost {
		if c.Phone().Config().Transport != "" {
			c.Phone().Disconnect()
		}
		w.must(second(c.Phone().Register(10 * time.Minute)))
	}
}

// back checks that both sides hear each other on the dialogs that they had, and tells how long after a moment they did so first.
func (l lasting) back(w *world, healed time.Time) {
	w.t.Helper()
	for _, c := range [][2]*phone.Call{{l.out, l.in}, {l.in, l.out}} {
		k, ok := c[0].Media().Await(healed, phoneBack, func(p phone.Packet) bool { return p.Source == c[1].Media().Source() })
		if !ok {
			w.t.Errorf("%s: %s hears nothing of the other side %s after the network's return", l.name, c[0].Phone().Config().User, phoneBack)
			continue
		}
		w.t.Logf("%s: %s hears the other side %s after the network's return", l.name, c[0].Phone().Config().User, k.At.Sub(healed).Round(time.Millisecond))
	}
	l.again(w)
	w.talk(l.out, l.in)
	for _, c := range []*phone.Call{l.out, l.in} {
		if n := len(c.Phone().Made()); n != 1 || c.State() != phone.Up {
			w.t.Errorf("%s: %s had %d calls, and the first is %s", l.name, c.Phone().Config().User, n, c.State())
		}
	}
}

// silent checks that a call's phones have heard nothing of each other for so long before now.
func (l lasting) silent(w *world, long time.Duration) {
	w.t.Helper()
	for _, c := range [][2]*phone.Call{{l.out, l.in}, {l.in, l.out}} {
		for _, p := range phone.Between(c[0].Media().Heard(), time.Now().Add(-long), time.Now()) {
			if p.Source == c[1].Media().Source() {
				w.t.Errorf("%s: %s has heard the other side without a network", l.name, c[0].Phone().Config().User)
				break
			}
		}
	}
}

// TestCallsOutliveAnOutage takes the network away from all of a site's devices at once, for thirty seconds: a phone over UDP, one over TLS with
// SRTP, the page in Chromium and in Firefox. In another office the switch starts anew, with both sides of its calls behind it. All calls are
// the same ones when the network is back, by what both sides hear.
func TestCallsOutliveAnOutage(t *testing.T) {
	t.Parallel()
	need(t, "iptables", "iptables")
	home, office := netip.MustParsePrefix("192.168.30.0/24"), netip.MustParsePrefix("192.168.31.0/24")
	site := node.NewRouter(t, netip.MustParsePrefix("10.85.0.0/24"), home)
	site.Known(home)
	work := node.NewRouter(t, netip.MustParsePrefix("10.85.1.0/24"), office)
	work.Known(office)
	chromium, firefox := browserWithin(t, "chromium", site.Beyond, site.Node), browserWithin(t, "firefox", site.Beyond, site.Node)
	w := newWorld(t, node.Options{Config: allowing(chromium, firefox), Users: map[string]string{
		"alice": "101", "bob": "102", "carol": "103", "dave": "104", "u1": "111", "u2": "112", "s1": "113", "s2": "114", "o1": "121", "o2": "122", "o3": "123", "o4": "124",
	}})
	secure := func(c *phone.Config) { c.SRTP = phone.SAVP }
	at := func(r *node.Router, net netip.Prefix, n int) func(*phone.Config) { return beyond(r, net, n, r.Node) }
	call := func(name string, a, b *phone.Phone, lost func(lasting) []*phone.Call) lasting {
		l := lasting{name: name}
		l.out, l.in = w.connect(a, b.Config().User, b)
		l.lost = lost(l)
		return l
	}
	caller := func(l lasting) []*phone.Call { return []*phone.Call{l.out} }
	both := func(l lasting) []*phone.Call { return []*phone.Call{l.out, l.in} }
	cut := []lasting{
		call("UDP", w.phone("u1", "soft", at(site, home, 5)), w.phone("u2", "far"), caller),
		call("TLS", w.phone("s1", "soft", over("tls"), secure, at(site, home, 6)), w.phone("s2", "far"), caller),
	}
	switched := []lasting{
		call("both over UDP", w.phone("o1", "desk", at(work, office, 2)), w.phone("o2", "desk", at(work, office, 3)), both),
		call("both over TLS", w.phone("o3", "desk", over("tls"), secure, at(work, office, 4)), w.phone("o4", "desk", over("tls"), at(work, office, 5)), both),
	}
	pages := []*pageCall{w.pageCall(site, chromium, "alice", "bob", "102", 700), w.pageCall(site, firefox, "carol", "dave", "104", 800)}

	site.Cut()
	unplug(work)
	began := time.Now()
	pause(officeRestart)
	for _, l := range switched {
		l.silent(w, officeRestart-time.Second)
	}
	w.bothLost("o1", "o2", "o3", "o4")
	plug(work)
	healed := time.Now()
	for _, l := range switched {
		l.back(w, healed)
	}
	for _, p := range pages {
		p.deaf()
	}
	pause(longCut - time.Since(began))
	for _, l := range cut {
		l.silent(w, longCut-time.Second)
	}
	site.Heal()
	healed = time.Now()
	done := make(chan struct{})
	for _, p := range pages {
		go func() { p.back(healed); done <- struct{}{} }()
	}
	for _, l := range cut {
		l.back(w, healed)
	}
	for range pages {
		<-done
	}
	for _, l := range append(cut, switched...) {
		w.must(l.in.Hangup())
		w.ended(l.out)
	}
	for _, p := range pages {
		p.over()
	}
}

// bothLost waits until the node takes the devices of all these users for lost.
func (w *world) bothLost(users ...string) {
	w.t.Helper()
	for _, u := range users {
		w.seatLost(u)
	}
}

// pageCall is a call of the page with a baresip on the other side.
type pageCall struct {
	page *tab
	far  *baresip
}

func (w *world) pageCall(r *node.Router, b *browser, user, other, number string, hz float64) *pageCall {
	w.t.Helper()
	c := &pageCall{far: w.startBaresip(other, "udp", hz)}
	c.page = b.page(w.t, fmt.Sprintf("https://%s/", netip.AddrPortFrom(r.Node, w.Web.Port())))
	c.page.signIn(user)
	c.page.call(number)
	c.page.hearing(hz)
	return c
}

// deaf checks that the page has heard nothing since it was asked last, a second later.
func (c *pageCall) deaf() {
	c.page.t.Helper()
	c.page.heard()
	pause(time.Second)
	if got := heardTone(c.page.heard(), c.far.hz); got > 100*time.Millisecond {
		c.page.t.Errorf("%s heard baresip for %s through no network", c.page.kind, got)
	}
}

// back waits until both hear each other, on the call that both had.
func (c *pageCall) back(healed time.Time) {
	t, p, known := c.page.t, c.page, len(c.far.heard())
	here, there := time.Duration(0), time.Duration(0)
	for (here == 0 || there == 0) && time.Since(healed) < browserBack {
		if here == 0 && heardTone(p.heard(), c.far.hz) >= 40*time.Millisecond {
			here = time.Since(healed)
		}
		all := c.far.heard()
		if there == 0 && heardTone(all[min(known, len(all)):], p.hz) >= 40*time.Millisecond {
			there = time.Since(healed)
		}
		pause(50 * time.Millisecond)
	}
	t.Logf("%s hears baresip %s after the network's return, baresip it after %s", p.kind, here, there)
	if here == 0 || there == 0 {
		p.shot("outage")
		t.Errorf("%s and baresip do not hear each other %s after the network's return; the page shows:\n%s", p.kind, browserBack, p.shown())
	}
}

// over hangs up at the page; baresip has had one call.
func (c *pageCall) over() {
	c.page.t.Helper()
	c.page.says("Ready")
	c.page.click(button("Hang up"))
	c.far.await("CALL_CLOSED", 5*time.Second)
	if n := len(c.far.recordings()); n != 1 {
		c.page.t.Errorf("baresip had %d calls", n)
	}
}

// reboot kills baresip, as a power cut does, and starts it again.
func (b *baresip) reboot(while func()) {
	b.t.Helper()
	if err := b.cmd.Process.Kill(); err != nil {
		b.t.Fatal(err)
	}
	_ = b.cmd.Wait()
	while()
	b.start(b.cmd.Path)
}

// TestPhoneReboots has a phone end without a word and start again under its name, from another port: it knows nothing of its call, which waits for
// it all the same. It dials the code, or is rung where its user wants that.
func TestPhoneReboots(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"udp", "tls"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			same := func(c *phone.Config) {
				c.Instance, c.ContactUser = "urn:uuid:00000000-0000-4000-8000-000000000777", "alice-soft"
			}
			alice, bob := w.phone("alice", "soft", over(transport), same), w.phone("bob", "far")
			_, in := w.connect(alice, "bob", bob)
			pause(1200 * time.Millisecond)
			alice.Vanish()
			w.seatLost("alice")
			again := w.phone("alice", "soft", over(transport), same)
			back := w.dial(again, "*40")
			w.must(back.Await(5 * time.Second))
			w.talk(back, in)
			if n, made := len(w.devices("alice")), len(bob.Made()); n != 1 || made != 1 {
				t.Errorf("alice has %d devices, bob's phone had %d calls", n, made)
			}
			w.must(back.Hangup())
			w.ended(in)
		})
	}
	t.Run("baresip, rung", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		_, err := w.CLI("user", "set", "alice", "--on-loss", "ring")
		w.must(err)
		alice, bob := w.startBaresip("alice", "udp", 500), w.startBaresip("bob", "udp", 700)
		alice.dial("102")
		alice.await("CALL_ESTABLISHED", 10*time.Second)
		bob.await("CALL_ESTABLISHED", 10*time.Second)
		pause(1500 * time.Millisecond)
		alice.reboot(func() { w.seatLost("alice") })
		began := time.Now()
		alice.await("CALL_ESTABLISHED", 30*time.Second)
		up := time.Now()
		t.Logf("it is called back %s after it was started again", up.Sub(began).Round(time.Millisecond))
		bob.hearsSince(up, alice.hz)
		alice.hearsSince(up, bob.hz)
		if n := len(bob.recordings()); n != 1 {
			t.Errorf("bob's baresip had %d calls", n)
		}
		bob.do("hangup", "")
		alice.await("CALL_CLOSED", 5*time.Second)
	})
}
