package media

import (
	"encoding/binary"
	"time"
)

// event is a telephone-event (RFC 4733 §2.3) that has been begun on a line and not ended.
type event struct {
	open     bool
	pt       uint8
	code     uint8
	volume   uint8
	duration uint16 // ticks
	ts       uint32 // of the line
	was      uint32 // the same at the source
	rate     uint32
	at       time.Duration // when its last packet was sent
}

// eventStale is how long after its last packet an event is taken for ended, its end packets lost.
const eventStale = 200 * time.Millisecond

// note keeps the state of the event that p belongs to.
func (v *event) note(p *packet, pt uint8, ts uint32) {
	b := p.buf[p.body:p.end]
	if !p.event || len(b) < 4 {
		return
	}
	*v = event{
		open: b[1]&0x80 == 0, pt: pt, code: b[0], volume: b[1] & 0x3f,
		duration: binary.BigEndian.Uint16(b[2:]), ts: ts, was: p.ts, rate: p.rate, at: p.now,
	}
}

// going says whether the event is still being sent.
func (v *event) going(now time.Duration) bool { return v.open && now-v.at <= eventStale }

// endEvent ends an event whose source is about to be left: three end packets (RFC 4733 §2.5.1.4), or the far side would hear the key
// until its own timeout.
func (l *line) endEvent(now time.Duration) {
	v := &l.event
	if !v.open {
		return
	}
	v.open = false
	if now-v.at > eventStale || !l.open() {
		return
	}
	v.duration = uint16(min(int64(v.duration)+ticks(now-v.at, v.rate), 0xffff))
	for range 3 {
		l.sendEvent(*v, false, now)
	}
}

// sendEvent writes a packet of a telephone-event as the line's next; one that is not open is an end packet.
func (l *line) sendEvent(v event, marker bool, now time.Duration) {
	b := l.scratch(16)
	l.seq++
	putHeader(b, v.pt, marker, l.seq, v.ts, l.ssrc.Load())
	b[12], b[13] = v.code, v.volume
	if !v.open {
		b[13] |= 0x80
	}
	binary.BigEndian.PutUint16(b[14:], v.duration)
	l.write(b, now)
}
