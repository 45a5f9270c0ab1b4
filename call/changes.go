package call

import "sync"

// changes tells those who watch the calls that something that Calls shows has changed.
type changes struct {
	mu       sync.Mutex
	watchers map[chan struct{}]struct{} // guarded by mu
}

// tell wakes every watcher that does not know yet. It never blocks.
func (c *changes) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// Changes gives a channel that has one element when what Calls shows has changed since the last was taken: who is in which
// call on which device, its state, holds and moves; not the counters of its media.
func (b *B2BUA) Changes() (changed <-chan struct{}, stop func()) {
	c, w := &b.changes, make(chan struct{}, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watchers == nil {
		c.watchers = map[chan struct{}]struct{}{}
	}
	c.watchers[w] = struct{}{}
	return w, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watchers, w)
	}
}
