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
		duration: binary.BigEndian.Uint16(b[2:]), ts: ts, rate: p.rate, at: p.now,
	}
}

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
	length := min(int64(v.duration)+ticks(now-v.at, v.rate), 0xffff)
	for range 3 {
		b := l.scratch(16)
		l.seq++
		putHeader(b, v.pt, false, l.seq, v.ts, l.ssrc)
		b[12], b[13] = v.code, 0x80|v.volume
		binary.BigEndian.PutUint16(b[14:], uint16(length))
		l.write(b, now)
	}
}
