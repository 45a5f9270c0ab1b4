package bench

import (
	"fmt"
	"testing"
	"time"

	"baton/test/lossy"
	"baton/test/phone"
	"baton/test/wire"
)

// TestLossCalls sets calls up while SIP datagrams are lost in both directions on both sides.
func TestLossCalls(t *testing.T) {
	p := lossy.New(t, 40)
	for _, c := range []struct {
		loss  float64
		calls int
		least float64 // of those that must come about
	}{{0.01, 200, 1}, {0.05, 300, 1}, {0.10, 500, 1}, {0.30, 600, 0.99}} {
		for _, delay := range []time.Duration{30 * time.Millisecond, 60 * time.Millisecond, 100 * time.Millisecond} {
			o := p.Calls(c.calls, wire.Way{Loss: c.loss, Delay: delay, Jitter: delay, Duplicate: 0.02})
			what := fmt.Sprintf("calls with %.0f %% loss, delay and jitter %s", 100*c.loss, delay)
			more(what+": set up", 100*float64(o.SetUp)/float64(o.Calls), "%")
			lessMS(what+": p95", phone.Quantile(o.Took, 0.95))
			verdict(t, float64(o.SetUp) >= c.least*float64(o.Calls), "%s: %s (limit %.0f %%)", what, o, 100*c.least)
			verdict(t, len(o.Wrong) == 0, "%s: %d calls rang twice, were not heard or did not end", what, len(o.Wrong))
			for _, f := range append(o.Failed, o.Wrong...) {
				note("%s", f)
			}
		}
	}
}

// TestLossMoves moves calls a hundred times while SIP and sound are lost, doubled and overtaken.
func TestLossMoves(t *testing.T) {
	p := lossy.New(t, 5)
	way := wire.Way{Loss: 0.05, Duplicate: 0.02, Reorder: 0.03, Delay: 20 * time.Millisecond}
	p.Moves(1, wire.Ways{})
	was := look(t, p.Node)
	m := p.Moves(20, wire.Ways{SIP: way, Media: way})
	lessMS("moves with 5 % loss, p50", phone.Quantile(m.Took, 0.5))
	verdict(t, m.Moves == 100 && len(m.Wrong) == 0, "5 %% lost, 2 %% doubled, 3 %% overtaken: %s; each moved or rolled back, no call lost", m)
	lessMS("moves with 5 % loss, longest time from packet to packet at the far side", m.Gap)
	for _, f := range append(m.Back, m.Wrong...) {
		note("%s", f)
	}
	is := look(t, p.Node)
	verdict(t, is.Goroutines <= was.Goroutines && is.fds <= was.fds && is.Calls+is.Streams+is.Dialogs+is.Records == 0,
		"45 s after them: goroutines %d (before %d), file descriptors %d (%d), calls %d, streams %d, dialogs %d, records %d",
		is.Goroutines, was.Goroutines, is.fds, was.fds, is.Calls, is.Streams, is.Dialogs, is.Records)
}
