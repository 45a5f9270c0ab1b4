package call_test

import (
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/journal"
	"baton/test/phone"
)

// leaves are the ways to leave a call; each gives what it was told: nil, or why not.
var leaves = []struct {
	name  string
	leave func(r *rig, out *phone.Call) error
}{
	{"*42 as a second call", func(r *rig, out *phone.Call) error {
		second := dialCode(r.t, out, "*42")
		must(r.t, second.Await(3*time.Second))
		return second.AwaitEnd(3 * time.Second)
	}},
	{"transfer to *42", func(r *rig, out *phone.Call) error {
		ref, err := out.Refer("*42")
		must(r.t, err)
		if code, err := ref.Wait(3 * time.Second); err != nil || code != 200 {
			r.t.Errorf("the phone was told %d, %v", code, err)
		}
		return nil
	}},
	{"API", func(r *rig, _ *phone.Call) error {
		return r.b.Leave(r.t.Context(), call.MoveRequest{User: "alice", How: "api", Who: "test"})
	}},
}

// comebacks are the ways to take the seat again, on alice's second phone, or the one that she has left with.
var comebacks = []struct {
	name string
	back func(r *rig, old, desk *phone.Phone) *phone.Call
}{
	{"pull on another device", func(r *rig, _, desk *phone.Phone) *phone.Call { return mustDial(r.t, desk, "*40") }},
	{"own number on the same device", func(r *rig, old, _ *phone.Phone) *phone.Call { return mustDial(r.t, old, "101") }},
	{"API, another device", func(r *rig, _, desk *phone.Phone) *phone.Call { return r.fetched(desk, "2") }},
	{"API, whichever answers", func(r *rig, old, desk *phone.Phone) *phone.Call {
		done := make(chan error, 1)
		go func() {
			_, err := r.b.Rejoin(r.t.Context(), call.MoveRequest{User: "alice", How: "api", Who: "test"})
			done <- err
		}()
		if _, err := old.Ringing(3 * time.Second); err != nil {
			r.t.Errorf("the phone that has left does not ring: %v", err)
		}
		c, err := desk.Ringing(3 * time.Second)
		must(r.t, err)
		must(r.t, c.Answer())
		r.moved(done)
		return c
	}},
	{"API, the same device", func(r *rig, old, _ *phone.Phone) *phone.Call { return r.fetched(old, "1") }},
}

// fetched is the call that the API brings to a device.
func (r *rig) fetched(p *phone.Phone, device string) *phone.Call {
	r.t.Helper()
	done := r.moveTo(device)
	c, err := p.Ringing(3 * time.Second)
	must(r.t, err)
	must(r.t, c.Answer())
	r.moved(done)
	return c
}

// TestLeave leaves a call in each way and comes back in each: the other side hears a tone, then the phone, on one unbroken stream, and no
// SIP at all.
func TestLeave(t *testing.T) {
	t.Parallel()
	for i, l := range leaves {
		for k, b := range comebacks {
			if i > 0 && k > 0 && k != i {
				continue // every way of each, and not all pairs
			}
			t.Run(l.name+", "+b.name, func(t *testing.T) {
				t.Parallel()
				r, alice, bob := newPair(t)
				desk := r.phone("alice", 2)
				out, in := r.connect(alice, bob)
				began := time.Now()
				must(t, l.leave(r, out))
				must(t, out.AwaitEnd(4*time.Second))
				if !in.HearsTone(3 * time.Second) {
					t.Error("bob hears nothing while he waits")
				}
				seats := r.b.Calls("alice")[0].Seats
				if !seats[0].Empty || seats[1].Empty {
					t.Errorf("the call shows %+v", seats)
				}
				again := b.back(r, alice, desk)
				must(t, again.Await(3*time.Second))
				r.talk(again, in)
				whole(t, "bob", in.Media().Heard(), phone.PCMU.PT, phone.PCMA.PT)
				for _, m := range bob.Received(began) {
					if m.Method != "" {
						t.Errorf("bob was sent %s", m.Line())
					}
				}
				must(t, again.Hangup())
				must(t, in.AwaitEnd(3*time.Second))
				if n := len(r.entries(journal.CallLeft)); n != 1 {
					t.Errorf("%d entries of it in the log", n)
				}
				r.nothingLeft()
			})
		}
	}
}

// TestNobodyComesBack: the call ends when the wait is over, with a tone for who has waited, and at once when that one hangs up.
func TestNobodyComesBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Call.Wait = time.Second })
	r.user("alice", "101")
	r.user("bob", "102")
	alice, bob := r.phone("alice", 1), r.phone("bob", 1)
	out, in := r.connect(alice, bob)
	must(t, leaves[2].leave(r, out))
	must(t, in.AwaitEnd(8*time.Second))
	r.nothingLeft()
	r.eventually("the log says why", 3*time.Second, func() bool {
		ends := r.entries(journal.CallEnded)
		return len(ends) == 1 && ends[0].Text == "alice left and did not come back within 1s"
	})

	out, in = r.connect(alice, bob)
	must(t, leaves[2].leave(r, out))
	must(t, out.AwaitEnd(3*time.Second))
	again := mustDial(t, alice, "*40")
	must(t, again.Await(3*time.Second))
	time.Sleep(1500 * time.Millisecond) // whoever is back waits no more
	r.talk(again, in)
	must(t, r.b.Leave(t.Context(), call.MoveRequest{User: "alice"}))
	must(t, in.Hangup())
	r.nothingLeft()
	if n := len(r.b.Calls("")); n != 0 {
		t.Errorf("%d calls are left", n)
	}
}

// TestLeaveRefused: what cannot be left says why, and stays.
func TestLeaveRefused(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("alice", 2)
	r.refused(mustDial(t, alice, "*42"), 404)
	ringing := mustDial(t, alice, "102")
	_, err := bob.Ringing(3 * time.Second)
	must(t, err)
	if err := r.b.Leave(t.Context(), call.MoveRequest{User: "alice"}); err == nil {
		t.Error("a call that rings was left")
	}
	must(t, ringing.Cancel())
	r.nothingLeft()

	out, in := r.connect(alice, bob)
	done := r.moveTo("2")
	other, err := desk.Ringing(3 * time.Second)
	must(t, err)
	if err := r.b.Leave(t.Context(), call.MoveRequest{User: "alice"}); err == nil {
		t.Error("a seat was left that moves")
	}
	must(t, other.Answer())
	r.moved(done)
	must(t, out.AwaitEnd(3*time.Second))
	must(t, r.b.Leave(t.Context(), call.MoveRequest{User: "alice"}))
	for _, user := range []string{"alice", "bob"} { // who has left already, and who would leave nobody
		if err := r.b.Leave(t.Context(), call.MoveRequest{User: user}); err == nil {
			t.Errorf("%s left too", user)
		}
	}
	must(t, in.Hangup())
	r.nothingLeft()
}

// TestLeftHangsUpLate: the phone that has transferred its call to *42 sends its BYE when another is to take the call already. Nobody does, and
// the call waits on: the one who has left is not rung back.
func TestLeftHangsUpLate(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("alice", 2)
	out, in := r.connect(alice, bob)
	_, err := out.Refer("*42")
	must(t, err)
	r.eventually("alice has left", 3*time.Second, func() bool { return r.b.Calls("alice")[0].Seats[0].Empty })
	done := r.moveTo("2")
	ringing, err := desk.Ringing(3 * time.Second)
	must(t, err)
	must(t, out.Hangup())
	must(t, ringing.Reject(486))
	if err := <-done; err == nil {
		t.Error("a phone that is busy took the call")
	}
	if _, err := alice.Ringing(time.Second); err == nil {
		t.Error("the phone that has left is rung back")
	}
	again := mustDial(t, alice, "*40")
	must(t, again.Await(3*time.Second))
	r.talk(again, in)
	must(t, in.Hangup())
	r.nothingLeft()
}

// TestBackTooLate: while the one who waits hears that the call is over nobody takes the seat any more, to lose the call at once.
func TestBackTooLate(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Call.Wait = time.Second })
	r.user("alice", "101")
	r.user("bob", "102")
	alice, bob := r.phone("alice", 1), r.phone("bob", 1)
	out, in := r.connect(alice, bob)
	must(t, leaves[2].leave(r, out))
	must(t, out.AwaitEnd(3*time.Second))
	time.Sleep(2 * time.Second)
	r.refused(mustDial(t, alice, "*40"), 480)
	must(t, in.AwaitEnd(4*time.Second))
	r.nothingLeft()
}

// TestWhoWaitsMoves: who waits for one that has left may change his device meanwhile, but not give the call to another user.
func TestWhoWaitsMoves(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	r.user("carol", "103")
	desk := r.phone("bob", 2)
	out, in := r.connect(alice, bob)
	must(t, leaves[2].leave(r, out))
	must(t, out.AwaitEnd(3*time.Second))
	replaced := mustDial(t, desk, "102", replacing(in.Replaces()))
	must(t, replaced.Await(3*time.Second))
	must(t, in.AwaitEnd(3*time.Second))
	if !replaced.HearsTone(3 * time.Second) {
		t.Error("bob hears nothing on the device that waits now")
	}
	pulled := mustDial(t, bob, "*40")
	must(t, pulled.Await(3*time.Second))
	must(t, replaced.AwaitEnd(3*time.Second))
	if _, err := pulled.Refer("103"); err == nil {
		t.Error("a call that waits was transferred")
	}
	carol := r.phone("carol", 1)
	consult, _ := r.connect(bob, carol)
	if _, err := pulled.ReferTo(consult); err == nil {
		t.Error("a call that waits was transferred to whom its user talks with")
	}
	must(t, consult.Hangup())
	again := mustDial(t, alice, "*40")
	must(t, again.Await(3*time.Second))
	r.talk(again, pulled)
	must(t, again.Hangup())
	must(t, pulled.AwaitEnd(3*time.Second))
	r.nothingLeft()
}
