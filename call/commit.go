package call

import (
	"errors"
	"slices"
	"time"
)

// patience is how long an act waits for the store before it is done anyway and the call is marked unsafe (docs/failures.md).
const patience = 50 * time.Millisecond

// committer holds the writes of one call. One write is in flight; what is committed meanwhile goes with the next.
//
//	commit ──▶ write ──done──▶ acts of that version, in order
//	             └─ 50 ms ───▶ acts anyway, unsafe
//
// Owned by the call's agent.
type committer struct {
	version uint64 // of the newest snapshot wanted
	writing uint64 // version in flight, 0 = none
	lazy    bool   // nothing waits for the one in flight: the store may hold it back
	stored  uint64 // newest version that the store has
	acts    []act
	unsafe  bool
	pause   time.Duration // before the next try of a write that failed
	retry   *time.Timer
}

type act struct {
	version uint64
	do      func()
	overdue *time.Timer
}

// commit writes the call's record and then runs the act; the agent goes on receiving meanwhile. An act looks at the
// state again: what came in between wins.
func (c *Call) commit(then func()) {
	c.store.version++
	version := c.store.version
	c.store.acts = append(c.store.acts, act{version, then, c.after(time.Duration(c.b.patience.Load()), func() { c.runOverdue(version) })})
	c.write()
}

// touch has the record written soon, with nothing waiting for it.
func (c *Call) touch() {
	if c.touched || c.state == StateEnded {
		return
	}
	c.touched = true
	c.after(time.Second, func() {
		c.touched = false
		c.store.version++
		c.write()
	})
}

// write puts the newest snapshot unless a write is in flight or it is stored already.
func (c *Call) write() {
	if c.store.lazy && len(c.store.acts) > 0 {
		c.store.lazy = false
		c.b.Store.Hurry()
	}
	if c.store.writing != 0 || c.store.stored == c.store.version || c.state == StateEnded || c.abandoned {
		return
	}
	record := c.record()
	blob, err := c.b.vault.encode(record)
	if err != nil {
		c.log.Error("encode the call's record", "err", err)
		c.runActs(c.store.version)
		return
	}
	version := c.store.version
	c.store.writing = version
	c.hold()
	put := c.b.Store.Put
	if c.store.lazy = len(c.store.acts) == 0 && !c.store.unsafe; c.store.lazy {
		put = c.b.Store.PutLater
	}
	s := Stored{ID: c.id, Epoch: c.epoch, Version: version, Owner: c.b.Owner, Blob: blob}
	if s.Owner != "" {
		s.Dialogs = record.dialogs()
	}
	put(s, func(err error) {
		c.do(func() {
			c.landed(func() { c.written(version, err) })
		})
	})
}

// written takes the store's answer to the write of version.
func (c *Call) written(version uint64, err error) {
	lazy := c.store.lazy
	c.store.writing, c.store.lazy = 0, false
	switch {
	case errors.Is(err, ErrStale):
		c.abandon()
		return
	case err != nil:
		c.markUnsafe("write the call's record", err)
		c.runActs(version)
		c.writeAgain()
		return
	case lazy && c.store.unsafe: // it has become so meanwhile, and of this write no replica was asked
		c.runActs(version)
		c.write()
		return
	}
	c.stop(c.store.retry)
	c.store.unsafe, c.store.pause, c.store.retry, c.store.stored = false, 0, nil, version
	c.runActs(version)
	if c.store.version > version {
		c.write()
	}
}

// writeAgain tries the newest record once more, after a pause that grows. One try is waited for, however many writes fail.
func (c *Call) writeAgain() {
	if c.store.retry != nil {
		return
	}
	c.store.pause = min(max(2*c.store.pause, time.Second), 30*time.Second)
	c.store.retry = c.after(c.store.pause, func() {
		c.store.retry = nil
		c.write()
	})
}

// runOverdue runs the acts up to version that the store has kept waiting too long.
func (c *Call) runOverdue(version uint64) {
	if len(c.store.acts) > 0 && c.store.acts[0].version <= version {
		c.markUnsafe("the store is slow", nil)
		c.runActs(version)
	}
}

func (c *Call) markUnsafe(why string, err error) {
	if !c.store.unsafe {
		c.log.Warn("call is not safe in the store", "why", why, "err", err)
	}
	c.store.unsafe = true
}

// runActs runs the acts whose snapshot is stored, in order.
func (c *Call) runActs(version uint64) {
	for len(c.store.acts) > 0 && c.store.acts[0].version <= version && !c.abandoned {
		a := c.store.acts[0]
		c.store.acts = c.store.acts[1:]
		c.stop(a.overdue)
		a.do()
	}
}

// abandon falls silent about a call that another node owns: no BYE, no RTP (docs/failures.md).
func (c *Call) abandon() {
	if c.state == StateEnded {
		return
	}
	c.log.Warn("call is owned by another node now")
	c.abandoned = true
	c.store.acts = nil
	c.yield()
	c.forgetDials()
	c.keepOwn(481, "the call that Replaces names is another node's")
	for _, m := range slices.Concat(c.moves, c.reports) {
		if m.handover != nil {
			c.leave(m.handover, 487)
		}
	}
	for _, l := range slices.Clone(c.legs) {
		l.stream.HandOver()
		c.closeLeg(l)
	}
	c.finish()
}

// yield has nothing said any more in the call's dialogs: what is under way in them is repeated no more, and what their phones still send here is not
// answered.
func (c *Call) yield() {
	for _, l := range c.legs {
		if c.kept && l.state != legUp && l.state != legLost { // its CANCEL or BYE is on its way
			continue
		}
		c.b.Agent.Yield(l.dialog.CallID)
	}
}
