package sip

import "sync"

// queue is an ordered mailbox of closures. What comes from the network is bounded and refused when there is too much;
// what the agent itself posts (never more than one or two per transaction) is not.
type queue struct {
	mu     sync.Mutex
	items  []func()
	wake   chan struct{}
	closed bool
}

// queueLimit is how many messages may wait in one queue before datagrams are dropped.
const queueLimit = 4096

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

// offer adds an item unless the queue is full.
func (q *queue) offer(fn func()) bool {
	q.mu.Lock()
	full := len(q.items) >= queueLimit
	if !full && !q.closed {
		q.items = append(q.items, fn)
	}
	q.mu.Unlock()
	q.signal()
	return !full
}

// post adds an item.
func (q *queue) post(fn func()) {
	q.mu.Lock()
	if !q.closed {
		q.items = append(q.items, fn)
	}
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take waits for items and returns them all, in order; false once the queue is closed.
func (q *queue) take(spare []func()) ([]func(), bool) {
	for {
		q.mu.Lock()
		if q.closed {
			q.mu.Unlock()
			return nil, false
		}
		if len(q.items) > 0 {
			items := q.items
			q.items = spare[:0]
			q.mu.Unlock()
			return items, true
		}
		q.mu.Unlock()
		<-q.wake
	}
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed, q.items = true, nil
	q.mu.Unlock()
	q.signal()
}
