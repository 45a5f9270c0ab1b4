package call_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/test/phone"
)

// only is a phone that has these codecs, in its order.
func only(codecs ...phone.Codec) func(*phone.Config) {
	return func(c *phone.Config) { c.Codecs = append(slices.Clone(codecs), phone.DTMF) }
}

// mixed is alice's phone with PCMU, her desk with the codec that is to be aligned to, and bob with both.
type mixed struct {
	*rig
	alice, desk, bob *phone.Phone
	out, in          *phone.Call
}

// newMixed has bob call alice, who knows old alone: the call uses that, and bob's offer said what he has.
func newMixed(t *testing.T, old, other phone.Codec, tune ...func(*config.Config)) *mixed {
	t.Helper()
	r := newRig(t, func(c *config.Config) {
		for _, f := range tune {
			f(c)
		}
	})
	r.user("alice", "101")
	r.user("bob", "102")
	m := &mixed{rig: r}
	own := other
	if own.Name == "opus" {
		own.PT = 120
	}
	m.alice, m.desk, m.bob = r.phone("alice", 1, only(old)), r.phone("alice", 2, only(own)), r.phone("bob", 1, only(old, other))
	m.in, m.out = m.callAlice()
	return m
}

// callAlice is a call of bob's to alice's first phone.
func (m *mixed) callAlice() (far, near *phone.Call) {
	m.t.Helper()
	m.alice.Behave(phone.AutoAnswer)
	m.desk.Behave(phone.Behaviour{Reject: 480})
	far, err := m.bob.Dial("101*1")
	must(m.t, err)
	near, err = m.alice.Ringing(5 * time.Second)
	must(m.t, err)
	must(m.t, far.Await(5*time.Second))
	if !near.Hears(far, 3*time.Second) || !far.Hears(near, 3*time.Second) {
		m.t.Fatal("alice and bob do not hear each other")
	}
	m.desk.Behave(phone.AutoAnswer)
	return far, near
}

// whole checks that what a phone heard is one stream with nothing missing, and only of payload types that it has agreed to.
func whole(t *testing.T, who string, heard []phone.Packet, pts ...uint8) {
	t.Helper()
	rep := phone.Analyse(heard, 8000)
	if rep.Missing != 0 || rep.Reordered != 0 || rep.Duplicates != 0 || len(rep.SSRCs) != 1 {
		t.Errorf("%s heard %v", who, rep)
	}
	for i, p := range heard {
		if p.Event == nil && !slices.Contains(pts, p.PT) {
			t.Errorf("%s heard payload type %d", who, p.PT)
			return
		}
		if i > 0 && p.Event == nil && heard[i-1].Event == nil && int32(p.TS-heard[i-1].TS) <= 0 {
			t.Errorf("%s: the timestamp went from %d to %d", who, heard[i-1].TS, p.TS)
		}
	}
}

// ptOf is the payload type that a description has for a codec.
func ptOf(d phone.Description, c phone.Codec) uint8 {
	for _, k := range d.Codecs {
		if k.Name == c.Name {
			return k.PT
		}
	}
	return 255
}

// reinvites are the codecs of each INVITE that a phone was sent within a dialog.
func reinvites(p *phone.Phone) (all []string) {
	seen := map[string]bool{}
	for _, m := range methods(p.Received(time.Time{}), "INVITE") {
		again := m.Get("Call-ID") + " " + m.Get("CSeq")
		if phone.Param(m.Get("To"), "tag") == "" || seen[again] {
			continue
		}
		seen[again] = true
		d, err := phone.ParseSDP(m.Body)
		if err != nil {
			all = append(all, err.Error())
			continue
		}
		var names []string
		for _, c := range d.Codecs {
			names = append(names, c.Name)
		}
		all = append(all, strings.Join(names, " "))
	}
	return all
}

// moveToDesk has the move engine bring the call to alice's desk by a trigger.
func (m *mixed) moveToDesk(how string) (*phone.Call, error) {
	var err error
	switch how {
	case "cli":
		_, err = m.b.Move(m.t.Context(), call.MoveRequest{User: "alice", Device: "2", How: "cli"})
	case "refer":
		_, err = m.out.Refer("101*2")
	case "pull":
		c, err := m.desk.Dial("*40")
		if err == nil {
			err = c.Await(5 * time.Second)
		}
		return c, err
	case "pull without offer":
		c, err := m.desk.Dial("*40", phone.DialOptions{NoSDP: true})
		if err == nil {
			err = c.Await(5 * time.Second)
		}
		return c, err
	case "replaces":
		c, err := m.desk.Dial("102", phone.DialOptions{Headers: []phone.Header{{Name: "Replaces", Value: m.out.Replaces()}}})
		if err == nil {
			err = c.Await(5 * time.Second)
		}
		return c, err
	}
	if err != nil {
		return nil, err
	}
	return m.desk.Ringing(5 * time.Second)
}

// TestAlignByEveryTrigger moves a call to a device that lacks the codec in use: the far phone is asked once, for the common codec
// first and the old one second, and hears one unbroken stream.
func TestAlignByEveryTrigger(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		how        string
		old, other phone.Codec
	}{
		{"cli", phone.PCMU, phone.OPUS},
		{"refer", phone.PCMU, phone.G722},
		{"pull", phone.PCMA, phone.OPUS},
		{"pull without offer", phone.G722, phone.OPUS},
		{"replaces", phone.OPUS, phone.G722},
	} {
		t.Run(c.how, func(t *testing.T) {
			t.Parallel()
			m := newMixed(t, c.old, c.other)
			began := time.Now()
			at, err := m.moveToDesk(c.how)
			must(t, err)
			if !m.in.Hears(at, 3*time.Second) || !at.Hears(m.in, 3*time.Second) {
				t.Fatal("the call did not arrive")
			}
			must(t, m.out.AwaitEnd(3*time.Second))
			time.Sleep(700 * time.Millisecond) // a second offer would come by then
			if got := reinvites(m.bob); len(got) != 1 || !strings.HasPrefix(got[0], c.other.Name+" "+c.old.Name) {
				t.Errorf("bob was offered %q", got)
			}
			heard := m.in.Media().Heard()
			whole(t, "bob", heard, c.old.PT, c.other.PT)
			whole(t, "the desk", at.Media().Heard(), ptOf(at.Peer(), c.other))
			if gap, _ := phone.LongestGap(heard, began, time.Now().Add(-50*time.Millisecond)); gap > 400*time.Millisecond {
				t.Errorf("bob heard nothing for %v", gap)
			}
			if lost := phone.Lost(m.in.Media(), began, time.Now().Add(-100*time.Millisecond), m.out.Media(), at.Media()); len(lost) > 5 {
				t.Errorf("%d of bob's frames reached neither device", len(lost))
			}
			must(t, m.in.Hangup())
			m.nothingLeft()
		})
	}
}

// TestAlignToAndFro moves one call through opus, PCMU and G.722 and back, also with other clock rates: the far phone's stream stays one.
func TestAlignToAndFro(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	codecs := []phone.Codec{phone.OPUS, phone.PCMU, phone.G722}
	var devices []*phone.Phone
	for i, c := range codecs {
		devices = append(devices, r.phone("alice", i+1, only(c)))
	}
	bob := r.phone("bob", 1, only(codecs...))
	for _, d := range devices[1:] {
		d.Behave(phone.Behaviour{Reject: 480})
	}
	devices[0].Behave(phone.AutoAnswer)
	far, err := bob.Dial("101*1")
	must(t, err)
	must(t, far.Await(5*time.Second))
	for _, to := range []int{2, 3, 1, 3, 2, 1} {
		devices[to-1].Behave(phone.AutoAnswer)
		rep, err := r.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: fmt.Sprint(to)})
		must(t, err)
		if rep.AlignMS <= 0 || rep.AlignMS > rep.OverlapMS {
			t.Errorf("the report says %+v", rep)
		}
		calls := devices[to-1].Calls()
		if at := calls[len(calls)-1]; !far.Hears(at, 3*time.Second) || !at.Hears(far, 3*time.Second) {
			t.Fatalf("no sound on device %d", to)
		}
	}
	heard := far.Media().Heard()
	whole(t, "bob", heard, phone.OPUS.PT, phone.PCMU.PT, phone.G722.PT)
	rates := map[uint8]uint32{phone.OPUS.PT: 960, phone.PCMU.PT: 160, phone.G722.PT: 160}
	for i := 2; i < len(heard); i++ {
		if step, frame := heard[i].TS-heard[i-1].TS, rates[heard[i-1].PT]; step == 0 || step%frame != 0 || step > 25*frame {
			t.Errorf("payload type %d to %d: a step of %d ticks", heard[i-1].PT, heard[i].PT, step)
		}
	}
	if n := len(reinvites(bob)); n != 6 {
		t.Errorf("bob was asked %d times for 6 moves", n)
	}
	must(t, far.Hangup())
	r.nothingLeft()
}

// reinvited waits until a phone has been sent n re-INVITEs.
func (m *mixed) reinvited(p *phone.Phone, n int) {
	m.t.Helper()
	m.eventually(fmt.Sprintf("%d re-INVITEs", n), 5*time.Second, func() bool { return len(reinvites(p)) >= n })
}

// beginMove asks for the move to the desk, and gives its outcome later.
func (m *mixed) beginMove() (outcome chan error) {
	outcome = make(chan error, 1)
	go func() {
		_, err := m.b.Move(m.t.Context(), call.MoveRequest{User: "alice", Device: "2", How: "cli"})
		outcome <- err
	}()
	return outcome
}

// asBefore checks that the call goes on between alice's first phone and bob, and that bob has heard one stream.
func (m *mixed) asBefore(old phone.Codec) {
	m.t.Helper()
	if !m.in.Hears(m.out, 3*time.Second) || !m.out.Hears(m.in, 3*time.Second) {
		m.t.Error("the call is not as it was")
	}
	whole(m.t, "bob", m.in.Media().Heard(), old.PT)
	whole(m.t, "alice", m.out.Media().Heard(), old.PT)
	must(m.t, m.in.Hangup())
	m.nothingLeft()
}

// TestAlignRefused has the far phone refuse the other codec, for good or by crossing requests again and again: the call stays.
func TestAlignRefused(t *testing.T) {
	t.Parallel()
	for _, code := range []int{488, 491, 500} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			m := newMixed(t, phone.PCMU, phone.OPUS, func(c *config.Config) { c.Call.Ring = 1500 * time.Millisecond })
			m.bob.Behave(phone.Behaviour{Refuse: code})
			began := time.Now()
			err := <-m.beginMove()
			if err == nil || !strings.Contains(err.Error(), fmt.Sprint(code)) || !strings.Contains(err.Error(), "of bob did not take the codec") {
				t.Errorf("the move: %v", err)
			}
			if gap, _ := phone.LongestGap(m.in.Media().Heard(), began, time.Now().Add(-50*time.Millisecond)); gap > 400*time.Millisecond {
				t.Errorf("bob heard nothing for %v", gap)
			}
			m.asBefore(phone.PCMU)
		})
	}
}

// TestAlignGlare has the far phone's request cross ours: after the pause of RFC 3261 §14.1 it is asked again.
func TestAlignGlare(t *testing.T) {
	t.Parallel()
	m := newMixed(t, phone.PCMU, phone.OPUS)
	m.bob.Behave(phone.Behaviour{Refuse: 491})
	moved := m.beginMove()
	m.reinvited(m.bob, 1)
	m.bob.Behave(phone.AutoAnswer)
	must(t, <-moved)
	at, err := m.desk.Ringing(time.Second)
	must(t, err)
	if !m.in.Hears(at, 3*time.Second) || !at.Hears(m.in, 3*time.Second) {
		t.Error("the call did not arrive")
	}
	must(t, m.in.Hangup())
	m.nothingLeft()
}

// TestAlignUnanswered has the far phone not answer at all, or only when the move has been given up: then it is asked to go back.
func TestAlignUnanswered(t *testing.T) {
	t.Parallel()
	for _, b := range []phone.Behaviour{{Refuse: -1}, {Late: 1300 * time.Millisecond}} {
		t.Run(fmt.Sprintf("late %v", b.Late), func(t *testing.T) {
			t.Parallel()
			m := newMixed(t, phone.PCMU, phone.OPUS, func(c *config.Config) { c.Call.Ring = time.Second })
			m.bob.Behave(b)
			err := <-m.beginMove()
			if err == nil || !strings.Contains(err.Error(), "no answer") {
				t.Errorf("the move: %v", err)
			}
			if b.Late > 0 {
				m.eventually("the offer is taken back", time.Second, func() bool { return len(methods(m.bob.Received(time.Time{}), "CANCEL")) > 0 })
				m.bob.Behave(phone.AutoAnswer)
				m.reinvited(m.bob, 2)
				if got := reinvites(m.bob); strings.Contains(got[len(got)-1], "opus") {
					t.Errorf("bob was offered %q", got)
				}
			}
			m.asBefore(phone.PCMU)
		})
	}
}

// TestAlignHangUps has each of the three phones hang up while the far one is being asked.
func TestAlignHangUps(t *testing.T) {
	t.Parallel()
	begin := func(t *testing.T) (*mixed, chan error, *phone.Call) {
		m := newMixed(t, phone.PCMU, phone.OPUS)
		m.bob.Behave(phone.Behaviour{Late: 500 * time.Millisecond})
		moved := m.beginMove()
		at, err := m.desk.Ringing(3 * time.Second)
		must(t, err)
		m.reinvited(m.bob, 1)
		return m, moved, at
	}
	t.Run("far", func(t *testing.T) {
		t.Parallel()
		m, moved, at := begin(t)
		must(t, m.in.Hangup())
		if err := <-moved; err == nil {
			t.Error("the move went well")
		}
		must(t, at.AwaitEnd(3*time.Second))
		must(t, m.out.AwaitEnd(3*time.Second))
		m.nothingLeft()
	})
	t.Run("new", func(t *testing.T) {
		t.Parallel()
		m, moved, at := begin(t)
		must(t, at.Hangup())
		if err := <-moved; err == nil {
			t.Error("the move went well")
		}
		m.bob.Behave(phone.AutoAnswer)
		m.reinvited(m.bob, 2) // it has taken the offer, and is asked to go back
		m.asBefore(phone.PCMU)
	})
	t.Run("new, and the far phone will not go back", func(t *testing.T) {
		t.Parallel()
		m, moved, at := begin(t)
		m.bob.Behave(phone.Behaviour{Refuse: 488}) // whatever comes after the offer that it is about to take
		must(t, at.Hangup())
		if err := <-moved; err == nil {
			t.Error("the move went well")
		}
		m.reinvited(m.bob, 2)
		time.Sleep(300 * time.Millisecond)
		if m.in.State() != phone.Up || m.out.State() != phone.Up {
			t.Error("the call was ended")
		}
		must(t, m.in.Hangup())
		m.nothingLeft()
	})
	t.Run("far leaves", func(t *testing.T) {
		t.Parallel()
		m, moved, at := begin(t)
		m.bob.Behave(phone.Behaviour{Refuse: 488})
		must(t, m.b.Leave(t.Context(), call.MoveRequest{User: "bob"}))
		must(t, m.in.AwaitEnd(3*time.Second))
		must(t, <-moved)
		if !at.HearsTone(3 * time.Second) {
			t.Error("alice hears nothing on the device that waits now")
		}
		back := mustDial(t, m.bob, "*40")
		must(t, back.Await(3*time.Second))
		if !back.Hears(at, 3*time.Second) || !at.Hears(back, 3*time.Second) {
			t.Error("bob is back, and they do not hear each other")
		}
		must(t, at.Hangup())
		m.nothingLeft()
	})
	t.Run("old", func(t *testing.T) {
		t.Parallel()
		m, moved, at := begin(t)
		must(t, m.out.Hangup())
		if !m.in.HearsTone(3 * time.Second) {
			t.Error("bob hears nothing while he is asked")
		}
		must(t, <-moved)
		if !m.in.Hears(at, 3*time.Second) || !at.Hears(m.in, 3*time.Second) {
			t.Error("the call did not arrive")
		}
		whole(t, "bob", m.in.Media().Heard(), phone.PCMU.PT, phone.OPUS.PT)
		must(t, at.Hangup())
		must(t, m.in.AwaitEnd(3*time.Second))
		m.nothingLeft()
	})
}

// TestAlignWhileAsked: until the far phone has agreed the old device goes on talking and hearing, and nothing of the new one is forwarded.
func TestAlignWhileAsked(t *testing.T) {
	t.Parallel()
	t.Run("agreed on nothing else", func(t *testing.T) {
		t.Parallel()
		alignWhileAsked(t, newMixed(t, phone.PCMU, phone.G722))
	})
	t.Run("agreed on both", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, nil)
		r.user("alice", "101")
		r.user("bob", "102")
		both := only(phone.PCMU, phone.G722)
		m := &mixed{rig: r, alice: r.phone("alice", 1, both), bob: r.phone("bob", 1, both)}
		m.desk = r.phone("alice", 2, only(phone.G722))
		m.in, m.out = m.callAlice()
		alignWhileAsked(t, m)
	})
}

func alignWhileAsked(t *testing.T, m *mixed) {
	m.bob.Behave(phone.Behaviour{Late: 800 * time.Millisecond})
	m.desk.Behave(phone.Behaviour{})
	m.desk.SetPhase(16 * time.Millisecond) // its first packet would find a slot free
	from := time.Now()
	moved := m.beginMove()
	at, err := m.desk.Ringing(3 * time.Second)
	must(t, err)
	at.Media().Mute(true)
	must(t, at.Answer())
	time.Sleep(150 * time.Millisecond)
	at.Media().Mute(false)
	m.reinvited(m.bob, 1)
	asked := time.Now().Add(500 * time.Millisecond)
	must(t, <-moved)
	for who, pair := range map[string][2]*phone.Call{"bob": {m.in, m.out}, "alice": {m.out, m.in}} {
		during := phone.Between(pair[0].Media().Heard(), from, asked)
		if n := len(phone.Of(during, pair[1].Media().Source())); n < 12 || n != len(during) {
			t.Errorf("%s heard %d of the other's frames in half a second, and %d packets", who, n, len(during))
		}
	}
	if n := len(phone.Between(at.Media().Heard(), from, asked)); n != 0 {
		t.Errorf("the desk heard %d packets of a codec that it does not have", n)
	}
	whole(t, "bob", m.in.Media().Heard(), phone.PCMU.PT, phone.G722.PT)
	must(t, m.in.Hangup())
	m.nothingLeft()
}

// TestAlignNothingShared has a device and the far phone without any codec in common: who was to be moved is told which they have.
func TestAlignNothingShared(t *testing.T) {
	t.Parallel()
	m := newMixed(t, phone.PCMU, phone.OPUS)
	gsm := m.phone("alice", 3, only(phone.GSM))
	_, err := m.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: "3"})
	if err == nil || !strings.Contains(err.Error(), "PCMU, opus") {
		t.Errorf("pushed: %v", err)
	}
	res := m.refused(mustDial(t, gsm, "*40"), 488)
	if w := res.Get("Warning"); !strings.Contains(w, "has GSM") || !strings.Contains(w, "of bob has PCMU, opus") {
		t.Errorf("pulled: %s", w)
	}
	if n := len(reinvites(m.bob)); n != 0 {
		t.Errorf("bob was asked %d times", n)
	}
	m.asBefore(phone.PCMU)
}

// TestAlignNewDevicePrefersAnother has a device answer with the codec in use behind one that is not agreed with the far phone: it is the
// device that is asked to change.
func TestAlignNewDevicePrefersAnother(t *testing.T) {
	t.Parallel()
	m := newMixed(t, phone.PCMU, phone.OPUS)
	both := m.phone("alice", 3, only(phone.OPUS, phone.PCMU), func(c *phone.Config) { c.OwnPT = true })
	both.Behave(phone.AutoAnswer)
	_, err := m.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: "3"})
	must(t, err)
	at, err := both.Ringing(time.Second)
	must(t, err)
	if !m.in.Hears(at, 3*time.Second) || !at.Hears(m.in, 3*time.Second) {
		t.Error("the call did not arrive")
	}
	if got, far := reinvites(both), reinvites(m.bob); len(got) != 1 || strings.Contains(got[0], "opus") || len(far) != 0 {
		t.Errorf("the device was offered %q, bob %q", got, far)
	}
	whole(t, "bob", m.in.Media().Heard(), phone.PCMU.PT)
	must(t, m.in.Hangup())
	m.nothingLeft()
}

// TestAlignFarHasAnOrderOfItsOwn has the far phone agree and put the old codec first again: it is asked for the common one alone.
func TestAlignFarHasAnOrderOfItsOwn(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	m := &mixed{rig: r, alice: r.phone("alice", 1, only(phone.PCMU)), desk: r.phone("alice", 2, only(phone.G722))}
	m.bob = r.phone("bob", 1, only(phone.PCMU, phone.G722), func(c *phone.Config) { c.OwnPT = true })
	m.in, m.out = m.callAlice()
	must(t, <-m.beginMove())
	at, err := m.desk.Ringing(time.Second)
	must(t, err)
	if !m.in.Hears(at, 3*time.Second) || !at.Hears(m.in, 3*time.Second) {
		t.Error("the call did not arrive")
	}
	if got := reinvites(m.bob); len(got) != 2 || strings.Contains(got[1], "PCMU") {
		t.Errorf("bob was offered %q", got)
	}
	must(t, m.in.Hangup())
	m.nothingLeft()
}

// TestAlignAnsweredWithTheOldCodec has the far phone take the offer and choose the old codec alone.
func TestAlignAnsweredWithTheOldCodec(t *testing.T) {
	t.Parallel()
	m := newMixed(t, phone.PCMU, phone.OPUS)
	m.bob.Behave(phone.Behaviour{Only: []phone.Codec{phone.PCMU, phone.DTMF}})
	if err := <-m.beginMove(); err == nil || !strings.Contains(err.Error(), "agreed to PCMU alone") {
		t.Errorf("the move: %v", err)
	}
	m.asBefore(phone.PCMU)
}

// TestAlignWhileTheFarSideMoves has bob's call go to another device of his while his first one is asked for another codec: nobody has
// asked that device, which is known to have the old codec alone.
func TestAlignWhileTheFarSideMoves(t *testing.T) {
	t.Parallel()
	m := newMixed(t, phone.PCMU, phone.OPUS)
	other := m.phone("bob", 2, only(phone.PCMU, phone.OPUS))
	other.Behave(phone.AutoAnswer)
	m.bob.Behave(phone.Behaviour{Late: 900 * time.Millisecond})
	moved := m.beginMove()
	m.reinvited(m.bob, 1)
	_, err := m.b.Move(t.Context(), call.MoveRequest{User: "bob", Device: "2"})
	must(t, err)
	if err := <-moved; err == nil || !strings.Contains(err.Error(), "phoneb has opus") {
		t.Errorf("alice's move: %v", err)
	}
	was := m.in
	m.in, err = other.Ringing(time.Second)
	must(t, err)
	must(t, was.AwaitEnd(3*time.Second))
	if !m.in.Hears(m.out, 3*time.Second) || !m.out.Hears(m.in, 3*time.Second) {
		t.Error("the call does not go on")
	}
	must(t, m.in.Hangup())
	m.nothingLeft()
}
