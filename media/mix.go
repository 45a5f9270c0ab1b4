package media

import (
	"slices"
	"sync/atomic"
	"time"
)

// The mix: what several streams hear, added together for a peer that only listens. It is a source of that peer's line like a tone, paced
// by the line's clock, so that numbers and timestamps stay one line whoever speaks or is silent:
//
//	receive → tap → pool ─┐
//	receive → tap → pool ─┴→ mixer.play: add, saturate, encode → line.offer
//
// A tap decodes G.711 by table into a pool and knows nothing else; a pool has one writer, the reader of its stream's socket, and one
// reader, the mixer. Neither allocates nor waits.

const (
	mixFrame  = 160  // samples of 20 ms at 8 kHz
	poolSize  = 2048 // a power of two
	poolFirst = 320  // samples that must be there before any are taken: the network's jitter
	poolMost  = 960  // with more, the source's clock is ahead, or it came in a burst: what is too old is left out
)

var fromMuTable, fromATable = decoding(fromMu), decoding(fromA)

func decoding(law func(byte) int16) *[256]int16 {
	var t [256]int16
	for i := range t {
		t[i] = law(byte(i))
	}
	return &t
}

// pool holds the samples of one source until they are mixed.
type pool struct {
	in, out atomic.Uint32 // samples written and read, since ever
	over    counter       // packets that found no room
	samples [poolSize]int16
	primed  bool   // owned by the mixer
	ssrc    uint32 // of the newest packet, with its number; owned by the writer
	seq     uint16
}

// follows says whether a packet is newer than all before it: one that came twice or was overtaken would be heard in the wrong place.
func (q *pool) follows(p *packet) bool {
	back := q.seq - p.seq
	if p.ssrc == q.ssrc && back < maxMisorder && q.in.Load() != 0 {
		return false
	}
	q.ssrc, q.seq = p.ssrc, p.seq
	return true
}

// write decodes a payload into the pool.
func (q *pool) write(b []byte, table *[256]int16) {
	in := q.in.Load()
	if uint32(len(b)) > poolSize-(in-q.out.Load()) {
		q.over.inc()
		return
	}
	for i, v := range b {
		q.samples[(in+uint32(i))%poolSize] = table[v]
	}
	q.in.Store(in + uint32(len(b)))
}

// add puts the next frame on top of sum; a source that has none is silent until enough is there again.
func (q *pool) add(sum *[mixFrame]int32) {
	out := q.out.Load()
	n := q.in.Load() - out
	switch {
	case n < mixFrame, !q.primed && n < poolFirst:
		q.primed = false
		return
	case n > poolMost:
		out += n - poolFirst
	}
	q.primed = true
	for i := range sum {
		sum[i] += int32(q.samples[(out+uint32(i))%poolSize])
	}
	q.out.Store(out + mixFrame)
}

// tap is where a stream's packets are copied into a pool: for each codec of its terms the table to decode it by, nil = it cannot be mixed.
type tap struct {
	pool   *pool
	tables []*[256]int16
}

func newTap(q *pool, codecs []heard) tap {
	t := tap{pool: q, tables: make([]*[256]int16, len(codecs))}
	for i, c := range codecs {
		switch {
		case c.Is(pcmu):
			t.tables[i] = fromMuTable
		case c.Is(pcma):
			t.tables[i] = fromATable
		}
	}
	return t
}

// pour copies a packet into the pools that want it.
func (t *path) pour(codec int, p *packet) {
	for i := range t.taps {
		if table := t.taps[i].tables[codec]; table != nil && t.taps[i].pool.follows(p) {
			t.taps[i].pool.write(p.buf[p.body:p.end], table)
		}
	}
}

// mixer is the mix that one stream sends.
type mixer struct {
	source source
	stream *Stream
	pools  atomic.Pointer[[]*pool]
	from   []*Stream // whose pools they are; guarded by engine.mu

	// owned by run
	terms *terms
	law   func(int16) byte
	out   *outgoing
	p     packet
	sum   [mixFrame]int32
}

// Mix sends what the peers of these streams say, added together, on the stream's one line until the next Follow or Play. What the stream's own
// peer says goes nowhere meanwhile. G.711 alone can be mixed.
func (s *Stream) Mix(from ...*Stream) {
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.closed || e.closed {
		return
	}
	s.feed(nil)
	m := s.mixer
	if m == nil {
		m = newMixer(s)
		s.mixer = m
	}
	m.take(from)
	s.rebuild()
	if s.line.next() != &m.source {
		s.line.follow(&m.source, e.clock())
		e.readers.Go(m.run)
	}
}

func newMixer(s *Stream) *mixer {
	return &mixer{source: source{tone: true}, stream: s, p: packet{buf: make([]byte, maxPacket), body: 12, sound: true, rate: 8000}}
}

// take links the mixer to these streams and to no others; under engine.mu. One that stays keeps its pool.
func (m *mixer) take(from []*Stream) {
	var pools []*pool
	for _, f := range m.from {
		if !slices.Contains(from, f) {
			delete(f.taps, m)
			f.rebuild()
		}
	}
	m.from = nil
	for _, f := range from {
		if f == nil || f.closed || slices.Contains(m.from, f) {
			continue
		}
		q := f.taps[m]
		if q == nil {
			q = &pool{}
			if f.taps == nil {
				f.taps = map[*mixer]*pool{}
			}
			f.taps[m] = q
			f.rebuild()
		}
		m.from, pools = append(m.from, f), append(pools, q)
	}
	m.pools.Store(&pools)
}

// unmix ends the mix; under engine.mu. Its goroutine sees that the line has left it.
func (s *Stream) unmix() {
	if s.mixer == nil {
		return
	}
	s.mixer.take(nil)
	s.mixer = nil
	s.rebuild()
}

// run plays until the line has left it for good.
func (m *mixer) run() {
	m.stream.paced("mix", func(due, now time.Duration) (next time.Duration, more bool) {
		if !m.play(due, now) {
			return 0, false
		}
		due += toneFrame
		if missed := (now - due) / toneFrame; missed > 10 { // the machine stood still
			m.p.ts += uint32(missed) * mixFrame
			due += missed * toneFrame
		}
		return due, true
	})
}

// play sends the frame that is due; false once nobody listens any more.
func (m *mixer) play(due, now time.Duration) bool {
	l := &m.stream.line
	if l.cur.Load() != &m.source && l.want.Load() != &m.source {
		return false
	}
	m.choose()
	m.sum = [mixFrame]int32{}
	for _, q := range *m.pools.Load() {
		q.add(&m.sum)
	}
	if m.law == nil {
		return true
	}
	for i, v := range m.sum {
		m.p.buf[12+i] = m.law(int16(max(-32768, min(v, 32767))))
	}
	m.p.end = 12 + mixFrame
	m.p.seq++
	m.p.ts += mixFrame
	m.p.now, m.p.due = now, due
	l.offer(&m.source, &m.p, m.out)
	return true
}

// choose takes the law that the peer wants first.
func (m *mixer) choose() {
	l := &m.stream.line
	l.mu.Lock()
	t := l.terms
	l.mu.Unlock()
	if t == nil || t == m.terms {
		return
	}
	m.terms, m.law = t, nil
	i := slices.IndexFunc(t.send, func(c Codec) bool { return c.Is(pcmu) || c.Is(pcma) })
	if i < 0 {
		return
	}
	m.law = toMu
	if t.send[i].Is(pcma) {
		m.law = toA
	}
	m.out = &outgoing{ok: true, pt: t.send[i].PT, codec: t.send[i]}
}

// Mixable says whether what is sent in these codecs, the first of speech, can be mixed.
func Mixable(codecs []Codec) bool {
	sound := Sound(codecs)
	return len(sound) > 0 && (sound[0].Is(pcmu) || sound[0].Is(pcma))
}

// OnlyG711 returns the PCMU, PCMA and telephone-events of c.
func OnlyG711(c []Codec) []Codec {
	return atSoundRates(slices.DeleteFunc(slices.Clone(c), func(k Codec) bool { return !k.Is(pcmu) && !k.Is(pcma) && !k.event() }))
}
