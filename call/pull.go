package call

import (
	"time"

	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// pull brings the caller's live call to the device that dialled: n is the N of *40N, 0 = the newest that is talking.
func (b *B2BUA) pull(x *sip.Exchange, caller registrar.User, offer *media.Description, n int) error {
	c, seat := b.choose(caller.Name, n)
	if c == nil {
		return b.announce(x, caller, offer, notice{
			tone: media.ToneUnknown, code: 404, why: "no live call of " + caller.Name + " to bring here",
		})
	}
	asked := c.do(func() {
		if err := c.pulled(x, offer, seat, nil); err != nil {
			_ = x.Respond(b.reply(err))
		}
	})
	if !asked {
		return refusal(404, "the call has just ended")
	}
	return nil
}

// inviteReplaces is a pull that names its leg (RFC 3891): only the seat's own user may.
func (b *B2BUA) inviteReplaces(x *sip.Exchange, caller registrar.User, offer *media.Description, v string) error {
	r, err := sip.ParseReplaces(v)
	if err != nil {
		return refusal(400, "Replaces: "+err.Error())
	}
	b.mu.Lock()
	owner, ok := b.dialogs[sip.DialogID{CallID: r.CallID, LocalTag: r.ToTag, RemoteTag: r.FromTag}]
	b.mu.Unlock()
	if !ok || owner.user != caller.Name {
		return refusal(481, "no such dialog of yours")
	}
	if r.EarlyOnly {
		return refusal(486, "the dialog is confirmed") // RFC 3891 §3
	}
	asked := owner.call.do(func() {
		if err := owner.call.pulled(x, offer, 0, owner.leg); err != nil {
			_ = x.Respond(b.reply(err))
		}
	})
	if !asked {
		return refusal(481, "the call has just ended")
	}
	return nil
}

// pulled moves a seat to the device that sent x: the seat of leg old, else the one at position.
func (c *Call) pulled(x *sip.Exchange, offer *media.Description, position int, old *Leg) error {
	how := "replaces"
	if old == nil {
		how = "pull"
		if position >= len(c.seats) {
			return refusal(404, "the call has just ended")
		}
		if c.seats[position].user.Name != x.User() { // a transfer came between
			return refusal(404, "the call has just been transferred")
		}
		old = c.seats[position].holder
	}
	if old == nil || old.state == legClosed || old.state == legClosing {
		return refusal(404, "the call is not held by a device")
	}
	seat := old.seat
	if d := c.b.device(x, seat.user.Name); d.Key == old.device.Key {
		return c.b.announce(x, seat.user, offer, notice{tone: media.ToneEnded, code: 200, why: "the call is on this device already"})
	}
	m := &move{c: c, seat: seat, into: seat, from: old, how: how, who: seat.user.Name, began: time.Now()}
	if err := c.addMove(m); err != nil {
		return err
	}
	l, err := c.take(x, seat, offer)
	if err == nil {
		if err = c.answerPull(m, l, offer); err != nil {
			c.closeLeg(l)
		}
	}
	if err != nil {
		m.to = nil
		c.failMove(m, err.Error(), 488)
		return err
	}
	return nil
}

// answerPull answers the new device with what the far side can play, the codec in use first.
func (c *Call) answerPull(m *move, l *Leg, offer *media.Description) error {
	m.device = l.device.Name
	codecs := offered(m.far)
	if offer == nil {
		l.local = media.NewOffer(l.origin, only(m.far), l.stream.Endpoint(), media.SendRecv)
	} else {
		local, err := media.NewAnswer(l.origin, *offer, codecs, l.stream.Endpoint(), media.SendRecv)
		if err != nil {
			return refusal(488, err.Error())
		}
		if err := l.settle(local, *offer); err != nil {
			return refusal(488, err.Error())
		}
		if err := understands(l, m.far); err != nil {
			return refusal(488, err.Error())
		}
	}
	c.listen(l, func() {
		c.closeLeg(l)
		c.failMove(m, l.device.Name+" gave up", 487)
	})
	c.joinNew(m, l, func() error { return c.accept(l) })
	return nil
}

// choose finds the live call of a user that is meant: the n-th as listed, or the newest that is talking, else the
// newest. It returns the position of the user's seat.
func (b *B2BUA) choose(user string, n int) (*Call, int) {
	b.mu.Lock()
	calls := b.list()
	b.mu.Unlock()
	type candidate struct {
		call *Call
		seat int
	}
	var found []candidate
	talking := -1
	for _, c := range calls {
		s := c.public.Load()
		if s == nil || s.state != StateUp || s.quiet {
			continue
		}
		if seat, held := s.seatOf(user); seat >= 0 {
			found = append(found, candidate{c, seat})
			if !held {
				talking = len(found) - 1
			}
		}
	}
	i := len(found) - 1
	switch {
	case n > 0:
		i = n - 1
	case talking >= 0:
		i = talking
	}
	if i < 0 || i >= len(found) {
		return nil, 0
	}
	return found[i].call, found[i].seat
}
