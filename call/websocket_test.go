package call_test

import (
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/registrar"
	"baton/test/phone"
)

// TestBrowserCalls has a phone at a WebSocket call and be called, by phones of every kind.
func TestBrowserCalls(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	browser := r.phone("alice", 1, r.over("wss"))
	d, err := r.reg.Find("alice", "1")
	must(t, err)
	if d.Kind != registrar.Browser || d.Binding.Flow.Transport != "wss" || d.Binding.Contact != browser.Contact() {
		t.Errorf("%+v", d)
	}
	for n, transport := range []string{"udp", "tcp", "wss"} {
		far := r.phone("bob", n+1, r.over(transport))
		out, in := r.connect(browser, far)
		must(t, out.Hold(phone.HoldSendonly))
		must(t, out.Resume())
		must(t, out.Hangup())
		must(t, in.AwaitEnd(3*time.Second))
		out, in = r.connect(far, browser)
		must(t, out.Hangup())
		must(t, in.AwaitEnd(3*time.Second))
		must(t, second(far.Unregister()))
	}
	for _, m := range browser.Received(time.Time{}) { // what it is told leads back to its own WebSocket
		if v := m.Get("Via"); m.Method != "" && !strings.HasPrefix(v, "SIP/2.0/WSS "+r.web.String()) {
			t.Errorf("%s came with Via: %s", m.Line(), v)
		}
		if v := m.Get("Contact"); m.Method == "INVITE" && !strings.HasSuffix(phone.AddrURI(v), "@"+r.web.String()+";transport=ws") {
			t.Errorf("%s came with Contact: %s", m.Line(), v)
		}
	}
	r.nothingLeft()
}

// TestBrowserMoves takes a call from a desk phone to a browser and back by every trigger, in both directions: bob hears one stream.
func TestBrowserMoves(t *testing.T) {
	if testing.Short() {
		t.Skip("-short")
	}
	t.Parallel()
	r := newRig(t, func(c *config.Config) {
		hurried(c)
		c.Call.Session, c.Call.SessionMin, c.Call.Ring = 2*time.Second, time.Second, 1500*time.Millisecond
	})
	r.user("alice", "101")
	r.user("bob", "102")
	h := &fourHours{rig: r, devices: []*phone.Phone{r.phone("alice", 1), r.phone("alice", 2, r.over("wss"))}}
	bob := r.phone("bob", 1)
	bob.Behave(phone.AutoAnswer)
	var err error
	h.leg, err = h.devices[0].Dial("102", timed())
	must(t, err)
	must(t, h.leg.Await(3*time.Second))
	h.in, err = bob.Ringing(3 * time.Second)
	must(t, err)
	hearEachOther(t, h.leg, h.in)
	moves := 0
	for range 2 { // an odd number of ways: in the second round each goes the other way
		for _, m := range tenMoves[:9] {
			old := h.leg
			h.leg = m.move(h)
			h.at++
			moves++
			if !h.leg.Hears(h.in, 3*time.Second) || !h.in.Hears(h.leg, 3*time.Second) {
				t.Fatalf("after the move by %s to %s the phones do not hear each other", m.how, h.leg.Phone().Config().UserAgent)
			}
			if err := old.AwaitEnd(5 * time.Second); err != nil {
				t.Fatalf("after the move by %s: %v", m.how, err)
			}
		}
	}
	if rep := phone.Analyse(h.in.Media().Heard(), 8000); len(rep.SSRCs) != 1 || rep.Duplicates != 0 || rep.Missing > 60 {
		t.Errorf("bob was sent %v", rep)
	}
	if n := len(r.b.Calls("bob")[0].Moves); n != moves {
		t.Errorf("%d moves are told of, want %d", n, moves)
	}
	must(t, h.in.Hangup())
	must(t, h.leg.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestBrowserGone wants a browser whose tab was closed to be away before anybody calls it: a call goes on to the desk phone
// at once, a move to it is refused at once.
func TestBrowserGone(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	browser, desk, bob := r.phone("alice", 1, r.over("wss")), r.phone("alice", 2), r.phone("bob", 1)
	out, in := r.connect(bob, desk)
	begin := time.Now()
	browser.Vanish()
	r.eventually("the browser is away", 2*time.Second, func() bool { return len(r.reg.Lookup("alice")) == 1 })
	t.Logf("away after %v", time.Since(begin))
	begin = time.Now()
	if _, err := r.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: "1"}); err == nil || !strings.Contains(err.Error(), "away") {
		t.Errorf("moved to a browser that has gone: %v", err)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("a move to a browser that has gone took %v", took)
	}
	if !out.Hears(in, time.Second) {
		t.Error("the call did not go on")
	}
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestBrowserComesBack has a page reloaded while its old WebSocket still seems to be open: the new one is called, the old one is
// not, and its late end changes nothing.
func TestBrowserComesBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	old, bob := r.phone("alice", 1, r.over("wss")), r.phone("bob", 1)
	back := r.phone("alice", 1, r.over("wss"))
	if all := r.reg.Devices("alice"); len(all) != 1 || all[0].Binding.Contact != back.Contact() || len(all[0].Spare) != 0 {
		t.Fatalf("%+v", all)
	}
	called := func() {
		t.Helper()
		out, in := r.connect(bob, back)
		must(t, out.Hangup())
		must(t, in.AwaitEnd(3*time.Second))
	}
	called()
	before := r.agent.Connections().Open
	old.Vanish()
	r.eventually("the old WebSocket is closed", 3*time.Second, func() bool { return r.agent.Connections().Open < before })
	called()
	if n := len(old.Received(time.Time{})); n != 2 { // 401 and 200
		t.Errorf("the old page was sent %d messages", n)
	}
	r.nothingLeft()
}
