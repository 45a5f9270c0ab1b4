package call_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/test/phone"
)

func overTCP(r *rig) func(*phone.Config) {
	return func(c *phone.Config) { c.Transport, c.Server = "tcp", r.tcp }
}

// TestCallerIsGoneAtTheAnswer closes the caller's connection while the other phone rings: whoever answers then must not be
// left in a call with nobody.
func TestCallerIsGoneAtTheAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	alice, bob := r.phone("alice", 1, overTCP(r)), r.phone("bob", 1)
	_, err := alice.Dial("102")
	must(t, err)
	in, err := bob.Ringing(3 * time.Second)
	must(t, err)
	alice.Vanish()
	r.eventually("alice's device is away", 3*time.Second, func() bool { return len(r.reg.Lookup("alice")) == 0 })
	must(t, in.Answer())
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestNoToneAtTheEnd: who is hung up on hears no tone for somebody that will not come back.
func TestNoToneAtTheEnd(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	out, in := r.connect(alice, bob)
	r.faults.fault(40*time.Millisecond, nil) // the BYE waits for the record: time enough to hear one
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	r.faults.fault(0, nil)
	for _, p := range in.Media().Heard() {
		if p.Source == 0 {
			t.Fatal("bob heard a tone before his BYE")
		}
	}
	r.nothingLeft()
}

// TestPullerIsGoneAtTheAnswer is the same for a device that pulls: the move fails and the seat can be moved again.
func TestPullerIsGoneAtTheAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	alice, bob := r.phone("alice", 1), r.phone("bob", 1)
	gone, desk := r.phone("alice", 2, overTCP(r)), r.phone("alice", 3)
	out, in := r.connect(alice, bob)
	r.faults.fault(45*time.Millisecond, nil) // between our taking the INVITE and the 200
	pull, err := gone.Dial("101")
	must(t, err)
	r.eventually("the INVITE is taken", 3*time.Second, func() bool { return len(pull.Progress()) > 0 })
	gone.Vanish()
	r.eventually("the pull has failed or was taken", 3*time.Second, func() bool {
		calls := r.b.Calls("")
		return len(calls) == 1 && len(calls[0].Moves) > 0 && len(calls[0].Seats[0].Legs) == 1
	})
	r.faults.fault(0, nil)
	if calls := r.b.Calls(""); calls[0].Moves[0].Error == "" {
		t.Skip("the connection outlived the 200 this time: nothing to be seen")
	}
	if !in.Hears(out, time.Second) {
		t.Error("the call was disturbed")
	}
	desk.Behave(phone.AutoAnswer)
	_, err = r.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: "3"})
	must(t, err)
	must(t, in.Hangup())
	r.nothingLeft()
}

// TestTransferTargetHangsUpUnheard has the other user answer and hang up before a packet of his came: the transferor keeps
// the call and is told.
func TestTransferTargetHangsUpUnheard(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	r.user("carol", "103")
	carol := r.phone("carol", 1)
	out, in := r.connect(alice, bob)
	ref, err := out.Refer("103")
	must(t, err)
	c, err := carol.Ringing(3 * time.Second)
	must(t, err)
	c.Media().Mute(true)
	must(t, c.Answer())
	r.eventually("the ACK has come", 3*time.Second, func() bool { return len(methods(carol.Received(time.Time{}), "ACK")) > 0 })
	if _, err := c.Refer("101"); err == nil {
		t.Error("the target of a transfer that is not done may transfer already")
	}
	must(t, c.Hangup())
	if code, err := ref.Wait(3 * time.Second); err != nil || code < 400 {
		t.Errorf("the transferor was told %d, %v", code, err)
	}
	if !in.Hears(out, time.Second) || !out.Hears(in, time.Second) {
		t.Error("the call is not as it was")
	}
	must(t, out.Hangup())
	r.nothingLeft()
}

func methods(log []phone.Logged, method string) []phone.Logged {
	var some []phone.Logged
	for _, m := range log {
		if m.Method == method {
			some = append(some, m)
		}
	}
	return some
}

// TestACKWithoutAnswer has a caller that asks for our offer and never answers it.
func TestACKWithoutAnswer(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	bob.Behave(phone.AutoAnswer)
	out, err := alice.Dial("102", phone.DialOptions{NoSDP: true, Mum: true})
	must(t, err)
	must(t, out.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestOfferlessCallerKnowsFewerCodecs has the callee talk G.722 while the caller, who leaves the offer to us, knows only
// PCMU: the callee is asked to talk PCMU too, so that nobody is deaf.
func TestOfferlessCallerKnowsFewerCodecs(t *testing.T) {
	t.Parallel()
	g722 := phone.Codec{PT: 9, Name: "G722", Rate: 8000}
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	alice := r.phone("alice", 1)
	bob := r.phone("bob", 1, func(c *phone.Config) { c.Codecs = []phone.Codec{g722, phone.PCMU} })
	bob.Behave(phone.AutoAnswer)
	out, err := alice.Dial("102", phone.DialOptions{NoSDP: true})
	must(t, err)
	in, err := bob.Ringing(3 * time.Second)
	must(t, err)
	must(t, out.Await(3*time.Second))
	if !out.Hears(in, 3*time.Second) || !in.Hears(out, 3*time.Second) {
		t.Error("they do not hear each other")
	}
	must(t, in.Hangup())
	r.nothingLeft()
}

// TestRecallDoesNotAnswerItself rings the phone back that hung up in a transfer that nobody took: it must ring, for its
// user may have gone, and an open microphone is no way to find out.
func TestRecallDoesNotAnswerItself(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Call.Ring = 400 * time.Millisecond })
	r.user("alice", "101")
	r.user("bob", "102")
	alice, bob, desk := r.phone("alice", 1), r.phone("bob", 1), r.phone("alice", 2)
	out, in := r.connect(alice, bob)
	desk.Behave(phone.Behaviour{})
	_, err := out.Refer("101")
	must(t, err)
	_, err = desk.Ringing(3 * time.Second)
	must(t, err)
	must(t, out.Hangup())
	back, err := alice.Ringing(3 * time.Second)
	must(t, err)
	for _, name := range []string{"Call-Info", "Alert-Info", "Answer-Mode"} {
		if v := back.Invite().Get(name); v != "" {
			t.Errorf("the recall has %s: %s", name, v)
		}
	}
	if !strings.Contains(back.Invite().Get("From"), "102") {
		t.Errorf("the recall does not say who waits: %s", back.Invite().Get("From"))
	}
	must(t, back.Answer())
	if !in.Hears(back, 3*time.Second) || !back.Hears(in, 3*time.Second) {
		t.Error("the call did not come back")
	}
	must(t, in.Hangup())
	r.nothingLeft()
}

// TestNotifiesKeepTheirOrder transfers to a device that refuses at once: the final NOTIFY follows the first on its heels.
func TestNotifiesKeepTheirOrder(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("alice", 2)
	desk.Behave(phone.Behaviour{Reject: 486})
	out, _ := r.connect(alice, bob)
	for range 30 {
		ref, err := out.Refer("101*2")
		must(t, err)
		if code, err := ref.Wait(3 * time.Second); err != nil || code != 486 {
			t.Fatalf("told %d, %v", code, err)
		}
	}
	var last uint32
	for _, m := range methods(alice.Received(time.Time{}), "NOTIFY") {
		seq, _ := m.CSeq()
		if seq < last {
			t.Fatalf("NOTIFY with CSeq %d after %d", seq, last)
		}
		last = seq
	}
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestOfferlessReinvite asks for our offer in a call: it has the m-lines and payload types of before (RFC 3264 §8).
func TestOfferlessReinvite(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	out, in := r.connect(alice, bob)
	sdp, err := out.AskOffer()
	must(t, err)
	if n := strings.Count(string(sdp), "m="); n != 1 || !strings.Contains(string(sdp), "a=sendrecv") {
		t.Errorf("our offer:\n%s", sdp)
	}
	if !out.Hears(in, time.Second) || !in.Hears(out, time.Second) {
		t.Error("the call was disturbed")
	}
	must(t, in.Hangup())
	r.nothingLeft()
}

// TestStopWithAnUnacknowledgedCall stops the node while a caller owes us the ACK: five seconds, not the 32 of its timer.
func TestStopWithAnUnacknowledgedCall(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	bob.Behave(phone.AutoAnswer)
	out, err := alice.Dial("102", phone.DialOptions{NoACK: true})
	must(t, err)
	must(t, out.Await(3*time.Second))
	began := time.Now()
	r.drain()
	if took := time.Since(began); took > 7*time.Second {
		t.Errorf("stopping took %v", took)
	}
	r.nothingLeft()
}

// TestOnePhoneTwoAccounts has one phone with a line of each user: it can call itself.
func TestOnePhoneTwoAccounts(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	same := func(c *phone.Config) { c.Instance = "urn:uuid:one-phone" }
	_, in := r.connect(r.phone("alice", 1, same), r.phone("bob", 1, same))
	must(t, in.Hangup())
	r.nothingLeft()
}

// TestFailedMoveSaysWhy has devices refuse in ways that were told as "no device is here".
func TestFailedMoveSaysWhy(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("alice", 2)
	out, _ := r.connect(alice, bob)
	for _, code := range []int{480, 404, 500} {
		desk.Behave(phone.Behaviour{Reject: code})
		_, err := r.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: "2"})
		if err == nil || !strings.Contains(err.Error(), string(rune('0'+code/100))) || strings.Contains(err.Error(), "no device") {
			t.Errorf("%d: %v", code, err)
		}
	}
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestFailingStoreIsNotFlooded has the store fail through several moves: what waits is one try, not one per failure.
func TestFailingStoreIsNotFlooded(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("alice", 2)
	alice.Behave(phone.AutoAnswer)
	desk.Behave(phone.AutoAnswer)
	_, in := r.connect(alice, bob)
	r.faults.fault(0, errors.New("disk full"))
	for i := range 4 {
		_, err := r.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: []string{"2", "1"}[i%2]})
		must(t, err)
	}
	r.faults.mu.Lock()
	before := r.faults.puts
	r.faults.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	<-ctx.Done()
	r.faults.mu.Lock()
	tries := r.faults.puts - before
	r.faults.mu.Unlock()
	if tries > 4 { // the growing pause, and the look every five seconds
		t.Errorf("%d writes in four idle seconds", tries)
	}
	r.faults.fault(0, nil)
	must(t, in.Hangup())
	r.nothingLeft()
}

// TestCapacity: a node that has as many calls as it may refuses the next for a while; what joins or moves those it has goes on.
func TestCapacity(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Call.Capacity, c.Call.Announce = 1, false })
	r.user("alice", "101")
	r.user("bob", "102")
	alice, desk, bob := r.phone("alice", 1), r.phone("alice", 2), r.phone("bob", 1)
	out, _ := r.connect(alice, bob)
	res := r.refused(mustDial(t, desk, "102"), 503)
	if w := res.Get("Warning"); res.Get("Retry-After") != "10" || !strings.Contains(w, "this node has 1 calls, and may have no more (call.capacity)") {
		t.Errorf("Retry-After: %s, Warning: %s", res.Get("Retry-After"), w)
	}
	desk.Behave(phone.AutoAnswer)
	ref, err := out.Refer("101*2")
	must(t, err)
	if code, err := ref.Wait(5 * time.Second); err != nil || code != 200 {
		t.Errorf("a move at the limit: %d %v", code, err)
	}
	for _, c := range desk.Calls() {
		_ = c.Hangup()
	}
	r.eventually("the call is over", 3*time.Second, func() bool { return len(r.b.Calls("")) == 0 })
	again, _ := r.connect(alice, bob)
	must(t, again.Hangup())
	r.nothingLeft()
}

// TestNoPortsLeft holds that a call for which there is no port is refused for a while, and the callee hears nothing of it.
func TestNoPortsLeft(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Media.Ports = config.PortRange{First: 41900, Last: 41901} })
	r.user("alice", "101")
	r.user("bob", "102")
	alice, bob := r.phone("alice", 1), r.phone("bob", 1)
	out, err := alice.Dial("bob")
	must(t, err)
	must(t, out.AwaitEnd(5*time.Second))
	if final := out.Final(); final == nil || final.Code != 503 || final.Get("Retry-After") != "10" || final.Get("Warning") == "" {
		t.Errorf("the call was answered %v", final)
	}
	if n := len(requestsTo(bob, "INVITE")); n != 0 {
		t.Errorf("bob was called %d times", n)
	}
	r.nothingLeft()
}
