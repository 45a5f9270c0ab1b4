package call

import (
	"errors"
	"strings"
	"time"

	"baton/registrar"
	"baton/sip"
)

// A device that is asked to answer by itself is asked twice (docs/moves.md): by the headers of its INVITE, and where its phone says
// that it knows BroadSoft's remote control, by that if the headers have done nothing.
//
//	INVITE ──2xx──────────────────────────────────▶ headers
//	   └──180──Allow-Events: talk──wait──NOTIFY talk──2xx──▶ talk
//	              └──2xx much later, or never────────────▶ it rang
//
// What came of it is learnt, and next time a phone that is known to want the NOTIFY gets it at once.

const (
	headersPatience = 800 * time.Millisecond // from its 180 to NOTIFY talk
	knownPatience   = 3 * time.Second        // the same of a phone that has obeyed the headers before

	// atOnce is how soon an answer must follow the 180, or the NOTIFY, to be the phone's own: no hand is as quick, as a rule.
	atOnce = time.Second
	// rangInVain is how long a phone must have rung without an answer before it is known not to answer by itself.
	rangInVain = 2 * time.Second
)

// mayAnswerItself says whether the leg's device may be asked: its user has not opted it out, and it is in no other call, which
// nobody may be made to leave.
func (c *Call) mayAnswerItself(l *Leg) bool {
	if l.device.Profile[registrar.Ringless] == "off" {
		return false
	}
	busy := c.b.callAt(l.seat.user.Name, l.device.Key)
	return busy == nil || busy == c
}

// coax has a ringing phone that allows it sent NOTIFY talk: at once, or when the headers have done nothing.
func (d *dial) coax(l *Leg, f *fork, r *sip.Response) {
	if l.coaxed || f == nil || !allowsTalk(r) {
		return
	}
	l.coaxed = true
	wait := headersPatience
	switch l.device.Answering().Way {
	case registrar.ByTalk:
		d.talk(l, f)
		return
	case registrar.ByHeaders:
		wait = knownPatience
	}
	d.c.after(wait, func() {
		if !d.over && l.state == legRinging {
			d.talk(l, f)
		}
	})
}

func allowsTalk(r *sip.Response) bool {
	for _, v := range r.Headers("Allow-Events") {
		for _, event := range strings.Split(v, ",") {
			if strings.EqualFold(strings.TrimSpace(event), "talk") {
				return true
			}
		}
	}
	return false
}

// talk asks a ringing phone that knows BroadSoft's remote control to answer.
func (d *dial) talk(l *Leg, f *fork) {
	l.nudged = time.Now()
	out := l.inEarly(f, "NOTIFY", sip.Body{},
		sip.Header{Name: "Event", Value: "talk"}, sip.Header{Name: "Subscription-State", Value: "active;expires=60"})
	d.c.request(l, out, requestPatience, func(err error) {
		var status *sip.StatusError
		if errors.As(err, &status) { // 481, 489: it has promised too much
			l.nudged = time.Time{}
		}
		if err != nil {
			d.c.log.Debug("notify talk", "leg", l.id, "device", l.device.Name, "err", err)
		}
	})
}

// answeredBy is how the leg's phone came to answer.
func (l *Leg) answeredBy() string {
	since := l.rangAt
	way := registrar.ByHeaders
	if !l.nudged.IsZero() {
		since, way = l.nudged, registrar.ByTalk
	}
	if since.IsZero() || l.answer.Sub(since) < atOnce {
		return way
	}
	return registrar.ByHand
}

// learnAnswer keeps at once how a phone that was asked has answered: the next move may come soon.
func (c *Call) learnAnswer(l *Leg) {
	if l.ringless {
		c.learnWay(l, l.answeredBy())
	}
}

func (c *Call) learnWay(l *Leg, way string) {
	known := l.device.Answering().Then(way, time.Now())
	c.b.Registrar.Learn(l.device, map[string]string{registrar.LearntAnswer: known.String()})
}
