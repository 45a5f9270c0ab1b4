// Package registrar knows the users, their devices and where each of them can be reached now. It answers REGISTER
// (RFC 3261 §10) and notices devices that are gone; of calls and media it knows nothing.
package registrar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"baton/journal"
	"baton/serial"
	"baton/sip"
)

// Agent is what the registrar needs of SIP; *sip.Agent is one.
type Agent interface {
	Do(ctx context.Context, out sip.Outgoing) (*sip.Response, error)
	Alive(f sip.Flow) bool
	Own(host string) bool
	Proxy(ip netip.Addr) bool
	Addrs() map[string]netip.AddrPort
	ContactURI(f sip.Flow, user string) sip.URI
	CloseFlow(f sip.Flow)
}

// Options is what a Registrar needs.
type Options struct {
	Agent   Agent // nil while no node runs
	Store   Store
	Journal journal.Journal
	Log     *slog.Logger
	Realm   string    // of the stored secrets; fixed for the life of the store
	Domain  string    // host part of addresses-of-record, "" = any
	Node    string    // written into bindings
	LastRun time.Time // when a node last ran on the store before this one; zero = not known
	// Grant is how long a registration is granted for of what was asked, within the limits; nil = drawn for each from 90
	// to 100 percent of it, so that devices that have all registered at once do not all come again at once.
	Grant func(asked time.Duration) time.Duration
	// Clustered says that there are other nodes, over which the agent reaches their devices: a binding's Node says whose its flow is.
	Clustered bool
	KeepAlive time.Duration // how often a device that is not heard otherwise is asked by OPTIONS; 0 = 30 s, < 0 = never
	// Unreachable is how long a device may answer nothing before its registration ends; 0 = it ends by itself.
	Unreachable time.Duration
}

// defaultKeepAlive keeps a NAT's UDP mapping open (RFC 4787 §4.3 wants 2 min of it, many give 30 to 60 s).
const defaultKeepAlive = 30 * time.Second

// Registrar holds all users and devices in memory. Whoever reads it reads snapshots; every change goes through its agent
// (the closures of mail), one at a time per user, and is answered when the store has it.
type Registrar struct {
	// set once
	o          Options
	log        *slog.Logger
	askTimeout time.Duration

	users     sync.Mutex // who adds and removes users
	directory atomic.Pointer[directory]
	mail      serial.Queue // of the agent; it begins with Run
	waiting   atomic.Int64 // REGISTERs not answered yet
	watchers  watchers
	seen      onlookers
	tokens    *tokens
	stopped   chan struct{}

	// Owned by the agent.
	ctx    context.Context
	asks   sync.WaitGroup
	asking int // OPTIONS on their way
	flows  map[sip.Flow]map[*account]bool
}

// New loads users and devices. Nothing runs yet; users can be read and written without Run.
func New(o Options) (*Registrar, error) {
	if o.KeepAlive == 0 {
		o.KeepAlive = defaultKeepAlive
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Grant == nil {
		o.Grant = spread
	}
	r := &Registrar{
		o: o, log: o.Log, askTimeout: askTimeout, stopped: make(chan struct{}), tokens: newTokens(),
		mail: serial.Queue{Held: true}, flows: make(map[sip.Flow]map[*account]bool),
	}
	r.mail.Guard = r.guard
	return r, r.load()
}

// guard keeps a panic from ending the agent: one registration may die by it.
func (r *Registrar) guard(f func()) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("registrar panicked", "err", p, "stack", string(debug.Stack()))
		}
	}()
	f()
}

func (r *Registrar) load() error {
	tokens, err := r.o.Store.Tokens() // before the users: whose are not there then have been removed, not just added
	if err != nil {
		return fmt.Errorf("load tokens: %w", err)
	}
	devices, err := r.o.Store.Devices()
	if err != nil {
		return fmt.Errorf("load devices: %w", err)
	}
	users, err := r.o.Store.Users()
	if err != nil {
		return fmt.Errorf("load users: %w", err)
	}
	d := newDirectory()
	for _, u := range users {
		if u.Realm != r.o.Realm {
			r.log.Warn("user cannot log in: its password was set for another realm", "user", u.Name, "realm", u.Realm)
		}
		d.add(newAccount(u, r.own()))
	}
	orphans := make(map[string][]string)
	for _, dev := range devices {
		if a, ok := d.accounts[dev.User]; ok {
			a.add(dev)
		} else {
			orphans[dev.User] = append(orphans[dev.User], dev.Key)
		}
	}
	r.directory.Store(d)
	r.loadTokens(d, tokens)
	for user, keys := range orphans { // removed while no node ran
		r.o.Store.Bind(user, nil, keys, r.written(user))
	}
	return nil
}

// Run handles registrations and looks after devices until ctx ends. Without an agent it carries out changes only.
func (r *Registrar) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.ctx = ctx
	defer close(r.stopped)
	defer r.asks.Wait()
	defer cancel()
	for _, a := range r.directory.Load().accounts {
		r.adopt(a)
	}
	r.mail.Release()
	defer r.mail.Finish()
	if f := r.feed(); f != nil {
		r.asks.Go(func() { r.watchStore(ctx, f) })
	}
	tick := time.NewTicker(r.tickEvery())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			r.mail.Do(r.tick)
		}
	}
}

func (r *Registrar) tickEvery() time.Duration {
	if r.o.KeepAlive < 0 || r.o.Agent == nil {
		return time.Second
	}
	return min(max(r.o.KeepAlive/10, time.Millisecond), time.Second)
}

// adopt takes over what an earlier run has left: its connections are gone, its UDP bindings are soon asked. What is gone
// went when it was last known to be here, not now.
func (r *Registrar) adopt(a *account) {
	before := a.list()
	r.track(a, nil, before)
	after := slices.Clone(before)
	for i, d := range before {
		end := r.lastHere(d)
		gone := func(f sip.Flow) bool { return r.dead(f) && !r.foreignFlow(d, f) }
		kept := closed([]Device{d}, gone, "its connection ended with the node", end)
		after[i] = lapsed(kept, r.now(), end)[0]
	}
	r.note(a, before, after)
}

// lastHere is when a device that an earlier run has left as here was last known to be: at that run's last sign of life,
// or its own if that came later.
func (r *Registrar) lastHere(d Device) time.Time {
	end := r.o.LastRun
	for _, b := range d.bindings() {
		if b.Registered.After(end) {
			end = b.Registered
		}
	}
	if now := r.now(); end.After(now) {
		return now
	}
	return end
}

// dead says whether a flow is gone for certain; while no node runs nobody knows.
func (r *Registrar) dead(f sip.Flow) bool { return r.o.Agent != nil && !r.o.Agent.Alive(f) }

// now is the time without its monotonic reading, as it comes back from a store.
func (r *Registrar) now() time.Time { return time.Now().Round(0) }

// submit hands a change of an account to the agent, behind those before it. The caller holds no lock.
func (r *Registrar) submit(a *account, change func(*account)) {
	r.mail.Do(func() { r.turn(a, change) })
}

func (r *Registrar) turn(a *account, change func(*account)) {
	if a.busy {
		a.queue = append(a.queue, change)
		return
	}
	change(a)
}

// proceed goes on with the changes that waited.
func (r *Registrar) proceed(a *account) {
	a.busy = false
	for !a.busy && len(a.queue) > 0 {
		change := a.queue[0]
		a.queue = a.queue[1:]
		change(a)
	}
}

// commit writes the account's devices, which are before, as after and then lets others see them; reply is told how it went in between, so that a
// device has its 200 before anybody calls it.
func (r *Registrar) commit(a *account, before, after []Device, reply func(error)) {
	put, drop := changes(before, after)
	if len(put)+len(drop) == 0 {
		reply(nil)
		return
	}
	a.busy = true
	r.bind(a, put, drop, func(err error) {
		if errors.Is(err, ErrUnsafe) {
			err = nil // the store tells of its trouble, and goes on trying: a phone need not know
		}
		r.mail.Do(func() {
			if err == nil {
				r.publish(a, before, after)
			}
			reply(err)
			if err == nil {
				r.tell(before, after)
			}
			r.proceed(a)
		})
	})
}

// note lets others see at once what has happened to the devices, and writes it: nobody waits for it to be safe.
func (r *Registrar) note(a *account, before, after []Device) {
	put, drop := changes(before, after)
	if len(put)+len(drop) == 0 {
		return
	}
	r.publish(a, before, after)
	r.tell(before, after)
	r.bind(a, put, drop, r.written(a.name))
}

func (r *Registrar) written(user string) func(error) {
	return func(err error) {
		if err != nil && !errors.Is(err, ErrUnsafe) {
			r.log.Error("devices are not stored", "user", user, "err", err)
		}
	}
}

// event carries out a change that a device does not wait for.
func (r *Registrar) event(a *account, change func([]Device) []Device) {
	r.submit(a, func(a *account) {
		before := a.list()
		r.note(a, before, change(before))
	})
}

func (r *Registrar) publish(a *account, before, after []Device) {
	a.replace(before, after)
	r.track(a, before, after)
	r.seen.tell(a.name)
}

// removed ends an account whose user is gone.
func (r *Registrar) removed(a *account) {
	a.gone = true
	before := a.list()
	r.note(a, before, nil)
}

// FlowClosed tells that a connection has closed: what was registered over it is away at once (RFC 5626 §5.3).
func (r *Registrar) FlowClosed(f sip.Flow) {
	r.mail.Do(func() {
		for a := range r.flows[f] {
			r.flowClosed(a, f)
		}
	})
}

func (r *Registrar) flowClosed(a *account, f sip.Flow) {
	r.turn(a, func(a *account) {
		before := a.list()
		gone := func(g sip.Flow) bool { return g == f }
		r.note(a, before, closed(before, gone, "connection closed", r.now()))
	})
}

// Unreachable tells that a device did not answer: it is away until it is heard again.
func (r *Registrar) Unreachable(user, key, why string) {
	r.change(user, func(before []Device) []Device {
		i := byKey(before, key)
		if i < 0 || !before[i].Here() || r.foreign(*before[i].Binding) {
			return before
		}
		used := *before[i].Binding
		return silenced(before, key, used.samePlace, why, r.now())
	})
}

func (r *Registrar) change(user string, change func([]Device) []Device) {
	if a, ok := r.directory.Load().accounts[user]; ok {
		r.event(a, change)
	}
}

// changes are the devices to write and the keys to drop to come from before to after.
func changes(before, after []Device) (put []Device, drop []string) {
	for _, d := range after {
		if i := byKey(before, d.Key); i < 0 || !same(before[i], d) {
			put = append(put, d)
		}
	}
	for _, d := range before {
		if byKey(after, d.Key) < 0 {
			drop = append(drop, d.Key)
		}
	}
	return put, drop
}

func byKey(devices []Device, key string) int {
	return slices.IndexFunc(devices, func(d Device) bool { return d.Key == key })
}
