package sip

import (
	"context"
	"fmt"
)

// What a client INVITE still answers after its final answer was returned.

// finish ends the waiting. winner is the To-tag of the 2xx that the caller takes, "" if he takes none.
func (tx *inviteTx) finish(winner string) {
	tx.mu.Lock()
	tx.done, tx.winner = true, winner
	if _, ok := tx.acks[winner]; !ok && winner != "" {
		tx.acks[winner] = nil
	}
	rest := tx.mail
	tx.mail = nil
	tx.mu.Unlock()
	tx.shard.later(tx.forget)
	for _, r := range rest {
		tx.late(r)
	}
}

// receive takes a response on the queue: to who waits, or, after the final answer, by itself.
func (tx *inviteTx) receive(r *Response) {
	tx.mu.Lock()
	waiting := !tx.done
	if waiting {
		tx.add(r)
	}
	tx.mu.Unlock()
	if waiting {
		tx.signal()
		return
	}
	tx.late(r)
}

// late answers what comes after the final answer: a repeat gets its ACK again, the 2xx of another fork ACK and BYE
// (RFC 3261 §13.2.2.4).
func (tx *inviteTx) late(r *Response) {
	if r.code < 200 {
		return
	}
	tx.mu.Lock()
	ack, seen := tx.acks[r.ToTag()]
	tx.mu.Unlock()
	switch {
	case ack != nil:
		_ = tx.agent.send(tx.way(), ack)
	case r.code >= 300:
		tx.refused(r)
	case !seen:
		tx.hangUp(r)
	}
}

// refused sends the ACK of a refusal, and keeps it for repeats.
func (tx *inviteTx) refused(r *Response) {
	ack := tx.agent.ackOf(tx.draft, r)
	tx.keep(r.ToTag(), ack)
	_ = tx.agent.send(tx.way(), ack)
}

func (tx *inviteTx) keep(tag string, ack []byte) {
	tx.mu.Lock()
	tx.acks[tag] = ack
	tx.mu.Unlock()
}

// hangUp ends a dialog that nobody wants: ACK, and BYE unless the dialog was there before.
func (tx *inviteTx) hangUp(r *Response) {
	a := tx.agent
	d := tx.dialog(r)
	ack, err := a.ack(d, tx.draft.out.CSeq, Body{})
	if err != nil {
		a.log.Warn("cannot hang up an unwanted answer", "call", d.CallID, "err", err)
		return
	}
	tx.keep(r.ToTag(), ack)
	_ = a.send(tx.way(), ack)
	if tx.again {
		return
	}
	bye := d.NewRequest("BYE", Body{})
	a.spawn(func() {
		if _, err := a.Do(context.Background(), bye); err != nil {
			a.log.Debug("unwanted answer does not hang up", "call", d.CallID, "err", err)
		}
	})
}

// dialog is the dialog that a 2xx has made.
func (tx *inviteTx) dialog(r *Response) Dialog {
	d := tx.draft.out.Dialog
	d.Flow = tx.way()
	if tx.again {
		d.Refresh(r)
	} else {
		d.Confirm(r)
	}
	return d
}

// Ack sends the ACK of a 2xx to our INVITE; the agent repeats it to every repeat of that 2xx. d is the dialog as the
// 2xx has left it.
func (a *Agent) Ack(d Dialog, invite Outgoing, body Body) error {
	data, err := a.ack(d, invite.CSeq, body)
	if err != nil {
		return fmt.Errorf("ACK: %w", err)
	}
	s := a.shard(d.CallID)
	s.mu.Lock()
	tx := s.invites[inviteKey{d.CallID, d.LocalTag, invite.CSeq}]
	s.mu.Unlock()
	if tx != nil {
		tx.keep(d.RemoteTag, data)
	}
	return a.send(d.Flow, data)
}
