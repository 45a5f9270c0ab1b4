// Package load says whether a node has too much to do for more calls: by its processors, by how long what is ready waits
// for one, and by its memory. It knows nothing of what the node does.
package load

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Limits is how much a node may have to do. Beyond one of them it is busy, and until it is well below all of them.
type Limits struct {
	CPU    float64 // share of the processors that it may use, 0 = no limit
	Memory uint64  // bytes that it may hold, 0 = no limit
}

const (
	every  = 250 * time.Millisecond
	window = time.Second     // over which processor time and waits are taken
	calm   = 2 * time.Second // below all limits before a node is not busy any more

	// waitLimit is the median wait for a processor. What saturates them waits for its turns of 10 ms, audio among it.
	waitLimit = 20 * time.Millisecond
	// fewWaits are too few to say anything.
	fewWaits = 10
)

// Load is how much a node has to do at a moment.
type Load struct {
	CPU         float64 `json:"cpu"`     // share of the processors it may use, over the last second
	WaitMS      float64 `json:"wait_ms"` // median of what was ready to run and waited for a processor, over the last second
	Memory      uint64  `json:"memory"`  // bytes held from the system
	MemoryLimit uint64  `json:"memory_limit"`
	Busy        bool    `json:"busy"`
	Times       uint64  `json:"times"` // how often it has become busy
}

// Sample is what is read of the process at a moment.
type Sample struct {
	At     time.Time
	CPU    time.Duration // processor time used since the start
	Procs  int           // processors it may use
	Waits  Histogram     // since the start
	Memory uint64
}

// Histogram counts waits; Counts[i] are those of at least From[i] and less than the next, in seconds.
type Histogram struct {
	Counts []uint64
	From   []float64
}

// Meter measures the load of this process.
type Meter struct {
	// set once
	limits Limits
	log    *slog.Logger
	sample func() Sample

	busy atomic.Bool

	// guarded by mu
	mu    sync.Mutex
	kept  []Sample // of the last window, the oldest first
	last  Load
	below time.Time // since when below all limits; zero = it is not
}

// NewMeter measures nothing yet: that is Run's part.
func NewMeter(l Limits, log *slog.Logger) *Meter {
	return &Meter{limits: l, log: log, sample: read, last: Load{MemoryLimit: l.Memory}}
}

// Run measures until ctx ends.
func (m *Meter) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		m.observe(m.sample())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Busy says whether the node has too much to do for more calls.
func (m *Meter) Busy() bool { return m.busy.Load() }

// Load is what was measured last.
func (m *Meter) Load() Load {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// observe takes a sample and decides by it and those of the last second.
func (m *Meter) observe(s Sample) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = append(m.kept, s)
	for len(m.kept) > 2 && s.At.Sub(m.kept[1].At) >= window {
		m.kept = m.kept[1:]
	}
	first := m.kept[0]
	m.last.Memory = s.Memory
	if passed := s.At.Sub(first.At); passed >= window {
		m.last.CPU = float64(s.CPU-first.CPU) / float64(passed) / float64(max(s.Procs, 1))
		m.last.WaitMS = median(first.Waits, s.Waits) * 1000
	}
	m.decide(s.At)
}

// decide is the hysteresis: busy at once, not busy after some time below all limits.
func (m *Meter) decide(now time.Time) {
	switch {
	case m.reaches(1):
		m.below = time.Time{}
		m.become(true)
	case !m.last.Busy || m.reaches(0.8):
		m.below = time.Time{}
	case m.below.IsZero():
		m.below = now
	case now.Sub(m.below) >= calm:
		m.become(false)
	}
}

// reaches says whether some part of a limit is reached.
func (m *Meter) reaches(part float64) bool {
	l := m.last
	return m.limits.CPU > 0 && (l.CPU >= part*m.limits.CPU || l.WaitMS >= part*waitLimit.Seconds()*1000) ||
		m.limits.Memory > 0 && float64(l.Memory) >= part*float64(m.limits.Memory)
}

func (m *Meter) become(busy bool) {
	if m.last.Busy == busy {
		return
	}
	m.last.Busy = busy
	m.busy.Store(busy)
	if busy {
		m.last.Times++
	}
	what := map[bool]string{true: "too busy for new calls", false: "new calls are taken again"}[busy]
	m.log.Warn(what, "cpu", m.last.CPU, "wait_ms", m.last.WaitMS, "memory", m.last.Memory, "memory_limit", m.limits.Memory)
}

// median of the waits between two readings, in seconds: the lower end of its class, 0 if there were too few.
func median(from, to Histogram) float64 {
	var all uint64
	since := func(i int) uint64 {
		if i < len(from.Counts) {
			return to.Counts[i] - from.Counts[i]
		}
		return to.Counts[i]
	}
	for i := range to.Counts {
		all += since(i)
	}
	if all < fewWaits {
		return 0
	}
	var seen uint64
	for i := range to.Counts {
		if seen += since(i); 2*seen >= all {
			return max(to.From[i], 0)
		}
	}
	return 0
}
