package call

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"baton/media"
	"baton/sip"
)

// In has f run in the agent of a live call.
func (b *B2BUA) In(id string, f func(*Call)) error {
	c, err := b.find(id)
	if err == nil {
		c.post(func() { f(c) })
	}
	return err
}

// BePatient has acts wait so long for the store, and gives how long they waited before.
func (b *B2BUA) BePatient(d time.Duration) time.Duration {
	return time.Duration(b.patience.Swap(int64(d)))
}

// PublishAllocates is how often a call allocates for telling what others may know of it, while nothing changes.
func (b *B2BUA) PublishAllocates(id string) (float64, error) {
	c, err := b.find(id)
	if err != nil {
		return 0, err
	}
	return inAgent(b.ctx, c, func() float64 { return testing.AllocsPerRun(1000, c.publish) })
}

// Exchange runs f outside the agent.
func (c *Call) Exchange(f func() func()) { c.exchange(f) }

// DoubtFor has a way between two devices that a single try says is closed be left alone for so long.
func (b *B2BUA) DoubtFor(d time.Duration) {
	b.blocked.mu.Lock()
	defer b.blocked.mu.Unlock()
	b.blocked.doubt = d
}

// InVain is how often in a row ways between devices were tried in vain.
func (b *B2BUA) InVain() (n int) {
	b.blocked.mu.Lock()
	defer b.blocked.mu.Unlock()
	for _, v := range b.blocked.pairs {
		n += v.failed
	}
	return n
}

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
	l, err := c.newLeg(c.seats[0], c.seats[0].holder.device, c.seats[0].holder.dialog.Flow, []media.Security{media.Clear})
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

// LegsOf lists the legs of the calls that any of these users is in, by Call-ID: who has it and in which state.
func (b *B2BUA) LegsOf(users ...string) map[string]string {
	b.mu.Lock()
	calls := b.list()
	b.mu.Unlock()
	all := map[string]string{}
	for _, c := range calls {
		if s := c.public.Load(); s == nil || !slices.ContainsFunc(users, s.has) {
			continue
		}
		legs, _ := inAgent(b.ctx, c, func() map[string]string {
			legs := map[string]string{}
			for _, l := range c.legs {
				legs[l.dialog.CallID] = l.seat.user.Name + " " + l.device.Name + " " + string(l.state)
				if c.quiet {
					legs[l.dialog.CallID] += " in an announcement"
				}
			}
			return legs
		})
		maps.Copy(all, legs)
	}
	return all
}

// Held says what is wrong with who holds the seats of a call that these users are in: each leg that is up must hold its seat or be a
// pending move's, and no two legs the same seat.
func (b *B2BUA) Held(users ...string) error {
	b.mu.Lock()
	calls := b.list()
	b.mu.Unlock()
	for _, c := range calls {
		if s := c.public.Load(); s == nil || !slices.ContainsFunc(users, s.has) {
			continue
		}
		wrong, err := inAgent(b.ctx, c, c.wrong)
		if err == nil && wrong != "" {
			return fmt.Errorf("call %s, %s: %s", c.id, c.state, wrong)
		}
	}
	return nil
}

func (c *Call) wrong() string {
	if c.state != StateUp {
		return ""
	}
	for _, l := range c.legs {
		holds := l.seat.holder == l
		mine := false
		for _, m := range c.moves {
			mine = mine || m.to == l
		}
		switch {
		case holds && (l.state == legClosing || l.state == legClosed):
			return fmt.Sprintf("%s of %s holds its seat and is %s", l.device.Name, l.seat.user.Name, l.state)
		case l.state == legUp && !holds && !mine:
			return fmt.Sprintf("%s of %s is up and holds no seat", l.device.Name, l.seat.user.Name)
		case holds && !slices.Contains(c.allSeats(), l.seat):
			return fmt.Sprintf("%s of %s holds a seat that the call does not have", l.device.Name, l.seat.user.Name)
		}
	}
	for i, m := range c.moves {
		for _, n := range c.moves[:i] {
			if m.seat == n.seat {
				return "two moves of one seat"
			}
		}
	}
	return ""
}

// LateACK gives the call the ACK of its first INVITE once more, while the offer in the answer to another one waits for its own.
func (c *Call) LateACK() {
	l := c.seats[0].holder
	l.owes, l.owing = true, &sip.Exchange{}
	c.onAck(l, l.exchange, sip.Body{})
	l.owes = false
}

// May says what a user may do with another's calls: pick them up when they ring, see them.
func (b *B2BUA) May(user, other string) (pickUp, watch bool) {
	return b.mayPickUp(user, other), b.mayWatch(user, other)
}

// DecodeRecord opens a record with a node's secret.
func DecodeRecord(secret, blob []byte) (Record, error) { return newVault(secret).decode(blob) }

// Die lets go of all calls as a killed node does: nothing more is written or said, and their records are as they were. silence closes the
// agent.
func (b *B2BUA) Die(silence func()) {
	b.mu.Lock()
	b.draining = true
	calls := b.list()
	b.mu.Unlock()
	for _, c := range calls {
		_, _ = inAgent(context.Background(), c, func() struct{} { c.forgetDials(); return struct{}{} })
	}
	silence()
	b.each((*Call).letGoForNext)
	b.live.Wait()
	b.stop()
}

// UnpackRecord gives the JSON of a record.
func UnpackRecord(blob []byte) ([]byte, error) { return unpack(blob) }
