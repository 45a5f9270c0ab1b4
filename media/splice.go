package media

import "time"

// The splice: another source goes on where the last one stopped, on the grid of frames that the far side already hears. The new source's
// first packet takes the slot nearest to its arrival, with the next sequence number and that slot's timestamp; where that slot has been
// sent already, the next one is kept for the new source and its next packet taken. The rest of the phase difference is remembered (skew,
// never more than a frame), so that many switches do not add up.

const (
	maxJump   = 3000                   // sequence numbers (RFC 3550 A.1, MAX_DROPOUT) that are a restart and not loss
	maxDrift  = 3 * time.Second        // between a source's timestamps and the clock
	realPause = 500 * time.Millisecond // after which a source that has numbers missing is anchored anew
)

// change switches to the source that was waited for, with this packet if a slot is free for it.
func (l *line) change(src *source, p *packet, o *outgoing) bool {
	step, ok := l.step(p)
	if !ok {
		l.keep(p.now)
		l.slot.inc()
		return false
	}
	l.endEvent(p.now)
	l.giveUp()
	l.back = false
	old := l.cur.Swap(src)
	l.want.Store(nil)
	l.hold, l.holds = 0, 0
	named, lost := l.named(src, p), int(max(step-1, 0))
	if !named {
		lost = l.anchor(p, step)
	}
	if !src.tone {
		l.gaps.spliced(old, src, p.now, lost)
	}
	if named {
		return l.goOnAs(p, o)
	}
	return l.begin(p, o)
}

// keep holds the next slot for the source that is waited for: one and a half frames, longer each time for one whose packets are longer.
func (l *line) keep(now time.Duration) {
	l.holds = min(l.holds+1, 4)
	l.hold = now + time.Duration(l.holds)*duration(int64(l.frame), l.rate)*3/2
}

// restart anchors the same source again: it has a new SSRC, jumped, or paused.
func (l *line) restart(p *packet, o *outgoing) bool {
	if l.faithful && l.mayTakeOver(l.cur.Load(), p) && p.ssrc == l.ssrc.Load() {
		return l.goOnAs(p, o)
	}
	step, ok := l.step(p)
	if !ok {
		l.slot.inc()
		return false
	}
	l.anchor(p, step)
	return l.begin(p, o)
}

// begin sends the first packet after an anchor. The marker is set only after a real pause, because it makes some receivers start anew.
func (l *line) begin(p *packet, o *outgoing) bool {
	pause := l.at == 0 || p.now-l.at > 3*duration(int64(l.frame), l.rate)
	return l.send(p, o, pause || p.event && p.marker)
}

// step returns how many frames after the last packet sent p belongs on the grid; false if it would fall on what was sent already.
func (l *line) step(p *packet) (int64, bool) {
	if !l.started {
		l.rate, l.frame = p.rate, uint32(ticks(l.terms.frame, p.rate))
		return 0, true
	}
	frame := int64(l.frame)
	late := ticks(p.due-l.due, l.rate)
	behind := l.skew + late // of the slot sent last
	step := floor(behind+frame/2, frame)
	switch {
	case step < 1 && late >= frame*3/4 && (behind >= frame/4 || l.holds > 0):
		step = 1 // rather a little early than a gap of two frames
	case step == 2 && behind <= frame*7/4 && p.now-l.at < 2*duration(frame, l.rate):
		step = 1 // rather a little late than a slot left empty
	}
	return step, step >= 1
}

// anchor puts the source's numbers on the grid, step frames after the last, and returns the slots left empty.
func (l *line) anchor(p *packet, step int64) int {
	move := step * int64(l.frame)
	if l.started {
		l.skew += ticks(p.due-l.due, l.rate) - move
	}
	l.in = incoming{ssrc: p.ssrc, seq: p.seq, ts: p.ts, due: p.due, seqOff: l.seq + 1 - p.seq, tsOff: l.ts + uint32(move) - p.ts}
	if p.rate != l.rate && p.sound {
		l.retune(p.rate)
	}
	return int(max(step-1, 0))
}

// retune changes the line's clock: the timestamp goes on from where it is at the new rate (RFC 7160 §4.1).
func (l *line) retune(rate uint32) {
	l.frame = uint32(uint64(l.frame) * uint64(rate) / uint64(l.rate))
	l.skew = l.skew * int64(rate) / int64(l.rate)
	l.rate = rate
}

// strange says whether the present source has started its stream anew.
func (l *line) strange(p *packet) bool {
	step := int(int16(p.seq - l.in.seq))
	switch {
	case p.ssrc != l.in.ssrc, step > maxJump, step < -maxJump:
		return true
	case p.sound && p.rate != l.rate:
		return true
	case step <= 0 || p.event:
		return false
	case step > 1 && p.now-l.at > realPause:
		return true
	}
	drift := duration(int64(int32(p.ts-l.in.ts)), l.rate) - (p.due - l.in.due)
	return drift > maxDrift || drift < -maxDrift
}

func floor(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
