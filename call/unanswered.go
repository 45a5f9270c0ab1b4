package call

import (
	"slices"
	"time"

	"baton/journal"
	"baton/media"
)

// turnAway tells the caller that nobody takes the call: where no device is here with a tone first, which a phone without
// a display needs. Of busy and refused the phone makes a tone of its own.
func (c *Call) turnAway(l *Leg, code int, words string, why reason) {
	c.missedFor = words
	c.keepOwn(code, words)
	if why == unavailable && c.b.Config.Announce && l.state == legIncoming && len(l.remote.Lines) > 0 && len(l.local.Lines) == 0 {
		offer := l.remote
		if c.tell(l, &offer, notice{tone: media.ToneAway, code: 480, why: words}) == nil {
			return
		}
	}
	c.refuse(l, code, words)
}

// farewell ends a call whose one side waits in vain: it hears for a while that the call is over, then it is hung up.
func (c *Call) farewell(why string) {
	if !c.b.Config.Announce || !slices.ContainsFunc(c.seats, func(s *Seat) bool { return s.holder != nil }) {
		c.end(why)
		return
	}
	c.over = true
	c.wire()
	c.after(toneBeforeRefusal, func() { c.end(why) })
}

// noteMissed writes into the log for whom a call was that nobody took: who was called, and all who had it forwarded.
func (c *Call) noteMissed() {
	if !c.up.IsZero() || len(c.seats) < 2 || c.gave {
		return
	}
	why := c.missedFor
	if why == "" {
		why = c.why
	}
	seats := []*Seat{}
	for _, h := range c.hops {
		seats = append(seats, h.seat)
	}
	for _, s := range append(seats, c.seats[1]) {
		if s.user.Name != c.seats[0].user.Name {
			c.note(journal.CallMissed, journal.Entry{Peer: s.user.Name, Text: why, Duration: time.Since(c.started)})
		}
	}
}
