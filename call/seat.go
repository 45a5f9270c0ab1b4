package call

import (
	"slices"

	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// Seat is a user's place in a call. It outlives devices: its holder can be replaced.
type Seat struct {
	user   registrar.User
	number string // as the others are shown it
	name   string
	holder *Leg     // nil: nobody yet, or left
	away   *absence // since its user has left or was lost, nil = he is there

	companions []*Leg   // of devices that only listen
	joining    *joining // the one that is about to

	keys keys // of its user, to be told to the other side
}

func newSeat(u registrar.User) *Seat {
	number := u.Name
	if len(u.Numbers) > 0 {
		number = u.Numbers[0]
	}
	return &Seat{user: u, number: number, name: u.Display}
}

// identity is the seat's user as shown to a device at the end of flow.
func (c *Call) identity(s *Seat, flow sip.Flow) sip.NameAddr { return c.b.identity(s, flow) }

func (b *B2BUA) identity(s *Seat, flow sip.Flow) sip.NameAddr {
	uri := b.Agent.ContactURI(flow, s.number)
	uri.Params = nil
	if b.Domain != "" {
		uri.Host, uri.Port = b.Domain, 0
	}
	return sip.NameAddr{Name: s.shown(), URI: uri}
}

// shown is the name that the others are shown.
func (s *Seat) shown() string {
	name := s.name
	if name == "" {
		name = s.user.Name
	}
	if s.away != nil && s.away.lost {
		name += reconnecting
	}
	return name
}

// reconnecting is what displays say beside the name of somebody whose device was lost.
const reconnecting = " (reconnecting)"

// other is the seat on the other side of s, which may be one that a transfer is about to fill. (Two today; more when
// rooms come.)
func (c *Call) other(s *Seat) *Seat {
	if m := c.moveOf(s); m != nil {
		s = m.seat
	}
	for _, o := range c.seats {
		if o != s {
			return o
		}
	}
	return nil
}

// allSeats are the call's seats and those that a transfer or a pick-up is about to fill.
func (c *Call) allSeats() []*Seat {
	seats := slices.Clone(c.seats)
	for _, m := range c.moves {
		if m.into != m.seat {
			seats = append(seats, m.into)
		}
	}
	if l := c.picking(); l != nil && !slices.Contains(seats, l.seat) {
		seats = append(seats, l.seat)
	}
	return seats
}

// moveOf is the move that is under way from or to s.
func (c *Call) moveOf(s *Seat) *move {
	for _, m := range c.moves {
		if m.seat == s || m.into == s {
			return m
		}
	}
	return nil
}

// legsOf lists the legs of s that are not on their way out, the holder first.
func (c *Call) legsOf(s *Seat) []*Leg {
	var legs []*Leg
	if s.holder != nil {
		legs = append(legs, s.holder)
	}
	for _, l := range c.legs {
		if l.seat == s && l != s.holder && l.state != legClosing {
			legs = append(legs, l)
		}
	}
	return legs
}

// listeners are the legs of s that the others' media goes to: its holder and, in a move, the leg that has answered.
func (c *Call) listeners(s *Seat) []*Leg {
	var legs []*Leg
	if s.holder != nil {
		legs = append(legs, s.holder)
	}
	if m := c.moveOf(s); m != nil && m.to != nil {
		legs = append(legs, m.to)
	}
	return legs
}

// wire sets every stream's source and sinks to what the seats say. It can be called at any time and touches only what
// has changed.
func (c *Call) wire() {
	if c.state != StateUp {
		return
	}
	for _, s := range c.seats {
		other := c.other(s)
		if other == nil {
			continue
		}
		sinks := c.listeners(other)
		for _, l := range c.listeners(s) {
			l.feed(sinks)
			l.hear(c.source(other))
			if l.stream != nil {
				l.stream.Aside(c.aside(l))
			}
		}
		for _, l := range s.companions {
			if l.state == legUp {
				l.feed(nil)
				l.hear(source{mix: true, leg: other.holder, also: s.holder})
			}
		}
	}
	c.reviewPath()
}

// aside says that the leg is a move's new one, which the far side cannot follow before it has agreed to another codec.
func (c *Call) aside(l *Leg) bool {
	m := c.moveOf(l.seat)
	return m != nil && m.to == l && m.apart
}

// source is what is heard of seat s: its holder's media or a tone. In a move it is the new leg as soon as that may talk:
// what was heard before goes on until its first packet, which is the switch; one that has another codec may talk when that is agreed.
func (c *Call) source(s *Seat) source {
	l := s.holder
	if m := c.moveOf(s); m != nil && m.mayTalk() {
		l = m.to
	}
	switch {
	case l == nil && c.over:
		return source{tone: media.ToneEnded}
	case l == nil && (c.ringingElsewhere(s) || c.calledBack(s)):
		return source{tone: media.ToneRing}
	case l == nil:
		return source{tone: media.ToneAway}
	case l.held && l == s.holder && c.ringingElsewhere(s):
		return source{tone: media.ToneRing}
	case l.held:
		return source{tone: media.ToneHold}
	}
	return source{leg: l}
}

// ringingElsewhere says that the seat is being transferred to another user, whose phone rings.
func (c *Call) ringingElsewhere(s *Seat) bool {
	m := c.moveOf(s)
	return m != nil && m.into != s
}

// calledBack says that who is on the other side has called the user of an empty seat, whose devices ring.
func (c *Call) calledBack(s *Seat) bool {
	m := c.moveOf(s)
	return m != nil && m.how == callAgain && m.pending()
}

// source is what a leg sends to its phone: another leg's media, a tone, or the mix of two legs.
type source struct {
	leg  *Leg
	tone media.Tone
	mix  bool
	also *Leg
}

func (l *Leg) hear(s source) {
	if l.stream == nil || l.hears == s {
		return
	}
	l.hears = s
	if s.mix {
		l.stream.Mix(streamsOf(s.leg, s.also)...)
		return
	}
	if s.leg != nil && s.leg.stream != nil {
		l.stream.Follow(s.leg.stream)
		return
	}
	l.stream.Play(s.tone)
}

func (l *Leg) feed(sinks []*Leg) {
	if l.stream == nil || slices.Equal(l.feeds, sinks) {
		return
	}
	l.feeds = slices.Clone(sinks)
	l.stream.Feed(streamsOf(sinks...)...)
}

func streamsOf(legs ...*Leg) []*media.Stream {
	streams := make([]*media.Stream, 0, len(legs))
	for _, l := range legs {
		if l != nil && l.stream != nil {
			streams = append(streams, l.stream)
		}
	}
	return streams
}
