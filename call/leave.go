package call

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"baton/journal"
	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// A user can leave a call that goes on without him (docs/moves.md): his device is hung up and his seat is empty, the other side hears a
// tone on its unbroken stream until one of his devices takes the seat again, or the wait is over.
//
//	held ──*42, API──▶ left ──*40, a move──▶ held
//	                     └──call.wait────▶ the call ends

// absence is a seat's time without a device. Owned by its call's agent.
type absence struct {
	leg  *Leg // that held the seat last; it is on its way out, or gone, or lost
	from time.Time
	lost bool // its user has not left: his device is gone
	mute bool // … and only its sound will tell that it is back
	wait *time.Timer
}

// lastLeg is the leg that holds the seat, or the last that did before its user left; nil = none.
func (s *Seat) lastLeg() *Leg {
	if s.holder == nil && s.away != nil {
		return s.away.leg
	}
	return s.holder
}

// mayLeave says why the user of s cannot leave the call, nil if he can.
func (c *Call) mayLeave(s *Seat) error {
	far := c.other(s)
	switch {
	case c.state != StateUp:
		return refusal(480, "the call is not up")
	case s.away != nil:
		return refusal(480, s.user.Name+" has left the call already")
	case c.moveOf(s) != nil || c.lending != nil:
		return refusal(491, "a move of this seat is in progress")
	case s.holder == nil || s.holder.state != legUp:
		return refusal(480, "the call is not held by a device")
	case far == nil || far.holder == nil:
		return refusal(480, "nobody is on the other side: hang up")
	}
	return nil
}

// leaveSeat empties a seat. Its phone is hung up after patience: one that has transferred sends its own BYE as a rule.
func (c *Call) leaveSeat(s *Seat, how, who string, patience time.Duration) error {
	if err := c.mayLeave(s); err != nil {
		return err
	}
	l := s.holder
	c.vacate(s, &absence{leg: l, from: time.Now()})
	l.moved = true
	l.stream.Leave()
	c.setState(l, legClosing)
	c.left(s, l, how, who)
	c.commit(func() { c.after(patience, func() { c.bye(l) }) })
	return nil
}

// left is what follows when the user of s has left with his device.
func (c *Call) left(s *Seat, l *Leg, how, who string) {
	for _, k := range slices.Clone(s.companions) {
		c.drop(k)
	}
	c.wire()
	c.note(journal.CallLeft, journal.Entry{
		User: s.user.Name, Device: l.device.Name, Peer: c.other(s).user.Name, Text: how, Data: map[string]string{"how": how, "who": who},
	})
}

// waited ends a call that nobody has come back to; a device that is about to has its time.
func (c *Call) waited(s *Seat) {
	switch {
	case s.away == nil || c.state != StateUp || c.over:
	case c.moveOf(s) != nil:
		s.away.wait = c.after(time.Second, func() { c.waited(s) })
	case s.away.lost:
		c.farewell(fmt.Sprintf("%s of %s was lost and nobody came back within %s", s.away.leg.device.Name, s.user.Name, c.b.Config.Wait))
	default:
		c.farewell(fmt.Sprintf("%s left and did not come back within %s", s.user.Name, c.b.Config.Wait))
	}
}

// Leave empties the seat of r.User (or the one that r.Seat names) in r.Call, or in the call of the user's that is meant (choose.go), and
// returns when the record knows. The call waits for him for call.wait.
func (b *B2BUA) Leave(ctx context.Context, r MoveRequest) error {
	c, err := b.moveCall(r)
	if err != nil {
		return err
	}
	_, err = ask(ctx, c, func(tell func(struct{}, error)) func() {
		s, err := c.placeOf(r)
		if err == nil {
			err = c.leaveSeat(s, r.How, r.Who, 0)
		}
		if err != nil {
			tell(struct{}{}, err)
			return nil
		}
		c.commit(func() { tell(struct{}{}, nil) })
		return nil
	})
	return err
}

// placeOf finds the seat of the user that a request names.
func (c *Call) placeOf(r MoveRequest) (*Seat, error) {
	want, err := c.b.seatsUser(r)
	if err != nil {
		return nil, err
	}
	for _, s := range c.seats {
		if s.user.Name == want {
			return s, nil
		}
	}
	return nil, refusal(404, want+" is not in this call")
}

// leave serves *42: the user leaves the call that the device which dials it is in, else the one that is meant; the N-th of *42N.
func (b *B2BUA) leave(x *sip.Exchange, caller registrar.User, offer *media.Description, n int) error {
	k, err := b.chooseHere(x, caller, n)
	if err != nil {
		return b.noCall(x, caller, offer, err)
	}
	left := k.call.do(func() {
		err := k.call.leaveAt(k.seat, caller.Name)
		told := notice{tone: media.ToneEnded, code: 200, why: "the call waits for " + caller.Name}
		if err != nil {
			told = notice{tone: media.ToneUnknown, code: 480, why: err.Error()}
		}
		if err := b.announce(x, caller, offer, told); err != nil {
			_ = x.Respond(b.reply(err))
		}
	})
	if !left {
		return refusal(404, "the call has just ended")
	}
	return nil
}

// chooseHere is choose, with the call of the device that asks before all others.
func (b *B2BUA) chooseHere(x *sip.Exchange, caller registrar.User, n int) (candidate, error) {
	if n == 0 {
		if k, err := b.choose(caller.Name, b.device(x, caller.Name).Key, 0); err == nil {
			return k, nil
		}
	}
	k, err := b.choose(caller.Name, "", n)
	if err == nil && k.ring != nil {
		err = refusal(480, "the call rings: it can be left when it is answered")
	}
	return k, err
}

// leaveAt is leaveSeat for the seat at a position, if it is still the user's.
func (c *Call) leaveAt(position int, user string) error {
	if position >= len(c.seats) || c.seats[position].user.Name != user {
		return errors.New("the call has just been transferred")
	}
	return c.leaveSeat(c.seats[position], "code", user, 0)
}

// referLeave serves a transfer to *42.
func (c *Call) referLeave(l *Leg, x *sip.Exchange, t referTerms) error {
	if l.seat.holder != l {
		return refusal(481, "the call is not on this device")
	}
	if err := c.mayLeave(l.seat); err != nil {
		return err
	}
	r := c.subscribe(l, x, t)
	c.acceptRefer(l, x, t, r)
	if err := c.leaveSeat(l.seat, "refer", l.seat.user.Name, byeOfReferrer); err != nil {
		return err
	}
	c.commit(func() { c.notifyRefer(l, r, 200, true) })
	return nil
}

// Rejoin has a device of the user's take his empty seat in r.Call: r.Device, or whichever answers first. Without r.Seat and r.User it is the
// one that is empty. It returns as Move does.
func (b *B2BUA) Rejoin(ctx context.Context, r MoveRequest) (MoveReport, error) {
	c, err := b.moveCall(r)
	if err != nil {
		return MoveReport{}, err
	}
	return ask(ctx, c, func(tell func(MoveReport, error)) func() {
		s, err := c.emptySeat(r)
		switch {
		case err != nil:
			tell(MoveReport{}, err)
			return nil
		case r.Device != "":
			r.Seat = s.user.Name
			return c.requested(r, tell)
		}
		return c.summoned(s, r, tell)
	})
}

// emptySeat finds the seat of the user that a request names, or the one that is empty.
func (c *Call) emptySeat(r MoveRequest) (*Seat, error) {
	if r.Seat != "" || r.User != "" {
		s, err := c.placeOf(r)
		if err == nil && s.away == nil {
			err = refusal(480, s.user.Name+" has not left the call")
		}
		return s, err
	}
	var empty *Seat
	for _, s := range c.seats {
		switch {
		case s.away == nil:
		case empty != nil:
			return nil, refusal(480, fmt.Sprintf("both %s and %s are missing: say whose device with --seat", empty.user.Name, s.user.Name))
		default:
			empty = s
		}
	}
	if empty == nil {
		return nil, refusal(480, "nobody has left the call")
	}
	return empty, nil
}

// summoned rings the devices of an empty seat's user, as a person or program has asked for. It gives the way to take that back.
func (c *Call) summoned(s *Seat, r MoveRequest, tell func(MoveReport, error)) (undo func()) {
	if err := c.summon(s, r.How, r.Who, "", tell); err != nil {
		tell(MoveReport{}, err)
		return nil
	}
	m := c.moveOf(s)
	return func() {
		if m != nil {
			c.failMove(m, "taken back", 487)
		}
	}
}
