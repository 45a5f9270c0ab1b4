package bench

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// The most that a machine of two cores is to carry, and the moves meanwhile.
const (
	crowdedMoves = 50
	crowdedTime  = 60 * time.Second
	crowdedTick  = 2 * time.Millisecond
	crowdedBegin = 15 * time.Second // within which the calls begin to talk
)

var crowdedCalls = flag.Int("crowd", 2000, "calls of TestLimitMoves, 100 packets a second each")

// crowdedBehind is how late the load may be: both cores have more to do than it, and a core of a virtual machine stands still now and then.
const crowdedBehind = 80 * time.Millisecond

// crowdedPause leaves the load's core to the phones that move in between.
const crowdedPause = 400 * time.Microsecond

// TestLimitMoves relays 2,000 calls for a minute, of which no packet may be lost, and moves a call beside them fifty times meanwhile. The
// node has the whole machine, that is, what load and phones leave of it; what is plain the kernel forwards, where it can.
func TestLimitMoves(t *testing.T) {
	calls := *crowdedCalls
	g := newGenerator(t)
	l := newLoadedOn(t, node.Options{Config: loadedConfig + unlimited, Users: benchUsers, Env: []string{"BATON_MEDIA_FASTPATH=auto"}}, 20, g)
	up := l.callsAt(t, calls, 100)
	if len(g.legs) != 2*calls {
		t.Fatalf("%d legs, want %d", len(g.legs), 2*calls)
	}
	without := withoutNode(t, g)

	b := newBenchOn(t, l.node)
	b.tick = crowdedTick
	s := of(l.node)
	read := s.clock()
	var cpu []time.Duration
	wait := g.begin(t, plan{
		legs: g.legs, frame: phone.Frame, begin: crowdedBegin, warm: crowdedBegin + fastWarm, settle: fastSettle, window: crowdedTime,
		pause: crowdedPause, behind: crowdedBehind, cores: allCores, at: func() { cpu = append(cpu, read()) },
	})
	time.Sleep(crowdedBegin + fastWarm + fastSettle)
	b.begin()
	for i := range crowdedMoves {
		b.move(ways[i%len(ways)], phone.AutoAnswer)
	}
	b.finish(0)
	d := wait()
	what := fmt.Sprintf("%d moves beside %d calls", crowdedMoves, calls)
	b.judge(what)

	p := passed{driven: d, control: without, spent: cpu[1] - cpu[0], calls: calls}
	p.tell(fmt.Sprintf("baton: %d calls for %s, ", calls, crowdedTime))
	work := fmt.Sprintf("a whole node relaying %d calls for %s: packets lost", calls, crowdedTime)
	beside(work, "", "baton", float64(p.lost()))
	held(work, "none", p.whole())
	if p.short() {
		note("the load is what is short: of %d packets that were due %d were sent; without a node %d of %d", p.due, p.sent, without.sent, without.due)
	}
	verdict(t, p.whole(), "%d calls for %s: %d of %d packets lost, %.0f packets/s, %.1f CPU-s per million", calls, crowdedTime, p.lost(), p.sent, p.rate(), p.million())
	paced(t, calls, 200, func(i int) error { return up[i].bye() })
}

// withoutNode is the load alone, from leg to leg: what it can do on this machine.
func withoutNode(t *testing.T, g *generator) driven {
	t.Helper()
	p := steady(g.legs, 4*time.Second)
	p.pause, p.behind, p.cores = crowdedPause, crowdedBehind, allCores
	var d driven
	straight(g.legs, func() { d = g.drive(t, p) })
	return d
}
