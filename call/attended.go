package call

import (
	"slices"
	"sync/atomic"
	"time"

	"baton/media"
	"baton/sip"
)

// handover is an attended transfer (RFC 5589 §7): a REFER in one call names, by Replaces, a dialog that the same user has in
// another. Who is on the other side there takes the user's seat in the call of the REFER, and the user's two legs end. The
// call of the REFER is the one that goes on: the subscription of the REFER is in its dialog, and who waits there has waited
// longest.
//
//	call of the REFER                     other call
//	attend: the move is pending ──post──▶ lend: may it be? ──no──▶ refused: the REFER's answer says why, nothing changes
//	                                        │ answered              │ still rings
//	received: adopted, m.to ◀───post─── give the far leg      lent: 202, NOTIFY 180; the far side hears ringing
//	   commit ──────────────────post──▶ commit                 give it when it answers; refused → NOTIFY, recall
//	proceed: 202, NOTIFY, the switch ◀──post──┘
//	   └─finished─────────────────post──▶ handedOver: the user's leg here ends too
type handover struct {
	// set once
	m     *move         // of the call of the REFER
	to    *Call         // the call of the REFER
	from  *Call         // the call of the dialog that is named
	leg   *Leg          // the user's there; it is from's to look at
	early bool          // only if that dialog is not answered (RFC 3891 §3)
	far   []media.Codec // what the far side of the REFER takes, or has said that it could
	since time.Time

	withdrawn atomic.Bool // to's agent has given it up

	// owned by to's agent
	refer    *sip.Exchange
	terms    referTerms
	told     *referral     // nil until the REFER is accepted
	answered bool          // the REFER is
	arrived  *Leg          // the target's leg, in the call of the REFER
	response *sip.Response // that it has just given to its INVITE, nil = it was up before
	taken    bool          // proceed has run
	left     bool          // the other call has been told how it ended
}

// ownDialog finds the dialog of a user's that a Replaces names. The tags stand as we see them or as the phone does, for
// phones differ; they may be missing where the Call-ID alone names one. A dialog of somebody else's is none.
func (b *B2BUA) ownDialog(r sip.Replaces, user string) (dialogOwner, bool) {
	b.mu.Lock()
	own := slices.Clone(b.dialogs.live[r.CallID])
	b.mu.Unlock()
	own = slices.DeleteFunc(own, func(o dialogOwner) bool { return !r.Names(o.id) || o.user != user })
	if len(own) == 0 || slices.ContainsFunc(own, func(o dialogOwner) bool { return o.leg != own[0].leg }) {
		return dialogOwner{}, false
	}
	return own[0], true
}

// attend takes a REFER that names another dialog.
func (c *Call) attend(l *Leg, x *sip.Exchange, r sip.Replaces, t referTerms) error {
	owner, ok := c.b.ownDialog(r, l.seat.user.Name)
	switch {
	case !ok:
		return refusal(481, "Replaces names no dialog of "+l.seat.user.Name+"'s")
	case owner.call == c:
		return refusal(403, "a call cannot be transferred to itself")
	case c.pushing != nil && c.pushing.c == owner.call: // it is the second call, and its push is under way
		c.acceptRefer(l, x, t, c.subscribe(l, x, t))
		owner.call.post(func() { c.pushing.referred = true })
		return nil
	}
	if m := c.moveOf(l.seat); m != nil && m.waiting == owner.call && m.from == l {
		c.referPush(m, l, x, t)
		return nil
	}
	if far := c.other(l.seat); far != nil && far.away != nil {
		return refusal(480, far.user.Name+" has left the call")
	}
	m := &move{c: c, seat: l.seat, into: l.seat, from: l, how: "attended", who: l.seat.user.Name, began: time.Now(), referred: true}
	if err := c.addMove(m); err != nil {
		return err
	}
	m.device = "the other call of " + l.seat.user.Name
	h := &handover{
		m: m, to: c, from: owner.call, leg: owner.leg, early: r.EarlyOnly, far: media.Merge(m.farSide().agreed.Send, m.farSide().knows), since: time.Now(),
		refer: x, terms: t,
	}
	m.handover, m.finished = h, func(code int, why string) { c.attended(h, code, why) }
	c.pledge()
	if !h.from.post(func() { h.from.lend(h) }) {
		c.refused(h, 481, "the call that Replaces names has just ended")
	}
	return nil
}

// referPush takes a REFER that names the second call of a push: the move that this one began is what is asked for.
func (c *Call) referPush(m *move, l *Leg, x *sip.Exchange, t referTerms) {
	r := c.subscribe(l, x, t)
	c.commit(func() { c.acceptRefer(l, x, t, r) })
	told := m.finished
	m.referred = true
	m.finished = func(code int, why string) {
		c.notifyRefer(l, r, code, true)
		told(code, why)
	}
}

// refused takes the news that the other call hands nobody over.
func (c *Call) refused(h *handover, code int, why string) {
	if h.m.pending() {
		c.failMove(h.m, why, code)
	}
	c.redeem()
}

// lent takes the news that the target's phones still ring: the REFER is accepted, and its phone may hang up.
func (c *Call) lent(h *handover, s *Seat) {
	m := h.m
	if !m.pending() {
		return
	}
	c.fillBy(m, s)
	h.told = c.subscribe(m.from, h.refer, h.terms)
	c.commit(func() {
		if !m.pending() {
			return
		}
		c.acceptAttended(h)
		c.notifyRefer(m.from, h.told, 180, false)
		c.wire()
	})
}

// fillBy says whose seat the target's leg takes. To a device of one's own it is a move: the seat stays.
func (c *Call) fillBy(m *move, s *Seat) {
	if s.user.Name == m.seat.user.Name {
		m.into = m.seat
		return
	}
	m.into, m.device = s, "the devices of "+s.user.Name
}

// received adopts the target's leg. What others can see of it waits until both calls' records say where the leg is.
func (c *Call) received(h *handover, k *Leg, s *Seat, r *sip.Response) {
	m := h.m
	h.arrived, h.response = k, r
	if c.state != StateUp || !m.pending() {
		c.turnOut(h, k, s)
		return
	}
	c.fillBy(m, s)
	c.adopt(k, m.into)
	m.to, m.device = k, k.device.Name
	if h.told == nil {
		h.told = c.subscribe(m.from, h.refer, h.terms)
	}
	c.commit(func() {
		proceed := func() { c.proceed(h) }
		if !h.from.post(func() { h.from.commit(func() { c.post(proceed) }) }) {
			proceed()
		}
	})
	c.after(lendPatience, func() { c.proceed(h) }) // the other call's record is another node's by now
	c.redeem()
}

// turnOut hangs up a target whose leg has come too late: whoever was to talk with it is gone.
func (c *Call) turnOut(h *handover, k *Leg, s *Seat) {
	c.adopt(k, s)
	if c.state == StateEnded {
		c.closeLeg(k)
	} else {
		c.drop(k)
	}
	h.from.post(func() { h.from.handedOver(h, 487) })
	c.redeem()
}

// proceed goes on with the move: the target's leg is like that of a new device that has answered.
func (c *Call) proceed(h *handover) {
	m := h.m
	if h.taken || !m.pending() {
		return
	}
	h.taken = true
	c.acceptAttended(h)
	if h.response != nil {
		c.moveAnswered(m, h.arrived, h.response)
		return
	}
	h.arrived.heard = h.arrived.heard || h.arrived.held // a phone on hold says nothing
	m.overlap, m.apart = time.Now(), !fits(h.arrived, m.farSide())
	c.listenFor(m)
}

func (c *Call) acceptAttended(h *handover) {
	if !h.answered {
		h.answered = true
		c.acceptRefer(h.m.from, h.refer, h.terms, h.told)
	}
}

// attended tells the phone that transferred, and the other call, what has come of it.
func (c *Call) attended(h *handover, code int, why string) {
	if !h.answered {
		h.answered = true
		h.m.from.refer = nil
		_ = h.refer.Respond(c.b.reply(refusal(code, why)))
	} else {
		c.notifyRefer(h.m.from, h.told, code, true)
	}
	c.leave(h, code)
}

// leave lets the other call go its way.
func (c *Call) leave(h *handover, code int) {
	if h.left {
		return
	}
	h.left = true
	if h.arrived != nil {
		h.from.post(func() { h.from.handedOver(h, code) })
		return
	}
	h.withdrawn.Store(true)
	h.from.post(func() { h.from.unlend(h) })
}
