package call_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/journal"
	"baton/registrar"
	"baton/test/phone"
)

// office is a node with users by name; the n-th has the number 100+n.
func newOffice(t *testing.T, tune func(*config.Config), users ...string) *rig {
	t.Helper()
	r := newRig(t, tune)
	for i, name := range users {
		r.user(name, fmt.Sprint(101+i))
	}
	return r
}

// set changes the settings of a user.
func (r *rig) set(user string, change func(*registrar.Settings)) {
	r.t.Helper()
	_, err := r.reg.Configure(user, change)
	must(r.t, err)
}

// entries are the log's entries of some kinds, in their order.
func (r *rig) entries(kinds ...journal.Kind) []journal.Entry {
	r.t.Helper()
	all, err := r.store.Entries(time.Time{}, time.Time{}, 1000)
	must(r.t, err)
	return slices.DeleteFunc(all, func(e journal.Entry) bool { return !slices.Contains(kinds, e.Kind) })
}

// missed waits until the log says that these users missed a call, in that order, and that nobody else did.
func (r *rig) missed(users ...string) {
	r.t.Helper()
	var got []string
	r.eventually(fmt.Sprintf("calls missed by %v", users), 8*time.Second, func() bool {
		got = nil
		for _, e := range r.entries(journal.CallMissed) {
			got = append(got, e.Peer)
		}
		return slices.Equal(got, users)
	})
}

// refused waits for the refusal of a call.
func (r *rig) refused(c *phone.Call, want int) *phone.Message {
	r.t.Helper()
	must(r.t, c.AwaitEnd(9*time.Second))
	res := c.Final()
	if res == nil || res.Code != want {
		why, _ := c.Why()
		r.t.Fatalf("the call ended with %v (%s), want %d", res, why, want)
	}
	return res
}

// silent checks that a phone was never called.
func (r *rig) silent(p *phone.Phone) {
	r.t.Helper()
	if n := len(methods(p.Received(time.Time{}), "INVITE")); n > 0 {
		r.t.Errorf("%s of %s was called %d times", p.Config().UserAgent, p.Config().User, n)
	}
}

// TestForward calls bob, whose calls go to carol, for each reason there is.
func TestForward(t *testing.T) {
	t.Parallel()
	here := func(b phone.Behaviour) func(*rig) *phone.Phone {
		return func(r *rig) *phone.Phone {
			p := r.phone("bob", 1)
			p.Behave(b)
			return p
		}
	}
	tests := map[string]struct {
		forward registrar.Forwarding
		bob     func(*rig) *phone.Phone
		rings   bool
		reason  string
		cause   string
	}{
		"always":    {registrar.Forwarding{Always: "103"}, here(phone.AutoAnswer), false, "unconditional", "302"},
		"busy":      {registrar.Forwarding{Busy: "carol"}, here(phone.Behaviour{Reject: 486}), true, "user-busy", "486"},
		"declined":  {registrar.Forwarding{Busy: "103"}, here(phone.Behaviour{Reject: 603}), true, "user-busy", "486"},
		"no answer": {registrar.Forwarding{NoAnswer: "103", NoAnswerAfter: time.Second}, here(phone.Behaviour{}), true, "no-answer", "408"},
		"away":      {registrar.Forwarding{Away: "103"}, func(*rig) *phone.Phone { return nil }, false, "unavailable", "404"},
		"vanished":  {registrar.Forwarding{Away: "103"}, here(phone.Behaviour{Silent: true}), true, "unavailable", "404"},
		"a device":  {registrar.Forwarding{Always: "103*1"}, here(phone.AutoAnswer), false, "unconditional", "302"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newOffice(t, func(c *config.Config) { c.Call.Ring = 1500 * time.Millisecond }, "alice", "bob", "carol")
			alice, bob, carol := r.phone("alice", 1), tt.bob(r), r.phone("carol", 1)
			carol.Behave(phone.AutoAnswer)
			r.set("bob", func(s *registrar.Settings) { s.Forward = tt.forward })
			out, err := alice.Dial("102")
			must(t, err)
			must(t, out.Await(5*time.Second))
			in, err := carol.Ringing(time.Second)
			must(t, err)
			if !out.Hears(in, 3*time.Second) || !in.Hears(out, 3*time.Second) {
				t.Error("they do not hear each other")
			}
			if got := out.Progress(); !slices.Contains(got, 181) {
				t.Errorf("the caller was told %v, and not 181", got)
			}
			toldWho(t, in.Invite(), "101", "102", "103", tt.reason, tt.cause)
			if bob != nil && !tt.rings {
				r.silent(bob)
			}
			must(t, out.Hangup())
			r.nothingLeft()
			if got := r.entries(journal.CallForwarded); len(got) != 1 || got[0].User != "alice" || got[0].From != "bob" || got[0].Peer != "carol" {
				t.Errorf("the log says %+v", got)
			}
			r.missed() // it was answered
		})
	}
}

// toldWho checks what the last phone of a forwarded call was told: who calls, who has forwarded it and why.
func toldWho(t *testing.T, invite *phone.Message, caller, by, to, reason, cause string) {
	t.Helper()
	if from := invite.Get("From"); phone.UserPart(phone.AddrURI(from)) != caller {
		t.Errorf("From is %s, want %s", from, caller)
	}
	if d := invite.Get("Diversion"); phone.UserPart(phone.AddrURI(d)) != by || phone.Param(d, "reason") != reason {
		t.Errorf("Diversion is %s, want %s and %s", d, by, reason)
	}
	h := invite.All("History-Info")
	if len(h) != 2 || phone.UserPart(phone.AddrURI(h[0])) != by || phone.Param(h[0], "index") != "1" {
		t.Fatalf("History-Info is %q", h)
	}
	if phone.UserPart(phone.AddrURI(h[1])) != to || !strings.Contains(phone.AddrURI(h[1]), ";cause="+cause) ||
		phone.Param(h[1], "index") != "1.1" || phone.Param(h[1], "mp") != "1" {
		t.Errorf("History-Info is %q", h)
	}
}

// TestForwardChain has each of some users forward to the next: five hops are followed and no more.
func TestForwardChain(t *testing.T) {
	users := []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"}
	r := newOffice(t, nil, users...)
	phones := map[string]*phone.Phone{}
	for i, name := range users {
		phones[name] = r.phone(name, 1)
		phones[name].Behave(phone.AutoAnswer)
		if i > 0 && i < len(users)-1 {
			r.set(name, func(s *registrar.Settings) { s.Forward.Always = users[i+1] })
		}
	}
	for first, want := range map[string]string{"103": "heidi", "102": "grace"} {
		out, err := phones["alice"].Dial(first)
		must(t, err)
		in, err := phones[want].Ringing(3 * time.Second)
		must(t, err)
		must(t, out.Await(3*time.Second))
		if d := in.Invite().All("Diversion"); len(d) != 5 || phone.UserPart(phone.AddrURI(d[4])) != first {
			t.Errorf("%s: Diversion is %q", first, d)
		}
		must(t, out.Hangup())
	}
	r.nothingLeft()
	r.silent(phones["bob"])
}

// TestForwardLoop has forwardings lead back: such a one is as if it were not set.
func TestForwardLoop(t *testing.T) {
	tests := map[string]struct {
		bob, carol registrar.Settings
		rings      string
	}{
		"to each other":         {registrar.Settings{Forward: registrar.Forwarding{Always: "103"}}, registrar.Settings{Forward: registrar.Forwarding{Always: "102"}}, "carol"},
		"to the caller":         {registrar.Settings{Forward: registrar.Forwarding{Always: "101"}}, registrar.Settings{}, "bob"},
		"undisturbed, and back": {registrar.Settings{DoNotDisturb: true, Forward: registrar.Forwarding{Busy: "103"}}, registrar.Settings{Forward: registrar.Forwarding{Always: "bob"}}, "carol"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newOffice(t, nil, "alice", "bob", "carol")
			phones := map[string]*phone.Phone{}
			for _, user := range []string{"alice", "bob", "carol"} {
				phones[user] = r.phone(user, 1)
			}
			r.set("bob", func(s *registrar.Settings) { *s = tt.bob })
			r.set("carol", func(s *registrar.Settings) { *s = tt.carol })
			out, err := phones["alice"].Dial("102")
			must(t, err)
			in, err := phones[tt.rings].Ringing(3 * time.Second)
			must(t, err)
			must(t, in.Answer())
			must(t, out.Await(3*time.Second))
			must(t, out.Hangup())
			r.nothingLeft()
		})
	}
}

// TestForwardedAndNotTaken is missed by all whom the call was for, and by nobody when it was answered elsewhere.
func TestForwardedAndNotTaken(t *testing.T) {
	t.Parallel()
	r := newOffice(t, func(c *config.Config) { c.Call.Ring = time.Second }, "alice", "bob", "carol")
	alice, bob := r.phone("alice", 1), r.phone("bob", 1)
	r.set("bob", func(s *registrar.Settings) { s.Forward.NoAnswer = "103" })
	r.set("carol", func(s *registrar.Settings) { s.DoNotDisturb = true })
	out, err := alice.Dial("102")
	must(t, err)
	_, err = bob.Ringing(3 * time.Second)
	must(t, err)
	r.refused(out, 486)
	r.missed("bob", "carol")
	for _, e := range r.entries(journal.CallMissed) {
		if e.User != "alice" || !strings.Contains(e.Text, "disturbed") || e.Duration < time.Second {
			t.Errorf("the log says %+v", e)
		}
	}
	r.nothingLeft()
}

// TestForwardedToTheGone has a forwarding whose user was removed: it is as if it were not set.
func TestForwardedToTheGone(t *testing.T) {
	r := newOffice(t, nil, "alice", "bob", "carol")
	alice, bob := r.phone("alice", 1), r.phone("bob", 1)
	r.set("bob", func(s *registrar.Settings) { s.Forward.Always = "103" })
	must(t, r.reg.RemoveUser("carol"))
	out, in := r.connect(alice, bob)
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestForwardAfterEarlyMedia has bob's phone play something before it is given up: carol is heard, and nothing of it is left.
func TestForwardAfterEarlyMedia(t *testing.T) {
	t.Parallel()
	r := newOffice(t, nil, "alice", "bob", "carol")
	alice, bob, carol := r.phone("alice", 1), r.phone("bob", 1), r.phone("carol", 1)
	bob.Behave(phone.Behaviour{Early: true})
	carol.Behave(phone.Behaviour{Early: true, Answer: true, After: 300 * time.Millisecond})
	r.set("bob", func(s *registrar.Settings) { s.Forward.NoAnswer, s.Forward.NoAnswerAfter = "103", time.Second })
	out, err := alice.Dial("102")
	must(t, err)
	first, err := bob.Ringing(3 * time.Second)
	must(t, err)
	if !out.Hears(first, 2*time.Second) {
		t.Error("bob's early media is not heard")
	}
	must(t, out.Await(5*time.Second))
	in, err := carol.Ringing(time.Second)
	must(t, err)
	if !out.Hears(in, 3*time.Second) || !in.Hears(out, 3*time.Second) {
		t.Error("they do not hear each other")
	}
	told := slices.DeleteFunc(out.Progress(), func(code int) bool { return code != 183 })
	if len(told) != 1 { // a second answer in the same early dialog would break RFC 3261 §13.2.1
		t.Errorf("%d times 183", len(told))
	}
	must(t, in.Hangup())
	r.nothingLeft()
}

// TestForwardThenCancel hangs up while the second user's phone rings.
func TestForwardThenCancel(t *testing.T) {
	r := newOffice(t, nil, "alice", "bob", "carol")
	alice, bob, carol := r.phone("alice", 1), r.phone("bob", 1), r.phone("carol", 1)
	bob.Behave(phone.Behaviour{Reject: 486})
	r.set("bob", func(s *registrar.Settings) { s.Forward.Busy = "103" })
	out, err := alice.Dial("102")
	must(t, err)
	in, err := carol.Ringing(3 * time.Second)
	must(t, err)
	must(t, out.Cancel())
	must(t, in.AwaitEnd(3*time.Second))
	r.missed("bob", "carol")
	r.nothingLeft()
}

// TestTransferIsForwarded transfers a live call to a user who has calls forwarded, and to one who is not to be disturbed.
func TestTransferIsForwarded(t *testing.T) {
	t.Parallel()
	r := newOffice(t, nil, "alice", "bob", "carol", "dave")
	alice, bob, carol, dave := r.phone("alice", 1), r.phone("bob", 1), r.phone("carol", 1), r.phone("dave", 1)
	dave.Behave(phone.AutoAnswer)
	out, in := r.connect(alice, bob)
	r.set("carol", func(s *registrar.Settings) { s.DoNotDisturb = true })
	if _, err := out.Refer("103"); err == nil || !strings.Contains(err.Error(), "486") {
		t.Errorf("a transfer to carol, who is not to be disturbed: %v", err)
	}
	r.set("carol", func(s *registrar.Settings) { s.Forward.Busy = "104" })
	ref, err := out.Refer("103")
	must(t, err)
	if code, err := ref.Wait(5 * time.Second); err != nil || code != 200 {
		t.Fatalf("the transfer was told %d, %v", code, err)
	}
	last, err := dave.Ringing(time.Second)
	must(t, err)
	if !last.Hears(in, 3*time.Second) || !in.Hears(last, 3*time.Second) {
		t.Error("they do not hear each other")
	}
	toldWho(t, last.Invite(), "102", "103", "104", "do-not-disturb", "486")
	r.silent(carol)
	must(t, in.Hangup())
	r.nothingLeft()
}

// TestOwnMovesIgnoreSettings moves, pulls and calls one's own devices while nobody else gets through.
func TestOwnMovesIgnoreSettings(t *testing.T) {
	t.Parallel()
	r := newOffice(t, nil, "alice", "bob", "carol")
	alice, desk, bob := r.phone("alice", 1), r.phone("alice", 2), r.phone("bob", 1)
	alice.Behave(phone.AutoAnswer)
	desk.Behave(phone.AutoAnswer)
	r.set("alice", func(s *registrar.Settings) {
		*s = registrar.Settings{DoNotDisturb: true, BusyOnBusy: true, Forward: registrar.Forwarding{Always: "103"}}
	})
	_, in := r.connect(alice, bob)
	_, err := r.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: "2"})
	must(t, err)
	pull, err := alice.Dial("*40")
	must(t, err)
	must(t, pull.Await(3*time.Second))
	if !pull.Hears(in, 3*time.Second) || !in.Hears(pull, 3*time.Second) {
		t.Error("the pull did not bring the call")
	}
	must(t, in.Hangup())
	own, err := alice.Dial("101*2")
	must(t, err)
	must(t, own.Await(3*time.Second))
	must(t, own.Hangup())
	r.nothingLeft()
}
