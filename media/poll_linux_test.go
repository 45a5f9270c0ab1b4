package media

import (
	"encoding/binary"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// readers are the ways to read sockets; each must do the same.
func readers() map[string]func(*Engine) sockets {
	return map[string]func(*Engine) sockets{
		"polled":             newSockets,
		"two loops":          func(e *Engine) sockets { return newPolled(e, 2) },
		"ticking":            func(e *Engine) sockets { return ticking(e, 1, false) },
		"together":           func(e *Engine) sockets { return ticking(e, 1, true) },
		"two loops together": func(e *Engine) sockets { return ticking(e, 2, true) },
		"portable":           func(e *Engine) sockets { return portable{e} },
	}
}

// ticking is a reader whose loops tick from the first packet on, with or without a ring.
func ticking(e *Engine, loops int, ring bool) *polled {
	p := newPolled(e, loops)
	p.keen = true
	p.batched.Store(ring)
	return p
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

type arrival struct {
	data string
	from netip.AddrPort
}

// TestReadersAlike sends packets between sockets of both families, closes them while packets come, and counts what is left.
func TestReadersAlike(t *testing.T) {
	for name, reader := range readers() {
		for _, host := range []string{"127.0.0.1", "::1"} {
			t.Run(name+" "+host, func(t *testing.T) {
				before := descriptors(t)
				e := bare()
				s := reader(e)
				talk(t, e, s, netip.MustParseAddr(host))
				e.readers.Wait()
				if now := descriptors(t); now != before {
					t.Errorf("%d descriptors before, %d after", before, now)
				}
			})
		}
	}
}

func talk(t *testing.T, e *Engine, s sockets, ip netip.Addr) {
	got := make(chan arrival, 1000)
	begun := e.clock()
	hear := func(b []byte, from netip.AddrPort, now time.Duration, _ outbox) {
		if now < begun {
			t.Errorf("time %v, it was %v before", now, begun)
		}
		if string(b) == "fall over" {
			panic("a packet that is not understood")
		}
		got <- arrival{string(b), from}
	}
	a, at := listenAnywhere(t, s, ip, hear)
	b, bt := listenAnywhere(t, s, ip, hear)
	if _, err := s.listen(at, hear); err == nil {
		t.Error("a port could be taken twice")
	}
	for _, data := range []string{"one", "fall over", "two"} {
		if _, err := a.WriteToUDPAddrPort([]byte(data), bt); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"one", "two"} {
		select {
		case g := <-got:
			if g.data != want || g.from != at {
				t.Errorf("%q from %v, want %q from %v", g.data, g.from, want, at)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%q did not arrive", want)
		}
	}
	var flood sync.WaitGroup
	flood.Go(func() { // writes go on while b is closed
		for range 2000 {
			_, _ = a.WriteToUDPAddrPort([]byte("more"), bt)
		}
	})
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	flood.Wait()
	if _, err := b.WriteToUDPAddrPort([]byte("late"), at); err == nil {
		t.Error("a closed socket can be written to")
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := a.Close(); err == nil {
		t.Error("a socket can be closed twice")
	}
}

func listenAnywhere(t *testing.T, s sockets, ip netip.Addr, hear receiver) (conn, netip.AddrPort) {
	t.Helper()
	for range 100 {
		free, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
		if err != nil {
			t.Skipf("no %v on this machine: %v", ip, err)
		}
		at := free.LocalAddr().(*net.UDPAddr).AddrPort()
		free.Close()
		if c, err := s.listen(at, hear); err == nil {
			return c, at
		}
	}
	t.Fatal("no free port")
	panic("unreachable")
}

// TestPolledAllocatesNothing writes and reads through the kernel.
func TestPolledAllocatesNothing(t *testing.T) {
	e := &Engine{log: slog.New(slog.DiscardHandler), clock: func() time.Duration { return 0 }}
	s := newSockets(e).(*polled)
	read := make(chan struct{}, 1)
	a, _ := listenAnywhere(t, s, netip.MustParseAddr("127.0.0.1"), func([]byte, netip.AddrPort, time.Duration, outbox) {})
	b, bt := listenAnywhere(t, s, netip.MustParseAddr("127.0.0.1"), func([]byte, netip.AddrPort, time.Duration, outbox) { read <- struct{}{} })
	data := make([]byte, 172)
	n := testing.AllocsPerRun(500, func() {
		if _, err := a.WriteToUDPAddrPort(data, bt); err != nil {
			t.Error(err)
		}
		<-read
	})
	if n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
	a.Close()
	b.Close()
	e.readers.Wait()
}

// TestLoopsLeaveProcessors: of many engines in a process no more loops keep their processor than were given one more, and at the end none does.
func TestLoopsLeaveProcessors(t *testing.T) {
	await := func(n int32) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); keepers.Load() != n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d loops keep their processor, want %d", keepers.Load(), n)
			}
		}
	}
	await(0)
	var stop []func() time.Duration
	for range loops() + 2 {
		e := bare()
		a, at := listenAnywhere(t, newSockets(e), netip.MustParseAddr("127.0.0.1"), func([]byte, netip.AddrPort, time.Duration, outbox) {})
		defer a.Close()
		stop = append(stop, keepTalking(t, 5*time.Millisecond, func() { _, _ = a.WriteToUDPAddrPort(make([]byte, 172), at) }))
	}
	await(int32(loops()))
	for range 50 {
		if n := keepers.Load(); n > int32(loops()) {
			t.Errorf("%d loops keep their processor", n)
		}
		time.Sleep(2 * time.Millisecond)
	}
	for _, s := range stop {
		s()
	}
	await(0)
}

// TestLoopTicks sends so many packets that the loop ticks, and none is lost or overtaken; after them the next one is read at once again.
func TestLoopTicks(t *testing.T) {
	e := bare()
	s := newSockets(e).(*polled)
	var next, wrong, read atomic.Uint32
	a, _ := listenAnywhere(t, s, netip.MustParseAddr("127.0.0.1"), func([]byte, netip.AddrPort, time.Duration, outbox) {})
	b, bt := listenAnywhere(t, s, netip.MustParseAddr("127.0.0.1"), func(p []byte, _ netip.AddrPort, _ time.Duration, _ outbox) {
		if binary.BigEndian.Uint32(p) != next.Load() {
			wrong.Add(1)
		}
		next.Store(binary.BigEndian.Uint32(p) + 1)
		read.Add(1)
	})
	data, sent := make([]byte, 172), uint32(0)
	send := func() {
		binary.BigEndian.PutUint32(data, sent)
		if _, err := a.WriteToUDPAddrPort(data, bt); err != nil {
			t.Fatal(err)
		}
		sent++
	}
	await := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("not within 10 s: %s", what)
			}
		}
	}
	await("ticks", func() bool {
		for range 50 {
			send()
		}
		await("all that was sent is read", func() bool { return read.Load() == sent })
		return s.tick() == tick
	})
	for range 200 {
		for range 20 {
			send()
		}
		time.Sleep(time.Millisecond)
	}
	await("all that was sent is read", func() bool { return read.Load() == sent })
	await("ticks no more", func() bool { return s.tick() == 0 })
	send()
	await("the last is read", func() bool { return read.Load() == sent })
	if wrong.Load() > 0 {
		t.Errorf("%d packets of %d in another order", wrong.Load(), sent)
	}
	a.Close()
	b.Close()
	e.readers.Wait()
}
