package call_test

import (
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/registrar"
	"baton/test/phone"
)

// dialCode holds the call and dials a code as a second one.
func dialCode(t *testing.T, c *phone.Call, code string) *phone.Call {
	t.Helper()
	must(t, c.Hold(phone.HoldSendonly))
	second, err := c.Phone().Dial(code)
	must(t, err)
	return second
}

// TestPushDialledAsSecondCall has both of the phone's dialogs end when another device has taken the call.
func TestPushDialledAsSecondCall(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"*41", "*412"} {
		t.Run(code, func(t *testing.T) {
			r, alice, bob := newPair(t)
			desk := r.phone("alice", 2)
			out, in := r.connect(alice, bob)
			began := time.Now()
			second := dialCode(t, out, code)
			must(t, second.Await(3*time.Second))
			if !second.HearsTone(3 * time.Second) {
				t.Error("the phone hears nothing while the other device rings")
			}
			if shown := phone.DisplayName(second.Final().Get("P-Asserted-Identity")); shown != "2 phoneb" {
				t.Errorf("its display says %q", shown)
			}
			ringing, err := desk.Ringing(3 * time.Second)
			must(t, err)
			if !in.HearsTone(3 * time.Second) {
				t.Error("bob hears no hold tone")
			}
			must(t, ringing.Answer())
			must(t, out.AwaitEnd(3*time.Second))
			must(t, second.AwaitEnd(3*time.Second))
			if !in.Hears(ringing, 3*time.Second) || !ringing.Hears(in, 3*time.Second) {
				t.Error("the call did not arrive")
			}
			for _, m := range bob.Received(began) {
				if m.Method != "" {
					t.Errorf("bob was sent %s", m.Line())
				}
			}
			must(t, in.Hangup())
			r.nothingLeft()
		})
	}
}

// TestPushThatFails has the other device refuse: only the code's dialog ends, with a tone, and the call can be resumed.
func TestPushThatFails(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("alice", 2)
	desk.Behave(phone.Behaviour{Reject: 486, After: 100 * time.Millisecond})
	out, in := r.connect(alice, bob)
	second := dialCode(t, out, "*412")
	must(t, second.Await(3*time.Second))
	must(t, second.AwaitEnd(5*time.Second))
	must(t, out.Resume())
	if !in.Hears(out, 3*time.Second) || !out.Hears(in, 3*time.Second) {
		t.Error("the call is not as it was")
	}
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestPushTakenBack hangs the code's dialog up while the other device rings.
func TestPushTakenBack(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("alice", 2)
	out, in := r.connect(alice, bob)
	second := dialCode(t, out, "*41")
	ringing, err := desk.Ringing(3 * time.Second)
	must(t, err)
	must(t, second.Await(3*time.Second))
	must(t, second.Hangup())
	must(t, ringing.AwaitEnd(3*time.Second))
	must(t, out.Resume())
	if !in.Hears(out, 3*time.Second) {
		t.Error("the call is not as it was")
	}
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestPushWithNothingToPush dials the code with no call, with no such device, and with nobody else there.
func TestPushWithNothingToPush(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	c, err := alice.Dial("*41")
	must(t, err)
	must(t, c.AwaitEnd(6*time.Second))
	if f := c.Final(); f == nil || f.Code != 404 {
		t.Errorf("without a call: %v", f)
	}
	out, _ := r.connect(alice, bob)
	second := dialCode(t, out, "*417")
	must(t, second.AwaitEnd(6*time.Second))
	if f := second.Final(); f == nil || f.Code != 404 || !strings.Contains(f.Get("Warning"), "not found") {
		t.Errorf("no such device: %v", f)
	}
	third, err := alice.Dial("*41")
	must(t, err)
	must(t, third.AwaitEnd(6*time.Second)) // answered, a tone, BYE
	if out.State() != phone.Up {
		t.Error("the call was lost")
	}
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestRinglessIsTheUsersChoice moves a call to a named device before and after its user has said that it shall ring.
func TestRinglessIsTheUsersChoice(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("alice", 2)
	out, in := r.connect(alice, bob)
	for _, may := range []string{"", "off", ""} {
		must(t, r.reg.Set("alice", "2", registrar.Ringless, may))
		desk.Behave(phone.Behaviour{Reject: 486})
		if _, err := r.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: "2"}); err == nil {
			t.Fatal("486 was taken for an answer")
		}
		ringing, err := desk.Ringing(3 * time.Second)
		must(t, err)
		if asked := ringing.Invite().Get("Answer-Mode") != ""; asked != (may == "") {
			t.Errorf("ringless %q: asked to answer by itself: %v", may, asked)
		}
	}
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
}
