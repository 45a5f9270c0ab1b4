package call

import (
	"time"

	"baton/media"
	"baton/sip"
)

// Adoption: a leg changes its call. Its data (dialog, what was agreed, what its phone can) and its stream go over as they are,
// in a new Leg of the call that takes it, so that its phone notices nothing: the dialog counts on, the stream has its one SSRC.
// The old Leg is closed and knows its heir; whatever still comes for it, because it was on its way when the leg went, is handed on.
//
//	giving call                      taking call
//	give: old closed, heir set ─post─▶ adopt: seat, stream and dialog are its own
//	   └─ what comes late for it ─post─▶ behind the adoption, in order
//
// Neither agent waits for the other. A call does not end while it has a leg pledged: on its way to it, or from it to one that
// has not yet said what became of it.

// heir has a leg that its call has given away.
type heir struct {
	call *Call
	leg  *Leg
}

// withLeg runs f with the leg in the agent of the call that has it by now. False: that call has gone, and the leg with it.
func (c *Call) withLeg(l *Leg, f func(*Call, *Leg)) bool {
	h := l.heir
	if h == nil {
		f(c, l)
		return true
	}
	return h.call.post(func() { h.call.withLeg(h.leg, f) })
}

// serveLeg gives a request of the leg's phone to the call that has the leg by now.
func (c *Call) serveLeg(l *Leg, x *sip.Exchange) {
	if !c.withLeg(l, func(c *Call, l *Leg) { c.inDialog(l, x) }) {
		_ = x.Respond(sip.Reply{Code: 481})
	}
}

// heed is who is told of what the leg's stream hears.
func (c *Call) heed(l *Leg) (heard func(time.Time), pressed func(media.Key, int)) {
	heard = func(time.Time) { c.post(func() { c.withLeg(l, (*Call).onHeard) }) }
	pressed = func(k media.Key, rate int) {
		c.post(func() { c.withLeg(l, func(c *Call, l *Leg) { c.keyOf(l, key{k, rate}) }) })
	}
	return heard, pressed
}

// idle says that nothing is under way in the leg's dialog that this call would have to finish.
func (l *Leg) idle() bool {
	return l.state == legUp && l.open == 0 && !l.negotiates() && l.later == nil && !l.byes && l.acked
}

// give takes a leg out of the call, for another to adopt. From now on the leg is nobody's until the heir's call runs adopt,
// which must be posted before anything else can be.
func (c *Call) give(l *Leg, to *Call) *Leg {
	c.reportsOf(l)
	k := *l
	k.seat, k.hears, k.feeds, k.forks, k.pressing = nil, source{}, nil, nil, false
	l.heir = &heir{to, &k}
	c.setState(l, legClosed)
	if l.seat.holder == l {
		l.seat.holder = nil
	}
	c.forgetLeg(l)
	return &k
}

// adopt makes a leg that another call has given one of this call's.
func (c *Call) adopt(l *Leg, s *Seat) {
	l.seat = s
	c.legs = append(c.legs, l)
	l.stream.Tell(c.heed(l))
	c.mind(l)
	before := l.unfollow
	c.follow(l)
	before()
	c.attach(l)
	c.log.Debug("leg adopted", "leg", l.id, "user", s.user.Name, "device", l.device.Name, "state", l.state)
}

// pledge keeps the call until redeem: one of its legs is on the way to it, or from it.
func (c *Call) pledge() { c.pledged++ }

func (c *Call) redeem() {
	if c.pledged > 0 {
		c.pledged--
	}
	c.finishIfEmpty()
}
