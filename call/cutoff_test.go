package call_test

import (
	"errors"
	"testing"
	"time"

	"baton/call"
	"baton/test/phone"
)

// TestCutOff: a node that others may have taken the calls of begins nothing in them, neither for a phone nor for a program, and says when to try
// again; what goes on goes on, and a hang-up is answered. Afterwards all is as before.
func TestCutOff(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("alice", 2)
	out, in := r.connect(alice, bob)
	r.cutOff.Store(true)

	for _, to := range []string{"102", "*42", desk.URI()} {
		var status *phone.Status
		if _, err := out.Refer(to); !errors.As(err, &status) || status.Message.Code != 503 || status.Message.Get("Retry-After") == "" {
			t.Errorf("a transfer to %s got %v", to, err)
		}
	}
	for _, to := range []string{"*40", "101", "*42", "*411"} {
		var status *phone.Status
		x, err := desk.Dial(to)
		if err == nil {
			err = x.Await(5 * time.Second)
		}
		if !errors.As(err, &status) || status.Message.Code != 503 || status.Message.Get("Retry-After") == "" {
			t.Errorf("%s got %v", to, err)
		}
	}
	began := time.Now()
	mine := call.MoveRequest{User: "alice"}
	for name, do := range map[string]func() error{
		"move": func() error {
			_, err := r.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: "2"})
			return err
		},
		"companion": func() error {
			_, err := r.b.Companion(t.Context(), call.MoveRequest{User: "alice", Device: "2"}, false)
			return err
		},
		"leave":  func() error { return r.b.Leave(t.Context(), mine) },
		"rejoin": func() error { _, err := r.b.Rejoin(t.Context(), mine); return err },
	} {
		if err := do(); !errors.Is(err, call.ErrCutOff) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.talk(out, in)
	if n := len(methods(desk.Received(began), "INVITE")); n > 0 {
		t.Error("the desk rings")
	}
	must(t, in.Hangup())
	must(t, out.AwaitEnd(3*time.Second))
	out, in = r.connect(alice, bob) // a new call is nobody else's
	must(t, in.Hangup())
	must(t, out.AwaitEnd(3*time.Second))
	r.nothingLeft()

	r.cutOff.Store(false)
	_, in = r.connect(alice, bob)
	must(t, r.b.Leave(t.Context(), mine))
	must(t, in.Hangup())
	r.nothingLeft()
}
