package call

import (
	"time"

	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// notice is what a caller is told by a tone: in a 183 for three seconds before a refusal, or for a second in an answered
// call that nothing else becomes of.
type notice struct {
	tone media.Tone
	code int
	why  string
	show string // on the phone's display, "" = nothing
	stay bool   // answered, and told until somebody ends it
}

const (
	toneBeforeRefusal = 3 * time.Second
	toneAfterAnswer   = time.Second
)

// announce tells a caller something by tone; it is a call with one seat that is neither shown nor logged.
func (b *B2BUA) announce(x *sip.Exchange, caller registrar.User, offer *media.Description, n notice) error {
	return b.play(b.newCall(b.ctx), x, caller, offer, n)
}

// play makes c the call that tells a caller something.
func (b *B2BUA) play(c *Call, x *sip.Exchange, caller registrar.User, offer *media.Description, n notice) error {
	if n.code != 200 && (offer == nil || !b.Config.Announce) {
		return refusal(n.code, n.why)
	}
	c.quiet = true
	c.seats = []*Seat{newSeat(caller)}
	l, err := c.take(x, c.seats[0], offer)
	if err != nil {
		return err
	}
	c.seats[0].holder = l
	return b.start(c, func() {
		c.listen(l, func() { c.cancelled(l) })
		if err := c.tell(l, offer, n); err != nil {
			_ = x.Respond(b.reply(err))
			c.closeLeg(l)
			c.end(n.why)
		}
	})
}

func (c *Call) tell(l *Leg, offer *media.Description, n notice) error {
	if offer == nil {
		l.local = l.newOffer(media.Known(), media.SendOnly)
	} else {
		local, err := l.newAnswer(*offer, media.Known(), media.SendOnly)
		if err != nil {
			return refusal(n.code, n.why)
		}
		if err := l.settle(local, *offer); err != nil {
			return refusal(488, err.Error())
		}
	}
	l.hear(source{tone: n.tone})
	body := sdpBody(l.local)
	if n.code != 200 {
		c.after(toneBeforeRefusal, func() { c.refuse(l, n.code, n.why) })
		return l.exchange.Respond(sip.Reply{Code: 183, Headers: []sip.Header{warning(n.why)}, Body: body})
	}
	headers := append([]sip.Header{warning(n.why)}, l.offering...)
	if n.show != "" {
		id := c.identity(l.seat, l.dialog.Flow)
		id.Name, id.URI.User = n.show, l.exchange.RequestURI().User
		headers = append(headers, identityHeaders(id)...)
	}
	if err := l.exchange.Respond(sip.Reply{Code: 200, Headers: headers, Body: body}); err != nil {
		return err
	}
	l.accepted, l.owes, l.owing = true, offer == nil, l.exchange
	c.setState(l, legUp)
	c.attach(l)
	if !n.stay {
		c.after(toneAfterAnswer, func() { c.end(n.why) })
	}
	return nil
}
