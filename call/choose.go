package call

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"baton/media"
	"baton/sip"
)

// The one rule for which call is meant when nobody has named it (docs/moves.md). Better ones come first.
type standing uint8

const (
	talking     standing = iota // the newest of them
	onHold                      // the one that was put on hold last
	ringsForHim                 // the one that has been ringing longest
	leftTalking                 // left behind by a device that is gone
	leftOnHold
	notAnswered // the other side still rings, or hears why nobody takes the call
)

// candidate is a call of a user that may be meant.
type candidate struct {
	call     *Call
	seat     int   // position of his seat, where the call is up
	ring     *dial // what rings for him, where it is not
	with     string
	standing standing
	since    time.Time // of the hold or the ringing
}

// sign is the last sign of life of the device that holds a seat, and where more can be learnt without asking the agent.
type sign struct {
	flow   sip.Flow
	stream *media.Stream
	spoke  time.Time // to its call, in signalling
	asked  time.Time // by OPTIONS, last; zero = never
	led    time.Time // to where the device has registered since, without a word from there; zero = never
	heldAt time.Time
}

// noSign is that of a seat without a device.
var noSign sign

// sign is the leg's newest, the same as long as it has not changed.
func (l *Leg) sign() *sign {
	now := sign{flow: l.dialog.Flow, stream: l.stream, spoke: l.answer, asked: l.askedAt, led: l.led, heldAt: l.heldAt}
	if l.asked.After(now.spoke) {
		now.spoke = l.asked
	}
	l.signed = unlessChanged(l.signed, now)
	return l.signed
}

// left says that a device has left its call behind: its flow is gone, or it has registered anew from elsewhere since it was
// last heard, or it is silent and does not answer. Audio that still comes proves the contrary.
func (b *B2BUA) left(user, device string, s *sign) bool {
	heard := s.stream.LastHeard()
	if time.Since(heard) < unheard {
		return false
	}
	if s.spoke.After(heard) {
		heard = s.spoke
	}
	return !b.Agent.Alive(s.flow) || !s.led.IsZero() && !heard.After(s.led) || b.rebound(user, device, s.flow, heard) ||
		!s.asked.IsZero() && time.Since(s.asked) > unheard && !heard.After(s.asked)
}

// choose finds the call of a user that is meant: the n-th as "baton calls" lists them, or by the rule. With a device it is
// one that this device holds.
func (b *B2BUA) choose(user, device string, n int) (candidate, error) {
	var all []candidate
	for _, c := range b.callsOf(user) {
		if k, ok := c.candidate(user, device); ok {
			all = append(all, k)
		}
	}
	var chosen candidate
	switch {
	case n > len(all) && len(all) > 0:
		return chosen, refusal(404, fmt.Sprintf("%s has %d calls, there is no number %d", user, len(all), n))
	case len(all) == 0:
		return chosen, fmt.Errorf("%w: %s is in no call", ErrNoCall, user)
	case n > 0:
		chosen = all[n-1]
	default:
		slices.Reverse(all) // the newest first
		chosen = slices.MinFunc(all, better)
	}
	if chosen.standing == notAnswered {
		return chosen, notYet(chosen.with)
	}
	return chosen, nil
}

// callAt is the call that a user's device is in, nil = none.
func (b *B2BUA) callAt(user, device string) *Call {
	k, err := b.choose(user, device, 0)
	if err != nil {
		return nil
	}
	return k.call
}

// notYet refuses to move a call that the other side has not answered.
func notYet(with string) error {
	return refusal(480, "the call with "+with+" is not answered yet: it can be moved when it is")
}

// better puts the call that is rather meant first; between two that are equal the order decides.
func better(a, b candidate) int {
	switch {
	case a.standing != b.standing:
		return cmp.Compare(a.standing, b.standing)
	case a.standing == ringsForHim:
		return a.since.Compare(b.since)
	}
	return b.since.Compare(a.since)
}

// candidate is what a user can do with the call, if he is in it: by what the call has published, for nobody waits here.
func (c *Call) candidate(user, device string) (candidate, bool) {
	s := c.public.Load()
	if s.state == StateUp {
		for i, t := range s.seats {
			if t.user == user && (device == "" || t.device == device) {
				return c.upFor(s, i), true
			}
		}
	}
	for _, r := range s.rings {
		if r.user == user && device == "" {
			return candidate{call: c, ring: r.dial, with: r.from, standing: ringsForHim, since: r.since}, true
		}
	}
	if device != "" || s.state != StateSetup {
		return candidate{}, false
	}
	return candidate{call: c, with: s.otherThan(user), standing: notAnswered}, true
}

// upFor is the candidate that a seat of a call that is up makes.
func (c *Call) upFor(s *summary, seat int) candidate {
	k, t := candidate{call: c, seat: seat, standing: talking}, s.seats[seat]
	if t.held {
		k.standing, k.since = onHold, t.sign.heldAt
	}
	if t.device == "" || c.b.left(t.user, t.device, t.sign) {
		k.standing += leftTalking - talking
	}
	return k
}

// callsOf are the calls that are shown, of one user or ("") of all, oldest first; those that are ending come last, so that
// the others can be counted.
func (b *B2BUA) callsOf(user string) []*Call {
	var live, ending []*Call
	for _, c := range b.with(user) {
		s := c.public.Load()
		switch {
		case s == nil || s.quiet || user != "" && !s.has(user): // he may have no more in it than a leg that closes
		case s.state == StateSetup || s.state == StateUp:
			live = append(live, c)
		default:
			ending = append(ending, c)
		}
	}
	return append(live, ending...)
}

// with are the calls that a user is or was in, or ("") all, oldest first.
func (b *B2BUA) with(user string) []*Call {
	if user != "" {
		return b.roster.calls(user)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.list()
}
