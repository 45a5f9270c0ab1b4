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

// A companion is a second device of a seat's user, beside the one that holds the seat: it hears both sides and is muted, until a move gives
// it the seat (docs/moves.md). The far side knows nothing of it, and nothing that becomes of it touches the call.
//
//	INVITE of ours, or *43 of the device ──▶ joining ──answered, the call in G.711──▶ listening ──*40, a move──▶ holds the seat
//	                                            └─refusal, hang-up───▶ gone ◀──hang-up, API───┘

// maxCompanions is how many devices may listen beside the one that holds a seat.
const maxCompanions = 2

// joining is a device on its way to be a companion: one at a time of each seat. Owned by its call's agent.
type joining struct {
	// set once
	c      *Call
	seat   *Seat
	device registrar.Device
	how    string // code, cli, api
	who    string
	told   func(error) // once

	dial *dial
	leg  *Leg               // from its answer, or its INVITE on
	stop context.CancelFunc // takes back what the phones of the call are asked
	over bool
}

// companion is the leg of a device that listens, nil if it does not, or is being hung up.
func (s *Seat) companion(device string) *Leg {
	for _, l := range s.companions {
		if l.state == legUp && (device == "" || l.device.Key == device) {
			return l
		}
	}
	return nil
}

// listens says that the leg is a companion.
func (l *Leg) listens() bool { return slices.Contains(l.seat.companions, l) }

// joins says that the leg is about to be a companion.
func (l *Leg) joins() bool { return l.seat.joining != nil && l.seat.joining.leg == l }

// mixable says whether what two legs say to each other can be heard by a third.
func mixable(a, b *Leg) bool {
	return media.Mixable(a.agreed.Send) && media.Mixable(b.agreed.Send) && speaks(a) && speaks(b)
}

// speaks says that the leg's phone sends G.711.
func speaks(l *Leg) bool {
	used, ok := inUse(l)
	return ok && media.Mixable([]media.Codec{used})
}

// addCompanion makes j the one that joins its seat, or says why it cannot.
func (c *Call) addCompanion(j *joining) error {
	s, far := j.seat, c.other(j.seat)
	switch {
	case c.state != StateUp || far == nil || far.holder == nil || s.holder == nil || s.holder.state != legUp || far.holder.state != legUp:
		return refusal(480, "the call is not held by a device on both sides")
	case s.holder.device.Key == j.device.Key:
		return refusal(480, "the call is on "+j.device.Name+" already")
	case s.companion(j.device.Key) != nil:
		return refusal(480, j.device.Name+" listens already")
	case c.moveOf(s) != nil:
		return refusal(491, "a move of this seat is in progress")
	case s.joining != nil:
		return refusal(491, s.joining.device.Name+" is joining; one after the other")
	case len(s.companions) >= maxCompanions:
		return refusal(486, fmt.Sprintf("%d devices listen already, and no more may", maxCompanions))
	}
	for _, l := range []*Leg{s.holder, far.holder} {
		if len(media.Sound(media.OnlyG711(l.knows))) == 0 {
			return refusal(488, fmt.Sprintf("a third device hears G.711 alone, and %s of %s has %s", l.device.Name, l.seat.user.Name, media.Names(l.knows)))
		}
	}
	s.joining = j
	return nil
}

// companionCodecs are those that a companion is offered: it may take the call over one day, so keys belong to them.
func companionCodecs(far *Leg) []media.Codec {
	return media.OnlyG711(far.playable(media.Merge(offered(far), []media.Codec{{Name: "PCMU", Rate: 8000}})))
}

// ringCompanion rings the one device that its user has named.
func (c *Call) ringCompanion(j *joining) {
	far := c.other(j.seat)
	j.dial = &dial{
		c: c, seat: j.seat, show: far, codecs: companionCodecs(far.holder), only: &j.device, auto: true,
		ringing:  func(*Leg, *sip.Response) {},
		answered: func(l *Leg, r *sip.Response) { c.companionAnswered(j, l, r) },
		failed:   func(code int, why string) { c.failCompanion(j, refusal(max(code, 400), j.device.Name+": "+why)) },
	}
	j.dial.begin()
}

func (c *Call) companionAnswered(j *joining, l *Leg, r *sip.Response) {
	j.leg = l
	answer, err := l.answerOf(r)
	if err == nil {
		err = l.settle(l.local, answer)
	}
	if err != nil {
		c.failCompanion(j, refusal(488, fmt.Sprintf("%s: %v", l.device.Name, err)))
		return
	}
	c.admit(j, func() error {
		c.ack(l)
		c.setState(l, legUp)
		return nil
	})
}

// companion serves *43: the device that dialled it listens to the user's call, the N-th of *43N.
func (b *B2BUA) companion(x *sip.Exchange, caller registrar.User, offer *media.Description, n int) error {
	k, err := b.choose(caller.Name, "", n)
	if err == nil && k.ring != nil {
		err = refusal(480, "the call rings: it can be listened to when it is answered")
	}
	if err != nil {
		return b.noCall(x, caller, offer, err)
	}
	asked := k.call.do(func() {
		if err := k.call.comesBeside(x, offer, k.seat); err != nil {
			_ = x.Respond(b.reply(err))
		}
	})
	if !asked {
		return refusal(404, "the call has just ended")
	}
	return nil
}

// comesBeside takes the INVITE of a device that wants to listen.
func (c *Call) comesBeside(x *sip.Exchange, offer *media.Description, position int) error {
	if position >= len(c.seats) || c.seats[position].user.Name != x.User() {
		return refusal(404, "the call has just been transferred")
	}
	s := c.seats[position]
	j := &joining{c: c, seat: s, device: c.b.device(x, s.user.Name), how: "code", who: s.user.Name}
	if err := c.addCompanion(j); err != nil {
		return err
	}
	l, err := c.take(x, s, offer)
	if err != nil {
		s.joining = nil
		return err
	}
	j.leg, j.told = l, func(err error) {
		if err != nil {
			_ = x.Respond(c.b.reply(err))
		}
	}
	if err := c.answerCompanion(l, offer); err != nil {
		s.joining, j.over = nil, true
		c.closeLeg(l)
		return refusal(488, "a device that listens needs PCMU or PCMA: "+err.Error())
	}
	c.listen(l, func() {
		c.failCompanion(j, nil)
		c.closeLeg(l)
	})
	c.admit(j, func() error { return c.accept(l) })
	return nil
}

func (c *Call) answerCompanion(l *Leg, offer *media.Description) error {
	codecs := companionCodecs(c.other(l.seat).holder)
	if offer == nil {
		l.local = l.newOffer(codecs, media.SendRecv)
		return nil
	}
	local, err := l.newAnswer(*offer, codecs, media.SendRecv)
	if err == nil {
		err = l.settle(local, *offer)
	}
	return err
}

// admit brings the call to G.711 if it is not, then answers the device by act and lets it listen, when the record knows.
func (c *Call) admit(j *joining, act func() error) {
	c.speakG711(j, func(err error) {
		if err != nil {
			c.failCompanion(j, err)
			return
		}
		c.commit(func() {
			switch far := c.other(j.seat); {
			case j.over:
			case j.seat.holder == nil || far == nil || far.holder == nil || !mixable(j.seat.holder, far.holder): // a move came between
				c.failCompanion(j, refusal(480, "the call has just changed"))
			default:
				if err := act(); err != nil {
					c.failCompanion(j, refusal(480, fmt.Sprintf("%s is gone: %v", j.device.Name, err)))
					return
				}
				c.joined(j)
			}
		})
	})
}

// speakG711 has the phones of the seat and of the far side talk G.711, both at once so that the gap is short.
func (c *Call) speakG711(j *joining, then func(error)) {
	near, far := j.seat.holder, c.other(j.seat).holder
	switch {
	case near == nil || far == nil: // its phone has hung up, and a move is to bring another
		then(refusal(480, "the call has just changed"))
		return
	case mixable(near, far):
		then(nil)
		return
	}
	var ctx context.Context
	ctx, j.stop = context.WithTimeout(c.ctx, min(alignPatience, c.b.Config.Ring))
	open, failed := 2, error(nil)
	for _, l := range []*Leg{near, far} {
		c.askG711(ctx, j, l, func(err error) {
			failed = errors.Join(failed, err)
			if open--; open > 0 {
				return
			}
			j.stop()
			c.wire()
			if failed != nil {
				c.refit(near)
				c.refit(far)
			}
			then(failed)
		})
	}
}

// askG711 offers a phone G.711 first, and what it talks now second.
func (c *Call) askG711(ctx context.Context, j *joining, l *Leg, then func(error)) {
	if speaks(l) && media.Mixable(l.agreed.Send) {
		then(nil)
		return
	}
	codecs := media.Merge(media.Sound(media.OnlyG711(l.knows)), media.Sound(l.agreed.Send))
	offer, err := l.local.Reoffer(media.Merge(codecs, eventsOf(media.Merge(codecsOf(l.local), l.knows))))
	if err != nil {
		then(err)
		return
	}
	c.insist(ctx, l, l.versioned(offer), func(error) bool { return !j.over && ctx.Err() == nil }, func(err error) {
		if err == nil && !media.Mixable(l.agreed.Send) {
			err = fmt.Errorf("%w: it agreed to %s", errCodec, media.Names(l.agreed.Send))
		}
		if err != nil && unanswered(err) { // it may take the offer later
			c.after(alignPatience, func() { c.refit(l) })
		}
		if err != nil {
			err = refusal(488, alignFailure(l, err))
		}
		then(err)
	})
}

// joined is the device listening.
func (c *Call) joined(j *joining) {
	j.over, j.seat.joining = true, nil
	j.seat.companions = append(j.seat.companions, j.leg)
	c.wire()
	c.note(journal.CompanionJoined, journal.Entry{User: j.seat.user.Name, Device: j.device.Name, Text: j.how + ", " + j.who})
	if j.told != nil {
		j.told(nil)
	}
}

// failCompanion lets a device go that was to join; the call does not notice.
func (c *Call) failCompanion(j *joining, why error) {
	if j.over {
		return
	}
	j.over, j.seat.joining = true, nil
	if j.dial != nil {
		j.dial.stop(nil)
	}
	if j.stop != nil {
		j.stop()
	}
	if why != nil {
		c.log.Info("companion did not join", "user", j.seat.user.Name, "device", j.device.Name, "how", j.how, "why", why)
	}
	if j.told != nil {
		j.told(why)
	}
	if l := j.leg; l != nil && l.state == legIncoming {
		c.closeLeg(l)
	} else if l != nil {
		c.drop(l)
	}
}

// forgetCompanion takes a leg that is closed out of its seat's companions.
func (c *Call) forgetCompanion(l *Leg) {
	s := l.seat
	if j := s.joining; j != nil && j.leg == l {
		c.failCompanion(j, refusal(480, l.device.Name+" hung up"))
	}
	if !l.listens() {
		return
	}
	s.companions = slices.DeleteFunc(s.companions, func(k *Leg) bool { return k == l })
	c.note(journal.CompanionLeft, journal.Entry{User: s.user.Name, Device: l.device.Name})
}

// dropCompanions ends those of a seat that has been given to somebody else, or that can hear the call no more.
func (c *Call) dropCompanions(m *move) {
	if j := m.seat.joining; j != nil && m.into != m.seat {
		c.failCompanion(j, refusal(480, "the call has been transferred"))
	}
	for _, s := range c.allSeatsAnd(m.seat) {
		o := c.other(s)
		for _, l := range slices.Clone(s.companions) {
			if s == m.seat && m.into != m.seat || o == nil || !heardByThird(s.holder, o.holder) {
				c.log.Info("companion can hear the call no more", "user", s.user.Name, "device", l.device.Name)
				c.drop(l)
			}
		}
	}
}

// heardByThird says that both legs will talk G.711 by what they have agreed to.
func heardByThird(a, b *Leg) bool {
	return a != nil && b != nil && media.Mixable(a.agreed.Send) && media.Mixable(b.agreed.Send)
}

func (c *Call) allSeatsAnd(s *Seat) []*Seat {
	if seats := c.seats; !slices.Contains(seats, s) {
		return append(slices.Clone(seats), s)
	}
	return c.seats
}

// companionFor is the companion that a move goes to: its device is there already, and needs no INVITE.
func (m *move) companionFor() *Leg {
	switch {
	case m.into != m.seat || m.how == "recall":
		return nil
	case m.only != nil:
		return m.seat.companion(m.only.Key)
	}
	return m.seat.companion("")
}

// promote has a companion take the seat by the move: at once if it has been heard, and else, or while it has the call on hold, when it is.
func (c *Call) promote(m *move, l *Leg) {
	m.seat.companions = slices.DeleteFunc(m.seat.companions, func(k *Leg) bool { return k == l })
	m.promoted, m.device = true, l.device.Name
	c.joinNew(m, l, func() error { return nil })
}

// demote lets a companion go on listening whose move has failed.
func (c *Call) demote(m *move) {
	if l := m.to; c.state == StateUp && l.state == legUp {
		m.seat.companions = append(m.seat.companions, l)
	}
}

// companionDials is the takeover by *40 and the like, dialled on a companion: its second call is told and ends.
func (c *Call) companionDials(x *sip.Exchange, offer *media.Description, l *Leg, how string) error {
	m := &move{c: c, seat: l.seat, into: l.seat, from: l.seat.lastLeg(), how: how, who: l.seat.user.Name, began: time.Now()}
	if err := c.addMove(m); err != nil {
		return err
	}
	c.promote(m, l)
	return c.b.announce(x, l.seat.user, offer, notice{tone: media.ToneDone, code: 200, why: "the call is on this device now"})
}

// CompanionReport says who listens to which call.
type CompanionReport struct {
	Call   string `json:"call"`
	User   string `json:"user"`
	Device string `json:"device"`
}

// Companion has a device listen to a call of its user, ringing it if it must, or lets it go; it returns when that is done, or says why it
// cannot be. The end of ctx takes it back.
func (b *B2BUA) Companion(ctx context.Context, r MoveRequest, leave bool) (CompanionReport, error) {
	c, err := b.moveCall(r)
	if err != nil {
		return CompanionReport{}, err
	}
	return ask(ctx, c, func(tell func(CompanionReport, error)) (undo func()) {
		seat, device, err := c.seatFor(r)
		if err != nil {
			tell(CompanionReport{}, err)
			return nil
		}
		report := CompanionReport{c.id, seat.user.Name, device.Name}
		if leave {
			tell(report, c.dismiss(seat, device))
			return nil
		}
		j := &joining{c: c, seat: seat, device: device, how: r.How, who: r.Who, told: func(err error) { tell(report, err) }}
		if err := c.requestCompanion(j); err != nil {
			tell(CompanionReport{}, err)
			return nil
		}
		return func() { c.failCompanion(j, refusal(487, "taken back")) }
	})
}

func (c *Call) requestCompanion(j *joining) error {
	if !j.device.Here() {
		return refusal(480, away(j.device))
	}
	if err := c.addCompanion(j); err != nil {
		return err
	}
	c.ringCompanion(j)
	return nil
}

// dismiss lets a companion go.
func (c *Call) dismiss(s *Seat, d registrar.Device) error {
	l := s.companion(d.Key)
	if l == nil {
		return refusal(404, d.Name+" does not listen to this call")
	}
	c.drop(l)
	return nil
}

// nameOf is how people call the device that holds a seat.
func nameOf(l *Leg) string {
	if l == nil {
		return "no device"
	}
	return l.device.Name
}
