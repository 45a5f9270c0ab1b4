package sip

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"baton/config"
)

// pipes is a listener whose connections stay within the process, so that its clock can be the test's. It begins with
// the errors that it is given.
type pipes struct {
	errs    []error
	made    chan net.Conn
	closed  chan struct{}
	once    sync.Once
	accepts atomic.Int32
}

func newPipes(errs ...error) *pipes {
	return &pipes{errs: errs, made: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept waits for the next connection.
func (p *pipes) Accept() (net.Conn, error) {
	p.accepts.Add(1)
	if len(p.errs) > 0 {
		err := p.errs[0]
		p.errs = p.errs[1:]
		return nil, err
	}
	select {
	case c := <-p.made:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (p *pipes) Close() error { p.once.Do(func() { close(p.closed) }); return nil }

// Addr is no real one.
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5060} }

// pipe is one end, with the addresses of a connection.
type pipe struct {
	net.Conn
	remote netip.AddrPort
}

// LocalAddr is the listener's.
func (p pipe) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5060} }

// RemoteAddr is what the test chose.
func (p pipe) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(p.remote) }

// connect opens a connection from an address.
func (p *pipes) connect(from string) net.Conn {
	ours, theirs := net.Pipe()
	p.made <- pipe{theirs, netip.AddrPortFrom(netip.MustParseAddr(from), 1000)}
	return ours
}

// bubble runs an agent with the usual patience on a test's clock.
func bubble(t *testing.T, l *pipes, cfg *tls.Config, o Options, do func(a *Agent)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l.made, l.closed = make(chan net.Conn), make(chan struct{})
		o.Secret, o.Realm, o.Credentials, o.Listen = []byte("s"), testRealm, logins{"alice": "pw"}, config.Listen{}
		if o.Handlers == nil {
			o.Handlers = map[string]func(*Exchange){"REGISTER": func(x *Exchange) { _ = x.Respond(Reply{Code: 200}) }}
		}
		a, err := NewAgent(o)
		if err != nil {
			t.Fatal(err)
		}
		transport := "tcp"
		if cfg != nil {
			transport = "tls"
		}
		a.listeners = []*streamListener{{l, transport, addrPort(l.Addr()), cfg}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		do(a)
		cancel()
		<-done
		time.Sleep(time.Minute) // those who drip find out
	})
}

// drip begins to write one byte every 200 ms, until the connection is closed.
func drip(c net.Conn, text string) {
	go func() {
		for i := 0; ; i++ {
			if _, err := c.Write([]byte{text[i%len(text)]}); err != nil {
				return
			}
			time.Sleep(200 * time.Millisecond)
		}
	}()
}

// every begins to write a text again and again, until the connection is closed.
func every(c net.Conn, pause time.Duration, text string) {
	go func() {
		for {
			if _, err := c.Write([]byte(text)); err != nil {
				return
			}
			time.Sleep(pause)
		}
	}()
}

// heard makes the first message, that of a stranger, and takes its answer.
func heard(t *testing.T, c net.Conn) {
	w := &wire{t: t, conn: c, r: newFramer(c)}
	w.send(probe("TCP"))
	w.expect(401)
	_ = c.SetReadDeadline(time.Time{})
}

// logged logs in.
func logged(t *testing.T, c net.Conn) {
	w := &wire{t: t, conn: c, r: newFramer(c)}
	w.authenticated(msg{method: "REGISTER", transport: "TCP"})
	w.expect(200)
	_ = c.SetReadDeadline(time.Time{})
}

// hello is a ClientHello and nothing more.
func hello(t *testing.T, c net.Conn) {
	ours, theirs := net.Pipe()
	go func() { _ = tls.Client(ours, &tls.Config{InsecureSkipVerify: true}).Handshake() }()
	buf := make([]byte, 4096)
	n, _ := theirs.Read(buf)
	theirs.Close()
	if _, err := c.Write(buf[:n]); err != nil {
		t.Error(err)
	}
}

// TestPatience wants each kind of slow peer to be closed at its time, to the second, and counted under its name.
func TestPatience(t *testing.T) {
	secure := testTLS(t)
	for _, c := range []struct {
		name  string
		tls   bool
		do    func(t *testing.T, c net.Conn)
		want  time.Duration
		under string
	}{
		{"silent after connect", false, func(*testing.T, net.Conn) {}, 10 * time.Second, "slow_first"},
		{"half a message", false, func(_ *testing.T, c net.Conn) { _, _ = c.Write([]byte("INVITE sip:a SIP/2.0\r\nVia: x")) }, 10 * time.Second, "slow_first"},
		{"half a method", false, func(_ *testing.T, c net.Conn) { _, _ = c.Write([]byte("REGI")) }, 10 * time.Second, "slow_first"},
		{"drips its first message", false, func(_ *testing.T, c net.Conn) { drip(c, "INVITE sip:a:b@c SIP/2.0 ") }, 10 * time.Second, "slow_first"},
		{"drips a body", false, func(_ *testing.T, c net.Conn) {
			head, _, _ := strings.Cut(msg{method: "OPTIONS", body: strings.Repeat("x", 60000)}.String(), "xxx")
			_, _ = c.Write([]byte(head))
			drip(c, "x")
		}, 10 * time.Second, "slow_first"},
		{"pings only", false, func(_ *testing.T, c net.Conn) { every(c, time.Second, "\r\n\r\n") }, 10 * time.Second, "slow_first"},
		{"drips a later message", false, func(t *testing.T, c net.Conn) { heard(t, c); drip(c, "INVITE sip:a:b@c SIP/2.0 ") }, 10 * time.Second, "slow_message"},
		{"a device drips", false, func(t *testing.T, c net.Conn) { logged(t, c); drip(c, "INVITE sip:a:b@c SIP/2.0 ") }, 10 * time.Second, "slow_message"},
		{"stranger says no more", false, func(t *testing.T, c net.Conn) { heard(t, c) }, 120 * time.Second, "idle"},
		{"stranger pings", false, func(t *testing.T, c net.Conn) { heard(t, c); every(c, 20*time.Second, "\r\n\r\n") }, 120 * time.Second, "idle"},
		{"stranger drips line ends", false, func(t *testing.T, c net.Conn) { heard(t, c); drip(c, "\r\n") }, 120 * time.Second, "idle"},
		{"device says no more", false, func(t *testing.T, c net.Conn) { logged(t, c) }, 65 * time.Minute, "idle"},
		{"another protocol", false, func(_ *testing.T, c net.Conn) { _, _ = c.Write([]byte("GET / HTTP/1.1\r\n\r\n")) }, 0, "framing"},
		{"no handshake", true, func(*testing.T, net.Conn) {}, 10 * time.Second, "slow_handshake"},
		{"ClientHello only", true, hello, 10 * time.Second, "slow_handshake"},
		{"drips a ClientHello", true, func(_ *testing.T, c net.Conn) {
			_, _ = c.Write([]byte{22, 3, 1, 2, 0})
			drip(c, "\x01")
		}, 10 * time.Second, "slow_handshake"},
		{"no TLS", true, func(_ *testing.T, c net.Conn) { _, _ = c.Write([]byte("OPTIONS sip:a SIP/2.0\r\n\r\n")) }, 0, "bad_handshake"},
		{"handshake, then nothing", true, func(t *testing.T, c net.Conn) {
			if err := tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake(); err != nil {
				t.Error(err)
			}
		}, 10 * time.Second, "slow_first"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := secure
			if !c.tls {
				cfg = nil
			}
			l := newPipes()
			bubble(t, l, cfg, Options{}, func(a *Agent) {
				conn := l.connect("192.0.2.1")
				begin := time.Now()
				c.do(t, conn)
				_ = conn.SetReadDeadline(begin.Add(3 * time.Hour)) // else one that stays would stay for ever
				_, _ = io.Copy(io.Discard, conn)
				if took := time.Since(begin).Round(time.Second); took != c.want {
					t.Errorf("closed after %v, want %v", took, c.want)
				}
				synctest.Wait()
				if got := a.Connections(); got.Open != 0 || got.Closed[c.under] != 1 {
					t.Errorf("%+v, want one %s", got, c.under)
				}
				_ = conn.Close()
			})
		})
	}
}

// TestPlaces wants the limits by source, an IPv6 subscriber as one, and strangers to make room when all is full.
func TestPlaces(t *testing.T) {
	l := newPipes()
	bubble(t, l, nil, Options{Connections: config.Connections{PerSource: 2, Total: 5}}, func(a *Agent) {
		shut := func(c net.Conn) bool {
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			_, err := c.Read(make([]byte, 1))
			return !errors.Is(err, os.ErrDeadlineExceeded)
		}
		open := map[string]net.Conn{}
		for _, c := range []struct {
			name, from string
			refused    bool
		}{
			{"one", "127.0.0.1", false},
			{"two", "127.0.0.1", false},
			{"loopback has no more than others", "127.0.0.1", true},
			{"same subscriber 1", "2001:db8:1:2::1", false},
			{"same subscriber 2", "2001:db8:1:2:3::1", false},
			{"same subscriber 3", "2001:db8:1:2:ffff::9", true},
			{"another subscriber", "2001:db8:1:3::1", false},
		} {
			conn := l.connect(c.from)
			if got := shut(conn); got != c.refused {
				t.Errorf("%s: refused %v, want %v", c.name, got, c.refused)
			}
			open[c.name] = conn
		}
		for _, name := range []string{"one", "two", "same subscriber 1", "same subscriber 2"} {
			logged(t, open[name])
		}
		room := l.connect("198.51.100.1")
		if shut(room) || !shut(open["another subscriber"]) {
			t.Error("the stranger did not make room")
		}
		logged(t, room)
		if last := l.connect("198.51.100.2"); !shut(last) {
			t.Error("a device was displaced, or a sixth connection taken")
		}
		for _, name := range []string{"one", "two", "same subscriber 1", "same subscriber 2"} {
			if shut(open[name]) {
				t.Errorf("%s: a device's connection was closed", name)
			}
		}
		got := a.Connections()
		if got.Open != 5 || got.Devices != 5 || got.Refused["source"] != 2 || got.Refused["total"] != 1 || got.Closed["displaced"] != 1 {
			t.Errorf("%+v", got)
		}
	})
}

func TestPlacesFor(t *testing.T) {
	for _, c := range []struct {
		set         config.Connections
		descriptors int
		want        config.Connections
	}{
		{config.Connections{}, 0, config.Connections{PerSource: 100, Total: 10000}},
		{config.Connections{}, 1024, config.Connections{PerSource: 100, Total: 512}},
		{config.Connections{PerSource: 7, Total: 300}, 1024, config.Connections{PerSource: 7, Total: 300}},
		{config.Connections{Total: 30000}, 20000, config.Connections{PerSource: 100, Total: 10000}},
	} {
		if got := placesFor(c.set, c.descriptors); got != c.want {
			t.Errorf("%+v with %d descriptors: %+v, want %+v", c.set, c.descriptors, got, c.want)
		}
	}
}

// TestAcceptErrors wants the loop to rest longer and longer while there are no descriptors, to say so seldom, and to
// go on when there are.
func TestAcceptErrors(t *testing.T) {
	full := &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	l := newPipes()
	for range 40 {
		l.errs = append(l.errs, full)
	}
	var log bytes.Buffer
	o := Options{Log: slog.New(slog.NewTextHandler(&log, nil))}
	bubble(t, l, nil, o, func(a *Agent) {
		begin := time.Now()
		conn := l.connect("192.0.2.1") // waits until accepted
		took := time.Since(begin)
		if took < 30*time.Second || took > 40*time.Second {
			t.Errorf("40 errors took %v, want 8 short rests and 32 of a second", took)
		}
		logged(t, conn)
		if got := a.Connections().AcceptErrors; got != 40 {
			t.Errorf("%d errors counted, want 40", got)
		}
	})
	if lines := strings.Count(log.String(), "cannot accept"); lines < 1 || lines > 5 {
		t.Errorf("%d lines in the log:\n%s", lines, log.String())
	}
}

// TestSlowReader wants the queue to be bounded in bytes too, and one who takes nothing for 10 s to go.
func TestSlowReader(t *testing.T) {
	l := newPipes()
	bubble(t, l, nil, Options{}, func(a *Agent) {
		conn := l.connect("192.0.2.1")
		logged(t, conn)
		f := flowOf(a)
		if err := a.send(f, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		synctest.Wait()
		time.Sleep(11 * time.Second)
		if a.Alive(f) || time.Since(begin) > 12*time.Second {
			t.Error("who does not read is kept")
		}
		conn = l.connect("192.0.2.1")
		logged(t, conn)
		f = flowOf(a)
		sent := 0
		for a.send(f, make([]byte, 60_000)) == nil {
			sent++
		}
		if sent < 10 || sent*60_000 > writeBytes+60_000 {
			t.Errorf("%d messages of 60 kB were queued", sent)
		}
		synctest.Wait()
		if got := a.Connections(); got.Open != 0 || got.Closed["unread"] != 2 {
			t.Errorf("%+v", got)
		}
	})
}

// flowOf is the flow of the only connection.
func flowOf(a *Agent) Flow {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.streams {
		return s.flow
	}
	return Flow{}
}

// TestTrustDoesNotSaveADrip wants a login that is served while the next message drips to leave that one its time.
func TestTrustDoesNotSaveADrip(t *testing.T) {
	l := newPipes()
	bubble(t, l, nil, Options{}, func(a *Agent) {
		conn := l.connect("192.0.2.1")
		heard(t, conn)
		drip(conn, "INVITE sip:a:b@c SIP/2.0 ")
		begin := time.Now()
		time.Sleep(time.Second)
		a.stream(flowOf(a)).trust()
		_ = conn.SetReadDeadline(begin.Add(3 * time.Hour))
		_, _ = io.Copy(io.Discard, conn)
		if took := time.Since(begin).Round(time.Second); took != 10*time.Second {
			t.Errorf("closed after %v", took)
		}
	})
}
