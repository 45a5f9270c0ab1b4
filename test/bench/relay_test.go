package bench

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
	var base measured
	straight(legs, func() { base = g.measure(legs, relayTime/2, func() {}) })
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
			up := l.calls(t, calls)
			relay(t, of(l.node), g, calls)
			paced(t, calls, 200, func(i int) error { return up[i].bye() })
		})
	}
}

func TestRelayOfRtpengine(t *testing.T) {
	for _, calls := range []int{100, 500} {
		t.Run(strconv.Itoa(calls), func(t *testing.T) {
			s, ng := startRtpengine(t, nil)
			g := newGenerator(t)
			for range calls {
				ng.call(g, ciphers[0])
			}
			relay(t, s, g, calls)
		})
	}
}

// startRtpengine starts it with a command before its own, as taskset.
func startRtpengine(t *testing.T, before []string) (server, *ngClient) {
	t.Helper()
	ng := &ngClient{t: t, to: netip.AddrPortFrom(node.IP(1), 2223)}
	s := startPeerBehind(t, before, "rtpengine-daemon", "rtpengine", "--config-file=none", "--interface="+node.IP(1).String(), "--listen-ng="+ng.to.String(),
		"--table=-1", "--foreground", "--log-stderr", "--log-level=4", fmt.Sprintf("--port-min=%d", relayPorts.First), fmt.Sprintf("--port-max=%d", relayPorts.Last))
	ng.most = allow(t, s.pid)
	ng.await()
	return s, ng
}

// filesOfCall is how many files a relay has open for a call: four sockets.
const filesOfCall = 4

// allow lets a process have as many files open as may be, and says for how many calls that is enough.
func allow(t *testing.T, pid int) (calls int) {
	t.Helper()
	var l unix.Rlimit
	if unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 65536, Max: 65536}, nil) != nil { // that takes a right
		must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &l))
		l.Cur = l.Max
		must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &l, nil))
	}
	must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &l))
	return (int(l.Cur) - 200) / filesOfCall
}

// ngClient speaks rtpengine's control protocol: a cookie and a bencoded dictionary in a datagram.
type ngClient struct {
	t     *testing.T
	to    netip.AddrPort
	n     int
	calls int
	most  int // calls that it has files for
}

// call sets up a call between a leg with RTP and one that seals what it sends, if the cipher is one.
func (c *ngClient) call(g *generator, by cipher) {
	c.t.Helper()
	a, b := g.newLeg(), g.newLeg()
	at := func(l *leg) string { return string(description(netip.AddrPortFrom(l.addr, rtpPort))) }
	c.calls++
	id := fmt.Sprintf("call-%d", c.calls)
	offer := map[string]string{"command": "offer", "call-id": id, "from-tag": "a", "sdp": at(a)}
	answer := map[string]string{"command": "answer", "call-id": id, "from-tag": "a", "to-tag": "b", "sdp": at(b)}
	if by.suite != "" {
		offer["transport-protocol"] = "RTP/SAVP"
	}
	offered := c.ask(offer)
	b.to = audioAddress([]byte(offered))
	if by.suite != "" {
		answer["sdp"] = strings.Replace(at(b), "RTP/AVP", "RTP/SAVP", 1) + "a=crypto:" + tagOf(c.t, offered, by.suite) + " " + by.suite + " inline:" + base64.StdEncoding.EncodeToString(by.seal(c.t, b)) + "\r\n"
	}
	answered := c.ask(answer)
	a.to = audioAddress([]byte(answered))
	if strings.Contains(answered, "a=crypto:") {
		c.t.Fatalf("rtpengine wants SRTP on both sides:\n%s", answered)
	}
}

// tagOf is the tag of a suite in an offer.
func tagOf(t *testing.T, sdp, suite string) string {
	t.Helper()
	for line := range strings.Lines(sdp) {
		if f := strings.Fields(strings.TrimPrefix(line, "a=crypto:")); strings.HasPrefix(line, "a=crypto:") && f[1] == suite {
			return f[0]
		}
	}
	t.Fatalf("rtpengine does not offer %s:\n%s", suite, sdp)
	return ""
}

// ask gives the description that comes back.
func (c *ngClient) ask(fields map[string]string) string {
	c.t.Helper()
	text, err := c.exchange(fields)
	must(c.t, err)
	_, sdp, ok := strings.Cut(text, "3:sdp")
	if !ok {
		c.t.Fatalf("rtpengine answers %s with %q", fields["command"], text)
	}
	size, sdp, _ := strings.Cut(sdp, ":")
	if n, err := strconv.Atoi(size); err == nil {
		sdp = sdp[:min(n, len(sdp))]
	}
	return sdp
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
	buf := make([]byte, 8192)
	for range 5 { // a busy one may be late; the same cookie is answered with what was answered before
		if _, err = conn.Write([]byte(message + "e")); err != nil {
			return "", err
		}
		conn.SetReadDeadline(time.Now().Add(time.Second))
		var n int
		if n, err = conn.Read(buf); err == nil {
			return string(buf[:n]), nil
		}
	}
	return "", err
}
