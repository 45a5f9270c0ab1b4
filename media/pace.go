package media

import "time"

// A loop that is woken for each packet spends most of its time on being woken: some 30 to 50 µs for a packet that costs 3 µs to pass on. When
// packets come often it therefore sleeps for a tick, and takes all that has come meanwhile: at a hundred calls a ninth of the processor time, at the price
// of a millisecond for the half of them. When they come seldom each is taken at once.

const (
	tick       = 2 * time.Millisecond
	paceWindow = 100 * time.Millisecond // over which packets are counted
	busyRate   = 6000                   // packets a second from which on a loop ticks: sixty calls
	calmRate   = 4500                   // … and below which it does not any more
	livelyWait = 30 * time.Millisecond  // for which a loop keeps its processor when nothing comes: longer than from one packet of a call to the next
	restAfter  = 10 * time.Second       // without a tick, before a loop gives back what it ticks with
)

// pace is how a loop waits for packets. Owned by the loop.
type pace struct {
	ticking bool
	ticked  time.Duration // when it did so last
	came    time.Duration // when some were read last
	always  bool          // it does, whatever comes
	since   time.Duration // begin of the window
	packets int           // in it
	next    time.Duration // when the next tick is due
}

// count takes what was read until now, and decides how to go on.
func (p *pace) count(packets int, now time.Duration) {
	if p.packets += packets; packets > 0 {
		p.came = now
	}
	window := now - p.since
	if window < paceWindow {
		return
	}
	rate := int64(p.packets) * int64(time.Second) / int64(window)
	switch {
	case !p.ticking && rate >= busyRate:
		p.ticking, p.next = true, now
	case p.ticking && rate < calmRate && !p.always:
		p.ticking = false
	}
	if p.ticking {
		p.ticked = now
	}
	p.since, p.packets = now, 0
}

// lively says that packets come, if not often.
func (p *pace) lively(now time.Duration) bool { return p.came != 0 && now-p.came < livelyWait }

// rested says that it has not ticked for long.
func (p *pace) rested(now time.Duration) bool { return !p.ticking && now-p.ticked >= restAfter }

// sleep is how long to wait for the next tick; zero where that is due already: after one that took longer than a tick the grid begins anew.
func (p *pace) sleep(now time.Duration) time.Duration {
	p.next += tick
	if p.next <= now {
		p.next = now
		return 0
	}
	return p.next - now
}
