package sip

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"
)

// inbox hands the responses of one transaction from the queue to the goroutine that waits for them, in order and
// without ever blocking the queue.
type inbox struct {
	mu   sync.Mutex
	mail []*Response
	wake chan struct{}
}

func newInbox() inbox { return inbox{wake: make(chan struct{}, 1)} }

// maxMail is how many responses may wait: a peer that sends more before they are read, 1xx without end, loses them. Half
// of the places are for final ones.
const maxMail = 64

func (b *inbox) put(r *Response) {
	b.mu.Lock()
	b.add(r)
	b.mu.Unlock()
	b.signal()
}

// add keeps a response if there is room. mu is held.
func (b *inbox) add(r *Response) {
	if n := len(b.mail); n < maxMail/2 || r.code >= 200 && n < maxMail {
		b.mail = append(b.mail, r)
	}
}

func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *inbox) take() []*Response {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.mail
	b.mail = nil
	return m
}

// otherTx is a client transaction of anything but INVITE (RFC 3261 §17.1.2).
type otherTx struct {
	// set once
	agent *Agent
	shard *shard
	key   clientKey
	flow  Flow
	gone  <-chan struct{}
	data  []byte

	// owned by the goroutine that waits
	e, f     *time.Timer
	interval time.Duration
	limit    time.Duration // as long as nothing was heard; 0 = none

	inbox
}

func (tx *otherTx) receive(r *Response) { tx.put(r) }

// Do sends a request that is no INVITE and waits for its final answer. The error is nil for a 2xx only; else a
// *StatusError, ErrTimeout, ErrFlowGone, or the cause of ctx. A BYE goes on being repeated after the end of ctx, until it is
// answered or Timer F: a peer that had not heard of it would go on talking for ever.
func (a *Agent) Do(ctx context.Context, out Outgoing) (*Response, error) {
	return a.failover(ctx, out, func(out Outgoing, limit time.Duration) (*Response, error) { return a.do(ctx, out, limit) })
}

func (a *Agent) do(ctx context.Context, out Outgoing, limit time.Duration) (*Response, error) {
	d, err := a.draft(out)
	if err != nil {
		return nil, err
	}
	d.limit = limit
	r, err := a.exchange(ctx, d, out.Method, a.bytes(d))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", out.Method, d.uri, err)
	}
	return r, nil
}

// Size is how long a request will be on the wire, in octets.
func (a *Agent) Size(out Outgoing) (int, error) {
	d, err := a.draft(out)
	if err != nil {
		return 0, err
	}
	return len(a.bytes(d)), nil
}

// exchange runs one such transaction.
func (a *Agent) exchange(ctx context.Context, d *draft, method string, data []byte) (*Response, error) {
	tx := &otherTx{agent: a, flow: d.out.Dialog.Flow, key: clientKey{d.branch, method}, data: data, inbox: newInbox()}
	tx.shard = a.shard(d.out.Dialog.CallID)
	tx.register()
	tx.gone = a.gone(tx.flow)
	if err := a.send(tx.flow, data); err != nil {
		tx.forget()
		return nil, err
	}
	tx.start(d.limit)
	r, err := tx.wait(ctx)
	if err == errLeft {
		err = context.Cause(ctx)
		if method == "BYE" && a.spawn(func() { tx.linger() }) {
			return nil, err
		}
	}
	tx.forget()
	return r, err
}

// start sets the timers: E repeats the request where it can be lost, F gives up, at limit if nothing was heard.
func (tx *otherTx) start(limit time.Duration) {
	tx.limit, tx.interval = limit, tx.agent.timing.t1
	tx.e, tx.f = tx.agent.repeatTimer(tx.flow), time.NewTimer(cmp.Or(limit, tx.agent.timing.life()))
}

// wait is the transaction until its final answer; errLeft says that ctx has ended before.
func (tx *otherTx) wait(ctx context.Context) (*Response, error) {
	for {
		select {
		case <-tx.wake:
			for _, r := range tx.take() {
				if r.code >= 200 {
					return outcome(r)
				}
				tx.interval = tx.agent.timing.t2
				if tx.limit > 0 {
					tx.limit = 0
					tx.f.Reset(tx.agent.timing.life()) // somebody is there
				}
			}
		case <-tx.e.C:
			_ = tx.agent.send(tx.flow, tx.data)
			tx.interval = min(2*tx.interval, tx.agent.timing.t2)
			tx.e.Reset(tx.interval)
		case <-tx.f.C:
			return nil, ErrTimeout
		case <-tx.gone:
			return nil, ErrFlowGone
		case <-ctx.Done():
			return nil, errLeft
		case <-tx.agent.done:
			return nil, errStopped
		}
	}
}

// linger waits on for the answer that nobody waits for any more.
func (tx *otherTx) linger() {
	_, _ = tx.wait(context.Background())
	tx.forget()
}

// register makes the transaction known to the queue.
func (tx *otherTx) register() {
	tx.shard.mu.Lock()
	defer tx.shard.mu.Unlock()
	tx.shard.clients[tx.key] = tx
}

func (tx *otherTx) forget() {
	if tx.e != nil {
		tx.e.Stop()
		tx.f.Stop()
	}
	tx.shard.mu.Lock()
	defer tx.shard.mu.Unlock()
	if tx.shard.clients[tx.key] == tx { // a CANCEL may have been sent anew over another flow
		delete(tx.shard.clients, tx.key)
	}
}

// repeatTimer is Timer A or E: T1 where a request can be lost, else one that never fires.
func (a *Agent) repeatTimer(f Flow) *time.Timer {
	t := time.NewTimer(a.timing.t1)
	if f.reliable() {
		t.Stop()
	}
	return t
}

func outcome(r *Response) (*Response, error) {
	if r.code >= 300 {
		return nil, statusError(r)
	}
	return r, nil
}
