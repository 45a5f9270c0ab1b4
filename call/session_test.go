package call_test

import (
	"strings"
	"testing"
	"time"

	"baton/config"
	"baton/test/phone"
)

// newShortSessions is a node whose sessions last two seconds, with two phones.
func newShortSessions(t *testing.T) (*rig, *phone.Phone, *phone.Phone) {
	r := newRig(t, func(c *config.Config) {
		c.Call.Session, c.Call.SessionMin = 2*time.Second, time.Second
		c.Call.Vanished = 300 * time.Millisecond // and so it looks at its legs every 100 ms
	})
	r.user("alice", "101")
	r.user("bob", "102")
	return r, r.phone("alice", 1), r.phone("bob", 1)
}

// timed dials with a session timer in the INVITE.
func timed(headers ...phone.Header) phone.DialOptions {
	return phone.DialOptions{Headers: append(headers, header("Supported", "timer"))}
}

// TestSessionRefreshed holds that the node refreshes what is its part on both sides: by UPDATE where the phone has that,
// else by a re-INVITE that changes nothing; the call outlives its sessions and nobody misses a sound.
func TestSessionRefreshed(t *testing.T) {
	t.Parallel()
	r, alice, bob := newShortSessions(t)
	bob.Behave(phone.Behaviour{Answer: true, Headers: []phone.Header{header("Session-Expires", "2;refresher=uac"), header("Require", "timer")}})
	out, err := alice.Dial("bob", timed())
	must(t, err)
	in, err := bob.Ringing(5 * time.Second)
	must(t, err)
	must(t, out.Await(5*time.Second))
	if v := out.Final().Get("Session-Expires"); v != "2;refresher=uas" {
		t.Errorf("alice was told %q", v)
	}
	if v := in.Invite().Get("Session-Expires") + " " + in.Invite().Get("Min-SE"); v != "2 1" {
		t.Errorf("bob was asked for %q", v)
	}
	r.eventually("three refreshes each", 10*time.Second, func() bool {
		return len(requestsTo(alice, "UPDATE")) >= 3 && len(requestsTo(bob, "INVITE")) >= 4
	})
	if out.State() != phone.Up || in.State() != phone.Up || !out.Hears(in, time.Second) || !in.Hears(out, time.Second) {
		t.Error("the call did not outlive its sessions")
	}
	for _, m := range requestsTo(alice, "UPDATE") {
		if m.Get("Session-Expires") != "2;refresher=uac" || len(m.Body) > 0 {
			t.Errorf("refresh by %s with %q and a body of %d", m.Line(), m.Get("Session-Expires"), len(m.Body))
		}
	}
	if body := requestsTo(bob, "INVITE"); string(body[1].Body) != string(body[2].Body) {
		t.Errorf("a refresh changed the session:\n%s\n%s", body[1].Body, body[2].Body)
	}
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestSessionNotRefreshed holds that a phone whose part the refresh is, and that does not refresh, is lost in time: it is hung up, and its
// seat waits.
func TestSessionNotRefreshed(t *testing.T) {
	t.Parallel()
	r, alice, bob := newShortSessions(t)
	bob.Behave(phone.AutoAnswer)
	out, err := alice.Dial("bob", timed(header("Session-Expires", "2;refresher=uac")))
	must(t, err)
	in, err := bob.Ringing(5 * time.Second)
	must(t, err)
	must(t, out.Await(5*time.Second))
	if final := out.Final(); final.Get("Session-Expires") != "2;refresher=uac" || final.Get("Require") != "timer" {
		t.Errorf("alice was told %q, required %q", final.Get("Session-Expires"), final.Get("Require"))
	}
	began := time.Now()
	must(t, out.AwaitEnd(5*time.Second))
	if d := time.Since(began); d < time.Second {
		t.Errorf("ended after %s", d)
	}
	if !in.HearsTone(time.Second) || in.State() != phone.Up {
		t.Error("bob does not wait")
	}
	must(t, in.Hangup())
	r.nothingLeft()
}

// TestSessionRefreshedByPhone holds that the phone's own refreshes, of either kind, keep its call.
func TestSessionRefreshedByPhone(t *testing.T) {
	t.Parallel()
	r, alice, bob := newShortSessions(t)
	bob.Behave(phone.AutoAnswer)
	out, err := alice.Dial("bob", timed(header("Session-Expires", "2;refresher=uac")))
	must(t, err)
	in, err := bob.Ringing(5 * time.Second)
	must(t, err)
	must(t, out.Await(5*time.Second))
	for range 4 {
		time.Sleep(700 * time.Millisecond)
		res, err := out.Request("UPDATE", nil, header("Session-Expires", "2;refresher=uac"), header("Supported", "timer"))
		must(t, err)
		if res.Get("Session-Expires") != "2;refresher=uac" {
			t.Errorf("answered %q", res.Get("Session-Expires"))
		}
	}
	if out.State() != phone.Up || in.State() != phone.Up {
		t.Error("the call has ended")
	}
	must(t, in.Hangup())
	must(t, out.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestSessionTooShort refuses what is shorter than the node takes, and obeys a phone that says the same (RFC 4028 §7.3, §8.1).
func TestSessionTooShort(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	alice, bob := r.phone("alice", 1), r.phone("bob", 1)
	bob.Behave(phone.Behaviour{Answer: true, MinSE: 7200})
	out, err := alice.Dial("bob", timed(header("Session-Expires", "60")))
	must(t, err)
	must(t, out.AwaitEnd(3*time.Second))
	if final := out.Final(); final == nil || final.Code != 422 || final.Get("Min-SE") != "90" {
		t.Errorf("60 s: %v", final)
	}
	out, err = alice.Dial("bob", timed(header("Session-Expires", "90")))
	must(t, err)
	in, err := bob.Ringing(5 * time.Second) // the call that it refused with 422
	must(t, err)
	must(t, in.AwaitEnd(3*time.Second))
	in, err = bob.Ringing(5 * time.Second)
	must(t, err)
	must(t, out.Await(5*time.Second))
	if v := in.Invite().Get("Session-Expires") + " " + in.Invite().Get("Min-SE"); v != "7200 7200" {
		t.Errorf("the second INVITE asks for %q", v)
	}
	if all := requestsTo(bob, "INVITE"); len(all) != 2 || all[0].Get("Call-ID") != all[1].Get("Call-ID") {
		t.Errorf("%d INVITEs", len(all))
	}
	if final := out.Final(); final.Get("Session-Expires") != "90;refresher=uas" {
		t.Errorf("alice was told %q", final.Get("Session-Expires"))
	}
	_, err = out.Request("UPDATE", nil, header("Session-Expires", "no"), header("Supported", "timer"))
	if err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("a Session-Expires that is none: %v", err)
	}
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestNoSessionTimer holds that a phone that knows no session timers is left alone.
func TestNoSessionTimer(t *testing.T) {
	t.Parallel()
	r, alice, bob := newShortSessions(t)
	out, in := r.connect(alice, bob)
	if v := out.Final().Get("Session-Expires"); v != "" {
		t.Errorf("alice was told %q", v)
	}
	time.Sleep(3 * time.Second)
	if n := len(requestsTo(alice, "UPDATE")) + len(requestsTo(bob, "UPDATE")) + len(requestsTo(bob, "INVITE")); n != 1 {
		t.Errorf("%d refreshes", n-1)
	}
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
}
