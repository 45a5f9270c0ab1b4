package media

import (
	"encoding/binary"
	"time"
)

// pressed is the key that was heard last, as telephone-event: one for all packets of its event, however many of them are lost, repeated
// or late. Owned by the reader.
type pressed struct {
	known bool
	told  bool
	ssrc  uint32
	ts    uint32
	codec int
	rate  uint32
	code  uint8
	past  uint32 // ticks of the segments before (RFC 4733 §2.5.1.3)
	ticks uint32 // of this one
	at    time.Duration
}

// keyPast is how far back an event's timestamp may lie to be a late packet of an earlier key, and no new one.
const keyPast = 30 * time.Second

// hearKey takes a packet of a telephone-event, and tells of the key when that has ended.
func (s *Stream) hearKey(t *path, codec int, p *packet) {
	b := p.buf[p.body:p.end]
	if len(b) < 4 || b[0] > LastKey {
		return
	}
	k := &s.ear.pressed
	step := int32(p.ts - k.ts)
	switch {
	case !k.known, p.ssrc != k.ssrc, step < -int32(ticks(keyPast, p.rate)):
		s.tellKey(t)
		k.begin(p, codec, b[0])
	case step < 0:
		return
	case step == 0xffff && !k.told && b[0] == k.code:
		k.past, k.ticks, k.ts = k.past+0xffff, 0, p.ts
	case step > 0:
		s.tellKey(t)
		k.begin(p, codec, b[0])
	}
	k.at = p.now
	k.ticks = max(k.ticks, uint32(binary.BigEndian.Uint16(b[2:])))
	if b[1]&0x80 != 0 {
		s.tellKey(t)
	}
}

func (k *pressed) begin(p *packet, codec int, code uint8) {
	*k = pressed{known: true, ssrc: p.ssrc, ts: p.ts, codec: codec, rate: p.rate, code: code}
}

// over says whether the key must have ended without its end packets: there was speech for a while.
func (k *pressed) over(p *packet) bool {
	return k.known && !k.told && p.sound && p.now-k.at > eventStale
}

// tellKey tells of the key, once, if somebody whom the stream is fed to cannot take its event, or does not follow the stream.
func (s *Stream) tellKey(t *path) {
	k := &s.ear.pressed
	if !k.known || k.told {
		return
	}
	k.told = true
	s.ear.keys.inc()
	if to := s.told.Load(); to.key != nil && (t.aside || t.missed(k.codec)) {
		to.key(Key{k.code, duration(int64(k.past+k.ticks), k.rate)}, int(k.rate))
	}
}

// missed says whether a codec is one that not everybody takes.
func (t *path) missed(codec int) bool {
	for i := range t.sinks {
		if codec < len(t.sinks[i].out) && !t.sinks[i].out[codec].ok {
			return true
		}
	}
	return false
}
