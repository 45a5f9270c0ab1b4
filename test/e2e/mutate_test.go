package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/mutate"
	"baton/test/phone"
)

// bad is how many mutated messages of each kind are sent. They are the same in every run, in their own order.
const bad = 10_000

// barrage is a node with calls that must not be harmed, and others that are shot at from within.
type barrage struct {
	*live
	server  string
	erin    *phone.Phone
	targets []*phone.Call // of calls that may come to harm, but must end as they should
	mu      sync.Mutex
	sockets []io.Closer // of those who shoot; guarded by mu
	base    node.Debug  // before the targets' calls
	fds     int
	ports   int
	rss     atomic.Int64 // the most that was seen
}

// TestMutated sends 10,000 mutated messages each of SIP over UDP and over TCP, of SDP, RTP, RTCP and STUN to a node with live calls:
// it answers all along and never with 500, no frame of the calls is lost, and in the end it holds what it held before.
func TestMutated(t *testing.T) {
	b := newBarrage(t)
	stop := b.watchMemory()
	for _, f := range []struct {
		name string
		do   func()
	}{
		{"SIP over UDP", b.sipUDP}, {"SIP over TCP", b.sipTCP}, {"SDP, RTP, RTCP and STUN", b.bodiesAndPackets},
	} {
		begin := time.Now()
		f.do()
		t.Logf("%s: %s", f.name, time.Since(begin).Round(100*time.Millisecond))
	}
	b.unharmed()
	t.Parallel() // what follows is to wait until transactions end
	b.asBefore()
	stop()
	b.over()
}

func newBarrage(t *testing.T) *barrage {
	t.Helper()
	users := liveUsers()
	for i, name := range []string{"erin", "frank", "grace", "heidi", "ivan", "judy", "kim"} {
		users[name] = fmt.Sprint(105 + i)
	}
	w := newWorld(t, node.Options{Config: "call:\n  announce: false\nmedia:\n  ports: 20000-49999\n" + unlimited, Users: users})
	b := &barrage{live: newLive(w), server: w.UDP.String(), erin: w.phone("erin", "caller")}
	w.phone("frank", "busy").Behave(phone.Behaviour{Reject: 486})
	w.phone("grace", "short").Behave(phone.Behaviour{Answer: true, HangUp: true})
	var pairs [][2]*phone.Phone
	for _, names := range [][2]string{{"heidi", "ivan"}, {"judy", "kim"}} {
		pairs = append(pairs, [2]*phone.Phone{w.phone(names[0], "target"), w.phone(names[1], "target")})
	}
	var err error
	b.base, err = b.Debug()
	w.must(err)
	b.fds, b.ports = b.FDs(), b.UDPSockets()
	for _, p := range pairs {
		out, in := w.connect(p[0], p[1].Config().User, p[1])
		b.targets = append(b.targets, out, in)
	}
	return b
}

// watchMemory looks at the node's memory until it is stopped.
func (b *barrage) watchMemory() (stop func()) {
	before, done := b.RSS(), make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			b.rss.Store(max(b.rss.Load(), b.RSS()))
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	return func() {
		close(done)
		watching.Wait()
		grown := b.rss.Load() - before
		b.t.Logf("resident memory grew by %d MiB at most", grown>>20)
		if grown > 256<<20 {
			b.t.Errorf("resident memory grew by %d MiB", grown>>20)
		}
	}
}

// asBefore brings the calls that were shot at to their senses and ends them, and waits until the node holds what it held without them: the longest that it keeps is a
// transaction, 32 s.
func (b *barrage) asBefore() {
	b.t.Helper()
	for i := 0; i < len(b.targets); i += 2 {
		out, in := b.targets[i], b.targets[i+1]
		b.must(out.Resume())
		b.talk(out, in)
		b.must(out.Hangup())
		b.ended(in)
	}
	for _, c := range b.sockets {
		c.Close()
	}
	if _, err := b.CLI("user", "remove", "erin"); err != nil { // and what was registered in her name
		b.t.Error(err)
	}
	b.Eventually(70*time.Second, "the node to hold what it held before", func() error {
		d, err := b.Debug()
		if err != nil {
			return err
		}
		fds, ports := b.FDs(), b.UDPSockets()
		if d.Calls != b.base.Calls || d.Streams != b.base.Streams || d.Dialogs != b.base.Dialogs || d.Records != b.base.Records || d.Subscriptions != b.base.Subscriptions ||
			d.Transactions > b.base.Transactions+4 || d.Goroutines > b.base.Goroutines+4 || d.Connections.Open > b.base.Connections.Open ||
			fds > b.fds || ports != b.ports || d.HeapBytes > b.base.HeapBytes+16<<20 {
			return fmt.Errorf("%+v, %d descriptors, %d ports; it was %+v, %d, %d", d, fds, ports, b.base, b.fds, b.ports)
		}
		return nil
	})
}

// sipUDP sends three in four as a stranger, among them requests in the dialogs of the live calls, and one in four with erin's password
// on a good first line, so that the rest of it reaches what serves it.
func (b *barrage) sipUDP() {
	var seeds [][]byte
	for _, pair := range b.calls {
		seeds = append(seeds, dialogSeeds(b.server, pair[0], pair[1])...)
	}
	seeds = append(append(append(seeds, methodSeeds(b.server)...), answerSeeds(b.server)...), tortureSeeds()...)
	stranger, erin := b.newShooter(node.IP(18)), b.newShooter(node.IP(17))
	m, mine := mutate.New(1, 8000, seeds, b.words()...), b.withPassword()
	sent := 0
	for n := range bad {
		if n%4 == 3 {
			erin.send(mine(n, erin.challenge()))
		} else {
			stranger.send(m.Next())
			sent++
		}
		if n%40 == 39 { // no flood: each shall be read
			stranger.alive(n)
			erin.alive(n)
		}
	}
	if got := int(stranger.answers.Load()); got > sent || got < sent/20 {
		b.t.Errorf("%d answers to %d messages of a stranger", got, sent)
	}
	b.t.Logf("%d answers to %d messages of a stranger, %d to %d of erin's", stranger.answers.Load(), sent, erin.answers.Load(), bad-sent)
}

// words are what a mutation may put in, beside what no grammar likes: names that mean something.
func (b *barrage) words() []string {
	return []string{
		"Content-Length: 99999\r\n", "Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK1\r\n", "Require: x\r\n", "SIP/2.0", "z9hG4bK", ";tag=",
		"Route: <sip:evil;lr>\r\n", ";rport", ";maddr=224.0.0.1", "*40", "sip:", "tel:", "INVITE", "BYE", b.server,
	}
}

// withPassword makes the n-th request of erin's, good in its first line and in what proves who she is.
func (b *barrage) withPassword() func(n int, challenge string) []byte {
	type kind struct {
		line, method, uri string
		m                 *mutate.Mutator
	}
	var kinds []kind
	for i, seed := range methodSeeds(b.server) {
		line, rest, _ := bytes.Cut(seed, []byte("\r\n"))
		f := strings.Fields(string(line))
		kinds = append(kinds, kind{string(line), f[0], f[1], mutate.New(uint64(100+i), 8000, [][]byte{rest}, b.words()...)})
	}
	return func(n int, challenge string) []byte {
		k := kinds[n/4%len(kinds)]
		rest := bytes.ReplaceAll(k.m.Next(), []byte("m-"), fmt.Appendf(nil, "m%d-", n)) // or it would be taken for one that was served
		credentials := phone.Digest(challenge, "erin", node.Password("erin"), k.method, k.uri)
		return fmt.Appendf(nil, "%s\r\nAuthorization: %s\r\n%s", k.line, credentials, rest)
	}
}

// sipTCP sends one to four messages on each of many connections, ends it, and hears what is said until the node has closed it too.
func (b *barrage) sipTCP() {
	seeds := append(append(methodSeeds(b.server), answerSeeds(b.server)...), tortureSeeds()...)
	m := mutate.New(2, 8000, seeds, b.words()...)
	answers, connections := 0, 0
	for n := 0; n < bad; connections++ {
		var all []byte
		for range min(1+m.Int(4), bad-n) {
			all = append(all, m.Next()...)
			n++
		}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: node.IP(10 + connections%9).AsSlice()}, Timeout: 5 * time.Second}
		conn, err := d.Dial("tcp", b.TCP.String())
		b.must(err)
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		conn.Write(all) // it may be closed before all is written
		conn.(*net.TCPConn).CloseWrite()
		said, err := io.ReadAll(conn)
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			b.t.Fatalf("connection %d is not closed by the node; it was sent %q", connections, all)
		}
		conn.Close()
		answers += len(statusLine.FindAll(said, -1))
		if bytes.Contains(said, []byte("SIP/2.0 500 ")) {
			b.t.Errorf("500 to one of %q:\n%s", all, said)
		}
	}
	if answers < bad/20 || answers > bad {
		b.t.Errorf("%d answers to %d messages", answers, bad)
	}
	b.t.Logf("%d answers on %d connections", answers, connections)
}

var statusLine = regexp.MustCompile(`(?m)^SIP/2\.0 [1-6]\d\d `)

// bodiesAndPackets has erin call with mutated offers, the calls that may come to harm change their sound by them, and packets of all
// kinds go to the ports of audio meanwhile.
func (b *barrage) bodiesAndPackets() {
	var all sync.WaitGroup
	codes := newTally()
	for i := range 2 {
		m := mutate.New(uint64(10+i), 17<<10, sdpSeeds(b.erin.Config().Addr.String()), sdpWords...)
		all.Go(func() { b.invite(m, bad/4, codes) })
		c := b.targets[2*i]
		k := mutate.New(uint64(20+i), 17<<10, sdpSeeds(c.Phone().Config().Addr.String()), sdpWords...)
		all.Go(func() { b.reinvite(c, k, bad/4, codes) })
	}
	all.Go(func() { b.packets(mutate.New(30, 1400, rtpSeeds()), isRTP) })
	all.Go(func() { b.packets(mutate.New(31, 1400, rtcpSeeds()), isRTCP) })
	all.Go(func() { b.packets(mutate.New(32, 1400, stunSeeds()), isSTUN) })
	all.Wait()
	b.t.Logf("SDP was answered %s", codes)
	for _, code := range []int{200, 400, 486, 488} {
		if codes.of(code) == 0 {
			b.t.Errorf("SDP was never answered %d: the mutations do not reach that far", code)
		}
	}
	if n := codes.of(500); n > 0 {
		b.t.Errorf("SDP was answered 500 %d times", n)
	}
}

var sdpWords = []string{
	"m=audio 30000 RTP/AVP 0\r\n", "c=IN IP4 224.0.0.1\r\n", "c=IN IP4 255.255.255.255\r\n", "c=IN IP4 127.0.0.1\r\n", "c=IN IP6 ::1\r\n", "a=inactive\r\n",
	"a=rtcp:1 IN IP4 127.0.0.1\r\n", "a=rtpmap:0 opus/48000/2\r\n", "a=fmtp:0 ", "a=ptime:0\r\n", "RTP/SAVP", "telephone-event/8000", "/99999999", " 127 128 -1",
}

// invite calls with mutated offers, most a phone that is busy, some one that answers and hangs up.
func (b *barrage) invite(m *mutate.Mutator, n int, codes *tally) {
	for i := range n {
		to := "frank"
		if i%20 == 0 {
			to = "grace"
		}
		c, err := b.erin.Dial(to, phone.DialOptions{SDP: m.Next()})
		if err == nil {
			err = c.AwaitEnd(40 * time.Second)
		}
		if err != nil || c.Final() == nil {
			b.t.Errorf("INVITE %d: %v", i, err)
			return
		}
		codes.add(c.Final().Code)
	}
}

// reinvite changes the sound of a call by mutated offers.
func (b *barrage) reinvite(c *phone.Call, m *mutate.Mutator, n int, codes *tally) {
	for i := range n {
		body := m.Next()
		if len(body) == 0 { // would ask for an offer, and the ACK would owe its answer
			body = []byte{0}
		}
		code, err := c.Reinvite(body)
		if err != nil {
			b.t.Errorf("re-INVITE %d: %v", i, err)
			return
		}
		codes.add(code)
	}
}

// What the first octets of a packet make of it (RFC 7983, RFC 5761).
func isRTCP(p []byte) bool { return len(p) > 1 && p[0]>>6 == 2 && p[1] >= 192 && p[1] <= 223 }
func isRTP(p []byte) bool  { return len(p) > 0 && p[0]>>6 == 2 && !isRTCP(p) }
func isSTUN(p []byte) bool { return len(p) > 0 && p[0] < 4 }

// packets sends 2,000 packets a second to the ports of audio: from strangers and from another port of the phone's own address to those of
// the live calls, from the phone's own sockets too where it can do no harm there, else to those of the calls that may come to harm. What
// looks like sound and comes from where the phone's own sound comes from can be told from it by nobody.
func (b *barrage) packets(m *mutate.Mutator, kind func([]byte) bool) {
	stranger := b.socket(node.IP(16))
	var own []*net.UDPConn
	var calls []*phone.Call
	for _, pair := range b.calls {
		for _, c := range pair {
			calls, own = append(calls, c), append(own, b.socket(c.Phone().Config().Addr))
		}
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	of := 0
	for n := range bad {
		if n%4 == 0 {
			<-tick.C
		}
		p := m.Next()
		if kind(p) {
			of++
		}
		c := calls[n/4%len(calls)]
		at, control := c.Peer().Addr, n/16%2 == 1
		to := netip.AddrPortFrom(at.Addr(), at.Port()+uint16(n/16%2))
		switch n % 4 {
		case 0:
			stranger.WriteToUDPAddrPort(p, to)
		case 1:
			own[n/4%len(own)].WriteToUDPAddrPort(p, to)
		case 2:
			if isRTP(p) && !control {
				c = b.targets[n/4%len(b.targets)]
			}
			c.Media().SendRaw(p, control)
		case 3:
			b.targets[n/4%len(b.targets)].Media().SendRaw(p, control)
		}
	}
	if of < bad/4 {
		b.t.Errorf("only %d of %d packets are of their kind", of, bad)
	}
}

func (b *barrage) socket(ip netip.Addr) *net.UDPConn {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
	if err != nil {
		b.t.Error(err)
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sockets = append(b.sockets, conn)
	return conn
}

// tally counts statuses.
type tally struct {
	mu sync.Mutex
	n  map[int]int
}

func newTally() *tally { return &tally{n: map[int]int{}} }

func (c *tally) add(code int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[code]++
}

func (c *tally) of(code int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[code]
}

// String is the counts by status.
func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint(c.n)
}
