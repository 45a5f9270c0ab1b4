package call_test

import (
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/test/phone"
)

// TestOwnMoveIsNotReplaced: what rings when bob sends his live call to his other phone is his alone, also for who knows its dialog.
func TestOwnMoveIsNotReplaced(t *testing.T) {
	t.Parallel()
	g := newGroup(t, func(c *config.Config) { c.Call.Announce = false })
	_, in, ringing := g.ownMove()
	g.eventually("bob's other phone rings", time.Second, func() bool { return ringing.State() == phone.Alerting })
	g.refused(mustDial(t, g.carol, "102", replacing(ringing.Replaces())), 481)
	must(t, ringing.Answer())
	must(t, in.AwaitEnd(3*time.Second))
	must(t, ringing.Hangup())
	g.nothingLeft()
}

// TestCompanionRingsDuringATransfer: a device that is asked to listen stops ringing when the call has gone to somebody else.
func TestCompanionRingsDuringATransfer(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	r.user("carol2", "109")
	carol := r.phone("carol2", 1)
	carol.Behave(phone.AutoAnswer)
	desk := r.phone("alice", 2)
	out, in := r.connect(alice, bob)
	told := companionTold(r)
	ringing, err := desk.Ringing(3 * time.Second)
	must(t, err)
	ref, err := out.Refer("109")
	must(t, err)
	if code, err := ref.Wait(5 * time.Second); code != 200 {
		t.Fatalf("the transfer: %d, %v", code, err)
	}
	cc, err := carol.Ringing(3 * time.Second)
	must(t, err)
	must(t, ringing.AwaitEnd(time.Second))
	if <-told == nil {
		t.Error("the command was told that it listens")
	}
	if !in.Hears(cc, 3*time.Second) || !cc.Hears(in, 3*time.Second) {
		t.Error("bob and carol do not hear each other")
	}
	must(t, in.Hangup())
	r.nothingLeft()
}

// companionTold asks for alice's second device to listen.
func companionTold(r *rig) <-chan error {
	told := make(chan error, 1)
	go func() {
		_, err := r.b.Companion(r.t.Context(), call.MoveRequest{User: "alice", Device: "2"}, false)
		told <- err
	}()
	return told
}

// TestCompanionAnswersAfterAHangUp: it answers while nobody has the seat, whose call rings at a third device.
func TestCompanionAnswersAfterAHangUp(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk, third := r.phone("alice", 2), r.phone("alice", 3)
	out, in := r.connect(alice, bob)
	told := companionTold(r)
	ringing, err := desk.Ringing(3 * time.Second)
	must(t, err)
	_, err = out.Refer("*413")
	must(t, err)
	r3, err := third.Ringing(3 * time.Second)
	must(t, err)
	must(t, out.Hangup())
	must(t, ringing.Answer())
	if <-told == nil {
		t.Error("the command was told that it listens")
	}
	must(t, r3.Answer())
	if !r3.Hears(in, 3*time.Second) || !in.Hears(r3, 3*time.Second) {
		t.Error("the third device has not taken the call")
	}
	must(t, in.Hangup())
	r.nothingLeft()
}

// TestLentCallIsNotPickedUp: alice has brought eve to bob, whose phone still rings; that call is eve's by now.
func TestLentCallIsNotPickedUp(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	first, eves := g.connect(g.alice, g.eve)
	must(t, first.Hold(phone.HoldSendonly))
	second := mustDial(t, g.alice, "102")
	bobs := g.rings(g.bob)
	ref, err := first.ReferTo(second)
	must(t, err)
	time.Sleep(200 * time.Millisecond) // the 202 is out, the call is lent
	g.refused(mustDial(t, g.carol, "*8"), 404)
	must(t, bobs.Answer())
	if code, err := ref.Wait(4 * time.Second); code != 200 {
		t.Errorf("the transfer: %d, %v", code, err)
	}
	g.talk(eves, bobs)
	must(t, eves.Hangup())
	g.nothingLeft()
}

// TestPickerOfATransferCancels: the picker gives up before its 200, and the transfer rings on.
func TestPickerOfATransferCancels(t *testing.T) {
	t.Parallel()
	g := newGroup(t, quick)
	out, in := g.connect(g.alice, g.eve)
	must(t, second(out.Refer("102")))
	first, _ := g.rings(g.bob), g.rings(g.bobs)
	release := g.hold()
	picked := mustDial(t, g.carol, "*8")
	g.taken(4)
	must(t, picked.Cancel())
	g.refused(picked, 487)
	release()
	if first.State() != phone.Alerting {
		t.Fatalf("bob's phone is %s", first.State())
	}
	must(t, first.Answer())
	g.talk(in, first)
	must(t, in.Hangup())
	g.nothingLeft()
}

// TestCompanionThatLeavesIsNotTaken: it is being hung up when a move to its device is asked for, which rings it then.
func TestCompanionThatLeavesIsNotTaken(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("alice", 2)
	out, in := r.connect(alice, bob)
	ear := r.beside("api", desk)
	if !hearsMix(ear, out, in) {
		t.Error("no mix")
	}
	desk.Behave(phone.AutoAnswer)
	r.faults.fault(40*time.Millisecond, nil)
	_, err := r.b.Companion(t.Context(), call.MoveRequest{User: "alice", Device: "2"}, true)
	must(t, err)
	_, err = r.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: "2", How: "cli"})
	must(t, err)
	r.faults.fault(0, nil)
	must(t, out.AwaitEnd(3*time.Second))
	must(t, ear.AwaitEnd(3*time.Second))
	var leg *phone.Call
	for leg == nil || leg == ear {
		leg, err = desk.Ringing(3 * time.Second)
		must(t, err)
	}
	if !leg.Hears(in, 3*time.Second) || !in.Hears(leg, 3*time.Second) {
		t.Error("bob talks with nobody")
	}
	must(t, in.Hangup())
	r.nothingLeft()
}
