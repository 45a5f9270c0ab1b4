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
	t.Parallel()
	p := lossy.New(t, 40)
	for _, c := range []struct {
		name  string
		calls int
		way   wire.Way
		lost  int // calls that may fail
	}{
		{"1 % lost", 80, wire.Way{Loss: 0.01, Delay: 30 * time.Millisecond, Jitter: 30 * time.Millisecond}, 0},
		{"10 % lost", 120, wire.Way{Loss: 0.10, Delay: 60 * time.Millisecond, Jitter: 60 * time.Millisecond, Duplicate: 0.02}, 0},
		{"30 % lost", 300, wire.Way{Loss: 0.30, Delay: 30 * time.Millisecond, Jitter: 30 * time.Millisecond}, 6}, // 98 %: for 99 % they are too few
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

// TestMovesOverALossyNetwork moves calls while SIP and sound are lost, doubled and overtaken: each move ends in a defined state,
// moved or rolled back with the old device talking, and no call is lost. (make bench BENCH=loss makes a hundred moves.)
func TestMovesOverALossyNetwork(t *testing.T) {
	t.Parallel()
	p := lossy.New(t, 5)
	way := wire.Way{Loss: 0.05, Duplicate: 0.02, Reorder: 0.03, Delay: 20 * time.Millisecond}
	m := p.Moves(6, wire.Ways{SIP: way, Media: way})
	t.Log(m)
	if len(m.Wrong) > 0 || m.Moves != 30 {
		t.Errorf("%d moves: %v", m.Moves, m.Wrong)
	}
	if m.Gap > 200*time.Millisecond {
		t.Errorf("%s of sound are missing at one place", m.Gap)
	}
	if m.There < 27 {
		t.Errorf("rolled back: %v", m.Back)
	}
}
