package media

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"baton/config"
	"baton/media/fastpath"

	"github.com/pion/rtp"
	"golang.org/x/sys/unix"
)

// needKernel leaves a test out where the kernel does not let this process forward by itself. Where it must, by its version and the rights of
// the process, that it does not is a failure on the machine that tests every change.
func needKernel(t testing.TB) {
	t.Helper()
	start := time.Now()
	p, err := fastpath.Open(40, 41, func() time.Duration { return time.Since(start) })
	if err == nil {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		return
	}
	if os.Getenv("CI") == "true" && mayForward() {
		t.Fatal(err)
	}
	t.Skip(err)
}

// mayForward says that the kernel is new enough, and that the process has the rights.
func mayForward() bool {
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	major, rest, _ := strings.Cut(string(release), ".")
	minor, _, _ := strings.Cut(rest, ".")
	x, _ := strconv.Atoi(major)
	y, _ := strconv.Atoi(minor)
	status, _ := os.ReadFile("/proc/self/status")
	_, caps, _ := strings.Cut(string(status), "CapEff:\t")
	caps, _, _ = strings.Cut(caps, "\n")
	have, _ := strconv.ParseUint(caps, 16, 64)
	const rights = 1<<12 | 1<<38 | 1<<39 // CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF
	return (x > 6 || x == 6 && y >= 6) && have&rights == rights
}

// logged is what an engine has logged.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// fastEngine is an engine with media.fastpath as given, once that is decided.
func fastEngine(t testing.TB, mode string, first uint16, address ...string) (*running, *logged) {
	t.Helper()
	said := &logged{}
	r := startEngineWith(t, Options{
		Config: config.Media{Ports: config.PortRange{First: first, Last: first + 99}, Fastpath: mode, Address: strings.Join(address, "")},
		Log:    slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	t.Cleanup(func() {
		r.stop(t)
		if t.Failed() {
			t.Log(said)
		}
	})
	for wait := time.Now(); mode != "off" && said.String() == ""; time.Sleep(time.Millisecond) {
		if time.Since(wait) > 10*time.Second {
			t.Fatal("nothing said of the fast path")
		}
	}
	return r, said
}

// pair is a stream for each of two phones, which hear each other.
func (r *running) pair(t testing.TB, a, b *peer) (sa, sb *Stream) {
	t.Helper()
	sa, sb = r.stream(t, a.at.Addr().String()), r.stream(t, b.at.Addr().String())
	codecs := []Codec{pcmu, {PT: 101, Name: "telephone-event", Rate: 8000, Channels: 1}}
	for s, p := range map[*Stream]*peer{sa: a, sb: b} {
		s.Apply(Agreement{Remote: p.at, RemoteRTCP: next(p.at), Send: codecs, Recv: codecs})
	}
	sa.Feed(sb)
	sb.Feed(sa)
	sa.Follow(sb)
	sb.Follow(sa)
	return sa, sb
}

// given waits until the kernel has what a stream hears.
func given(t testing.TB, s *Stream, yes bool) {
	t.Helper()
	for start := time.Now(); (s.ear.fast.flow.Load() != nil) != yes; time.Sleep(time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("the kernel has the flow: %v, want %v", !yes, yes)
		}
	}
}

// forwarding waits until the kernel has a stream's flow and has forwarded so many packets more of it.
func forwarding(t testing.TB, s *Stream, more uint64) {
	t.Helper()
	was := s.Stats().Kernel
	for start := time.Now(); s.Stats().Kernel < was+more || s.ear.fast.flow.Load() == nil; time.Sleep(time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("the kernel has forwarded %d packets, as before", was)
		}
	}
}

// keepTalking has phones send until it is told to stop, true to the clock: what the machine has held up they send at once. late is by how much
// that was at most.
func keepTalking(t testing.TB, every time.Duration, send func()) (stop func() (late time.Duration)) {
	end, ended, late := make(chan struct{}), make(chan struct{}), time.Duration(0)
	go func() {
		defer close(ended)
		due := time.Now()
		for {
			select {
			case <-end:
				return
			case <-time.After(time.Until(due)):
			}
			late = max(late, time.Since(due))
			send()
			due = due.Add(every)
		}
	}()
	once := sync.OnceFunc(func() { close(end) })
	stop = func() time.Duration { once(); <-ended; return late }
	t.Cleanup(func() { stop() })
	return stop
}

// script is what a phone sends: whatever can come in the midst of plain packets.
func script() (all []*rtp.Packet) {
	h := rtp.Header{Version: 2, SSRC: 0x11111111, SequenceNumber: 65535 - 160, Timestamp: 0xffffffff - 20000}
	body := func() []byte {
		b := make([]byte, 160)
		for i := range b {
			b[i] = byte(len(all)*7 + i)
		}
		return b
	}
	plain := func(n int) {
		for range n {
			all = append(all, &rtp.Packet{Header: h, Payload: body()})
			h.SequenceNumber++
			h.Timestamp += 160
		}
	}
	last := func() *rtp.Packet { plain(1); return all[len(all)-1] }
	plain(220) // both numbers wrap on the way
	for i := range 8 {
		p := last()
		p.PayloadType, p.Marker, p.Timestamp = 101, i == 0, h.Timestamp-uint32(i+1)*160
		p.Payload = []byte{5, 10, 0, byte(i * 20)}
		if i >= 5 {
			p.Payload = []byte{5, 0x8a, 0, 100}
		}
	}
	plain(70)
	h.SSRC, h.SequenceNumber, h.Timestamp = 0x22222222, 4711, 0x80000000
	plain(80)
	h.Timestamp += 1_000_000
	plain(80)
	last().Marker = true
	plain(70)
	last().CSRC = []uint32{1, 2}
	plain(70)
	p := last()
	p.Header.Padding, p.PaddingSize = true, 4
	plain(70)
	p = last()
	p.Extension, p.ExtensionProfile = true, 0xbede
	if err := p.SetExtension(1, []byte{1}); err != nil {
		panic(err)
	}
	plain(70)
	h.SequenceNumber, h.Timestamp = h.SequenceNumber+2, h.Timestamp+320 // two lost
	plain(70)
	all = append(all, all[len(all)-3]) // one twice
	plain(70)
	n := len(all)
	all[n-1], all[n-2] = all[n-2], all[n-1] // one overtaken
	plain(30)
	h.SequenceNumber += 5000
	plain(70)
	return all
}

// TestFastPathLikeUserSpace: what a phone hears is the same, byte for byte, whether the kernel forwards or the node; and so are the figures. Only
// the first numbers differ from stream to stream, and where a source starts anew by whole frames, as the clock wants it.
func TestFastPathLikeUserSpace(t *testing.T) {
	t.Parallel()
	needKernel(t)
	type way struct {
		b      *peer
		sa, sb *Stream
	}
	a := newPeer(t, "127.0.0.1")
	ways := map[string]way{}
	for mode, port := range map[string]uint16{"off": 42100, "on": 42200} {
		r, _ := fastEngine(t, mode, port)
		b := newPeer(t, "127.0.0.1")
		sa, sb := r.pair(t, a, b)
		ways[mode] = way{b, sa, sb}
	}
	all := script()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, p := range all {
		<-tick.C
		b, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range ways {
			if _, err := a.c.WriteToUDPAddrPort(b, w.sa.Endpoint()); err != nil {
				t.Fatal(err)
			}
		}
	}
	off, on := ways["off"], ways["on"]
	off.b.wait(t, len(all))
	on.b.wait(t, len(all))
	want, got := off.b.heard(), on.b.heard()
	if len(want) != len(got) {
		t.Fatalf("%d packets by the kernel, %d by the node", len(got), len(want))
	}
	var w0, g0, wn, gn rtp.Packet
	for i := range want {
		parsed(t, &wn, want[i].b)
		parsed(t, &gn, got[i].b)
		if i == 0 {
			w0, g0 = wn, gn
		}
		if gn.SequenceNumber-g0.SequenceNumber != wn.SequenceNumber-w0.SequenceNumber || gn.SSRC != g0.SSRC {
			t.Errorf("packet %d: number %d after the first, want %d", i, gn.SequenceNumber-g0.SequenceNumber, wn.SequenceNumber-w0.SequenceNumber)
		}
		if ts := gn.Timestamp - g0.Timestamp; ts != wn.Timestamp-w0.Timestamp {
			off := int32(ts - (wn.Timestamp - w0.Timestamp))
			if all[i].SSRC == all[i-1].SSRC && all[i].SequenceNumber-all[i-1].SequenceNumber < 3 && all[i].Timestamp-all[i-1].Timestamp < 1000 || off%160 != 0 || off > 480 || off < -480 {
				t.Errorf("packet %d: timestamp off by %d", i, off)
			}
			g0.Timestamp += uint32(off)
		}
		gn.SequenceNumber, gn.Timestamp, gn.SSRC = wn.SequenceNumber, wn.Timestamp, wn.SSRC
		b, err := gn.Marshal()
		if err != nil || !bytes.Equal(b, want[i].b) {
			t.Errorf("packet %d: % x, want % x, %v", i, b[:20], want[i].b[:20], err)
		}
	}
	if n := on.sa.Stats().Kernel; n < 20 || n > uint64(len(all)) {
		t.Errorf("the kernel has forwarded %d of %d packets", n, len(all))
	}
	figures := func(s Stats) [6]uint64 {
		return [6]uint64{s.In.Packets, s.In.Octets, s.In.Lost, uint64(s.In.SSRC), s.Out.Packets, s.Out.Octets}
	}
	for name, two := range map[string][2]*Stream{"from": {off.sa, on.sa}, "to": {off.sb, on.sb}} {
		if w, g := two[0].Stats(), two[1].Stats(); figures(w) != figures(g) || len(g.Dropped) != len(w.Dropped) {
			t.Errorf("%s:\n%+v, want\n%+v", name, g, w)
		}
	}
}

func parsed(t testing.TB, p *rtp.Packet, b []byte) {
	t.Helper()
	*p = rtp.Packet{}
	if err := p.Unmarshal(bytes.Clone(b)); err != nil {
		t.Fatal(err)
	}
}

// TestFastPathFigures: while the kernel forwards, whatever is asked of a stream tells what a stream in the node would.
func TestFastPathFigures(t *testing.T) {
	t.Parallel()
	needKernel(t)
	r, _ := fastEngine(t, "auto", 42300, "127.0.0.1") // bound, as with media.address
	a, b := newPeer(t, "127.0.0.1"), newPeer(t, "127.0.0.1")
	sa, sb := r.pair(t, a, b)
	var mu sync.Mutex // against a packet between a look here and one there
	stop := keepTalking(t, 20*time.Millisecond, func() {
		mu.Lock()
		defer mu.Unlock()
		a.send(t, sa.Endpoint())
		b.send(t, sb.Endpoint())
	})
	defer stop()
	given(t, sa, true)
	given(t, sb, true)
	for range 50 {
		time.Sleep(7 * time.Millisecond)
		mu.Lock()
		b.wait(t, int(uint16(a.hdr.SequenceNumber-first(t, a, sa))))
		was := sa.Stats()
		n := uint64(b.count())
		if was.In.Packets != n || was.In.Octets != 160*n || sb.Stats().Out.Packets != n || sb.Stats().Out.Octets != 160*n || was.In.Lost != 0 {
			t.Errorf("%d packets: %+v\n%+v", n, was, sb.Stats())
		}
		heard := b.heard()
		var p rtp.Packet
		parsed(t, &p, heard[len(heard)-1].b)
		if at := sb.Place(); at.Seq != p.SequenceNumber || at.TS != p.Timestamp {
			t.Errorf("the place is %+v, want number %d, timestamp %d", at, p.SequenceNumber, p.Timestamp)
		}
		if ssrc, seq, _ := sa.Newest(); ssrc != a.hdr.SSRC || seq != a.hdr.SequenceNumber-1 {
			t.Errorf("the newest is %d, want %d", seq, a.hdr.SequenceNumber-1)
		}
		for name, at := range map[string]time.Time{"heard": sa.LastHeard(), "sound": sa.LastSound()} {
			if ago := time.Since(at); ago > time.Second {
				t.Errorf("%s %v ago", name, ago)
			}
		}
		sr, ok := sb.line.report(time.Now(), sb.engine.clock())
		if want := p.Timestamp; !ok || uint64(sr.PacketCount) != n || int32(sr.RTPTime-want) > 8000 || int32(sr.RTPTime-want) < -800 {
			t.Errorf("the report is %+v, with %d packets, the last %d", sr, n, want)
		}
		sa.ctrl.mu.Lock()
		if rr := sa.receptionReport(sa.engine.clock()); uint16(rr[0].LastSequenceNumber) != a.hdr.SequenceNumber-1 || rr[0].TotalLost != 0 {
			t.Errorf("the block is %+v", rr[0])
		}
		sa.ctrl.mu.Unlock()
		mu.Unlock()
	}
	if n := sa.Stats().Kernel; n < 10 {
		t.Errorf("the kernel has forwarded %d packets", n)
	}
}

// first is the number of a phone's first packet.
func first(t testing.TB, p *peer, s *Stream) uint16 {
	t.Helper()
	return uint16(s.ear.reception.base.Load())
}

// TestFastPathSilence: a phone that falls silent in the kernel is missed as soon as any other.
func TestFastPathSilence(t *testing.T) {
	t.Parallel()
	needKernel(t)
	r, _ := fastEngine(t, "auto", 42400)
	a, b := newPeer(t, "127.0.0.1"), newPeer(t, "127.0.0.1")
	sa, _ := r.pair(t, a, b)
	silent, again := make(chan time.Time, 9), make(chan time.Time, 9)
	sa.TellSilence(func(at time.Time) { silent <- at })
	talk := func() { a.send(t, sa.Endpoint()) }
	stop := keepTalking(t, 20*time.Millisecond, talk)
	given(t, sa, true)
	time.Sleep(time.Second)
	select {
	case <-silent:
		t.Error("silent while it talks")
	default:
	}
	stop()
	sa.Await(func(at time.Time) { again <- at })
	select {
	case at := <-silent:
		if ago := time.Since(at); ago > 5*time.Second {
			t.Errorf("silent since %v", ago)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("not missed")
	}
	select {
	case <-again:
		t.Error("heard again, and is not")
	default:
	}
	keepTalking(t, 20*time.Millisecond, talk)
	select {
	case <-again:
	case <-time.After(10 * time.Second):
		t.Fatal("not heard again")
	}
}

// TestFastPathMoves: a hundred moves of flows that the kernel has: no number and no frame is missing at the far side.
func TestFastPathMoves(t *testing.T) {
	t.Parallel()
	needKernel(t)
	r, _ := fastEngine(t, "on", 42500)
	var calls sync.WaitGroup
	for range 10 {
		calls.Go(func() { movesOfOne(t, r, 10) })
	}
	calls.Wait()
}

// stall is for how long the machine must have stood still for slots to be left empty by the clock.
const stall = 5 * time.Millisecond

func movesOfOne(t *testing.T, r *running, moves int) {
	far := newPeer(t, "127.0.0.1")
	sf := r.stream(t, "127.0.0.1")
	codecs := []Codec{pcmu}
	sf.Apply(Agreement{Remote: far.at, Send: codecs, Recv: codecs})
	var phones [2]*peer
	var streams [2]*Stream
	for i := range phones {
		phones[i], streams[i] = newPeer(t, "127.0.0.1"), r.stream(t, "127.0.0.1")
		streams[i].Apply(Agreement{Remote: phones[i].at, Send: codecs, Recv: codecs})
		streams[i].Feed(sf)
	}
	sf.Follow(streams[0])
	stop := keepTalking(t, 20*time.Millisecond, func() {
		phones[0].send(t, streams[0].Endpoint())
		phones[1].send(t, streams[1].Endpoint())
	})
	defer stop()
	lost := 0
	for i := range moves {
		now, then := streams[i%2], streams[(i+1)%2]
		forwarding(t, now, 5)
		sf.Follow(then)
		if now.ear.fast.flow.Load() != nil {
			t.Error("the kernel has what nobody follows")
		}
		forwarding(t, then, 5)
		lost += sf.Splice().Lost
	}
	late := stop()
	far.wait(t, int(sf.Stats().Out.Packets))
	var p rtp.Packet
	var seq uint16
	var ts uint32
	for i, h := range far.heard() {
		parsed(t, &p, h.b)
		if step := p.SequenceNumber - seq; i > 0 && step != 1 {
			t.Errorf("packet %d: number %d after the last", i, step)
		}
		if step := p.Timestamp - ts; i > 0 && (step == 0 || step%160 != 0 || step != 160 && late < stall) {
			t.Errorf("packet %d: timestamp %d after the last", i, step)
		}
		seq, ts = p.SequenceNumber, p.Timestamp
	}
	if n := sf.Stats().Out.Packets; lost > 0 && late < stall || uint64(far.count()) != n || streams[0].Stats().Kernel == 0 || streams[1].Stats().Kernel == 0 {
		t.Errorf("%d slots left empty, %d of %d packets heard, %d and %d by the kernel", lost, far.count(), n, streams[0].Stats().Kernel, streams[1].Stats().Kernel)
	}
}

// TestFastPathComesBack: whatever changes a stream takes it back from the kernel at once.
func TestFastPathComesBack(t *testing.T) {
	t.Parallel()
	needKernel(t)
	codecs := []Codec{pcmu, {PT: 101, Name: "telephone-event", Rate: 8000, Channels: 1}}
	for name, change := range map[string]func(r *running, sa, sb *Stream, a, b *peer){
		"follow": func(_ *running, sa, sb *Stream, _, _ *peer) { sb.Follow(nil) },
		"play":   func(_ *running, sa, sb *Stream, _, _ *peer) { sb.Play(ToneHold) },
		"feed":   func(_ *running, sa, sb *Stream, _, _ *peer) { sa.Feed() },
		"apply": func(_ *running, sa, sb *Stream, a, _ *peer) {
			sa.Apply(Agreement{Remote: a.at, Send: codecs, Recv: codecs})
		},
		"applied": func(_ *running, sa, sb *Stream, _, b *peer) {
			sb.Apply(Agreement{Remote: b.at, Send: codecs, Recv: codecs})
		},
		"hold": func(_ *running, sa, sb *Stream, _, b *peer) {
			sb.Apply(Agreement{Remote: b.at, Send: codecs, Recv: codecs, Direction: Inactive})
		},
		"peer":  func(_ *running, sa, sb *Stream, _, _ *peer) { sb.SetPeer(netip.MustParseAddr("127.0.0.9")) },
		"fence": func(r *running, _, _ *Stream, _, _ *peer) { r.Fence(true) },
		"key": func(_ *running, sa, sb *Stream, _, _ *peer) {
			sb.Press(Key{Code: 1, Length: 100 * time.Millisecond}, func() {})
		},
		"mix":    func(_ *running, sa, sb *Stream, _, _ *peer) { sb.Mix(sa) },
		"leave":  func(_ *running, sa, sb *Stream, _, _ *peer) { sa.Leave() },
		"aside":  func(_ *running, sa, sb *Stream, _, _ *peer) { sa.Aside(true) },
		"close":  func(_ *running, sa, _ *Stream, _, _ *peer) { sa.Close() },
		"closed": func(_ *running, _, sb *Stream, _, _ *peer) { sb.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _ := fastEngine(t, "auto", fastPorts())
			a, b := newPeer(t, "127.0.0.1"), newPeer(t, "127.0.0.1")
			sa, sb := r.pair(t, a, b)
			to := sa.Endpoint()
			stop := keepTalking(t, 20*time.Millisecond, func() { a.send(t, to) })
			forwarding(t, sa, 3)
			change(r, sa, sb, a, b)
			if name == "key" {
				given(t, sa, false)
			} else if sa.ear.fast.flow.Load() != nil || sb.line.flow.Load() != nil {
				t.Error("the kernel still has the flow")
			}
			stop()
			n := uint64(b.count())
			if sa.Stats().Kernel == 0 || sb.Stats().Out.Packets > n+20 {
				t.Errorf("%d heard, %+v", n, sb.Stats())
			}
		})
	}
}

var fastPort = atomic.Uint32{}

// fastPorts is a range of ports for another engine.
func fastPorts() uint16 { return uint16(43000 + 100*fastPort.Add(1)) }

// TestFastPathDeadline: when a node's time to speak is over, the kernel is silent too, and speaks again when there is more of it.
func TestFastPathDeadline(t *testing.T) {
	t.Parallel()
	needKernel(t)
	r, _ := fastEngine(t, "auto", 42600)
	r.SpeakFor(time.Minute)
	a, b := newPeer(t, "127.0.0.1"), newPeer(t, "127.0.0.1")
	sa, sb := r.pair(t, a, b)
	defer keepTalking(t, 20*time.Millisecond, func() { a.send(t, sa.Endpoint()) })()
	given(t, sa, true)
	r.SpeakFor(300 * time.Millisecond)
	given(t, sa, false) // by the packet that the kernel has refused
	if n := sa.Stats().Kernel; n == 0 {
		t.Error("the kernel has forwarded none")
	}
	was := b.count()
	time.Sleep(500 * time.Millisecond)
	if n := b.count(); n != was || sb.Stats().Dropped["unsent"] == 0 {
		t.Errorf("%d more, %+v", n-was, sb.Stats())
	}
	r.SpeakFor(time.Minute)
	given(t, sa, true)
}

// TestFastPathForeign: somebody else's packets neither reach the phone nor take the flow away.
func TestFastPathForeign(t *testing.T) {
	t.Parallel()
	needKernel(t)
	r, _ := fastEngine(t, "auto", 42700)
	a, b, c := newPeer(t, "127.0.0.1"), newPeer(t, "127.0.0.1"), newPeer(t, "127.0.0.1")
	sa, _ := r.pair(t, a, b)
	defer keepTalking(t, 20*time.Millisecond, func() { a.send(t, sa.Endpoint()) })()
	given(t, sa, true)
	was := sa.Stats().Dropped["foreign"]
	defer keepTalking(t, 10*time.Millisecond, func() { c.send(t, sa.Endpoint()) })()
	forwarding(t, sa, 100) // did they take the flow away, there would be none or one a second
	if n := sa.Stats().Dropped["foreign"] - was; n < 10 {
		t.Errorf("%d dropped", n)
	}
	if n := b.count(); uint64(n) > sa.Stats().In.Packets {
		t.Errorf("%d packets heard, %+v", n, sa.Stats())
	}
}

// TestFastPathOverload: an engine that does not get round to its sockets as fast as packets come hands flows over all the same, which is what
// relieves it: what waits is passed on first, and nothing is lost or out of order.
func TestFastPathOverload(t *testing.T) {
	t.Parallel()
	needKernel(t)
	r, _ := fastEngine(t, "auto", fastPorts())
	a, b := newPeer(t, "127.0.0.1"), newPeer(t, "127.0.0.1")
	sa, sb := r.pair(t, a, b)
	slow, c := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), sa.Endpoint().Port()+uint16(200*loops())), newPeer(t, "127.0.0.1") // of the same loop
	conn, err := r.sockets.listen(slow, func([]byte, netip.AddrPort, time.Duration, outbox) { time.Sleep(30 * time.Millisecond) })
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer keepTalking(t, 10*time.Millisecond, func() { c.send(t, slow) })()
	stop := keepTalking(t, 20*time.Millisecond, func() { a.send(t, sa.Endpoint()) })
	defer stop()
	forwarding(t, sa, 50)
	stop()
	b.wait(t, int(sb.Stats().Out.Packets))
	var p rtp.Packet
	for i, h := range b.heard() {
		seq := p.SequenceNumber + 1
		if parsed(t, &p, h.b); i > 0 && p.SequenceNumber != seq {
			t.Fatalf("packet %d: number %d, want %d", i, p.SequenceNumber, seq)
		}
	}
	if s := sa.Stats(); s.In.Lost != 0 || uint64(b.count()) != s.In.Packets {
		t.Errorf("%d heard, %+v", b.count(), s)
	}
}

// fullQueue is a socket in which another packet always waits.
type fullQueue struct {
	null
	hurried bool
}

func (*fullQueue) waiting() bool   { return true }
func (q *fullQueue) hurry(on bool) { q.hurried = on }

// TestFastPathCalms: a stream whose packets are read in one go, so that the kernel may have it, is read as ever when it is not plain any more.
func TestFastPathCalms(t *testing.T) {
	q, e := &fullQueue{}, bare()
	e.fast.Store(&fast{e: e})
	s := &Stream{engine: e, rtp: q}
	if !s.queued() || !q.hurried {
		t.Error("what waits is not read in one go")
	}
	if s.toKernel(&path{}, 0, &packet{sound: true, marker: true}); q.hurried {
		t.Error("it still is")
	}
}

// again runs one test of this binary in a process of its own, after the words of a command.
func again(t *testing.T, name string, env []string, words ...string) *exec.Cmd {
	t.Helper()
	words = append(words, os.Args[0], "-test.run=^"+name+"$", "-test.v")
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(os.Environ(), append(env, "BATON_FAST_CHILD=1")...)
	return cmd
}

// TestFastPathRefused: without the right to use the kernel, the node forwards, and says once why.
func TestFastPathRefused(t *testing.T) {
	if os.Getenv("BATON_FAST_CHILD") == "" {
		if os.Getuid() == 0 {
			out, err := again(t, t.Name(), nil, "setpriv", "--bounding-set=-cap_12,-cap_21,-cap_38,-cap_39", "--inh-caps=-all").CombinedOutput()
			if err != nil || !bytes.Contains(out, []byte("--- PASS")) {
				t.Fatalf("%v\n%s", err, out)
			}
			return
		}
	}
	for mode, level := range map[string]string{"on": "ERROR", "auto": "INFO"} {
		r, said := fastEngine(t, mode, fastPorts())
		if r.fast.Load() != nil {
			t.Fatal("the kernel has let it")
		}
		a, b := newPeer(t, "127.0.0.1"), newPeer(t, "127.0.0.1")
		sa, _ := r.pair(t, a, b)
		for range 3 {
			a.send(t, sa.Endpoint())
		}
		b.wait(t, 3)
		if text := said.String(); strings.Count(text, "media.fastpath") != 1 || !strings.Contains(text, "level="+level) || !strings.Contains(text, "permitted") {
			t.Errorf("%s: %s", mode, text)
		}
	}
}

// TestFastPathKilled: when the process is killed, nothing goes on forwarding.
func TestFastPathKilled(t *testing.T) {
	if os.Getenv("BATON_FAST_CHILD") != "" {
		fastChild(t)
		return
	}
	t.Parallel()
	needKernel(t)
	a, b := newPeer(t, "127.0.0.1"), newPeer(t, "127.0.0.1")
	cmd := again(t, t.Name(), []string{"BATON_A=" + a.at.String(), "BATON_B=" + b.at.String()})
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	lines := bufio.NewScanner(out)
	word := func(name string) string {
		for lines.Scan() {
			if v, ok := strings.CutPrefix(lines.Text(), name+"="); ok {
				return v
			}
		}
		t.Fatalf("the process says nothing of %s: %v", name, lines.Err())
		return ""
	}
	to := netip.MustParseAddrPort(word("at"))
	defer keepTalking(t, 20*time.Millisecond, func() { a.sendAnyway(to) })()
	word("kernel")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it has ended by itself")
	}
	time.Sleep(100 * time.Millisecond)
	was := b.count()
	time.Sleep(500 * time.Millisecond)
	if n := b.count(); was < plainFirst || n != was {
		t.Errorf("%d packets before, %d after", was, n-was)
	}
}

func fastChild(t *testing.T) {
	r, _ := fastEngine(t, "on", 42800)
	a, b := &peer{at: netip.MustParseAddrPort(os.Getenv("BATON_A"))}, &peer{at: netip.MustParseAddrPort(os.Getenv("BATON_B"))}
	sa, _ := r.pair(t, a, b)
	fmt.Printf("at=%v\n", sa.Endpoint())
	given(t, sa, true)
	time.Sleep(200 * time.Millisecond)
	fmt.Printf("kernel=%d\n", sa.Stats().Kernel)
	time.Sleep(time.Minute)
}

// sendAnyway is send to where nobody may be.
func (p *peer) sendAnyway(to netip.AddrPort) {
	b, err := (&rtp.Packet{Header: p.hdr, Payload: make([]byte, 160)}).Marshal()
	if err != nil {
		panic(err)
	}
	p.hdr.SequenceNumber++
	p.hdr.Timestamp += 160
	_, _ = p.c.WriteToUDPAddrPort(b, to)
}

// BenchmarkFastPath sends packets of 2.5 ms as fast as they go, one after the other, from phone to phone: straight, and by the kernel. The
// difference of their processor time is what the kernel takes to forward one; there is no process in it.
func BenchmarkFastPath(b *testing.B) {
	needKernel(b)
	r, _ := fastEngine(b, "on", 42900)
	codecs := []Codec{pcmu}
	from, fromAt := newSocket(b)
	to, toAt := newSocket(b)
	sa, sb := r.stream(b, "127.0.0.1"), r.stream(b, "127.0.0.1")
	for s, at := range map[*Stream]netip.AddrPort{sa: fromAt, sb: toAt} {
		s.Apply(Agreement{Remote: at, Send: codecs, Recv: codecs, Ptime: 20})
	}
	sa.Feed(sb)
	sb.Follow(sa)
	p, buf := make([]byte, 172), make([]byte, 1500)
	p[0], p[11] = 0x80, 1
	seq := uint16(0)
	ts := uint32(0)
	pass := func(at netip.AddrPort) {
		seq, ts = seq+1, ts+20
		binary.BigEndian.PutUint16(p[2:], seq)
		binary.BigEndian.PutUint32(p[4:], ts)
		if err := unix.Sendto(from, p, 0, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}); err != nil {
			b.Fatal(err)
		}
		if _, _, err := unix.Recvfrom(to, buf, 0); err != nil {
			b.Fatal(err)
		}
	}
	for start := time.Now(); sa.ear.fast.flow.Load() == nil; time.Sleep(2 * time.Millisecond) {
		if pass(sa.Endpoint()); time.Since(start) > time.Minute {
			b.Fatal("the kernel does not forward")
		}
	}
	for name, at := range map[string]netip.AddrPort{"kernel": sa.Endpoint(), "straight": toAt} {
		b.Run(name, func(b *testing.B) {
			for range 200 { // whatever was before
				pass(at)
				time.Sleep(time.Millisecond)
			}
			was, cpu := sa.Stats().Kernel, processTime()
			b.ResetTimer()
			for range b.N {
				pass(at)
			}
			b.ReportMetric(float64(processTime()-cpu)/float64(b.N), "cpu-ns/packet")
			b.ReportMetric(100*float64(sa.Stats().Kernel-was)/float64(b.N), "%kernel")
		})
	}
}

// newSocket is a socket that Go's runtime knows nothing of, which would cost more than what is measured.
func newSocket(b *testing.B) (int, netip.AddrPort) {
	at := netip.MustParseAddrPort("127.0.0.1:0")
	fd, err := bound(at)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetNonblock(fd, false); err != nil {
		b.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		b.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		b.Fatal(err)
	}
	return fd, netip.AddrPortFrom(at.Addr(), uint16(sa.(*unix.SockaddrInet4).Port))
}

// processTime is the processor time that this process has had.
func processTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // never fails
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
