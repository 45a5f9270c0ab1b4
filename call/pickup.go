package call

import (
	"errors"
	"fmt"
	"slices"

	"baton/journal"
	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// pickup is the wish of one device to answer a call that rings elsewhere (docs/moves.md): one's own, or one of a member of
// one's groups. Others may be quicker, so it goes from call to call until one is its own.
type pickup struct {
	b     *B2BUA
	x     *sip.Exchange
	user  registrar.User
	offer *media.Description
	found []ringing    // what is left to try, the best first
	none  func() error // what becomes of x when none of them rings any more
	pull  bool         // one's own: what another of one's devices has just answered is brought here
}

// ringing is one call that rings for somebody.
type ringing struct {
	call *Call
	ringSummary
}

// errTaken says that a call does not ring any more, or that somebody else is just picking it up.
var errTaken = errors.New("somebody has just taken that call")

// ringing lists what rings for a user, or ("") for all whose calls the picker may take, the longest first. What the picker has begun himself is
// not for him to answer.
func (b *B2BUA) ringing(picker, user string) []ringing {
	var found []ringing
	for _, c := range b.callsOf(user) {
		for _, r := range c.public.Load().rings {
			if (r.from != picker || r.user == picker) && (r.user == user || user == "" && b.mayPickUp(picker, r.user)) {
				found = append(found, ringing{c, r})
			}
		}
	}
	slices.SortStableFunc(found, func(x, y ringing) int { return x.since.Compare(y.since) })
	return found
}

// pickUp serves *8, *8EXT and **EXT: the call that has been ringing longest in the caller's groups, or at one extension.
func (b *B2BUA) pickUp(x *sip.Exchange, caller registrar.User, offer *media.Description, at string) error {
	no := func(why string) error {
		return b.announce(x, caller, offer, notice{tone: media.ToneUnknown, code: 404, why: why})
	}
	user, nothing := "", "nothing rings in the groups of "+caller.Name
	if at != "" {
		whose, ok := b.Registrar.User(at)
		switch {
		case !ok:
			return no(fmt.Sprintf("there is no user %q", at))
		case !b.mayPickUp(caller.Name, whose.Name):
			return refusal(403, fmt.Sprintf("%s and %s are in no pick-up group together", caller.Name, whose.Name))
		}
		user, nothing = whose.Name, "nothing rings at "+at
	}
	found := b.ringing(caller.Name, user)
	if at == "" && len(found) == 0 && !b.grouped(caller.Name) {
		return refusal(403, caller.Name+" is in no pick-up group")
	}
	p := &pickup{b: b, x: x, user: caller, offer: offer, found: found, none: func() error { return no(nothing) }}
	return p.next()
}

// pickUpOrCall serves a key that dials the extension which it watches: it takes the call that rings there, if it may. Where
// none does it is an ordinary call.
func (b *B2BUA) pickUpOrCall(x *sip.Exchange, caller registrar.User, offer *media.Description, t Target) error {
	call := func() error { return b.place(x, caller, offer, t) }
	if !b.mayPickUp(caller.Name, t.User.Name) {
		return call()
	}
	p := &pickup{b: b, x: x, user: caller, offer: offer, none: call}
	p.found = b.ringing(caller.Name, t.User.Name)
	return p.next()
}

// next tries the call that is the best of those left. What comes of it is told in its agent.
func (p *pickup) next() error {
	for len(p.found) > 0 {
		r := p.found[0]
		p.found = p.found[1:]
		asked := r.call.do(func() {
			err := r.call.pickedUp(p, r.dial)
			if errors.Is(err, errTaken) {
				err = p.next()
			}
			if err != nil {
				_ = p.x.Respond(p.b.reply(err))
			}
		})
		if asked {
			return nil
		}
	}
	return p.none()
}

// replaceRinging picks up the call of an early dialog that the caller has named.
func (b *B2BUA) replaceRinging(x *sip.Exchange, caller registrar.User, offer *media.Description, o dialogOwner) error {
	p := &pickup{b: b, x: x, user: caller, offer: offer}
	p.none = func() error { return refusal(603, "that call rings no more") } // RFC 3891 §3
	asked := o.call.do(func() {
		err := o.call.pickedUp(p, o.call.dialOf(o.leg))
		if errors.Is(err, errTaken) {
			err = p.none()
		}
		if err != nil {
			_ = x.Respond(b.reply(err))
		}
	})
	if !asked {
		return p.none()
	}
	return nil
}

// dials are those that ring for a user whose call it is not yet: he is called, or it is transferred to him.
func (c *Call) dials() []*dial {
	var all []*dial
	if c.state == StateSetup && c.dial != nil {
		all = append(all, c.dial)
	}
	for _, m := range c.moves {
		if m.dial != nil && m.into != m.seat && m.state == moveDialing {
			all = append(all, m.dial)
		}
	}
	return all
}

// dialOf is what a leg rings for, nil if it does not.
func (c *Call) dialOf(l *Leg) *dial {
	if c.dial != nil && slices.Contains(c.dial.legs, l) {
		return c.dial
	}
	for _, m := range c.moves {
		if m.dial != nil && slices.Contains(m.dial.legs, l) {
			return m.dial
		}
	}
	return nil
}

// pickedUp has the device that asks answer what the dial rings for. Nothing has changed when it gives an error.
func (c *Call) pickedUp(p *pickup, d *dial) error {
	if d == nil || d.over || c.picking() != nil || c.lending != nil {
		return errTaken
	}
	for _, m := range c.moves {
		if m.dial == d && m.into == m.seat && p.user.Name != m.seat.user.Name {
			return refusal(481, "no such dialog of yours") // what rings in a move of one's own is one's own
		}
		if m.dial == d {
			return c.movePickedUp(p, m)
		}
	}
	caller := c.seats[0].holder
	if c.state != StateSetup || d != c.dial || caller == nil || caller.state != legIncoming {
		return errTaken
	}
	l, err := c.take(p.x, c.seatOf(p.user, c.seats[1]), p.offer)
	if err != nil {
		return err
	}
	if caller.device.Key == l.device.Key {
		err = refusal(480, "this device is the one that calls")
	} else if err = c.answerPicker(caller, l, p.offer); err != nil {
		err = refusal(488, err.Error())
	}
	if err != nil {
		c.closeLeg(l)
		return err
	}
	c.pick(l, func() { c.letPick(p, l, d, caller) })
	return nil
}

// pick has a picker's leg wait for the record, and then for what let decides, unless it has given up.
func (c *Call) pick(l *Leg, let func()) {
	c.picker = l
	c.listen(l, func() { c.closeLeg(l) })
	c.commit(func() {
		if l.state == legIncoming {
			let()
		}
	})
}

// cameLate lets a picker's leg go: somebody else has won meanwhile.
func (c *Call) cameLate(p *pickup, l *Leg) {
	c.closeLeg(l)
	if err := c.tooLate(p); err != nil {
		_ = p.x.Respond(c.b.reply(err))
	}
}

// acceptPicker answers the picker; false: it was cancelled, of which the Watch tells, or is gone.
func (c *Call) acceptPicker(l *Leg) bool {
	err := c.accept(l)
	if err != nil && !errors.Is(err, sip.ErrAnswered) {
		c.closeLeg(l)
	}
	return err == nil
}

// picking is the leg that is about to have the call while its devices still ring, nil = none.
func (c *Call) picking() *Leg {
	if c.picker != nil && c.picker.state == legIncoming {
		return c.picker
	}
	return nil
}

// seatOf is the user's place where he answers for another: that one's if they are the same, else a new one.
func (c *Call) seatOf(u registrar.User, called *Seat) *Seat {
	if u.Name == called.user.Name {
		return called
	}
	return newSeat(u)
}

// answerPicker makes our answer to the picker's offer, or our offer, by what the caller can play.
func (c *Call) answerPicker(caller, l *Leg, offer *media.Description) error {
	codecs := media.Known()
	if line, _, ok := caller.remote.Audio(); ok {
		codecs = caller.playable(line.Codecs)
	}
	settled := len(caller.agreed.Send) > 0 // it has early media, or has answered an offer of ours
	if settled {
		codecs = offered(caller)
	}
	if offer == nil {
		l.local = l.newOffer(codecs, media.SendRecv)
		return nil
	}
	local, err := l.newAnswer(*offer, codecs, media.SendRecv)
	if err != nil {
		return err
	}
	if err := l.settle(local, *offer); err != nil {
		return err
	}
	if settled {
		return understands(l, caller)
	}
	return nil
}

// letPick answers the picker, and then the caller; only now the phones stop ringing. What came in since the record was
// written has won: somebody has answered, the caller or the picker has hung up.
func (c *Call) letPick(p *pickup, l *Leg, d *dial, caller *Leg) {
	if c.state != StateSetup || d != c.dial || d.over || caller.state != legIncoming {
		c.cameLate(p, l)
		return
	}
	if !c.acceptPicker(l) {
		return
	}
	called := c.seats[1]
	d.stop(elsewhere)
	c.dial, c.early = nil, nil
	c.seats[1], l.seat.holder = l.seat, l
	c.notePickup(l, called)
	if err := c.settleCaller(caller, l); err != nil {
		c.refuse(caller, 488, err.Error())
		return
	}
	c.changeState(StateUp)
	c.wire()
	c.commit(func() { c.connect(caller, l) })
}

// tooLate is what becomes of a device that somebody has been quicker than.
func (c *Call) tooLate(p *pickup) error {
	for i, s := range c.seats {
		if p.pull && c.state == StateUp && s.user.Name == p.user.Name {
			return c.pulled(p.x, p.offer, i, nil)
		}
	}
	return refusal(480, errTaken.Error())
}

// notePickup writes into the log who has answered for whom. One's own call on another device is just answered.
func (c *Call) notePickup(l *Leg, called *Seat) {
	if l.seat != called {
		c.note(journal.CallPickedUp, journal.Entry{
			User: l.seat.user.Name, Device: l.device.Name, From: called.user.Name, Peer: c.other(l.seat).user.Name,
		})
	}
}

// movePickedUp has the device that asks take the call that a transfer, or a move of its own user's, rings for.
func (c *Call) movePickedUp(p *pickup, m *move) error {
	if m.state != moveDialing {
		return errTaken
	}
	called := m.into
	l, err := c.take(p.x, c.seatOf(p.user, called), p.offer)
	if err != nil {
		return err
	}
	if l.device.Key == m.from.device.Key {
		err = refusal(480, "the call is on this device already")
	} else {
		err = c.answerNew(m, l, p.offer)
	}
	if err != nil {
		c.closeLeg(l)
		return err
	}
	c.pick(l, func() { c.letPickMove(p, l, m, called) })
	return nil
}

// letPickMove is letPick for what a move rings for.
func (c *Call) letPickMove(p *pickup, l *Leg, m *move, called *Seat) {
	if m.state != moveDialing || m.dial.over {
		c.cameLate(p, l)
		return
	}
	m.into = l.seat // for the one whom the picker is shown is across from it
	if !c.acceptPicker(l) {
		m.into = called
		return
	}
	m.dial.stop(elsewhere)
	m.device = l.device.Name
	c.notePickup(l, called)
	c.joinNew(m, l, func() error { return nil })
}
