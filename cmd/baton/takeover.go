package main

import (
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"baton/call"
	"baton/cluster"
	"baton/store"
)

// Takeover of the calls of a node that is gone (docs/cluster.md). The mesh proves that it is; the store says which calls it had; the nodes that live
// share them by their ids, and who claims one first has it. After some time each takes what is left, whoever should have.

// claimStore is what a store that several nodes have can do beside.
type claimStore interface {
	Left(ctx context.Context, owner string) ([]call.Stored, error)
	ClaimAll(calls []call.Stored, owner string) ([]call.Stored, error)
	Owners(ctx context.Context, ids []string) (map[string]store.Owned, error)
	LastBeat(ctx context.Context, node string) (time.Time, error)
	Subscriptions() ([]call.StoredSubscription, error)
	ClaimSubscriptions(ids []string, from, owner string) ([]call.StoredSubscription, error)
}

const (
	// settled is how long the store must have been well before a node takes over on its word: after a failover all looks dead.
	settled = 3 * time.Second
	// lapsed is how long a node that only says nothing must not have reached the store either.
	lapsed = 3 * time.Second
	// claimBatch calls are claimed in one go, at most one batch in claimPace: 4,000 calls a second, so that their phones are not flooded.
	claimBatch   = 50
	claimPace    = 12500 * time.Microsecond
	listPatience = 5 * time.Second
	// claimRounds is how often what is left is looked for, each claimAgain after the one before.
	claimRounds = 8
	claimAgain  = 2 * time.Second
)

// heirs takes over the calls of nodes that are gone.
type heirs struct {
	n     *node
	store claimStore
	gone  chan cluster.Event

	fenced atomic.Pointer[time.Time] // since when the node is cut off, nil = it is not

	mu     sync.Mutex
	busy   map[string]bool          // by instance
	handed map[string][]call.Stored // by node: what it has handed over and was not claimed yet
	wake   chan struct{}
}

// inherit has the node take calls over, where it has a mesh and a store that others have too.
func (n *node) inherit() {
	s, ok := n.store.(claimStore)
	if n.mesh == nil || !ok {
		return
	}
	h := &heirs{n: n, store: s, gone: make(chan cluster.Event, 256), busy: map[string]bool{}, handed: map[string][]call.Stored{}, wake: make(chan struct{}, 1)}
	n.heirs = h
	n.mesh.Handle(kindHandOver, h.receive)
	n.mesh.Subscribe(func(e cluster.Event) {
		if !e.To.Gone() && !e.To.Ended() || e.Why == cluster.Replaced { // who has come back has taken up what it had
			return
		}
		select {
		case h.gone <- e:
		default:
			n.log.Error("too many nodes are gone at once; the calls of one are not taken over", "node", e.Node.ID)
		}
	})
}

// run takes over until ctx ends.
func (h *heirs) run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-h.gone:
			all.Go(func() { h.inheritFrom(ctx, e) })
		case <-h.wake:
			h.takeHanded()
		}
	}
}

// begin says whether nobody is at work on an instance; end must be called then.
func (h *heirs) begin(instance string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.busy[instance] {
		return false
	}
	h.busy[instance] = true
	return true
}

func (h *heirs) end(instance string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.busy, instance)
}

// inheritFrom takes over from one node.
func (h *heirs) inheritFrom(ctx context.Context, e cluster.Event) {
	if !h.begin(e.Node.Instance) {
		return
	}
	defer h.end(e.Node.Instance)
	log := h.n.log.With("node", e.Node.ID, "why", string(e.Why))
	if err := h.proved(ctx, e); err != nil {
		log.Info("calls of a node are not taken over", "err", err)
		return
	}
	for round := range claimRounds {
		if round > 0 && (!pause(ctx, claimAgain) || !h.stillGone(e.Node)) {
			return
		}
		left, err := h.claimFrom(ctx, e.Node.ID, round > 0)
		if err != nil {
			log.Warn("take over calls", "err", err)
		}
		watches, err2 := h.claimSubscriptions(e.Node.ID, round > 0)
		if err2 != nil {
			log.Warn("take over subscriptions", "err", err2)
		}
		if err == nil && err2 == nil && left+watches == 0 {
			return
		}
	}
	log.Error("calls of a node are left that nobody has taken over")
}

// pause waits; false: ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

var (
	errBack     = errors.New("it is back")
	errOutlived = errors.New("this node stops")
)

// proved waits until it is sure that a node has no calls any more: its process has ended, as its machine says; or it is not heard by anybody and does
// not reach the store. The own store must have been well meanwhile, or all would look dead that it has not heard of.
func (h *heirs) proved(ctx context.Context, e cluster.Event) error {
	well := time.Duration(0)
	if e.To != cluster.Left {
		well = settled
	}
	sure := e.To == cluster.Left || e.Why == cluster.Refused
	var beat, changed time.Time
	for ; ; time.Sleep(100 * time.Millisecond) {
		since := h.n.store.HealthySince()
		switch {
		case ctx.Err() != nil:
			return errOutlived
		case !h.stillGone(e.Node):
			return errBack
		case since.IsZero() || time.Since(since) < well:
			beat = time.Time{}
			continue
		case sure:
			return nil
		}
		ask, cancel := context.WithTimeout(ctx, time.Second)
		now, err := h.store.LastBeat(ask, e.Node.ID)
		cancel()
		switch {
		case err != nil:
			beat = time.Time{}
		case beat.IsZero() || !now.Equal(beat):
			beat, changed = now, time.Now()
		case time.Since(changed) >= lapsed:
			return nil
		}
	}
}

// stillGone says that a node has not come back, as the one it was or as another run.
func (h *heirs) stillGone(node cluster.Node) bool {
	p, ok := h.n.mesh.Peer(node.ID)
	return !ok || p.Instance == node.Instance && (p.State.Gone() || p.State.Ended())
}

// claimFrom claims this node's share of a node's calls, or all, and goes on with them. left is how many calls the node has still.
func (h *heirs) claimFrom(ctx context.Context, dead string, all bool) (left int, err error) {
	began := time.Now()
	ask, cancel := context.WithTimeout(ctx, listPatience)
	calls, err := h.store.Left(ask, dead)
	cancel()
	if err != nil {
		return 0, err
	}
	left = len(calls)
	if !all {
		alive := h.alive()
		calls = slices.DeleteFunc(calls, func(c call.Stored) bool { return heirOf(c.ID, alive) != h.n.name() })
	}
	taken := 0
	for batch := range slices.Chunk(calls, claimBatch) {
		if ctx.Err() != nil {
			return left, errOutlived
		}
		next := time.Now().Add(claimPace)
		mine, err := h.store.ClaimAll(batch, h.n.name())
		if err != nil {
			return left, err
		}
		taken += h.n.calls.TakeOver(dead, mine...)
		time.Sleep(time.Until(next))
	}
	if len(calls) > 0 {
		h.n.log.Info("calls of a node are taken over", "node", dead, "calls", taken, "of", left, "took", time.Since(began).Round(time.Millisecond).String())
	}
	return left - taken, nil
}

// claimSubscriptions is claimFrom for a node's subscriptions: phones that watch others are told by this node from now on.
func (h *heirs) claimSubscriptions(dead string, all bool) (left int, err error) {
	stored, err := h.store.Subscriptions()
	if err != nil {
		return 0, err
	}
	alive, ids := h.alive(), []string(nil)
	for _, s := range stored {
		if s.Owner != dead {
			continue
		}
		if left++; all || heirOf(s.ID, alive) == h.n.name() {
			ids = append(ids, s.ID)
		}
	}
	if len(ids) == 0 {
		return left, nil
	}
	mine, err := h.store.ClaimSubscriptions(ids, dead, h.n.name())
	if err != nil {
		return left, err
	}
	h.n.calls.TakeOverSubscriptions(dead, mine)
	h.n.log.Info("subscriptions of a node are taken over", "node", dead, "subscriptions", len(mine), "of", left)
	return left - len(mine), nil
}

// alive are the nodes that take calls over: this one, and those that live and do not stop.
func (h *heirs) alive() (all []string) {
	for _, p := range h.n.mesh.Peers() {
		if p.Self || p.State == cluster.Alive && !p.Load.Draining {
			all = append(all, p.ID)
		}
	}
	return all
}

// heirOf is the node of several that a call goes to: the same wherever it is asked, and each has its share (rendezvous hashing).
func heirOf(call string, nodes []string) (heir string) {
	var most uint64
	for _, n := range nodes {
		sum := fnv.New64a()
		_, _ = sum.Write([]byte(call + "\x00" + n))
		if v := mixed(sum.Sum64()); heir == "" || v > most || v == most && n < heir {
			heir, most = n, v
		}
	}
	return heir
}

// mixed has all bits of a sum depend on all: FNV's upper ones hardly depend on the last byte.
func mixed(v uint64) uint64 {
	v ^= v >> 33
	v *= 0xff51afd7ed558ccd
	v ^= v >> 33
	v *= 0xc4ceb9fe1a85ec53
	return v ^ v>>33
}
