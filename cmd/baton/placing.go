package main

import (
	"context"
	"encoding/json"
	"maps"
	"sync"
	"time"

	"baton/call"
	"baton/cluster"
	"baton/sip"
)

// Which node serves a new INVITE: the one that has the call which it means; else this one, unless it is full, or has clearly more to do than
// another. Nothing is passed on twice, and who has room asks nobody.

// kindMeant is the question which calls of a node an INVITE may mean.
const kindMeant = "call.meant"

const (
	// meantPatience bounds the wait for other nodes: who says nothing by then has no such call.
	meantPatience = 250 * time.Millisecond
	// assumed is how many calls a node is taken to bear whose call.capacity is not set.
	assumed = 1000
	// clearly is by how much of its capacity a node must be fuller than another before that one is given a call.
	clearly = 0.1
	// unseen is for how long a call that was given away is counted beside what its node tells: three heartbeats.
	unseen = 300 * time.Millisecond
)

// place finds out which node serves a new INVITE (sip.Options.Place).
func (n *node) place(r *sip.Request, decided func(sip.Place)) bool {
	ask, ok := n.calls.AskOf(r)
	if !ok {
		return false
	}
	if others := n.holdersOf(ask); len(others) > 0 {
		go n.seek(ask, others, decided)
		return true
	}
	to := n.roomier(ask)
	if to == "" {
		return false
	}
	decided(sip.Place{Node: to})
	return true
}

// holdersOf are the other nodes that may have the call which an INVITE means.
func (n *node) holdersOf(a call.Ask) []string {
	switch a.Kind {
	case "device":
		return nil
	case "replaces", "pickup":
		return peers{n}.Names()
	}
	all := n.callers.with(a.User)
	if a.Kind == "call" && len(all) == 0 {
		all = n.callers.with(a.At) // what rings there may be taken
	}
	return all
}

// seek asks them, and decides.
func (n *node) seek(a call.Ask, others []string, decided func(sip.Place)) {
	ctx, cancel := context.WithTimeout(context.Background(), meantPatience)
	defer cancel()
	all := n.calls.Find(a)
	payload, err := json.Marshal(a)
	if err != nil {
		n.log.Error("encode what is asked of other nodes", "err", err)
	}
	answers := make([][]call.Found, len(others))
	var wg sync.WaitGroup
	for i, node := range others {
		wg.Go(func() {
			b, err := n.mesh.Call(ctx, node, kindMeant, payload)
			if err == nil {
				err = json.Unmarshal(b, &answers[i])
			}
			if err != nil {
				n.log.Info("node does not say whether it has the call that is meant", "node", node, "err", err)
			}
			for k := range answers[i] {
				answers[i][k].Node = node
			}
		})
	}
	wg.Wait()
	for _, found := range answers {
		all = append(all, found...)
	}
	best, nth, ok := a.Best(all)
	switch {
	case ok:
		decided(sip.Place{Node: best.Node, Dialled: n.calls.Redialled(a, nth)})
	default:
		decided(sip.Place{Node: n.roomier(a)})
	}
}

// meant answers that question.
func (n *node) meant(_ context.Context, _ string, payload []byte) ([]byte, error) {
	var a call.Ask
	if err := json.Unmarshal(payload, &a); err != nil {
		return nil, err
	}
	return json.Marshal(n.calls.Find(a))
}

// roomier is the other node that is to have a new call rather than this one, "" = none is. A code stays, and so does what is on its way when the
// node stops: its phone would not hear what another node says of it.
func (n *node) roomier(a call.Ask) string {
	if a.Kind != "call" && a.Kind != "device" || n.draining.Load() || len(n.calls.Find(a)) > 0 {
		return ""
	}
	own, others := n.carries(), map[string]cluster.Load{}
	for _, p := range n.mesh.Peers() {
		// one that has not told its load yet looks empty, and is given only what has no place here
		if !p.Self && p.Linked && p.State == cluster.Alive && (p.Told || full(own)) {
			others[p.ID] = p.Load
		}
	}
	return n.given.choose(own, others, time.Now())
}

// given counts the calls that were given to other nodes and that these have not told of yet, so that they do not get all of a rush.
type given struct {
	mu sync.Mutex
	at map[string][]time.Time
}

// choose is the node of others that a node with such a load gives a new call, "" = none; it is counted.
func (g *given) choose(own cluster.Load, others map[string]cluster.Load, now time.Time) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	counted := maps.Clone(others)
	for id, load := range others {
		load.Calls += g.recent(id, now)
		counted[id] = load
	}
	to := roomiest(own, counted)
	if to == "" && full(own) { // some are counted twice: nobody is refused for that
		to = roomiest(own, others)
	}
	if to != "" {
		if g.at == nil {
			g.at = map[string][]time.Time{}
		}
		g.at[to] = append(g.at[to], now)
	}
	return to
}

// recent is how many a node has been given lately. mu is held.
func (g *given) recent(id string, now time.Time) int {
	at := g.at[id]
	for len(at) > 0 && now.Sub(at[0]) > unseen {
		at = at[1:]
	}
	if len(at) == 0 {
		delete(g.at, id)
		return 0
	}
	g.at[id] = at
	return len(at)
}

// roomiest is the least loaded of the others that take calls, if the own node is full, or would still have clearly more to do than that one with
// one call more: so two nodes never give each other calls.
func roomiest(own cluster.Load, others map[string]cluster.Load) (best string) {
	for id, load := range others {
		if load.Draining || load.Busy || full(load) {
			continue
		}
		if b := others[best]; best == "" || share(load, 0) < share(b, 0) || share(load, 0) == share(b, 0) && id < best {
			best = id
		}
	}
	if best == "" || !full(own) && share(own, 0) <= share(others[best], 1)+clearly {
		return ""
	}
	return best
}

func full(l cluster.Load) bool { return l.Capacity > 0 && l.Calls >= l.Capacity }

// share is how much of what a node bears it has, with some calls more.
func share(l cluster.Load, more int) float64 {
	capacity := l.Capacity
	if capacity == 0 {
		capacity = assumed
	}
	return float64(l.Calls+more) / float64(capacity)
}
