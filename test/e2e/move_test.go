package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

func TestMovesInTurn(t *testing.T) {
	p := newParty(t)
	for i := range 3 * len(ways) {
		p.move(ways[i%len(ways)], (p.at+1+i%2)%3, phone.AutoAnswer)
		pause(100 * time.Millisecond)
	}
	if p.toneHeard() {
		t.Error("bob was played a tone")
	}
	p.unbroken(200 * time.Millisecond)
	p.over()
}

func TestCalledSideMovesToo(t *testing.T) {
	w := newWorld(t)
	bob, desk, soft := w.phone("bob", "far"), w.phone("alice", "desk"), w.phone("alice", "soft")
	soft.Behave(phone.Behaviour{})
	far, leg := w.connect(bob, "alice", desk)
	p := &party{world: w, bob: bob, far: far, legs: []*phone.Call{leg}, devices: []*phone.Phone{desk, soft}, since: time.Now()}
	w.ended(w.ringing(soft))
	for i := range 4 {
		p.move(ways[2*i%len(ways)], 1-p.at, phone.AutoAnswer)
	}
	p.unbroken(200 * time.Millisecond)
	p.over()
}

func TestMoveReport(t *testing.T) {
	p := newParty(t)
	p.devices[1].Behave(phone.AutoAnswer)
	r, err := p.cli(p.id()[:4], p.deviceOf(p.devices[1]).Name)
	p.must(err)
	p.arrived("cli", p.ringing(p.devices[1]), 1)
	if r.From != p.deviceOf(p.devices[0]).Name || r.To != p.deviceOf(p.devices[1]).Name {
		t.Errorf("from %q to %q", r.From, r.To)
	}
	if r.Far.Lost != 0 || r.Near.Lost != 0 || r.Far.GapMS < 15 || r.Far.GapMS > 200 || r.SwitchMS <= 0 || r.SwitchMS > 500 {
		t.Errorf("figures: %+v", r)
	}
	var shown struct {
		Moves []struct {
			From, To, How, Who, Error string
			Report                    *report
		}
	}
	p.must(p.JSON(&shown, "call", "show", p.id(), "--json"))
	if len(shown.Moves) != 1 || shown.Moves[0].How != "cli" || shown.Moves[0].Report == nil || shown.Moves[0].Error != "" {
		t.Errorf("baton call show: %+v", shown.Moves)
	}
	p.over()
	out, err := p.CLI("log")
	p.must(err)
	if !strings.Contains(out, "alice moves from deva to devb") {
		t.Errorf("the log has no word of the move:\n%s", out)
	}
	p.logged("call-moved", map[string]string{"how": "cli", "who": "root", "lost": "0"})
	p.counted(`baton_moves_total{code="200",trigger="cli"} 1`, `baton_move_switch_seconds_count{trigger="cli"} 1`)
}

func TestNewDeviceRingsFirst(t *testing.T) {
	for _, how := range []string{"cli", "refer"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			p := newParty(t)
			p.move(how, 1, phone.Behaviour{Answer: true, After: 2 * time.Second})
			if p.toneHeard() {
				t.Error("bob was played a tone while the new device rang")
			}
			p.unbroken(200 * time.Millisecond)
			p.over()
		})
	}
}

func TestTransferToOwnNumberRingsAllOthers(t *testing.T) {
	for _, to := range []string{"101", "alice", "*41"} {
		t.Run(to, func(t *testing.T) {
			t.Parallel()
			p := newParty(t)
			p.devices[1].Behave(phone.Behaviour{})
			p.devices[2].Behave(phone.Behaviour{Answer: true, After: 300 * time.Millisecond, Ringless: true})
			p.must(p.refer(to, 200))
			loser, leg := p.ringing(p.devices[1]), p.ringing(p.devices[2])
			if asked := leg.Invite().Get("Call-Info") + leg.Invite().Get("Answer-Mode"); strings.Contains(asked, "answer-after") || strings.Contains(asked, "Auto") {
				t.Errorf("all others were asked to answer by themselves: %s", asked)
			}
			p.arrived("refer", leg, 2)
			p.ended(loser)
			if _, cancel := loser.Why(); !strings.Contains(cancel.Get("Reason"), "cause=200") {
				t.Errorf("the other one was cancelled with Reason %q", cancel.Get("Reason"))
			}
			p.unbroken(200 * time.Millisecond)
			p.over()
		})
	}
}

func TestNamedDeviceIsAskedToAnswerByItself(t *testing.T) {
	for _, how := range []string{"cli", "refer"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			p := newParty(t)
			p.move(how, 1, phone.Behaviour{Ringless: true})
			invite := p.leg().Invite()
			for name, want := range map[string]string{"Call-Info": "answer-after=0", "Alert-Info": "info=alert-autoanswer", "Answer-Mode": "Auto"} {
				if got := invite.Get(name); !strings.Contains(got, want) {
					t.Errorf("%s: %q, want %s in it", name, got, want)
				}
			}
			if from := invite.Get("From"); phone.UserPart(phone.AddrURI(from)) != "102" {
				t.Errorf("the display shows %s, not the far party", from)
			}
			p.unbroken(200 * time.Millisecond)
			p.over()
		})
	}
	t.Run("talk", func(t *testing.T) {
		t.Parallel()
		p := newParty(t)
		p.move("cli", 1, phone.Behaviour{Talk: true})
		p.unbroken(200 * time.Millisecond)
		p.over()
	})
}

func TestHoldThenTransfer(t *testing.T) {
	p := newParty(t)
	p.must(p.leg().Hold(phone.HoldSendonly))
	if !p.far.HearsTone(2 * time.Second) {
		t.Error("bob hears no hold tone")
	}
	p.move("refer", 1, phone.Behaviour{Answer: true, After: 300 * time.Millisecond})
	p.deaf = p.leg().Times().Answered // who holds hears nothing
	pause(600 * time.Millisecond)
	tones := 0
	for _, k := range phone.Between(p.far.Media().Heard(), p.leg().Times().Answered.Add(500*time.Millisecond), time.Now()) {
		if k.Source == 0 {
			tones++
		}
	}
	if tones > 0 {
		t.Errorf("%d packets of tone after the move", tones)
	}
	p.unbroken(200 * time.Millisecond)
	p.over()
}

func TestFailedMoveLeavesTheCallAsItWas(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		b    phone.Behaviour
		then func(*party)
		why  string
	}{
		{name: "busy", b: phone.Behaviour{Reject: 486}, why: "486"},
		{name: "declined", b: phone.Behaviour{Reject: 603}, why: "603"},
		{name: "rings and nobody answers", b: phone.Behaviour{}},
		{name: "silent", b: phone.Behaviour{Silent: true}},
		{name: "hangs up at once", b: phone.Behaviour{Answer: true, HangUp: true}},
		{name: "vanishes while ringing", b: phone.Behaviour{}, then: func(p *party) { p.devices[2].Vanish() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newParty(t, node.Options{Config: "call:\n  ring: 3s\n"})
			device := p.devices[2]
			device.Behave(c.b)
			index := p.deviceOf(device).Index
			failed := make(chan error, 1)
			go func() {
				_, err := p.cli("--user", "alice", fmt.Sprint(index))
				failed <- err
			}()
			if c.then != nil {
				p.ringing(device)
				c.then(p)
			}
			select {
			case err := <-failed:
				if err == nil || !strings.Contains(err.Error(), c.why) {
					t.Errorf("baton move said %v", err)
				}
				t.Logf("baton move said: %v", err)
			case <-time.After(40 * time.Second):
				t.Fatal("baton move does not come back")
			}
			p.asBefore()
			p.over()
		})
	}
}

func TestFailedTransferToOwnDevice(t *testing.T) {
	p := newParty(t)
	p.devices[1].Behave(phone.Behaviour{Reject: 486})
	p.must(p.refer(fmt.Sprintf("101*%d", p.deviceOf(p.devices[1]).Index), 486))
	p.logged("move-failed", map[string]string{"how": "refer", "who": "alice", "code": "486"})
	p.counted(`baton_moves_total{code="486",trigger="refer"} 1`)
	p.asBefore()
	p.over()
}

func TestOldPhoneHangsUpWhileTheNewOneRings(t *testing.T) {
	for _, how := range []string{"refer", "cli"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			p := newParty(t)
			p.devices[1].Behave(phone.Behaviour{})
			index := p.deviceOf(p.devices[1]).Index
			done := make(chan error, 1)
			if how == "cli" {
				go func() { _, err := p.cli("--user", "alice", fmt.Sprint(index)); done <- err }()
			} else {
				_, err := p.leg().Refer(fmt.Sprintf("101*%d", index))
				p.must(err)
				done <- nil
			}
			leg := p.ringing(p.devices[1])
			p.must(p.leg().Hangup())
			if !p.far.HearsTone(2 * time.Second) {
				t.Error("bob hears no tone while nobody has alice's seat")
			}
			p.must(leg.Answer())
			p.arrived(how, leg, 1)
			p.must(<-done)
			r := phone.Analyse(p.far.Media().Heard(), 8000)
			if r.Missing != 0 || len(r.SSRCs) != 1 || r.Drift > 25*time.Millisecond {
				t.Errorf("bob's stream: %s", r)
			}
			if got := p.bob.Received(p.since); len(got) > 0 {
				t.Errorf("bob's phone was sent %s", got[0].Line())
			}
			p.over()
		})
	}
}

func TestMovesThatAreRefused(t *testing.T) {
	p := newParty(t)
	id := p.id()
	gone := p.phone("alice", "gone", func(c *phone.Config) { c.Codecs = []phone.Codec{phone.G722} })
	odd := p.phone("alice", "odd", with(phone.G722))
	odd.Behave(phone.AutoAnswer)
	p.must(second(gone.Unregister()))
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"a device that is away", []string{id, p.deviceOf(gone).Name}, "away"},
		{"a device that is not there", []string{id, "9"}, ""},
		{"an unknown name", []string{id, "teapot"}, "teapot"},
		{"the device that has it", []string{id, fmt.Sprint(p.deviceOf(p.devices[0]).Index), "--seat", "alice"}, ""},
		{"no such call", []string{"zzzzzzzz", "1"}, ""},
		{"a user who is in no call", []string{"--user", "carol", "1"}, ""},
		{"no codec in common", []string{id, p.deviceOf(odd).Name}, ""},
	} {
		_, err := p.cli(c.args...)
		if c.name == "the device that has it" {
			if err != nil && node.ExitStatus(err) == 0 {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("%s: %v", c.name, err)
		}
		t.Logf("%s: %v", c.name, err)
	}
	p.asBefore()
	p.over()
	if _, err := p.cli(id, fmt.Sprint(p.deviceOf(p.devices[1]).Index)); err == nil {
		t.Error("a call that has ended was moved")
	}
}

func TestOneMoveAtATime(t *testing.T) {
	p := newParty(t)
	p.devices[1].Behave(phone.Behaviour{})
	p.devices[2].Behave(phone.AutoAnswer)
	one, two := p.deviceOf(p.devices[1]).Index, p.deviceOf(p.devices[2]).Index
	first := make(chan error, 1)
	go func() { _, err := p.cli("--user", "alice", fmt.Sprint(one)); first <- err }()
	leg := p.ringing(p.devices[1])
	if _, err := p.cli("--user", "alice", fmt.Sprint(two)); err == nil || !strings.Contains(err.Error(), "in progress") {
		t.Errorf("the second move: %v", err)
	}
	p.must(leg.Answer())
	p.must(<-first)
	p.arrived("cli", leg, 1)
	p.unbroken(200 * time.Millisecond)
	p.over()
}

func TestPullWithoutACall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.phone("alice", "desk")
	for _, to := range []string{"101", "*40", "*409"} {
		out := w.dial(alice, to)
		heard := out.HearsTone(3 * time.Second)
		w.status(out, 404)
		if !heard {
			t.Errorf("%s: refused without an announcement", to)
		}
	}
}

func TestPullOnTheDeviceThatHasIt(t *testing.T) {
	p := newParty(t)
	out := p.dial(p.devices[0], "101")
	p.must(out.Await(5 * time.Second))
	p.talk(p.leg(), p.far)
	if out.State() == phone.Up {
		if err := out.AwaitEnd(8 * time.Second); err != nil {
			p.must(out.Hangup())
		}
	}
	p.asBefore()
	p.over()
}

func TestReplacesOfSomebodyElseIsRefused(t *testing.T) {
	p := newParty(t)
	carol := p.phone("carol", "thief")
	header := phone.Header{Name: "Replaces", Value: p.leg().Replaces()}
	p.status(p.dial(carol, "102", phone.DialOptions{Headers: []phone.Header{header}}), 481)
	header.Value = "nothing@nowhere;to-tag=1;from-tag=2"
	p.status(p.dial(p.devices[1], "102", phone.DialOptions{Headers: []phone.Header{header}}), 481)
	p.asBefore()
	p.over()
}

func TestBothSidesMoveAtOnce(t *testing.T) {
	w := newWorld(t)
	a1, a2 := w.phone("alice", "desk"), w.phone("alice", "soft")
	b1, b2 := w.phone("bob", "desk"), w.phone("bob", "soft")
	for _, p := range []*phone.Phone{a2, b2} {
		p.Behave(phone.Behaviour{})
	}
	out := w.dial(a1, "bob")
	desk, soft := w.ringing(b1), w.ringing(b2)
	w.must(desk.Answer())
	w.must(out.Await(5 * time.Second))
	w.ended(soft)
	since := time.Now()
	a2.Behave(phone.AutoAnswer)
	b2.Behave(phone.AutoAnswer)
	ia, ib := fmt.Sprint(w.deviceOf(a2).Index), fmt.Sprint(w.deviceOf(b2).Index)
	failed := make(chan error, 2)
	go func() { _, err := w.CLI("move", "--user", "alice", ia); failed <- err }()
	go func() { _, err := w.CLI("move", "--user", "bob", ib); failed <- err }()
	w.must(<-failed)
	w.must(<-failed)
	na, nb := w.ringing(a2), w.ringing(b2)
	w.talk(na, nb)
	w.ended(out, desk)
	for _, m := range a2.Received(since) {
		if m.Method != "" && m.Method != "INVITE" && m.Method != "ACK" {
			t.Errorf("alice's new phone was sent %s", m.Line())
		}
	}
	w.must(na.Hangup())
	w.ended(nb)
}

func TestMoveBetweenG711Laws(t *testing.T) {
	w := newWorld(t)
	bob := w.phone("bob", "far", with(phone.PCMU))
	desk, soft := w.phone("alice", "desk", with(phone.PCMU)), w.phone("alice", "soft", with(phone.PCMA))
	leg, far := w.connect(desk, "bob", bob)
	p := &party{world: w, bob: bob, far: far, legs: []*phone.Call{leg}, devices: []*phone.Phone{desk, soft}, since: time.Now()}
	p.move("cli", 1, phone.AutoAnswer)
	p.move("pull", 0, phone.AutoAnswer)
	p.move("refer", 1, phone.AutoAnswer)
	r := phone.Analyse(far.Media().Heard(), 8000)
	if r.Missing != 0 || len(r.SSRCs) != 1 || r.Drift > 25*time.Millisecond || r.Changed == 0 {
		t.Errorf("bob heard %s", r)
	}
	p.over()
}

func TestPullOneOfTwoCalls(t *testing.T) {
	w := newWorld(t)
	bob, carol := w.phone("bob", "far"), w.phone("carol", "far2")
	desk, soft := w.phone("alice", "desk"), w.phone("alice", "soft")
	first, farFirst := w.connect(desk, "bob", bob)
	w.must(first.Hold(phone.HoldSendonly)) // as a phone does before its second call
	second, farSecond := w.connect(desk, "carol", carol)
	pulled := w.dial(soft, "101")
	w.must(pulled.Await(5 * time.Second))
	w.talk(pulled, farSecond) // the one that is talking
	w.ended(second)
	other := w.dial(soft, "*401")
	w.must(other.Await(5 * time.Second))
	w.talk(other, farFirst) // the first as listed
	w.ended(first)
	w.must(farFirst.Hangup())
	w.must(farSecond.Hangup())
	w.ended(other, pulled)
}
