package call_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"baton/call"
	"baton/registrar"
	"baton/test/phone"
)

// TestMoveTakenBack ends the wait for a move while the new device rings: it must stop ringing, and a later move must work.
func TestMoveTakenBack(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("alice", 2)
	out, in := r.connect(alice, bob)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := r.b.Move(ctx, call.MoveRequest{User: "alice", Device: "2"})
		gone <- err
	}()
	ringing, err := desk.Ringing(3 * time.Second)
	must(t, err)
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("taken back: %v", err)
	}
	must(t, ringing.AwaitEnd(3*time.Second))
	desk.Behave(phone.AutoAnswer)
	rep, err := r.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: "2"})
	must(t, err)
	if rep.Near.Lost != 0 || rep.Near.GapMS < 1 || rep.Far.GapMS < 1 {
		t.Errorf("figures: %+v", rep)
	}
	must(t, out.AwaitEnd(3*time.Second))
	must(t, in.Hangup())
	r.nothingLeft()
}

// TestMoveErrorsSayWhat has every kind of request that cannot be met.
func TestMoveErrorsSayWhat(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	if _, err := r.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: "2"}); !errors.Is(err, call.ErrNoCall) {
		t.Errorf("no call: %v", err)
	}
	_, in := r.connect(alice, bob)
	id := r.b.Calls("")[0].ID
	for what, m := range map[string]call.MoveRequest{
		"no such device": {Call: id, Device: "9"},
		"no such user":   {User: "nobody", Device: "1"},
		"not in it":      {Call: id, Seat: "carol", Device: "1"},
		"no such call":   {Call: "zzzz", Device: "1"},
	} {
		if _, err := r.b.Move(t.Context(), m); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	if _, err := r.b.Move(t.Context(), call.MoveRequest{Call: id, Device: "9"}); !errors.Is(err, registrar.ErrNotFound) {
		t.Errorf("no such device: %v", err)
	}
	rep, err := r.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: "1"})
	if err != nil || rep.From != rep.To {
		t.Errorf("already there: %+v, %v", rep, err)
	}
	must(t, in.Hangup())
	r.nothingLeft()
}
