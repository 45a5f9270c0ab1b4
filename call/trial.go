package call

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// A trial is a call of the node to one device, to find out what its phone can (docs/operate.md): it is a call with one seat that is
// neither shown nor logged. What was found is told as it is found, and learnt as in any other call.
//
//	ringing ──2xx──▶ heard? ──▶ hold ──▶ resume ──▶ OPTIONS ──▶ UPDATE ──▶ what it says ──▶ (keys) ──▶ has it heard? ──▶ BYE

// TrialRequest names the device that is to be tried.
type TrialRequest struct {
	User   string
	Device string // index, name, +sip.instance URN, GRUU or contact
	Keys   bool   // a person is there to press a key
	Who    string // for the log
}

// Finding is one thing that was found out about a device.
type Finding struct {
	What    string             `json:"what"`    // answer, hears us, we hear it, hold, …
	Verdict Verdict            `json:"verdict"` //
	Text    string             `json:"text"`    // for people
	Figures map[string]float64 `json:"figures,omitempty"`
}

// Verdict says what a finding means for whoever uses the device.
type Verdict string

// The verdicts: all is well; something is not there that can be done without, or could not be proved; something does not work.
const (
	Good Verdict = "ok"
	Note Verdict = "note"
	Bad  Verdict = "bad"
)

// TrialReport is all that was found.
type TrialReport struct {
	User     string    `json:"user"`
	Device   string    `json:"device"`
	Verdict  Verdict   `json:"verdict"` // the worst
	Findings []Finding `json:"findings"`
}

const (
	heardIn      = 3 * time.Second        // a phone that was answered sends audio by then
	heardAgainIn = 2 * time.Second        // … and after hold
	enough       = 25                     // packets that are heard for certain: half a second
	reportedIn   = 7 * time.Second        // RTCP comes each 5 s at least (RFC 3550 §6.2), give or take
	keyIn        = 15 * time.Second       // a person has pressed a key by then
	rangForLong  = 2 * headersPatience    // without an answer: a hand is needed
	ringMost     = 45 * time.Second       // whatever its user has set
	trialMost    = 2 * time.Minute        // all of it: a phone may answer each offer with 491
	lookAgain    = 50 * time.Millisecond  // how often it is looked
	lossy        = 3.0                    // percent of the packets
	holdFor      = 500 * time.Millisecond // between hold and resume
)

// trial is owned by its call's agent.
type trial struct {
	// set once
	c      *Call
	device registrar.Device
	keys   bool
	tell   func(Finding)
	done   func(error)

	leg   *Leg
	steps []func(*trial)
	over  bool // the steps are done: what ends the call now is the trial itself
}

// Trial calls a device and finds out what it can; tell is given each finding as it comes. The end of ctx hangs up.
func (b *B2BUA) Trial(ctx context.Context, r TrialRequest, tell func(Finding)) (TrialReport, error) {
	d, user, err := b.tryable(r)
	if err != nil {
		return TrialReport{}, err
	}
	findings, ended := make(chan Finding, 64), make(chan error, 1)
	c := b.newCall(b.ctx)
	c.quiet, c.seats = true, []*Seat{newSeat(user)}
	t := &trial{c: c, device: d, keys: r.Keys, tell: func(f Finding) { findings <- f }, done: func(err error) { ended <- err }}
	c.ended = t.ended
	if err := b.start(c, t.begin); err != nil {
		return TrialReport{}, err
	}
	b.Log.Info("device is tried", "user", d.User, "device", d.Name, "who", r.Who)
	report := TrialReport{User: d.User, Device: d.Name, Verdict: Good, Findings: []Finding{}}
	take := func(f Finding) {
		report.add(f)
		tell(f)
	}
	for {
		select {
		case f := <-findings:
			take(f)
		case <-ctx.Done():
			c.post(func() { c.end("the trial was taken back") })
			return report, ctx.Err()
		case err := <-ended:
			for len(findings) > 0 {
				take(<-findings)
			}
			return report, err
		}
	}
}

func (r *TrialReport) add(f Finding) {
	r.Findings = append(r.Findings, f)
	if f.Verdict == Bad || r.Verdict == Good {
		r.Verdict = f.Verdict
	}
}

// tryable finds the device, or says why it cannot be called now.
func (b *B2BUA) tryable(r TrialRequest) (registrar.Device, registrar.User, error) {
	user, ok := b.Registrar.User(r.User)
	if !ok {
		return registrar.Device{}, user, fmt.Errorf("user %q: %w", r.User, registrar.ErrNotFound)
	}
	d, err := b.Registrar.Find(user.Name, r.Device)
	if err != nil {
		return d, user, err
	}
	busy := b.callAt(user.Name, d.Key)
	switch {
	case !d.Here():
		return d, user, refusal(480, away(d))
	case busy != nil:
		return d, user, refusal(486, fmt.Sprintf("%s is in a call, which a test would disturb", d.Name))
	}
	return d, user, nil
}

// begin rings the device, which is asked to answer by itself.
func (t *trial) begin() {
	c := t.c
	us := &Seat{user: registrar.User{Name: "baton"}, number: "baton", name: "baton test"}
	c.dial = &dial{
		c: c, seat: c.seats[0], show: us, codecs: media.Known(), only: &t.device, auto: true,
		ringing:  func(*Leg, *sip.Response) {},
		answered: t.answered,
		failed:   func(code int, why string) { c.end(fmt.Sprintf("%s did not take the call: %s", t.device.Name, why)) },
	}
	c.after(rangForLong, func() {
		if c.state == StateSetup {
			t.found("ringing", Good, "it has not answered by itself: pick it up")
		}
	})
	c.after(ringMost, func() {
		if c.state == StateSetup {
			c.end(fmt.Sprintf("%s did not take the call: no answer", t.device.Name))
		}
	})
	c.after(trialMost, func() { c.end("it took too long") })
	c.dial.begin()
}

// ended tells the outcome when the call is over.
func (t *trial) ended() {
	if t.over {
		t.done(nil)
		return
	}
	why := t.c.why
	if t.leg != nil {
		why = "the test was cut short: " + why
	}
	t.done(refusal(480, why))
}

func (t *trial) found(what string, v Verdict, format string, args ...any) {
	t.tell(Finding{What: what, Verdict: v, Text: fmt.Sprintf(format, args...)})
}

// answered takes the device's 2xx.
func (t *trial) answered(l *Leg, r *sip.Response) {
	c := t.c
	t.leg, c.dial, c.seats[0].holder = l, nil, l
	answer, err := l.answerOf(r)
	if err == nil {
		err = l.settle(l.local, answer)
	}
	t.sayAnswer()
	if err != nil {
		t.found("codecs", Bad, "its answer cannot be used: %v", err)
		t.finish()
		return
	}
	if l.device.Profile[registrar.LearntCodecs] == "" { // it has never called; all that baton knows was offered
		l.traits.codecs = codecNames(answer)
	}
	c.changeState(StateUp)
	c.setState(l, legUp)
	l.hear(source{tone: media.ToneDone})
	t.steps = []func(*trial){
		(*trial).sayCodecs, (*trial).hearIt, (*trial).hold, (*trial).resume, (*trial).options, (*trial).update,
		(*trial).saySignalling, (*trial).sayKeys, (*trial).awaitKey, (*trial).hearsUs, (*trial).finish,
	}
	c.commit(func() {
		if l.alive() {
			c.ack(l)
			t.next()
		}
	})
}

// next goes on, unless the call has ended meanwhile.
func (t *trial) next() {
	if t.over || t.c.state != StateUp || !t.leg.alive() || len(t.steps) == 0 {
		return
	}
	step := t.steps[0]
	t.steps = t.steps[1:]
	step(t)
}

// finish hangs up.
func (t *trial) finish() {
	t.over = true
	t.c.end("the trial is over")
}

// await looks until something holds, or has not for so long, and then goes on.
func (t *trial) await(limit time.Duration, holds func() bool, then func(bool)) {
	deadline := time.Now().Add(limit)
	var look func()
	look = func() {
		switch {
		case t.c.state != StateUp || !t.leg.alive():
		case holds():
			then(true)
		case time.Now().After(deadline):
			then(false)
		default:
			t.c.after(lookAgain, look)
		}
	}
	look()
}

// sayAnswer tells how the device came to answer.
func (t *trial) sayAnswer() {
	l := t.leg
	rang := time.Duration(0)
	if !l.rangAt.IsZero() {
		rang = l.answer.Sub(l.rangAt)
	}
	f := Finding{What: "answer", Verdict: Good, Figures: map[string]float64{"rang_ms": ms(rang), "answer_ms": ms(l.answer.Sub(l.began))}}
	switch {
	case !l.ringless:
		f.Verdict, f.Text = Note, fmt.Sprintf("it rang for %s; its user does not want it to answer by itself", brief(rang))
	case l.answeredBy() == registrar.ByHeaders:
		f.Text = fmt.Sprintf("by itself after %s, as the headers of the INVITE ask", brief(l.answer.Sub(l.began)))
	case l.answeredBy() == registrar.ByTalk:
		f.Text = fmt.Sprintf("by itself %s after NOTIFY talk", brief(l.answer.Sub(l.nudged)))
	default:
		f.Verdict, f.Text = Note, fmt.Sprintf("by hand, it rang for %s: neither the headers nor NOTIFY talk had it answer", brief(rang))
		if l.nudged.IsZero() {
			f.Text = fmt.Sprintf("by hand, it rang for %s: the headers did not have it answer, and it takes no NOTIFY talk", brief(rang))
		}
	}
	t.tell(f)
}

// brief is a time for people.
func brief(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", ms(d))
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func (t *trial) sayCodecs() {
	t.found("codecs", Good, "%s, of all that baton knows", codecNames(t.leg.remote))
	t.next()
}

// hearIt waits for the device's audio.
func (t *trial) hearIt() {
	t.await(heardIn, t.hearing(), func(heard bool) {
		in := t.leg.stream.Stats().In
		switch {
		case heard:
			t.tell(Finding{
				What: "we hear it", Verdict: Good,
				Text:    fmt.Sprintf("%s came, %d packets so far, %d lost, jitter %.1f ms", in.Codec, in.Packets, in.Lost, in.Jitter),
				Figures: map[string]float64{"packets": float64(in.Packets), "lost": float64(in.Lost), "jitter_ms": in.Jitter},
			})
		case in.Packets > 0:
			t.found("we hear it", Note, "%d packets in %s: it is muted, or saves silence", in.Packets, brief(heardIn))
		default:
			t.found("we hear it", Bad, "no audio came within %s: look at a firewall between it and the audio ports", brief(heardIn))
		}
		t.next()
	})
}

// hearing says whether enough has come since now.
func (t *trial) hearing() func() bool {
	before := t.leg.stream.Stats().In.Packets
	return func() bool { return t.leg.stream.Stats().In.Packets >= before+enough }
}

// offer sends a re-INVITE with a direction and tells how it ended; what else is under way with the phone is waited out.
func (t *trial) offer(dir media.Direction, then func(error)) {
	c, l := t.c, t.leg
	if c.state != StateUp || !l.alive() {
		return
	}
	again := func() { t.offer(dir, then) }
	if l.updating { // a refresh of its session crosses it
		c.after(lookAgain, again)
		return
	}
	c.propose(c.ctx, l, l.versioned(l.local.WithDirection(dir)), func(err error) {
		switch {
		case errors.Is(err, errPending):
			c.after(lookAgain, again)
		case isGlare(err):
			c.after(c.glareDelay(l), again)
		default:
			then(err)
		}
	})
}

func (t *trial) hold() {
	t.offer(media.SendOnly, func(err error) {
		line, _, _ := t.leg.remote.Audio()
		switch {
		case err != nil:
			t.found("hold", Bad, "it refuses to be put on hold: %v", err)
		case line.Direction == media.RecvOnly || line.Direction == media.Inactive:
			t.found("hold", Good, "answered %s", line.Direction)
		default:
			t.found("hold", Note, "answered %s where recvonly was due", line.Direction)
		}
		t.c.after(holdFor, t.next)
	})
}

func (t *trial) resume() {
	t.offer(media.SendRecv, func(err error) {
		if err != nil {
			t.found("resume", Bad, "it refuses to be taken back from hold: %v", err)
			t.next()
			return
		}
		t.await(heardAgainIn, t.hearing(), func(heard bool) {
			line, _, _ := t.leg.remote.Audio()
			if heard {
				t.found("resume", Good, "answered %s, and it is heard again", line.Direction)
			} else {
				t.found("resume", Note, "answered %s, but nothing is heard for %s", line.Direction, brief(heardAgainIn))
			}
			t.next()
		})
	})
}

// options asks what the phone can, and how long its answer takes.
func (t *trial) options() {
	began := time.Now()
	t.c.requestUnder(t.c.ctx, t.leg, t.leg.dialog.NewRequest("OPTIONS", sip.Body{}), requestPatience, func(resp *sip.Response, err error) {
		took := time.Since(began)
		switch {
		case resp != nil:
			t.leg.learn(resp)
			fallthrough
		case deadly(err) == nil:
			t.tell(Finding{What: "OPTIONS", Verdict: Good, Text: "answered in " + brief(took), Figures: map[string]float64{"rtt_ms": ms(took)}})
		default:
			t.found("OPTIONS", Bad, "not answered in the call: %v", err)
		}
		t.next()
	})
}

func (t *trial) update() {
	if !t.leg.can.Update {
		t.found("UPDATE", Note, "not known to it: its display keeps the old name when the other side moves")
		t.next()
		return
	}
	t.c.update(t.leg, nil, func(err error) {
		if err != nil {
			t.found("UPDATE", Bad, "promised in Allow, but: %v", err)
		} else {
			t.found("UPDATE", Good, "answered")
		}
		t.next()
	})
}

// saySignalling tells what the phone has said of itself.
func (t *trial) saySignalling() {
	l := t.leg
	switch {
	case l.traits.reliable:
		t.found("100rel", Good, "it takes and sends reliable provisional answers")
	default:
		t.found("100rel", Note, "not said to be supported")
	}
	switch s := l.session; {
	case s.Interval > 0 && s.Ours:
		t.found("session timer", Good, "%s, refreshed by baton", s.Interval)
	case s.Interval > 0:
		t.found("session timer", Good, "%s, refreshed by the phone", s.Interval)
	case l.traits.timer:
		t.found("session timer", Good, "supported, not asked for")
	default:
		t.found("session timer", Note, "none: that it has vanished shows by its silence")
	}
	t.next()
}

// sayKeys tells how keys can pass.
func (t *trial) sayKeys() {
	var pts []string
	for _, k := range codecsOf(t.leg.remote) {
		if k.Name == "telephone-event" {
			pts = append(pts, fmt.Sprintf("%d at %d Hz", k.PT, k.Rate))
		}
	}
	switch info := t.leg.can.Info; {
	case len(pts) > 0 && info:
		t.found("keys", Good, "telephone-event, payload type %s; INFO too", strings.Join(pts, " and "))
	case len(pts) > 0:
		t.found("keys", Good, "telephone-event, payload type %s; no INFO", strings.Join(pts, " and "))
	case info:
		t.found("keys", Note, "INFO alone")
	default:
		t.found("keys", Bad, "neither telephone-event nor INFO")
	}
	t.next()
}

// awaitKey waits for a key that a person presses, if one is there to.
func (t *trial) awaitKey() {
	if !t.keys {
		t.next()
		return
	}
	t.found("press a key", Good, "now, any one, within %s", brief(keyIn))
	before := t.leg.stream.Keys()
	t.await(keyIn, func() bool { return t.leg.traits.byINFO || t.leg.stream.Keys() > before }, func(pressed bool) {
		switch {
		case !pressed:
			t.found("key", Bad, "none came within %s", brief(keyIn))
		case t.leg.stream.Keys() > before:
			t.found("key", Good, "came as telephone-event")
		default:
			t.found("key", Good, "came by INFO")
		}
		t.next()
	})
}

// hearsUs waits for what the device reports of the tone that it was played: that proves that it hears us.
func (t *trial) hearsUs() {
	left := max(reportedIn-time.Since(t.leg.answer), 0)
	t.await(left, func() bool { return t.leg.stream.Stats().Reported }, func(reported bool) {
		s := t.leg.stream.Stats()
		f := Finding{What: "it hears us", Verdict: Good, Figures: map[string]float64{
			"packets": float64(s.Out.Packets), "lost": float64(s.Out.Lost), "jitter_ms": s.Out.Jitter, "rtt_ms": s.RTT,
		}}
		switch {
		case !reported:
			t.found("it hears us", Note, "it sends no RTCP: only a person can tell whether the beeps were heard")
			t.next()
			return
		case s.Out.LossPercent > lossy:
			f.Verdict = Bad
		}
		f.Text = fmt.Sprintf("it reports %.1f %% of %s lost, jitter %.1f ms", s.Out.LossPercent, s.Out.Codec, s.Out.Jitter)
		if s.RTT > 0 {
			f.Text += fmt.Sprintf(", round trip %.1f ms", s.RTT)
		}
		t.tell(f)
		t.next()
	})
}
