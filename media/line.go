package media

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// line is the sending half of a stream: one SSRC, one sequence and one timestamp line for life, whoever is heard on it.
type line struct {
	// set once
	stream *Stream
	ssrc   atomic.Uint32 // changed under mu, while nothing was sent yet or the peer has heard another one straight

	cur, want atomic.Pointer[source] // who is sent, and who will be from its next packet on; changed under mu
	first     atomic.Int64           // when the first packet was sent
	base      atomic.Uint32          // its sequence number

	sent, octets counter // payload octets, RFC 3550 §6.4.1
	late, slot   counter // packets not sent: from before the splice; in a slot that is the other source's or a key's
	unsent       counter // refused by the socket; shared

	flow atomic.Pointer[flow] // of the present source, while the kernel sends it; changed under mu

	mu     sync.Mutex // held for one packet; waited for only when two sources meet in the instant of a switch
	terms  *terms     // nil until Apply
	to     netip.AddrPort
	closed bool
	order  order

	// the grid: what was sent last. due is when ts was meant to be sent, at when it was.
	started bool
	seq     uint16
	ts      uint32
	due, at time.Duration
	rate    uint32
	frame   uint32        // ticks between packets
	skew    int64         // ticks by which the source is behind the grid; stays within a frame
	hold    time.Duration // until when the next slot is kept for want
	holds   int           // how often in a row
	back    bool          // the peer has heard its source straight until now (direct.go)

	faithful bool   // its peer may hear a source straight one day
	unnamed  uint32 // the SSRC of what is no source's
	kept     []kept // held back meanwhile, of the present source

	in    incoming
	last  *outgoing // how the last packet left
	event event
	key   *press // being played by the line itself
	own   ownKey
	twins Twins
	gaps  gaps

	sealer *sealer
	buf    []byte // for what cannot be changed in place
}

// incoming is how the present source's numbers become the line's.
type incoming struct {
	broken bool // the source has to be anchored again
	ssrc   uint32
	seq    uint16 // newest
	ts     uint32
	due    time.Duration
	delta  uint32 // between the last two
	reach  int    // how far seq has come since the splice
	seqOff uint16
	tsOff  uint32
}

func (l *line) init(s *Stream) {
	l.stream = s
	l.unnamed = rand.Uint32()
	l.ssrc.Store(l.unnamed)
	l.seq, l.ts = uint16(rand.Uint32N(1<<15)), rand.Uint32() // RFC 3550 §5.1, RFC 3711 §3.3.1: or a lost first packet could cost the whole stream
}

// apply takes what was agreed; a source that was not sent until now is anchored anew.
func (l *line) apply(t *terms, k *sealer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recall()
	l.open()
	l.terms, l.sealer = t, k
}

func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recall()
	l.closed, l.kept = true, nil
	l.cur.Store(nil)
	l.want.Store(nil)
}

// follow makes src the next source; nil stops at once.
func (l *line) follow(src *source, now time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recall()
	l.hold, l.holds = 0, 0
	switch {
	case l.closed:
	case src == nil:
		l.endEvent(now)
		l.giveUp()
		l.cur.Store(nil)
		l.want.Store(nil)
	case src == l.cur.Load():
		l.want.Store(nil)
	default:
		l.want.Store(src)
	}
}

// next is the source of the packets to come: the one that is waited for, else the present one.
func (l *line) next() *source {
	if want := l.want.Load(); want != nil {
		return want
	}
	return l.cur.Load()
}

// offer takes a packet that src delivers, and says whether it was sent (or gave way to a key): only the source that the line follows is, or
// the one it waits for, with which it then switches.
func (l *line) offer(src *source, p *packet, o *outgoing) bool {
	if src != l.cur.Load() && src != l.want.Load() {
		return false
	}
	l.mu.Lock()
	defer l.offered()
	l.order.out = p.out
	if !l.open() {
		return false
	}
	return l.take(src, p, o)
}

// offered ends an offer: what the line sends of its own accord goes straight.
func (l *line) offered() {
	l.order.out = nil
	l.mu.Unlock()
}

// miss takes a packet that the peer could not play: what src sends next is anchored anew, so that no number is missing.
func (l *line) miss(src *source) {
	if src != l.cur.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recall()
	if src == l.cur.Load() {
		l.in.broken = true
	}
}

// open says whether the peer may be sent to, and finds the address. While it may not the source runs on: it is anchored anew afterwards.
func (l *line) open() bool {
	if l.closed || l.terms == nil {
		return false
	}
	l.to = l.stream.dest(l.terms)
	if l.terms.direction.sends() && l.to.IsValid() && l.guarded() {
		return true
	}
	l.in.broken = true
	return false
}

// guarded says that packets are protected as was agreed.
func (l *line) guarded() bool { return l.terms.security == Clear || l.sealer != nil }

func (l *line) take(src *source, p *packet, o *outgoing) bool {
	want := src == l.want.Load()
	switch {
	case !want && src != l.cur.Load():
		return false
	case (p.event || l.key != nil) && l.speaks(p):
		return true
	case want:
		return l.change(src, p, o)
	case l.back && l.mayTakeOver(src, p):
		return l.comeBack(p, o)
	case p.now < l.hold && l.putBy(p, o):
		return true
	case p.now < l.hold:
		l.giveUp()
		l.slot.inc()
		l.in.broken = true // should it have to go on after all, without a number missing
		return false
	}
	if len(l.kept) > 0 {
		l.catchUp(p.now)
	}
	return l.pass(p, o)
}

// pass sends a packet of the present source.
func (l *line) pass(p *packet, o *outgoing) bool {
	switch {
	case l.in.broken || l.strange(p):
		return l.restart(p, o)
	case l.in.late(p.seq):
		l.late.inc()
		return false
	}
	return l.send(p, o, p.marker)
}

// late says whether the packet is older than the splice.
func (in *incoming) late(seq uint16) bool {
	back := int(int16(in.seq - seq))
	return back > in.reach
}

// send writes the packet as the line's next.
func (l *line) send(p *packet, o *outgoing, marker bool) bool {
	seq, ts := p.seq+l.in.seqOff, p.ts+l.in.tsOff
	b := l.payload(p, o)
	putHeader(b, o.pt, marker, seq, ts, l.ssrc.Load())
	l.write(b, p.now)
	l.advance(p, seq, ts)
	l.event.note(p, o.pt, ts)
	if p.sound {
		l.last = o
	}
	return true
}

// payload returns a packet of a bare header and the payload, converted where it must be. The header takes the place before the payload, so
// that nothing is copied; the next sink finds all it needs in p.
func (l *line) payload(p *packet, o *outgoing) []byte {
	b := p.buf[p.body-12 : p.end]
	if o.table == nil {
		return b
	}
	out := l.scratch(len(b))
	for i, v := range b[12:] {
		out[12+i] = o.table[v]
	}
	return out
}

// scratch returns n bytes of the line's own; it allocates once.
func (l *line) scratch(n int) []byte {
	if cap(l.buf) < n {
		l.buf = make([]byte, maxSealed)
	}
	return l.buf[:n]
}

func putHeader(b []byte, pt uint8, marker bool, seq uint16, ts, ssrc uint32) {
	b[0], b[1] = 0x80, pt
	if marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[4:], ts)
	binary.BigEndian.PutUint32(b[8:], ssrc)
}

// write protects and sends a packet.
func (l *line) write(b []byte, now time.Duration) {
	if l.stream.mute(now) {
		l.unsent.share()
		return
	}
	seq, octets := binary.BigEndian.Uint16(b[2:]), uint64(len(b)-12)
	if l.sealer != nil {
		var ok bool
		if b, ok = l.sealer.seal(l.scratch(maxPacket)[:0], b); !ok {
			l.late.inc()
			return
		}
	}
	l.order.send(l.stream.rtp, b, l.to, &l.unsent)
	l.sent.inc()
	l.octets.add(octets)
	l.gaps.sent(now)
	if l.first.Load() == 0 {
		l.base.Store(uint32(seq))
		l.first.Store(int64(now))
	}
	l.at = now
}

// advance moves the grid and what is known of the source to the packet just sent.
func (l *line) advance(p *packet, seq uint16, ts uint32) {
	if int16(seq-l.seq) > 0 {
		l.seq = seq
	}
	if int32(ts-l.ts) > 0 || !l.started {
		l.ts, l.due = ts, p.due
	}
	l.started = true
	step := int(int16(p.seq - l.in.seq))
	if step <= 0 {
		return
	}
	if delta := p.ts - l.in.ts; step == 1 && p.sound {
		l.learn(delta)
	}
	l.in.seq, l.in.ts, l.in.due = p.seq, p.ts, p.due
	l.in.reach = min(l.in.reach+step, 1<<14)
}

// learn takes a packet time that was seen twice running.
func (l *line) learn(delta uint32) {
	if delta == l.in.delta && delta >= l.rate/400 && delta <= l.rate/8 {
		l.frame = delta
	}
	l.in.delta = delta
}

// clockAt returns the line's timestamp at a time, for sender reports and what the line makes itself.
func (l *line) clockAt(now time.Duration) uint32 {
	return l.ts + uint32(ticks(now-l.due, max(l.rate, 1)))
}

// codec names what is sent; under mu.
func (l *line) codec() string {
	if l.last == nil {
		return ""
	}
	return l.last.codec.rtpmap()
}
