package media

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"baton/config"

	"github.com/pion/rtp"
	"go.uber.org/goleak"
)

// running is an engine on real sockets.
type running struct {
	*Engine
	cancel context.CancelFunc
	ended  chan error
}

func startEngine(t testing.TB, first uint16) *running {
	t.Helper()
	return startEngineWith(t, Options{Config: config.Media{Ports: config.PortRange{First: first, Last: first + 99}}})
}

// startEngineWith runs an engine until the end of the test.
func startEngineWith(t testing.TB, o Options) *running {
	t.Helper()
	e, err := NewEngine(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Engine: e, cancel: cancel, ended: make(chan error, 1)}
	go func() { r.ended <- e.Run(ctx) }()
	t.Cleanup(cancel)
	return r
}

func (r *running) stop(t testing.TB) {
	t.Helper()
	r.cancel()
	select {
	case err := <-r.ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Run does not end")
	}
}

func (r *running) stream(t testing.TB, peer string) *Stream {
	t.Helper()
	s, err := r.Open(StreamOptions{Peer: netip.MustParseAddr(peer)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// peer is a phone's socket that keeps what it hears.
type peer struct {
	c    *net.UDPConn
	at   netip.AddrPort
	hdr  rtp.Header
	mu   sync.Mutex
	all  []seen
	more chan struct{}
	done chan struct{}
}

func newPeer(t testing.TB, ip string) *peer {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(ip), 0)))
	if err != nil {
		t.Skip(err) // no IPv6 here
	}
	p := &peer{
		c: c, at: unmapped(c.LocalAddr().(*net.UDPAddr).AddrPort()), more: make(chan struct{}, 1), done: make(chan struct{}),
		hdr: rtp.Header{Version: 2, SSRC: rand.Uint32(), SequenceNumber: uint16(rand.Uint32()), Timestamp: rand.Uint32()},
	}
	go p.read()
	t.Cleanup(p.close)
	return p
}

func (p *peer) close() { p.c.Close(); <-p.done }

func (p *peer) read() {
	defer close(p.done)
	start := time.Now()
	for {
		buf := make([]byte, 1500)
		n, _, err := p.c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.all = append(p.all, seen{at: time.Since(start), b: buf[:n]})
		p.mu.Unlock()
		select {
		case p.more <- struct{}{}:
		default:
		}
	}
}

func (p *peer) heard() []seen {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]seen(nil), p.all...)
}

func (p *peer) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all)
}

// wait until n packets have been heard.
func (p *peer) wait(t testing.TB, n int) {
	t.Helper()
	limit := time.After(10 * time.Second)
	for p.count() < n {
		select {
		case <-p.more:
		case <-limit:
			t.Fatalf("%d packets, want %d", p.count(), n)
		}
	}
}

func (p *peer) send(t testing.TB, to netip.AddrPort) {
	t.Helper()
	b, err := (&rtp.Packet{Header: p.hdr, Payload: make([]byte, 160)}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	p.hdr.SequenceNumber++
	p.hdr.Timestamp += 160
	if _, err := p.c.WriteToUDPAddrPort(b, to); err != nil {
		t.Fatal(err)
	}
}

// TestLoopback bridges two phones over the kernel's sockets, by IPv4, IPv6 and both.
func TestLoopback(t *testing.T) {
	for _, c := range [][2]string{{"127.0.0.1", "127.0.0.1"}, {"::1", "::1"}, {"127.0.0.1", "::1"}} {
		t.Run(c[0]+" "+c[1], func(t *testing.T) {
			defer goleak.VerifyNone(t)
			e := startEngine(t, 17000)
			a, b := newPeer(t, c[0]), newPeer(t, c[1])
			sa, sb := e.stream(t, c[0]), e.stream(t, c[1])
			sa.Apply(agreed(a.at, pcmu))
			sb.Apply(agreed(b.at, pcmu))
			sa.Feed(sb)
			sb.Feed(sa)
			sa.Follow(sb)
			sb.Follow(sa)
			if sa.Endpoint().Addr().String() != c[0] || sa.Endpoint().Port()%2 != 0 {
				t.Errorf("endpoint %v", sa.Endpoint())
			}
			tick := time.NewTicker(20 * ms)
			defer tick.Stop()
			for range 20 {
				a.send(t, sa.Endpoint())
				b.send(t, sb.Endpoint())
				<-tick.C
			}
			a.wait(t, 20)
			b.wait(t, 20)
			for _, p := range []*peer{a, b} {
				if k := follow(t, p.heard(), 8000); k.breaks+k.tsBreaks != 0 || k.ssrcs != 1 || k.packets != 20 {
					t.Errorf("%+v", k)
				}
			}
			e.stop(t)
			if e.OpenStreams() != 0 {
				t.Error("streams left open")
			}
			a.close()
			b.close()
		})
	}
}

// TestMovesOnSockets moves a call between two devices in real time, their phases a random time apart.
func TestMovesOnSockets(t *testing.T) {
	defer goleak.VerifyNone(t)
	e := startEngine(t, 17100)
	far := newPeer(t, "127.0.0.1")
	devices := [2]*peer{newPeer(t, "127.0.0.1"), newPeer(t, "127.0.0.1")}
	sf := e.stream(t, "127.0.0.1")
	sf.Apply(agreed(far.at, pcmu))
	var streams [2]*Stream
	stop := make(chan struct{})
	var talk sync.WaitGroup
	for i, d := range devices {
		streams[i] = e.stream(t, "127.0.0.1")
		streams[i].Apply(agreed(d.at, pcmu))
		streams[i].Feed(sf)
		streams[i].Follow(sf)
		talk.Go(func() { d.talk(t, streams[i].Endpoint(), stop) })
	}
	talk.Go(func() { far.talk(t, sf.Endpoint(), stop) })
	sf.Feed(streams[0], streams[1])
	sf.Follow(streams[0])
	far.wait(t, 10)
	markers := 1
	for i := range 10 {
		n := far.count()
		sf.Follow(streams[(i+1)%2])
		far.wait(t, n+6)
		rep := sf.Splice()
		if rep.Gap == 0 || rep.Gap > 200*ms || rep.Lost > int(rep.Gap/(20*ms)) { // a slot may be lost to a machine that stood still
			t.Errorf("move %d: %+v", i, rep)
		}
		if rep.Gap > 60*ms {
			markers++
		}
	}
	close(stop)
	talk.Wait()
	k := follow(t, far.heard(), 8000)
	t.Logf("far side: %d packets, longest gap %v, timestamps %v to %v off the clock", k.packets, k.gap, k.early, k.late)
	if k.breaks+k.tsBreaks != 0 || k.ssrcs != 1 || k.markers > markers || k.gap > 200*ms || sf.Lost() != 0 {
		t.Errorf("%+v, %d lost", k, sf.Lost())
	}
	e.stop(t)
	far.close()
	devices[0].close()
	devices[1].close()
}

// talk sends every 20 ms from a random phase on.
func (p *peer) talk(t testing.TB, to netip.AddrPort, stop chan struct{}) {
	start := time.Now().Add(rand.N(20 * ms))
	for n := time.Duration(0); ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(time.Until(start.Add(n * 20 * ms))):
			p.send(t, to)
		}
	}
}

func TestPortsRunOutAndRest(t *testing.T) {
	r := newRoom(t)
	r.e.ports = newPorts(config.PortRange{First: 30001, Last: 30006}) // 30002 and 30004
	open := func() (*Stream, error) {
		return r.e.Open(StreamOptions{Peer: netip.MustParseAddr("203.0.113.5")})
	}
	a, err := open()
	if err != nil {
		t.Fatal(err)
	}
	b, err := open()
	if err != nil {
		t.Fatal(err)
	}
	if p, q := a.Endpoint().Port(), b.Endpoint().Port(); p+q != 60006 || p == q {
		t.Errorf("ports %d and %d", p, q)
	}
	if _, err = open(); !errors.Is(err, ErrNoPorts) {
		t.Errorf("third stream: %v", err)
	}
	a.Close()
	a.Close() // twice is once
	r.now += portRest - 1
	if _, err = open(); !errors.Is(err, ErrNoPorts) {
		t.Errorf("resting port: %v", err)
	}
	r.now++
	c, err := open()
	if err != nil || c.Endpoint() != a.Endpoint() {
		t.Errorf("after its rest: %v", err)
	}
	if n := r.e.OpenStreams(); n != 2 {
		t.Errorf("%d streams open", n)
	}
}

func TestBusyPortIsPassedOver(t *testing.T) {
	busy, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 17301})
	if err != nil {
		t.Skip(err)
	}
	defer busy.Close()
	e, err := NewEngine(Options{Config: config.Media{Ports: config.PortRange{First: 17300, Last: 17303}}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.Open(StreamOptions{Peer: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	if s.Endpoint().Port() != 17302 {
		t.Errorf("endpoint %v", s.Endpoint())
	}
	if _, err := e.Open(StreamOptions{Peer: netip.MustParseAddr("127.0.0.1")}); !errors.Is(err, ErrNoPorts) {
		t.Errorf("second stream: %v", err)
	}
	s.Close()
	e.readers.Wait()
}

func TestEngineOptions(t *testing.T) {
	for _, o := range []Options{
		{Config: config.Media{Address: "nowhere"}},
		{Advertise: config.Advertise{Media: "256.1.1.1"}},
		{Config: config.Media{Ports: config.PortRange{First: 5001, Last: 5002}}},
		{Config: config.Media{Ports: config.PortRange{First: 5002, Last: 5000}}},
	} {
		if _, err := NewEngine(o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	e, err := NewEngine(Options{Advertise: config.Advertise{
		Media: "203.0.113.1", Local: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for peer, want := range map[string]string{"127.0.0.1": "127.0.0.1", "::ffff:127.0.0.1": "127.0.0.1", "198.51.100.1": "203.0.113.1"} {
		if got, err := e.AddressFor(netip.MustParseAddr(peer)); err != nil || got.String() != want {
			t.Errorf("address for %s: %v %v, want %s", peer, got, err, want)
		}
	}
	if _, err := e.AddressFor(netip.Addr{}); err == nil {
		t.Error("an address for nobody")
	}
}

// TestNothingLeaks opens, bridges and closes many streams on real sockets.
func TestNothingLeaks(t *testing.T) {
	defer goleak.VerifyNone(t)
	e := startEngine(t, 17200)
	for range 20 {
		a, b := e.stream(t, "127.0.0.1"), e.stream(t, "127.0.0.1")
		a.Apply(agreed(netip.MustParseAddrPort("127.0.0.1:9"), pcmu))
		b.Apply(agreed(netip.MustParseAddrPort("127.0.0.1:9"), pcmu))
		a.Feed(b)
		b.Feed(a)
		a.Play(ToneHold)
		b.Play(ToneWait)
		a.Close()
		b.Close()
	}
	if n := e.OpenStreams(); n != 0 {
		t.Errorf("%d streams open", n)
	}
	e.stop(t)
	if _, err := e.Open(StreamOptions{Peer: netip.MustParseAddr("127.0.0.1")}); !errors.Is(err, ErrClosed) {
		t.Errorf("open after the end: %v", err)
	}
}

// TestControlWhileTalking changes everything that can be changed while packets fly, for the race detector and the invariants of a line.
func TestControlWhileTalking(t *testing.T) {
	controlWhileTalking(t, startEngine(t, 17600))
}

func controlWhileTalking(t *testing.T, e *running) {
	t.Helper()
	defer goleak.VerifyNone(t)
	var phones []*peer
	var streams []*Stream
	stop := make(chan struct{})
	var talk sync.WaitGroup
	for range 3 {
		p := newPeer(t, "127.0.0.1")
		s := e.stream(t, "127.0.0.1")
		s.Apply(agreed(p.at, pcmu))
		phones, streams = append(phones, p), append(streams, s)
		talk.Go(func() { p.talk(t, s.Endpoint(), stop) })
	}
	far := streams[0]
	for i := range 600 {
		a := streams[1+rand.IntN(2)]
		terms := agreed(phones[0].at, pcmu)
		terms.Direction = Direction(rand.IntN(4))
		switch rand.IntN(9) {
		case 0, 1:
			far.Follow(a)
		case 2:
			far.Play(Tone(rand.IntN(len(tones))))
		case 3:
			far.Feed(streams[1], streams[2])
		case 4:
			far.Apply(terms)
		case 5:
			a.Feed(far)
		case 6:
			a.Follow(far)
		case 7:
			far.Stats()
			far.Splice()
			far.InUse()
		case 8:
			e.report(e.clock() + time.Duration(i)*10*time.Second)
		}
		time.Sleep(rand.N(4 * ms))
	}
	streams[1].Close()
	far.Apply(agreed(phones[0].at, pcmu))
	streams[2].Feed(far)
	far.Follow(streams[2])
	phones[0].wait(t, phones[0].count()+5)
	close(stop)
	talk.Wait()
	if k := follow(t, phones[0].heard(), 8000); k.breaks+k.tsBreaks != 0 || k.ssrcs != 1 {
		t.Errorf("%+v", k)
	}
	e.stop(t)
	for _, p := range phones {
		p.close()
	}
}
