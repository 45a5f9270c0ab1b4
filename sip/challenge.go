package sip

import (
	"net/netip"
	"sync"
)

// A challenge is answered once and forgotten (RFC 3261 §8.2.7): its receiver may be the victim of a forged address. If it is
// lost, the INVITE is repeated and challenged again, but seven times at most in Timer B: where three datagrams of ten are
// lost, one call of a hundred would fail by that. To a device's own address, which it has proved when it registered, the
// challenge of an INVITE is repeated until its ACK, as any final answer is (§17.2.1). There is one such at a time for each
// address, so that who forges it has a dozen datagrams in half a minute sent there, and no more.

// challenges are the INVITEs whose challenge is repeated, by where it goes.
type challenges struct {
	mu sync.Mutex
	by map[netip.AddrPort]*serverTx
}

// challenge asks for credentials.
func (s *shard) challenge(r *Request, rep Reply) {
	if r.method != "INVITE" || r.flow.reliable() || s.agent.opt.Registered == nil || !s.agent.opt.Registered(r.from.URI.User, r.flow) {
		s.stateless(r, rep)
		return
	}
	x := s.agent.challenges.begin(s, r)
	if x == nil {
		s.stateless(r, rep)
		return
	}
	_ = x.Respond(rep)
}

// begin opens a transaction for a challenge; nil while another one at the same address waits for its ACK.
func (c *challenges) begin(s *shard, r *Request) *Exchange {
	at := r.flow.Remote
	c.mu.Lock()
	defer c.mu.Unlock()
	if was := c.by[at]; was != nil && was.waits() {
		return nil
	}
	x := s.begin(r)
	c.by[at] = x.tx
	s.later(func() { c.forget(at, x.tx) })
	return x
}

func (c *challenges) forget(at netip.AddrPort, tx *serverTx) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by[at] == tx {
		delete(c.by, at)
	}
}

// waits says that the transaction has not been acknowledged and not been given up.
func (tx *serverTx) waits() bool {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	return tx.state == proceeding || tx.state == completed
}
