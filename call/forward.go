package call

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"baton/journal"
	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// reason is why a call goes on to somebody else, or ends: RFC 5806's word for it, RFC 4458's cause and ours.
type reason struct {
	diversion string
	cause     int
	words     string // behind a user's name
}

var (
	unconditional = reason{"unconditional", 302, "has all calls forwarded"}
	undisturbed   = reason{"do-not-disturb", 486, "does not want to be disturbed"}
	userBusy      = reason{"user-busy", 486, "is busy"}
	noAnswer      = reason{"no-answer", 408, "does not answer"}
	unavailable   = reason{"unavailable", 404, "has no device here"}
)

// place is where settings say that a call goes for this reason, "" = nowhere.
func (r reason) place(f registrar.Forwarding) string {
	switch r {
	case unconditional:
		return f.Always
	case undisturbed, userBusy:
		return f.Busy
	case noAnswer:
		return f.NoAnswer
	case unavailable:
		return f.Away
	}
	return ""
}

// hop is a user who has forwarded a call, and why.
type hop struct {
	seat *Seat
	why  reason
}

// maxHops ends a chain of forwardings.
const maxHops = 5

// divert says what becomes of a call to t before anything rings there: it goes on to next, or ends for a reason without
// one, or (no reason) rings. passed are the users whom it must not come back to.
func (b *B2BUA) divert(t Target, passed []string) (why reason, next *Target) {
	s := b.settings(t.User.Name)
	for _, d := range []struct {
		why   reason
		holds bool
	}{
		{unconditional, s.Forward.Always != ""},
		{undisturbed, s.DoNotDisturb},
		{userBusy, s.BusyOnBusy && b.talking(t.User.Name)},
		{unavailable, s.Forward.Away != "" && len(b.Registrar.Lookup(t.User.Name)) == 0},
	} {
		if !d.holds {
			continue
		}
		next := b.next(t.User.Name, d.why.place(s.Forward), passed)
		if next != nil || d.why.cause == 486 {
			return d.why, next
		}
	}
	return reason{}, nil
}

// settings are those that a user has chosen, as they are now.
func (b *B2BUA) settings(user string) registrar.Settings {
	u, _ := b.Registrar.User(user)
	return u.Settings
}

// next is the target that a user's calls are forwarded to; nil where that is not followed: nowhere, somebody who is gone,
// or one that the call has passed already.
func (b *B2BUA) next(user, place string, passed []string) *Target {
	if place == "" {
		return nil
	}
	t, err := b.routePlace(place)
	switch {
	case err != nil:
	case slices.Contains(passed, t.User.Name):
		err = fmt.Errorf("it would come back to %s", t.User.Name)
	case len(passed) > maxHops+1: // the caller and the first called are among them
		err = fmt.Errorf("it was forwarded %d times", maxHops)
	default:
		return &t
	}
	b.Log.Warn("call is not forwarded", "user", user, "to", place, "err", err)
	return nil
}

// routePlace reads where calls are forwarded to: a user, or one device of his as in 101*2.
func (b *B2BUA) routePlace(place string) (Target, error) {
	if name, ref, one := strings.Cut(place, "*"); one {
		return b.routeDevice(name, ref)
	}
	user, ok := b.Registrar.User(place)
	if !ok {
		return Target{}, refusal(404, "there is no user "+strconv.Quote(place))
	}
	return Target{User: user}, nil
}

// talking says that a user is in a call with a device, or on the way into one that he has dialled.
func (b *B2BUA) talking(user string) bool {
	for _, c := range b.roster.calls(user) {
		s := c.public.Load()
		if s == nil || s.quiet || (s.state != StateSetup && s.state != StateUp) {
			continue
		}
		if slices.ContainsFunc(s.seats, func(t seatSummary) bool { return t.user == user && t.device != "" }) {
			return true
		}
	}
	return false
}

// reach rings the target for the caller's leg, or goes on to where its user has the call forwarded.
func (c *Call) reach(l *Leg, t Target) {
	if !c.awaited(l) {
		return
	}
	if t.User.Name == l.seat.user.Name { // one's own device N: nobody keeps himself out
		c.ring(l, t)
		return
	}
	why, next := c.b.divert(t, c.passed())
	switch {
	case next != nil:
		c.forward(l, t, *next, why)
	case why != reason{}:
		c.turnAway(l, 486, t.User.Name+" "+why.words, why)
	default:
		c.ring(l, t)
	}
}

// passed are the users whom the call must not be forwarded to: its caller and all whom it was for.
func (c *Call) passed() []string {
	names := []string{c.seats[0].user.Name}
	for _, h := range c.hops {
		names = append(names, h.seat.user.Name)
	}
	return append(names, c.seats[1].user.Name)
}

// forward gives the called seat to the next user and tells the caller that the call goes on (RFC 3261 §21.1.3).
func (c *Call) forward(l *Leg, t, next Target, why reason) {
	c.note(journal.CallForwarded, journal.Entry{From: t.User.Name, Peer: next.User.Name, Text: t.User.Name + " " + why.words})
	c.hops = append(c.hops, hop{c.seats[1], why})
	c.seats[1], c.dial = newSeat(next.User), nil
	if c.early != nil { // the sound of a device that rings no more
		c.early = nil
		l.feed(nil)
		l.hear(source{tone: media.ToneRing})
	}
	c.progress(l, 181)
	c.reach(l, next)
}

// notTaken goes on when the target's devices have rung, or could not: by the user's forwarding or to the caller.
func (c *Call) notTaken(l *Leg, t Target, d *dial, code int, words string) {
	why := d.outcome(code)
	if t.User.Name != l.seat.user.Name {
		if next := c.b.next(t.User.Name, why.place(c.b.settings(t.User.Name).Forward), c.passed()); next != nil {
			c.forward(l, t, *next, why)
			return
		}
	}
	c.turnAway(l, code, words, why)
}

// outcome is the reason in a dial's failure, none for what no forwarding is for.
func (d *dial) outcome(code int) reason {
	rang := slices.ContainsFunc(d.legs, func(l *Leg) bool { return !l.rangAt.IsZero() })
	switch {
	case code == 486 || code == 600 || code == 603:
		return userBusy
	case code != 480 && code != 408:
		return reason{}
	case rang:
		return noAnswer
	}
	return unavailable
}

// transferTo follows the forwardings of a transfer's target that hold before it rings.
func (c *Call) transferTo(t Target, by *Seat) (Target, []hop, error) {
	passed := []string{by.user.Name, t.User.Name}
	if far := c.other(by); far != nil {
		passed = append(passed, far.user.Name)
	}
	var hops []hop
	for {
		why, next := c.b.divert(t, passed)
		switch {
		case next != nil:
			hops = append(hops, hop{newSeat(t.User), why})
			t, passed = *next, append(passed, next.User.Name)
		case why != reason{}:
			return t, nil, refusal(486, t.User.Name+" "+why.words)
		default:
			return t, hops, nil
		}
	}
}

// diverted tells a device who has forwarded the call, the last first (RFC 5806), and which way it came (RFC 7044).
func (c *Call) diverted(hops []hop, to *Seat, flow sip.Flow) []sip.Header {
	if len(hops) == 0 {
		return nil
	}
	var headers []sip.Header
	for _, h := range slices.Backward(hops) {
		headers = append(headers, sip.Header{Name: "Diversion", Value: c.identity(h.seat, flow).String() + ";reason=" + h.why.diversion + ";counter=1"})
	}
	index, cause, parent := "1", 0, ""
	for i := range len(hops) + 1 {
		seat, why := to, reason{}
		if i < len(hops) {
			seat, why = hops[i].seat, hops[i].why
		}
		at := sip.NameAddr{URI: c.identity(seat, flow).URI, Params: sip.Params{{Name: "index", Value: index}}}
		if cause != 0 {
			at.URI.Params = sip.Params{{Name: "cause", Value: strconv.Itoa(cause)}}
			at.Params = append(at.Params, sip.Param{Name: "mp", Value: parent})
		}
		headers = append(headers, sip.Header{Name: "History-Info", Value: at.String()})
		cause, parent, index = why.cause, index, index+".1"
	}
	return headers
}
