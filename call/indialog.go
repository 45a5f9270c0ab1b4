package call

import (
	"time"

	"baton/media"
	"baton/sip"
)

// inDialog takes a request of the leg's phone within its dialog.
func (c *Call) inDialog(l *Leg, x *sip.Exchange) {
	if l.state == legClosed || (l.state == legClosing && x.Method() != "BYE") {
		_ = x.Respond(sip.Reply{Code: 481})
		return
	}
	flow := l.dialog.Flow
	if err := l.dialog.Receive(x.Request); err != nil {
		_ = x.Respond(sip.Reply{Code: 500, Headers: []sip.Header{warning(err.Error())}})
		return
	}
	l.asked = time.Now()
	l.learn(x)
	if l.dialog.Flow != flow {
		c.heardFrom(l, flow)
	}
	if l.state == legLost && x.Method() != "BYE" {
		c.sought(l, nil, x.Method())
	}
	switch x.Method() {
	case "BYE":
		c.onBye(l, x)
	case "INVITE":
		c.onReinvite(l, x)
	case "UPDATE":
		c.onUpdate(l, x)
	case "PRACK":
		c.onPrack(l, x)
	case "REFER":
		c.onRefer(l, x)
	case "SUBSCRIBE":
		c.onSubscribe(l, x)
	case "INFO":
		c.onInfo(l, x)
	case "MESSAGE":
		c.onMessage(l, x)
	case "PUBLISH", "NOTIFY":
		_ = x.Respond(c.b.published(x, l.seat.user.Name))
	case "OPTIONS":
		_ = x.Respond(sip.Reply{Code: 200})
	default:
		_ = x.Respond(sip.Reply{Code: 405})
	}
}

// onBye takes a hang-up. From a leg whose move is pending it means leave: the new device goes on ringing (docs/moves.md).
func (c *Call) onBye(l *Leg, x *sip.Exchange) {
	c.sumUp(l, x.Header)
	_ = x.Respond(sip.Reply{Code: 200})
	l.acked = true // it would not hang up an answer that it never had
	holder, m := l.seat.holder == l, c.moveOf(l.seat)
	if l.state == legIncoming { // of an early dialog; its INVITE wants an answer too (RFC 3261 §15.1.2)
		_ = l.exchange.Respond(sip.Reply{Code: 487})
	}
	switch {
	case c.lending != nil && c.state == StateSetup: // whom he called is promised to another
		c.closeLeg(l)
		c.commit(func() {})
	case m != nil && m.to == l:
		c.closeLeg(l)
		c.failMove(m, l.device.Name+" hung up at once", 480)
	case (holder || l.state == legLost) && c.leavesByBye(l.seat):
		c.hungUpToLeave(l)
	case l.state == legLost && m == nil:
		c.endWithout(l, "ended by "+l.seat.user.Name)
	case m != nil && m.from == l && l.seat.away == nil: // else it has left before, and is not rung back
		m.left = true
		c.closeLeg(l)
		c.commit(func() {})
	case holder:
		c.endWithout(l, "ended by "+l.seat.user.Name)
	default: // it was on its way out
		c.closeLeg(l)
	}
}

// onReinvite answers hold, resume and refresh by itself: the far side is never asked (docs/moves.md).
func (c *Call) onReinvite(l *Leg, x *sip.Exchange) {
	if l.state == legIncoming { // a second INVITE before the first is answered, RFC 3261 §14.2
		_ = x.Respond(later())
		return
	}
	body, headers, err := c.change(l, x)
	if err != nil {
		_ = x.Respond(c.b.reply(err))
		return
	}
	if len(x.Body().Data) == 0 && !speakable(l.local, l.dialog.Flow) {
		_ = x.Respond(c.b.reply(refusal(488, errPlain.Error())))
		return
	}
	if len(x.Body().Data) == 0 {
		l.local = l.versioned(l.local.WithDirection(media.SendRecv)) // the same m-lines and payload types (RFC 3264 §8)
		body, l.owes, l.owing = sdpBody(l.local), true, x
	}
	l.theirs = x
	x.Watch(sip.Watch{
		Acked:   func(b sip.Body) { c.do(func() { c.withLeg(l, func(c *Call, l *Leg) { c.onAck(l, x, b) }) }) },
		Unacked: func() { c.do(func() { c.withLeg(l, (*Call).onNoAck) }) },
	})
	_ = x.Respond(sip.Reply{Code: 200, Headers: headers, Body: body})
	c.wire()
	c.touch()
}

// onUpdate answers an UPDATE, or a PRACK with an offer: they change the session at once, also of a call that is not
// answered yet (RFC 3311 §5.2, RFC 3262 §5). Without an offer it is a refresh.
func (c *Call) onUpdate(l *Leg, x *sip.Exchange) {
	body, headers, err := c.change(l, x)
	if err != nil {
		_ = x.Respond(c.b.reply(err))
		return
	}
	_ = x.Respond(sip.Reply{Code: 200, Headers: headers, Body: body})
	c.wire()
	c.touch()
}

// change takes the offer of a request in the leg's dialog, if it has one, and gives the body and the headers of its 2xx.
func (c *Call) change(l *Leg, x *sip.Exchange) (body sip.Body, headers []sip.Header, err error) {
	offer, err := offerOf(x.Body(), c.b.reach(x.Flow()))
	if err != nil {
		return body, nil, err
	}
	switch {
	case l.offers || l.owes: // glare: our own offer is not answered yet
		return body, nil, refusal(491, "an offer of ours is under way")
	case offer != nil && l.state == legIncoming && len(l.local.Lines) == 0: // the INVITE's is not answered yet
		return body, nil, &Refusal{Code: 500, Why: "the offer before is not answered yet", Headers: later().Headers}
	}
	if x.Method() != "PRACK" {
		if headers, err = c.takeSession(l, x); err != nil {
			return body, nil, err
		}
	}
	if offer == nil {
		return body, headers, nil
	}
	l.traits.reoffer(*offer)
	local, err := c.relocal(l, offer)
	if l.straight && l.unchanged(*offer) { // a refresh of direct media
		local, err = l.local, nil
	}
	if err == nil {
		err = l.settle(local, *offer)
	}
	if err != nil {
		return body, nil, refusal(488, err.Error())
	}
	return sdpBody(local), headers, nil
}

func sdpBody(d media.Description) sip.Body { return sip.Body{Type: sdpType, Data: d.Marshal()} }

// relocal makes our answer to a new offer of the leg's, with all that the call can carry.
func (c *Call) relocal(l *Leg, offer *media.Description) (media.Description, error) {
	far := l
	if o := c.other(l.seat); o != nil && o.holder != nil {
		far = o.holder
	}
	codecs := far.playable(far.agreed.Send)
	if l.listens() {
		codecs = companionCodecs(far)
	}
	answer, err := l.newAnswer(*offer, codecs, media.SendRecv)
	if err != nil {
		return answer, err
	}
	return l.versioned(answer), nil
}

// versioned raises the o= version when the description differs from the leg's last one (RFC 3264 §8).
func (l *Leg) versioned(d media.Description) media.Description {
	if string(d.Marshal()) != string(l.local.Marshal()) {
		l.origin.Version++
		d.Origin = l.origin
	}
	return d
}
