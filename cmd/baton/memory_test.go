package main

import (
	"testing"
	"time"
)

// TestMemoryGoesBackWhenTheLoadIsOver drives a node's heap through loads and pauses.
func TestMemoryGoesBackWhenTheLoadIsOver(t *testing.T) {
	var live, allocated uint64
	freed, percent := 0, 0
	m := &memory{
		read:    func() (uint64, uint64) { return live, allocated },
		percent: func(p int) int { percent = p; return 0 },
		free:    func() { freed++ },
	}
	const idle, slow, busy = 10 << 10, 1 << 20, 100 << 20 // bytes a second
	for _, c := range []struct {
		last    time.Duration
		rate    uint64
		live    uint64
		freed   int
		percent int
	}{
		{time.Minute, idle, 4 << 20, 0, 400},        // nothing to give back yet
		{time.Minute, busy, 32 << 20, 0, 100},       // under load it is kept
		{20 * time.Second, idle, 128 << 20, 0, 100}, // a short pause
		{20 * time.Second, busy, 128 << 20, 0, 100}, // and on
		{30 * time.Second, idle, 128 << 20, 0, 100}, // transactions live yet
		{10 * time.Second, idle, 1 << 10, 1, 400},   // the load is over
		{10 * time.Minute, idle, 1 << 10, 1, 400},   // once is enough
		{10 * time.Second, busy, 1 << 10, 1, 400},   // again
		{time.Minute, idle, 1 << 10, 2, 400},
		{30 * time.Second, slow, 1 << 10, 3, 400}, // a little at a time becomes much as well
		{10 * time.Minute, idle, 1 << 10, 3, 400},
	} {
		live = c.live
		for range int(c.last / memoryEvery) {
			allocated += c.rate * uint64(memoryEvery/time.Second)
			m.look()
		}
		if freed != c.freed || percent != c.percent {
			t.Errorf("after %s at %d bytes/s: given back %d times, want %d; garbage of %d %% allowed, want %d", c.last, c.rate, freed, c.freed, percent, c.percent)
		}
	}
}

func TestHeapIsRead(t *testing.T) {
	_, before := readHeap()
	kept = make([]byte, 8<<20)
	if _, after := readHeap(); after < before+8<<20 {
		t.Errorf("%d bytes allocated before, %d after 8 MB more", before, after)
	}
	kept = nil
}

var kept []byte
