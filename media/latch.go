package media

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// Where a peer's packets may come from. Anybody can send to a port; the rules below let a phone behind NAT be heard, and nobody else.
//
//	SDP address        latches, and within 2 s of the answer replaces a source of lower rank
//	signalling IP,     latch while nothing is latched; later only when the source
//	SDP IP             has been silent for 400 ms
//	any other IP       only if the device is behind NAT (its SDP address is not its signalling IP), nothing of the above was heard for
//	                   500 ms, within 2 s of the answer, after 5 packets in sequence; gives way to any of the above at once
//
// An SRTP packet whose tag was verified is the peer's: it latches from any address while nothing is latched, or nothing was heard for 400 ms.
type rank uint8

const (
	nobody rank = iota
	stranger
	known
	announced
)

const (
	latchSilence  = 400 * time.Millisecond // before another source of the same IP is believed
	latchWindow   = 2 * time.Second        // after an answer, in which the source may still become a better one
	strangerWait  = 500 * time.Millisecond // for the addresses that were announced
	strangerProof = 5                      // packets in sequence
	stragglers    = 200 * time.Millisecond // for which packets of the source before a change of address are ignored
)

// latch is owned by the reader; source is for those who send.
type latch struct {
	source atomic.Pointer[latched] // nil = none yet

	terms *terms // what it was opened for
	told  *terms // for which the call was told of the first packet
	from  netip.AddrPort
	rank  rank
	last  time.Duration  // when from was heard
	was   netip.AddrPort // the source before the address changed

	alien netip.AddrPort // a stranger on probation
	ssrc  uint32
	seq   uint16
	proof int
}

// latched is a source, and the terms under which it was found.
type latched struct {
	from  netip.AddrPort
	terms *terms
}

// admit says whether a packet from this address is the peer's, and latches.
func (s *Stream) admit(t *path, p *packet, from netip.AddrPort) bool {
	if s.ice != nil {
		return true // it came on a validated pair, and was verified
	}
	l := &s.ear.latch
	if l.terms != t.terms {
		l.reopen(t.terms)
	}
	if from == l.from {
		l.last = p.now
		return true
	}
	if !l.believe(t, p, from) {
		return false
	}
	l.from, l.rank, l.last = from, t.rankOf(from), p.now
	l.source.Store(&latched{from, t.terms}) // allocates, once for every new source
	s.line.unfollow()                       // what is sent goes there from now on
	return true
}

// reopen takes new terms. The source stays latched while the peer's address in SDP does, so that a phone behind NAT goes on
// hearing; it has the rank of the new terms, so that what is heard from the new signalling address takes its place at once.
func (l *latch) reopen(t *terms) {
	old := l.terms
	l.terms, l.proof = t, 0
	switch {
	case old == nil || l.rank == nobody:
	case t.keeps(l.from, old):
		l.rank = t.rankOf(l.from)
	default:
		l.was, l.from, l.rank = l.from, netip.AddrPort{}, nobody
	}
	if t.remote == l.was { // it is announced again, as after a hold by 0.0.0.0
		l.was = netip.AddrPort{}
	}
}

// keeps says whether a source latched under old terms holds under t too.
func (t *terms) keeps(from netip.AddrPort, old *terms) bool {
	return t.remote == old.remote || from == t.remote
}

func (t *terms) rankOf(from netip.AddrPort) rank {
	switch ip := from.Addr(); {
	case from == t.remote:
		return announced
	case ip == t.peer, ip == t.remote.Addr():
		return known
	}
	return stranger
}

// believe says whether a new source replaces the present one.
func (l *latch) believe(t *path, p *packet, from netip.AddrPort) bool {
	r, since := t.rankOf(from), p.now-t.at
	switch {
	case p.verified && l.rank == nobody:
		return from != l.was || since >= stragglers
	case r == stranger && p.verified:
		return p.now-l.last >= latchSilence
	case r == stranger:
		return l.rank == nobody && l.believeStranger(t, p, from, since)
	case l.rank == stranger:
		return true
	case from == l.was && since < stragglers:
		return false
	case l.rank == nobody:
		return true
	case r > l.rank && since < latchWindow:
		return true
	}
	return p.now-l.last >= latchSilence
}

func (l *latch) believeStranger(t *path, p *packet, from netip.AddrPort, since time.Duration) bool {
	if since < strangerWait || since > latchWindow || t.remote.Addr() == t.peer || t.index[p.pt] == 0 {
		return false
	}
	if from != l.alien || p.ssrc != l.ssrc || p.seq != l.seq+1 {
		if from != l.alien && l.proof > 1 {
			return false // one candidate at a time
		}
		l.alien, l.ssrc, l.proof = from, p.ssrc, 0
	}
	l.seq = p.seq
	l.proof++
	return l.proof >= strangerProof
}

// dest is where to send RTP: the latched source (RFC 4961), until there is one the SDP address; with ICE the pair that was nominated.
func (s *Stream) dest(t *terms) netip.AddrPort {
	if s.ice != nil {
		return s.ice.dest()
	}
	if l := s.ear.latch.source.Load(); l != nil && t.keeps(l.from, l.terms) {
		return l.from
	}
	return t.remote
}
