package phone

import (
	"fmt"
	"time"
)

// Media is the sound of the call.
func (c *Call) Media() *Media { return c.media }

// Phone is the phone that the call is on.
func (c *Call) Phone() *Phone { return c.phone }

// ID is the dialog's Call-ID.
func (c *Call) ID() string { return c.callID }

// State is how far the call has come.
func (c *Call) State() State {
	c.phone.mu.Lock()
	defer c.phone.mu.Unlock()
	return c.state
}

// Times are the moments of the call.
func (c *Call) Times() Times {
	c.phone.mu.Lock()
	defer c.phone.mu.Unlock()
	return c.times
}

// Invite is the INVITE that began the call.
func (c *Call) Invite() *Message {
	c.phone.mu.Lock()
	defer c.phone.mu.Unlock()
	return c.invite
}

// Final is the final answer to an outgoing call's INVITE, nil before it came.
func (c *Call) Final() *Message {
	c.phone.mu.Lock()
	defer c.phone.mu.Unlock()
	return c.final
}

// Progress are the provisional answers' codes, in order.
func (c *Call) Progress() []int {
	c.phone.mu.Lock()
	defer c.phone.mu.Unlock()
	return append([]int(nil), c.progress...)
}

// Peer is what the other side's SDP said last.
func (c *Call) Peer() Description {
	c.phone.mu.Lock()
	defer c.phone.mu.Unlock()
	return c.peer
}

// Why says how the call ended ("local", "remote", "cancelled", "rejected", "vanished", or an error), and by which message.
func (c *Call) Why() (string, *Message) {
	c.phone.mu.Lock()
	defer c.phone.mu.Unlock()
	return c.why, c.last
}

// Done is closed when the call has ended.
func (c *Call) Done() <-chan struct{} { return c.ended }

// Await waits until the call is answered; a refusal is a *Status.
func (c *Call) Await(limit time.Duration) error {
	select {
	case <-c.up:
		return nil
	case <-c.ended:
		select {
		case <-c.up: // answered, and ended since
			return nil
		default:
		}
		why, last := c.Why()
		if last != nil && last.Code >= 300 {
			return &Status{last}
		}
		return fmt.Errorf("call of %s ended: %s", c.phone.cfg.User, why)
	case <-time.After(limit):
		return fmt.Errorf("call of %s not answered within %s", c.phone.cfg.User, limit)
	}
}

// AwaitACK waits until an incoming call's answer has been acknowledged, which sound may overtake, or the call has ended.
func (c *Call) AwaitACK(limit time.Duration) error {
	select {
	case <-c.acked:
		return nil
	case <-c.ended:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("the answer of %s was not acknowledged within %s", c.phone.cfg.User, limit)
	}
}

// AwaitEnd waits until the call has ended.
func (c *Call) AwaitEnd(limit time.Duration) error {
	select {
	case <-c.ended:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("call of %s is still %s after %s", c.phone.cfg.UserAgent, c.State(), limit)
	}
}

// Hears waits for a frame that the other call's phone sends from now on.
func (c *Call) Hears(other *Call, limit time.Duration) bool {
	_, ok := c.media.Await(time.Now(), limit, func(p Packet) bool { return p.Source == other.media.source })
	return ok
}

// HearsTone waits for a packet that is no numbered frame and no key.
func (c *Call) HearsTone(limit time.Duration) bool {
	_, ok := c.media.Await(time.Now(), limit, func(p Packet) bool { return p.Source == 0 && p.Event == nil })
	return ok
}

// Replaces is the value of a Replaces header that names this dialog to the peer (RFC 3891 §6.1: tags as the peer sees them).
func (c *Call) Replaces() string {
	c.phone.mu.Lock()
	defer c.phone.mu.Unlock()
	return fmt.Sprintf("%s;to-tag=%s;from-tag=%s", c.callID, c.remoteTag, c.localTag)
}

// Keys are those that the phone has made for the call's sound, if it is to be protected by SDES.
func (c *Call) Keys() []Crypto {
	c.phone.mu.Lock()
	defer c.phone.mu.Unlock()
	return c.keys
}
