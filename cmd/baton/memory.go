package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A node's live data are few beside what it writes and reads: collecting garbage each time the heap has doubled would go on
// without end under load. It may grow by garbageRoom first. When the load is over, what it needed goes back to the system.
const (
	garbageRoom  = 16 << 20
	leastHeap    = 4 << 20 // from here on Go counts in percent
	memoryEvery  = 5 * time.Second
	quietRate    = 2 << 20          // bytes a second that are allocated at most while a node is quiet
	worthFreeing = 16 << 20         // bytes that were allocated since the last time
	quietFor     = 35 * time.Second // before memory is given back: transactions live for 32 s
)

// memory looks after the heap.
type memory struct {
	read    func() (live, allocated uint64)
	percent func(int) int
	free    func()

	last  uint64        // allocated at the last look
	quiet time.Duration // since when
	freed uint64        // allocated when memory was last given back
}

func newMemory() *memory {
	m := &memory{read: readHeap, percent: debug.SetGCPercent, free: debug.FreeOSMemory}
	if os.Getenv("GOGC") != "" { // somebody knows better
		m.percent = func(int) int { return 0 }
	}
	return m
}

// run looks after the heap until ctx ends.
func (m *memory) run(ctx context.Context) error {
	tick := time.NewTicker(memoryEvery)
	defer tick.Stop()
	for {
		m.look()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (m *memory) look() {
	live, allocated := m.read()
	m.percent(max(100, int(garbageRoom*100/max(live, leastHeap))))
	if allocated-m.last > quietRate*uint64(memoryEvery/time.Second) {
		m.quiet = 0
	} else {
		m.quiet += memoryEvery
	}
	m.last = allocated
	if m.quiet >= quietFor && allocated-m.freed > worthFreeing {
		m.quiet, m.freed = 0, allocated
		m.free()
	}
}

// readHeap gives what was live at the last collection, and all that was ever allocated, in bytes.
func readHeap() (live, allocated uint64) {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64(), s[1].Value.Uint64()
}
