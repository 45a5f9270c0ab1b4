package call_test

import (
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/registrar"
	"baton/test/phone"
)

// answering is what the node knows of how alice's device answers.
func (r *rig) answering(ref string) registrar.Answering {
	r.t.Helper()
	d, err := r.reg.Find("alice", ref)
	must(r.t, err)
	return d.Answering()
}

// knows waits until the node knows how alice's device 2 answers, and how often it did.
func (r *rig) knows(way string, times int) {
	r.t.Helper()
	r.eventually("device 2 is known to answer "+way, 5*time.Second, func() bool {
		a := r.answering("2")
		return a.Way == way && a.Times == times
	})
}

// moveTo moves alice's call to one of her devices, in the background.
func (r *rig) moveTo(device string) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := r.b.Move(r.t.Context(), call.MoveRequest{User: "alice", Device: device, How: "cli"})
		done <- err
	}()
	return done
}

// moved waits for the end of a move.
func (r *rig) moved(done <-chan error) {
	r.t.Helper()
	select {
	case err := <-done:
		must(r.t, err)
	case <-time.After(15 * time.Second):
		r.t.Fatal("the move does not end")
	}
}

// nudge waits for the NOTIFY to a ringing call and says how long after the 180 it came.
func nudge(t *testing.T, c *phone.Call, limit time.Duration) (*phone.Message, time.Duration) {
	t.Helper()
	var rang time.Time
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		for _, m := range c.Phone().Log() {
			if m.Get("Call-ID") != c.ID() {
				continue
			}
			if m.Out && m.Code == 180 && rang.IsZero() {
				rang = m.At
			}
			if !m.Out && m.Method == "NOTIFY" {
				return m.Message, m.At.Sub(rang)
			}
		}
	}
	return nil, 0
}

// TestAnswersByHeaders moves a call to a phone that obeys the headers: it is told who is on the other side, and that it did is
// known.
func TestAnswersByHeaders(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("alice", 2)
	desk.Behave(phone.Behaviour{Ringless: true})
	out, in := r.connect(alice, bob)
	r.moved(r.moveTo("2"))
	leg, err := desk.Ringing(time.Second)
	must(t, err)
	if from := leg.Invite().Get("From"); phone.DisplayName(from) != "bob" || !strings.Contains(from, "sip:102@") {
		t.Errorf("its display says %s", from)
	}
	must(t, out.AwaitEnd(5*time.Second))
	r.knows(registrar.ByHeaders, 1)
	if m, _ := nudge(t, leg, 100*time.Millisecond); m != nil {
		t.Error("a phone that had answered was sent NOTIFY")
	}
	must(t, in.Hangup())
	must(t, leg.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestAnswersByTalk moves a call to a phone that heeds NOTIFY talk alone: first when the headers have done nothing, next time at
// once.
func TestAnswersByTalk(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("alice", 2)
	desk.Behave(phone.Behaviour{Talk: true})
	out, in := r.connect(alice, bob)

	done := r.moveTo("2")
	leg, err := desk.Ringing(3 * time.Second)
	must(t, err)
	m, after := nudge(t, leg, 5*time.Second)
	if m == nil || after < 700*time.Millisecond {
		t.Fatalf("NOTIFY %v after the 180: %v", after, m)
	}
	if m.Get("Event") != "talk" || !strings.HasPrefix(m.Get("Subscription-State"), "active") || phone.Param(m.Get("To"), "tag") == "" {
		t.Errorf("%v", m)
	}
	r.moved(done)
	must(t, out.AwaitEnd(5*time.Second))
	r.knows(registrar.ByTalk, 1)

	alice.Behave(phone.AutoAnswer)
	r.moved(r.moveTo("1"))
	back, err := alice.Ringing(time.Second)
	must(t, err)
	must(t, leg.AwaitEnd(5*time.Second))
	done = r.moveTo("2")
	leg, err = desk.Ringing(3 * time.Second)
	must(t, err)
	if m, after := nudge(t, leg, 5*time.Second); m == nil || after > 500*time.Millisecond {
		t.Errorf("NOTIFY %v after the 180 of a phone that is known: %v", after, m)
	}
	r.moved(done)
	must(t, back.AwaitEnd(5*time.Second))
	r.knows(registrar.ByTalk, 2)
	if !in.Hears(leg, 3*time.Second) || !leg.Hears(in, 3*time.Second) {
		t.Error("the call did not arrive")
	}
	must(t, in.Hangup())
	must(t, leg.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestHeadersAreWaitedFor has a phone ring that has obeyed the headers before: it is given time for them.
func TestHeadersAreWaitedFor(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("alice", 2)
	d, err := r.reg.Find("alice", "2")
	must(t, err)
	r.reg.Learn(d, map[string]string{registrar.LearntAnswer: registrar.Answering{Way: registrar.ByHeaders, Times: 7, Last: time.Now()}.String()})
	r.knows(registrar.ByHeaders, 7)
	desk.Behave(phone.Behaviour{Talk: true})
	_, in := r.connect(alice, bob)
	done := r.moveTo("2")
	leg, err := desk.Ringing(3 * time.Second)
	must(t, err)
	if m, after := nudge(t, leg, 6*time.Second); m == nil || after < 2500*time.Millisecond {
		t.Errorf("NOTIFY %v after the 180: %v", after, m)
	}
	r.moved(done)
	must(t, in.Hangup())
	must(t, leg.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestRingsWhereNothingHelps moves a call to a phone that promises talk and refuses it: it rings, the old one goes on, and a
// hand answers. Then one that rings in vain. Neither is taken for one that answers by itself.
func TestRingsWhereNothingHelps(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("alice", 2)
	desk.Behave(phone.Behaviour{Talk: true, Notify: 481})
	out, in := r.connect(alice, bob)
	done := r.moveTo("2")
	leg, err := desk.Ringing(3 * time.Second)
	must(t, err)
	if m, _ := nudge(t, leg, 5*time.Second); m == nil {
		t.Error("no NOTIFY came")
	}
	if !in.Hears(out, 3*time.Second) || !out.Hears(in, 3*time.Second) {
		t.Error("the old device does not talk while the new one rings")
	}
	time.Sleep(600 * time.Millisecond) // so that it is a hand's answer
	must(t, leg.Answer())
	r.moved(done)
	r.knows(registrar.ByHand, 1)

	alice.Behave(phone.Behaviour{})
	done = r.moveTo("1")
	vain, err := alice.Ringing(3 * time.Second)
	must(t, err)
	time.Sleep(2100 * time.Millisecond)
	must(t, vain.Reject(486))
	if err := <-done; err == nil {
		t.Error("486 was taken for an answer")
	}
	r.eventually("it is known that device 1 rang", 5*time.Second, func() bool { return r.answering("1").Way == registrar.ByHand })
	must(t, in.Hangup())
	must(t, leg.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestBusyDeviceRings moves a call to a device that is in another one: nobody may be made to leave that.
func TestBusyDeviceRings(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	r.user("carol", "103")
	carol, desk := r.phone("carol", 1), r.phone("alice", 2)
	other, _ := r.connect(desk, carol)
	out, in := r.connect(alice, bob)
	desk.Behave(phone.Behaviour{Talk: true, Ringless: true})
	done := r.moveTo("2")
	leg, err := desk.Ringing(3 * time.Second)
	must(t, err)
	if m, _ := nudge(t, leg, 1500*time.Millisecond); m != nil || leg.Invite().Get("Answer-Mode") != "" || leg.Invite().Get("Call-Info") != "" {
		t.Error("a phone in another call was asked to answer by itself")
	}
	must(t, leg.Answer())
	r.moved(done)
	must(t, out.AwaitEnd(5*time.Second))
	if a := r.answering("2"); a.Way != "" {
		t.Errorf("learnt of a phone that was not asked: %+v", a)
	}
	must(t, in.Hangup())
	must(t, other.Hangup())
	r.nothingLeft()
}

// TestAllOthersRing transfers to all of one's other devices, to another user and by a plain call: no phone is asked to answer by
// itself, though all would.
func TestAllOthersRing(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	r.user("carol", "103")
	carol, desk := r.phone("carol", 1), r.phone("alice", 2)
	for _, p := range []*phone.Phone{carol, desk} {
		p.Behave(phone.Behaviour{Talk: true, Ringless: true})
	}
	out, in := r.connect(alice, bob)
	for to, p := range map[string]*phone.Phone{"101": desk, "*41": desk, "103": carol} {
		ref, err := out.Refer(to)
		must(t, err)
		leg, err := p.Ringing(3 * time.Second)
		must(t, err)
		if m, _ := nudge(t, leg, 1200*time.Millisecond); m != nil || leg.State() != phone.Alerting {
			t.Errorf("transfer to %s: the phone was asked to answer by itself", to)
		}
		must(t, leg.Reject(486))
		if code, err := ref.Wait(5 * time.Second); err != nil || code != 486 {
			t.Errorf("transfer to %s: %d %v", to, code, err)
		}
	}
	must(t, in.Hangup())
	must(t, out.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestNobodyElseMayAsk has a phone ask by all headers and parameters that are known for another phone to answer: by a call, by a
// transfer, and backwards in its 180.
func TestNobodyElseMayAsk(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	r.user("carol", "103")
	carol := r.phone("carol", 1)
	asks := []phone.Header{
		{Name: "Call-Info", Value: "<sip:x>;answer-after=0"},
		{Name: "Alert-Info", Value: "<http://x>;info=alert-autoanswer"},
		{Name: "Answer-Mode", Value: "Auto;require"},
		{Name: "Priv-Answer-Mode", Value: "Auto"},
		{Name: "P-Auto-Answer", Value: "normal"},
		{Name: "Allow-Events", Value: "talk"},
	}
	clean := func(what string, p *phone.Phone) {
		t.Helper()
		for _, m := range p.Received(time.Time{}) {
			for _, h := range asks {
				if v := m.Get(h.Name); v != "" {
					t.Errorf("%s: %s has %s: %s", what, m.Line(), h.Name, v)
				}
			}
			for _, param := range []string{"intercom", "answer-after", "Answer-Mode", "autoanswer"} {
				for _, v := range append([]string{m.URI}, m.All("To")...) {
					if m.Code == 0 && strings.Contains(strings.ToLower(v), strings.ToLower(param)) {
						t.Errorf("%s: %s has %s", what, m.Line(), v)
					}
				}
			}
		}
	}
	bob.Behave(phone.Behaviour{Answer: true, After: 100 * time.Millisecond, Headers: asks})
	out := mustDial(t, alice, "sip:102@"+r.server.String()+";intercom=true;answer-after=0", phone.DialOptions{Headers: asks})
	in, err := bob.Ringing(3 * time.Second)
	must(t, err)
	must(t, out.Await(3*time.Second))
	clean("a call", bob)
	clean("its answers", alice)
	carol.Behave(phone.Behaviour{Reject: 486})
	ref, err := out.Refer("sip:103@" + r.server.String() + ";intercom=true?Call-Info=%3Csip%3Ax%3E%3Banswer-after%3D0&Alert-Info=info%3Dalert-autoanswer&Answer-Mode=Auto&Priv-Answer-Mode=Auto")
	must(t, err)
	_, err = ref.Wait(5 * time.Second)
	must(t, err)
	clean("a transfer", carol)
	if len(methods(carol.Received(time.Time{}), "INVITE")) == 0 || len(methods(bob.Received(time.Time{}), "INVITE")) == 0 {
		t.Error("a phone was not called at all")
	}
	must(t, in.Hangup())
	must(t, out.AwaitEnd(3*time.Second))
	r.nothingLeft()
}
