package call_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/test/phone"
)

// beside has alice's second device listen to the call by a way of asking for it.
func (r *rig) beside(how string, device *phone.Phone) *phone.Call {
	r.t.Helper()
	if how == "code" {
		c := mustDial(r.t, device, "*43")
		must(r.t, c.Await(5*time.Second))
		return c
	}
	device.Behave(phone.Behaviour{Ringless: true})
	rep, err := r.b.Companion(r.t.Context(), call.MoveRequest{User: "alice", Device: "2", How: how, Who: "test"}, false)
	must(r.t, err)
	if rep.User != "alice" || rep.Device != "phoneb" {
		r.t.Errorf("%+v", rep)
	}
	c, err := device.Ringing(time.Second)
	must(r.t, err)
	return c
}

// hearsMix says whether a call hears two others: both at once, added, and each while the other is muted.
func hearsMix(c, a, b *phone.Call) bool {
	both := c.HearsTone(3 * time.Second)
	b.Media().Mute(true)
	one := c.Hears(a, 3*time.Second)
	b.Media().Mute(false)
	a.Media().Mute(true)
	other := c.Hears(b, 3*time.Second)
	a.Media().Mute(false)
	return both && one && other
}

// untouched checks that a call is as it was: who talks is heard, the stream is one, and the phone was sent no SIP.
func untouched(t *testing.T, since time.Time, c, from *phone.Call) {
	t.Helper()
	if !c.Hears(from, 3*time.Second) {
		t.Errorf("%s does not hear the other", c.Phone().Config().User)
	}
	whole(t, c.Phone().Config().User, c.Media().Heard(), phone.PCMU.PT, phone.PCMA.PT)
	rep := phone.Analyse(c.Media().Heard(), 8000)
	if len(rep.Sources) != 1 || rep.Tones != 0 {
		t.Errorf("%s heard %v", c.Phone().Config().User, rep)
	}
	for _, m := range c.Phone().Received(since) {
		if m.Method != "" && m.Get("Call-ID") == c.ID() {
			t.Errorf("%s was sent %s", c.Phone().Config().User, m.Line())
		}
	}
}

// TestCompanionHearsBoth has a second device listen, by each way of asking: it hears both, is muted, and nobody else notices; it leaves by
// hanging up or when it is told to.
func TestCompanionHearsBoth(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"code", "cli", "api"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			r, alice, bob := newPair(t)
			desk := r.phone("alice", 2)
			out, in := r.connect(alice, bob)
			since := time.Now()
			ear := r.beside(how, desk)
			if !hearsMix(ear, out, in) {
				t.Error("the companion does not hear both")
			}
			whole(t, "the companion", ear.Media().Heard(), phone.PCMU.PT)
			ear.Media().Press('5', 100*time.Millisecond)
			press(t, ear, "7", 100)
			info := r.b.Calls("alice")[0]
			legs := info.Seats[0].Legs
			if len(legs) != 2 || legs[0].Listens || !legs[1].Listens || legs[1].Device != "phoneb" || legs[1].Stats.Dropped["muted"] == 0 {
				t.Errorf("shown as %+v", legs)
			}
			stored, err := r.store.Calls()
			must(t, err)
			var rec call.Record
			must(t, json.Unmarshal([]byte(recordText(t, stored[0])), &rec))
			if l := rec.Seats[0].Legs; len(l) != 2 || l[0].Listens || !l[1].Listens {
				t.Errorf("the record has %+v", l)
			}
			if how == "api" {
				_, err := r.b.Companion(t.Context(), call.MoveRequest{User: "alice", Device: "2"}, true)
				must(t, err)
				must(t, ear.AwaitEnd(3*time.Second))
			} else {
				must(t, ear.Hangup())
			}
			r.eventually("it is gone", 3*time.Second, func() bool { return len(r.b.Calls("alice")[0].Seats[0].Legs) == 1 })
			if n := phone.Keys(in.Media().Heard()); n != "" {
				t.Errorf("bob was told keys %s of a companion", n)
			}
			untouched(t, since, in, out)
			untouched(t, since, out, in)
			must(t, out.Hangup())
			r.nothingLeft()
		})
	}
}

// TestCompanionTakesOver has the companion get the call: by *40 dialled on it, by a move to it, by a transfer; no device is rung, and bob
// hears one stream.
func TestCompanionTakesOver(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"*40", "101", "cli", "refer", "*41", "hold"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			r, alice, bob := newPair(t)
			desk := r.phone("alice", 2)
			out, in := r.connect(alice, bob)
			ear := r.beside("code", desk)
			if !hearsMix(ear, out, in) {
				t.Fatal("the companion hears nothing")
			}
			since := time.Now()
			switch how {
			case "cli":
				time.Sleep(400 * time.Millisecond) // it has listened for longer than the move takes
				rep, err := r.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: "2", How: "cli"})
				must(t, err)
				if rep.To != "phoneb" || rep.AnswerToMedia > rep.SwitchMS {
					t.Errorf("%+v", rep)
				}
			case "refer", "*41":
				to := how
				if how == "refer" {
					to = "101*2"
				}
				ref, err := out.Refer(to)
				must(t, err)
				if code, err := ref.Wait(3 * time.Second); err != nil || code != 200 {
					t.Errorf("transfer: %d, %v", code, err)
				}
			case "hold": // as phones do that dial a second call
				must(t, ear.Hold(phone.HoldSendonly))
				second := mustDial(t, desk, "*40")
				must(t, second.Await(3*time.Second))
				must(t, second.AwaitEnd(5*time.Second))
				if !in.Hears(out, time.Second) {
					t.Error("bob does not hear the old device while the companion holds")
				}
				must(t, ear.Resume())
			default:
				second := mustDial(t, desk, how)
				must(t, second.Await(3*time.Second))
				must(t, second.AwaitEnd(5*time.Second))
			}
			if !in.Hears(ear, 3*time.Second) || !ear.Hears(in, 3*time.Second) {
				t.Fatal("the companion has not got the call")
			}
			must(t, out.AwaitEnd(3*time.Second))
			for _, m := range methods(desk.Received(since), "INVITE") {
				t.Errorf("the companion was sent %s", m.Line())
			}
			whole(t, "bob", in.Media().Heard(), phone.PCMU.PT)
			whole(t, "the companion", ear.Media().Heard(), phone.PCMU.PT)
			if rep := phone.Analyse(in.Media().Heard(), 8000); rep.Tones != 0 || len(rep.Sources) != 2 {
				t.Errorf("bob heard %v", rep)
			}
			for _, m := range bob.Received(since) {
				if m.Method != "" {
					t.Errorf("bob was sent %s", m.Line())
				}
			}
			must(t, ear.Hangup()) // it is the holder now
			must(t, in.AwaitEnd(3*time.Second))
			r.nothingLeft()
		})
	}
}

// TestCompanionGoesWithTheCall: it goes on through a move of its seat to a third device and one of the far side, and ends with the call; a
// transfer to somebody else ends it at once.
func TestCompanionGoesWithTheCall(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	r.user("carol", "103")
	desk, third, carol := r.phone("alice", 2), r.phone("alice", 3), r.phone("carol", 1)
	_, in := r.connect(alice, bob)
	other := r.phone("bob", 2)
	for _, p := range []*phone.Phone{third, other, carol} {
		p.Behave(phone.AutoAnswer)
	}
	ear := r.beside("code", desk)
	_, err := r.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: "3"})
	must(t, err)
	_, err = r.b.Move(t.Context(), call.MoveRequest{User: "bob", Device: "2"})
	must(t, err)
	must(t, in.AwaitEnd(3*time.Second))
	out, err := third.Ringing(time.Second)
	must(t, err)
	in, err = other.Ringing(time.Second)
	must(t, err)
	if !hearsMix(ear, out, in) {
		t.Error("it does not hear the new devices")
	}
	ref, err := out.Refer("103")
	must(t, err)
	if code, err := ref.Wait(5 * time.Second); err != nil || code != 200 {
		t.Errorf("transfer: %d, %v", code, err)
	}
	must(t, ear.AwaitEnd(3*time.Second))
	must(t, in.Hangup())
	r.nothingLeft()

	_, err = other.Unregister()
	must(t, err)
	out, in = r.connect(alice, bob)
	ear = r.beside("code", desk)
	must(t, out.Hangup()) // the holder: the call ends for all
	must(t, in.AwaitEnd(3*time.Second))
	must(t, ear.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestCompanionDisturbsNobody has it hold, resume, change codecs, transfer, vanish: the call does not notice.
func TestCompanionDisturbsNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Call.Vanished = 500 * time.Millisecond })
	r.user("alice", "101")
	r.user("bob", "102")
	wide := only(phone.PCMU, phone.PCMA, phone.G722)
	alice, bob, desk := r.phone("alice", 1, wide), r.phone("bob", 1, wide), r.phone("alice", 2, wide)
	out, in := r.connect(alice, bob)
	since := time.Now()
	ear := r.beside("code", desk)
	must(t, ear.Hold(phone.HoldSendonly))
	must(t, ear.Resume())
	if err := ear.Reoffer([]phone.Codec{phone.G722, phone.DTMF}); err == nil {
		t.Error("it was promised G.722, which is not mixed")
	}
	must(t, ear.Reoffer([]phone.Codec{phone.PCMA, phone.DTMF}))
	if !hearsMix(ear, out, in) {
		t.Error("it hears nothing in PCMA")
	}
	if _, err := ear.Refer("102"); err == nil {
		t.Error("a companion could transfer the call")
	}
	if _, err := out.Refer("*43"); err == nil {
		t.Error("the call was transferred to the companion code")
	}
	if again := mustDial(t, desk, "*43"); r.refused(again, 480).Get("Warning") == "" {
		t.Error("no reason")
	}
	stolen := mustDial(t, r.phone("alice", 3), "102", phone.DialOptions{Headers: []phone.Header{{Name: "Replaces", Value: ear.Replaces()}}})
	r.refused(stolen, 481)
	desk.Vanish()
	r.eventually("it is given up", 20*time.Second, func() bool { return len(r.b.Calls("alice")[0].Seats[0].Legs) == 1 })
	untouched(t, since, in, out)
	untouched(t, since, out, in)
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestCompanionRefused has every reason why a device cannot listen; the call does not notice.
func TestCompanionRefused(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("alice", 2)
	three, four, wide := r.phone("alice", 3), r.phone("alice", 4), r.phone("alice", 5, only(phone.OPUS))
	ask := func(device string) string {
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		_, err := r.b.Companion(ctx, call.MoveRequest{User: "alice", Device: device}, false)
		if err == nil {
			return "it listens"
		}
		return err.Error()
	}
	if why := ask("2"); !strings.Contains(why, "no such live call") {
		t.Errorf("without a call: %s", why)
	}
	r.refused(mustDial(t, desk, "*43"), 404)
	out, in := r.connect(alice, bob)
	since := time.Now()
	desk.Behave(phone.Behaviour{Reject: 486})
	for device, want := range map[string]string{"1": "is on phonea already", "2": "486", "5": "488", "9": "not found"} {
		if why := ask(device); !strings.Contains(why, want) {
			t.Errorf("device %s: %s, want %s", device, why, want)
		}
	}
	if w := r.refused(mustDial(t, wide, "*43"), 488).Get("Warning"); !strings.Contains(w, "needs PCMU or PCMA") {
		t.Errorf("opus alone: %s", w)
	}
	if res := r.refused(mustDial(t, bob, "*43"), 480); !strings.Contains(res.Get("Warning"), "already") { // his own call, on this phone
		t.Errorf("the far phone: %s", res.Get("Warning"))
	}
	for _, p := range []*phone.Phone{desk, three} {
		must(t, mustDial(t, p, "*43").Await(3*time.Second))
	}
	if w := r.refused(mustDial(t, four, "*43"), 486).Get("Warning"); !strings.Contains(w, "2 devices listen already") {
		t.Errorf("a third one: %s", w)
	}
	if _, err := r.b.Companion(t.Context(), call.MoveRequest{User: "alice", Device: "4"}, true); err == nil || !strings.Contains(err.Error(), "does not listen") {
		t.Errorf("let go: %v", err)
	}
	untouched(t, since, out, in)
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestCompanionTakenBack ends the wait while the device rings, and has the call end meanwhile.
func TestCompanionTakenBack(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("alice", 2)
	out, in := r.connect(alice, bob)
	for _, how := range []string{"taken back", "call ends"} {
		ctx, cancel := context.WithCancel(t.Context())
		told := make(chan error, 1)
		go func() {
			_, err := r.b.Companion(ctx, call.MoveRequest{User: "alice", Device: "2"}, false)
			told <- err
		}()
		ringing, err := desk.Ringing(3 * time.Second)
		must(t, err)
		if how == "call ends" {
			must(t, in.Hangup())
			must(t, out.AwaitEnd(3*time.Second))
		} else {
			cancel()
		}
		if err := <-told; err == nil || how == "call ends" && !strings.Contains(err.Error(), "the call has ended") {
			t.Errorf("%s: %v", how, err)
		}
		must(t, ringing.AwaitEnd(3*time.Second))
		cancel()
	}
	r.nothingLeft()
}

// TestCompanionNeedsG711 has a call in opus: where both phones know G.711 they are asked for it, else the companion is refused.
func TestCompanionNeedsG711(t *testing.T) {
	t.Parallel()
	both := []phone.Codec{phone.OPUS, phone.PCMU}
	for name, c := range map[string]struct {
		alice, bob []phone.Codec
		refuse     int
		want       string
	}{
		"both can":         {both, both, 0, ""},
		"bob cannot":       {both, both[:1], 0, "has opus"},
		"bob will not":     {both, both, 488, "of bob did not take"},
		"other laws":       {[]phone.Codec{phone.OPUS, phone.PCMA}, both, 0, ""},
		"one speaks it":    {both[1:], both[1:], 0, ""},
		"G.722 is no G711": {[]phone.Codec{phone.G722}, []phone.Codec{phone.G722}, 0, "has G722"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			r.user("alice", "101")
			r.user("bob", "102")
			m := &mixed{rig: r, alice: r.phone("alice", 1, only(c.alice...)), bob: r.phone("bob", 1, only(c.bob...)), desk: r.phone("alice", 2)}
			m.in, m.out = m.callAlice()
			m.bob.Behave(phone.Behaviour{Refuse: c.refuse})
			ear := mustDial(t, m.desk, "*43")
			err := ear.Await(5 * time.Second)
			if c.want != "" {
				if err == nil || ear.Final().Code != 488 || !strings.Contains(ear.Final().Get("Warning"), c.want) {
					t.Errorf("%v: %s", err, ear.Final().Get("Warning"))
				}
			} else if must(t, err); !hearsMix(ear, m.out, m.in) {
				t.Error("it does not hear both")
			}
			m.eventually("they hear each other", 3*time.Second, func() bool { return m.in.Hears(m.out, time.Second) && m.out.Hears(m.in, time.Second) })
			if rep := phone.Analyse(m.in.Media().Heard(), 8000); rep.Missing != 0 || len(rep.SSRCs) != 1 {
				t.Errorf("bob heard %v", rep)
			}
			must(t, m.in.Hangup())
			m.nothingLeft()
		})
	}
}

// TestCompanionListensAgain has a companion that never takes the call off hold: the move fails and it listens as before. While it is in
// progress nobody else may join.
func TestCompanionListensAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Call.Ring = 1500 * time.Millisecond })
	r.user("alice", "101")
	r.user("bob", "102")
	alice, bob, desk, third := r.phone("alice", 1), r.phone("bob", 1), r.phone("alice", 2), r.phone("alice", 3)
	out, in := r.connect(alice, bob)
	since := time.Now()
	ear := r.beside("code", desk)
	must(t, ear.Hold(phone.HoldSendonly))
	failed := make(chan error, 1)
	go func() {
		_, err := r.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: "2"})
		failed <- err
	}()
	r.eventually("the move is in progress", time.Second, func() bool {
		legs := r.b.Calls("alice")[0].Seats[0].Legs
		return len(legs) == 2 && !legs[1].Listens
	})
	r.refused(mustDial(t, third, "*43"), 491)
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "off hold") {
		t.Errorf("the move: %v", err)
	}
	must(t, ear.Resume())
	if !hearsMix(ear, out, in) {
		t.Error("it does not listen any more")
	}
	untouched(t, since, in, out)
	must(t, out.Hangup())
	must(t, ear.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestCompanionsOneAfterTheOther: while one device rings to listen, another is told to wait; one that hangs up as it joins leaves nothing.
func TestCompanionsOneAfterTheOther(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk, third := r.phone("alice", 2), r.phone("alice", 3)
	out, in := r.connect(alice, bob)
	since := time.Now()
	told := make(chan error, 1)
	go func() {
		_, err := r.b.Companion(t.Context(), call.MoveRequest{User: "alice", Device: "2"}, false)
		told <- err
	}()
	ringing, err := desk.Ringing(3 * time.Second)
	must(t, err)
	r.refused(mustDial(t, third, "*43"), 491)
	must(t, ringing.Answer())
	must(t, <-told)
	must(t, ringing.Hangup())
	var ear *phone.Call
	for i := range 3 {
		ear = mustDial(t, third, "*43")
		must(t, ear.Await(3*time.Second))
		if !hearsMix(ear, out, in) {
			t.Error("the next one hears nothing")
		}
		if i < 2 {
			must(t, ear.Hangup())
		}
	}
	untouched(t, since, in, out)
	must(t, in.Hangup())
	must(t, ear.AwaitEnd(3*time.Second))
	r.nothingLeft()
}
