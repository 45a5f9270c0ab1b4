package bench

import (
	"fmt"
	"testing"
	"time"

	"baton/test/phone"
)

// The limit of a restart, DESIGN §10: the longest time without a packet at the far ends, of a hundred.
const restartGap = time.Second

const (
	restartCalls = 100
	restarts     = 5 // in each way
)

// TestRestart kills or stops a node with a hundred calls of phones over UDP and starts it at once, as a supervisor does: all go on. The gap is
// that between the last packet before and the first after, as the kernel has stamped them, of both sides of each call.
func TestRestart(t *testing.T) {
	g := newGenerator(t)
	l := newLoaded(t, 20, g)
	up := l.calls(t, restartCalls)
	for _, way := range []struct {
		name string
		stop func()
	}{{"kill -9", l.node.Kill}, {"SIGTERM", func() { l.node.Stop() }}} {
		var all []time.Duration
		var stopped, down []time.Duration
		for range restarts {
			w := newGaps()
			w.whole = true
			w.watch(g, func() {
				time.Sleep(2 * time.Second)
				began := time.Now()
				way.stop()
				stopped = append(stopped, time.Since(began))
				l.node.Run()
				down = append(down, time.Since(began))
				time.Sleep(2 * time.Second)
			})
			legs := w.ofLegs()
			if len(legs) != 2*restartCalls {
				t.Errorf("%s: %d legs have heard anything", way.name, len(legs))
			}
			all = append(all, legs...)
			if silent := w.silentFor(time.Second); silent > 0 {
				t.Errorf("%s: %d legs hear nothing after the restart", way.name, silent)
			}
		}
		var calls []struct{ State string }
		must(t, l.node.JSON(&calls, "calls", "--json"))
		p50, p99, most := phone.Quantile(all, 0.5), phone.Quantile(all, 0.99), phone.Quantile(all, 1)
		lessMS("restart, "+way.name+", gap p99", p99)
		verdict(t, len(calls) == restartCalls, "%s and start: %d of %d calls kept", way.name, len(calls), restartCalls)
		verdict(t, p99 <= restartGap, "%s and start, %d times with %d calls: gap p50 / p99 / max %s / %s / %s ms (limit of p99 %s); until it had ended %s ms, until it answered again %s ms",
			way.name, restarts, restartCalls, ms(p50), ms(p99), ms(most), ms(restartGap), ms(phone.Quantile(stopped, 0.5)), ms(phone.Quantile(down, 0.5)))
	}
	if failed := paced(t, restartCalls, 200, func(i int) error { return up[i].bye() }); failed > 0 {
		t.Errorf("%d calls could not be ended", failed)
	}
	note("the node's calls have ended: %s", fmt.Sprint(look(t, l.node)))
}

// ofLegs is the longest gap of each leg.
func (g *gaps) ofLegs() []time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	most := map[uint32]time.Duration{}
	for k, d := range g.longest {
		most[k.leg] = max(most[k.leg], d)
	}
	var all []time.Duration
	for _, d := range most {
		all = append(all, d)
	}
	return all
}

// silentFor counts the legs that had nothing for so long before the last packet of all.
func (g *gaps) silentFor(d time.Duration) (silent int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	last := int64(0)
	for _, s := range g.last {
		last = max(last, s.at)
	}
	for _, s := range g.last {
		if last-s.at > int64(d) {
			silent++
		}
	}
	return silent
}
