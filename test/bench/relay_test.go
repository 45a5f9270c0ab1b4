package bench

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// relayTime is how long a relay is measured.
const relayTime = 10 * time.Second

// relay measures what a server takes for passing the packets of its legs on, and how long it holds them up. The control
// is the same packets from leg to leg without a server.
func relay(t *testing.T, s server, g *generator, calls int) {
	t.Helper()
	g.mu.Lock()
	legs := g.legs
	g.mu.Unlock()
	if len(legs) != 2*calls {
		t.Fatalf("%d legs, want %d", len(legs), 2*calls)
	}
	var cpu []time.Duration
	m := g.measure(legs, relayTime, func() { cpu = append(cpu, s.cpu()) })
	through := make([]netip.AddrPort, len(legs))
	for i, l := range legs {
		through[i], l.to = l.to, netip.AddrPortFrom(legs[i^1].addr, rtpPort)
	}
	base := g.measure(legs, relayTime/2, func() {})
	for i, l := range legs {
		l.to = through[i]
	}
	if m.heard == 0 {
		t.Errorf("%s relays nothing", s.name)
		return
	}
	spent := cpu[1] - cpu[0]
	lost := 100 * (1 - float64(m.heard)/float64(m.sent))
	p50, p99 := phone.Quantile(m.delays, 0.5), phone.Quantile(m.delays, 0.99)
	b50, b99 := phone.Quantile(base.delays, 0.5), phone.Quantile(base.delays, 0.99)
	note("%s, %d calls: %.0f packets/s, %.1f CPU-s per million, %.0f %% of a core; p50 %s, p99 %s µs; without a relay %s / %s µs; %.3f %% lost",
		s.name, calls, float64(m.heard)/relayTime.Seconds(), spent.Seconds()*1e6/float64(m.heard), 100*spent.Seconds()/relayTime.Seconds(),
		micro(p50), micro(p99), micro(b50), micro(b99), max(lost, 0))
	name := fmt.Sprintf("%s: relay, %d calls, ", s.name, calls)
	less(name+"CPU-seconds per million packets", spent.Seconds()*1e6/float64(m.heard), "s")
	lessMS(name+"latency added, p50", p50-b50)
	lessMS(name+"latency added, p99", p99-b99)
	less(name+"packets lost", max(lost, 0), "%")
	if want := relayTime.Seconds() * 100 * float64(calls); float64(m.sent) < 0.99*want {
		note("%s, %d calls: this machine was too busy to send more than %d of %.0f packets in time", s.name, calls, m.sent, want)
	}
}

func TestRelay(t *testing.T) {
	for _, calls := range []int{100, 500} {
		t.Run(strconv.Itoa(calls), func(t *testing.T) {
			g := newGenerator(t)
			l := newLoaded(t, 20, g)
			up := make([]*dialled, calls)
			if failed := paced(t, calls, 50, func(i int) (err error) {
				up[i], err = l.callers[i%20].dial(l.callees[i%20].user)
				return err
			}); failed > 0 {
				t.Fatalf("%d of %d calls failed", failed, calls)
			}
			relay(t, of(l.node), g, calls)
			paced(t, calls, 200, func(i int) error { return up[i].bye() })
		})
	}
}

func TestRelayOfRtpengine(t *testing.T) {
	for _, calls := range []int{100, 500} {
		t.Run(strconv.Itoa(calls), func(t *testing.T) {
			control := netip.AddrPortFrom(node.IP(1), 2223)
			s := startPeer(t, "rtpengine-daemon", "rtpengine", "--config-file=none", "--interface="+node.IP(1).String(), "--listen-ng="+control.String(),
				"--table=-1", "--foreground", "--log-stderr", "--log-level=4", "--port-min=30000", "--port-max=39999")
			g := newGenerator(t)
			ng := ngClient{t: t, to: control}
			ng.await()
			for i := range calls {
				a, b := g.newLeg(), g.newLeg()
				id := fmt.Sprintf("call-%d", i)
				b.to = ng.ask(map[string]string{"command": "offer", "call-id": id, "from-tag": "a", "sdp": string(description(netip.AddrPortFrom(a.addr, rtpPort)))})
				a.to = ng.ask(map[string]string{"command": "answer", "call-id": id, "from-tag": "a", "to-tag": "b", "sdp": string(description(netip.AddrPortFrom(b.addr, rtpPort)))})
			}
			relay(t, s, g, calls)
		})
	}
}

// ngClient speaks rtpengine's control protocol: a cookie and a bencoded dictionary in a datagram.
type ngClient struct {
	t  *testing.T
	to netip.AddrPort
	n  int
}

// ask gives the address for audio of the description that comes back.
func (c *ngClient) ask(fields map[string]string) netip.AddrPort {
	c.t.Helper()
	text, err := c.exchange(fields)
	must(c.t, err)
	_, sdp, ok := strings.Cut(text, "3:sdp")
	if !ok {
		c.t.Fatalf("rtpengine answers %s with %q", fields["command"], text)
	}
	_, sdp, _ = strings.Cut(sdp, ":")
	return audioAddress([]byte(sdp))
}

// await waits until rtpengine answers.
func (c *ngClient) await() {
	c.t.Helper()
	var err error
	for range 50 {
		if _, err = c.exchange(map[string]string{"command": "ping"}); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.t.Fatalf("rtpengine does not answer: %v", err)
}

func (c *ngClient) exchange(fields map[string]string) (string, error) {
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(c.to))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	c.n++
	message := strconv.Itoa(c.n) + " d"
	for k, v := range fields {
		message += fmt.Sprintf("%d:%s%d:%s", len(k), k, len(v), v)
	}
	if _, err := conn.Write([]byte(message + "e")); err != nil {
		return "", err
	}
	conn.SetReadDeadline(time.Now().Add(time.Second))
	buf := make([]byte, 8192)
	n, err := conn.Read(buf)
	return string(buf[:n]), err
}
