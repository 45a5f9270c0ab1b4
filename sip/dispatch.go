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
	open    map[*serverTx]time.Time // those of other requests than INVITE that have no final answer yet, and since when
	answers answered                // of those that have
	merged  map[mergeKey]*serverTx  // INVITEs outside dialogs, to see one that came by two ways
	acks    map[ackKey]*serverTx    // INVITEs whose 2xx waits for its ACK
	early   map[ackKey]*serverTx    // INVITEs with provisional answers that want a PRACK
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
			servers: make(map[string]*serverTx), open: make(map[*serverTx]time.Time), merged: make(map[mergeKey]*serverTx),
			acks: make(map[ackKey]*serverTx), early: make(map[ackKey]*serverTx), clients: make(map[clientKey]receiver),
			invites: make(map[inviteKey]*inviteTx), dialogs: make(map[DialogID]*attached),
		}
		all[i].queue.Guard, all[i].queue.Start = a.guard, a.spawn
	}
	return all
}

// queueLimit is how many messages may wait in one queue, queueBytes how long they may be in all queues together, before
// more are dropped. What the agent itself posts (never more than one or two per transaction) knows no limit.
const (
	queueLimit = 4096
	queueBytes = 64 << 20
)

var seed = maphash.MakeSeed()

func (a *Agent) shard(callID string) *shard {
	return a.shards[maphash.String(seed, callID)%uint64(len(a.shards))]
}

// receive takes one message off the wire; data is the caller's again when it returns. What cannot be served is refused here, once and without state.
func (a *Agent) receive(data []byte, flow Flow) { a.read(data, flow, false) }

// read is receive; found says that its node was sought already.
func (a *Agent) read(data []byte, flow Flow, found bool) {
	defer a.survive()
	a.await()
	m, err := parse(data, flow)
	switch m := m.(type) {
	case *Request:
		if a.followed(m, data) || !found && a.sought(m, data) || a.handed(&m.message, m, data) {
			return
		}
		s := a.shard(m.callID)
		a.enqueue(s, len(data), a.share(m), func() { s.request(m) })
	case *Response:
		if err == nil && !a.handed(&m.message, nil, data) {
			s := a.shard(m.callID)
			a.enqueue(s, len(data), a.shareOf(flow), func() { s.response(m) })
		}
	default:
		a.refuse(err, flow)
	}
}

// enqueue has a message handled on its queue, or drops it when its share of the queues is taken: a quarter for strangers,
// three for new requests of those who are known, all for what belongs to a call.
func (a *Agent) enqueue(s *shard, size int, quarters int, handle func()) {
	waiting := &a.limits.waiting
	served := func() {
		waiting.Add(-int64(size))
		handle()
	}
	fits := waiting.Add(int64(size)) <= queueBytes/4*int64(quarters)
	if fits && s.queue.DoBelow(queueLimit/4*quarters, served) {
		return
	}
	waiting.Add(-int64(size))
	if a.over() {
		return
	}
	a.limits.dropped[overQueue].Add(1)
	if more, ok := a.seldom.allow(overQueue.String()); ok {
		a.log.Warn("messages dropped: queue is full", "unsaid", more)
	}
}

const quarter = 1

// shareOf is how much of the queues what comes over a flow may take, in quarters.
func (a *Agent) shareOf(f Flow) int {
	if f.Node != "" || a.limits.knows(f) { // another node has let it pass
		return 4 * quarter
	}
	return quarter
}

// share is shareOf for a request: a new one leaves room for those that belong to a call.
func (a *Agent) share(r *Request) int {
	most := a.shareOf(r.flow)
	if r.ToTag() == "" && r.method != "ACK" && r.method != "CANCEL" {
		most = min(most, 3*quarter)
	}
	return most
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
		s.agent.limits.answered(r.flow)
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
	left := s.overdue(now)
	s.mu.Unlock()
	for _, e := range due {
		s.agent.guard(e.fn)
	}
	for _, tx := range left {
		tx.abandon()
	}
}

// overdue drops the answers that nobody asks for again, and finds the transactions that their handlers have left without one. mu is held.
func (s *shard) overdue(now time.Time) (left []*serverTx) {
	before := now.Add(-s.agent.timing.life())
	s.answers.expire(before)
	for tx, since := range s.open {
		if since.Before(before) {
			left = append(left, tx)
		}
	}
	return left
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
