package e2e

import (
	"testing"
	"time"

	"baton/test/lossy"
	"baton/test/wire"
)

// TestCallsOverALossyNetwork loses SIP datagrams in both directions on both sides: up to one of ten must cost no call. What
// comes twice makes no second call. (make bench BENCH=loss makes enough calls for a figure.)
func TestCallsOverALossyNetwork(t *testing.T) {
	p := lossy.New(t, 40)
	for _, c := range []struct {
		name  string
		calls int
		way   wire.Way
		lost  int // calls that may fail
	}{
		{"1 % lost", 80, wire.Way{Loss: 0.01, Delay: 30 * time.Millisecond, Jitter: 30 * time.Millisecond}, 0},
		{"10 % lost", 120, wire.Way{Loss: 0.10, Delay: 60 * time.Millisecond, Jitter: 60 * time.Millisecond, Duplicate: 0.02}, 0},
		{"30 % lost", 300, wire.Way{Loss: 0.30, Delay: 30 * time.Millisecond, Jitter: 30 * time.Millisecond}, 3},
		{"all doubled", 120, wire.Way{Duplicate: 1, Reorder: 0.1, Jitter: 30 * time.Millisecond}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			began := time.Now()
			o := p.Calls(c.calls, c.way)
			t.Logf("%s; it took %s", o, time.Since(began).Round(time.Second))
			if len(o.Failed) > c.lost {
				t.Errorf("%d calls failed, %d may: %v", len(o.Failed), c.lost, o.Failed)
			}
			if len(o.Wrong) > 0 {
				t.Errorf("%v", o.Wrong)
			}
		})
	}
}
