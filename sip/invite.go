package sip

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// inviteTx is a client transaction of INVITE (RFC 3261 §17.1.1, RFC 6026 §7.2), and what must still be answered after
// its final answer: repeats of that, and the 2xx of other forks.
//
//	calling ──1xx──▶ proceeding ──final──▶ done ──64·T1──▶ forgotten
//	   │ Timer B         │ Timer C, ctx: CANCEL
//	   └────────────▶ done (a late 2xx gets ACK and BYE)
type inviteTx struct {
	// set once
	agent *Agent
	shard *shard
	draft *draft
	again bool // re-INVITE

	// owned by the goroutine that waits
	provisional bool
	told        map[string]uint32 // by To-tag: the RSeq told last
	cancelled   bool              // CANCEL was sent
	reason      []Header          // of the CANCEL

	// guarded by inbox.mu
	inbox
	flow   Flow
	moved  bool // to another flow, and not sent over that yet
	done   bool
	winner string            // To-tag of the 2xx that was returned
	acks   map[string][]byte // by To-tag: the ACK to repeat; nil while the caller has not sent his
}

type inviteKey struct {
	callID, localTag string
	cseq             uint32
}

// Invite sends an INVITE, new or in its dialog, and waits for the final answer; onProvisional is told of every 1xx
// above 100, in order, from the calling goroutine; one with an RSeq is to be acknowledged by PRACK. The error is nil for a 2xx only; else a *StatusError, ErrTimeout,
// ErrFlowGone, or the cause of ctx.
//
// Ending ctx sends CANCEL, as soon as a 1xx allows it (RFC 3261 §9.1), with the Reason of a *CancelReason; Invite
// returns at the final answer or after 5 s. A 2xx that crosses the CANCEL, and that of every further fork, gets ACK
// and BYE from the agent. A 2xx to a re-INVITE that crosses it is returned as what it is: the dialog goes on.
func (a *Agent) Invite(ctx context.Context, out Outgoing, onProvisional func(*Response)) (*Response, error) {
	return a.failover(ctx, out, func(out Outgoing, limit time.Duration) (*Response, error) {
		return a.invite(ctx, out, limit, onProvisional)
	})
}

func (a *Agent) invite(ctx context.Context, out Outgoing, limit time.Duration, onProvisional func(*Response)) (*Response, error) {
	d, err := a.draft(out)
	if err != nil {
		return nil, err
	}
	d.limit = limit
	tx := &inviteTx{
		agent: a, shard: a.shard(out.Dialog.CallID), draft: d, flow: out.Dialog.Flow,
		again: out.Dialog.RemoteTag != "", inbox: newInbox(), acks: make(map[string][]byte),
	}
	r, err := tx.run(ctx, onProvisional)
	if err != nil {
		return nil, fmt.Errorf("INVITE %s: %w", d.uri, err)
	}
	return r, nil
}

func (tx *inviteTx) run(ctx context.Context, onProvisional func(*Response)) (*Response, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	tx.register()
	data := tx.agent.bytes(tx.draft)
	gone := tx.agent.gone(tx.draft.out.Dialog.Flow)
	if err := tx.agent.send(tx.draft.out.Dialog.Flow, data); err != nil {
		tx.finish("")
		return nil, err
	}
	r, err := tx.wait(ctx, data, gone, onProvisional)
	if err == errLeft {
		tx.agent.spawn(func() { tx.linger(tx.agent.gone(tx.way())) })
		return nil, tx.why(ctx)
	}
	return r, err
}

// Withdraw takes back an INVITE that another process has sent, of this node or of another one, by its branch and CSeq: it is cancelled over a
// flow of this node, and what its phone still answers is answered as Invite does, a 2xx by ACK and BYE. The dialog has the flow that the INVITE
// went over, and its node: the CANCEL has the Via of that (RFC 3261 §9.1).
func (a *Agent) Withdraw(out Outgoing, over Flow) error {
	d, err := a.draft(out)
	if err != nil {
		return err
	}
	tx := &inviteTx{
		agent: a, shard: a.shard(out.Dialog.CallID), draft: d, flow: over,
		again: out.Dialog.RemoteTag != "", inbox: newInbox(), acks: make(map[string][]byte), provisional: true,
	}
	a.silence.claim(out.Dialog.CallID)
	tx.register()
	tx.cancel()
	a.spawn(func() { tx.linger(a.gone(tx.flow)) })
	return nil
}

// way is the flow that the transaction is on.
func (tx *inviteTx) way() Flow {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	return tx.flow
}

// Reroute has an INVITE of ours that is not answered yet go on over another flow, because its device is there now: the INVITE is
// repeated over it, and CANCEL takes it too. To the phone it is a repeat, which it answers with what it has said last.
func (a *Agent) Reroute(invite Outgoing, f Flow) {
	s := a.shard(invite.Dialog.CallID)
	s.mu.Lock()
	tx := s.invites[inviteKey{invite.Dialog.CallID, invite.Dialog.LocalTag, invite.CSeq}]
	s.mu.Unlock()
	if tx == nil {
		return
	}
	tx.mu.Lock()
	tx.flow, tx.moved = f, !tx.done
	tx.mu.Unlock()
	tx.signal()
}

// rerouted says, once, that the transaction has another flow.
func (tx *inviteTx) rerouted() (Flow, bool) {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	moved := tx.moved
	tx.moved = false
	return tx.flow, moved
}

// goOn sends again over another flow what is under way, and gives what tells of the end of that flow.
func (tx *inviteTx) goOn(f Flow, data []byte, t *inviteTimers) (gone <-chan struct{}) {
	_ = tx.agent.send(f, data)
	t.back.Stop()
	if t.a.Stop(); !f.reliable() && !tx.provisional {
		t.interval = tx.agent.timing.t1
		t.a.Reset(t.interval)
	}
	if tx.cancelled {
		tx.cancelled = false
		tx.cancel()
	}
	return tx.agent.gone(f)
}

// errLeft says that the caller is gone before the final answer was there.
var errLeft = errors.New("left before the final answer")

// why is what a cancelled INVITE returns.
func (tx *inviteTx) why(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return ErrTimeout
}

// wait is the transaction until its final answer, or until the caller has waited long enough for that.
func (tx *inviteTx) wait(ctx context.Context, data []byte, gone <-chan struct{}, onProvisional func(*Response)) (*Response, error) {
	t := newInviteTimers(tx.agent, tx.draft.out.Dialog.Flow)
	if tx.draft.limit > 0 {
		t.b.Reset(tx.draft.limit)
	}
	defer t.stop()
	cancel := ctx.Done()
	givenUp := false
	giveUp := func() {
		cancel, givenUp, tx.reason = nil, true, reasonOf(ctx)
		t.leave.Reset(tx.agent.timing.cancel)
		if tx.provisional {
			tx.cancel()
		}
	}
	for {
		select {
		case <-tx.wake:
			if r := tx.progress(onProvisional, givenUp); r != nil {
				return tx.final(ctx, r, givenUp || ctx.Err() != nil)
			}
			if f, moved := tx.rerouted(); moved {
				gone = tx.goOn(f, data, t)
			}
			if tx.provisional {
				t.proceed(tx.agent.timing.c, givenUp)
			}
			if tx.provisional && givenUp {
				tx.cancel()
			}
		case <-t.a.C:
			_ = tx.agent.send(tx.way(), data)
			t.again()
		case <-t.b.C:
			if tx.draft.limit > 0 {
				return nil, errLeft // it may still answer, to be told that nobody waits
			}
			tx.finish("")
			return nil, tx.why(ctx)
		case <-t.c.C:
			giveUp()
		case <-cancel:
			giveUp()
		case <-t.leave.C:
			return nil, errLeft
		case <-gone:
			if gone = nil; tx.provisional {
				t.back.Reset(tx.agent.timing.back())
				continue
			}
			tx.finish("")
			return nil, ErrFlowGone
		case <-t.back.C:
			tx.finish("")
			return nil, ErrFlowGone
		case <-tx.agent.done:
			return nil, errStopped
		}
	}
}

// inviteTimers are Timers A, B and C, the time a caller stays after he has cancelled, and the time that a phone which rings and
// whose connection has broken is given to come back by another (Reroute).
type inviteTimers struct {
	a, b, c, leave, back *time.Timer
	interval             time.Duration
}

func newInviteTimers(a *Agent, f Flow) *inviteTimers {
	t := a.timing
	i := &inviteTimers{
		a: a.repeatTimer(f), b: time.NewTimer(t.life()), c: time.NewTimer(t.c), leave: time.NewTimer(t.cancel),
		back: time.NewTimer(t.back()), interval: t.t1,
	}
	i.c.Stop()
	i.leave.Stop()
	i.back.Stop()
	return i
}

// again doubles Timer A.
func (i *inviteTimers) again() {
	i.interval *= 2
	i.a.Reset(i.interval)
}

// proceed is the state after a 1xx: nothing is repeated, and Timer C runs anew unless the INVITE is cancelled.
func (i *inviteTimers) proceed(c time.Duration, givenUp bool) {
	i.a.Stop()
	i.b.Stop()
	if i.c.Stop(); !givenUp {
		i.c.Reset(c)
	}
}

func (i *inviteTimers) stop() {
	for _, t := range []*time.Timer{i.a, i.b, i.c, i.leave, i.back} {
		t.Stop()
	}
}

// progress tells of provisional answers, and returns the first final one.
func (tx *inviteTx) progress(onProvisional func(*Response), quiet bool) *Response {
	all := tx.take()
	for i, r := range all {
		if r.code >= 200 {
			tx.unread(all[i+1:])
			return r
		}
		tx.provisional = true
		if r.code > 100 && onProvisional != nil && !quiet && tx.fresh(r) {
			onProvisional(r)
		}
	}
	return nil
}

// unread puts back what came behind the final answer.
func (tx *inviteTx) unread(rest []*Response) {
	tx.mu.Lock()
	tx.mail = append(rest[:len(rest):len(rest)], tx.mail...)
	tx.mu.Unlock()
}

// final settles the transaction by its final answer.
func (tx *inviteTx) final(ctx context.Context, r *Response, cancelled bool) (*Response, error) {
	switch {
	case r.code >= 300:
		tx.refused(r)
		tx.finish("")
		if cancelled {
			return nil, tx.why(ctx)
		}
		return nil, statusError(r)
	case cancelled && !tx.again:
		tx.hangUp(r)
		tx.finish("")
		return nil, tx.why(ctx)
	}
	tx.finish(r.ToTag())
	return r, nil
}

// linger waits on for the answer to a cancelled INVITE that nobody waits for any more.
func (tx *inviteTx) linger(gone <-chan struct{}) {
	end := time.NewTimer(tx.agent.timing.life())
	defer end.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		select {
		case <-tx.wake:
			if r := tx.progress(nil, true); r != nil {
				tx.settle(ctx, r)
				return
			}
			if tx.provisional {
				tx.cancel()
			}
		case <-end.C:
			tx.finish("")
			return
		case <-gone:
			tx.finish("")
			return
		case <-tx.agent.done:
			return
		}
	}
}

// settle is final for linger: a re-INVITE's 2xx must be ACKed here, as its caller will not.
func (tx *inviteTx) settle(ctx context.Context, r *Response) {
	if res, err := tx.final(ctx, r, true); err == nil {
		_ = tx.agent.Ack(tx.dialog(res), tx.draft.out, Body{})
	}
}

// cancel sends the CANCEL, once; it is a transaction of its own.
func (tx *inviteTx) cancel() {
	if tx.cancelled {
		return
	}
	tx.cancelled = true
	a := tx.agent
	data, d := a.cancel(tx.draft, tx.reason...), *tx.draft
	d.out.Dialog.Flow = tx.way()
	a.spawn(func() { _, _ = a.exchange(context.Background(), &d, "CANCEL", data) })
}

// reasonOf is the Reason header for a context that was cancelled with a CancelReason (RFC 3326).
func reasonOf(ctx context.Context) []Header {
	var reason *CancelReason
	if !errors.As(context.Cause(ctx), &reason) {
		return nil
	}
	return []Header{reason.header()}
}

// register makes the transaction known to the queue and to Ack.
func (tx *inviteTx) register() {
	s := tx.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients[clientKey{tx.draft.branch, "INVITE"}] = tx
	s.invites[tx.key()] = tx
}

func (tx *inviteTx) key() inviteKey {
	d := tx.draft.out.Dialog
	return inviteKey{d.CallID, d.LocalTag, tx.draft.out.CSeq}
}

func (tx *inviteTx) forget() {
	s := tx.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, clientKey{tx.draft.branch, "INVITE"})
	if s.invites[tx.key()] == tx {
		delete(s.invites, tx.key())
	}
}
