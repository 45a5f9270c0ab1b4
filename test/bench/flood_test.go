package bench

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/flood"
	"baton/test/phone"
)

// gaps watches how long each leg's packets stay away: for each leg and second the longest time between two of them, as
// the kernel has stamped them, less what the sender itself was late by: for as long the load's own process did not run.
type gaps struct {
	mu      sync.Mutex
	last    map[uint32]times
	longest map[legSecond]time.Duration
	whole   bool // packets that were sent and never came are part of it: nothing is taken off
}

type times struct{ sent, at int64 }

type legSecond struct {
	leg    uint32
	second int64
}

func newGaps() *gaps { return &gaps{last: map[uint32]times{}, longest: map[legSecond]time.Duration{}} }

func (g *gaps) heard(leg uint32, sent, at int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if was, ok := g.last[leg]; ok {
		k := legSecond{leg, at / int64(time.Second)}
		late := max(sent-was.sent-int64(20*time.Millisecond), 0)
		if g.whole {
			late = 0
		}
		g.longest[k] = max(g.longest[k], time.Duration(at-was.at-late))
	}
	g.last[leg] = times{sent, at}
}

// all are the longest gaps of all legs and seconds.
func (g *gaps) all() []time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []time.Duration
	for _, d := range g.longest {
		all = append(all, d)
	}
	return all
}

// watched lets all legs of a generator talk while something is done, and gives the longest gaps of each and second.
func watched(g *generator, do func()) []time.Duration { return newGaps().watch(g, do) }

func (w *gaps) watch(g *generator, do func()) []time.Duration {
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				g.talk(g.legs, time.Second)
			}
		}
	}()
	time.Sleep(time.Second)
	g.gaps.Store(w)
	g.window.Store(true)
	do()
	g.window.Store(false)
	g.gaps.Store(nil)
	close(stop)
	<-done
	return w.all()
}

// calls sets up so many calls.
func (l *loaded) calls(t *testing.T, n int) []*dialled {
	t.Helper()
	return l.callsAt(t, n, 50)
}

// callsAt sets up so many calls, so many a second.
func (l *loaded) callsAt(t *testing.T, n, rate int) []*dialled {
	t.Helper()
	up := make([]*dialled, n)
	if failed := paced(t, n, rate, func(i int) (err error) {
		up[i], err = l.callers[i%len(l.callers)].dial(l.callees[i%len(l.callees)].user)
		return err
	}); failed > 0 {
		t.Fatalf("%d of %d calls failed", failed, n)
	}
	return up
}

const (
	floodRate   = 5000
	floodTime   = 60 * time.Second
	floodCalls  = 100
	gapLimit    = 60 * time.Millisecond
	comesIn     = 500 * time.Millisecond
	floodMemory = 50 << 20
)

// TestFlood sends 5,000 INVITEs a second without a password for a minute, from one address and as if from 20,000, beside
// 100 calls, and a phone elsewhere that registers ten times a second.
func TestFlood(t *testing.T) {
	strangers, err := flood.Strangers(20_000)
	must(t, err)
	for _, from := range [][]netip.Addr{strangers[:1], strangers} {
		t.Run(fmt.Sprint(len(from)), func(t *testing.T) {
			g := newGenerator(t)
			l := newLimited(t, 20, g)
			l.node.AddUser("late", "499")
			up := l.calls(t, floodCalls)
			control := watched(g, func() { time.Sleep(10 * time.Second) })
			flooded(t, l, g, from, control)
			paced(t, len(up), 200, func(i int) error { return up[i].bye() })
		})
	}
}

func flooded(t *testing.T, l *loaded, g *generator, from []netip.Addr, control []time.Duration) {
	f, err := flood.New(l.node.UDP, from...)
	must(t, err)
	defer f.Close()
	late := newAgent(t, "late", node.IP(20), l.node.UDP, nil)
	before, err := l.node.Debug()
	must(t, err)
	cpu := of(l.node).cpu()
	highest := int64(0)
	var took []time.Duration
	var failed int
	all := watched(g, func() {
		done := make(chan error, 1)
		go func() { done <- f.Run(floodRate, floodTime) }()
		for i, start := 0, time.Now(); time.Since(start) < floodTime; i++ {
			begin := time.Now()
			if err := late.register("late", i%5); err != nil {
				failed++
				t.Log(err)
			}
			took = append(took, time.Since(begin))
			if i%50 == 49 {
				d, err := l.node.Debug()
				must(t, err)
				highest = max(highest, int64(d.HeapBytes))
			}
			time.Sleep(time.Until(begin.Add(100 * time.Millisecond)))
		}
		must(t, <-done)
	})
	cpu = of(l.node).cpu() - cpu
	time.Sleep(time.Second)
	c := f.Counts()
	after, err := l.node.Debug()
	must(t, err)
	what := fmt.Sprintf("flood of %d/s from %d, 100 calls", floodRate, len(from))
	note("%s: %d sent, %d answered, %.2f bytes for each sent; %.0f %% of a core; dropped %v, refused %v, in the kernel %d", what, c.Sent,
		c.Heard, float64(c.HeardBytes)/float64(c.SentBytes), 100*cpu.Seconds()/floodTime.Seconds(), after.Traffic.Dropped, after.Traffic.Refused, after.Traffic.Kernel)
	p99 := phone.Quantile(all, 0.99)
	lessMS(what+": gap p99", p99)
	verdict(t, p99 <= gapLimit && len(all) > 2*floodCalls*int(floodTime.Seconds())*9/10, "%s: longest gap of a leg in a second, p50 / p99 / max %s / %s / %s ms; without the flood %s ms (limit p99 60)",
		what, ms(phone.Quantile(all, 0.5)), ms(p99), ms(phone.Quantile(all, 1)), three(control))
	in := phone.Quantile(took, 0.99)
	lessMS(what+": REGISTER p99", in)
	verdict(t, in <= comesIn && failed == 0, "%s: %d REGISTERs with their challenges, p50 / p95 / max %s, p99 %s ms, %d failed (limit p99 500)", what, len(took), three(took), ms(in), failed)
	verdict(t, c.Heard <= c.Sent && c.Heard > 0 && c.HeardBytes <= c.SentBytes*3/2 && c.Sent >= int64(floodRate*floodTime.Seconds())*95/100,
		"%s: %d answers to %d requests", what, c.Heard, c.Sent)
	grown := max(highest, int64(after.HeapBytes)) - int64(before.HeapBytes)
	less(what+": heap grown by", float64(grown)/(1<<20), "MiB")
	verdict(t, grown <= floodMemory, "%s: live heap + %.1f MiB (limit + 50)", what, float64(grown)/(1<<20))
}
