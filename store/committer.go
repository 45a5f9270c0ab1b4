package store

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"baton/call"
)

const (
	maxBatch = 1000 // writes in one commit
	maxQueue = 1 << 20
	// usualLaterBy is how long a write that nobody waits for may wait for company: a commit costs what ten messages of a
	// phone do.
	usualLaterBy = 100 * time.Millisecond
	// fewTold are so few writes of one commit that those who wait for them may act before the next one.
	fewTold = 4
)

// errFull is what a write gets when the disk has not taken any for long.
var errFull = errors.New("too many writes are queued")

// write is one change of state.db. Its do returns call.ErrStale before it has written anything, or has written all.
type write struct {
	do   func(*bbolt.Tx) error
	done func(error) // nil = nobody asks
}

// committer is the one that writes state.db. It commits what is queued at once and together, in order, and tells of it in
// order. What somebody waits for does not wait for company: under load the queue that grows during one commit is the
// next. What nobody waits for goes with the next commit, or after laterBy.
type committer struct {
	db   *bbolt.DB
	log  *slog.Logger
	wake chan struct{} // has one element while run has something to commit now

	// set before run
	keep    retention
	laterBy time.Duration

	mu     sync.Mutex
	queue  []write
	timer  *time.Timer // wakes run for what nobody waits for; nil = there is no such write
	closed bool

	turn    sync.Mutex // of who commits: run, and who wants to read what is queued
	entries counter    // guarded by turn
	telling sync.Mutex // of who tells how a commit went; taken before turn is given back, so that the order is kept
}

func newCommitter(db *bbolt.DB, log *slog.Logger) (*committer, error) {
	c := &committer{db: db, log: log, wake: make(chan struct{}, 1), keep: retention{entries: defaultEntries}, laterBy: usualLaterBy}
	return c, c.entries.load(db)
}

// add queues a write; it does not wait. done is called by run.
func (c *committer) add(w write) {
	if c.enqueue(w) {
		c.signal()
	}
}

// later queues a write that nobody waits for.
func (c *committer) later(w write) {
	if !c.enqueue(w) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer == nil {
		c.timer = time.AfterFunc(c.laterBy, c.signal)
	}
}

func (c *committer) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// enqueue puts a write behind those before it; one that cannot be taken is told at once.
func (c *committer) enqueue(w write) bool {
	c.mu.Lock()
	err := errClosed
	if !c.closed {
		if err = nil; len(c.queue) >= maxQueue {
			err = errFull
		}
	}
	if err == nil {
		c.queue = append(c.queue, w)
	}
	c.mu.Unlock()
	if err != nil {
		w.tell(err)
	}
	return err == nil
}

func (w write) tell(err error) {
	if w.done != nil {
		w.done(err)
	}
}

func (c *committer) run(ctx context.Context) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	c.tidyAll(ctx)
	for {
		select {
		case <-ctx.Done():
			c.flush()
			return
		case <-c.wake:
			c.flush()
		case <-tick.C:
			c.tidyAll(ctx)
		}
	}
}

// close commits what is left and takes nothing more.
func (c *committer) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.flush()
	c.telling.Lock() // waits until everybody has been told
	defer c.telling.Unlock()
}

func (c *committer) flush() {
	for c.flushBatch() {
	}
}

// catchUp commits what is queued now, so that it can be read, and not what comes meanwhile.
func (c *committer) catchUp() {
	c.mu.Lock()
	left := len(c.queue)
	c.mu.Unlock()
	for {
		c.flushBatch() // also waits for a commit that is under way
		if left -= maxBatch; left <= 0 {
			return
		}
	}
}

// flushBatch commits what is queued now; false says that nothing was. Those who wait act in this goroutine where that saves a
// wake-up, in another one where it would keep the next commit waiting.
func (c *committer) flushBatch() bool {
	batch, results := c.commitBatch()
	if len(batch) == 0 {
		return false
	}
	tell := func() {
		defer c.telling.Unlock()
		for i, err := range results {
			batch[i].tell(err)
		}
	}
	if len(batch) <= fewTold {
		tell()
	} else {
		go tell()
	}
	return true
}

// commitBatch commits what is queued now. If that is anything, telling is held when it returns.
func (c *committer) commitBatch() ([]write, []error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	batch := c.take()
	if len(batch) == 0 {
		return nil, nil
	}
	results := c.write(batch)
	if c.entries.now.count > c.keep.entries+c.keep.slack() {
		c.trim()
	}
	c.telling.Lock()
	return batch, results
}

// trim keeps pace with a log that grows by up to a batch at once; turn is held.
func (c *committer) trim() {
	for range maxBatch/tidyStep + 1 {
		if !c.tidySome() {
			return
		}
	}
}

func (c *committer) take() []write {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	n := min(len(c.queue), maxBatch)
	batch := c.queue[:n:n]
	c.queue = c.queue[n:]
	return batch
}

// write commits a batch, and where that fails each of its writes alone: one that cannot be made harms no other.
func (c *committer) write(batch []write) []error {
	results := make([]error, len(batch))
	if c.together(batch, results) == nil {
		return results
	}
	for i := range batch {
		if err := c.together(batch[i:i+1], results[i:i+1]); err != nil {
			results[i] = err
			c.log.Error("write to state.db failed", "err", err)
		}
	}
	return results
}

func (c *committer) together(batch []write, results []error) error {
	c.entries.mark()
	err := c.db.Update(func(tx *bbolt.Tx) error {
		for i, w := range batch {
			results[i] = w.do(tx)
			if results[i] != nil && !errors.Is(results[i], call.ErrStale) {
				return results[i]
			}
		}
		return nil
	})
	if err != nil {
		c.entries.reset()
	}
	return err
}
