package media

import "time"

// steady finds when a source means its packets to arrive, out of when they do: the splice must not take the network's jitter for the
// source's phase.
type steady struct {
	ssrc   uint32
	rate   uint32
	ts     uint32        // last seen
	sum    int64         // ticks since the start
	offset time.Duration // mean of arrival − ts
	n      int           // packets that the mean is of, at most steadyFull
}

// steadyFull is the number of packets from which on the mean moves as slowly as it will.
const steadyFull = 16

// steadyJump is how far a packet may be from the mean before the source must have paused or started anew.
const steadyJump = 100 * time.Millisecond

// smooth returns the smoothed arrival of p.
func (m *steady) smooth(p *packet) time.Duration {
	if m.n == 0 || p.ssrc != m.ssrc || p.rate != m.rate {
		return m.restart(p)
	}
	m.sum += int64(int32(p.ts - m.ts))
	m.ts = p.ts
	clock := duration(m.sum, m.rate)
	off := p.now - clock - m.offset
	if off > steadyJump || off < -steadyJump {
		return m.restart(p)
	}
	m.n = min(m.n+1, steadyFull)
	m.offset += off / time.Duration(m.n)
	return clock + m.offset
}

func (m *steady) restart(p *packet) time.Duration {
	*m = steady{ssrc: p.ssrc, rate: p.rate, ts: p.ts, offset: p.now, n: 1}
	return p.now
}

// duration turns ticks of a clock into time, without overflow.
func duration(ticks int64, rate uint32) time.Duration {
	r := int64(rate)
	return time.Duration(ticks/r)*time.Second + time.Duration(ticks%r*int64(time.Second)/r)
}

// ticks turns time into ticks of a clock.
func ticks(d time.Duration, rate uint32) int64 {
	r := int64(rate)
	return int64(d/time.Second)*r + int64(d%time.Second)*r/int64(time.Second)
}
