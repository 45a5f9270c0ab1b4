package call

import (
	"time"

	"baton/media"
)

// In has f run in the agent of a live call.
func (b *B2BUA) In(id string, f func(*Call)) error {
	c, err := b.find(id)
	if err == nil {
		c.post(func() { f(c) })
	}
	return err
}

// Exchange runs f outside the agent.
func (c *Call) Exchange(f func() func()) { c.exchange(f) }

// QuickSubscriptions lets subscriptions be short, and has those looked for soon whose users are gone.
func (b *B2BUA) QuickSubscriptions(shortest, tidy time.Duration) {
	b.notifier.mail.Do(func() {
		b.notifier.shortest, b.notifier.tidyEach = shortest, tidy
		stopTimer(b.notifier.tidying)
		b.notifier.tidy()
	})
}

// RoomForSubscriptions sets how many subscriptions there may be in all.
func (b *B2BUA) RoomForSubscriptions(n int) { b.notifier.mail.Do(func() { b.notifier.room = n }) }

// WatchedCalls counts the calls that are known as those of somebody who is watched.
func (b *B2BUA) WatchedCalls() int {
	n := make(chan int, 1)
	b.notifier.mail.Do(func() {
		calls := 0
		for _, w := range b.notifier.seen {
			calls += len(w.calls)
		}
		n <- calls
	})
	return <-n
}

// CrashPatience is how long a call that has panicked waits.
const CrashPatience = crashPatience

// LoseLeg gives the call a leg that rings for ever, as if the exchange that waits for its answer had been lost.
func (c *Call) LoseLeg() {
	l, err := c.newLeg(c.seats[0], c.seats[0].holder.device, c.seats[0].holder.dialog.Flow)
	if err != nil {
		panic(err)
	}
	l.cancel = func(error) {}
	c.setState(l, legRinging)
}

// Tone is what the holder of a seat is played.
func (c *Call) Tone(seat int) media.Tone {
	if l := c.seats[seat].holder; l != nil {
		return l.hears.tone
	}
	return media.ToneNone
}

// LeftBehind says whether a user's device has left the call behind, as choosing sees it.
func (b *B2BUA) LeftBehind(id, user string) bool {
	c, err := b.find(id)
	if err != nil {
		return false
	}
	k, ok := c.candidate(user, "")
	return ok && k.standing >= leftTalking && k.standing < notAnswered
}
