package call_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/test/phone"
)

// several is alice with two phones and one that only dials, in a call with bob (from her desk phone) and a newer one with
// carol (from her mobile).
type several struct {
	*rig
	desk, mobile, tablet *phone.Phone
	dave                 *phone.Phone
	one, two             *phone.Call // alice's ends
	bob, carol           *phone.Call
}

func newSeveral(t *testing.T) *several { return newSeveralThat(t, time.Second) }

// newSeveralThat has phones that are silent for so long asked whether they are there: a call whose phone is known to be gone
// without that ends then.
func newSeveralThat(t *testing.T, vanished time.Duration, mobile ...func(*rig, *phone.Config)) *several {
	t.Helper()
	r := newRig(t, func(c *config.Config) { c.Call.Announce, c.Call.Vanished = false, vanished })
	for name, number := range map[string]string{"alice": "101", "bob": "102", "carol": "103", "dave": "104"} {
		r.user(name, number)
	}
	s := &several{rig: r, desk: r.phone("alice", 1), dave: r.phone("dave", 1)}
	s.mobile = r.phone("alice", 2, func(c *phone.Config) {
		for _, f := range mobile {
			f(r, c)
		}
	})
	s.tablet = r.phoneThatRingsNot("alice", 3)
	s.one, s.bob = r.connect(s.desk, r.phone("bob", 1))
	s.two, s.carol = r.connect(s.mobile, r.phone("carol", 1))
	return s
}

// brings checks with whom a phone of alice's talks when it has dialled.
func (s *several) brings(p *phone.Phone, to string, far *phone.Call) *phone.Call {
	s.t.Helper()
	c := mustDial(s.t, p, to)
	must(s.t, c.Await(3*time.Second))
	if !c.Hears(far, 3*time.Second) || !far.Hears(c, 3*time.Second) {
		s.t.Fatalf("%s has brought another call than that with %s", to, far.Phone().Config().User)
	}
	return c
}

// over hangs up what is left.
func (s *several) over(calls ...*phone.Call) {
	s.t.Helper()
	for _, c := range append(calls, s.bob, s.carol) {
		if err := c.Hangup(); err != nil {
			s.t.Logf("hang up: %v", err)
		}
	}
	s.nothingLeft()
}

// tcp has a phone use a connection, so that its end is seen at once.
func tcp(r *rig, c *phone.Config) { c.Transport, c.Server = "tcp", r.tcp }

// TestNewestTalkingIsMeant: of two talking calls the newer one, also for the command; by number the one that the list has there.
func TestNewestTalkingIsMeant(t *testing.T) {
	t.Parallel()
	s := newSeveral(t)
	if calls := s.b.Calls("alice"); len(calls) != 2 || calls[0].Seats[1].User != "bob" || calls[1].Seats[1].User != "carol" {
		t.Fatalf("the list is %+v", calls)
	}
	c := s.brings(s.tablet, "*40", s.carol)
	must(t, s.two.AwaitEnd(3*time.Second))
	s.refused(mustDial(t, s.mobile, "*403"), 404)
	s.brings(s.mobile, "*402", s.carol)
	must(t, c.AwaitEnd(3*time.Second))
	s.brings(s.mobile, "*401", s.bob)
	s.desk.Behave(phone.AutoAnswer)
	rep, err := s.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: "1", Who: "test", How: "cli"})
	if calls := s.b.Calls("alice"); err != nil || rep.Call != calls[1].ID {
		t.Errorf("the command has moved %+v, %v", rep, err)
	}
	s.over()
}

// TestHeldCallComesSecond: a talking call before a held one, and of held ones that which was put on hold last; the push code
// dialled as a second call means that one too.
func TestHeldCallComesSecond(t *testing.T) {
	t.Parallel()
	t.Run("talking first", func(t *testing.T) {
		t.Parallel()
		s := newSeveral(t)
		must(t, s.two.Hold(phone.HoldSendonly))
		s.brings(s.tablet, "101", s.bob)
		s.over()
	})
	t.Run("held last", func(t *testing.T) {
		t.Parallel()
		s := newSeveral(t)
		must(t, s.two.Hold(phone.HoldSendonly))
		must(t, s.one.Hold(phone.HoldSendonly))
		s.brings(s.tablet, "*40", s.bob)
		s.over()
	})
	t.Run("push of what this device holds", func(t *testing.T) {
		t.Parallel()
		s := newSeveral(t) // the mobile talks
		must(t, s.one.Hold(phone.HoldSendonly))
		s.mobile.Behave(phone.AutoAnswer)
		must(t, mustDial(t, s.desk, "*41").Await(3*time.Second))
		must(t, s.one.AwaitEnd(5*time.Second))
		if s.two.State() != phone.Up {
			t.Error("the other call has moved")
		}
		s.over()
	})
	t.Run("push", func(t *testing.T) {
		t.Parallel()
		s := newSeveral(t)
		c := s.brings(s.desk, "*40", s.carol) // both on the desk phone
		must(t, c.Hold(phone.HoldSendonly))
		must(t, s.one.Hold(phone.HoldSendonly))
		s.mobile.Behave(phone.AutoAnswer)
		must(t, mustDial(t, s.desk, "*41").Await(3*time.Second))
		must(t, s.one.AwaitEnd(5*time.Second))
		if c.State() != phone.Up {
			t.Error("the other call has moved")
		}
		s.over()
	})
}

// TestRingingCallComesThird: a call that rings is taken by its number while a held one is there, and by the rule when none is.
func TestRingingCallComesThird(t *testing.T) {
	t.Parallel()
	s := newSeveral(t)
	must(t, s.two.Hold(phone.HoldSendonly))
	must(t, s.one.Hold(phone.HoldSendonly))
	waits := mustDial(t, s.dave, "101")
	s.rings(s.desk)
	c := s.brings(s.tablet, "*403", waits)
	must(t, c.Hangup())
	must(t, waits.AwaitEnd(3*time.Second))
	waits = mustDial(t, s.dave, "101")
	s.rings(s.desk)
	c = s.brings(s.tablet, "*40", s.bob)
	must(t, s.carol.Hangup())
	must(t, s.bob.Hangup())
	must(t, c.AwaitEnd(3*time.Second))
	s.eventually("the live calls are over", 3*time.Second, func() bool { return len(s.b.Calls("alice")) == 1 })
	c = s.brings(s.tablet, "*40", waits)
	s.over(c)
}

// TestNoCallIsMeant: none, or one that the other side has not answered yet, by the code and by the command.
func TestNoCallIsMeant(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick)
	r.user("alice", "101")
	r.user("bob", "102")
	alice, bob := r.phone("alice", 1), r.phone("bob", 1)
	desk := r.phoneThatRingsNot("alice", 2)
	if m := r.refused(mustDial(t, desk, "*40"), 404); !strings.Contains(m.Get("Warning"), "no live call of alice") {
		t.Errorf("%s", m.Get("Warning"))
	}
	out := mustDial(t, alice, "102")
	in := r.rings(bob)
	for _, to := range []string{"*40", "101", "*401"} {
		if m := r.refused(mustDial(t, desk, to), 480); !strings.Contains(m.Get("Warning"), "the call with bob is not answered yet") {
			t.Errorf("%s: %s", to, m.Get("Warning"))
		}
	}
	for _, m := range []call.MoveRequest{{User: "alice", Device: "1"}, {Call: r.b.Calls("")[0].ID, Seat: "alice", Device: "1"}} {
		var refused *call.Refusal
		if _, err := r.b.Move(t.Context(), m); !errors.As(err, &refused) || refused.Code != 480 || !strings.Contains(refused.Why, "not answered yet") {
			t.Errorf("the command: %v", err)
		}
	}
	must(t, in.Answer())
	r.talk(out, in)
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestCallLeftBehindComesLast: the newest call's device is gone. It is behind a talking, a held and a ringing one, can be named
// by its number, and is taken when it is the only one.
func TestCallLeftBehindComesLast(t *testing.T) {
	t.Parallel()
	gone := map[string]func(*several) *phone.Phone{
		"its connection is closed": func(s *several) *phone.Phone {
			s.mobile.Vanish()
			return s.tablet
		},
		"it is silent and does not answer": func(s *several) *phone.Phone {
			s.mobile.Vanish()
			return s.tablet
		},
		"it was started anew and is silent again": func(s *several) *phone.Phone {
			s.mobile.Vanish()
			again := s.phone("alice", 2)
			again.Vanish()
			s.eventually("its leg is sought there", 9*time.Second, func() bool {
				return strings.HasSuffix(again.Contact(), "@"+strings.TrimPrefix(s.b.Calls("alice")[1].Seats[0].Legs[0].Remote, "udp:"))
			})
			return s.tablet
		},
		"it was started anew": func(s *several) *phone.Phone {
			s.mobile.Vanish()
			return s.phone("alice", 2) // the same device from another port
		},
	}
	for how, vanish := range gone {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			var tune []func(*rig, *phone.Config)
			if strings.Contains(how, "connection") {
				tune = append(tune, tcp)
			}
			vanished := 20 * time.Second
			if strings.Contains(how, "does not answer") {
				vanished = time.Second
			}
			s := newSeveralThat(t, vanished, tune...)
			left := s.b.Calls("alice")[1].ID
			asks := vanish(s)
			s.eventually("the call counts as left behind", 9*time.Second, func() bool { return s.b.LeftBehind(left, "alice") })
			c := s.brings(asks, "*40", s.bob)
			must(t, c.Hold(phone.HoldSendonly))
			s.brings(s.desk, "*40", s.bob)
			waits := mustDial(t, s.dave, "101")
			s.rings(s.desk)
			must(t, s.bob.Hangup())
			s.eventually("bob's call is over", 3*time.Second, func() bool { return len(s.b.Calls("alice")) == 2 })
			c = s.brings(asks, "*40", waits)
			s.brings(s.desk, "*401", s.carol)
			s.over(c)
		})
	}
	t.Run("it is the only one", func(t *testing.T) {
		t.Parallel()
		s := newSeveralThat(t, 20*time.Second)
		left := s.b.Calls("alice")[1].ID
		must(t, s.bob.Hangup())
		s.mobile.Vanish()
		again := s.phone("alice", 2)
		s.eventually("the call counts as left behind", 9*time.Second, func() bool { return s.b.LeftBehind(left, "alice") })
		s.brings(again, "*40", s.carol) // the device that it was on is not told that it has the call already
		s.over()
	})
	t.Run("a muted phone that answers is there", func(t *testing.T) {
		t.Parallel()
		s := newSeveral(t)
		s.two.Media().Mute(true)
		since := time.Now()
		id := s.b.Calls("alice")[1].ID
		s.eventually("it was asked three times", 20*time.Second, func() bool {
			if s.b.LeftBehind(id, "alice") {
				t.Fatal("its call counts as left behind")
			}
			return asked(s.two, "OPTIONS", since) > 2
		})
		s.brings(s.tablet, "*40", s.carol)
		s.over()
	})
}

// TestHeldByTheFarSide: who pulls a call that the other has put on hold hears the hold tone, and the other when he is back.
func TestHeldByTheFarSide(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	out, in := r.connect(alice, bob)
	must(t, in.Hold(phone.HoldSendonly))
	c := mustDial(t, r.phoneThatRingsNot("alice", 2), "*40")
	must(t, c.Await(3*time.Second))
	must(t, out.AwaitEnd(3*time.Second))
	if !c.HearsTone(3 * time.Second) {
		t.Error("the new device hears no tone")
	}
	must(t, in.Resume())
	if !c.Hears(in, 3*time.Second) || !in.Hears(c, 3*time.Second) {
		t.Error("they do not hear each other")
	}
	must(t, in.Hangup())
	r.nothingLeft()
}

// TestJustTransferred: while a transfer rings the seat can be moved by nobody; then it is its new user's, at once.
func TestJustTransferred(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick)
	for name, number := range map[string]string{"alice": "101", "bob": "102", "carol": "103"} {
		r.user(name, number)
	}
	alice, carol := r.phone("alice", 1), r.phone("carol", 1)
	tablet, mobile := r.phoneThatRingsNot("alice", 2), r.phoneThatRingsNot("carol", 2)
	out, in := r.connect(alice, r.phone("bob", 1))
	ref, err := out.Refer("103")
	must(t, err)
	ringing := r.rings(carol)
	for _, o := range []phone.DialOptions{{}, replacing(out.Replaces())} {
		if m := r.refused(mustDial(t, tablet, "*40", o), 491); !strings.Contains(m.Get("Warning"), "a move of this seat is in progress") {
			t.Errorf("%s", m.Get("Warning"))
		}
	}
	must(t, ringing.Answer())
	if code, err := ref.Wait(3 * time.Second); err != nil || code != 200 {
		t.Errorf("the transfer: %d, %v", code, err)
	}
	c := mustDial(t, mobile, "*40")
	must(t, c.Await(3*time.Second))
	if !c.Hears(in, 3*time.Second) || !in.Hears(c, 3*time.Second) {
		t.Error("carol's other device does not have the call")
	}
	r.refused(mustDial(t, tablet, "*40"), 404)
	must(t, in.Hangup())
	r.nothingLeft()
}
