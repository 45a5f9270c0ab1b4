package bench

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"baton/test/phone"

	"golang.org/x/sys/unix"
)

// costs are those of passing packets on: for the whole machine, that is the node and, because the kernel works in its time, the generator,
// less what the same packets take from leg to leg.
type costs struct {
	cpu, node float64 // seconds per million packets: of both, of the node alone
	p50, p99  time.Duration
	lost      float64 // percent
	kernel    float64 // percent of what came in: forwarded by the kernel
}

// TestFastPath measures the same calls with media.fastpath off and on: the limits are those of TestLimitsOfFastpath, through a node.
func TestFastPath(t *testing.T) {
	for _, calls := range []int{100, 500} {
		got := map[string]costs{}
		for _, mode := range []string{"off", "on"} {
			t.Run(fmt.Sprintf("%d/%s", calls, mode), func(t *testing.T) { got[mode] = throughNode(t, calls, mode) })
		}
		off, on := got["off"], got["on"]
		if on.kernel == 0 {
			t.Fatalf("the kernel forwards nothing here")
		}
		verdict(t, on.cpu <= fastMillion, "fast path, %d calls: %.2f CPU-s per million packets (limit %.1f), %.2f of them the node's; without it %.2f, %.2f of them the node's",
			calls, on.cpu, fastMillion, on.node, off.cpu, off.node)
		verdict(t, on.p50 <= fastAdded && on.p99 <= fastTail, "fast path, %d calls: latency added p50 %s, p99 %s µs (limits %s, %s); without it %s, %s",
			calls, micro(on.p50), micro(on.p99), micro(fastAdded), micro(fastTail), micro(off.p50), micro(off.p99))
		verdict(t, on.lost == 0, "fast path, %d calls: %.3f %% lost; without it %.3f %%", calls, on.lost, off.lost)
		less(fmt.Sprintf("fast path, %d calls, CPU-seconds per million packets", calls), on.cpu, "s")
		lessMS(fmt.Sprintf("fast path, %d calls, latency added, p99", calls), on.p99)
	}
}

func throughNode(t *testing.T, calls int, mode string) costs {
	g := newGenerator(t)
	l := newLoadedWith(t, loadedConfig+"  fastpath: "+mode+"\n"+unlimited, 20, g)
	up := l.calls(t, calls)
	defer paced(t, calls, 200, func(i int) error { return up[i].bye() })
	g.mu.Lock()
	legs := g.legs
	g.mu.Unlock()
	s := of(l.node)
	var node, both []time.Duration
	sample := func() {
		n := s.cpu()
		node, both = append(node, n), append(both, n+cpuClock(unix.CLOCK_PROCESS_CPUTIME_ID))
	}
	g.measure(legs, 0, func() {}) // until the kernel has them
	time.Sleep(100 * time.Millisecond)
	m := g.measure(legs, relayTime, sample)
	share := kernelShare(t, l)
	for i, leg := range legs {
		leg.to = netip.AddrPortFrom(legs[i^1].addr, rtpPort)
	}
	base := g.measure(legs, relayTime/2, sample)
	if m.heard == 0 || base.heard == 0 {
		t.Fatal("nothing is heard")
	}
	per := func(d time.Duration, n int64) float64 { return d.Seconds() * 1e6 / float64(n) }
	p := costs{
		cpu: per(both[1]-both[0], m.heard) - per(both[3]-both[2]-(node[3]-node[2]), base.heard), node: per(node[1]-node[0], m.heard),
		p50:  phone.Quantile(m.delays, 0.5) - phone.Quantile(base.delays, 0.5),
		p99:  phone.Quantile(m.delays, 0.99) - phone.Quantile(base.delays, 0.99),
		lost: max(0, 100*(1-float64(m.heard)/float64(m.sent))), kernel: share,
	}
	note("media.fastpath %s, %d calls: %.2f CPU-s per million packets, %.2f of them the node's; added p50 %s, p99 %s µs; %.0f %% by the kernel; without a relay p50 %s, p99 %s µs, %.2f CPU-s per million",
		mode, calls, p.cpu, p.node, micro(p.p50), micro(p.p99), p.kernel, micro(phone.Quantile(base.delays, 0.5)), micro(phone.Quantile(base.delays, 0.99)),
		per(both[3]-both[2]-(node[3]-node[2]), base.heard))
	return p
}

// kernelShare is the share, in percent, of the packets of all legs that the kernel has forwarded.
func kernelShare(t *testing.T, l *loaded) float64 {
	t.Helper()
	var calls []struct {
		Seats []struct {
			Legs []struct {
				Stats struct {
					Kernel uint64
					In     struct{ Packets uint64 }
				}
			}
		}
	}
	must(t, l.node.JSON(&calls, "calls", "--json"))
	var in, kernel uint64
	for _, c := range calls {
		for _, s := range c.Seats {
			for _, leg := range s.Legs {
				in, kernel = in+leg.Stats.In.Packets, kernel+leg.Stats.Kernel
			}
		}
	}
	if text := l.node.Output(); in == 0 || strings.Contains(text, "cannot forward") {
		note("the kernel does not forward here: %d packets", in)
	}
	return 100 * float64(kernel) / float64(max(in, 1))
}
