package load

import (
	"context"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"
)

// feed is a meter that is given samples, one every 250 ms.
type feed struct {
	*Meter
	s Sample
}

func newFeed(l Limits) *feed {
	from := []float64{math.Inf(-1), 0, 0.001, 0.005, 0.02, 0.1}
	return &feed{NewMeter(l, slog.New(slog.DiscardHandler)), Sample{
		At: time.Unix(1e9, 0), Procs: 2, Waits: Histogram{Counts: make([]uint64, len(from)), From: from},
	}}
}

// pass lets time pass: cpu is the share of both processors, waits how many there are of each class in a quarter second.
func (f *feed) pass(d time.Duration, cpu float64, memory uint64, waits ...uint64) *feed {
	for range d / every {
		f.s.At = f.s.At.Add(every)
		f.s.CPU += time.Duration(cpu * 2 * float64(every))
		f.s.Memory = memory
		counts := append([]uint64(nil), f.s.Waits.Counts...)
		for i, n := range waits {
			counts[i] += n
		}
		f.s.Waits.Counts = counts
		f.observe(f.s)
	}
	return f
}

// TestBusyAndNot wants a node to be busy within a second or so of a limit, and not any more when it was well below all
// of them for two seconds.
func TestBusyAndNot(t *testing.T) {
	limits := Limits{CPU: 0.9, Memory: 1000}
	const s = time.Second
	quick, slow := []uint64{0, 50}, []uint64{0, 20, 0, 0, 0, 30}
	for _, c := range []struct {
		name string
		do   func(f *feed)
		want bool
	}{
		{"idle", func(f *feed) { f.pass(10*s, 0.05, 100, quick...) }, false},
		{"just below", func(f *feed) { f.pass(10*s, 0.89, 999, quick...) }, false},
		{"processors", func(f *feed) { f.pass(2*s, 0.95, 100, quick...) }, true},
		{"a short peak", func(f *feed) { f.pass(5*s, 0.3, 100, quick...).pass(s/2, 1, 100, quick...) }, false},
		{"waits", func(f *feed) { f.pass(2*s, 0.4, 100, slow...) }, true},
		{"few waits", func(f *feed) { f.pass(10*s, 0.01, 100, 0, 0, 0, 0, 0, 1) }, false},
		{"some wait", func(f *feed) { f.pass(10*s, 0.5, 100, 0, 30, 0, 0, 0, 20) }, false},
		{"memory", func(f *feed) { f.pass(s, 0.1, 1000, quick...) }, true},
		{"a little better", func(f *feed) { f.pass(2*s, 0.95, 100, quick...).pass(20*s, 0.8, 100, quick...) }, true},
		{"better for a moment", func(f *feed) { f.pass(2*s, 0.95, 100, quick...).pass(5*s/2, 0.5, 100, quick...) }, true},
		{"better", func(f *feed) { f.pass(2*s, 0.95, 100, quick...).pass(4*s, 0.5, 100, quick...) }, false},
		{"better, with a peak", func(f *feed) {
			f.pass(2*s, 0.95, 100, quick...).pass(2*s, 0.5, 100, quick...).pass(s/4, 0.5, 900, quick...).pass(3*s/2, 0.5, 100, quick...)
		}, true},
		{"memory is still much", func(f *feed) { f.pass(s, 0.1, 1000, quick...).pass(10*s, 0.1, 850, quick...) }, true},
		{"memory is free", func(f *feed) { f.pass(s, 0.1, 1000, quick...).pass(3*s, 0.1, 700, quick...) }, false},
	} {
		f := newFeed(limits)
		c.do(f)
		if f.Busy() != c.want || f.Load().Busy != c.want {
			t.Errorf("%s: busy is %v; %+v", c.name, f.Busy(), f.Load())
		}
	}
	f := newFeed(Limits{})
	if f.pass(10*s, 1, 1<<40, slow...); f.Busy() {
		t.Error("busy without limits")
	}
	f = newFeed(limits)
	for range 3 {
		f.pass(2*s, 0.95, 100, quick...).pass(5*s, 0.1, 100, quick...)
	}
	if n := f.Load().Times; n != 3 {
		t.Errorf("busy %d times, want 3", n)
	}
}

// measured runs a meter of this process until the test ends.
func measured(t *testing.T, l Limits) *Meter {
	m := NewMeter(l, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return m
}

func await(t *testing.T, m *Meter, busy bool) {
	t.Helper()
	begin := time.Now()
	for m.Busy() != busy {
		if time.Since(begin) > time.Minute {
			t.Fatalf("busy is not %v after a minute: %+v", busy, m.Load())
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("busy is %v after %v: %+v", busy, time.Since(begin).Round(10*time.Millisecond), m.Load())
}

// TestRealProcessors has this process take more processor time than it may, and then have more to do than there are
// processors for; and then nothing.
func TestRealProcessors(t *testing.T) {
	for name, c := range map[string]struct {
		limit float64
		hands int
	}{"time": {0.02, runtime.GOMAXPROCS(0)}, "waits": {1000, 8 * runtime.GOMAXPROCS(0)}} {
		t.Run(name, func(t *testing.T) {
			m := measured(t, Limits{CPU: c.limit})
			var stop atomic.Bool
			var wg sync.WaitGroup
			for range c.hands {
				wg.Go(func() {
					for !stop.Load() {
					}
				})
			}
			await(t, m, true)
			stop.Store(true)
			wg.Wait()
			await(t, m, false)
		})
	}
}

// TestProcessors: what the media engine adds to GOMAXPROCS is no processor more to be busy on.
func TestProcessors(t *testing.T) {
	most := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(most)
	if runtime.GOMAXPROCS(most + 1); read().Procs != most {
		t.Errorf("%d processors, want %d", read().Procs, most)
	}
}

// TestRealMemory has this process hold more than its limit, and then give it back.
func TestRealMemory(t *testing.T) {
	runtime.GC()
	debug.FreeOSMemory()
	limit := read().Memory + 128<<20
	m := measured(t, Limits{Memory: limit})
	hold := make([]byte, 160<<20)
	for i := 0; i < len(hold); i += 4096 {
		hold[i] = 1
	}
	await(t, m, true)
	runtime.KeepAlive(hold)
	hold = nil
	debug.FreeOSMemory()
	await(t, m, false)
}

// TestThere wants the least of what limits the process, however its group is seen.
func TestThere(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	machine := file("MemTotal:       16384 kB\nMemFree: 1 kB\n")
	for name, c := range map[string]struct {
		root fstest.MapFS
		want uint64
	}{
		"nothing": {fstest.MapFS{}, 0},
		"machine": {fstest.MapFS{"proc/meminfo": machine, "proc/self/cgroup": file("0::/\n")}, 16 << 20},
		"version 2": {fstest.MapFS{
			"proc/meminfo": machine, "proc/self/cgroup": file("0::/a/b\n"), "sys/fs/cgroup/a/b/memory.max": file("max\n"),
			"sys/fs/cgroup/a/memory.max": file("5000000\n"),
		}, 5_000_000},
		"version 2, in a container": {fstest.MapFS{
			"proc/meminfo": machine, "proc/self/cgroup": file("0::/docker/x\n"), "sys/fs/cgroup/memory.max": file("4000000\n"),
		}, 4_000_000},
		"version 1": {fstest.MapFS{
			"proc/meminfo": machine, "proc/self/cgroup": file("5:cpu,cpuacct:/\n4:memory:/a\n0::/\n"),
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": file("3000000\n"), "sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n"),
		}, 3_000_000},
	} {
		if got := there(c.root); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestMemory wants what is set to count, GOMEMLIMIT where nothing is, and Go's runtime to be told unless it was.
func TestMemory(t *testing.T) {
	was := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(was)
	debug.SetMemoryLimit(math.MaxInt64)
	if got := Memory(1000 << 20); got != 850<<20 || debug.SetMemoryLimit(-1) != 700<<20 {
		t.Errorf("busy at %d, collects at %d", got, debug.SetMemoryLimit(-1))
	}
	debug.SetMemoryLimit(100 << 20)
	if got := Memory(0); got != 85<<20 || debug.SetMemoryLimit(-1) != 100<<20 {
		t.Errorf("with GOMEMLIMIT: busy at %d, collects at %d", got, debug.SetMemoryLimit(-1))
	}
	debug.SetMemoryLimit(math.MaxInt64)
	if got := Memory(0); got == 0 {
		t.Error("this machine's memory is not known")
	}
}
