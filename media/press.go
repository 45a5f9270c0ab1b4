package media

import (
	"slices"
	"time"
)

// Key is a key of a telephone that is pressed.
type Key struct {
	Code   uint8         // RFC 4733 §3.2: 0 to 9, 10 for *, 11 for #, 12 to 15 for A to D, 16 for flash
	Length time.Duration // how long it is held down
}

// LastKey is the highest code of a Key.
const LastKey = 16

const (
	keyFrame = 20 * ms          // between two packets of a key
	keyWait  = 10 * time.Second // for a key of the source's own to end
)

// press is a key that a line plays by itself, paced by the clock. Meanwhile its source is not heard (RFC 4733 §2.5.1.2).
type press struct {
	// set once
	stream *Stream
	key    Key
	done   func()
	since  time.Duration // when it was asked for

	// guarded by line.mu
	taken bool   // it is no twin
	terms *terms // for which pt was chosen
	pt    uint8
	rate  uint32 // clock of the event
	ts    uint32 // of the line
	begun time.Duration
	past  int64 // ticks of the segments before this one (RFC 4733 §2.5.1.3)
	ends  int   // end packets sent
}

// Press plays a key to the peer as a telephone-event (RFC 4733) on the stream's one line, and calls done when it is over, or cannot be any
// more; done must not block. False: nothing is played, because the peer takes no telephone-event or wants to hear nothing. A key that
// the line's source has just sent as a telephone-event itself is not played again: some phones tell each key both ways.
func (s *Stream) Press(k Key, done func()) bool {
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.closed || e.closed || s.terms == nil || !s.terms.direction.sends() || !slices.ContainsFunc(s.terms.send, Codec.event) {
		return false
	}
	p := &press{stream: s, key: k, done: done, since: e.clock()}
	e.readers.Go(p.run)
	return true
}

// run plays the key to its end.
func (p *press) run() {
	defer p.done()
	p.stream.paced("key", func(due, now time.Duration) (next time.Duration, more bool) {
		more = p.stream.line.play(p, due, now)
		return max(due+keyFrame, now-keyFrame), more // later only when the machine stood still
	})
}

// play sends the packet of p that is due; false when there is no more.
func (l *line) play(p *press, due, now time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recall()
	more := l.open() && l.playing(p, due, now)
	if !more && l.key == p {
		l.key = nil
	}
	return more
}

func (l *line) playing(p *press, due, now time.Duration) bool {
	if l.key == p {
		if !l.keeps(p) {
			l.cutKey(p, due, now)
			return false
		}
		return l.sendKey(p, due, now)
	}
	switch {
	case !p.taken && l.twins.Take(p.key.Code, false, p.since, now+p.key.Length):
		return false
	case l.key != nil, l.event.going(now): // one after the other
		p.taken = true
		return now-p.since < keyWait
	case !l.begins(p, due):
		return false
	}
	return l.sendKey(p, due, now)
}

// begins gives the key the line's next slot.
func (l *line) begins(p *press, due time.Duration) bool {
	c, ok := l.eventCodec()
	if !ok {
		return false
	}
	l.claim(due, uint32(c.Rate))
	p.terms, p.pt, p.rate, p.ts, p.begun = l.terms, c.PT, uint32(c.Rate), l.ts, due
	l.giveUp()
	l.key, l.in.broken = p, true
	return true
}

// keeps says whether the key can go on: after a new agreement it may have another payload type.
func (l *line) keeps(p *press) bool {
	if p.terms == l.terms {
		return true
	}
	c, ok := l.eventCodec()
	if !ok || uint32(c.Rate) != p.rate {
		return false
	}
	p.terms, p.pt = l.terms, c.PT
	return true
}

// cutKey ends a key whose clock is no longer agreed to, by the payload type that it has had: the peer still knows that (RFC 3264 §8.3).
func (l *line) cutKey(p *press, due, now time.Duration) {
	length := min(ticks(due-p.begun, p.rate), ticks(p.key.Length, p.rate)) - p.past
	for range 3 - p.ends {
		l.sendEvent(event{pt: p.pt, code: p.key.Code, volume: keyVolume, duration: uint16(max(0, min(length, 0xffff))), ts: p.ts}, false, now)
	}
}

// eventCodec is the telephone-event that the peer takes: of the clock that the line has, if there is one (RFC 4733 §2.1).
func (l *line) eventCodec() (Codec, bool) {
	i := slices.IndexFunc(l.terms.send, func(c Codec) bool { return c.event() && (!l.started || uint32(c.Rate) == l.rate) })
	if i < 0 {
		i = slices.IndexFunc(l.terms.send, Codec.event)
	}
	if i < 0 {
		return Codec{}, false
	}
	return l.terms.send[i], true
}

// claim moves the grid to the slot nearest to due, for something that the line says by itself.
func (l *line) claim(due time.Duration, rate uint32) {
	if !l.started {
		l.started, l.due, l.rate, l.frame = true, due, rate, uint32(ticks(l.terms.frame, rate))
		return
	}
	frame := int64(l.frame)
	move := frame * max(1, floor(ticks(due-l.due, l.rate)+frame/2, frame))
	l.ts += uint32(move)
	l.due += duration(move, l.rate)
}

// sendKey sends the packet that is due: the timestamp stays, the duration grows, the last one goes out three times (RFC 4733 §2.5.1.4).
func (l *line) sendKey(p *press, due, now time.Duration) bool {
	whole := ticks(p.key.Length, p.rate)
	length := min(ticks(due-p.begun+keyFrame, p.rate), whole) - p.past
	end := length+p.past == whole && length <= 0xffff
	l.sendEvent(event{open: !end, pt: p.pt, code: p.key.Code, volume: keyVolume, duration: uint16(min(length, 0xffff)), ts: p.ts}, due == p.begun, now)
	if length > 0xffff { // RFC 4733 §2.5.1.3: a segment is full, the next begins where it ends
		p.past += 0xffff
		p.ts += uint32(0xffff * int64(l.rate) / int64(p.rate))
	}
	if end {
		p.ends++
	}
	return p.ends < 3
}

// keyVolume is that of the keys that the line makes itself: -10 dBm0, as phones send them.
const keyVolume = 10

// ownKey is the event that the source has begun last.
type ownKey struct {
	any  bool
	ts   uint32
	twin bool // the line has played that key, told by signalling
}

// again says whether the event that p belongs to is a key that was played already.
func (l *line) again(p *packet) bool {
	k := &l.own
	if !k.any || p.ts != k.ts {
		code := p.buf[p.body]
		*k = ownKey{true, p.ts, code <= LastKey && l.twins.Take(code, true, p.now, p.now)}
	}
	l.twins.extend(p.now)
	return k.twin
}

// speaks says whether p must be kept back: because the line speaks by itself, because p is of a key that it has played, or because it is of
// one that was sent before the source gave way and would become another key now.
func (l *line) speaks(p *packet) bool {
	if p.event && (l.again(p) || l.in.broken && l.event.rate > 0 && p.ts == l.event.was) || l.key != nil {
		l.slot.inc()
		l.in.broken = true
		return true
	}
	return false
}
