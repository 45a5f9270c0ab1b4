package call

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"baton/journal"
	"baton/registrar"
	"baton/sip"
)

// Loss: the device that holds a seat is gone, and nobody has hung up (docs/moves.md). The seat is empty then as after *42, the call goes on,
// and who is on the other side hears the tone and sees "reconnecting". The dialog with the device is kept, for it may come back with it.
//
//	held ──lost──▶ empty ──it is heard, speaks in its dialog or registers──▶ held
//	                 ├──another leg takes the seat──▶ held, the dialog is ended
//	                 ├──it does not know the dialog: that is ended──▶ empty
//	                 └──call.wait──▶ the call ends
//
// What tells of a loss: a stream that has stopped in the middle (suspected), a phone that has long said nothing (watchLegs), the end of a
// browser's consent, a session that nobody refreshes, and 408 and 481 to any request in the dialog.

// errConsent is why a browser is lost whose last way has gone.
var errConsent = errors.New("no connection carries its sound any more")

// probePatience is how long a phone that has fallen silent in the middle may take to answer: over UDP it is asked after 0, 0.5 and 1.5 s.
const probePatience = 1700 * time.Millisecond

// mind has the agent told of what becomes of the leg's sound.
func (c *Call) mind(l *Leg) {
	tell := func(f func(*Call, *Leg)) func(time.Time) {
		return func(time.Time) { c.post(func() { c.withLeg(l, f) }) }
	}
	l.stream.TellSilence(tell((*Call).suspected))
	l.stream.TellLost(tell((*Call).consentGone))
}

// suspected asks a phone whose sound has stopped in the middle whether it is there. Mute, hold and comfort noise stop sound too: an answer
// settles it, until the sound has gone on and stopped once more. One that is known to answer no such question is not asked: its connection,
// its RTCP and a longer silence tell of it.
func (c *Call) suspected(l *Leg) {
	deaf := l.deaf() && c.b.Agent.Alive(l.dialog.Flow)
	if c.state == StateUp && l.state == legUp && !l.held && !l.asking && !l.offers && !deaf {
		c.log.Debug("sound has stopped", "leg", l.id, "device", l.device.Name)
		c.checkWithin(l, probePatience)
	}
}

// consentGone takes the end of a browser's consent to be sent to (RFC 7675). One that is lost already is back with its sound alone from then on.
func (c *Call) consentGone(l *Leg) {
	switch a := l.seat.away; {
	case c.state == StateUp && l.state == legUp:
		c.lost(l, errConsent)
	case l.state == legLost && a != nil && a.leg == l:
		a.mute = true
	}
}

// lost is what becomes of a leg whose phone is gone.
func (c *Call) lost(l *Leg, err error) {
	why := fmt.Sprintf("%s of %s is gone: %v", l.device.Name, l.seat.user.Name, err)
	m := c.moveOf(l.seat)
	switch {
	case m != nil && m.to == l:
		c.failMove(m, why, 480)
	case l.seat.holder == l && c.canWait(l.seat):
		c.loseSeat(l, err)
	case m != nil && m.from == l:
		m.left = true
		c.drop(l)
		c.wire()
	case l.seat.holder == l:
		c.drop(l)
		c.end(why)
	default:
		c.drop(l)
	}
}

// broken ends a leg that has no session, because its phone has not done its part of making one.
func (c *Call) broken(l *Leg, err error) {
	if m := c.moveOf(l.seat); l.seat.holder != l || m != nil {
		c.lost(l, err)
		return
	}
	c.drop(l)
	c.end(fmt.Sprintf("%s of %s: %v", l.device.Name, l.seat.user.Name, err))
}

// canWait says that somebody is on the other side of s, or was, and that the call is one that goes on.
func (c *Call) canWait(s *Seat) bool {
	far := c.other(s)
	return c.state == StateUp && !c.over && !c.quiet && c.lending == nil && far != nil && far.lastLeg() != nil
}

// loseSeat empties the seat of a phone that is gone.
func (c *Call) loseSeat(l *Leg, err error) {
	s, why := l.seat, err.Error()
	mute := errors.Is(err, errConsent) || errors.Is(err, errNodeLost) && l.browser()
	c.vacate(s, &absence{leg: l, from: time.Now(), lost: true, mute: mute})
	if unknown(err) || errors.Is(err, errExpired) {
		c.drop(l)
	} else {
		c.await(l)
	}
	c.wire()
	c.note(journal.CallLost, journal.Entry{User: s.user.Name, Device: l.device.Name, Peer: c.other(s).user.Name, Text: why})
	c.commit(func() { c.showAbsence(s) })
	if errors.Is(err, errNodeLost) { // its device looks for another node just now
		c.after(reconnects, func() { c.ringOnLoss(s, l.device.Key) })
		return
	}
	c.ringOnLoss(s, l.device.Key)
}

// await has a lost leg's sound tell that its device is back.
func (c *Call) await(l *Leg) {
	c.setState(l, legLost)
	l.stream.Await(func(time.Time) {
		c.post(func() { c.withLeg(l, func(c *Call, l *Leg) { c.returned(l, returnedBySound) }) })
	})
}

// vacate empties a seat: its user may come back until call.wait is over.
func (c *Call) vacate(s *Seat, a *absence) {
	s.holder, s.away = nil, a
	c.waitOn(s)
	if s.joining != nil {
		c.failCompanion(s.joining, refusal(480, s.user.Name+" is not in the call any more"))
	}
}

// waitOn waits for the rest of call.wait.
func (c *Call) waitOn(s *Seat) {
	s.away.wait = c.after(max(c.b.Config.Wait-time.Since(s.away.from), 0), func() { c.waited(s) })
}

// unknown says that a phone has told that it does not know the dialog: it was started anew.
func unknown(err error) bool {
	var status *sip.StatusError
	return errors.As(err, &status) && status.Code == 481
}

// returnedBySound is how a device is back that was heard again.
const returnedBySound = "sound"

// returned gives the seat back to a device that was lost and has come back with its dialog. Who comes first has the seat: what rings to
// fill it rings no more, and a move to a device that its user has named goes on.
func (c *Call) returned(l *Leg, how string) {
	s := l.seat
	if l.state != legLost || c.state != StateUp || c.over || s.away == nil || s.away.leg != l {
		return
	}
	c.setState(l, legUp)
	s.holder, l.asked = l, time.Now()
	if !l.session.Ours { // it may not have been able to
		l.session.From = time.Now()
	}
	c.back(s, l.device.Name, how)
	if m := c.moveOf(s); m != nil && m.summons {
		c.failMove(m, l.device.Name+" is back", 480)
	}
	c.wire()
	c.commit(func() {})
	if how == returnedBySound {
		c.after(time.Second, func() { c.withLeg(l, (*Call).acquaint) })
	}
	if l.astray {
		c.reinvite(l, l.local)
	}
	c.after(settled, func() { // the other side may have changed its codec meanwhile
		c.refit(l)
		if far := c.other(s); far != nil && far.holder != nil {
			c.refit(far.holder)
		}
	})
}

// back is the end of an absence, on a device.
func (c *Call) back(s *Seat, device, how string) {
	a := s.away
	if a == nil {
		return
	}
	c.stop(a.wait)
	s.away = nil
	far := c.other(s)
	c.note(journal.CallRejoined, journal.Entry{
		User: s.user.Name, Device: device, Peer: far.user.Name, Text: how, Duration: time.Since(a.from),
	})
	if a.lost {
		c.commit(func() { c.showAbsence(s) })
	}
}

// showAbsence shows who is on the other side of s whether its user is there (connected.go).
func (c *Call) showAbsence(s *Seat) {
	if far := c.other(s); far != nil && far.holder != nil && c.state == StateUp {
		c.showOther(far.holder)
	}
}

// seek looks for a device that was lost, where it was and where it has registered since.
func (c *Call) seek(l *Leg) {
	switch {
	case l.asking || l.offers:
	case c.repoint(l) || (l.astray || l.deaf()) && c.b.Agent.Alive(l.dialog.Flow):
		c.reinvite(l, l.local)
	case c.b.Agent.Alive(l.dialog.Flow):
		c.askWithin(l, probePatience, func(err error) {
			if deadly(err) == nil || unknown(err) { // some answer 200 to OPTIONS of a dialog that they do not know, some 481 to all but INVITE: that tells
				c.reinvite(l, l.local)
				return
			}
			c.sought(l, err, "answer")
		})
	}
}

// sought takes what a device that was lost has said to a request of ours, if anything. The sound of a browser comes back by a way of its
// own: what it says does not tell of that.
func (c *Call) sought(l *Leg, err error, how string) {
	a := l.seat.away
	switch {
	case l.state != legLost || a == nil || a.leg != l:
	case unknown(err):
		c.strange(l)
	case deadly(err) == nil && !a.mute:
		c.returned(l, how)
	}
}

// strange ends the dialog of a device that was started anew and knows nothing of it. It may ring with the others now.
func (c *Call) strange(l *Leg) {
	c.drop(l)
	c.ringOnLoss(l.seat, "")
}

// ringOnLoss rings the devices of a lost seat's user, if he wants that, but for the one that was lost: not before it has said that it does
// not know the call.
func (c *Call) ringOnLoss(s *Seat, but string) {
	u, ok := c.b.Registrar.User(s.user.Name)
	if !ok || u.Settings.OnLoss != registrar.RingOnLoss || s.away == nil {
		return
	}
	if m := c.moveOf(s); m != nil {
		if m.how == "loss" && m.dial != nil && but == "" {
			m.dial.exclude = ""
			m.dial.joinAll()
		}
		return
	}
	here := func(d registrar.Device) bool { return d.Here() && d.Key != but }
	if !slices.ContainsFunc(c.b.Registrar.Lookup(u.Name), here) {
		return
	}
	if err := c.summon(s, "loss", "baton", but, nil); err != nil {
		c.log.Warn("ring for a lost seat", "user", u.Name, "err", err)
	}
}

// stillLost is the device that may come back by itself, "" = none: it has said that it knows nothing of the call.
func (a *absence) stillLost() string {
	if a.leg.state != legLost {
		return ""
	}
	return a.leg.device.Key
}

// summon rings all devices of an empty seat's user, but for one; told is told with the figures, once.
func (c *Call) summon(s *Seat, how, who, but string, told func(MoveReport, error)) error {
	m := &move{c: c, seat: s, into: s, from: s.lastLeg(), how: how, who: who, began: time.Now(), summons: true, except: but, reported: told}
	if err := c.addMove(m); err != nil {
		return err
	}
	c.beginMove(m)
	return nil
}

// leavesByBye says that a hang-up by the user's device leaves the call, as *42 does: he wants it so, and somebody is there to wait.
func (c *Call) leavesByBye(s *Seat) bool {
	far := c.other(s)
	u, ok := c.b.Registrar.User(s.user.Name)
	return ok && u.Settings.OnBye == registrar.LeaveOnBye && c.canWait(s) && far.holder != nil && c.moveOf(s) == nil
}

// hungUpToLeave takes the hang-up of a device whose user leaves by it.
func (c *Call) hungUpToLeave(l *Leg) {
	s := l.seat
	if s.away != nil { // it was lost, and has come back to say so
		c.stop(s.away.wait)
		c.commit(func() { c.showAbsence(s) })
	}
	c.vacate(s, &absence{leg: l, from: time.Now()})
	c.left(s, l, "bye", s.user.Name)
	c.closeLeg(l)
	c.commit(func() {})
}
