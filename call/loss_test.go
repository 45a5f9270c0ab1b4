package call_test

import (
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

// torn is a call whose one device can be lost.
type torn struct {
	*rig
	alice, desk, bob *phone.Phone // alice's first phone is not desk
	out, in          *phone.Call
}

// newTorn has alice's mobile call bob, whose phone can be told names; of kind is how the mobile is connected, an index of kinds.
func newTorn(t *testing.T, kind int, tune func(*config.Config)) *torn {
	t.Helper()
	c := &torn{rig: newRig(t, func(c *config.Config) {
		if kinds[kind].transport == "tls" {
			listensTLS(c)
		}
		noticed(c)
		if tune != nil {
			tune(c)
		}
	})}
	c.user("alice", "101")
	c.user("bob", "102")
	c.alice, c.desk, c.bob = c.phone("alice", 1, c.ofKind(kind)), c.phone("alice", 2), c.phone("bob", 1, updates)
	t.Cleanup(c.alice.Vanish) // one that is deaf would hang up in vain
	c.out, c.in = c.connect(c.alice, c.bob)
	time.Sleep(1200 * time.Millisecond) // until its sound has gone on for a second
	return c
}

// noticed has a device that is cut off be missed in seconds, also one whose sound a busy machine has made pauses in: what pauses is not missed at once
// (media/silence.go).
func noticed(c *config.Config) { c.Call.Vanished = 5 * time.Second }

// lost waits until the node knows, and bob hears and sees it.
func (c *torn) lost() {
	c.t.Helper()
	c.eventually("alice is lost", 10*time.Second, func() bool {
		all := c.b.Calls("alice")
		return len(all) == 1 && all[0].Seats[0].Empty && all[0].Seats[0].Lost && !all[0].Seats[1].Empty
	})
	if !c.in.HearsTone(3 * time.Second) {
		c.t.Error("bob hears nothing while he waits")
	}
	c.shown(`"alice (reconnecting)"`)
}

// shown waits until the last that bob's phone was told of the other side's name is this.
func (c *torn) shown(name string) {
	c.t.Helper()
	c.eventually("bob is shown "+name, 3*time.Second, func() bool {
		all := requestsTo(c.bob, "UPDATE")
		return len(all) > 0 && strings.Contains(all[len(all)-1].Get("P-Asserted-Identity"), name)
	})
}

// again checks that they talk, that bob has heard one stream from the beginning on, and that the log says what was.
func (c *torn) again(back *phone.Call) {
	c.t.Helper()
	must(c.t, back.Await(5*time.Second))
	if !back.Hears(c.in, 5*time.Second) || !c.in.Hears(back, 5*time.Second) {
		c.t.Fatal("they do not hear each other")
	}
	c.shown(`"alice"`)
	c.eventually("nothing of the lost device is left", 12*time.Second, func() bool { return len(c.b.LegsOf("alice")) == 2 })
	rep := phone.Analyse(c.in.Media().Heard(), 8000)
	if len(rep.SSRCs) != 1 || rep.Missing != 0 || rep.Reordered != 0 || rep.Duplicates != 0 {
		c.t.Errorf("bob heard %v", rep)
	}
	if n, k := len(c.entries(journal.CallLost)), len(c.entries(journal.CallRejoined)); n != 1 || k != 1 {
		c.t.Errorf("in the log it is lost %d times and back %d times", n, k)
	}
	must(c.t, back.Hangup())
	must(c.t, c.in.AwaitEnd(3*time.Second))
	c.nothingLeft()
}

// reboot starts alice's mobile anew: it knows nothing of its call.
func (c *torn) reboot() {
	c.alice = c.phone("alice", 1)
}

// ways to come back to a call that was lost: each gives the call that alice has then.
var waysBack = []struct {
	name string
	back func(c *torn) *phone.Call
}{
	{"pull on another device", func(c *torn) *phone.Call { return mustDial(c.t, c.desk, "*40") }},
	{"own number", func(c *torn) *phone.Call { return mustDial(c.t, c.desk, "101") }},
	{"calls the same person", func(c *torn) *phone.Call { return mustDial(c.t, c.desk, "102") }},
	{"rebooted, calls the same person", func(c *torn) *phone.Call {
		c.reboot()
		return mustDial(c.t, c.alice, "102")
	}},
	{"move to another device", func(c *torn) *phone.Call { return c.fetched(c.desk, "2") }},
	{"rejoin, whichever answers", func(c *torn) *phone.Call {
		done := make(chan error, 1)
		go func() {
			r, err := c.b.Rejoin(c.t.Context(), call.MoveRequest{Call: c.b.Calls("alice")[0].ID, How: "cli", Who: "test"})
			if err == nil && (r.SwitchMS <= 0 || r.AnswerToMedia <= 0) {
				c.t.Errorf("the figures are %+v", r)
			}
			done <- err
		}()
		got, err := c.desk.Ringing(3 * time.Second)
		must(c.t, err)
		must(c.t, got.Answer())
		c.moved(done)
		return got
	}},
	{"the one who waits calls", func(c *torn) *phone.Call { return c.calledBack(c.bob) }},
	{"the one who waits calls from another device", func(c *torn) *phone.Call { return c.calledBack(c.phone("bob", 2, updates)) }},
}

// calledBack has bob dial alice: her devices ring, his new leg has the call, and hears that they ring.
func (c *torn) calledBack(from *phone.Phone) *phone.Call {
	c.t.Helper()
	again := mustDial(c.t, from, "101")
	must(c.t, again.Await(3*time.Second))
	rings, err := c.desk.Ringing(3 * time.Second)
	must(c.t, err)
	if rings.Invite().Get("From"); !strings.Contains(rings.Invite().Get("From"), "bob") {
		c.t.Errorf("alice is shown %q", rings.Invite().Get("From"))
	}
	must(c.t, c.in.AwaitEnd(3*time.Second))
	if !again.HearsTone(3 * time.Second) {
		c.t.Error("bob hears nothing while alice's phone rings")
	}
	must(c.t, rings.Answer())
	c.in, c.bob = again, from
	return rings
}

// TestLost loses each kind of device in mid-call, without a word, and comes back in each way: on one unbroken stream of the other side's.
func TestLost(t *testing.T) {
	t.Parallel()
	for kind := range kinds {
		for i, w := range waysBack {
			if kind > 0 && i != 0 && i != 2 && i != 2+kind*2 {
				continue // every way of each, and not all pairs
			}
			t.Run(kinds[kind].name+", "+w.name, func(t *testing.T) {
				t.Parallel()
				c := newTorn(t, kind, nil)
				at := time.Now()
				c.alice.Vanish()
				c.lost()
				t.Logf("known %v after the last packet", c.entries(journal.CallLost)[0].Time.Sub(at).Round(time.Millisecond))
				back := w.back(c)
				c.again(back)
			})
		}
	}
}

// TestLostByItself: a device that was cut off comes back by itself with its dialog: when it speaks, when it registers from elsewhere, when it
// says something in its dialog.
func TestLostByItself(t *testing.T) {
	t.Parallel()
	for _, w := range []struct {
		name string
		back func(c *torn)
	}{
		{"sound", func(c *torn) {
			c.out.Media().Mute(false)
			c.eventually("she is back", 3*time.Second, func() bool { return !c.b.Calls("alice")[0].Seats[0].Empty })
			c.alice.Unplug(false)
		}},
		{"answer", func(c *torn) {
			c.alice.Unplug(false)
			c.out.Media().Mute(true)
			c.eventually("she is back", 10*time.Second, func() bool { return !c.b.Calls("alice")[0].Seats[0].Empty })
			c.out.Media().Mute(false)
		}},
		{"request", func(c *torn) {
			c.alice.Unplug(false)
			c.out.Media().Mute(true)
			must(c.t, c.out.Reoffer([]phone.Codec{phone.PCMU, phone.PCMA}))
			c.eventually("she is back", time.Second, func() bool { return !c.b.Calls("alice")[0].Seats[0].Empty })
			c.out.Media().Mute(false)
		}},
		{"registers from another address", func(c *torn) {
			c.alice.Unplug(false)
			c.out.Media().Mute(true)
			must(c.t, c.alice.Relocate(phone.Relocation{}))
			must(c.t, second(c.alice.Register(time.Minute)))
			c.eventually("she is back", 3*time.Second, func() bool { return !c.b.Calls("alice")[0].Seats[0].Empty })
			c.out.Media().Mute(false)
		}},
	} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			c := newTorn(t, 0, nil)
			c.alice.Unplug(true)
			c.lost()
			w.back(c)
			c.again(c.out)
			for _, m := range c.alice.Received(c.out.Times().Answered) {
				if m.Method == "BYE" {
					t.Error("the device that came back was hung up before")
				}
			}
		})
	}
}

// TestNotLost: mute, hold, comfort noise and a connection that breaks are no loss, and nobody is asked for ever.
func TestNotLost(t *testing.T) {
	t.Parallel()
	for _, w := range []struct {
		name string
		kind int
		do   func(c *torn)
		asks int // at most, in three seconds
	}{
		{"mute that sends nothing", 0, func(c *torn) { c.out.Media().Mute(true) }, 1},
		{"hold", 0, func(c *torn) { must(c.t, c.out.Hold(phone.HoldSendonly)); c.out.Media().Mute(true) }, 0},
		{"hold, inactive", 0, func(c *torn) { must(c.t, c.out.Hold(phone.HoldInactive)) }, 0},
		{"its connection breaks", 1, func(c *torn) { c.alice.Disconnect() }, 0},
	} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			c := newTorn(t, w.kind, nil)
			began := time.Now()
			w.do(c)
			time.Sleep(3 * time.Second)
			if s := c.b.Calls("alice")[0].Seats[0]; s.Empty || s.Lost || len(c.entries(journal.CallLost)) > 0 {
				t.Fatalf("alice is lost: %+v", s)
			}
			if n := len(methods(c.alice.Received(began), "OPTIONS")); n > w.asks {
				t.Errorf("she was asked %d times", n)
			}
			must(t, c.in.Hangup())
			c.nothingLeft()
		})
	}
	t.Run("comfort noise", func(t *testing.T) {
		t.Parallel()
		c := newTorn(t, 0, nil)
		stop := make(chan struct{})
		done := make(chan struct{})
		go func() { // half a second of speech, half a second of nothing, deaf to questions
			defer close(done)
			for on := true; ; on = !on {
				c.out.Media().Mute(on)
				select {
				case <-stop:
					return
				case <-time.After(500 * time.Millisecond):
				}
			}
		}()
		time.Sleep(1500 * time.Millisecond)
		c.alice.Unplug(true)
		time.Sleep(3 * time.Second)
		close(stop)
		<-done
		if n := len(c.entries(journal.CallLost)); n > 0 {
			t.Error("a phone that pauses was taken for lost")
		}
		c.alice.Unplug(false)
		must(t, c.in.Hangup())
		c.nothingLeft()
	})
}

// TestDeniesTheDialog: a phone that says 481 to all but INVITE in its dialog, and sends only while somebody speaks, is neither lost nor hung up
// in its pauses.
func TestDeniesTheDialog(t *testing.T) {
	t.Parallel()
	c := newTorn(t, 0, func(c *config.Config) { c.Call.Vanished = 4 * time.Second })
	c.alice.Behave(phone.Behaviour{Options: 481})
	c.out.Media().Mute(true)
	time.Sleep(6 * time.Second) // short and long
	if len(requestsTo(c.alice, "OPTIONS")) == 0 || len(requestsTo(c.alice, "INVITE")) == 0 {
		t.Error("she was not asked")
	}
	c.out.Media().Mute(false)
	if !c.out.Hears(c.in, 3*time.Second) || !c.in.Hears(c.out, 3*time.Second) {
		t.Error("they do not hear each other")
	}
	if n := len(c.entries(journal.CallLost)); n > 0 {
		t.Errorf("she was taken for lost %d times", n)
	}
	must(t, c.in.Hangup())
	c.nothingLeft()
}

// TestLeavesQuestionsUnanswered: a phone that answers no OPTIONS in a dialog and sends only while somebody speaks is taken for lost in its first
// long pause, and learnt to be such a one when it talks on: from then on, and in its next call, its pauses are no loss. One whose network was
// gone answers when it is asked again.
func TestLeavesQuestionsUnanswered(t *testing.T) {
	t.Parallel()
	for _, deaf := range []bool{true, false} {
		t.Run(fmt.Sprint(deaf), func(t *testing.T) {
			t.Parallel()
			c := newTorn(t, 0, func(c *config.Config) { c.Call.Vanished = 6 * time.Second })
			lost := func() int { return len(c.entries(journal.CallLost)) }
			if deaf {
				c.alice.Behave(phone.Behaviour{Options: -1})
			}
			gone := func(long time.Duration) {
				c.alice.Unplug(!deaf)
				c.out.Media().Mute(true)
				time.Sleep(long)
				c.alice.Unplug(false)
				c.out.Media().Mute(false)
			}
			gone(3 * time.Second)
			c.eventually("she is back", 5*time.Second, func() bool { return len(c.entries(journal.CallRejoined)) == 1 })
			time.Sleep(6 * time.Second) // it is asked again while it talks, after what was asked before is over
			gone(3 * time.Second)
			want := 2
			if deaf {
				want = 1
			}
			if n := lost(); n != want {
				t.Errorf("lost %d times, want %d", n, want)
			}
			time.Sleep(time.Second)
			if !c.out.Hears(c.in, 3*time.Second) || !c.in.Hears(c.out, 3*time.Second) {
				t.Error("they do not hear each other")
			}
			must(t, c.in.Hangup())
			c.nothingLeft()
			if !deaf {
				return
			}
			began := time.Now()
			c.out, c.in = c.connect(c.alice, c.bob)
			time.Sleep(1200 * time.Millisecond)
			gone(3 * time.Second)
			if n := lost(); n != want {
				t.Errorf("lost %d times, want %d", n, want)
			}
			if n := len(methods(c.alice.Received(began), "OPTIONS")); n > 0 {
				t.Errorf("she was asked %d times in her next call", n)
			}
			c.alice.Behave(phone.Behaviour{Options: -1, Refuse: 481})
			c.out.Media().Mute(true)
			c.eventually("she is lost when she is gone", 20*time.Second, func() bool { return lost() == want+1 })
			must(t, c.in.Hangup())
			c.nothingLeft()
		})
	}
}

// TestRebooted: a device that was started anew does not know its call. The seat stays empty, and waits; where its user wants it to be rung
// for, it rings.
func TestRebooted(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"", registrar.RingOnLoss} {
		t.Run("on_loss "+policy, func(t *testing.T) {
			t.Parallel()
			c := newTorn(t, 0, nil)
			c.set("alice", func(s *registrar.Settings) { s.OnLoss = policy })
			c.alice.Vanish()
			c.lost()
			if policy != "" {
				if _, err := c.desk.Ringing(3 * time.Second); err != nil {
					t.Error("her other device does not ring")
				}
			}
			c.reboot()
			rings, err := c.alice.Ringing(3 * time.Second)
			if policy == "" {
				if err == nil {
					t.Fatal("it rings, and nobody has asked for that")
				}
				c.lost()
				c.again(mustDial(t, c.alice, "*40"))
				return
			}
			must(t, err)
			must(t, rings.Answer())
			c.again(rings)
		})
	}
}

// TestRingOnLoss: the other devices ring at once, and ring no more when the one that was lost is back.
func TestRingOnLoss(t *testing.T) {
	t.Parallel()
	c := newTorn(t, 0, nil)
	c.set("alice", func(s *registrar.Settings) { s.OnLoss = registrar.RingOnLoss })
	c.alice.Unplug(true)
	rings, err := c.desk.Ringing(5 * time.Second)
	must(t, err)
	c.alice.Unplug(false)
	must(t, rings.AwaitEnd(3*time.Second)) // and not at the end of call.ring, 5 s
	c.again(c.out)
}

// TestBothLost: as when the switch of an office is started anew. The call waits for both, and ends when nobody comes.
func TestBothLost(t *testing.T) {
	t.Parallel()
	lose := func(c *torn) {
		c.alice.Vanish()
		c.bob.Vanish()
		c.eventually("both are lost", 10*time.Second, func() bool {
			all := c.b.Calls("alice")
			return len(all) == 1 && all[0].Seats[0].Lost && all[0].Seats[1].Lost
		})
	}
	t.Run("one pulls, then the other", func(t *testing.T) {
		t.Parallel()
		c := newTorn(t, 0, nil)
		lose(c)
		first := mustDial(t, c.desk, "*40")
		must(t, first.Await(3*time.Second))
		if !first.HearsTone(time.Second) {
			t.Error("alice hears nothing while she waits")
		}
		other := mustDial(t, c.phone("bob", 2), "102")
		c.talk(first, other)
		must(t, first.Hangup())
		c.nothingLeft()
	})
	t.Run("one calls the other", func(t *testing.T) {
		t.Parallel()
		c := newTorn(t, 0, nil)
		lose(c)
		bob := c.phone("bob", 2)
		first := mustDial(t, c.desk, "102")
		rings, err := bob.Ringing(3 * time.Second)
		must(t, err)
		must(t, rings.Answer())
		c.talk(first, rings)
		if n := len(c.b.Calls("")); n != 1 {
			t.Errorf("%d calls", n)
		}
		must(t, first.Hangup())
		c.nothingLeft()
	})
	t.Run("nobody comes", func(t *testing.T) {
		t.Parallel()
		c := newTorn(t, 0, func(c *config.Config) { c.Call.Wait = time.Second })
		c.alice.Vanish()
		c.bob.Vanish()
		c.eventually("the log says why", 15*time.Second, func() bool {
			ends := c.entries(journal.CallEnded)
			return len(ends) == 1 && strings.HasSuffix(ends[0].Text, "was lost and nobody came back within 1s")
		})
		c.nothingLeft()
	})
}

// TestLostForGood: who waits hears the ending tone when the wait is over, and the log says why; who hangs up before ends the call at once.
func TestLostForGood(t *testing.T) {
	t.Parallel()
	t.Run("call.wait", func(t *testing.T) {
		t.Parallel()
		c := newTorn(t, 0, func(c *config.Config) { c.Call.Wait = 2 * time.Second })
		c.alice.Vanish()
		c.lost()
		must(t, c.in.AwaitEnd(10*time.Second))
		c.nothingLeft()
		ends := c.entries(journal.CallEnded)
		if len(ends) != 1 || ends[0].Text != "phonea of alice was lost and nobody came back within 2s" {
			t.Errorf("the log says %+v", ends)
		}
	})
	t.Run("hang-up", func(t *testing.T) {
		t.Parallel()
		c := newTorn(t, 0, nil)
		c.alice.Vanish()
		c.lost()
		must(t, c.in.Hangup())
		c.nothingLeft()
	})
}

// TestLostIsRecorded: the record says that the seat is lost, and keeps the dialog.
func TestLostIsRecorded(t *testing.T) {
	t.Parallel()
	c := newTorn(t, 0, nil)
	c.alice.Unplug(true)
	c.lost()
	stored, err := c.store.Calls()
	must(t, err)
	rec, err := call.DecodeRecord(c.store.Secret(), stored[0].Blob)
	must(t, err)
	s := rec.Seats[0]
	if !s.Lost || s.Left.IsZero() || len(s.Legs) != 1 || s.Legs[0].State != "lost" || s.Legs[0].Dialog.CallID != c.out.ID() {
		t.Errorf("recorded as %+v", s)
	}
	must(t, c.in.Hangup())
	c.nothingLeft()
}

// TestOnBye: who wants that leaves by a hang-up; the one who is left alone ends the call by his.
func TestOnBye(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("alice", 2)
	for _, user := range []string{"alice", "bob"} {
		r.set(user, func(s *registrar.Settings) { s.OnBye = registrar.LeaveOnBye })
	}
	out, in := r.connect(alice, bob)
	must(t, out.Hangup())
	if !in.HearsTone(3 * time.Second) {
		t.Fatal("bob hears nothing while he waits")
	}
	again := mustDial(t, desk, "*40")
	r.talk(again, in)
	must(t, again.Hangup())
	if !in.HearsTone(3 * time.Second) {
		t.Fatal("bob hears nothing while he waits once more")
	}
	if s := r.b.Calls("alice")[0].Seats[0]; !s.Empty || s.Lost {
		t.Errorf("the seat is %+v", s)
	}
	must(t, in.Hangup())
	r.nothingLeft()
	if n := len(r.entries(journal.CallLeft)); n != 2 {
		t.Errorf("in the log she has left %d times", n)
	}
}

// TestHangsUpWhileLost: a device that was lost and hangs up ends the call; if its user leaves by that, it waits on.
func TestHangsUpWhileLost(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"", registrar.LeaveOnBye} {
		t.Run("on_bye "+policy, func(t *testing.T) {
			t.Parallel()
			c := newTorn(t, 0, nil)
			c.set("alice", func(s *registrar.Settings) { s.OnBye = policy })
			c.alice.Unplug(true)
			c.lost()
			c.out.Media().Mute(true)
			c.alice.Unplug(false)
			c.out.Media().Mute(true)
			must(t, c.out.Hangup())
			if policy == "" {
				must(t, c.in.AwaitEnd(3*time.Second))
			} else {
				c.shown(`"alice"`)
				again := mustDial(t, c.desk, "*40")
				must(t, again.Await(3*time.Second))
				if !again.Hears(c.in, 3*time.Second) || !c.in.Hears(again, 3*time.Second) {
					t.Error("they do not hear each other")
				}
				must(t, again.Hangup()) // by which she leaves once more
			}
			must(t, c.in.Hangup())
			c.nothingLeft()
		})
	}
}

// TestLostInMidMove: the device that has the call is lost while another one rings for it. That takes the seat, or the seat waits.
func TestLostInMidMove(t *testing.T) {
	t.Parallel()
	for _, answers := range []bool{true, false} {
		c := newTorn(t, 0, nil)
		done := c.moveTo("2")
		rings, err := c.desk.Ringing(3 * time.Second)
		must(t, err)
		c.alice.Unplug(true)
		c.lost()
		if answers {
			must(t, rings.Answer())
			c.moved(done)
			c.again(rings)
			continue
		}
		must(t, rings.Reject(486))
		if err := <-done; err == nil {
			t.Error("it was told that it has moved")
		}
		c.lost()
		c.alice.Unplug(false)
		c.again(c.out)
	}
}

// TestRingAfterAMoveInVain: a device is lost while another one, that was named, rings for its call. That refuses: the user's devices ring, as he
// wants it of a loss.
func TestRingAfterAMoveInVain(t *testing.T) {
	t.Parallel()
	c := newTorn(t, 0, nil)
	c.set("alice", func(s *registrar.Settings) { s.OnLoss = registrar.RingOnLoss })
	kitchen := c.phone("alice", 3)
	done := c.moveTo("2")
	rings, err := c.desk.Ringing(3 * time.Second)
	must(t, err)
	c.alice.Unplug(true)
	c.lost()
	must(t, rings.Reject(486))
	if err := <-done; err == nil {
		t.Error("it was told that it has moved")
	}
	back, err := kitchen.Ringing(3 * time.Second)
	must(t, err)
	must(t, back.Answer())
	c.again(back)
}

// TestBackWhilePulled: the lost device speaks again in the moment in which another one takes the seat: one of them has it, and the other none.
func TestBackWhilePulled(t *testing.T) {
	t.Parallel()
	c := newTorn(t, 0, nil)
	c.alice.Unplug(true)
	c.lost()
	pull, err := c.desk.Dial("*40", phone.DialOptions{NoACK: true})
	must(t, err)
	pull.Media().Mute(true)
	must(t, pull.Await(3*time.Second))
	c.alice.Unplug(false)
	c.eventually("she is back", 3*time.Second, func() bool { return !c.b.Calls("alice")[0].Seats[0].Empty })
	must(t, pull.Acknowledge())
	pull.Media().Mute(false)
	must(t, c.out.AwaitEnd(5*time.Second))
	c.again(pull)
}

// TestOthersAreCalledAsEver: whoever is in a call that nobody is missing from places a second call, and so does who dials somebody else.
func TestOthersAreCalledAsEver(t *testing.T) {
	t.Parallel()
	c := newTorn(t, 0, nil)
	c.user("carol", "103")
	carol := c.phone("carol", 1)
	carol.Behave(phone.AutoAnswer)
	c.bob.Behave(phone.Behaviour{})
	whole := mustDial(t, c.desk, "102")
	ringing, err := c.bob.Ringing(3 * time.Second)
	must(t, err)
	must(t, ringing.Reject(486))
	must(t, whole.AwaitEnd(3*time.Second))
	c.alice.Vanish()
	c.lost()
	other := mustDial(t, c.desk, "103")
	must(t, other.Await(3*time.Second))
	if n := len(c.b.Calls("alice")); n != 2 {
		t.Errorf("alice has %d calls", n)
	}
	must(t, other.Hangup())
	must(t, c.in.Hangup())
	c.nothingLeft()
}

// TestCompanionOfALostDevice: a device that listens goes on listening when the one that has the call is lost, and has the call when it wants it.
func TestCompanionOfALostDevice(t *testing.T) {
	t.Parallel()
	c := newTorn(t, 0, nil)
	ear := c.beside("code", c.desk)
	c.alice.Unplug(true)
	c.lost()
	if ear.State() != phone.Up || !ear.Hears(c.in, 3*time.Second) {
		t.Fatal("it does not hear bob any more")
	}
	second := mustDial(t, c.desk, "*40")
	must(t, second.AwaitEnd(5*time.Second))
	if ear.Holding() {
		must(t, ear.Resume())
	}
	c.again(ear)
}
