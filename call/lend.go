package call

import (
	"fmt"
	"slices"
	"time"

	"baton/media"
	"baton/sip"
)

// The other side of an attended transfer (attended.go): the call that gives its far side away.

// lendEvery is how often a leg with requests of ours under way is looked at, and lendPatience for how long.
const (
	lendEvery    = 20 * time.Millisecond
	lendPatience = 2 * time.Second
)

// lend gives the far side of the user's dialog to the call of a REFER: now, or when it answers.
func (c *Call) lend(h *handover) {
	if err := c.lendable(h); err != nil {
		c.decline(h, err)
		return
	}
	c.lending = h
	if c.state == StateSetup {
		s := newSeat(c.seats[1].user)
		h.to.post(func() { h.to.lent(h, s) })
		return
	}
	c.lendIdle(h)
}

// lendIdle gives an answered leg away as soon as nothing of ours is under way in its dialog.
func (c *Call) lendIdle(h *handover) {
	far := c.other(h.leg.seat)
	switch {
	case c.lending != h: // ended meanwhile
	case h.withdrawn.Load():
		c.decline(h, refusal(487, "the call of the transfer has ended"))
	case far == nil || far.holder == nil:
		c.decline(h, refusal(480, "nobody is on the other side of the call that Replaces names"))
	case far.holder.state == legUp && !slices.ContainsFunc(media.Sound(far.holder.agreed.Send), func(k media.Codec) bool { return media.Carries(h.far, k) }):
		c.decline(h, refusal(488, fmt.Sprintf("%s of %s has no codec that the other side of the call has", far.holder.device.Name, far.user.Name)))
	case far.holder.idle(): // else the call may be just being answered
		c.handOver(h, far.holder, nil)
	case time.Since(h.since) > lendPatience:
		c.decline(h, refusal(491, fmt.Sprintf("%s has not answered a request yet", far.holder.device.Name)))
	default:
		c.after(lendEvery, func() { c.lendIdle(h) })
	}
}

// lendable says why this call cannot hand its far side over.
func (c *Call) lendable(h *handover) error {
	l := h.leg
	setup := c.state == StateSetup
	switch {
	case h.withdrawn.Load():
		return refusal(487, "the call of the transfer has ended")
	case !setup && c.state != StateUp || l.seat.holder != l:
		return refusal(481, "the call that Replaces names has just ended")
	case c.quiet:
		return refusal(481, "the call that Replaces names is an announcement")
	case c.lending != nil || len(c.moves) > 0 || c.picking() != nil:
		return refusal(491, "a move of the call that Replaces names is in progress")
	case setup && (l.state != legIncoming || c.dial == nil):
		return refusal(481, "nobody rings in the call that Replaces names")
	case setup:
		return nil
	case h.early:
		return refusal(486, "the dialog is confirmed") // RFC 3891 §3
	}
	return nil
}

// decline tells the call of the REFER that nobody comes.
func (c *Call) decline(h *handover, err error) {
	if c.lending == h {
		c.lending = nil
	}
	code, why := statusOf(err, 500), err.Error()
	h.to.post(func() { h.to.refused(h, code, why) })
}

// keepOwn is decline for a call that has ended, or that nobody has taken.
func (c *Call) keepOwn(code int, why string) {
	if c.lending != nil {
		c.decline(c.lending, refusal(code, why))
	}
}

// handOver gives the target's leg to the call of the REFER; r is its answer to our INVITE, if it has just come.
func (c *Call) handOver(h *handover, l *Leg, r *sip.Response) {
	s := newSeat(l.seat.user)
	s.number, s.name = l.seat.number, l.seat.name
	seat := l.seat
	c.lending, c.gave = nil, true
	c.pledge()
	k := c.give(l, h.to)
	if h.to.post(func() { h.to.received(h, k, s, r) }) {
		return
	}
	l.heir = nil // that call has gone: another node has it
	c.adopt(k, seat)
	c.drop(k)
	c.handedOver(h, 481)
}

// unlend takes back what was asked for: whoever called goes on waiting, unless he has hung up meanwhile.
func (c *Call) unlend(h *handover) {
	if c.lending != h {
		return // the leg is on its way, or none comes
	}
	c.decline(h, refusal(487, "the call of the transfer has ended"))
	if c.state == StateSetup && c.seats[0].holder == nil {
		c.end("the call of the transfer has ended")
	}
}

// handedOver ends what is left of the call: the leg of the user who has transferred it. His phone sends its own BYE or
// CANCEL as a rule, and is given a second for it.
func (c *Call) handedOver(h *handover, code int) {
	over := func() {
		if l := h.leg; l.state == legIncoming {
			_ = l.exchange.Respond(refused(487, "the call was transferred"))
			c.closeLeg(l)
		}
		c.end("transferred")
	}
	if code < 300 {
		c.after(byeOfReferrer, over)
	} else {
		over()
	}
	c.redeem()
}
