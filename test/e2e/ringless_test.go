package e2e

import (
	"fmt"
	"testing"
	"time"

	"baton/test/e2e/node"
)

// TestBaresipAnswersWithoutAHand moves a call to and fro between two baresips of alice by the command line; no hand touches them.
// Newer ones obey the headers that ask for it and ring at every other call; Debian's, which knows none, answers every call. The sound
// that the far side lacks is compared with a call beside it, and so is the time of each move.
func TestBaresipAnswersWithoutAHand(t *testing.T) {
	const moves, perMove, switched = 6, 10 * time.Millisecond, 300.0
	w := newWorld(t, node.Options{Users: map[string]string{"alice": "101", "bob": "102", "carol": "103", "dave": "104"}})
	bob, dave, carol := w.startWitness("bob", 660), w.startBaresip("dave", "udp", 660), w.startBaresip("carol", "udp", 440)
	account := "answermode=manual;sip_autoanswer=yes"
	if dave.old() {
		account = "answermode=auto"
	}
	alice := []*baresip{
		w.runBaresip("alice", softphone{transport: "udp", hz: 440, account: account}),
		w.runBaresip("alice", softphone{transport: "tcp", hz: 440, account: account}),
	}
	index := []int{w.deviceOver("alice", "udp"), w.deviceOver("alice", "tcp")}
	carol.dial("104")
	alice[0].dial("102")
	up, controlUp := bob.await("CALL_ESTABLISHED", 10*time.Second).at, dave.await("CALL_ESTABLISHED", 10*time.Second).at
	pause(time.Second)
	for i := range moves {
		to := 1 - i%2
		var r report
		if err := w.JSON(&r, "move", "--user", "alice", fmt.Sprint(index[to]), "--json"); err != nil {
			t.Fatalf("move %d: %v", i+1, err)
		}
		t.Logf("move %d: switch %.0f ms, far gap %.0f ms, %d lost, answer to media %.0f ms", i+1, r.SwitchMS, r.Far.GapMS, r.Far.Lost, r.AnswerToMedia)
		if r.SwitchMS > switched {
			t.Errorf("move %d took %g ms, limit %g", i+1, r.SwitchMS, switched)
		}
		alice[1-to].await("CALL_CLOSED", 5*time.Second)
		pause(400 * time.Millisecond)
	}
	bob.undisturbed(up)
	alice[0].do("hangup", "")
	carol.do("hangup", "")
	down, controlDown := bob.await("CALL_CLOSED", 5*time.Second).at, dave.await("CALL_CLOSED", 5*time.Second).at
	quit(alice[0].quit, alice[1].quit, bob.quit, carol.quit, dave.quit)
	moved, control := missing(t, bob.baresip, down.Sub(up)), missing(t, dave, controlDown.Sub(controlUp))
	each := (moved - control) / moves
	t.Logf("%d moves: %s of sound missing, %s in the call beside: %s per move", moves, moved, control, each)
	if each > perMove {
		t.Errorf("%s of sound missing per move, limit %s", each, perMove)
	}
}

// TestBaresipRingsWhereItIsNotAsked calls a baresip that answers without a hand where it is asked to: by another user and by a
// transfer to all one's devices it is not, and neither by a move to it when its owner has switched that off.
func TestBaresipRingsWhereItIsNotAsked(t *testing.T) {
	w := newWorld(t)
	bob := w.startWitness("bob", 660)
	if bob.old() {
		t.Skip("baresip 1.0.0 knows none of the headers: " + envBaresip + " names a newer one")
	}
	one := w.startBaresip("alice", "udp", 440)
	two := w.runBaresip("alice", softphone{transport: "tcp", hz: 500, account: "answermode=manual;sip_autoanswer=yes"})
	n := w.deviceOver("alice", "tcp")
	rings := func(what string, ask func()) {
		t.Helper()
		ask()
		two.await("CALL_INCOMING", 5*time.Second)
		pause(500 * time.Millisecond)
		if w.talkingOn("alice", n) {
			t.Errorf("%s: it answered without a hand", what)
		}
	}
	one.dial("102")
	bob.await("CALL_ESTABLISHED", 10*time.Second)
	rings("transferred to all others", func() { one.do("transfer", "sip:101"+one.server) })
	two.do("hangup", "")
	two.await("CALL_CLOSED", 5*time.Second)
	if _, err := w.CLI("devices", "ringless", "alice", fmt.Sprint(n), "off"); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	rings("switched off", func() {
		go func() { _, err := w.CLI("move", "--user", "alice", fmt.Sprint(n)); failed <- err }()
	})
	two.do("accept", "")
	two.await("CALL_ESTABLISHED", 5*time.Second)
	w.must(<-failed)
	if !w.talkingOn("alice", n) {
		t.Error("it was accepted, and does not have the call")
	}
	bob.do("hangup", "")
	two.await("CALL_CLOSED", 5*time.Second)
}

// talkingOn says whether a call of the user is held by that device of his: the first leg of his seat.
func (w *world) talkingOn(user string, index int) bool {
	w.t.Helper()
	var calls []struct {
		Seats []struct {
			User string
			Legs []struct{ Index int }
		}
	}
	w.must(w.JSON(&calls, "calls", "--json"))
	for _, c := range calls {
		for _, s := range c.Seats {
			if s.User == user && len(s.Legs) > 0 && s.Legs[0].Index == index {
				return true
			}
		}
	}
	return false
}
