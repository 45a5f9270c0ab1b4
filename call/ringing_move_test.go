package call_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/journal"
	"baton/registrar"
	"baton/test/phone"
)

// outcome is what became of a move that was asked for by command.
type outcome struct {
	report call.MoveReport
	err    error
}

// send has bob's ringing call go to one of his devices, by command.
func (r *rig) send(ctx context.Context, device string) <-chan outcome {
	told := make(chan outcome, 1)
	go func() {
		rep, err := r.b.Move(ctx, call.MoveRequest{User: "bob", Device: device, How: "cli", Who: "test"})
		told <- outcome{rep, err}
	}()
	return told
}

// failed checks why a move has failed.
func (r *rig) failed(told <-chan outcome, code int, words string) {
	r.t.Helper()
	select {
	case o := <-told:
		var refused *call.Refusal
		if !errors.As(o.err, &refused) || refused.Code != code || !strings.Contains(refused.Why, words) {
			r.t.Errorf("the move: %+v, %v", o.report, o.err)
		}
	case <-time.After(9 * time.Second):
		r.t.Error("nothing is told of the move")
	}
}

// done checks that a move has ended well.
func (r *rig) done(told <-chan outcome, device string) {
	r.t.Helper()
	select {
	case o := <-told:
		if o.err != nil || o.report.To != device || o.report.From != "" || o.report.User != "bob" || o.report.Call == "" {
			r.t.Errorf("the move: %+v, %v", o.report, o.err)
		}
	case <-time.After(9 * time.Second):
		r.t.Error("nothing is told of the move")
	}
}

// asksRingless says whether an INVITE asks for an answer without a hand.
func asksRingless(m *phone.Message) bool {
	return strings.Contains(m.Get("Call-Info"), "answer-after=0") && m.Get("Alert-Info") != "" && m.Get("Answer-Mode") == "Auto"
}

// TestRingingCallIsSentToADevice: the call rings at two phones of bob's; the one that is named answers by itself, and the
// other is told that the call was completed elsewhere.
func TestRingingCallIsSentToADevice(t *testing.T) {
	t.Parallel()
	t.Run("called anew", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t)
		g.bobs.Behave(phone.Behaviour{Ringless: true}) // rings: the call is not for this device alone
		out, first, second := g.ring()
		told := g.send(t.Context(), "2")
		again, err := g.bobs.Ringing(3 * time.Second)
		must(t, err)
		g.elsewhere(second)
		if !asksRingless(again.Invite()) || asksRingless(second.Invite()) || asksRingless(first.Invite()) {
			t.Errorf("the device was asked by\n%s", again.Invite().Bytes())
		}
		g.talk(out, again)
		g.done(told, "phoneb")
		g.elsewhere(first)
		calls := g.b.Calls("bob")
		if len(calls) != 1 || len(calls[0].Moves) != 1 || calls[0].Moves[0].How != "cli" || calls[0].Moves[0].To != "phoneb" || calls[0].Moves[0].Error != "" {
			t.Errorf("the call's moves are %+v", calls)
		}
		must(t, out.Hangup())
		g.nothingLeft()
		if e := g.entries(journal.CallMoved); len(e) != 1 || e[0].User != "bob" || e[0].Device != "phoneb" || e[0].Peer != "alice" || e[0].Text != "cli" {
			t.Errorf("the log says %+v", e)
		}
	})
	t.Run("by NOTIFY talk", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t)
		g.bobs.Behave(phone.Behaviour{Talk: true})
		out, first, second := g.ring()
		if n := len(methods(g.bobs.Received(time.Time{}), "NOTIFY")); n != 0 {
			t.Errorf("%d NOTIFYs before anybody asked", n)
		}
		told := g.send(t.Context(), "2")
		g.talk(out, second)
		g.done(told, "phoneb")
		g.elsewhere(first)
		if n := len(methods(g.bobs.Received(time.Time{}), "INVITE")); n != 1 {
			t.Errorf("the phone was called %d times", n)
		}
		must(t, out.Hangup())
		g.nothingLeft()
	})
	t.Run("one that does not ring", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t)
		g.bobs.Behave(phone.Behaviour{Ringless: true})
		out := mustDial(t, g.alice, "102*1")
		first := g.rings(g.bob)
		told := g.send(t.Context(), "2")
		second, err := g.bobs.Ringing(3 * time.Second)
		must(t, err)
		g.talk(out, second)
		g.done(told, "phoneb")
		g.elsewhere(first)
		must(t, out.Hangup())
		g.nothingLeft()
	})
	t.Run("answered by hand", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t)
		out, first, _ := g.ring()
		told := g.send(t.Context(), "2")
		again := g.rings(g.bobs)
		if first.State() != phone.Alerting {
			t.Error("the other phone has stopped ringing")
		}
		must(t, again.Answer())
		g.talk(out, again)
		g.done(told, "phoneb")
		g.elsewhere(first)
		must(t, out.Hangup())
		g.nothingLeft()
	})
	t.Run("set to ring always", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t)
		must(t, g.reg.Set("bob", "2", registrar.Ringless, "off"))
		g.bobs.Behave(phone.Behaviour{Ringless: true, Talk: true})
		out, first, second := g.ring()
		told := g.send(t.Context(), "2")
		time.Sleep(200 * time.Millisecond)
		if second.State() != phone.Alerting || len(methods(g.bobs.Received(time.Time{}), "NOTIFY")) != 0 {
			t.Fatal("it was asked to answer by itself")
		}
		must(t, second.Answer())
		g.talk(out, second)
		g.done(told, "phoneb")
		g.elsewhere(first)
		must(t, out.Hangup())
		g.nothingLeft()
	})
	t.Run("a transfer that rings", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t)
		g.bobs.Behave(phone.Behaviour{Ringless: true})
		out, in := g.connect(g.alice, g.eve)
		_, err := out.Refer("102")
		must(t, err)
		first, second := g.rings(g.bob), g.rings(g.bobs)
		told := g.send(t.Context(), "2")
		again, err := g.bobs.Ringing(3 * time.Second)
		must(t, err)
		g.talk(in, again)
		g.done(told, "phoneb")
		g.elsewhere(first, second)
		must(t, in.Hangup())
		g.nothingLeft()
	})
}

// TestRingingCallIsNotTaken has all that can come in between: the others ring on, and the command is told.
func TestRingingCallIsNotTaken(t *testing.T) {
	t.Parallel()
	for code := range map[int]bool{486: true, 603: true, 488: true} {
		t.Run("refused", func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, quick)
			out, first, _ := g.ring()
			g.bobs.Behave(phone.Behaviour{Reject: code})
			g.failed(g.send(t.Context(), "2"), code, "phoneb")
			if first.State() != phone.Alerting {
				t.Fatalf("after %d the other phone is %s", code, first.State())
			}
			must(t, first.Answer())
			g.talk(out, first)
			must(t, out.Hangup())
			g.nothingLeft()
			if e := g.entries(journal.CallMoveFailed); len(e) != 1 || e[0].User != "bob" || e[0].Device != "phoneb" || e[0].Data["how"] != "cli" || e[0].Data["code"] != fmt.Sprint(code) {
				t.Errorf("the log says %+v", e)
			}
		})
	}
	t.Run("refused, and nobody else rings", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t, quick)
		out := mustDial(t, g.alice, "102*2")
		g.rings(g.bobs)
		g.bobs.Behave(phone.Behaviour{Reject: 486})
		g.failed(g.send(t.Context(), "2"), 486, "phoneb")
		g.refused(out, 486)
		g.nothingLeft()
	})
	t.Run("all others refuse while it is being called anew", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t, quick, func(c *config.Config) { c.Call.Ring = 30 * time.Second })
		g.bobs.Behave(phone.Behaviour{Silent: true}) // its INVITE cannot be cancelled before it has said something
		out := mustDial(t, g.alice, "102")
		first := g.rings(g.bob)
		told := g.send(t.Context(), "2")
		must(t, first.Reject(486))
		time.Sleep(500 * time.Millisecond)
		if out.State() != phone.Calling {
			t.Fatalf("the caller's call is %s", out.State())
		}
		g.bobs.Behave(phone.AutoAnswer)
		must(t, out.Await(12*time.Second))
		g.done(told, "phoneb")
		must(t, out.Hangup())
		g.nothingLeft()
	})
	t.Run("another device answers", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t, quick)
		out, first, _ := g.ring()
		told := g.send(t.Context(), "2")
		again := g.rings(g.bobs)
		must(t, first.Answer())
		g.failed(told, 480, "another device has taken the call")
		g.talk(out, first)
		g.elsewhere(again)
		must(t, out.Hangup())
		g.nothingLeft()
	})
	t.Run("the caller gives up", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t, quick)
		out, first, _ := g.ring()
		told := g.send(t.Context(), "2")
		again := g.rings(g.bobs)
		must(t, out.Cancel())
		g.failed(told, 487, "rings no more")
		must(t, again.AwaitEnd(3*time.Second))
		must(t, first.AwaitEnd(3*time.Second))
		g.nothingLeft()
	})
	t.Run("no answer", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t, quick)
		out, _, _ := g.ring()
		g.failed(g.send(t.Context(), "2"), 480, "no answer")
		g.refused(out, 480)
		g.nothingLeft()
	})
	t.Run("a colleague picks it up", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t, quick)
		out, first, _ := g.ring()
		told := g.send(t.Context(), "2")
		again := g.rings(g.bobs)
		picked := mustDial(t, g.carol, "*8")
		g.failed(told, 480, "another device has taken the call")
		g.talk(out, picked)
		g.elsewhere(first, again)
		must(t, out.Hangup())
		g.nothingLeft()
	})
	t.Run("taken back", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t, quick)
		out := mustDial(t, g.alice, "102*1")
		first := g.rings(g.bob)
		ctx, cancel := context.WithCancel(t.Context())
		told := g.send(ctx, "2")
		second := g.rings(g.bobs)
		cancel()
		if o := <-told; !errors.Is(o.err, context.Canceled) {
			t.Errorf("%v", o.err)
		}
		must(t, second.AwaitEnd(3*time.Second))
		must(t, first.Answer())
		g.talk(out, first)
		must(t, out.Hangup())
		g.nothingLeft()
	})
	t.Run("asked twice, away, the caller's own, unknown", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t, quick)
		g.phoneThatRingsNot("bob", 3)
		out := mustDial(t, g.bob, "102*2") // bob calls his own device
		second := g.rings(g.bobs)
		told := g.send(t.Context(), "2")
		again := g.rings(g.bobs)
		g.failed(g.send(t.Context(), "2"), 491, "is being asked already")
		g.failed(g.send(t.Context(), "3"), 480, "is away")
		g.failed(g.send(t.Context(), "1"), 480, "is the device that calls")
		if _, err := g.b.Move(t.Context(), call.MoveRequest{User: "bob", Device: "9"}); !errors.Is(err, registrar.ErrNotFound) {
			t.Errorf("%v", err)
		}
		must(t, again.Answer())
		g.done(told, "phoneb")
		g.talk(out, again)
		must(t, out.Hangup())
		g.elsewhere(second)
		g.nothingLeft()
	})
}
