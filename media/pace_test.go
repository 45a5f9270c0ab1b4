package media

import (
	"testing"
	"time"
)

// feed counts packets of an even rate for a while, as a loop does that wakes each millisecond.
func (p *pace) feed(now *time.Duration, rate int, length time.Duration) {
	for end := *now + length; *now < end; {
		*now += time.Millisecond
		p.count(rate/1000, *now)
	}
}

// TestPace: many packets make a loop tick, few end that, and between the two it stays as it is.
func TestPace(t *testing.T) {
	var p pace
	var now time.Duration
	for i, step := range []struct {
		rate    int
		ticking bool
	}{
		{0, false}, {4000, false}, {5000, false}, {7000, true}, {5000, true}, {200_000, true}, {4000, false}, {5000, false}, {7000, true}, {0, false},
	} {
		p.feed(&now, step.rate, 250*time.Millisecond)
		if p.ticking != step.ticking {
			t.Errorf("step %d, %d packets a second: ticking %v", i, step.rate, p.ticking)
		}
	}
}

// TestPaceRested: a loop has rested when it has not ticked for a while, and never while it ticks.
func TestPaceRested(t *testing.T) {
	var p pace
	var now time.Duration
	for i, step := range []struct {
		rate   int
		length time.Duration
		rested bool
	}{
		{100_000, restAfter + time.Second, false},
		{1000, restAfter / 2, false},
		{7000, time.Second, false},
		{1000, restAfter - time.Second, false},
		{1000, 2 * time.Second, true},
		{7000, time.Second, false},
	} {
		p.feed(&now, step.rate, step.length)
		if p.rested(now) != step.rested {
			t.Errorf("step %d, %d packets a second for %v: rested %v", i, step.rate, step.length, !step.rested)
		}
	}
}

// TestPaceGrid: the time between two ticks is the same whatever the packets take; after a tick that took too long the next comes at once.
func TestPaceGrid(t *testing.T) {
	p := pace{ticking: true, next: 10 * ms}
	now := 10 * ms
	for _, step := range []struct{ took, sleep time.Duration }{
		{0, 2 * ms}, {ms / 2, 3 * ms / 2}, {3 * ms / 2, ms / 2}, {5 * ms, 0}, {0, 2 * ms}, {2 * ms, 0}, {ms, ms},
	} {
		now += step.took
		got := p.sleep(now)
		if got != step.sleep {
			t.Errorf("after %v: %v, want %v", step.took, got, step.sleep)
		}
		now += got
	}
}
