package bench

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"baton/test/e2e/node"
)

// What a relay is to take of one core, beside rtpengine in user space in the same run.
const (
	relayShare  = 0.5 // of rtpengine's processor time for a packet, RTP on both sides
	sealedShare = 0.7 // the same, SRTP on one side
	fullRate    = 340_000

	fewCalls  = 50 // below which a packet is passed on at once
	fewAdded  = 150 * time.Microsecond
	tickAdded = 2 * time.Millisecond // p50
	tickTail  = 4 * time.Millisecond // p99

	nodeMillion = 8.0 // CPU-seconds of a whole node for a million packets of 200 calls
)

// limitsTime is how long each point is measured.
const limitsTime = 8 * time.Second

// relayer is a program that passes packets on and does little else, alone on one core; the generator has another.
type relayer struct {
	server
	most int             // calls that it can have
	call func(by cipher) // sets up one more, RTP on one side
}

// relayers are those that are compared.
var relayers = []struct {
	name  string
	start func(*testing.T, *generator) relayer
}{{"engine", startEngineAlone}, {"rtpengine", startRtpengineAlone}}

func startEngineAlone(t *testing.T, g *generator) relayer {
	t.Helper()
	e := engineAlone(t, "off")
	return relayer{e.server, allow(t, e.pid), func(by cipher) { e.call(t, g, by) }}
}

func engineAlone(t *testing.T, fastpath string) *engine {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	return runEngine(t, fastpath, append(alone(), exe)...)
}

func startRtpengineAlone(t *testing.T, g *generator) relayer {
	t.Helper()
	s, ng := startRtpengine(t, alone())
	return relayer{s, ng.most, func(by cipher) { ng.call(g, by) }}
}

// call sets up a call between a leg with RTP and one that seals what it sends, if the cipher is one.
func (e *engine) call(t *testing.T, g *generator, by cipher) {
	t.Helper()
	a, b := g.newLeg(), g.newLeg()
	x, left := e.open(a.addr, false)
	y, right := e.open(b.addr, false)
	a.to, b.to = left.At, right.At
	sealed := order{Do: "apply", Leg: y, At: netip.AddrPortFrom(b.addr, rtpPort)}
	if by.suite != "" {
		sealed.Suite, sealed.In, sealed.Out = by.suite, by.seal(t, b), by.key()
	}
	e.tell(order{Do: "apply", Leg: x, At: netip.AddrPortFrom(a.addr, rtpPort)})
	e.tell(sealed)
	e.tell(order{Do: "bridge", Leg: x, With: y})
}

// passed is what a server made of the packets of so many calls.
type passed struct {
	driven
	control driven        // the same packets from leg to leg, without a server
	spent   time.Duration // of the server's, in the window
	calls   int
	flight  int
}

// million is the processor time for a million packets, in seconds.
func (p passed) million() float64 { return p.spent.Seconds() * 1e6 / float64(max(1, p.passed())) }
func (p passed) passed() int64    { return p.driven.passed }

// perCore is how many packets a second of the server's processor time does.
func (p passed) core() float64 { return 100 * p.spent.Seconds() / p.span.Seconds() }

// added is by how much the server makes a quantile of the delays longer.
func (p passed) added(q float64) time.Duration {
	return max(0, p.delays.quantile(q)-p.control.delays.quantile(q))
}

// whole says that nothing was lost, and that the generator has sent what was due.
func (p passed) whole() bool { return p.lost() == 0 && !p.short() }

// pass has all legs of the generator talk through a server, and then without one.
func (s server) pass(t *testing.T, g *generator, calls, flight int, window time.Duration) passed {
	t.Helper()
	if len(g.legs) != 2*calls {
		t.Fatalf("%d legs, want %d", len(g.legs), 2*calls)
	}
	p := steady(g.legs, window)
	p.flight = flight
	return s.passBy(t, g, p)
}

// passBy is pass by a plan of one's own.
func (s server) passBy(t *testing.T, g *generator, p plan) passed {
	t.Helper()
	read := s.clock()
	var cpu []time.Duration
	p.at = func() { cpu = append(cpu, read()) }
	r := passed{driven: g.drive(t, p), calls: len(p.legs) / 2, flight: p.flight}
	r.spent = cpu[1] - cpu[0]
	if r.passed() == 0 {
		t.Fatalf("%s relays nothing", s.name)
	}
	p.window, p.at = p.window/2, func() {}
	straight(g.legs, func() { r.control = g.drive(t, p) })
	return r
}

// tell prints and records it.
func (p passed) tell(name string) {
	times := ""
	if p.delays.n > 0 && p.flight == 0 {
		times = fmt.Sprintf("p50 %s, p99 %s µs, without it %s / %s; ", micro(p.delays.quantile(0.5)), micro(p.delays.quantile(0.99)),
			micro(p.control.delays.quantile(0.5)), micro(p.control.delays.quantile(0.99)))
		lessMS(name+"latency added, p50", p.added(0.5))
		lessMS(name+"latency added, p99", p.added(0.99))
	}
	note("%s%.0f packets/s, %.2f CPU-s per million, %.0f %% of a core; %s%d of %d lost; the load took %.0f %% of its core",
		name, p.rate(), p.million(), p.core(), times, p.lost(), p.sent, p.busy())
	less(name+"CPU-seconds per million packets", p.million(), "s")
	less(name+"packets lost", p.lostShare(), "%")
	if p.lost()+p.control.lost() > 0 {
		note("%sdropped by the kernel at full sockets %d, at full queues %d; without a server %d lost, %d and %d", name, p.sockets, p.queues, p.control.lost(), p.control.sockets, p.control.queues)
	}
	if p.short() || p.control.short() {
		note("%sthis machine was too busy: %d of %d packets were sent in time, %d of %d without a server", name, p.sent, p.due, p.control.sent, p.control.due)
	}
}

// compared measures one kind of calls with each of the relays that are installed, one after the other.
func compared(t *testing.T, calls, flight int, by cipher, kind string) map[string]passed {
	all := map[string]passed{}
	for _, r := range relayers {
		t.Run(r.name, func(t *testing.T) {
			g := newGenerator(t)
			s := r.start(t, g)
			for range calls {
				s.call(by)
			}
			p := s.pass(t, g, calls, flight, limitsTime)
			p.tell(fmt.Sprintf("%s: %s, ", r.name, kind))
			all[r.name] = p
		})
	}
	return all
}

// within judges the engine's processor time by rtpengine's.
func within(t *testing.T, all map[string]passed, kind string, share float64) {
	t.Helper()
	work := kind + ": CPU-seconds per million packets"
	engine, ok := all["engine"]
	if !ok {
		return // the test has failed
	}
	beside(work, "s", "engine", engine.million())
	limit := fmt.Sprintf("≤ %.1f × rtpengine", share)
	peer, ok := all["rtpengine"]
	if !ok {
		note("%s: %.2f CPU-s per million; there is no rtpengine to compare it with (limit %s)", kind, engine.million(), limit)
		return
	}
	beside(work, "s", "rtpengine", peer.million())
	ratio := engine.million() / peer.million()
	ok = ratio <= share && engine.whole()
	held(work, limit, ok)
	verdict(t, ok, "%s: %.2f CPU-s per million, rtpengine %.2f, ratio %.2f (limit %.1f); %d of %d lost", kind, engine.million(), peer.million(), ratio, share, engine.lost(), engine.sent)
}

// TestLimits compares the media engine alone with rtpengine, RTP on both sides, each on one core.
func TestLimits(t *testing.T) {
	for _, calls := range []int{20, 40, 100, 500, 1000} {
		t.Run(strconv.Itoa(calls), func(t *testing.T) {
			kind := fmt.Sprintf("relay of %d calls on one core", calls)
			all := compared(t, calls, 0, ciphers[0], kind)
			engine, ok := all["engine"]
			if !ok {
				return
			}
			for name, p := range all {
				beside(kind+": latency added, p50", "ms", name, p.added(0.5).Seconds()*1e3)
				beside(kind+": latency added, p99", "ms", name, p.added(0.99).Seconds()*1e3)
			}
			if calls >= 100 {
				within(t, all, kind, relayShare)
			}
			p50, p99 := engine.added(0.5), engine.added(0.99)
			switch {
			case calls < fewCalls:
				held(kind+": latency added, p50", "≤ 0.15 ms", p50 <= fewAdded)
				verdict(t, p50 <= fewAdded, "%s: latency added p50 %s µs (limit %s)", kind, micro(p50), micro(fewAdded))
			case calls == 500:
				held(kind+": latency added, p50", "≤ 2 ms", p50 <= tickAdded)
				held(kind+": latency added, p99", "≤ 4 ms", p99 <= tickTail)
				verdict(t, p50 <= tickAdded && p99 <= tickTail, "%s: latency added p50 / p99 %s / %s µs (limit %s / %s)",
					kind, micro(p50), micro(p99), micro(tickAdded), micro(tickTail))
			}
		})
	}
}

// TestLimitsOfSRTP is the same with SRTP by SDES on one side.
func TestLimitsOfSRTP(t *testing.T) {
	for _, by := range ciphers[1:] {
		t.Run(by.name, func(t *testing.T) {
			kind := "relay of 1000 calls of RTP to " + by.name + " on one core"
			within(t, compared(t, 1000, 0, by, kind), kind, sealedShare)
		})
	}
}

// TestLimitsOfRate measures what a relay passes on at the most: as soon as a packet has come the next is sent. 256 under way are few for a
// relay that waits for more to come, so there is a second round with more.
func TestLimitsOfRate(t *testing.T) {
	best, work := 0.0, "relay saturated, one core: packets a second"
	for _, flight := range []int{256, 2048} {
		t.Run(strconv.Itoa(flight), func(t *testing.T) {
			kind := fmt.Sprintf("relay of 1000 calls on one core, %d packets under way", flight)
			for name, p := range compared(t, 1000, flight, ciphers[0], kind) {
				more(name+": "+kind+", packets a second", p.rate(), "/s")
				beside(kind+": packets a second", "", name, p.rate())
				note("%s: %s: the same load without a relay %.0f packets/s; stood still %d times", name, kind, p.control.rate(), p.stalls)
				if name == "engine" {
					best = max(best, p.rate())
				}
			}
		})
	}
	held(work, fmt.Sprintf("≥ %d", fullRate), best >= fullRate)
	beside(work, "", "engine", best)
	verdict(t, best >= fullRate, "%s: %.0f (limit %d)", work, best, fullRate)
}

// TestLimitsOfNode measures a whole node on one core with 200 calls, as it is and where the kernel forwards what is plain.
func TestLimitsOfNode(t *testing.T) {
	for _, fastpath := range []string{"off", "auto"} {
		t.Run(fastpath, func(t *testing.T) { limitOfNode(t, fastpath) })
	}
}

func limitOfNode(t *testing.T, fastpath string) {
	const calls = 200
	g := newGenerator(t)
	l := newLoadedOn(t, node.Options{Config: loadedConfig + unlimited, Env: []string{"GOMAXPROCS=1", "BATON_MEDIA_FASTPATH=" + fastpath}}, 20, g)
	up := l.calls(t, calls)
	plan := steady(g.legs, limitsTime)
	kind := "a whole node relaying 200 calls on one core"
	if fastpath != "off" {
		kind += ", the kernel forwards"
		plan.warm, plan.settle = fastWarm, fastSettle
	}
	p := of(l.node).bound(t).passBy(t, g, plan)
	p.tell("baton: " + kind + ", ")
	work := kind + ": CPU-seconds per million packets"
	ok := p.million() <= nodeMillion && p.whole()
	beside(work, "s", "baton", p.million())
	held(work, fmt.Sprintf("≤ %.0f", nodeMillion), ok)
	verdict(t, ok, "%s: %.2f CPU-s per million (limit %.0f), %d of %d lost", kind, p.million(), nodeMillion, p.lost(), p.sent)
	paced(t, calls, 200, func(i int) error { return up[i].bye() })
}
