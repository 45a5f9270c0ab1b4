package registrar

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"time"

	"baton/sip"
)

// Other nodes write the same store. What they write is read anew and takes the place of what is here in memory; their bindings are
// theirs to ask and to end. What this node is just writing itself is newer than what it reads meanwhile: it reads again.

const (
	// readAgain is the pause before something is read again.
	readAgain   = 50 * time.Millisecond
	longestWait = 5 * time.Second
	// readTries bounds it: a user of whom something is always on its way is told of by the next change.
	readTries = 100
	// overdue is how long after its end another node's binding is ended here, if that node has not done it.
	overdue = 30 * time.Second
)

// feed is the store as others write it too; nil = it is this node's alone.
func (r *Registrar) feed() Feed {
	f, _ := r.o.Store.(Feed)
	return f
}

// foreign says whether a binding is another node's.
func (r *Registrar) foreign(b Binding) bool {
	return b.Node != "" && b.Node != r.o.Node && r.feed() != nil
}

// foreignFlow says whether a flow is that of a device at another node.
func (r *Registrar) foreignFlow(d Device, f sip.Flow) bool {
	return slices.ContainsFunc(d.bindings(), func(b Binding) bool { return b.Flow == f && r.foreign(b) })
}

// bind has the store write devices of an account, and counts what is on its way.
func (r *Registrar) bind(a *account, put []Device, drop []string, done func(error)) {
	a.writes.Add(1)
	a.flying.Add(1)
	r.o.Store.Bind(a.name, put, drop, func(err error) {
		a.flying.Add(-1)
		done(err)
	})
}

// watchStore follows what other nodes write.
func (r *Registrar) watchStore(ctx context.Context, f Feed) {
	err := f.Changes(ctx, func(c Change) {
		for wait, err := readAgain, r.changed(ctx, f, c); err != nil && ctx.Err() == nil; err = r.changed(ctx, f, c) {
			r.log.Warn("what other nodes have written cannot be read yet", "err", err)
			pause(ctx, wait)
			wait = min(2*wait, longestWait)
		}
	})
	if err != nil {
		r.log.Error("what other nodes write is not followed", "err", err)
	}
}

// changed reads what has changed.
func (r *Registrar) changed(ctx context.Context, f Feed, c Change) error {
	if c.All {
		var err error
		if c, err = r.differences(); err != nil {
			return err
		}
	}
	for _, name := range c.Users {
		there, err := r.readUser(f, name)
		if err != nil {
			return err
		}
		if there && !slices.Contains(c.Devices, name) {
			c.Devices = append(slices.Clip(c.Devices), name)
		}
	}
	if c.Tokens {
		if err := r.readTokens(); err != nil {
			return err
		}
	}
	for _, name := range c.Devices {
		if err := r.readDevices(ctx, f, name); err != nil {
			return err
		}
	}
	return nil
}

// differences are those between store and memory.
func (r *Registrar) differences() (Change, error) {
	c := Change{Tokens: true}
	devices, err := r.o.Store.Devices()
	if err != nil {
		return c, err
	}
	users, err := r.o.Store.Users()
	if err != nil {
		return c, err
	}
	of := map[string][]Device{}
	for _, d := range devices {
		of[d.User] = append(of[d.User], d)
	}
	stored, here := map[string]bool{}, r.directory.Load().accounts
	for _, u := range users {
		stored[u.Name] = true
		a, known := here[u.Name]
		if !known || !sameUser(*a.user.Load(), u) {
			c.Users = append(c.Users, u.Name)
			continue
		}
		if put, drop := changes(a.list(), of[u.Name]); len(put)+len(drop) > 0 {
			c.Devices = append(c.Devices, u.Name)
		}
	}
	for name := range here {
		if !stored[name] {
			c.Users = append(c.Users, name)
		}
	}
	return c, nil
}

// sameUser compares two users as they are stored.
func sameUser(a, b User) bool {
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err == nil && err2 == nil && bytes.Equal(x, y) && reflect.DeepEqual(a.Secrets, b.Secrets)
}

// readUser has a user be as stored; there says that it is. Nobody here changes users meanwhile.
func (r *Registrar) readUser(f Feed, name string) (there bool, err error) {
	r.users.Lock()
	defer r.users.Unlock()
	u, _, err := f.ReadUser(name)
	if err != nil {
		return false, fmt.Errorf("user %s: %w", name, err)
	}
	d := r.directory.Load()
	a, known := d.accounts[name]
	switch {
	case u == nil && !known:
	case u == nil:
		r.log.Info("user was removed at another node", "user", name)
		r.directory.Store(d.without(a))
		r.mail.Post(func() { r.turn(a, r.forget) })
	case !known:
		r.log.Info("user was added at another node", "user", name)
		r.directory.Store(d.with(newAccount(*u, r.own())))
	default:
		d = d.without(a) // its numbers may be others now
		a.user.Store(u)
		d.add(a)
		r.directory.Store(d)
	}
	return u != nil, nil
}

// forget ends an account that is no longer in the store.
func (r *Registrar) forget(a *account) {
	a.gone = true
	r.publish(a, a.list(), nil)
}

// readTokens has the tokens be as stored. Nobody here changes tokens meanwhile.
func (r *Registrar) readTokens() error {
	r.users.Lock()
	defer r.users.Unlock()
	all, err := r.o.Store.Tokens()
	if err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	stored := map[string]bool{}
	for _, t := range all {
		stored[t.ID] = true
		if !t.over(r.now()) {
			r.tokens.renew(t)
		}
	}
	gone := r.tokens.list(func(t Token) bool { return !stored[t.ID] })
	for _, b := range r.tokens.drop(ids(gone)) {
		r.log.Info("token was revoked at another node", "token", b.token.ID, "user", b.token.User)
		r.signOut(b.token.User, b.flows)
	}
	return nil
}

// renew takes in a token as it is stored.
func (t *tokens) renew(one Token) {
	t.mu.Lock()
	b, known := t.byID[one.ID]
	if known {
		b.token.Used, b.token.Expires = one.Used, one.Expires
	}
	t.mu.Unlock()
	if !known {
		t.add(one)
	}
}

// readDevices has a user's devices be as stored.
func (r *Registrar) readDevices(ctx context.Context, f Feed, name string) error {
	a, ok := r.directory.Load().accounts[name]
	if !ok {
		return nil
	}
	for range readTries {
		writes, idle := a.writes.Load(), a.flying.Load() == 0
		if idle {
			_, devices, err := f.ReadUser(name)
			if err != nil {
				return fmt.Errorf("devices of %s: %w", name, err)
			}
			if r.take(ctx, a, devices, writes) {
				return nil
			}
		}
		if !pause(ctx, readAgain) {
			return nil
		}
	}
	return nil
}

// take has devices take the place of those that are here, unless something of them has been written here since; it tells whether
// that was so.
func (r *Registrar) take(ctx context.Context, a *account, devices []Device, writes uint64) bool {
	taken := make(chan bool, 1)
	r.submit(a, func(a *account) {
		same := a.writes.Load() == writes
		if same && !a.gone {
			before := a.list()
			after, ours := r.newest(before, devices)
			if len(ours) > 0 {
				r.log.Warn("devices stood in the store as they were before: they are written again", "user", a.name, "devices", len(ours))
			}
			ours = r.distinguish(after, ours)
			r.appear(a, before, after)
			if len(ours) > 0 {
				r.bind(a, ours, nil, r.written(a.name))
			}
		}
		taken <- same
	})
	select {
	case same := <-taken:
		return same
	case <-ctx.Done():
		return true
	}
}

// newest are the devices as they are stored, but for those of which this node has a newer registration: another has written late what it
// kept while it had no store, or the store has come back as it was earlier. These are ours.
func (r *Registrar) newest(here, stored []Device) (all, ours []Device) {
	for _, d := range stored {
		if i := byKey(here, d.Key); i >= 0 && here[i].Here() && !r.foreign(*here[i].Binding) && here[i].changed().After(d.changed()) {
			d = here[i]
			ours = append(ours, d)
		}
		all = append(all, d)
	}
	return all, ours
}

// distinguish gives devices of this node another index and name, of which an older one has the same: two nodes have met new devices of one user at
// the same moment. The newer one's node does it. Given are those of this node that are to be written, and these beside.
func (r *Registrar) distinguish(all, ours []Device) []Device {
	for i := range all {
		d := &all[i]
		if !d.Here() || r.foreign(*d.Binding) {
			continue
		}
		taken := func(same func(o Device) bool) bool {
			return slices.ContainsFunc(all, func(o Device) bool { return o.Key != d.Key && same(o) && o.older(*d) })
		}
		index := d.Index != 0 && taken(func(o Device) bool { return o.Index == d.Index })
		name := taken(func(o Device) bool { return o.Name == d.Name })
		if !index && !name {
			continue
		}
		was := d.Label()
		if index {
			d.Index = freeIndex(all)
		}
		if name {
			d.Name = unique(d.Name, "-", func(name string) bool { return slices.ContainsFunc(all, func(o Device) bool { return o.Name == name }) })
		}
		r.log.Info("two nodes have met new devices at once: one is called otherwise", "user", d.User, "device", was, "now", d.Label())
		if k := byKey(ours, d.Key); k >= 0 {
			ours[k] = *d
		} else {
			ours = append(ours, *d)
		}
	}
	return ours
}

// older says, the same at each node, which of two devices keeps what both have.
func (d Device) older(than Device) bool {
	return d.Since.Before(than.Since) || d.Since.Equal(than.Since) && d.Key < than.Key
}

// changed is when a device last came, went or registered.
func (d Device) changed() time.Time {
	last := d.Since
	for b := range d.all {
		if b.Registered.After(last) {
			last = b.Registered
		}
	}
	return last
}

// appear publishes what another node has written and calls those who wait for a device. The log has it from that node.
func (r *Registrar) appear(a *account, before, after []Device) {
	for i := range after {
		after[i].name(a.node)
	}
	slices.SortFunc(after, func(x, y Device) int { return x.Index - y.Index })
	if put, drop := changes(before, after); len(put)+len(drop) == 0 {
		return
	}
	r.publish(a, before, after)
	for _, d := range after {
		i := byKey(before, d.Key)
		if d.Here() && (i < 0 || !before[i].Here() || before[i].Binding.Flow != d.Binding.Flow) {
			for _, fn := range r.watchers.of(d.User) {
				fn(d)
			}
		}
	}
}

// minded is a pulse as another node's binding has it: that node asks it, knows whether it answers, and ends it.
func (s pulse) minded() pulse {
	s.next, s.silent, s.expires = math.MaxInt64, false, s.expires+int64(overdue)
	return s
}

// elsewhere says that another node minds the binding.
func (s pulse) elsewhere() bool { return s.next == math.MaxInt64 }

// pause waits; false says that ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
