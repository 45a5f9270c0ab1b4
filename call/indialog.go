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
	if l.dialog.Flow != flow {
		c.attach(l)
	}
	switch x.Method() {
	case "BYE":
		c.onBye(l, x)
	case "INVITE":
		c.onReinvite(l, x)
	case "REFER":
		c.onRefer(l, x)
	case "OPTIONS":
		_ = x.Respond(sip.Reply{Code: 200})
	default:
		_ = x.Respond(sip.Reply{Code: 405})
	}
}

// onBye takes a hang-up. From a leg whose move is pending it means leave: the new device goes on ringing (docs/moves.md).
func (c *Call) onBye(l *Leg, x *sip.Exchange) {
	_ = x.Respond(sip.Reply{Code: 200})
	l.acked = true // it would not hang up an answer that it never had
	holder, m := l.seat.holder == l, c.moveOf(l.seat)
	switch {
	case m != nil && m.to == l:
		c.closeLeg(l)
		c.failMove(m, l.device.Name+" hung up at once", 480)
	case m != nil && m.from == l:
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
	if l.offers { // glare, RFC 3261 §14.2
		_ = x.Respond(sip.Reply{Code: 491})
		return
	}
	offer, err := offerOf(x.Body())
	if err != nil {
		_ = x.Respond(c.b.reply(err))
		return
	}
	local, err := c.relocal(l, offer)
	if err != nil {
		_ = x.Respond(sip.Reply{Code: 488, Headers: []sip.Header{warning(err.Error())}})
		return
	}
	if offer != nil {
		if err := l.settle(local, *offer); err != nil {
			_ = x.Respond(sip.Reply{Code: 488, Headers: []sip.Header{warning(err.Error())}})
			return
		}
	} else {
		l.local, l.owes = local, true
	}
	x.Watch(sip.Watch{
		Acked:   func(b sip.Body) { c.do(func() { c.onAck(l, b) }) },
		Unacked: func() { c.do(func() { c.onNoAck(l) }) },
	})
	_ = x.Respond(sip.Reply{Code: 200, Body: sip.Body{Type: sdpType, Data: local.Marshal()}})
	c.wire()
	c.touch()
}

// relocal makes our SDP towards the leg for a new offer (nil: ours is the offer, with all that the call can carry).
func (c *Call) relocal(l *Leg, offer *media.Description) (media.Description, error) {
	codecs := l.agreed.Send
	if o := c.other(l.seat); o != nil && o.holder != nil {
		codecs = o.holder.agreed.Send
	}
	if offer == nil { // the same m-lines and payload types as before (RFC 3264 §8)
		return l.versioned(l.local.WithDirection(media.SendRecv)), nil
	}
	answer, err := media.NewAnswer(l.origin, *offer, media.WithG711(codecs), l.stream.Endpoint(), media.SendRecv)
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
