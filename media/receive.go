package media

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"
)

// The way of a packet, in the order of the functions below:
//
//	receive → (unprotect) → parse → admit → heard → forward → line.offer → splice → (protect) → (outbox) → socket
//	                                          └────▶ hearKey, for telephone-events
//
// Nothing here allocates, waits, logs or looks anything up by more than an index.

// packet is what is known of one RTP packet on its way.
type packet struct {
	buf    []byte // whole packet
	body   int    // where the payload starts, at least 12
	end    int    // and ends: padding is cut off
	pt     uint8
	marker bool
	seq    uint16
	ts     uint32
	ssrc   uint32
	now    time.Duration // when it was read
	due    time.Duration // the same, smoothed: when its source means it
	rate   uint32
	event  bool // telephone-event
	sound  bool // speech

	verified bool   // by its tag: it is the peer's, wherever it came from
	out      outbox // of its reader; nil = what is sent goes straight
}

// source is one that a line can follow: a stream's ear, or a tone.
type source struct {
	first, last atomic.Int64 // when it was heard, since its last Apply and at all; engine's clock
	tone        bool
}

// ear is the receiving half of a stream.
type ear struct {
	source source
	inUse  atomic.Pointer[Codec]
	lost   counter

	// owned by the reader
	latch   latch
	steady  steady
	pressed pressed
	keys    counter // telephone-events heard to their end
	fast    fastEar

	reception // RFC 3550 §6.4.1 figures
	drops     drops
}

// receive takes one packet from the RTP socket. What is sent for it goes by the reader's outbox, if there is one.
func (s *Stream) receive(buf []byte, from netip.AddrPort, now time.Duration, out outbox) {
	if isRTCP(buf) {
		s.control(buf, from, now, true) // RFC 5761
		return
	}
	t := s.path.Load()
	switch {
	case !isRTP(buf):
		s.ear.drops.malformed.inc()
		return
	case t == nil, !t.keyed():
		s.ear.drops.early.inc()
		return
	}
	if s.fromKernel(from, now) {
		s.ear.drops.foreign.inc()
		return
	}
	buf, ok := t.unprotect(buf, now)
	if !ok {
		s.ear.drops.forged.inc()
		return
	}
	p := packet{now: now, verified: t.opener != nil, out: out}
	if !p.parse(buf) {
		s.ear.drops.malformed.inc()
		return
	}
	if !s.admit(t, &p, from) {
		s.ear.drops.foreign.inc()
		return
	}
	i := int(t.index[p.pt])
	if i == 0 {
		s.ear.source.last.Store(int64(now))
		s.ear.drops.payload.inc()
		return
	}
	s.heard(t, &t.codecs[i-1], &p)
	s.forward(t, i-1, &p)
	s.toKernel(t, i-1, &p)
	switch k := &s.ear.pressed; {
	case p.event:
		s.hearKey(t, i-1, &p)
		if t.leaves {
			s.tellKey(t)
		}
	case k.over(&p):
		s.tellKey(t)
	}
}

// isRTP says whether b could be RTP: of the right size and version.
func isRTP(b []byte) bool { return len(b) >= 12 && len(b) <= maxPacket && b[0]>>6 == 2 }

// isRTCP tells the two apart on one port (RFC 5761 §4).
func isRTCP(b []byte) bool { return len(b) > 1 && b[1] >= 192 && b[1] <= 223 }

// keyed says that packets can be opened as was agreed.
func (t *path) keyed() bool { return t.security == Clear || t.opener != nil }

// unprotect opens an SRTP packet. Nothing of one that it refuses has been looked at: not even its padding is where it seems to be.
func (t *path) unprotect(b []byte, now time.Duration) ([]byte, bool) {
	if t.opener == nil {
		return b, true
	}
	return t.opener.open(b, now)
}

// parse reads the header (RFC 3550 §5.1); CSRC list, extension and padding are left behind.
func (p *packet) parse(b []byte) bool {
	if !isRTP(b) {
		return false
	}
	p.buf, p.body, p.end = b, 12+4*int(b[0]&15), len(b)
	p.marker, p.pt = b[1]&0x80 != 0, b[1]&0x7f
	p.seq = binary.BigEndian.Uint16(b[2:])
	p.ts, p.ssrc = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	if b[0]&0x10 != 0 {
		if len(b) < p.body+4 {
			return false
		}
		p.body += 4 + 4*int(binary.BigEndian.Uint16(b[p.body+2:]))
	}
	if b[0]&0x20 != 0 {
		p.end -= int(b[len(b)-1])
	}
	return p.body < p.end
}

// heard keeps the figures, and tells the call of the first packet.
func (s *Stream) heard(t *path, c *heard, p *packet) {
	e := &s.ear
	p.rate, p.event, p.sound = c.rate, c.event, c.sound
	p.due = p.now
	if !p.event {
		p.due = e.steady.smooth(p)
	}
	e.reception.count(p)
	if c.sound && e.inUse.Load() != &c.Codec {
		e.inUse.Store(&c.Codec)
	}
	e.source.last.Store(int64(p.now))
	if e.latch.told != t.terms {
		e.latch.told = t.terms
		e.source.first.Store(int64(p.now))
		if to := s.told.Load(); to.heard != nil {
			to.heard(s.engine.wall(p.now))
		}
	}
}

// forward offers the packet to every line that is fed; one that follows somebody else says no.
func (s *Stream) forward(t *path, codec int, p *packet) {
	t.pour(codec, p)
	if t.muted {
		s.ear.drops.muted.inc()
	}
	sent, can := false, false
	for i := range t.sinks {
		k := &t.sinks[i]
		if !k.out[codec].ok {
			k.line.miss(&s.ear.source)
			continue
		}
		can = true
		if k.line.offer(&s.ear.source, p, &k.out[codec]) {
			sent = true
		}
	}
	if sent || len(t.sinks) == 0 {
		return
	}
	if !can {
		s.ear.drops.payload.inc()
	}
	if p.sound {
		s.ear.lost.inc()
	}
}
