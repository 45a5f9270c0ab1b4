package call_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/registrar"
	"baton/test/phone"
)

// tried tries alice's device 1 and gives what was found, by name.
type tried struct {
	report call.TrialReport
	err    error
}

// try begins a trial of alice's device; each is told the findings as they come.
func (r *rig) try(ctx context.Context, ask call.TrialRequest, each func(call.Finding)) <-chan tried {
	done := make(chan tried, 1)
	go func() {
		report, err := r.b.Trial(ctx, ask, each)
		done <- tried{report, err}
	}()
	return done
}

// wait waits for the end of a trial.
func (r *rig) wait(done <-chan tried) tried {
	r.t.Helper()
	select {
	case got := <-done:
		return got
	case <-time.After(40 * time.Second):
		r.t.Fatal("the trial does not end")
		return tried{}
	}
}

// found is a finding by its name.
func (t tried) found(what string) call.Finding {
	for _, f := range t.report.Findings {
		if f.What == what {
			return f
		}
	}
	return call.Finding{}
}

func nothing(call.Finding) {}

// TestTrial tries a phone that can all that is asked: it is called by itself, heard, held, taken back, asked, has a key pressed
// and reports what it hears; the findings come one by one, and what was learnt stays.
func TestTrial(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Call.Session = 10 * time.Minute })
	r.user("alice", "101")
	alice := r.phone("alice", 1, func(c *phone.Config) { c.Codecs = []phone.Codec{phone.PCMA, phone.PCMU, phone.DTMF} })
	alice.Behave(phone.Behaviour{Ringless: true, Headers: []phone.Header{
		{Name: "Allow", Value: "INVITE, ACK, CANCEL, BYE, UPDATE, INFO, OPTIONS"},
		{Name: "Supported", Value: "timer, 100rel"},
		{Name: "Session-Expires", Value: "600;refresher=uas"},
		{Name: "Require", Value: "timer"},
	}})
	var leg *phone.Call
	asked := make(chan struct{})
	each := func(f call.Finding) {
		if f.What == "press a key" {
			close(asked)
		}
	}
	done := r.try(t.Context(), call.TrialRequest{User: "101", Device: "1", Keys: true, Who: "a test"}, each)
	leg, err := alice.Ringing(5 * time.Second)
	must(t, err)
	if from := leg.Invite().Get("From"); phone.DisplayName(from) != "baton test" {
		t.Errorf("its display says %s", from)
	}
	if !leg.HearsTone(3 * time.Second) {
		t.Error("the phone hears nothing")
	}
	if calls := r.b.Calls(""); len(calls) > 0 {
		t.Errorf("the test is shown as a call: %+v", calls)
	}
	select {
	case <-asked:
	case <-time.After(20 * time.Second):
		t.Fatal("no key was asked for")
	}
	leg.Media().Press('5', 100*time.Millisecond)
	must(t, leg.Media().Report(0))
	got := r.wait(done)
	must(t, got.err)
	for what, want := range map[string]string{
		"answer": "as the headers", "codecs": "PCMU PCMA, of all", "we hear it": "PCMU", "hold": "answered recvonly", "resume": "answered sendrecv",
		"OPTIONS": "answered in", "UPDATE": "answered", "100rel": "reliable", "session timer": "10m0s, refreshed by the phone",
		"keys": "payload type 101 at 8000 Hz; INFO too", "key": "telephone-event", "it hears us": "0.0 % of PCMU",
	} {
		if f := got.found(what); f.Verdict != call.Good || !strings.Contains(f.Text, want) {
			t.Errorf("%s: %s, %q; want %q", what, f.Verdict, f.Text, want)
		}
	}
	if got.report.Verdict != call.Good || got.report.User != "alice" || got.report.Device != "phonea" {
		t.Errorf("the whole: %+v", got.report)
	}
	must(t, leg.AwaitEnd(3*time.Second))
	r.nothingLeft()
	d, err := r.reg.Find("alice", "1")
	must(t, err)
	if a := d.Answering(); a.Way != registrar.ByHeaders || a.Times != 1 || d.Profile[registrar.LearntCodecs] != "PCMU PCMA" ||
		d.Profile[registrar.LearntKeys] != "rtp" || d.Profile[registrar.LearntReliable] != "yes" {
		t.Errorf("learnt: %v", d.Profile)
	}
	if e, err := r.store.Calls(); err != nil || len(e) > 0 {
		t.Errorf("left in the store: %v %v", e, err)
	}
}

// TestTrialOfAPoorPhone tries one that rings, refuses hold, sends nothing, and knows neither keys, UPDATE nor RTCP.
func TestTrialOfAPoorPhone(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	alice := r.phone("alice", 1, func(c *phone.Config) { c.Codecs, c.Allow = []phone.Codec{phone.PCMU}, "INVITE, ACK, CANCEL, BYE" })
	alice.Behave(phone.Behaviour{Refuse: 488})
	done := r.try(t.Context(), call.TrialRequest{User: "alice", Device: "phonea"}, nothing)
	leg, err := alice.Ringing(5 * time.Second)
	must(t, err)
	leg.Media().Mute(true)
	time.Sleep(1800 * time.Millisecond)
	must(t, leg.Answer())
	got := r.wait(done)
	must(t, got.err)
	for what, want := range map[string]string{
		"ringing": "ok pick it up", "answer": "note by hand, it rang for", "codecs": "ok PCMU", "we hear it": "bad no audio came",
		"hold": "bad refuses to be put on hold", "resume": "bad refuses", "UPDATE": "note not known", "keys": "bad neither",
		"it hears us": "note no RTCP", "session timer": "note none", "100rel": "note not said",
	} {
		verdict, text, _ := strings.Cut(want, " ")
		if f := got.found(what); string(f.Verdict) != verdict || !strings.Contains(f.Text, text) {
			t.Errorf("%s: %s, %q; want %q", what, f.Verdict, f.Text, want)
		}
	}
	if got.report.Verdict != call.Bad {
		t.Errorf("the whole is %s", got.report.Verdict)
	}
	must(t, leg.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestTrialHearsLoss has a phone report that it hears a half of what is sent.
func TestTrialHearsLoss(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	alice := r.phone("alice", 1)
	alice.Behave(phone.Behaviour{Answer: true})
	done := r.try(t.Context(), call.TrialRequest{User: "alice", Device: "1"}, nothing)
	leg, err := alice.Ringing(5 * time.Second)
	must(t, err)
	r.eventually("it hears something", 5*time.Second, func() bool { return len(leg.Media().Heard()) > 50 })
	must(t, leg.Media().Report(uint32(len(leg.Media().Heard())/2)))
	got := r.wait(done)
	must(t, got.err)
	if f := got.found("it hears us"); f.Verdict != call.Bad || !strings.Contains(f.Text, "lost") || f.Figures["lost"] < 20 {
		t.Errorf("%+v", f)
	}
	r.nothingLeft()
}

// TestTrialThatCannotBe tries devices that are away, in a call, unknown, busy, and one that hangs up in the midst.
func TestTrialThatCannotBe(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	refused := func(what, user, device, why string) {
		t.Helper()
		got := r.wait(r.try(t.Context(), call.TrialRequest{User: user, Device: device}, nothing))
		if got.err == nil || !strings.Contains(got.err.Error(), why) {
			t.Errorf("%s: %v, want %q", what, got.err, why)
		}
	}
	refused("unknown user", "nobody", "1", `user "nobody": not found`)
	refused("unknown device", "alice", "7", "there are 1 phonea")
	alice.Behave(phone.Behaviour{Reject: 486})
	refused("refused", "alice", "1", "phonea did not take the call: 486 Busy Here")
	alice.Behave(phone.Behaviour{})
	refused("not answered", "alice", "1", "phonea did not take the call: no answer")
	out, _ := r.connect(alice, bob)
	refused("in a call", "alice", "1", "phonea is in a call, which a test would disturb")
	must(t, out.Hangup())
	r.nothingLeft() // until then she is in a call

	alice.Behave(phone.AutoAnswer)
	done := r.try(t.Context(), call.TrialRequest{User: "alice", Device: "1"}, nothing)
	var leg *phone.Call
	for leg == nil || leg.State() == phone.Ended {
		c, err := alice.Ringing(5 * time.Second)
		must(t, err)
		leg = c
	}
	must(t, leg.Await(3*time.Second))
	time.Sleep(200 * time.Millisecond)
	must(t, leg.Hangup())
	if got := r.wait(done); got.err == nil || !strings.Contains(got.err.Error(), "cut short: ended by alice") {
		t.Errorf("hung up in the midst: %v", got.err)
	}
	_, err := alice.Unregister()
	must(t, err)
	refused("away", "alice", "1", "phonea is away since")
	r.nothingLeft()
}

// TestTrialTakenBack interrupts trials of a phone that rings and of one that has answered: both hear no more of it.
func TestTrialTakenBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	alice := r.phone("alice", 1)
	for _, b := range []phone.Behaviour{{}, phone.AutoAnswer} {
		alice.Behave(b)
		ctx, cancel := context.WithCancel(t.Context())
		done := r.try(ctx, call.TrialRequest{User: "alice", Device: "1"}, nothing)
		leg, err := alice.Ringing(5 * time.Second)
		must(t, err)
		if b.Answer {
			must(t, leg.Await(3*time.Second))
		}
		cancel()
		if got := r.wait(done); !errors.Is(got.err, context.Canceled) {
			t.Errorf("%+v", got)
		}
		must(t, leg.AwaitEnd(3*time.Second))
		r.nothingLeft()
	}
}

// TestTrialRespectsTheUser tries a device that shall not answer by itself: it is not asked to.
func TestTrialRespectsTheUser(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	alice := r.phone("alice", 1)
	must(t, r.reg.Set("alice", "1", registrar.Ringless, "off"))
	alice.Behave(phone.Behaviour{Ringless: true})
	done := r.try(t.Context(), call.TrialRequest{User: "alice", Device: "1"}, nothing)
	leg, err := alice.Ringing(5 * time.Second)
	must(t, err)
	if leg.Invite().Get("Answer-Mode") != "" {
		t.Error("it was asked to answer by itself")
	}
	must(t, leg.Answer())
	if got := r.wait(done); got.found("answer").Verdict != call.Note || !strings.Contains(got.found("answer").Text, "its user does not want") {
		t.Errorf("%+v", got)
	}
	r.nothingLeft()
}
