package call

import (
	"errors"
	"slices"

	"baton/journal"
	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// Calling on: who dials somebody whom he has a call with that one of them has dropped out of means that call (docs/moves.md). His device
// takes his seat in it, whoever of them is missing there, and the devices of the other ring for his seat if that is empty.

// callAgain is how such a seat is taken.
const callAgain = "call"

// errLeftBehind is why a device is lost whose call somebody else has found to be without it.
var errLeftBehind = errors.New("it has left the call behind")

// torn is a call between two users with an empty seat, or one that a device has left behind.
type torn struct {
	call        *Call
	mine, other int // positions of their seats
}

// callOn has the caller go on with such a call, else takes what rings, else begins a call.
func (b *B2BUA) callOn(x *sip.Exchange, caller registrar.User, offer *media.Description, t Target) error {
	k, ok := b.torn(caller.Name, t.User.Name)
	if !ok {
		return b.pickUpOrCall(x, caller, offer, t)
	}
	asked := k.call.do(func() {
		err := k.call.calledOn(x, offer, k)
		if err != nil {
			_ = x.Respond(b.reply(err))
		}
	})
	if !asked {
		return b.pickUpOrCall(x, caller, offer, t)
	}
	return nil
}

// torn finds the newest such call of two users.
func (b *B2BUA) torn(caller, other string) (torn, bool) {
	for _, c := range slices.Backward(b.callsOf(caller)) {
		s := c.public.Load()
		if s.state != StateUp || len(s.seats) != 2 {
			continue
		}
		for i, t := range s.seats {
			if o := s.seats[1-i]; t.user == caller && o.user == other && (c.b.emptied(t) || c.b.emptied(o)) {
				return torn{c, i, 1 - i}, true
			}
		}
	}
	return torn{}, false
}

// emptied says that nobody is at a seat, or that its device has left it behind.
func (b *B2BUA) emptied(t seatSummary) bool {
	return t.device == "" && t.away || t.device != "" && b.left(t.user, t.device, t.sign)
}

// calledOn gives the caller's seat to the device that dials, and rings the other's devices.
func (c *Call) calledOn(x *sip.Exchange, offer *media.Description, k torn) error {
	if len(c.seats) != 2 || c.seats[k.mine].user.Name != x.User() || c.seats[k.mine].lastLeg() == nil {
		return refusal(404, "the call has just been transferred")
	}
	mine, other := c.seats[k.mine], c.seats[k.other]
	if l := mine.companion(c.b.device(x, mine.user.Name).Key); l != nil {
		return c.companionDials(x, offer, l, callAgain)
	}
	if l := other.holder; l != nil && l.state == legUp && c.b.left(other.user.Name, l.device.Key, l.sign()) {
		c.lost(l, errLeftBehind)
	}
	if err := c.takeSeat(x, offer, mine.lastLeg(), callAgain); err != nil {
		return err
	}
	if other.away != nil && c.moveOf(other) == nil {
		if err := c.summon(other, callAgain, mine.user.Name, "", nil); err != nil {
			c.note(journal.CallMoveFailed, journal.Entry{User: other.user.Name, Peer: other.user.Name, Text: err.Error()})
		}
	}
	return nil
}
