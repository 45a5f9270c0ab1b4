package call

import (
	"maps"
	"slices"
	"sync"
)

// changes tells those who watch the calls that something that Calls shows has changed.
type changes struct {
	mu       sync.Mutex
	watchers map[chan struct{}]string // whose calls are watched, "" = everybody's; guarded by mu
	touched  map[string]struct{}      // users whose calls have changed since they were taken, nil = nobody takes them; guarded by mu
	wake     chan struct{}
}

// tell wakes every watcher of a user's calls whom it concerns and who does not know yet. It never blocks. The change is one of the calls before and
// after, of which any may be nil.
func (c *changes) tell(was, is *summary) {
	concerns := func(user string) bool { return was != nil && was.concerns(user) || is != nil && is.concerns(user) }
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.touched != nil {
		for _, s := range []*summary{was, is} {
			s.eachUser(func(user string) { c.touched[user] = struct{}{} })
		}
		awaken(c.wake)
	}
	c.rouse(concerns)
}

func awaken(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// rouse wakes the watchers. mu is held.
func (c *changes) rouse(concerns func(user string) bool) {
	for w, user := range c.watchers {
		if user != "" && !concerns(user) {
			continue
		}
		awaken(w)
	}
}

// eachUser calls fn for each user whom the call is shown to, some more than once.
func (s *summary) eachUser(fn func(user string)) {
	if s == nil {
		return
	}
	for _, t := range s.seats {
		fn(t.user)
	}
	for _, r := range s.rings {
		fn(r.user)
	}
	for _, l := range s.legs {
		fn(l.user)
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

// Touched has it noted from now on whose calls change. The channel has one element when there is something to take; take gives these users, and
// whether each is in a call of this node now. It is called once.
func (b *B2BUA) Touched() (wake <-chan struct{}, take func() map[string]bool) {
	c := &b.changes
	c.mu.Lock()
	defer c.mu.Unlock()
	c.touched, c.wake = map[string]struct{}{}, make(chan struct{}, 1)
	return c.wake, func() map[string]bool {
		c.mu.Lock()
		touched := c.touched
		c.touched = map[string]struct{}{}
		c.mu.Unlock()
		in := make(map[string]bool, len(touched))
		for user := range touched {
			in[user] = false
		}
		for _, user := range b.Callers() {
			if _, asked := touched[user]; asked {
				in[user] = true
			}
		}
		return in
	}
}

// Callers are the users who are in a call of this node, or whom one rings for.
func (b *B2BUA) Callers() []string {
	in := map[string]struct{}{}
	b.mu.Lock()
	for _, c := range b.calls {
		if s := c.public.Load(); s != nil && !s.quiet {
			s.eachUser(func(user string) { in[user] = struct{}{} })
		}
	}
	b.mu.Unlock()
	return slices.Collect(maps.Keys(in))
}

// ChangedElsewhere wakes those who watch the calls of users, because other nodes' calls of theirs have changed.
func (b *B2BUA) ChangedElsewhere(users map[string]bool) {
	b.changes.mu.Lock()
	defer b.changes.mu.Unlock()
	b.changes.rouse(func(user string) bool { _, of := users[user]; return of })
}
