package bench

import (
	"fmt"
	"testing"
	"time"
)

// What the kernel's fast path is to do on one core (docs/fastpath.md).
const (
	fastMillion = 0.8 // CPU-seconds for a million packets, of the kernel's and the engine's
	fastAdded   = 20 * time.Microsecond
	fastTail    = 500 * time.Microsecond
	fastRate    = 500_000
)

// Within how long a thousand calls begin, and how long a flow has talked before the kernel has it, at first and after a pause.
const (
	fastBegin  = 5 * time.Second
	fastWarm   = 4 * time.Second
	fastSettle = 3 * time.Second
)

// TestLimitsOfFastpath measures the engine where the kernel forwards what is plain. That is done in the time of who sends: what it takes is
// what the load takes more than from leg to leg, and what the engine takes.
func TestLimitsOfFastpath(t *testing.T) {
	e := engineAlone(t, "on")
	most := allow(t, e.pid)
	g := newGenerator(t)
	add := func(calls int) {
		for len(g.legs) < 2*min(calls, most) {
			e.call(t, g, ciphers[0])
		}
	}
	measure := func(kind string, change func(*plan)) passed {
		p := steady(g.legs, limitsTime)
		begin := max(fastBegin, fastBegin*time.Duration(len(g.legs))/2000)
		p.begin, p.warm, p.settle = begin, begin+fastWarm, fastSettle
		change(&p)
		had := e.tell(order{Do: "kernel"}).Kernel
		r := e.passBy(t, g, p)
		r.tell("engine: " + kind + ", ")
		by := float64(e.tell(order{Do: "kernel"}).Kernel - had)
		share := by / float64(r.sent+int64(float64(len(g.legs))*(begin/2+fastWarm).Seconds()/p.frame.Seconds()))
		note("%s: the kernel has forwarded %.0f %% of the packets, those of the beginning included", kind, 100*share)
		if share < 0.5 {
			t.Errorf("the kernel has forwarded %.0f packets of %d, %.0f %%", by, r.sent, 100*share)
		}
		return r
	}

	add(500)
	kind := "fast path, 500 calls"
	p := measure(kind, func(*plan) {})
	p50, p99 := p.added(0.5), p.added(0.99)
	beside(kind+": latency added, p50", "ms", "engine", p50.Seconds()*1e3)
	beside(kind+": latency added, p99", "ms", "engine", p99.Seconds()*1e3)
	held(kind+": latency added, p50", "≤ 0.02 ms", p50 <= fastAdded)
	held(kind+": latency added, p99", "≤ 0.5 ms", p99 <= fastTail)
	verdict(t, p50 <= fastAdded && p99 <= fastTail && p.whole(), "%s: latency added p50 / p99 %s / %s µs (limit %s / %s), %d of %d lost",
		kind, micro(p50), micro(p99), micro(fastAdded), micro(fastTail), p.lost(), p.sent)

	add(1000)
	kind = "fast path, 1000 calls"
	p = measure(kind+", the load asleep", func(p *plan) { p.pause = crowdedPause }) // awake it takes all of its core, whatever it does
	each := p.million() + (p.cpu.Seconds()/float64(p.passed())-p.control.cpu.Seconds()/float64(p.control.passed))*1e6
	work := kind + ": CPU-seconds per million packets"
	beside(work, "s", "engine", each)
	held(work, fmt.Sprintf("≤ %.1f", fastMillion), each <= fastMillion && p.whole())
	verdict(t, each <= fastMillion && p.whole(), "%s: %.2f, %.2f of them the engine's (limit %.1f); %d of %d lost", work, each, p.million(), fastMillion, p.lost(), p.sent)

	best, work := 0.0, "fast path, the load on all cores: packets a second without a loss"
	for _, calls := range []int{1250, 1500, 1750, 2000, 2500, 3000, 4000, 5000} {
		add(calls)
		p = measure(fmt.Sprintf("fast path, %d calls", calls), func(p *plan) { p.pause, p.behind, p.cores = crowdedPause, crowdedBehind, allCores })
		if !p.whole() {
			note("… of %d packets that were due %d were sent, and %d lost; without a relay %d of %d sent", p.due, p.sent, p.lost(), p.control.sent, p.control.due)
			break
		}
		best = p.rate()
	}
	beside(work, "", "engine", best)
	held(work, fmt.Sprintf("≥ %d", fastRate), best >= fastRate)
	verdict(t, best >= fastRate, "%s: %.0f (limit %d)", work, best, fastRate)
}
