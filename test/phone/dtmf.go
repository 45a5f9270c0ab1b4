package phone

import (
	"encoding/binary"
	"strings"
	"time"
)

// Event is the payload of one telephone-event packet (RFC 4733 §2.3).
type Event struct {
	Digit    byte // '0'-'9', '*', '#', 'A'-'D'
	End      bool
	Duration uint16 // in ticks of the RTP clock
}

const digits = "0123456789*#ABCD"

// eventOut is a key that is being pressed.
type eventOut struct {
	code     byte
	ts       uint32
	started  bool
	duration uint16
	until    uint16
	step     uint16 // ticks of a frame
	ends     int
	done     chan struct{}
}

// Press sends the digit as a telephone-event for about that long and returns when its last end packet has gone.
func (m *Media) Press(digit byte, long time.Duration) {
	i := strings.IndexByte(digits, digit)
	m.mu.Lock()
	step := m.keyStep()
	e := &eventOut{code: byte(i), until: uint16(long / Frame * time.Duration(step)), step: step, done: make(chan struct{})}
	m.event = e
	m.mu.Unlock()
	select {
	case <-e.done:
	case <-time.After(long + 5*time.Second):
	}
}

// keyStep are the ticks of a frame by the clock of the keys.
func (m *Media) keyStep() uint16 { return uint16(max(m.keys.Rate, 8000) / 50) }

// sendEvent writes the next packet of the key being pressed; 0 if none is.
func (m *Media) sendEvent(b []byte) int {
	e := m.event
	if e == nil {
		return 0
	}
	marker := !e.started
	if marker {
		e.started, e.ts = true, m.tsNow(m.codec.Rate)
	}
	e.duration = min(e.duration+e.step, e.until)
	m.header(b, m.keys.PT, marker, e.ts)
	b[12], b[13] = e.code, 10
	binary.BigEndian.PutUint16(b[14:], e.duration)
	if e.duration == e.until {
		b[13] |= 0x80
		e.ends++
	}
	if e.ends == 3 {
		m.event, m.fresh = nil, true
		close(e.done)
	}
	return 16
}

func readEvent(b []byte) *Event {
	if len(b) < 4 || int(b[0]) >= len(digits) {
		return nil
	}
	return &Event{Digit: digits[b[0]], End: b[1]&0x80 != 0, Duration: binary.BigEndian.Uint16(b[2:])}
}

// Keys are the digits pressed, one for each event that was ended.
func Keys(packets []Packet) string {
	var keys []byte
	ended := map[uint32]bool{}
	for _, p := range packets {
		if p.Event != nil && p.Event.End && !ended[p.TS] {
			ended[p.TS] = true
			keys = append(keys, p.Event.Digit)
		}
	}
	return string(keys)
}
