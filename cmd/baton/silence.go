package main

import (
	"context"
	"sync"
	"time"

	"baton/cluster"
	"baton/config"
	"baton/store"
)

// A node that has stood still (its process was stopped, its machine starved or was moved) may have lost its calls to others meanwhile. Agent and engine may
// speak for a second at a time; the watch tells them that they may, again and again. When it finds that it has not for longer than that, it first asks the
// store which calls are still this node's. One that has not reached the store for a while asks it the same, when it is back: others may have taken the calls of
// a node that neither they nor the store have heard of.

const (
	speakTime   = time.Second
	speakEvery  = 100 * time.Millisecond
	askWhose    = time.Second     // for one try
	askPatience = 2 * time.Second // then the node goes on: what is another's is refused at its next write
)

// cutPatience is how long a node must have reached neither the store nor any other node to be cut off: the others may take its calls over later than that.
const cutPatience = 1500 * time.Millisecond

// cut says that this node reaches neither the store nor any of the nodes that it knows. Its calls may be another's by now, and it cannot know: it
// speaks to those phones alone that speak to it.
func (h *heirs) cut() bool { return h.n.store.Healthy() != nil && alone(h.n.mesh.Peers()) }

// alone says that there are other nodes, and that none is reached. Who has said goodbye takes no calls over, nor does one whose machine says that it
// does not run.
func alone(peers []cluster.Peer) (is bool) {
	for _, p := range peers {
		switch {
		case p.Self || p.State == cluster.Left || p.State == cluster.Dead && p.Why == cluster.Refused:
		case p.State == cluster.Alive:
			return false
		default:
			is = true
		}
	}
	return is
}

// cutOff is since when the node moves no call, because others may have them; zero = it does.
func (h *heirs) cutOff() (since time.Time) {
	if at := h.fenced.Load(); at != nil && h.n.config.Store.Degraded != config.DegradedAlone {
		since = *at
	}
	return since
}

// mark notes whether the node is cut off, and says when that begins. Its end is told by back.
func (h *heirs) mark(is bool, since time.Time) {
	h.n.engine.Fence(is)
	switch was := h.fenced.Load(); {
	case !is:
		h.fenced.Store(nil)
	case was == nil:
		h.fenced.Store(&since)
		h.n.log.Warn("this node reaches neither the store nor any other node", "since", since.Format(time.RFC3339), "refuses", !h.cutOff().IsZero())
	}
}

// fence marks whether the node is cut off. since is when that began, zero = it is not. Before it speaks to all again it asks whose its calls are.
func (h *heirs) fence(ctx context.Context, since time.Time) time.Time {
	fenced := !since.IsZero() && time.Since(since) > cutPatience
	cut := h.cut() || fenced && h.n.store.Healthy() != nil // the others do not say whose the calls are
	if cut && since.IsZero() {
		since = time.Now()
	}
	if !cut && fenced {
		h.back(ctx, "was cut off from the store and from all other nodes", time.Since(since))
	}
	h.mark(cut && fenced, since)
	if !cut {
		return time.Time{}
	}
	return since
}

// watch keeps the node speaking until ctx ends.
func (h *heirs) watch(ctx context.Context) error {
	tick := time.NewTicker(speakEvery)
	defer tick.Stop()
	var asked sync.WaitGroup
	defer asked.Wait()
	var since time.Time
	for last, well := time.Now(), true; ; {
		was := well
		if well = !h.n.store.HealthySince().IsZero(); well && !was {
			asked.Go(func() { h.regained(ctx) })
		}
		if stood := time.Since(last); stood > speakTime {
			h.back(ctx, "stood still", stood)
		}
		last, since = time.Now(), h.fence(ctx, since)
		h.n.agent.SpeakFor(speakTime)
		h.n.engine.SpeakFor(speakTime)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// ask has the store tell who has these calls.
func (h *heirs) ask(ctx context.Context, ids []string) (owners map[string]store.Owned, err error) {
	for end := time.Now().Add(askPatience); ; {
		try, cancel := context.WithTimeout(ctx, askWhose)
		owners, err = h.store.Owners(try, ids)
		cancel()
		if err == nil || time.Now().After(end) || !pause(ctx, 20*time.Millisecond) {
			return owners, err
		}
	}
}

// back falls silent about all calls that others have by now, after a time in which this node could not know.
func (h *heirs) back(ctx context.Context, what string, long time.Duration) {
	began := time.Now()
	calls, lost, err := h.yieldLost(ctx)
	if err != nil {
		h.n.log.Warn("this node "+what+", and the store does not tell which calls it still has; it goes on with all", "for", long.Round(time.Millisecond).String(), "err", err)
		return
	}
	h.n.log.Warn("this node "+what, "for", long.Round(time.Millisecond).String(), "calls", calls, "lost", lost, "silent", time.Since(began).Round(time.Millisecond).String())
}

// regained is back for a node that did not reach the store alone. Should that fail again, what is another's is refused at its next write.
func (h *heirs) regained(ctx context.Context) {
	if calls, lost, err := h.yieldLost(ctx); err == nil && lost > 0 {
		h.n.log.Warn("others have taken over calls while this node did not reach the store", "calls", calls, "lost", lost)
	}
}

// yieldLost asks whose the calls are, lets go of those of others, and says how many of how many.
func (h *heirs) yieldLost(ctx context.Context) (calls, gone int, err error) {
	mine := h.n.calls.Owned()
	var ids, lost []string
	for id := range mine {
		ids = append(ids, id)
	}
	owners, err := h.ask(ctx, ids)
	if err != nil {
		return 0, 0, err
	}
	for id, epoch := range mine {
		if o := owners[id]; o.Epoch > epoch || o.Owner != "" && o.Owner != h.n.name() {
			lost = append(lost, id)
		}
	}
	h.n.calls.Yield(lost)
	if h.n.calls.Subscriptions() > 0 {
		if stored, err := h.store.Subscriptions(); err == nil {
			h.n.calls.YieldSubscriptions(stored)
		}
	}
	return len(mine), len(lost), nil
}
