package call

import (
	"errors"
	"time"

	"baton/sip"
)

// session is the session timer of one leg (RFC 4028), a value of its record: what is not refreshed in time is lost. Who has
// to refresh it is settled by each INVITE and UPDATE anew.
type session struct {
	Interval time.Duration `json:"interval,omitzero"` // 0 = none runs
	Ours     bool          `json:"ours,omitempty"`    // the refresh is our part
	From     time.Time     `json:"from,omitzero"`     // when it was refreshed last
	Min      time.Duration `json:"min,omitzero"`      // the shortest that the phone takes
}

// errExpired is why a leg is lost whose phone has not refreshed its session.
var errExpired = errors.New("its session was not refreshed in time")

// ends is when the leg counts as lost: a third of the interval or 32 s before its end, whichever is less (RFC 4028 §10).
func (s session) ends() time.Time { return s.From.Add(s.Interval - min(32*time.Second, s.Interval/3)) }

// takeSession settles the session timer by a request of the phone's, and gives the headers of the 2xx to it (RFC 4028 §9).
func (c *Call) takeSession(l *Leg, x *sip.Exchange) ([]sip.Header, error) {
	asked, there, err := x.SessionExpires()
	if err != nil {
		return nil, refusal(400, err.Error())
	}
	can, least := x.Supports("timer"), max(c.b.Config.SessionMin, x.MinSE())
	switch {
	case there && can && asked.Interval < c.b.Config.SessionMin:
		return nil, &Refusal{Code: 422, Why: "the session is too short", Headers: []sip.Header{sip.MinSE(c.b.Config.SessionMin)}}
	case !there && !(can && c.b.Config.Session > 0):
		l.session.Interval = 0
		return nil, nil
	}
	interval := max(asked.Interval, least)
	if c.b.Config.Session > 0 && (!there || c.b.Config.Session < interval) {
		interval = max(c.b.Config.Session, least)
	}
	theirs := asked.Refresher == "uac" && can
	l.session = session{Interval: interval, Ours: !theirs, From: time.Now(), Min: l.session.Min}
	if theirs {
		return []sip.Header{{Name: "Require", Value: "timer"}, sip.SessionExpires{Interval: interval, Refresher: "uac"}.Header()}, nil
	}
	return []sip.Header{sip.SessionExpires{Interval: interval, Refresher: "uas"}.Header()}, nil
}

// askSession is what an INVITE or UPDATE of ours says of the session timer (RFC 4028 §7.1, §7.4).
func (c *Call) askSession(l *Leg) []sip.Header {
	ask := sip.SessionExpires{Interval: c.b.Config.Session}
	if l.session.Interval > 0 {
		ask.Interval, ask.Refresher = l.session.Interval, "uas"
		if l.session.Ours {
			ask.Refresher = "uac"
		}
	}
	least := max(c.b.Config.SessionMin, l.session.Min)
	if ask.Interval == 0 || l.alive() && l.session.Interval == 0 {
		return nil
	}
	ask.Interval = max(ask.Interval, least)
	return []sip.Header{ask.Header(), sip.MinSE(least)}
}

// tookSession settles the session timer by the phone's 2xx (RFC 4028 §7.2).
func (l *Leg) tookSession(r *sip.Response) {
	took, there, err := r.SessionExpires()
	if !there || err != nil {
		l.session.Interval = 0
		return
	}
	l.session = session{Interval: took.Interval, Ours: took.Refresher != "uas", From: time.Now(), Min: l.session.Min}
}

// tooShort takes the least that a phone asks for in its 422 (RFC 4028 §7.3); false: it is not that, or nothing to go by.
func (l *Leg) tooShort(err error) bool {
	var status *sip.StatusError
	if !errors.As(err, &status) || status.Code != 422 || status.Response == nil {
		return false
	}
	least := status.Response.MinSE()
	if least <= l.session.Min || least > 24*time.Hour {
		return false
	}
	if l.session.Min = least; l.session.Interval > 0 {
		l.session.Interval = max(l.session.Interval, least)
	}
	return true
}

// keepSession refreshes a leg's session when half of it is over, or ends the leg whose phone should have.
func (c *Call) keepSession(l *Leg) {
	s := l.session
	switch {
	case s.Interval == 0 || l.state != legUp:
	case !s.Ours && time.Now().After(s.ends()):
		c.lost(l, errExpired)
	case s.Ours && time.Since(s.From) >= s.Interval/2 && !l.offers && !l.updating:
		c.refresh(l)
	}
}

// refresh says that the session goes on: by UPDATE, or by the re-INVITE that changes nothing where the phone has no UPDATE.
func (c *Call) refresh(l *Leg) {
	c.repoint(l)
	if !l.can.Update {
		c.reinvite(l, l.local)
		return
	}
	c.update(l, nil, func(err error) {
		switch {
		case err == nil || !l.alive() || l.tooShort(err): // the next look asks again, for longer
		case unanswered(err) && time.Now().Before(l.session.ends()): // and again
		case deadly(err) != nil:
			c.lost(l, err)
		default:
			c.log.Debug("refresh", "leg", l.id, "device", l.device.Name, "err", err)
		}
	})
}

// update sends an UPDATE without an offer: a refresh, and what the headers say.
func (c *Call) update(l *Leg, headers []sip.Header, then func(error)) {
	l.updating = true
	out := l.dialog.NewRequest("UPDATE", sip.Body{}, append(c.askSession(l), headers...)...)
	c.requestUnder(c.ctx, l, out, requestPatience, func(resp *sip.Response, err error) {
		l.updating = false
		var status *sip.StatusError
		switch {
		case err == nil:
			l.dialog.Refresh(resp)
			l.tookSession(resp)
			l.asked = time.Now()
		case errors.As(err, &status) && (status.Code == 405 || status.Code == 501):
			l.can.Update = false
		}
		then(err)
	})
}
