package call

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"baton/journal"
	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// Invite takes an INVITE outside of a dialog from an authenticated user. It runs on the dispatcher's queue and does not
// block.
func (b *B2BUA) Invite(x *sip.Exchange) {
	caller, ok := b.Registrar.User(x.User())
	if !ok {
		_ = x.Respond(sip.Reply{Code: 403})
		return
	}
	if err := b.invite(x, caller); err != nil {
		b.Log.Info("call refused", "user", caller.Name, "to", x.RequestURI().User, "err", err)
		_ = x.Respond(b.reply(err))
	}
}

func (b *B2BUA) invite(x *sip.Exchange, caller registrar.User) error {
	offer, err := offerOf(x.Body(), b.reach(x.Flow()))
	if err != nil {
		b.learnRefused(x, caller)
		return err
	}
	if x.Header("Join") != "" {
		return refusal(488, "joining a call (RFC 3911) is not served: take it over by Replaces, or dial the pull code")
	}
	if v := x.Header("Replaces"); v != "" {
		return b.inviteReplaces(x, caller, offer, v)
	}
	if o, ok := b.officeCode(x.RequestURI()); ok {
		return b.office(x, caller, offer, o)
	}
	target, err := b.route(x.RequestURI(), caller)
	if err != nil {
		return b.unknown(x, caller, offer, err)
	}
	if target.Code == codePull || (target.User.Name == caller.Name && target.Device == nil && target.Code == codeNone) {
		return b.pull(x, caller, offer, target.N)
	}
	if target.Code != codeNone {
		if err := b.mayBegin(); err != nil {
			return err
		}
	}
	switch {
	case target.Code == codeCompanion:
		return b.companion(x, caller, offer, target.N)
	case target.Code == codeLeave:
		return b.leave(x, caller, offer, target.N)
	case target.Code == codePush:
		return b.push(x, caller, offer, target.N)
	case target.Code == codePickup:
		return b.pickUp(x, caller, offer, target.At)
	case target.Device == nil:
		return b.callOn(x, caller, offer, target)
	}
	return b.place(x, caller, offer, target)
}

// offerOf reads the SDP of an INVITE to one who can do what by says; nil is an INVITE without offer.
func offerOf(body sip.Body, by media.Local) (*media.Description, error) {
	if len(body.Data) == 0 {
		return nil, nil
	}
	if kind, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(body.Type)), ";"); strings.TrimSpace(kind) != sdpType {
		return nil, refusal(415, "only "+sdpType+" is understood")
	}
	d, err := media.ParseSDP(body.Data)
	switch {
	case errors.Is(err, media.ErrTooLarge):
		return nil, refusal(413, "SDP: "+err.Error())
	case err != nil:
		return nil, refusal(400, "SDP: "+err.Error())
	}
	if err := usable(d, by); err != nil {
		return nil, refusal(488, "SDP: "+err.Error())
	}
	return &d, nil
}

// usable says why an offer could not be answered at all: no audio, no codec that has a name, SRTP whose keys cannot be had.
func usable(d media.Description, by media.Local) error {
	line, _, _ := d.Audio()
	_, err := media.NewAnswer(media.Origin{}, d, media.WithG711(line.Codecs), by, media.SendRecv)
	return err
}

// device is the caller's device that sent x; one that is not registered is known by its address alone.
func (b *B2BUA) device(x *sip.Exchange, user string) registrar.Device {
	contact, _ := x.Contact()
	if d, ok := b.Registrar.DeviceOf(user, x.Flow(), contact); ok {
		return d
	}
	return registrar.Device{User: user, Name: "unregistered", UserAgent: x.UserAgent(), Key: "flow:" + x.Flow().Remote.String()}
}

// take makes the leg of a device that called us.
func (c *Call) take(x *sip.Exchange, s *Seat, offer *media.Description) (*Leg, error) {
	d := c.b.device(x, s.user.Name)
	l, err := c.newLeg(s, d, x.Flow(), c.b.dialectsTowards(d, x.Flow(), offer))
	if err != nil {
		return nil, refusalOf(err, 503)
	}
	l.incoming, l.exchange, l.dialog = true, x, x.Dialog(c.epoch)
	l.learn(x)
	c.setState(l, legIncoming)
	if l.offering, err = c.takeSession(l, x); err != nil {
		c.closeLeg(l)
		return nil, err
	}
	if offer != nil {
		l.remote = *offer
		l.traits.offer(*offer)
	}
	return l, nil
}

// listen has what becomes of the INVITE told to the agent.
func (c *Call) listen(l *Leg, cancelled func()) {
	c.serve(l)
	c.b.index(c, l, l.dialog.ID(), dialogCalling)
	c.follow(l)
	x := l.exchange
	x.Watch(sip.Watch{
		Cancelled: func() { c.do(cancelled) },
		Acked:     func(b sip.Body) { c.do(func() { c.withLeg(l, func(c *Call, l *Leg) { c.onAck(l, x, b) }) }) },
		Unacked:   func() { c.do(func() { c.withLeg(l, (*Call).onNoAck) }) },
	})
}

// place starts a call from caller to target.
func (b *B2BUA) place(x *sip.Exchange, caller registrar.User, offer *media.Description, target Target) error {
	c := b.newCall(b.ctx)
	from, to := newSeat(caller), newSeat(target.User)
	c.seats = []*Seat{from, to}
	l, err := c.take(x, from, offer)
	if err != nil {
		return err
	}
	from.holder = l
	return b.start(c, func() {
		c.listen(l, func() { c.cancelled(l) })
		c.note(journal.CallStarted, journal.Entry{Device: l.device.Name})
		c.reach(l, target)
	})
}

// ring starts to dial the target's devices for the caller's leg.
func (c *Call) ring(l *Leg, target Target) {
	if !c.awaited(l) {
		return
	}
	codecs := media.Known()
	if line, _, ok := l.remote.Audio(); ok {
		codecs = l.playable(line.Codecs)
	}
	exclude := ""
	if target.User.Name == l.seat.user.Name {
		exclude = l.device.Key
	}
	d := &dial{
		c: c, seat: c.seats[1], show: c.seats[0], codecs: codecs, exclude: exclude, only: target.Device, hops: c.hops,
		ringing:  func(k *Leg, r *sip.Response) { c.onRinging(l, k, r) },
		answered: func(k *Leg, r *sip.Response) { c.onAnswer(l, k, r) },
	}
	d.failed = func(code int, why string) { c.notTaken(l, target, d, code, why) }
	c.dial = d
	d.begin()
}

// awaited says that somebody waits for the called user: the caller, or whom he transfers to him.
func (c *Call) awaited(l *Leg) bool { return l.state == legIncoming || c.lending != nil }

// onRinging passes a provisional answer on: early media while one device rings, else 180.
func (c *Call) onRinging(caller, callee *Leg, r *sip.Response) {
	if caller.state != legIncoming {
		return
	}
	if c.early == nil && len(caller.local.Lines) == 0 && len(c.dial.legs) == 1 && len(r.Body().Data) > 0 && len(caller.remote.Lines) > 0 {
		if c.earlyMedia(caller, callee, r) == nil {
			return
		}
	}
	if c.early != nil && len(c.dial.legs) > 1 {
		c.early = nil // a second target: whose sound it is would be a guess
		caller.hear(source{tone: media.ToneRing})
	}
	if c.early == nil {
		c.progress(caller, 180)
	}
}

// earlyMedia connects the caller to what the one ringing device already plays.
func (c *Call) earlyMedia(caller, callee *Leg, r *sip.Response) error {
	answer, err := callee.earlyAnswer(r)
	if err != nil {
		return err
	}
	if err := callee.settle(callee.local, answer); err != nil {
		return err
	}
	local, err := caller.newAnswer(caller.remote, callee.playable(callee.agreed.Send), media.SendRecv)
	if err != nil {
		return err
	}
	if err := caller.settle(local, caller.remote); err != nil {
		return err
	}
	c.early = callee
	callee.feed([]*Leg{caller})
	caller.feed([]*Leg{callee})
	caller.hear(source{leg: callee})
	callee.hear(source{leg: caller})
	return caller.exchange.Respond(sip.Reply{
		Code: 183, Headers: identityHeaders(c.identity(callee.seat, caller.dialog.Flow)),
		Body: sdpBody(local),
	})
}

// onAnswer joins caller and callee: both answers leave after the record is written.
func (c *Call) onAnswer(caller, callee *Leg, r *sip.Response) {
	c.dial = nil
	if h := c.lending; h != nil && !(h.withdrawn.Load() && caller.state == legIncoming) { // else it is an ordinary call again
		c.handOver(h, callee, r)
		return
	}
	c.seats[1].holder = callee
	if err := c.settleBoth(caller, callee, r); err != nil {
		c.log.Info("answer cannot be used", "leg", callee.id, "device", callee.device.Name, "err", err)
		c.refuse(caller, 488, err.Error())
		return
	}
	c.changeState(StateUp)
	c.setState(callee, legUp)
	c.wire()
	c.commit(func() { c.connect(caller, callee) })
}

// settleBoth takes the callee's answer and makes the caller's.
func (c *Call) settleBoth(caller, callee *Leg, r *sip.Response) error {
	answer, err := callee.answerOf(r)
	if err != nil {
		return err
	}
	if err := callee.settle(callee.local, answer); err != nil {
		return err
	}
	return c.settleCaller(caller, callee)
}

// settleCaller makes the caller's answer, or our offer to one that made none, by what the other can play: as agreed, or as
// it was offered in an answer of ours that it has not answered yet.
func (c *Call) settleCaller(caller, callee *Leg) error {
	agreed := len(callee.remote.Lines) > 0
	codecs := codecsOf(callee.local)
	if agreed {
		codecs = callee.playable(callee.agreed.Send)
	}
	if caller.offered { // ours went out before; its answer comes by PRACK, or has come
		return nil
	}
	if len(caller.remote.Lines) == 0 { // no offer: ours goes out in the 200
		caller.local = caller.newOffer(codecs, media.SendRecv)
		return nil
	}
	if len(caller.local.Lines) > 0 { // the 200 repeats the 183's SDP
		if !agreed {
			return nil
		}
		return understands(callee, caller)
	}
	local, err := caller.newAnswer(caller.remote, codecs, media.SendRecv)
	if err != nil {
		return err
	}
	return caller.settle(local, caller.remote)
}

// connect sends the ACK and the 200. A CANCEL that came meanwhile has won: then the callee gets its BYE.
func (c *Call) connect(caller, callee *Leg) {
	if callee.state != legClosed {
		c.ack(callee)
	}
	if c.state != StateUp || caller.state != legIncoming {
		return
	}
	switch err := c.accept(caller); {
	case errors.Is(err, sip.ErrAnswered):
		return // cancelled: the Watch tells
	case err != nil:
		c.closeLeg(caller)
		c.end(fmt.Sprintf("%s of %s is gone: %v", caller.device.Name, caller.seat.user.Name, err))
		return
	}
	c.note(journal.CallAnswered, journal.Entry{Device: callee.device.Name})
	if caller.offered && !caller.owes && understands(caller, callee) != nil {
		_ = c.narrow(callee, caller.agreed.Send)
	}
}

// accept sends the 200 with the leg's SDP.
func (c *Call) accept(l *Leg) error {
	id := c.identity(c.other(l.seat), l.dialog.Flow)
	rep := sip.Reply{Code: 200, Headers: append(identityHeaders(id), l.offering...)}
	if !l.offered {
		rep.Body = sdpBody(l.local)
	}
	if err := l.exchange.Respond(rep); err != nil {
		return err
	}
	l.accepted, l.answer = true, time.Now()
	l.session.From = l.answer
	if l.owes = len(l.remote.Lines) == 0; l.owes {
		l.owing = l.exchange
	}
	c.setState(l, legUp)
	c.attach(l)
	c.touch()
	return nil
}

// cancelled ends a call whose caller has hung up before the answer; the agent has answered the INVITE with 487.
func (c *Call) cancelled(l *Leg) {
	c.closeLeg(l)
	if c.lending != nil && c.state == StateSetup { // whom he called is promised to another
		c.commit(func() {})
		return
	}
	c.end("cancelled by " + l.seat.user.Name)
}

// refuse gives the caller the final answer of a call that nobody took.
func (c *Call) refuse(l *Leg, code int, why string) {
	if code == 408 || code < 400 || code == 401 || code == 407 || code == 487 {
		code = 480
	}
	c.keepOwn(code, why)
	if l.state == legIncoming {
		_ = l.exchange.Respond(refused(code, why))
		c.closeLeg(l)
	}
	c.end(why)
}

// onAck takes the ACK of our 2xx to an INVITE, with the answer to our offer if that had none. News of an ACK may come behind the next
// re-INVITE.
func (c *Call) onAck(l *Leg, x *sip.Exchange, body sip.Body) {
	if l.theirs == x {
		l.theirs = nil
	}
	if x == l.exchange { // that of a re-INVITE says nothing of our own ACK, which may be still to come
		l.acked, l.exchange = true, nil
	}
	if l.byeLater {
		l.byeLater = false
		c.bye(l)
		return
	}
	if !l.alive() {
		return
	}
	if l.owes && l.owing == x {
		l.owes, l.owing = false, nil
		if err := c.answerInACK(l, body); err != nil {
			c.broken(l, err)
			return
		}
		c.wire()
		c.touch()
	}
	c.offerLater(l)
}

// answerInACK takes the answer to an offer of ours that went out in a 2xx (RFC 3261 §13.2.1).
func (c *Call) answerInACK(l *Leg, body sip.Body) error {
	if len(body.Data) == 0 {
		return errors.New("its ACK has no answer to our offer")
	}
	answer, err := media.ParseSDP(body.Data)
	if err != nil {
		return err
	}
	if err := l.settle(l.local, answer); err != nil {
		return err
	}
	far := c.other(l.seat)
	if far == nil || far.holder == nil || understands(l, far.holder) == nil {
		return c.understood(l)
	}
	if l.seat.holder != l { // of a device that pulls: its move looks after the codecs
		return mayFit(l, far.holder)
	}
	return c.narrow(far.holder, l.playable(l.agreed.Send))
}

// understood narrows a leg that has agreed to more than the other can play: both were asked for an answer to an offer of
// ours, and the other's came first.
func (c *Call) understood(l *Leg) error {
	far := c.other(l.seat)
	if far == nil || far.holder == nil || l.seat.holder != l || len(far.holder.agreed.Send) == 0 || understands(far.holder, l) == nil {
		return nil
	}
	return c.narrow(l, far.holder.playable(far.holder.agreed.Send))
}

// onNoAck hangs up a phone that never acknowledged our 2xx (RFC 3261 §13.3.1.4).
func (c *Call) onNoAck(l *Leg) {
	acked, err := l.acked, errors.New("it never acknowledged our 200")
	l.acked = true
	switch {
	case l.byeLater:
		c.bye(l)
	case !l.alive():
	case acked: // that to a change of its
		c.lost(l, err)
	default:
		c.broken(l, err)
	}
}
