package media

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bare is an engine that only has a log and a clock.
func bare() *Engine {
	e := &Engine{log: slog.New(slog.DiscardHandler), epoch: time.Now()}
	e.clock = func() time.Duration { return time.Since(e.epoch) }
	return e
}

// aBatch opens one, or skips the test where the system has no io_uring.
func aBatch(t *testing.T, e *Engine) *batch {
	t.Helper()
	b, err := newBatch(e)
	if err != nil {
		t.Skipf("no io_uring here: %v", err)
	}
	t.Cleanup(b.close)
	return b
}

// loose are sockets that no loop reads.
type loose struct {
	t *testing.T
	p *polled
}

func looseSockets(t *testing.T, e *Engine) loose { return loose{t, newPolled(e, 1)} }

// looseBatch is a batch, and sockets for it.
func looseBatch(t *testing.T) (*batch, loose) {
	t.Helper()
	e := bare()
	return aBatch(t, e), looseSockets(t, e)
}

// open binds one to a port of 127.0.0.1, or ::1. It counts as one of a loop's, so that it can be closed.
func (l loose) open(host string, hear receiver) *polledConn {
	l.t.Helper()
	fd, err := bound(netip.AddrPortFrom(netip.MustParseAddr(host), 0))
	if err != nil {
		l.t.Skipf("no %s here: %v", host, err)
	}
	c := &polledConn{p: l.p, loop: l.p.loops[0], receive: hear, fd: fd}
	switch sa, err := unix.Getsockname(fd); at := sa.(type) {
	case *unix.SockaddrInet4:
		c.local = netip.AddrPortFrom(netip.AddrFrom4(at.Addr), uint16(at.Port))
	case *unix.SockaddrInet6:
		c.local = netip.AddrPortFrom(netip.AddrFrom16(at.Addr), uint16(at.Port))
	default:
		l.t.Fatal(err)
	}
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	l.p.loops[0].open += 2 // it never ends
	l.p.conns.set(fd, c)
	l.t.Cleanup(func() { c.Close() })
	return c
}

// ready is what epoll says of sockets with packets.
func ready(conns ...*polledConn) (events []unix.EpollEvent) {
	for _, c := range conns {
		events = append(events, unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.fd)})
	}
	return events
}

func (l loose) pass(b *batch, conns ...*polledConn) int {
	l.t.Helper()
	n, err := b.pass(&l.p.conns, ready(conns...))
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}

func (l loose) write(from, to *polledConn, data string) {
	l.t.Helper()
	if _, err := from.WriteToUDPAddrPort([]byte(data), to.local); err != nil {
		l.t.Fatal(err)
	}
}

func ignore([]byte, netip.AddrPort, time.Duration, outbox) {}

// TestBatchPassesOn: more sockets than a batch holds, of both families, each packet sent on to another socket by the outbox; those that have
// nothing are no harm. None is lost, and each comes whole and from where it is from.
func TestBatchPassesOn(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			b, l := looseBatch(t)
			const n = 2*batchSize + 7
			var unsent counter
			var got []string
			sink := l.open(host, func(p []byte, from netip.AddrPort, _ time.Duration, _ outbox) {
				got = append(got, fmt.Sprintf("%s from %v", p, from))
			})
			peer := l.open(host, ignore)
			var in []*polledConn
			var want []string
			for i := range n {
				var c *polledConn
				c = l.open(host, func(p []byte, from netip.AddrPort, _ time.Duration, out outbox) {
					if from != peer.local {
						t.Errorf("from %v, want %v", from, peer.local)
					}
					if _, ok := out.add(c, p, sink.local, &unsent); !ok {
						t.Error("not taken")
					}
					clear(p) // it was copied
				})
				in = append(in, c)
				if i%3 == 0 {
					continue // it says nothing
				}
				data := fmt.Sprintf("%04d%s", i, strings.Repeat("x", i))
				l.write(peer, c, data)
				want = append(want, fmt.Sprintf("%s from %v", data, c.local))
			}
			if k := l.pass(b, in...); k != len(want) {
				t.Errorf("%d packets, want %d", k, len(want))
			}
			for range n {
				l.pass(b, sink)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%d packets came, want %d, in their order and as they were", len(got), len(want))
			}
			if unsent.Load() != 0 {
				t.Errorf("%d unsent", unsent.Load())
			}
		})
	}
}

// TestBatchKeepsOrder: a line's packets come in the order in which they were sent, by the loop's outbox, by another goroutine, by another loop's
// outbox and straight.
func TestBatchKeepsOrder(t *testing.T) {
	e := bare()
	b, other, l := aBatch(t, e), aBatch(t, e), looseSockets(t, e)
	var unsent counter
	var got []string
	sink := l.open("127.0.0.1", func(p []byte, _ netip.AddrPort, _ time.Duration, _ outbox) { got = append(got, string(p)) })
	c := l.open("127.0.0.1", ignore)
	var o order
	say := func(out outbox, data string) {
		o.out = out
		o.send(c, []byte(data), sink.local, &unsent)
	}
	say(nil, "0")
	say(b, "1")
	say(nil, "2") // must wait for 1
	say(b, "3")   // and this for 2
	say(other, "4")
	say(nil, "5")
	other.flush()
	b.flush()
	say(nil, "6")
	say(other, "7")
	say(b, "8")
	b.flush() // 8 waits for 7
	other.flush()
	say(b, "9")
	b.flush()
	for range 12 {
		l.pass(b, sink)
	}
	if want := strings.Split("0123456789", ""); !slices.Equal(got, want) {
		t.Errorf("came as %v", got)
	}
	if o.behind || unsent.Load() != 0 {
		t.Errorf("behind %v, %d unsent", o.behind, unsent.Load())
	}
}

// TestBatchOrderOfTwo has two goroutines send on one line, one of them a loop with an outbox.
func TestBatchOrderOfTwo(t *testing.T) {
	e := bare()
	b, l := aBatch(t, e), looseSockets(t, e)
	reader := aBatch(t, e)
	var unsent counter
	var next atomic.Uint32
	wrong := 0
	sink := l.open("127.0.0.1", func(p []byte, _ netip.AddrPort, _ time.Duration, _ outbox) {
		if n := binary.BigEndian.Uint32(p); n != next.Load() {
			wrong++
		}
		next.Add(1)
	})
	c := l.open("127.0.0.1", ignore)
	var mu sync.Mutex // as a line's
	var o order
	seq := uint32(0)
	say := func(out outbox) {
		mu.Lock()
		defer mu.Unlock()
		if seq-next.Load() > 50 { // the socket holds a few hundred
			return
		}
		o.out = out
		o.send(c, binary.BigEndian.AppendUint32(nil, seq), sink.local, &unsent)
		seq++
	}
	var stop atomic.Bool
	var both sync.WaitGroup
	both.Go(func() {
		for !stop.Load() {
			say(nil)
			time.Sleep(10 * time.Microsecond)
		}
	})
	for i := range 3000 {
		for range i % 4 {
			say(b)
		}
		b.flush()
		for range 10 {
			l.pass(reader, sink)
		}
	}
	stop.Store(true)
	both.Wait()
	b.flush()
	for l.pass(reader, sink) > 0 {
	}
	if wrong > 0 || next.Load() != seq || unsent.Load() > 0 {
		t.Errorf("%d of %d came, %d in another order, %d unsent", next.Load(), seq, wrong, unsent.Load())
	}
}

// TestBatchOfClosed: a socket that is closed while its packet is read, or lies in the outbox, gives its descriptor back only then, and once.
func TestBatchOfClosed(t *testing.T) {
	b, l := looseBatch(t)
	var unsent counter
	var got []string
	sink := l.open("127.0.0.1", func(p []byte, _ netip.AddrPort, _ time.Duration, _ outbox) { got = append(got, string(p)) })
	var c *polledConn
	c = l.open("127.0.0.1", func(p []byte, from netip.AddrPort, _ time.Duration, out outbox) {
		if _, ok := out.add(c, p, sink.local, &unsent); !ok {
			t.Error("not taken")
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if _, err := unix.FcntlInt(uintptr(c.fd), unix.F_GETFD, 0); err != nil {
			t.Errorf("the descriptor is free already: %v", err)
		}
		if _, ok := out.add(c, p, sink.local, &unsent); ok {
			t.Error("a closed socket takes packets")
		}
		if _, err := c.WriteToUDPAddrPort(p, sink.local); err == nil {
			t.Error("a closed socket can be written to")
		}
	})
	l.write(sink, c, "last words")
	l.pass(b, c)
	if _, err := unix.FcntlInt(uintptr(c.fd), unix.F_GETFD, 0); err == nil {
		t.Error("the descriptor was not given back")
	}
	if err := c.Close(); err == nil {
		t.Error("it can be closed twice")
	}
	if k := l.pass(b, c); k != 0 {
		t.Errorf("%d packets of a closed socket", k)
	}
	l.pass(b, sink)
	if !slices.Equal(got, []string{"last words"}) || unsent.Load() != 0 {
		t.Errorf("came %q, %d unsent", got, unsent.Load())
	}
}

// TestBatchBehind: sockets that hold many packets are asked for more of them at a time, in order, and for one again when they do not.
func TestBatchBehind(t *testing.T) {
	b, l := looseBatch(t)
	next, wrong := map[netip.AddrPort]byte{}, 0
	var in []*polledConn
	peer := l.open("127.0.0.1", ignore)
	for range batchSize/2 + 3 {
		var c *polledConn
		c = l.open("127.0.0.1", func(p []byte, _ netip.AddrPort, _ time.Duration, _ outbox) {
			if p[0] != next[c.local] {
				wrong++
			}
			next[c.local]++
		})
		in = append(in, c)
	}
	const packets = 30
	for i := range byte(packets) {
		for _, c := range in {
			l.write(peer, c, string([]byte{i}))
		}
	}
	read, deepest, passes := 0, 0, 0
	for ; read < packets*len(in) && passes < packets; passes++ {
		read += l.pass(b, in...)
		deepest = max(deepest, b.depth.each())
	}
	if read != packets*len(in) || wrong > 0 {
		t.Errorf("%d of %d packets, %d in another order", read, packets*len(in), wrong)
	}
	if deepest != 8 || passes > 18 {
		t.Errorf("at most %d at a time, %d passes", deepest, passes)
	}
	for range 10 {
		l.pass(b, in...)
	}
	if b.depth.each() != 1 {
		t.Errorf("%d at a time of sockets that have nothing", b.depth.each())
	}
}

// TestDepth: a loop that keeps up asks for one packet of each socket.
func TestDepth(t *testing.T) {
	var d depth
	for _, tick := range [][]int{{200, 20, 1}, {200, 180, 160, 100}, {100, 70}, {200, 200, 200}} {
		for _, n := range tick {
			d.count(n, n)
			if d.each() != 1 {
				t.Errorf("%v: %d at a time", tick, d.each())
			}
		}
		d.slept()
	}
	for range 4 {
		d.count(500, 500)
	}
	if d.each() != 2 {
		t.Errorf("%d at a time where there is no end", d.each())
	}
	d.count(1000, 600)
	if d.each() != 1 {
		t.Errorf("%d at a time where there is one packet", d.each())
	}
}

// TestBatchErrors: what the kernel refuses is counted, a large packet goes whole, one that is too large for the outbox goes straight.
func TestBatchErrors(t *testing.T) {
	b, l := looseBatch(t)
	var unsent counter
	var got []int
	sink := l.open("127.0.0.1", func(p []byte, _ netip.AddrPort, _ time.Duration, _ outbox) { got = append(got, len(p)) })
	c := l.open("127.0.0.1", ignore)
	var o order
	for _, to := range []netip.AddrPort{
		netip.MustParseAddrPort("[2001:db8::1]:9"), // not of this socket's family
		sink.local,
		netip.MustParseAddrPort("255.255.255.255:9"), // not allowed
	} {
		o.out = b
		o.send(c, make([]byte, maxPacket), to, &unsent)
	}
	b.flush()
	for range batchBytes/maxPacket + 1 { // fills it, so that it is sent meanwhile
		if _, ok := b.add(c, make([]byte, maxPacket), netip.MustParseAddrPort("[2001:db8::1]:9"), &unsent); !ok {
			t.Error("not taken")
		}
	}
	if n := unsent.Load(); n != 2+batchBytes/maxPacket {
		t.Errorf("%d unsent, want %d", n, 2+batchBytes/maxPacket)
	}
	b.flush()
	if _, ok := b.add(c, make([]byte, batchBytes+1), sink.local, &unsent); ok {
		t.Error("the outbox takes what it cannot hold")
	}
	if _, ok := b.add(deaf{}, make([]byte, 12), sink.local, &unsent); ok {
		t.Error("the outbox takes what does not leave by a socket of its kind")
	}
	l.pass(b, sink)
	l.pass(b, sink)
	if !slices.Equal(got, []int{maxPacket}) {
		t.Errorf("came: %v", got)
	}
}

// TestBatchHolds: who asks whether more of a socket has come learns of what was read with it, and of what still waits.
func TestBatchHolds(t *testing.T) {
	b, l := looseBatch(t)
	var c *polledConn
	var got []bool
	c = l.open("127.0.0.1", func([]byte, netip.AddrPort, time.Duration, outbox) { got = append(got, c.waiting()) })
	for _, data := range []string{"one", "two", "three", "four", "five"} {
		l.write(c, c, data)
	}
	b.depth.shift = 1
	for range 3 {
		l.pass(b, c)
	}
	if want := []bool{true, true, true, true, false}; !slices.Equal(got, want) {
		t.Errorf("more after each of five packets: %v, want %v", got, want)
	}
	got = nil
	l.write(c, c, "six")
	l.write(c, c, "seven")
	if l.pass(b, c); !slices.Equal(got, []bool{true, false}) {
		t.Errorf("more after each of two: %v", got)
	}
}

// TestBatchPanics: a packet that is not understood costs itself alone, and a line that it was on goes on.
func TestBatchPanics(t *testing.T) {
	b, l := looseBatch(t)
	var got []string
	hear := func(p []byte, _ netip.AddrPort, _ time.Duration, _ outbox) {
		if string(p) == "fall over" {
			panic("a packet that is not understood")
		}
		got = append(got, string(p))
	}
	x, y := l.open("127.0.0.1", hear), l.open("127.0.0.1", hear)
	l.write(x, x, "fall over")
	l.write(x, y, "one")
	l.pass(b, x, y)
	l.write(x, x, "two")
	l.pass(b, x, y)
	if !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("came: %q", got)
	}
}

// TestBatchWithoutRing: a ring that breaks costs no packet, and the loop goes on without it.
func TestBatchWithoutRing(t *testing.T) {
	b, l := looseBatch(t)
	var unsent counter
	var got []string
	sink := l.open("127.0.0.1", func(p []byte, _ netip.AddrPort, _ time.Duration, _ outbox) { got = append(got, string(p)) })
	c := l.open("127.0.0.1", func(p []byte, _ netip.AddrPort, _ time.Duration, out outbox) {
		got = append(got, "read "+string(p))
		if out != nil {
			t.Error("an outbox that leads nowhere")
		}
	})
	b.add(c, []byte("one"), sink.local, &unsent)
	if err := unix.Dup3(int(devNull(t)), b.ring.fd, unix.O_CLOEXEC); err != nil { // io_uring_enter fails from now on
		t.Fatal(err)
	}
	b.flush()
	l.write(sink, c, "two")
	loop := turns{loop: l.p.loops[0], pace: pace{ticking: true}, buf: make([]byte, maxPacket+1), batch: b}
	for range 3 {
		loop.read(ready(c, sink))
	}
	if loop.batch != nil || l.p.batched.Load() {
		t.Error("the loop keeps it")
	}
	if !b.ring.broken {
		t.Error("the ring takes what it cannot do")
	}
	if want := []string{"read two", "one"}; !slices.Equal(got, want) || unsent.Load() != 0 {
		t.Errorf("came %q, want %q; %d unsent", got, want, unsent.Load())
	}
	b.ring, _ = openRing(1) // for the end of the test
}

// TestRingComesAndGoes: a loop gives its ring back when it rests, and has one again when it ticks again.
func TestRingComesAndGoes(t *testing.T) {
	p := newPolled(bare(), 1)
	p.batched.Store(true)
	aBatch(t, p.e) // or there is none
	before := descriptors(t)
	loop := turns{loop: p.loops[0]}
	for range 2 {
		if !loop.gather() {
			t.Fatal("the loop has no ring")
		}
		loop.rest(restAfter - 1)
		if loop.batch == nil || descriptors(t) == before {
			t.Error("the ring is gone too soon")
		}
		loop.rest(restAfter)
		if now := descriptors(t); loop.batch != nil || now != before {
			t.Errorf("the loop keeps its ring: %d descriptors, %d before", now, before)
		}
	}
}

func devNull(t *testing.T) uintptr {
	t.Helper()
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return uintptr(fd)
}

// TestNoRing: where there can be none the loop says so once, at the level of what need not be looked at, and reads as ever.
func TestNoRing(t *testing.T) {
	if _, err := openRing(-1); err == nil {
		t.Error("a ring of less than nothing")
	}
	var log bytes.Buffer
	e := bare()
	e.log = slog.New(slog.NewTextHandler(&log, nil))
	p := newPolled(e, 1)
	loop := turns{loop: p.loops[0]}
	var had unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &had); err != nil {
		t.Fatal(err)
	}
	none := had
	none.Cur = 0
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	first, second := loop.gather(), loop.gather()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &had); err != nil {
		t.Fatal(err)
	}
	if first || second || loop.batch != nil || p.batched.Load() {
		t.Error("there is a ring")
	}
	if loop.gather() {
		t.Error("it is tried again")
	}
	if n := strings.Count(log.String(), "level=INFO"); n != 1 || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("log:\n%s", log.String())
	}
}

// TestBatchAllocatesNothing passes packets on from socket to socket.
func TestBatchAllocatesNothing(t *testing.T) {
	b, l := looseBatch(t)
	var unsent counter
	sink := l.open("127.0.0.1", ignore)
	var c *polledConn
	c = l.open("127.0.0.1", func(p []byte, _ netip.AddrPort, _ time.Duration, out outbox) { out.add(c, p, sink.local, &unsent) })
	events, data := ready(c, sink), make([]byte, 172)
	passed := 0
	n := testing.AllocsPerRun(500, func() {
		_, _ = sink.WriteToUDPAddrPort(data, c.local)
		k, _ := b.pass(&l.p.conns, events)
		passed += k
	})
	if n != 0 || passed < 500 || unsent.Load() > 0 {
		t.Errorf("%v allocations per packet; %d passed, %d unsent", n, passed, unsent.Load())
	}
}

// TestControlWhileTicking is TestControlWhileTalking with a loop that always ticks, and so passes packets on together.
func TestControlWhileTicking(t *testing.T) {
	e := startEngine(t, 17600)
	e.sockets.(*polled).keen = true
	controlWhileTalking(t, e)
}
