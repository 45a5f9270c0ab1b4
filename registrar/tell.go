package registrar

import (
	"fmt"
	"sync"
	"time"

	"baton/journal"
)

// watchers are those who wait for a user's devices.
type watchers struct {
	mu   sync.Mutex
	next int
	by   map[string]map[int]func(Device) // by user
}

// Watch calls fn for each device of the user that appears, or appears anew over another flow, until stop is called.
// fn must not block.
func (r *Registrar) Watch(user string, fn func(Device)) (stop func()) {
	w := &r.watchers
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by == nil {
		w.by = make(map[string]map[int]func(Device))
	}
	if w.by[user] == nil {
		w.by[user] = make(map[int]func(Device))
	}
	w.next++
	id := w.next
	w.by[user][id] = fn
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if delete(w.by[user], id); len(w.by[user]) == 0 {
			delete(w.by, user)
		}
	}
}

func (w *watchers) of(user string) []func(Device) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []func(Device)
	for _, fn := range w.by[user] {
		out = append(out, fn)
	}
	return out
}

// onlookers wakes those who look at what a user's devices are.
type onlookers struct {
	mu sync.Mutex
	by map[string]map[chan struct{}]struct{} // by user
}

// tell wakes everybody who does not know yet. It never blocks.
func (c *onlookers) tell(user string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.by[user] {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// Changes gives a channel that has one element when something of the user's devices has changed since the last was taken.
func (r *Registrar) Changes(user string) (changed <-chan struct{}, stop func()) {
	c, w := &r.seen, make(chan struct{}, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[string]map[chan struct{}]struct{}{}
	}
	if c.by[user] == nil {
		c.by[user] = map[chan struct{}]struct{}{}
	}
	c.by[user][w] = struct{}{}
	return w, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if delete(c.by[user], w); len(c.by[user]) == 0 {
			delete(c.by, user)
		}
	}
}

// tell logs what has changed and calls those who wait for it.
func (r *Registrar) tell(before, after []Device) {
	now := r.now()
	for _, d := range after {
		var was Device
		i := byKey(before, d.Key)
		if i >= 0 {
			was = before[i]
		}
		r.tellOne(was, i < 0, d, now)
		if d.Here() && (!was.Here() || was.Binding.Flow != d.Binding.Flow) {
			for _, fn := range r.watchers.of(d.User) {
				fn(d)
			}
		}
	}
	for _, d := range before {
		if byKey(after, d.Key) < 0 && d.Here() {
			r.enter(d, journal.Entry{Time: now, Kind: journal.DeviceAway, Text: "forgotten", Duration: lasted(d, now)})
		}
	}
}

func (r *Registrar) tellOne(was Device, isNew bool, d Device, now time.Time) {
	if isNew {
		r.enter(d, journal.Entry{Time: now, Kind: journal.DeviceNew, Text: introduction(d)})
	}
	switch {
	case !was.Here() && d.Here():
		e := journal.Entry{Time: now, Kind: journal.DeviceRegistered}
		if !isNew {
			e.Duration = lasted(was, now)
		}
		r.enter(d, e)
	case was.Here() && !d.Here():
		e := journal.Entry{Time: d.Since, Kind: journal.DeviceAway, Text: d.Reason, Duration: lasted(was, d.Since)}
		if d.Reason == reasonUnregistered {
			e.Kind, e.Text = journal.DeviceUnregistered, ""
		}
		r.enter(d, e)
	}
}

// introduction is the log's first line of a device.
func introduction(d Device) string {
	if d.Index == 0 {
		return fmt.Sprintf("new device %s of %s is known by its name alone", d.Name, d.User)
	}
	return fmt.Sprintf("new device %s is %s's device %d", d.Name, d.User, d.Index)
}

func lasted(d Device, now time.Time) time.Duration { return max(now.Sub(d.Since), 0) }

func (r *Registrar) enter(d Device, e journal.Entry) {
	e.User, e.Device = d.User, d.Name
	if r.o.Journal != nil {
		r.o.Journal.Append(e)
	}
	if e.Kind != journal.DeviceNew {
		log := r.log.With("user", d.User, "device", d.Name, "index", d.Index)
		if e.Text != "" {
			log = log.With("why", e.Text)
		}
		log.Info("device is " + string(e.Kind))
		return
	}
	r.log.Info("device is new", "user", d.User, "device", d.Name, "index", d.Index, "agent", d.UserAgent)
}
