package call_test

import (
	"strings"
	"testing"
	"time"

	"baton/test/phone"
)

// forms are the ways in which phones name a dialog in Replaces (RFC 3891 §3): tags as we see them, tags as its phone sees
// them, without tags, and with the 0 that stands for none.
var forms = map[string]func(c *phone.Call) string{
	"as we see it":        func(c *phone.Call) string { return c.Replaces() },
	"as its phone sees":   func(c *phone.Call) string { return swapped(c.Replaces()) },
	"Call-ID alone":       func(c *phone.Call) string { return c.ID() },
	"tags 0":              func(c *phone.Call) string { return c.ID() + ";to-tag=0;from-tag=0" },
	"one tag":             func(c *phone.Call) string { return c.ID() + ";to-tag=" + phone.Param(c.Replaces(), "to-tag") },
	"one tag, its phones": func(c *phone.Call) string { return c.ID() + ";from-tag=" + phone.Param(c.Replaces(), "to-tag") },
}

func swapped(v string) string {
	id, _, _ := strings.Cut(v, ";")
	return id + ";to-tag=" + phone.Param(v, "from-tag") + ";from-tag=" + phone.Param(v, "to-tag")
}

// TestReplacesConfirmed pulls one's own call by each form, that of the caller and that of the called; the far side hears one
// stream and gets no message.
func TestReplacesConfirmed(t *testing.T) {
	t.Parallel()
	for name, form := range forms {
		for _, who := range []string{"alice", "bob"} {
			t.Run(name+" by "+who, func(t *testing.T) {
				t.Parallel()
				r, alice, bob := newPair(t)
				out, in := r.connect(alice, bob)
				old, far := out, in
				if who == "bob" {
					old, far = in, out
				}
				device := r.phoneThatRingsNot(who, 2)
				since := time.Now()
				pulled := mustDial(t, device, "102", replacing(form(old)))
				must(t, pulled.Await(3*time.Second))
				if !far.Hears(pulled, 3*time.Second) || !pulled.Hears(far, 3*time.Second) {
					t.Fatal("the call did not come")
				}
				must(t, old.AwaitEnd(3*time.Second))
				if n := len(far.Phone().Received(since)); n != 0 {
					t.Errorf("the far side got %d messages", n)
				}
				if s := phone.Analyse(far.Media().Heard(), 8000); len(s.SSRCs) != 1 || s.Missing != 0 || s.Changed != 0 {
					t.Errorf("the far side heard %v", s)
				}
				must(t, far.Hangup())
				must(t, pulled.AwaitEnd(3*time.Second))
				r.nothingLeft()
			})
		}
	}
}

// TestReplacesRefused has what names no dialog that could be replaced: the call goes on as if nothing had been.
func TestReplacesRefused(t *testing.T) {
	t.Parallel()
	g := newGroup(t, quick)
	ended, other := g.connect(g.alice, g.dave)
	was := map[string]string{"alice": ended.Replaces(), "dave": other.Replaces()}
	must(t, ended.Hangup())
	must(t, other.AwaitEnd(3*time.Second))
	g.nothingLeft()
	out, in := g.connect(g.alice, g.bob)
	waits := mustDial(t, g.alice, "104")
	g.dave.Behave(phone.Behaviour{})
	rings := g.rings(g.dave)
	desk, mobile := g.phone("alice", 2), g.phone("bob", 3)
	refuse := func(what string, p *phone.Phone, code int, words string, o phone.DialOptions) {
		t.Helper()
		m := g.refused(mustDial(t, p, "102", o), code)
		if !strings.Contains(m.Get("Warning"), words) {
			t.Errorf("%s: %q", what, m.Get("Warning"))
		}
	}
	const none = "no such dialog of yours"
	refuse("early-only of a confirmed dialog", desk, 486, "confirmed", replacing(out.Replaces()+";early-only"))
	refuse("unknown", desk, 481, none, replacing("x@y;to-tag=1;from-tag=2"))
	refuse("wrong tags", desk, 481, none, replacing(out.ID()+";to-tag=1;from-tag=2"))
	refuse("ended", desk, 603, "has ended", replacing(was["alice"]))
	refuse("ended, by its Call-ID", desk, 603, "has ended", replacing(strings.Split(was["alice"], ";")[0]))
	refuse("ended, of another", desk, 481, none, replacing(was["dave"]))
	refuse("not answered yet", desk, 481, "not answered yet", replacing(waits.Replaces()))
	refuse("no Call-ID", desk, 400, "no Call-ID", replacing(";to-tag=1"))
	refuse("Join", desk, 488, "joining a call", phone.DialOptions{Headers: []phone.Header{{Name: "Join", Value: out.Replaces()}}})
	refuse("Join required", desk, 420, "", phone.DialOptions{Headers: []phone.Header{{Name: "Require", Value: "join"}, {Name: "Join", Value: out.Replaces()}}})
	refuse("Replaces and Join", desk, 400, "", phone.DialOptions{Headers: []phone.Header{{Name: "Join", Value: out.Replaces()}, {Name: "Replaces", Value: out.Replaces()}}})
	refuse("another's confirmed dialog", desk, 481, none, replacing(in.Replaces()))
	for _, form := range forms { // nor may the group, once it is answered; and nobody learns that it is there
		refuse("a colleague's confirmed dialog", g.carol, 481, none, replacing(form(in)))
		refuse("a stranger", g.eve, 481, none, replacing(form(in)))
		refuse("a stranger", g.eve, 481, none, replacing(form(rings)))
	}
	if in.State() != phone.Up || rings.State() != phone.Alerting || waits.State() != phone.Calling {
		t.Errorf("the calls are %s, %s and %s", in.State(), rings.State(), waits.State())
	}
	g.talk(out, in)
	required := mustDial(t, mobile, "102", phone.DialOptions{Headers: []phone.Header{{Name: "Require", Value: "replaces"}, {Name: "Replaces", Value: in.Replaces()}}})
	must(t, required.Await(3*time.Second))
	must(t, out.Hangup())
	must(t, waits.Cancel())
	g.nothingLeft()
}

// TestReplacesInOtherRequests: no other request may bring it (RFC 3891 §3).
func TestReplacesInOtherRequests(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	out, in := r.connect(alice, bob)
	for _, method := range []string{"OPTIONS", "UPDATE", "MESSAGE", "REFER"} {
		res, err := out.Request(method, nil, phone.Header{Name: "Replaces", Value: out.Replaces()}, phone.Header{Name: "Refer-To", Value: "<sip:101@x>"})
		if res == nil || res.Code != 400 {
			t.Errorf("%s: %v, %v", method, res, err)
		}
	}
	r.talk(out, in)
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestReplacesTakesBack: a browser's page is loaded anew in mid-call. Its connection is gone and it comes again as the same device, while
// the last of its old audio is hardly a moment old. By Replaces it has its call at once; that it has it already it is told no more.
func TestReplacesTakesBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	overTCP := func(c *phone.Config) { tcp(r, c) }
	page, bob := r.phone("alice", 1, overTCP), r.phone("bob", 1)
	out, in := r.connect(page, bob)
	if !in.Hears(out, 3*time.Second) {
		t.Fatal("the call is silent")
	}
	name := out.Replaces()
	same := mustDial(t, page, "102", replacing(name)) // over the connection that the dialog has: nothing is lost
	must(t, same.Await(3*time.Second))
	must(t, same.AwaitEnd(5*time.Second))

	page.Disconnect() // its audio goes on: the worst case
	again := r.phone("alice", 1, overTCP)
	since := time.Now()
	back := mustDial(t, again, "102", replacing(name))
	must(t, back.Await(3*time.Second))
	if !in.Hears(back, 3*time.Second) || !back.Hears(in, 3*time.Second) {
		t.Fatal("the call did not come back")
	}
	if n := len(bob.Received(since)); n != 0 {
		t.Errorf("the far side got %d messages", n)
	}
	if s := phone.Analyse(in.Media().Heard(), 8000); len(s.SSRCs) != 1 || s.Missing != 0 || s.Changed != 0 {
		t.Errorf("the far side heard %v", s)
	}
	must(t, back.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
}
