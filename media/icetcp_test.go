package media

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	"go.uber.org/goleak"
)

// wired gives the engine one end of a connection of TCP, and returns the other.
func wired(t *testing.T, e *Engine) (net.Conn, chan struct{}) {
	t.Helper()
	return wiredThrough(t, e, func(c net.Conn) net.Conn { return c })
}

// wiredThrough is wired with something before the engine's end.
func wiredThrough(t *testing.T, e *Engine, before func(net.Conn) net.Conn) (net.Conn, chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() { defer close(over); e.ServeConn(before(s)) }()
	t.Cleanup(func() { c.Close(); <-over })
	return c, over
}

func writeFrame(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)); err != nil {
		t.Fatal(err)
	}
}

func nextFrame(t *testing.T, c net.Conn) []byte {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	var head [2]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint16(head[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func closedSoon(t *testing.T, what string, over chan struct{}) {
	t.Helper()
	select {
	case <-over:
	case <-time.After(5 * time.Second):
		t.Errorf("%s: the connection is open still", what)
	}
}

// TestTCPFirst: a connection whose first packet is no valid check is closed at once, or after ten seconds without one.
func TestTCPFirst(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	c := n.newClient("203.0.113.5:5000", true)
	good := c.request()
	bad := c.request()
	bad[len(bad)-20] ^= 1
	for name, b := range map[string][]byte{
		"forged check": bad, "DTLS": record(22, 0, 1, 2, 3), "audio": append([]byte{0x80}, make([]byte, 40)...), "nothing": {}, "noise": []byte("hello"),
	} {
		w, over := wired(t, n.e)
		writeFrame(t, w, b)
		closedSoon(t, name, over)
	}
	w, over := wired(t, n.e)
	if _, err := w.Write([]byte{0xff, 0xff, 0}); err != nil {
		t.Fatal(err)
	}
	closedSoon(t, "a packet of 64 KB", over)
	w, _ = wired(t, n.e)
	writeFrame(t, w, good)
	m := &stun.Message{Raw: nextFrame(t, w)}
	if err := m.Decode(); err != nil || m.Type != stun.BindingSuccess || c.s.Stats().Way != "tcp" {
		t.Errorf("answer %v, error %v, %+v", m, err, c.s.Stats())
	}
	begun := time.Now()
	_, over = wired(t, n.e)
	select {
	case <-over:
		if d := time.Since(begun); d < firstCheck {
			t.Errorf("closed after %v", d)
		}
	case <-time.After(6 * firstCheck):
		t.Error("a connection that says nothing is kept")
	}
}

// TestTCPGone: the end of a connection is the end of its pair, at once; another pair goes on, and without one the call is told.
func TestTCPGone(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	c := n.newClient("203.0.113.5:5000", true)
	c.s.Apply(c.agreement())
	c.check(nominate{})
	w, over := wired(t, n.e)
	writeFrame(t, w, c.request(nominate{}))
	nextFrame(t, w)
	if way := c.s.Stats().Way; way != "udp" {
		t.Errorf("of two pairs nominated at once it took %s", way)
	}
	time.Sleep(aggressive)
	writeFrame(t, w, c.request(nominate{}))
	nextFrame(t, w)
	if way := c.s.Stats().Way; way != "tcp" {
		t.Errorf("nominated later: %s", way)
	}
	w.Close()
	closedSoon(t, "closed by the peer", over)
	if way := c.s.Stats().Way; way != "udp" || len(c.lost) != 0 {
		t.Errorf("afterwards: %q, told %d times", way, len(c.lost))
	}
	w, over = wired(t, n.e)
	time.Sleep(aggressive)
	writeFrame(t, w, c.request(nominate{}))
	nextFrame(t, w)
	c.s.ice.gone(n.e.clock(), func(p *icePair) bool { return p.tcp == nil })
	w.Close()
	closedSoon(t, "closed by the peer", over)
	select {
	case <-c.lost:
	case <-time.After(5 * time.Second):
		t.Error("the call was not told")
	}
	w, over = wired(t, n.e)
	writeFrame(t, w, c.request(nominate{}))
	nextFrame(t, w)
	c.s.Close()
	closedSoon(t, "closed by us", over)
}

// slow is a connection that takes nothing until it is told to.
type slow struct {
	net.Conn
	mu     sync.Mutex
	open   chan struct{}
	closed chan struct{}
	once   sync.Once
	got    []byte
}

func (s *slow) Write(b []byte) (int, error) {
	select {
	case <-s.open:
	case <-s.closed:
		return 0, net.ErrClosed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, b...)
	return len(b), nil
}

func (s *slow) Close() error                     { s.once.Do(func() { close(s.closed) }); return nil }
func (s *slow) SetWriteDeadline(time.Time) error { return nil }

// TestTCPQueue: what cannot be written never makes the packet path wait; audio older than 200 ms is left out, checks and handshakes are not.
func TestTCPQueue(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	s := &slow{open: make(chan struct{}), closed: make(chan struct{})}
	c := &tcpConn{shared: n.e.shared, c: s, wake: make(chan struct{}, 1)}
	audio := make([]byte, 182)
	audio[0] = 0x80
	check := []byte{1, 1, 0, 0}
	begun := time.Now()
	put := func(b []byte) {
		if _, err := c.write(b, n.e.clock()); err != nil && err != io.ErrShortWrite {
			t.Fatal(err)
		}
	}
	put(audio) // the writer takes it and is stuck
	time.Sleep(50 * ms)
	put(check)
	for range 5000 {
		put(audio)
	}
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("5000 packets took %v", d)
	}
	c.mu.Lock()
	if len(c.queue) > maxQueue || c.late == 0 {
		t.Errorf("%d bytes queued, %d left out", len(c.queue), c.late)
	}
	c.mu.Unlock()
	time.Sleep(2 * stale)
	audio[3] = 9
	put(audio)
	close(s.open)
	want := len(audio) + 2 + len(check) + 2 + len(audio) + 2
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(ms) {
		s.mu.Lock()
		got := len(s.got)
		s.mu.Unlock()
		if got >= want {
			break
		}
	}
	time.Sleep(20 * ms)
	s.mu.Lock()
	if len(s.got) != want || s.got[want-len(audio)+3] != 9 {
		t.Errorf("%d bytes written, want %d", len(s.got), want)
	}
	s.mu.Unlock()
	c.finish()
	if _, err := c.write(audio, n.e.clock()); err != net.ErrClosed {
		t.Errorf("error %v", err)
	}
	<-s.closed
}

// TestTCPLeavesNothing: connections in every state end with the engine.
func TestTCPLeavesNothing(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	e := startWebRTC(t, true)
	s, err := e.Open(StreamOptions{Peer: netip.MustParseAddr("127.0.0.1"), WebRTC: true})
	if err != nil {
		t.Fatal(err)
	}
	c := &client{n: &ether{t: t}, s: s, ice: s.Local().ICE, ufrag: "abcd"}
	var ends []net.Conn
	for i := range 4 {
		w, err := net.Dial("tcp", s.Local().ICE.Candidates[1].Addr.String())
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, w)
		if i%2 == 0 {
			writeFrame(t, w, c.request(nominate{}))
			nextFrame(t, w)
		}
	}
	e.stop(t)
	for _, w := range ends {
		_ = w.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.Copy(io.Discard, w); err != nil {
			t.Errorf("not closed: %v", err)
		}
		w.Close()
	}
}

// watched is a connection whose read deadline can be seen.
type watched struct {
	net.Conn
	until chan time.Time
}

func (w *watched) SetReadDeadline(at time.Time) error {
	w.until <- at
	return w.Conn.SetReadDeadline(at)
}

// TestTCPConsent: a connection is kept for as long as it is checked, also when it is no pair of any stream.
func TestTCPConsent(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	c := n.newClient("203.0.113.5:5000", true)
	c.s.Apply(c.agreement())
	w := &watched{until: make(chan time.Time, 8)}
	theirs, over := wiredThrough(t, n.e, func(c net.Conn) net.Conn { w.Conn = c; return w })
	<-w.until // for the first check
	for name, b := range map[string][]byte{"a check": c.request(nominate{}), "a check in the wrong role": c.request(controlled(1))} {
		writeFrame(t, theirs, b)
		nextFrame(t, theirs)
		select {
		case at := <-w.until:
			if at.IsZero() || time.Until(at) > unchecked {
				t.Errorf("after %s it is kept until %v", name, at)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("after %s it is kept as long as before", name)
		}
	}
	_ = w.Conn.SetReadDeadline(time.Now())
	closedSoon(t, "checked no more", over)
}
