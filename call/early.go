package call

import (
	"time"

	"baton/media"
	"baton/sip"
)

// fork is an early dialog of an INVITE of ours. A proxy before the device may have sent that to several places; each that
// answers has a dialog of its own (RFC 3261 §12.1.2, §13.2.2.4).
type fork struct {
	dialog  sip.Dialog
	answer  *media.Description // to the INVITE's offer; nil = none yet
	settled bool               // it came reliably: nothing in the 2xx changes it (RFC 3261 §13.2.1)
}

// maxForks bounds the early dialogs that one INVITE may make.
const maxForks = 8

// prackPatience is Timer F: an answer that wants a PRACK is repeated for as long.
const prackPatience = 32 * time.Second

// fork takes a provisional answer into the early dialog that it belongs to; nil if it belongs to none.
func (c *Call) fork(l *Leg, r *sip.Response) *fork {
	f := l.forkOf(r.ToTag())
	switch {
	case f != nil:
		f.dialog.Refresh(r)
	case r.ToTag() == "" || len(l.forks) >= maxForks:
		return nil
	default:
		f = &fork{dialog: l.dialog}
		f.dialog.Confirm(r)
		l.forks = append(l.forks, f)
		c.b.index(c, l, f.dialog.ID(), dialogRinging)
		c.serveFork(l, f)
	}
	if f.answer == nil && len(r.Body().Data) > 0 {
		if answer, err := media.ParseSDP(r.Body().Data); err == nil {
			f.answer, f.settled = &answer, r.RSeq() != 0
		}
	}
	return f
}

// serveFork has the requests of an early dialog come here.
func (c *Call) serveFork(l *Leg, f *fork) {
	c.b.Agent.Attach(f.dialog, l.seat.user.Name, func(x *sip.Exchange) {
		if !c.do(func() { c.inFork(l, f, x) }) {
			_ = x.Respond(sip.Reply{Code: 481})
		}
	})
}

func (l *Leg) forkOf(tag string) *fork {
	for _, f := range l.forks {
		if f.dialog.RemoteTag == tag && tag != "" {
			return f
		}
	}
	return nil
}

// inEarly makes a request in an early dialog. All dialogs of the leg count their requests together.
func (l *Leg) inEarly(f *fork, method string, body sip.Body, headers ...sip.Header) sip.Outgoing {
	f.dialog.LocalCSeq = l.dialog.LocalCSeq
	out := f.dialog.NewRequest(method, body, headers...)
	l.dialog.LocalCSeq = f.dialog.LocalCSeq
	return out
}

// prack acknowledges a provisional answer that must arrive (RFC 3262 §4). It is tried until the leg's INVITE is over.
func (c *Call) prack(l *Leg, f *fork, r *sip.Response) {
	out := l.inEarly(f, "PRACK", sip.Body{}, sip.RAck(r))
	c.requestUnder(l.inviting, l, out, prackPatience, func(_ *sip.Response, err error) {
		if err != nil && (l.state == legDialing || l.state == legRinging) {
			c.log.Debug("prack", "leg", l.id, "device", l.device.Name, "err", err)
		}
	})
}

// inFork takes a request of the called phone in an early dialog.
func (c *Call) inFork(l *Leg, f *fork, x *sip.Exchange) {
	switch {
	case l.answered == f:
		c.serveLeg(l, x)
		return
	case l.state != legDialing && l.state != legRinging:
		_ = x.Respond(sip.Reply{Code: 481})
		return
	}
	if err := f.dialog.Receive(x.Request); err != nil {
		_ = x.Respond(sip.Reply{Code: 500, Headers: []sip.Header{warning(err.Error())}})
		return
	}
	switch x.Method() {
	case "UPDATE":
		c.onForkUpdate(l, f, x)
	case "OPTIONS":
		_ = x.Respond(sip.Reply{Code: 200})
	case "INVITE": // ours is not over yet (RFC 3261 §14.2)
		_ = x.Respond(sip.Reply{Code: 491})
	case "BYE": // which the called side must not send before it has answered (RFC 3261 §15)
		_ = x.Respond(sip.Reply{Code: 481})
	case "PUBLISH", "NOTIFY":
		_ = x.Respond(c.b.published(x, l.seat.user.Name))
	default:
		_ = x.Respond(sip.Reply{Code: 405})
	}
}

// onForkUpdate takes a change of what the called phone offers before it has answered (RFC 3311 §5.2).
func (c *Call) onForkUpdate(l *Leg, f *fork, x *sip.Exchange) {
	offer, err := offerOf(x.Body(), c.b.reach(x.Flow()))
	switch {
	case err != nil:
		_ = x.Respond(c.b.reply(err))
		return
	case offer == nil:
		_ = x.Respond(sip.Reply{Code: 200})
		return
	case f.answer == nil: // the INVITE's offer is not answered yet
		_ = x.Respond(sip.Reply{Code: 491})
		return
	}
	local, err := l.newAnswer(*offer, codecsOf(l.local), media.SendRecv)
	local = l.versioned(local)
	if err == nil && c.early == l { // it is heard
		err = l.settle(local, *offer)
	}
	if err != nil {
		_ = x.Respond(sip.Reply{Code: 488, Headers: []sip.Header{warning(err.Error())}})
		return
	}
	f.answer, f.settled, l.local = offer, true, local
	_ = x.Respond(sip.Reply{Code: 200, Body: sdpBody(l.local)})
}

// codecsOf lists the codecs of a description's audio.
func codecsOf(d media.Description) []media.Codec {
	line, _, _ := d.Audio()
	return line.Codecs
}

// settleFork makes the dialog of the answer the leg's, and lets the other early ones go.
func (c *Call) settleFork(l *Leg, r *sip.Response) {
	l.dialog.Confirm(r)
	if f := l.forkOf(r.ToTag()); f != nil {
		l.dialog.RemoteCSeq = f.dialog.RemoteCSeq
		l.answered = f
	}
	c.dropForks(l)
}

// dropForks ends the early dialogs of a leg, all but the one that was answered; the agent hangs up whoever answers in
// another later.
func (c *Call) dropForks(l *Leg) {
	for _, f := range l.forks {
		if f != l.answered {
			c.b.Agent.Detach(f.dialog.ID())
			c.b.unindex(f.dialog.ID())
		}
	}
	l.forks = nil
}

// answerOf is the phone's answer to the offer in our INVITE: that of its 2xx, unless one came reliably before, or the 2xx
// has none.
func (l *Leg) answerOf(r *sip.Response) (media.Description, error) {
	if f := l.answered; f != nil && f.answer != nil && (f.settled || len(r.Body().Data) == 0) {
		return *f.answer, nil
	}
	return media.ParseSDP(r.Body().Data)
}

// progress gives the caller a provisional answer without sound. One that must arrive brings our offer if the INVITE had
// none: the first message that is sent reliably has to (RFC 3261 §13.2.1).
func (c *Call) progress(l *Leg, code int) {
	rep := sip.Reply{Code: code, Headers: identityHeaders(c.identity(c.other(l.seat), l.dialog.Flow))}
	if l.exchange.Requires("100rel") {
		if l.told == code { // each would want a PRACK of its own
			return
		}
		if len(l.remote.Lines) == 0 && len(l.local.Lines) == 0 {
			l.local = l.newOffer(media.Known(), media.SendRecv)
			l.owes, l.offered, rep.Body = true, true, sdpBody(l.local)
		}
	}
	l.told = code
	_ = l.exchange.Respond(rep)
}

// onPrack takes the acknowledgement of a provisional answer: with the answer to our offer, a new offer, or nothing
// (RFC 3262 §5).
func (c *Call) onPrack(l *Leg, x *sip.Exchange) {
	switch {
	case l.owes && l.offered:
		_ = x.Respond(sip.Reply{Code: 200})
		l.owes = false
		if err := c.answerInACK(l, x.Body()); err != nil {
			c.broken(l, err)
		}
	case len(x.Body().Data) > 0:
		c.onUpdate(l, x)
	default:
		_ = x.Respond(sip.Reply{Code: 200})
	}
}

// later refuses what cannot be served before something that is under way has ended (RFC 3261 §14.2, RFC 3311 §5.2).
func later() sip.Reply {
	return sip.Reply{Code: 500, Headers: []sip.Header{sip.RetryAfter(0, 10)}}
}

// earlyAnswer is the answer that a provisional answer brings, or has brought before in its dialog.
func (l *Leg) earlyAnswer(r *sip.Response) (media.Description, error) {
	if f := l.forkOf(r.ToTag()); f != nil && f.answer != nil {
		return *f.answer, nil
	}
	return media.ParseSDP(r.Body().Data)
}
