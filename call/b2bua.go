// Package call is the back-to-back user agent: it connects seats, moves their legs between devices and ends them. It
// reads no sockets: SIP goes through package sip, audio through package media.
package call

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"baton/config"
	"baton/journal"
	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// Options is what a B2BUA works with.
type Options struct {
	Config    config.Call
	Codes     config.Codes
	Media     config.Media
	Rights    Rights
	Domain    string // host part shown to phones; "" = the address of the route to each
	Node      string
	Owner     string // name in the store, which other nodes share; "" = it is this node's alone
	Agent     *sip.Agent
	Engine    *media.Engine
	Registrar *registrar.Registrar
	Store     Store
	Journal   journal.Journal
	Secret    []byte    // seals the keys in records; what another has sealed cannot be opened
	LastRun   time.Time // when a node last ran on the store before this one; zero = not known
	Log       *slog.Logger

	// CutOff says that other nodes may have this node's calls by now: nobody begins anything in them here. nil = never.
	CutOff func() bool
}

// B2BUA owns all calls of a node.
type B2BUA struct {
	Options

	vault vault // set once

	stop context.CancelFunc
	ctx  context.Context // exchanges' context: outlives Run's by the time that BYEs take

	changes  changes
	blocked  blocked
	messages messages
	reports  reports
	notifier *notifier
	roster   roster

	mu       sync.Mutex // guards what follows
	calls    map[string]*Call
	dialogs  dialogIndex
	begun    map[string]int // calls by the user who began them
	draining bool
	running  sync.WaitGroup // agents, and records to be deleted
	live     sync.WaitGroup // calls

	patience  atomic.Int64 // time.Duration that an act waits for the store
	restored  atomic.Bool
	keep      atomic.Bool                                   // calls are kept for the next run
	successor atomic.Pointer[func(id string, epoch uint64)] // told of each call that is let go of then, nil = none
}

// New makes a B2BUA; Run must be called for calls to be ended with the node.
func New(o Options) *B2BUA {
	b := &B2BUA{Options: o, vault: newVault(o.Secret), calls: map[string]*Call{}, dialogs: dialogIndex{live: map[string][]dialogOwner{}}, begun: map[string]int{}}
	b.ctx, b.stop = context.WithCancel(context.Background())
	b.patience.Store(int64(patience))
	b.notifier = newNotifier(b)
	return b
}

// drainPatience is how long a stopping node waits for its phones to answer their BYEs.
const drainPatience = 5 * time.Second

// Run goes on with the calls (Restore) and subscriptions that an earlier run has left, then blocks until ctx ends and refuses new calls with 503.
// The others it hangs up, within five seconds; after Keep it leaves them for the next run, within one. The agent and the engine must run longer
// than it.
func (b *B2BUA) Run(ctx context.Context) error {
	defer b.notifier.close()
	defer b.stop()
	if err := b.Restore(); err != nil {
		return err
	}
	if err := b.notifier.load(); err != nil {
		return fmt.Errorf("read the subscriptions of an earlier run: %w", err)
	}
	<-ctx.Done()
	b.drain()
	b.notifier.finish()
	return nil
}

// Keep has Run leave the calls as they are when it ends: their phones are told nothing, and the next run goes on with them.
func (b *B2BUA) Keep() { b.keep.Store(true) }

// HandOver is Keep where other nodes live: each call that this one has let go of is told to hand, whose receiver claims it under the epoch that is
// named and goes on with it at once. Calls are let go of one after the other, so that none waits long. hand must not block.
func (b *B2BUA) HandOver(hand func(id string, epoch uint64)) {
	b.successor.Store(&hand)
	b.Keep()
}

func (b *B2BUA) drain() {
	b.mu.Lock()
	b.draining = true
	b.mu.Unlock()
	if b.keep.Load() {
		b.keepAll()
		return
	}
	b.each(func(c *Call) { c.end("baton was stopped") })
	last := time.AfterFunc(drainPatience*4/5, func() { b.each((*Call).byeWithoutACK) })
	defer last.Stop()
	over := time.AfterFunc(drainPatience, func() {
		b.stop()
		b.each((*Call).closeAll)
	})
	defer over.Stop()
	b.running.Wait()
}

// each runs f in the agent of every call.
func (b *B2BUA) each(f func(*Call)) {
	b.mu.Lock()
	calls := b.list()
	b.mu.Unlock()
	for _, c := range calls {
		c.post(func() { f(c) })
	}
}

// byeWithoutACK hangs up the phones that have not acknowledged our 2xx: there is no more time to wait.
func (c *Call) byeWithoutACK() {
	for _, l := range c.legs {
		if l.byeLater {
			l.byeLater, l.acked = false, true
			c.bye(l)
		}
	}
}

// owns says whether what is stored under the name of an owner is this node's to go on with.
func (b *B2BUA) owns(owner string) bool { return owner == "" || b.Owner == "" || owner == b.Owner }

// deleteRecord takes an ended call out of the store; when that fails it is tried again, ever more seldom. tried is called
// after the first try.
func (b *B2BUA) deleteRecord(id string, epoch uint64, pause time.Duration, tried func()) {
	b.Store.End(id, epoch, func(err error) {
		if err != nil && !errors.Is(err, ErrStale) && !errors.Is(err, ErrUnsafe) && b.ctx.Err() == nil {
			b.Log.Warn("delete the call's record", "call", id, "err", err)
			time.AfterFunc(pause, func() { b.deleteRecord(id, epoch, min(2*pause, time.Minute), func() {}) })
		}
		tried()
	})
}

// start makes c one of the node's calls; first is what its agent does first. Where it cannot be one it gives back what c
// holds, and says why.
func (b *B2BUA) start(c *Call, first func()) error {
	if err := b.enter(c); err != nil {
		for _, l := range c.legs {
			l.unfollow()
			l.stream.Close()
		}
		return err
	}
	c.do(func() {
		if c.state == StateSetup { // the node may have begun to stop meanwhile
			first()
		}
	})
	return nil
}

// enter takes c in, unless the node is draining or has as many calls as it may, or its user has begun as many calls as one may. That user is named at the
// beginning: who transfers a call away has begun it all the same, and whoever is only called has not.
func (b *B2BUA) enter(c *Call) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.by = c.seats[0].user.Name
	switch limit := b.Config.PerUser; {
	case b.draining:
		return refusal(503, "baton is stopping")
	case b.Config.Capacity > 0 && len(b.calls) >= b.Config.Capacity:
		return refusal(503, fmt.Sprintf("this node has %d calls, and may have no more (call.capacity)", len(b.calls)))
	case limit > 0 && b.begun[c.by] >= limit:
		return refusal(403, fmt.Sprintf("%s has begun %d calls that are not over, and may have no more (call.per_user)", c.by, limit))
	}
	b.admit(c)
	return nil
}

// admit takes c in. mu is held. The log of all nodes tells who had which call under which epoch, from when to when: see test/faults.
func (b *B2BUA) admit(c *Call) {
	c.log.Debug("call is owned", "epoch", c.epoch)
	b.begun[c.by]++
	b.calls[c.id] = c
	b.roster.enter(c)
	b.running.Add(1)
	b.live.Add(1)
}

func (b *B2BUA) forget(c *Call) {
	defer func() { b.changes.tell(c.public.Load(), nil) }()
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.live.Done()
	c.log.Debug("call is let go", "epoch", c.epoch)
	delete(b.calls, c.id)
	b.roster.leave(c)
	if b.begun[c.by]--; b.begun[c.by] <= 0 {
		delete(b.begun, c.by)
	}
}

// list returns the calls, oldest first. mu is held.
func (b *B2BUA) list() []*Call {
	calls := make([]*Call, 0, len(b.calls))
	for _, c := range b.calls {
		calls = append(calls, c)
	}
	slices.SortFunc(calls, older)
	return calls
}

// older orders calls by their age.
func older(x, y *Call) int { return x.started.Compare(y.started) }

// ErrNoCall says that no live call fits what was asked for.
var ErrNoCall = errors.New("no such live call")

// find resolves a call id that may be abbreviated.
func (b *B2BUA) find(id string) (*Call, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []*Call
	for _, c := range b.list() {
		if c.id == id {
			return c, nil
		}
		if id != "" && strings.HasPrefix(c.id, id) {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("%w: %q (list them with \"baton calls\")", ErrNoCall, id)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%w: %q fits %d calls, give more of the id", ErrNoCall, id, len(found))
}

// newID makes the 8 letters and digits that name a call or leg.
func newID() string {
	var b [5]byte
	_, _ = rand.Read(b[:])
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

// Debug counts what a node holds, so that a leak shows.
func (b *B2BUA) Debug() (calls, dialogs int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.calls), b.dialogs.size()
}
