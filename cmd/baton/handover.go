package main

import (
	"encoding/json"

	"baton/call"
	"baton/cluster"
)

// Handing over: a node that stops in good order lets go of its calls one by one, and tells for each the node that goes on with it. What nobody is told of,
// or does not take, is taken over when the node has left (takeover.go).

// kindHandOver is the message that a call is the receiver's to claim.
const kindHandOver = "call.handover"

// handed is a call that a node has let go of.
type handed struct {
	Call  string `json:"call"`
	Epoch uint64 `json:"epoch"`
}

// maxHanded is how many calls may wait to be claimed; more are found in the store.
const maxHanded = 10_000

// keep has the calls live on when the node stops: at other nodes if there are any, else in its next run.
func (n *node) keep() {
	if n.heirs == nil || len(n.heirs.others()) == 0 {
		n.calls.Keep()
		return
	}
	n.calls.HandOver(n.heirs.handOver)
}

// others are the nodes that calls can be handed to now.
func (h *heirs) others() (all []string) {
	for _, p := range h.n.mesh.Peers() {
		if !p.Self && p.Linked && p.State == cluster.Alive && !p.Load.Draining {
			all = append(all, p.ID)
		}
	}
	return all
}

// handOver tells a node of a call that is its own to claim.
func (h *heirs) handOver(id string, epoch uint64) {
	to := heirOf(id, h.others())
	payload, err := json.Marshal(handed{id, epoch})
	if err == nil && to != "" {
		err = h.n.mesh.Send(to, kindHandOver, payload)
	}
	if err != nil {
		h.n.log.Info("call is not handed over; another node finds it when this one has left", "call", id, "node", to, "err", err)
	}
}

// receive takes the message of a node that stops.
func (h *heirs) receive(from string, payload []byte) {
	var m handed
	if err := json.Unmarshal(payload, &m); err != nil {
		h.n.log.Warn("message of another node cannot be read", "node", from, "err", err)
		return
	}
	h.mu.Lock()
	if len(h.handed[from]) < maxHanded {
		h.handed[from] = append(h.handed[from], call.Stored{ID: m.Call, Epoch: m.Epoch})
	}
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// takeHanded claims what has been handed over and goes on with it: all that has come meanwhile, in one go.
func (h *heirs) takeHanded() {
	h.mu.Lock()
	all := h.handed
	h.handed = map[string][]call.Stored{}
	h.mu.Unlock()
	for from, calls := range all {
		mine, err := h.store.ClaimAll(calls, h.n.name())
		if err != nil {
			h.n.log.Warn("claim what was handed over; it is tried again when the node has left", "node", from, "err", err)
			continue
		}
		n := h.n.calls.TakeOver(from, mine...)
		h.n.log.Info("calls of a node are handed over", "node", from, "calls", n, "of", len(calls))
	}
}
