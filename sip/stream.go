package sip

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// The limits of connections. One that nobody has logged in on is held short; one that a device uses is kept for as
// long as a registration can last, and the kernel's keep-alive finds out when its other end has died.
const (
	perSource  = 100    // connections of one address (IPv6: of one /64)
	allStreams = 10_000 // connections of all
	writeQueue = 256    // messages waiting to be written
)

// patience is how long a connection is waited for; tests have less.
type patience struct {
	first    time.Duration // from accept to the end of the first message, TLS handshake included
	message  time.Duration // from a message's first byte to its last
	stranger time.Duration // between messages, nobody logged in
	device   time.Duration // between messages, after a login; registrations end in an hour
	write    time.Duration
}

var usualPatience = patience{
	first: 10 * time.Second, message: 10 * time.Second, stranger: 120 * time.Second, device: 65 * time.Minute,
	write: 10 * time.Second,
}

// stream is one TCP or TLS connection.
type stream struct {
	// set once
	agent  *Agent
	conn   net.Conn
	flow   Flow
	source netip.Prefix
	out    chan []byte // nil = close after what was queued before
	done   chan struct{}
	end    sync.Once

	// guarded by mu
	mu      sync.Mutex
	trusted bool // an authenticated request came over it
}

// send queues one message. A peer that does not read its messages loses the connection.
func (s *stream) send(data []byte) error {
	select {
	case <-s.done:
		return fmt.Errorf("send over %s: %w", s.flow, ErrFlowGone)
	default:
	}
	select {
	case s.out <- data:
		return nil
	default:
		s.close()
		return fmt.Errorf("send over %s: peer does not read: %w", s.flow, ErrFlowGone)
	}
}

// closeAfter closes when every message that has come is served, and every answer to it written.
func (s *stream) closeAfter() {
	var left atomic.Int32
	left.Store(int32(len(s.agent.shards)))
	for _, q := range s.agent.shards {
		q.queue.post(func() {
			if left.Add(-1) == 0 {
				s.flush()
			}
		})
	}
}

// flush closes when everything queued has been written.
func (s *stream) flush() {
	select {
	case s.out <- nil:
	default:
		s.close()
	}
}

func (s *stream) close() {
	s.end.Do(func() {
		close(s.done)
		_ = s.conn.Close()
	})
}

// write is the writer's goroutine.
func (s *stream) write() {
	defer s.close()
	for {
		select {
		case <-s.done:
			return
		case data := <-s.out:
			if data == nil {
				return
			}
			_ = s.conn.SetWriteDeadline(time.Now().Add(s.agent.patience.write))
			if _, err := s.conn.Write(data); err != nil {
				return
			}
		}
	}
}

// read is the reader's goroutine: handshake, then messages until the first error.
func (s *stream) read(ctx context.Context) error {
	first := time.Now().Add(s.agent.patience.first)
	_ = s.conn.SetDeadline(first)
	if t, ok := s.conn.(*tls.Conn); ok {
		if err := t.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("TLS handshake: %w", err)
		}
	}
	f := newFramer(s.conn)
	seen := false
	f.started = func() {
		if seen {
			_ = s.conn.SetReadDeadline(time.Now().Add(s.agent.patience.message))
		}
	}
	for {
		msg, err := f.next()
		switch {
		case errors.Is(err, errPing):
			if err := s.send([]byte("\r\n")); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			seen = true
			s.agent.receive(msg, s.flow)
		}
		if seen {
			s.rest()
		}
	}
}

// rest sets how long the next message is waited for.
func (s *stream) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	idle := s.agent.patience.stranger
	if s.trusted {
		idle = s.agent.patience.device
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(idle))
}

// trust keeps the connection for as long as a device's: somebody has logged in on it. The reader may be waiting for
// the next message already.
func (s *stream) trust() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.trusted {
		s.trusted = true
		_ = s.conn.SetReadDeadline(time.Now().Add(s.agent.patience.device))
	}
}

// accept takes connections until the listener is closed.
func (a *Agent) accept(ctx context.Context, l *streamListener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of file descriptors, most likely: those there go on, new ones wait
			a.log.Warn("cannot accept a connection", "transport", l.transport, "err", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		s, err := a.admit(l, c)
		if err != nil {
			a.log.Debug("connection refused", "from", c.RemoteAddr().String(), "err", err)
			_ = c.Close()
			continue
		}
		a.wg.Go(s.write)
		a.wg.Go(func() { a.serveStream(ctx, s) })
	}
}

// admit gives a new connection its flow, within the limits.
func (a *Agent) admit(l *streamListener, c net.Conn) (*stream, error) {
	flow := Flow{Transport: l.transport, Local: addrPort(c.LocalAddr()), Remote: addrPort(c.RemoteAddr())}
	if l.tls != nil {
		c = tls.Server(c, l.tls)
	}
	s := &stream{
		agent: a, conn: c, source: sourceOf(flow.Remote.Addr()),
		out: make(chan []byte, writeQueue), done: make(chan struct{}),
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped || len(a.streams) >= allStreams || a.sources[s.source] >= perSource {
		return nil, errors.New("too many connections")
	}
	a.lastStream++
	flow.ID = a.lastStream
	s.flow = flow
	a.streams[flow.ID] = s
	a.sources[s.source]++
	return s, nil
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		return unmap(t.AddrPort())
	}
	return netip.AddrPort{}
}

func sourceOf(ip netip.Addr) netip.Prefix {
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

// serveStream reads a connection to its end, and tells that the flow is closed.
func (a *Agent) serveStream(ctx context.Context, s *stream) {
	err := s.read(ctx)
	var framing *framingError
	if errors.As(err, &framing) {
		a.refuseFraming(framing, s.flow)
		s.closeAfter()
		select {
		case <-s.done:
		case <-a.done:
		}
	}
	s.close()
	a.mu.Lock()
	delete(a.streams, s.flow.ID)
	if a.sources[s.source]--; a.sources[s.source] == 0 {
		delete(a.sources, s.source)
	}
	a.mu.Unlock()
	a.log.Debug("connection closed", "transport", s.flow.Transport, "from", s.flow.Remote.String(), "err", err)
	if a.opt.FlowClosed != nil {
		a.guard(func() { a.opt.FlowClosed(s.flow) })
	}
}
