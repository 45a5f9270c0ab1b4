package sip

import (
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

func (b *inbox) put(r *Response) {
	b.mu.Lock()
	b.mail = append(b.mail, r)
	b.mu.Unlock()
	b.signal()
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
type otherTx struct{ inbox }

func (tx *otherTx) receive(r *Response) { tx.put(r) }

// Do sends a request that is no INVITE and waits for its final answer. The error is nil for a 2xx only; else a
// *StatusError, ErrTimeout, ErrFlowGone, or the cause of ctx.
func (a *Agent) Do(ctx context.Context, out Outgoing) (*Response, error) {
	d, err := a.draft(out)
	if err != nil {
		return nil, err
	}
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

// exchange runs one such transaction: Timer E repeats the request where it can be lost, Timer F gives up.
func (a *Agent) exchange(ctx context.Context, d *draft, method string, data []byte) (*Response, error) {
	flow := d.out.Dialog.Flow
	tx := &otherTx{newInbox()}
	s, key := a.shard(d.out.Dialog.CallID), clientKey{d.branch, method}
	s.mu.Lock()
	s.clients[key] = tx
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.clients, key)
		s.mu.Unlock()
	}()
	gone := a.gone(flow)
	if err := a.send(flow, data); err != nil {
		return nil, err
	}
	interval := a.timing.t1
	e, f := a.repeatTimer(flow), time.NewTimer(a.timing.life())
	defer e.Stop()
	defer f.Stop()
	for {
		select {
		case <-tx.wake:
			for _, r := range tx.take() {
				if r.code >= 200 {
					return outcome(r)
				}
				interval = a.timing.t2
			}
		case <-e.C:
			_ = a.send(flow, data)
			interval = min(2*interval, a.timing.t2)
			e.Reset(interval)
		case <-f.C:
			return nil, ErrTimeout
		case <-gone:
			return nil, ErrFlowGone
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-a.done:
			return nil, errStopped
		}
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
