package call

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"baton/media"
	"baton/sip"
)

// Which codecs a leg is offered, whether two legs can play each other, and what is done where they cannot (docs/moves.md).
//
// A new device is offered all that the far phone has ever said that it can play, the codec in use first. Where the two still have no
// codec in use in common, the move is listening until the device was heard, and then aligning:
//
//	listening ──heard──▶ aligning ──2xx of the far phone──▶ switched
//	                        └─ 488, no answer, hang-up ───▶ failed: the old leg has gone on all the time
//
// What each phone sends that the other has not agreed to is dropped and counted at its stream.

var errCodec = errors.New("no codec in common")

// alignPatience bounds how long the far phone may take to agree to another codec, glare and all.
const alignPatience = 10 * time.Second

// pendingPause is how long an alignment waits for another exchange with the same phone.
const pendingPause = 200 * time.Millisecond

// alignment is what a move does to bring two legs to one codec.
type alignment struct {
	began   time.Time
	took    time.Duration
	overdue *time.Timer        // when the phone that is asked must have agreed
	last    error              // why it has not yet
	leg     *Leg               // whose phone is asked
	rounds  int                // offers made
	cancel  context.CancelFunc // takes back the offer that is under way
}

// maxRounds bounds the offers of one alignment: to the new device, to the far phone, and once more if that answers in an order of its own.
const maxRounds = 3

// inUse is the codec that the leg's phone sends, or sends first of those agreed.
func inUse(l *Leg) (media.Codec, bool) {
	if codec, ok := l.stream.InUse(); ok && !l.changed {
		return codec, true
	}
	return first(l.agreed.Send)
}

// first is the codec that a phone sends that has answered with these.
func first(codecs []media.Codec) (media.Codec, bool) {
	sound := media.Sound(codecs)
	if len(sound) == 0 {
		return media.Codec{}, false
	}
	return sound[0], true
}

// playable are the codecs in which a phone that takes these can be sent something: converted, or a key by INFO.
func (l *Leg) playable(codecs []media.Codec) []media.Codec {
	all := media.WithG711(codecs)
	if l.can.Info {
		all = media.WithKeys(all)
	}
	return all
}

// offered lists the codecs to offer to a new device: the one in use first, then what was agreed with far, then what far knows beyond it.
func offered(far *Leg) []media.Codec {
	codecs := media.Merge(far.agreed.Send, far.knows)
	if used, ok := inUse(far); ok {
		slices.SortStableFunc(codecs, func(a, b media.Codec) int {
			switch {
			case a.Is(used) == b.Is(used):
				return 0
			case a.Is(used):
				return -1
			}
			return 1
		})
	}
	return far.playable(codecs)
}

// understands checks that a leg can play what far sends.
func understands(l, far *Leg) error {
	used, ok := inUse(far)
	if ok && !media.Carries(l.agreed.Send, used) {
		return fmt.Errorf("%w: the call uses %s", errCodec, used.Name)
	}
	return nil
}

// fits says whether two legs can play each other as they have agreed.
func fits(a, b *Leg) bool { return understands(a, b) == nil && understands(b, a) == nil }

// shared are the codecs of speech that far knows and a new leg has agreed to, the one that the leg sends first.
func shared(l, far *Leg) []media.Codec {
	var both []media.Codec
	order := l.agreed.Send
	if used, ok := inUse(l); ok {
		order = media.Merge([]media.Codec{used}, order)
	}
	for _, k := range media.Sound(order) {
		for _, known := range media.Sound(far.knows) {
			if media.Carries([]media.Codec{known}, k) && !slices.ContainsFunc(both, known.Is) {
				both = append(both, known)
			}
		}
	}
	return both
}

// mayFit checks that a new leg has a codec that the far phone has too, in use or not.
func mayFit(l, far *Leg) error {
	if len(shared(l, far)) > 0 {
		return nil
	}
	return noneShared(l, far)
}

// noneShared says for people which codecs two phones have that cannot be joined.
func noneShared(l, far *Leg) error {
	return fmt.Errorf("%w: %s has %s, %s of %s has %s", errCodec, l.device.Name, media.Names(codecsOf(l.remote)),
		far.device.Name, far.seat.user.Name, media.Names(far.knows))
}

// refusedCodecs says more of a device's 488: what it was offered.
func (m *move) refusedCodecs(why string, code int) string {
	far := m.farSide()
	if code != 488 || far == nil {
		return why
	}
	return fmt.Sprintf("%s: %s has none of the codecs of %s of %s, which are %s", why, m.device, far.device.Name, far.seat.user.Name, media.Names(far.knows))
}

// answerFor answers a new device so that it sends what far takes: with what has been agreed with far if that holds the codec in use, else
// with all that far knows.
func (c *Call) answerFor(l *Leg, offer *media.Description, far *Leg) error {
	for _, codecs := range [][]media.Codec{offeredNow(far), offered(far)} {
		local, err := l.newAnswer(*offer, codecs, media.SendRecv)
		if err == nil {
			err = l.settle(local, *offer)
		}
		if err == nil && understands(l, far) == nil {
			return nil
		}
	}
	return mayFit(l, far)
}

// offeredNow is offered without what has yet to be agreed with far.
func offeredNow(far *Leg) []media.Codec {
	now := far.playable(far.agreed.Send)
	return slices.DeleteFunc(offered(far), func(k media.Codec) bool { return !slices.ContainsFunc(now, k.Is) })
}

// ready is what a move does whose new leg has been heard, or is known to be muted: it switches as soon as both sides speak one codec.
func (c *Call) ready(m *move) {
	far := m.farSide()
	if m.apart = m.unlike(far); !m.apart {
		c.switchOver(m)
		return
	}
	if m.state != moveAligning {
		m.set(moveAligning)
		c.wire()
	}
	if m.align.began.IsZero() {
		m.align.began, m.align.last = time.Now(), sip.ErrTimeout
		m.align.overdue = c.after(min(alignPatience, c.b.Config.Ring), func() {
			if m.state == moveAligning {
				c.failMove(m, alignFailure(m.align.leg, m.align.last), failureOf(m.align.last).code)
			}
		})
	}
	c.align(m, far)
}

// align offers the phone that has to change what both can play. Where the new device has the codec in use and only prefers another,
// it is the new device; else it is the far one.
func (c *Call) align(m *move, far *Leg) {
	if m.align.rounds++; m.align.rounds > maxRounds {
		c.failMove(m, noneShared(m.to, far).Error(), 488)
		return
	}
	l, codecs := far, alignedFar(m.to, far)
	if understands(m.to, far) == nil {
		l, codecs = m.to, offeredNarrow(m.to, far)
	}
	offer, err := l.local.Reoffer(codecs)
	if err != nil || len(shared(m.to, far)) == 0 {
		c.failMove(m, noneShared(m.to, far).Error(), 488)
		return
	}
	c.commitOffer(m, l, offer)
}

// commitOffer makes an offer of an alignment when the record knows of it.
func (c *Call) commitOffer(m *move, l *Leg, offer media.Description) {
	offer, m.align.leg = l.versioned(offer), l
	c.commit(func() {
		if m.state == moveAligning {
			c.offerAligned(m, l, offer)
		}
	})
}

// alignedFar is what the far phone is offered: what it shares with the new leg, then the codec in use, then keys.
func alignedFar(l, far *Leg) []media.Codec {
	codecs := shared(l, far)
	if used, ok := inUse(far); ok {
		codecs = media.Merge(codecs, []media.Codec{used})
	}
	return media.Merge(codecs, eventsOf(media.Merge(codecsOf(far.local), far.knows)))
}

// eventsOf are the telephone-events among codecs.
func eventsOf(codecs []media.Codec) []media.Codec {
	return slices.DeleteFunc(slices.Clone(codecs), func(k media.Codec) bool { return !strings.EqualFold(k.Name, "telephone-event") })
}

// offeredNarrow is what a new leg is offered that would send what far has not agreed to: the rest of what it has, the codec in use first.
func offeredNarrow(l, far *Leg) []media.Codec {
	return slices.DeleteFunc(offeredNow(far), func(k media.Codec) bool { return !slices.ContainsFunc(codecsOf(l.local), k.Is) })
}

// offerAligned makes the offer of an alignment.
func (c *Call) offerAligned(m *move, l *Leg, offer media.Description) {
	ctx, cancel := context.WithCancel(c.ctx)
	m.align.cancel = cancel
	wanted := func(err error) bool {
		if isGlare(err) {
			m.align.last = err
		}
		return m.state == moveAligning
	}
	c.insist(ctx, l, offer, wanted, func(err error) {
		cancel()
		if !wanted(err) {
			c.outlived(m, l, err)
			return
		}
		c.aligned(m, l, err)
	})
}

// insist makes an offer until the phone has taken or refused it, as long as it is wanted: glare, and whatever else is under way with
// the phone, is waited out.
func (c *Call) insist(ctx context.Context, l *Leg, offer media.Description, wanted func(error) bool, then func(error)) {
	offer = l.renewed(offer)
	c.propose(ctx, l, offer, func(err error) {
		pause := time.Duration(0)
		switch {
		case !wanted(err):
			then(err)
			return
		case errors.Is(err, errPending) && l.state == legUp:
			pause = pendingPause
		case isGlare(err):
			pause = c.glareDelay(l)
		case !l.tooShort(err):
			then(err)
			return
		}
		again := c.after(pause, func() {
			if !wanted(err) {
				then(err)
				return
			}
			c.insist(ctx, l, offer, wanted, then)
		})
		if again == nil {
			then(err)
		}
	})
}

// aligned takes what became of the offer.
func (c *Call) aligned(m *move, l *Leg, err error) {
	c.wire()
	far := m.farSide()
	switch {
	case l != m.to && (l != far || !far.alive()): // another move has replaced the far leg meanwhile, or it has left
		c.ready(m)
	case err != nil:
		c.failMove(m, alignFailure(l, err), failureOf(err).code)
		c.outlived(m, l, err)
	case l == m.to: // until it is heard in the other codec
		c.listenFor(m)
	default:
		c.agreedFar(m, far)
	}
}

// agreedFar looks at the codecs that the far phone has agreed to. It sends the first of them, whatever it was heard to send until now.
func (c *Call) agreedFar(m *move, far *Leg) {
	sends, ok := first(far.agreed.Send)
	switch {
	case ok && media.Carries(m.to.agreed.Send, sends):
		m.apart = false
		c.switchOver(m)
		c.after(settled, func() { c.refit(far) })
	case slices.ContainsFunc(shared(m.to, far), func(k media.Codec) bool { return media.Carries(far.agreed.Send, k) }):
		c.alignStrictly(m, far)
	default:
		c.failMove(m, fmt.Sprintf("%v: %s of %s agreed to %s alone", noneShared(m.to, far), far.device.Name, far.seat.user.Name, media.Names(far.agreed.Send)), 488)
	}
}

// alignStrictly asks a far phone that answers in an order of its own once more, for the common codecs alone.
func (c *Call) alignStrictly(m *move, far *Leg) {
	offer, err := far.local.Reoffer(media.Merge(shared(m.to, far), eventsOf(codecsOf(far.local))))
	if m.align.rounds++; err != nil || m.align.rounds > maxRounds {
		c.failMove(m, noneShared(m.to, far).Error(), 488)
		c.refit(far)
		return
	}
	c.commitOffer(m, far, offer)
}

// alignFailure says for people why a phone did not take the other codec.
func alignFailure(l *Leg, err error) string {
	why := failureOf(err).why
	switch {
	case errors.Is(err, errAnswer), errors.Is(err, errPending), errors.Is(err, errPlain):
		why = err.Error()
	case unanswered(err):
		why = "no answer"
	}
	return strings.TrimSpace(fmt.Sprintf("%s of %s did not take the codec of the new device: %s", l.device.Name, l.seat.user.Name, why))
}

// stopAligning takes back an offer that is under way, as its move has ended.
func (c *Call) stopAligning(m *move) {
	c.stop(m.align.overdue)
	if m.align.cancel != nil {
		m.align.cancel()
	}
}

// outlived looks after a far phone whose offer was under way when the move failed. It may have taken it all the same; one that has not
// answered may do so later, and is looked at again.
func (c *Call) outlived(m *move, l *Leg, err error) {
	switch {
	case l == m.to || !l.alive():
	case err == nil:
		c.refit(l)
	case errors.Is(err, errAnswer): // it may mean anything by it
		c.goBack(l)
	case unanswered(err):
		c.after(alignPatience, func() { c.refit(l) })
	}
}

// refit has the phone of a holder send what the other side's holder can play: after a move that failed, or if it sends something else than
// it has agreed to.
func (c *Call) refit(l *Leg) {
	o := c.other(l.seat)
	if l.seat.holder != l || l.state != legUp || o == nil || o.holder == nil || o.holder.state != legUp || c.moveOf(o) != nil {
		return
	}
	if understands(o.holder, l) != nil {
		c.goBack(l)
	}
}

// goBack offers a phone what the other side's holder can play, and nothing else. One that refuses keeps the call: its user can still be heard
// to say what is wrong.
func (c *Call) goBack(l *Leg) {
	o := c.other(l.seat)
	if o == nil || o.holder == nil {
		return
	}
	offer, err := l.local.Reoffer(playableOf(codecsOf(l.local), o.holder))
	if err != nil {
		return
	}
	c.insist(c.ctx, l, l.versioned(offer), func(error) bool { return l.state == legUp }, func(err error) {
		if err != nil {
			c.log.Warn("phone did not go back to the codec of the call", "leg", l.id, "device", l.device.Name, "err", err)
		}
		c.wire()
	})
}

// playableOf are those of codecs that a leg's phone can play, converted or told by INFO.
func playableOf(codecs []media.Codec, l *Leg) []media.Codec {
	can := l.playable(l.agreed.Send)
	return slices.DeleteFunc(slices.Clone(codecs), func(k media.Codec) bool { return !media.Carries(can, k) })
}

// narrow has the leg's phone use only codecs that the other side can play: one re-INVITE, with the payload types it knows.
func (c *Call) narrow(l *Leg, to []media.Codec) error {
	codecs := slices.DeleteFunc(slices.Clone(codecsOf(l.local)), func(k media.Codec) bool { return !media.Carries(to, k) })
	offer, err := l.local.Reoffer(codecs)
	if err != nil {
		return fmt.Errorf("%w: %w", errCodec, err)
	}
	c.reinvite(l, l.versioned(offer))
	return nil
}
