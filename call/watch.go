package call

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// lookEvery is how often a call looks at its legs, at least.
const lookEvery = 5 * time.Second

// look is how often it looks: often enough for what is set.
func (b *B2BUA) look() time.Duration {
	return max(min(lookEvery, b.Config.Vanished/3, b.Config.HoldPing/3), 10*time.Millisecond)
}

// askPatience bounds the wait for a phone's answer to "are you there".
const askPatience = 10 * time.Second

// watchLegs looks after phones that vanish (docs/protocol.md): one that is silent, RTP and RTCP, is asked by OPTIONS, one on
// hold every minute. A muted, held or silent phone that answers is there.
func (c *Call) watchLegs() {
	c.after(c.b.look(), func() {
		if c.state != StateUp {
			return
		}
		for _, s := range c.seats {
			for _, l := range s.watched() {
				if l.state == legUp && c.due(l) {
					c.check(l)
				}
				c.keepSession(l)
			}
			if a := s.away; a != nil && a.leg.state == legLost {
				c.seek(a.leg)
			}
		}
		c.touch()
		c.watchLegs()
	})
}

// watched are the legs of a seat whose phones are looked after.
func (s *Seat) watched() []*Leg {
	legs := slices.Clone(s.companions)
	if s.holder != nil {
		legs = append(legs, s.holder)
	}
	return legs
}

// pagePatience is how long a browser without a connection is waited for, at least: its page is being loaded anew, or its network has failed.
const pagePatience = 15 * time.Second

// due says that the leg's phone should be asked whether it is there.
func (c *Call) due(l *Leg) bool {
	patience := c.b.Config.Vanished
	if l.held {
		patience = c.b.Config.HoldPing
	}
	if l.dialog.Flow.Transport == "wss" && !c.b.Agent.Alive(l.dialog.Flow) {
		patience = max(patience, pagePatience)
	}
	return !l.asking && !l.offers && time.Since(l.spoke()) > patience
}

// spoke is the last sign of life of the leg's phone.
func (l *Leg) spoke() time.Time {
	last := l.answer
	for _, t := range []time.Time{l.stream.LastHeard(), l.asked} {
		if t.After(last) {
			last = t
		}
	}
	return last
}

// check asks the phone; one that is somewhere else by now gets a re-INVITE there, so that both sides agree on the path
// again.
func (c *Call) check(l *Leg) { c.checkWithin(l, askPatience) }

func (c *Call) checkWithin(l *Leg, patience time.Duration) {
	if c.repoint(l) || l.deaf() {
		c.reinvite(l, l.local)
		return
	}
	began, flow := time.Now(), l.dialog.Flow
	c.askWithin(l, patience, func(err error) {
		switch {
		case err == nil || !l.alive() || l.spoke().After(began): // it may have spoken from another port of its NAT meanwhile
		case unanswered(err) && l.dialog.Flow != flow: // it was asked where it is no more
		case unanswered(err) && c.elsewhere(l), unknown(err): // some phones say 481 to all but INVITE: that tells
			c.reinvite(l, l.local)
		default:
			c.lost(l, err)
		}
	})
}

// unanswered says that a request met silence: over UDP nothing else tells that a NAT has given the phone another port.
func unanswered(err error) bool {
	var status *sip.StatusError
	return err != nil && !errors.As(err, &status)
}

// ask sends OPTIONS in the leg's dialog; any answer but 408 and 481 proves that its signalling is alive.
func (c *Call) ask(l *Leg, then func(error)) { c.askWithin(l, askPatience, then) }

func (c *Call) askWithin(l *Leg, patience time.Duration, then func(error)) {
	l.asking, l.askedAt = true, time.Now()
	c.request(l, l.dialog.NewRequest("OPTIONS", sip.Body{}), patience, func(err error) {
		l.asking = false
		if err = deadly(err); err == nil {
			l.asked = time.Now()
			l.traits.options = "yes"
		}
		then(err)
	})
}

// deaf says that the leg's phone is known to leave OPTIONS in its dialogs unanswered, while it talks. That it does so tells nothing then.
func (l *Leg) deaf() bool {
	known := l.traits.options
	if known == "" {
		known = l.device.Profile[registrar.LearntOptions]
	}
	return known == "no"
}

// acquaint asks a phone that was taken for lost, because it did not answer, and has gone on talking on the same way as if nothing had been,
// whether it answers at all.
func (c *Call) acquaint(l *Leg) {
	switch {
	case c.state != StateUp || l.state != legUp || l.deaf():
		return
	case l.asking || l.offers: // of while it was lost
		c.after(time.Second, func() { c.withLeg(l, (*Call).acquaint) })
		return
	}
	began := time.Now()
	c.askWithin(l, probePatience, func(err error) {
		if unanswered(err) && l.alive() && l.stream.LastHeard().Sub(began) > probePatience/2 {
			l.traits.options = "no"
			c.log.Info("phone does not answer OPTIONS in a call: its pauses are no loss from now on", "leg", l.id, "device", l.device.Name)
		}
	})
}

// deadly keeps only the errors that mean that the phone or its dialog is gone (RFC 5057).
func deadly(err error) error {
	var status *sip.StatusError
	if errors.As(err, &status) && status.Code != 408 && status.Code != 481 {
		return nil
	}
	return err
}

// reinvite offers an SDP to the leg's phone, which may be its present one. While another re-INVITE is under way, ours or
// theirs, it waits for the end of that; glare is waited out as RFC 3261 §14.1 says.
func (c *Call) reinvite(l *Leg, offer media.Description) {
	switch {
	case l.state != legUp && l.state != legLost:
		return
	case l.negotiates():
		if l.later == nil || !sameCodecs(offer, l.local) { // a change is not forgotten for a refresh
			l.later = &offer
		}
		return
	}
	l.later = nil
	offer, began := l.renewed(offer), time.Now()
	c.propose(c.ctx, l, offer, func(err error) { c.reinvited(l, offer, began, err) })
}

// negotiates says that another change of the session is under way with the leg's phone.
func (l *Leg) negotiates() bool {
	return l.offers || l.owes || l.theirs != nil || l.accepted && !l.acked
}

// errPending says that an offer cannot be made now, because another exchange with the phone is under way.
var errPending = errors.New("another change of the session is under way")

// errAnswer says that the answer to an offer of ours cannot be used.
var errAnswer = errors.New("its answer cannot be used")

// propose offers an SDP to the leg's phone by a re-INVITE and tells what became of it. What the phone has taken is settled then, also
// when ctx has ended meanwhile.
func (c *Call) propose(ctx context.Context, l *Leg, offer media.Description, then func(error)) {
	switch {
	case l.state != legUp && l.state != legLost || l.negotiates():
		then(errPending)
		return
	case !speakable(offer, l.dialog.Flow):
		then(errPlain)
		return
	}
	l.offers = true
	l.open++
	l.stream.Expect(codecsOf(offer))
	out := l.dialog.NewRequest("INVITE", sdpBody(offer), c.askSession(l)...)
	l.offer = &out
	before, done := l.sent, make(chan struct{})
	l.sent = done
	c.exchange(func() func() {
		waitFor(before)
		resp, err := c.b.Agent.Invite(ctx, out, func(*sip.Response) {})
		close(done)
		return func() {
			l.offers = false
			l.open--
			l.offer = nil
			if err == nil {
				err = c.proposed(l, out, offer, resp)
			}
			then(err)
			c.offerLater(l)
		}
	})
}

// proposed takes the 2xx to our re-INVITE.
func (c *Call) proposed(l *Leg, invite sip.Outgoing, offer media.Description, resp *sip.Response) error {
	l.dialog.Refresh(resp)
	l.tookSession(resp)
	_ = c.b.Agent.Ack(l.dialog, invite, sip.Body{})
	l.asked = time.Now()
	if !l.known() {
		return nil
	}
	answer, err := media.ParseSDP(resp.Body().Data)
	if err == nil {
		err = l.settle(offer, answer)
	}
	if err != nil {
		c.log.Warn("answer to our re-INVITE cannot be used", "leg", l.id, "device", l.device.Name, "err", err)
		return fmt.Errorf("%w: %w", errAnswer, err)
	}
	return nil
}

// offerLater offers what had to wait.
func (c *Call) offerLater(l *Leg) {
	if l.later != nil {
		c.reinvite(l, *l.later)
	}
}

// renewed is an offer as it has to be now: the phone may have changed the session since it was made.
func (l *Leg) renewed(offer media.Description) media.Description {
	switch {
	case sameCodecs(offer, l.local):
		return l.local
	case offer.Origin.Version == l.origin.Version:
		return offer
	}
	if fresh, err := l.local.Reoffer(codecsOf(offer)); err == nil { // what was agreed since stands, ICE credentials above all
		offer = fresh
	}
	return l.versioned(offer)
}

func (c *Call) reinvited(l *Leg, offer media.Description, began time.Time, err error) {
	switch {
	case l.state == legLost:
		c.sought(l, err, "re-INVITE")
	case err == nil, errors.Is(err, errAnswer):
		c.wire()
	case errors.Is(err, errPlain) && sameCodecs(offer, l.local): // its audio goes on as it is
	case l.tooShort(err): // the next look asks again, for longer
	case isGlare(err) && l.state == legUp:
		l.open++
		c.after(c.glareDelay(l), func() {
			l.open--
			c.reinvite(l, offer)
		})
	case unanswered(err) && sameCodecs(offer, l.local) && (l.spoke().After(began) || errors.Is(err, sip.ErrFlowGone)):
		// it talks, or is on its way to another network: a phone that is gone is found out by the look at the legs
	case l.alive() && deadly(err) != nil:
		c.lost(l, err)
	case l.alive() && !sameCodecs(offer, l.local):
		c.broken(l, err)
	}
}

// isGlare says that a request has crossed one of the phone's (RFC 3261 §14.1).
func isGlare(err error) bool {
	var status *sip.StatusError
	return errors.As(err, &status) && status.Code == 491
}

// sameCodecs says that an offer asked for nothing new, so that its refusal changes nothing.
func sameCodecs(a, b media.Description) bool {
	x, _, _ := a.Audio()
	y, _, _ := b.Audio()
	return slices.Equal(x.Codecs, y.Codecs)
}

// glareDelay is how long to wait after a 491: 2.1–4 s for the owner of the Call-ID, 0–2 s for the other side.
func (c *Call) glareDelay(l *Leg) time.Duration {
	if !l.incoming {
		return 2100*time.Millisecond + time.Duration(rand.N(190))*10*time.Millisecond
	}
	return time.Duration(rand.N(200)) * 10 * time.Millisecond
}
