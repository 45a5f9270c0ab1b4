package call

import "sync"

// changes tells those who watch the calls that something that Calls shows has changed.
type changes struct {
	mu       sync.Mutex
	watchers map[chan struct{}]string // whose calls are watched, "" = everybody's; guarded by mu
}

// tell wakes every watcher of a user's calls whom it concerns and who does not know yet. It never blocks.
func (c *changes) tell(concerns func(user string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w, user := range c.watchers {
		if user != "" && !concerns(user) {
			continue
		}
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// Changes gives a channel that has one element when what Calls shows has changed since the last was taken: who is in which
// call on which device, its state, holds and moves; not the counters of its media.
func (b *B2BUA) Changes() (changed <-chan struct{}, stop func()) { return b.ChangesOf("") }

// ChangesOf is Changes of the calls that a user is in, that ring for him, and that he has just left.
func (b *B2BUA) ChangesOf(user string) (changed <-chan struct{}, stop func()) {
	c, w := &b.changes, make(chan struct{}, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watchers == nil {
		c.watchers = map[chan struct{}]string{}
	}
	c.watchers[w] = user
	return w, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watchers, w)
	}
}
