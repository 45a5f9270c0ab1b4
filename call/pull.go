package call

import (
	"errors"
	"time"

	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// pull brings the caller's call to the device that dialled: n is the N of *40N, 0 = the one that is meant (choose.go). One
// that still rings for him is answered here.
func (b *B2BUA) pull(x *sip.Exchange, caller registrar.User, offer *media.Description, n int) error {
	if err := b.mayBegin(); err != nil {
		return err
	}
	k, err := b.choose(caller.Name, "", n)
	if err != nil {
		return b.noCall(x, caller, offer, err)
	}
	asked := k.call.do(func() {
		var err error
		if k.ring != nil {
			err = k.call.answerHere(&pickup{b: b, x: x, user: caller, offer: offer, pull: true}, k.ring)
		} else {
			err = k.call.pulled(x, offer, k.seat, nil)
		}
		if err != nil {
			_ = x.Respond(b.reply(err))
		}
	})
	if !asked {
		return refusal(404, "the call has just ended")
	}
	return nil
}

// answerHere has the device of the called user's answer what rings for him; if another of his has just done so it is a pull.
func (c *Call) answerHere(p *pickup, d *dial) error {
	err := c.pickedUp(p, d)
	if errors.Is(err, errTaken) {
		return c.tooLate(p)
	}
	return err
}

// noCall tells a caller by tone that there is nothing to bring to his device, and why.
func (b *B2BUA) noCall(x *sip.Exchange, caller registrar.User, offer *media.Description, err error) error {
	n := notice{tone: media.ToneUnknown, code: 404, why: "no live call of " + caller.Name + " to bring here"}
	var r *Refusal
	if errors.As(err, &r) {
		n.code, n.why = r.Code, r.Why
	}
	return b.announce(x, caller, offer, n)
}

// pulled moves a seat to the device that sent x: the seat of leg old, else the one at position.
func (c *Call) pulled(x *sip.Exchange, offer *media.Description, position int, old *Leg) error {
	return c.pulledBy(x, offer, position, old, false)
}

// pulledBy is pulled; doubted says that the device's old leg has been looked at before.
func (c *Call) pulledBy(x *sip.Exchange, offer *media.Description, position int, leg *Leg, doubted bool) error {
	old, how := leg, "replaces"
	if old == nil {
		how = "pull"
		if position >= len(c.seats) {
			return refusal(404, "the call has just ended")
		}
		if c.seats[position].user.Name != x.User() { // a transfer came between
			return refusal(404, "the call has just been transferred")
		}
		old = c.seats[position].lastLeg()
	}
	switch {
	case how == "replaces" && !old.known():
		return refusal(603, "that dialog has ended") // RFC 3891 §3
	case old == nil || !old.alive() && old.seat.away == nil:
		return refusal(404, "the call is not held by a device")
	}
	seat := old.seat
	if old.listens() {
		return refusal(481, "that device only listens: the call is on "+nameOf(seat.holder))
	}
	d := c.b.device(x, seat.user.Name)
	if l := seat.companion(d.Key); l != nil {
		return c.companionDials(x, offer, l, how)
	}
	if seat.away == nil && d.Key == old.device.Key && !c.leftBehind(old, x.Flow(), how) {
		if !doubted && c.disconnected(old) { // what was heard last may be of before
			time.AfterFunc(2*mute, func() { c.pulledAgain(x, offer, position, leg) })
			return nil
		}
		return c.b.announce(x, seat.user, offer, notice{tone: media.ToneEnded, code: 200, why: "the call is on this device already"})
	}
	return c.takeSeat(x, offer, old, how)
}

// takeSeat moves the seat of leg old to the device that sent x.
func (c *Call) takeSeat(x *sip.Exchange, offer *media.Description, old *Leg, how string) error {
	seat := old.seat
	m := &move{c: c, seat: seat, into: seat, from: old, how: how, who: seat.user.Name, began: time.Now()}
	if err := c.addMove(m); err != nil {
		return err
	}
	l, err := c.take(x, seat, offer)
	if err == nil {
		if err = c.answerNew(m, l, offer); err != nil {
			c.closeLeg(l)
		}
	}
	if err != nil {
		c.failMove(m, err.Error(), 488)
		return err
	}
	c.joinCaller(m, l)
	return nil
}

// pulledAgain serves a pull a moment later.
func (c *Call) pulledAgain(x *sip.Exchange, offer *media.Description, position int, leg *Leg) {
	asked := c.do(func() {
		if err := c.pulledBy(x, offer, position, leg, true); err != nil {
			_ = x.Respond(c.b.reply(err))
		}
	})
	if !asked {
		_ = x.Respond(c.b.reply(refusal(404, "the call has just ended")))
	}
}

// leftBehind says that a device asks for its own call because its leg is of no use to it any more: it has left that behind, its connection
// has broken or been replaced by another and its sound with it, or it names its dialog over another connection, or as a page, and knows best.
func (c *Call) leftBehind(l *Leg, now sip.Flow, how string) bool {
	s := l.sign()
	led, lost := !s.led.IsZero() && !s.spoke.After(s.led), now != s.flow && !c.b.Agent.Alive(s.flow)
	if how == "replaces" && (now.Transport == "wss" || led || lost) || c.b.left(l.seat.user.Name, l.device.Key, s) {
		return true
	}
	return time.Since(l.stream.LastHeard()) > mute && c.disconnected(l)
}

// disconnected says that the connection of a leg's phone has broken, or was replaced by another since it was heard.
func (c *Call) disconnected(l *Leg) bool {
	s := l.sign()
	return !c.b.Agent.Alive(s.flow) || s.led.After(l.stream.LastHeard()) && s.flow.Transport != "udp"
}

// mute is how long a phone whose connection has broken has said nothing when it has stopped talking for certain.
const mute = 100 * time.Millisecond

// answerNew makes our answer to the new device's offer, or our offer, by what the far side can play, the codec in use first.
func (c *Call) answerNew(m *move, l *Leg, offer *media.Description) error {
	m.device = l.device.Name
	if offer == nil {
		l.local = l.newOffer(offered(m.far), media.SendRecv)
		return nil
	}
	if err := c.answerFor(l, offer, m.far); err != nil {
		return refusal(488, err.Error())
	}
	return nil
}

// joinCaller is joinNew for a device that has called us.
func (c *Call) joinCaller(m *move, l *Leg) {
	c.listen(l, func() {
		c.closeLeg(l)
		c.failMove(m, l.device.Name+" gave up", 487)
	})
	c.joinNew(m, l, func() error { return c.accept(l) })
}
