package sip

import (
	"context"
	"hash/maphash"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"baton/serial"
)

// The dispatcher: message → hash of its Call-ID → one of N ordered queues → transaction → handler. Messages of one
// call are handled in the order they came, those of different calls side by side. Whoever reads a message off the wire
// handles it, unless somebody is at work on its queue.

// shard is one queue with the transactions and dialogs whose Call-ID falls to it.
type shard struct {
	// set once
	agent *Agent
	queue serial.Queue

	// guarded by mu, which is taken last and never held while a message is built or sent
	mu      sync.Mutex
	servers map[string]*serverTx
	merged  map[mergeKey]*serverTx // INVITEs outside dialogs, to see one that came by two ways
	acks    map[ackKey]*serverTx   // INVITEs whose 2xx waits for its ACK
	early   map[ackKey]*serverTx   // INVITEs with provisional answers that want a PRACK
	clients map[clientKey]receiver
	invites map[inviteKey]*inviteTx // INVITEs of ours, for Ack to find
	dialogs map[DialogID]*attached
	expires []expiry // in order of time: all live equally long
}

// receiver takes the responses of one client transaction, on the queue; it must not block.
type receiver interface{ receive(*Response) }

type clientKey struct{ branch, method string }

type expiry struct {
	at time.Time
	fn func()
}

func newShards(a *Agent) []*shard {
	n := 8
	for n < 4*runtime.GOMAXPROCS(0) {
		n *= 2
	}
	all := make([]*shard, n)
	for i := range all {
		all[i] = &shard{
			agent:   a,
			servers: make(map[string]*serverTx), merged: make(map[mergeKey]*serverTx),
			acks: make(map[ackKey]*serverTx), early: make(map[ackKey]*serverTx), clients: make(map[clientKey]receiver),
			invites: make(map[inviteKey]*inviteTx), dialogs: make(map[DialogID]*attached),
		}
		all[i].queue.Guard, all[i].queue.Start, all[i].queue.Limit = a.guard, a.spawn, queueLimit
	}
	return all
}

// queueLimit is how many messages may wait in one queue before more are dropped. What the agent itself posts (never more
// than one or two per transaction) knows no limit.
const queueLimit = 4096

var seed = maphash.MakeSeed()

func (a *Agent) shard(callID string) *shard {
	return a.shards[maphash.String(seed, callID)%uint64(len(a.shards))]
}

// receive takes one message off the wire. What cannot be served is refused here, once and without state.
func (a *Agent) receive(data []byte, flow Flow) {
	defer a.survive()
	m, err := parse(data, flow)
	switch m := m.(type) {
	case *Request:
		s := a.shard(m.callID)
		if !s.queue.Do(func() { s.request(m) }) && !a.over() && a.refusals.allow() {
			a.log.Warn("message dropped: queue is full", "from", flow.String())
		}
	case *Response:
		if err == nil {
			s := a.shard(m.callID)
			s.queue.Do(func() { s.response(m) })
		}
	default:
		a.refuse(err, flow)
	}
}

// refuse answers a request that failed validation; anything else that did is dropped.
func (a *Agent) refuse(err error, flow Flow) {
	r, ok := err.(*refusal)
	a.dropped(flow, err)
	if !ok || r.request.method == "ACK" {
		return
	}
	a.stateless(r.request, Reply{Code: r.code, Headers: r.headers})
}

// refuseFraming answers the message whose end cannot be found; its connection is closed afterwards.
func (a *Agent) refuseFraming(e *framingError, flow Flow) {
	defer a.survive()
	m, err := parse(e.head, flow)
	if r, ok := m.(*Request); ok {
		err = &refusal{code: e.code, why: e.why, request: r}
	}
	if r, ok := err.(*refusal); ok && e.code == 513 { // not because its body is missing
		r.code, r.why = e.code, e.why
	}
	if err != nil {
		a.refuse(err, flow)
	}
}

func (a *Agent) dropped(flow Flow, err error) {
	if a.log.Enabled(context.Background(), slog.LevelDebug) {
		a.log.Debug("message refused", "from", flow.String(), "err", err)
	}
}

// response finds the client transaction of a response (RFC 3261 §17.1.3).
func (s *shard) response(r *Response) {
	s.mu.Lock()
	tx := s.clients[clientKey{r.via.branch(), r.method}]
	s.mu.Unlock()
	if tx != nil {
		tx.receive(r)
	}
}

// later has fn run when a transaction's life is over.
func (s *shard) later(fn func()) {
	s.mu.Lock()
	s.expires = append(s.expires, expiry{time.Now().Add(s.agent.timing.life()), fn})
	s.mu.Unlock()
}

// expire runs what is due.
func (s *shard) expire(now time.Time) {
	s.mu.Lock()
	n := 0
	for n < len(s.expires) && !s.expires[n].at.After(now) {
		n++
	}
	due := s.expires[:n:n]
	s.expires = s.expires[n:]
	if len(s.expires) == 0 {
		s.expires = nil // lets the array go
	}
	s.mu.Unlock()
	for _, e := range due {
		s.agent.guard(e.fn)
	}
}

// stopTimers stops what would otherwise still be repeated after the end.
func (s *shard) stopTimers() {
	s.mu.Lock()
	all := make([]*serverTx, 0, len(s.servers))
	for _, tx := range s.servers {
		all = append(all, tx)
	}
	s.mu.Unlock()
	for _, tx := range all {
		tx.mu.Lock()
		tx.stopTimer()
		tx.mu.Unlock()
	}
}
