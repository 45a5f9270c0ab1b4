package call

import (
	"slices"
	"time"
)

// keepPatience bounds the time that a stopping node takes to write its calls down and to end those that cannot be kept.
const keepPatience = time.Second

// keepAll writes the last record of every call that is up and lets go of it without a word to its phones: the next run goes on with it
// (restore.go). What nobody has answered ends, as in any other stop.
func (b *B2BUA) keepAll() {
	if b.successor.Load() != nil {
		b.eachAfter(handPace, (*Call).keepOrEnd)
	} else {
		b.each((*Call).keepOrEnd)
	}
	left := make(chan struct{})
	over := time.AfterFunc(keepPatience, func() { b.each((*Call).letGoForNext) })
	defer over.Stop()
	go func() {
		defer close(left)
		b.live.Wait()
	}()
	<-left
	b.stop()
	b.running.Wait()
}

// handPace is the time between two calls that are handed over: what another node takes up in it.
const handPace = 500 * time.Microsecond

// eachAfter runs f in the agent of every call, one after the other.
func (b *B2BUA) eachAfter(pace time.Duration, f func(*Call)) {
	b.mu.Lock()
	calls := b.list()
	b.mu.Unlock()
	for i, c := range calls {
		c.post(func() { f(c) })
		if i%4 == 3 { // a shorter sleep is none
			time.Sleep(4 * pace)
		}
	}
}

// keepOrEnd is what becomes of a call when the node stops and another run will come.
func (c *Call) keepOrEnd() {
	if c.state != StateUp || c.quiet {
		c.end("baton was stopped")
		return
	}
	for _, m := range slices.Clone(c.moves) {
		c.failMove(m, "the node is restarted", 503)
	}
	for _, s := range c.seats {
		if s.joining != nil {
			c.failCompanion(s.joining, refusal(503, "the node is restarted"))
		}
	}
	c.commit(c.letGoForNext)
}

// letGoForNext ends the call in this process alone: no BYE, no RTCP BYE, no entry in the log, and its record stays. Its sound goes on until the
// engine ends, as the last part of the node but the store.
func (c *Call) letGoForNext() {
	if c.state == StateEnded {
		return
	}
	c.kept, c.abandoned = true, true
	c.forgetDials()
	hand := c.b.successor.Load()
	if hand != nil && c.state == StateUp {
		c.yield()
		defer func() { (*hand)(c.id, c.epoch) }()
	}
	for _, l := range slices.Clone(c.legs) {
		c.dropForks(l)
		l.unfollow()
		c.b.Agent.Detach(l.dialog.ID())
		c.b.unindex(l.dialog.ID())
		l.stream.HandOver()
	}
	c.legs = nil
	c.finish()
}

// forgetDials has nothing come of what still rings.
func (c *Call) forgetDials() {
	all := []*dial{c.dial}
	for _, m := range c.moves {
		all = append(all, m.dial)
	}
	for _, s := range c.seats {
		if s.joining != nil {
			all = append(all, s.joining.dial)
		}
	}
	for _, d := range all {
		if d != nil && !d.over {
			d.over = true
			d.unwatch()
		}
	}
}
