package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

const (
	defaultEntries = 100_000
	tidyEvery      = time.Minute
	tidyStep       = 500 // entries that one transaction deletes, so that no write waits long behind it
	beatEvery      = 5 * time.Second
)

// retention is how much of the log is kept.
type retention struct {
	age     time.Duration // 0 = for ever
	entries int
	next    uint64 // number of the last entry that this process has written; of Redis
}

// slack is how many entries too many there may be for a while, so that not every new one costs a deletion.
func (r retention) slack() int { return r.entries/100 + 1 }

// Keep sets how long entries of the log are kept (0 = for ever), and how many at most. Before it is called these are
// for ever and 100,000. Run must not have begun.
func (b *Bolt) Keep(age time.Duration, entries int) {
	b.commit.keep = retention{age: age, entries: entries}
}

// tidy deletes some of what the log holds too much of, in a transaction of its own; more says that some is left.
func (c *committer) tidy() (more bool) {
	c.turn.Lock()
	defer c.turn.Unlock()
	return c.tidySome()
}

// tidySome is tidy for who has the turn.
func (c *committer) tidySome() (more bool) {
	old := time.Unix(0, 0)
	if c.keep.age > 0 {
		old = time.Now().Add(-c.keep.age)
	}
	c.entries.mark()
	err := c.db.Update(func(tx *bbolt.Tx) (err error) {
		more, err = c.entries.drop(tx, c.keep.entries, old, tidyStep)
		return err
	})
	if err != nil {
		c.entries.reset()
		c.log.Error("old entries of the log are not deleted", "err", err)
		return false
	}
	return more
}

// tidyAll tidies step by step; what is queued meanwhile goes between the steps.
func (c *committer) tidyAll(ctx context.Context) {
	for c.tidy() && ctx.Err() == nil {
		c.flush()
	}
}

// Beat writes down every few seconds that the node runs, until ctx ends: a later run then knows until when this one
// was there, however it ended.
func (b *Bolt) Beat(ctx context.Context) error {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		b.beat(time.Now())
		select {
		case <-ctx.Done():
			b.beat(time.Now())
			return nil
		case <-tick.C:
		}
	}
}

func (b *Bolt) beat(now time.Time) {
	b.commit.later(write{func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(beatKey, timeKey(now)) }, func(err error) {
		b.health.beaten(err)
		if err != nil && !errors.Is(err, errClosed) {
			b.log.Error("the time is not stored", "err", err)
		}
	}})
}

// health is how the store's own writes went, that of every few seconds.
type health struct {
	mu    sync.Mutex
	last  time.Time // that one was made; zero = none yet
	since time.Time // of the first one after the last failure
	err   error     // of the last
}

func (h *health) beaten(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err = err; err != nil {
		h.since = time.Time{}
		return
	}
	if h.last = time.Now(); h.since.IsZero() {
		h.since = h.last
	}
}

// Healthy says what is wrong with state.db, as far as Beat has seen: its last write failed, or none was made for a while.
func (b *Bolt) Healthy() error {
	h := &b.health
	h.mu.Lock()
	defer h.mu.Unlock()
	switch since := time.Since(h.last); {
	case h.err != nil:
		return h.err
	case !h.last.IsZero() && since > 4*beatEvery:
		return fmt.Errorf("state.db has taken no write for %v", since.Round(time.Second))
	}
	return nil
}

// HealthySince is since when every write of Beat was made; zero = the last one was not, or none has been yet.
func (b *Bolt) HealthySince() time.Time {
	b.health.mu.Lock()
	defer b.health.mu.Unlock()
	return b.health.since
}

// LastRun is when a node was last known to run on the store before it was opened; zero = never.
func (b *Bolt) LastRun() time.Time { return b.lastRun }

// readLastRun reads what Beat has left behind.
func (b *Bolt) readLastRun() error {
	return b.state.View(func(tx *bbolt.Tx) error {
		if v := tx.Bucket(metaBucket).Get(beatKey); len(v) == 8 {
			b.lastRun = keyTime(v)
		}
		return nil
	})
}
