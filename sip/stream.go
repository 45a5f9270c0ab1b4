package sip

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// patience is how long a connection is waited for; tests have less. No byte of a message that is not whole prolongs
// anything, so that one that drips ends as early as one that is silent. One that nobody has logged in on is held short;
// one that a device uses is kept for as long as a registration can last, and the kernel's keep-alive finds out when its
// other end has died.
type patience struct {
	first    time.Duration // from accept to the end of the first message, TLS handshake included
	message  time.Duration // from a message's first byte to its last
	stranger time.Duration // between messages, nobody logged in; keep-alives do not count
	device   time.Duration // between messages or keep-alives, after a login; registrations end in an hour
	write    time.Duration
}

var usualPatience = patience{
	first: 10 * time.Second, message: 10 * time.Second, stranger: 120 * time.Second, device: 65 * time.Minute,
	write: 10 * time.Second,
}

// stage is what the reader of a connection waits for.
//
//	handshake ──▶ first ──whole message──▶ between ──first byte──▶ inside
//	 (TLS only)                               ▲───whole message──────┘
type stage int

const (
	inHandshake stage = iota
	inFirst
	between
	inside
)

// stream is one TCP or TLS connection. Its reader's goroutine makes the handshake and reads, its writer's writes.
type stream struct {
	// set once
	agent  *Agent
	raw    net.Conn // under TLS
	conn   net.Conn
	flow   Flow
	source netip.Prefix
	out    outbox
	done   chan struct{}
	end    sync.Once

	trusted atomic.Bool // an authenticated request came over it

	// guarded by mu
	mu    sync.Mutex
	stage stage
	why   ending // set before done closes
}

// send queues one message. A peer that does not read its messages loses the connection.
func (s *stream) send(data []byte) error {
	select {
	case <-s.done:
		return fmt.Errorf("send over %s: %w", s.flow, ErrFlowGone)
	default:
	}
	if s.out.put(data) {
		return nil
	}
	s.close(endUnread)
	return fmt.Errorf("send over %s: peer does not read: %w", s.flow, ErrFlowGone)
}

// closeAfter closes when every message that has come is served, and every answer to it written.
func (s *stream) closeAfter() {
	var left atomic.Int32
	left.Store(int32(len(s.agent.shards)))
	for _, q := range s.agent.shards {
		q.queue.Post(func() {
			if left.Add(-1) == 0 {
				s.out.finish()
			}
		})
	}
}

// close ends the connection at once; the first reason counts. It never waits for the peer, as the farewell of TLS would:
// those who send call it.
func (s *stream) close(why ending) {
	s.end.Do(func() {
		s.mu.Lock()
		s.why = why
		s.mu.Unlock()
		close(s.done)
		_ = s.raw.Close()
	})
}

// write is the writer's goroutine.
func (s *stream) write() {
	for {
		select {
		case <-s.done:
			return
		case <-s.out.wake:
			data, last := s.out.take()
			if err := s.writeAll(data); err != nil {
				s.close(s.whyWrite(err))
				return
			}
			if last {
				_ = s.conn.Close() // with the farewell of TLS
				s.close(endFraming)
				return
			}
		}
	}
}

func (s *stream) writeAll(data []byte) error {
	for len(data) > 0 {
		n := min(len(data), writeAtOnce)
		_ = s.conn.SetWriteDeadline(time.Now().Add(s.agent.patience.write))
		if _, err := s.conn.Write(data[:n]); err != nil {
			return err
		}
		s.out.wrote(n)
		data = data[n:]
	}
	return nil
}

// read is the reader's goroutine: handshake, then messages until the first error.
func (s *stream) read() error {
	defer s.agent.survive()
	_ = s.conn.SetDeadline(time.Now().Add(s.agent.patience.first))
	if t, ok := s.conn.(*tls.Conn); ok {
		if err := t.Handshake(); err != nil {
			return fmt.Errorf("TLS handshake: %w", err)
		}
	}
	s.enter(inFirst)
	f := newFramer(s.conn)
	f.started = func() { s.enter(inside) }
	for {
		msg, err := f.next()
		switch {
		case errors.Is(err, errPing):
			if err := s.send([]byte("\r\n")); err != nil {
				return err
			}
			s.pinged()
		case err != nil:
			return err
		default:
			if s.agent.admits(msg, s.flow) {
				s.agent.receive(msg, s.flow)
			}
			s.enter(between)
		}
	}
}

// enter changes the stage and sets how long it may last. The first message has the time that was set at the beginning,
// whatever comes of it.
func (s *stream) enter(to stage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stage == inFirst && to == inside {
		return
	}
	s.stage = to
	switch to {
	case inside:
		_ = s.conn.SetReadDeadline(time.Now().Add(s.agent.patience.message))
	case between:
		s.rest()
	}
}

// rest sets how long the next message is waited for. mu is held.
func (s *stream) rest() {
	idle := s.agent.patience.stranger
	if s.trusted.Load() {
		idle = s.agent.patience.device
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(idle))
}

// pinged waits again for a device that has shown that it is there. A stranger must say something.
func (s *stream) pinged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stage == between && s.trusted.Load() {
		s.rest()
	}
}

// trust keeps the connection for as long as a device's: somebody has logged in on it. The reader may be waiting for
// the next message already, or be inside it: that one has its own time.
func (s *stream) trust() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.trusted.Swap(true) && s.stage == between {
		s.rest()
	}
}

// serveStream reads a connection to its end, and tells that the flow is closed.
func (a *Agent) serveStream(s *stream) {
	err := s.read()
	var framing *framingError
	if errors.As(err, &framing) {
		a.refuseFraming(framing, s.flow)
		s.closeAfter()
		select {
		case <-s.done:
		case <-a.done:
		}
	}
	s.close(s.whyRead(err))
	a.forget(s)
	a.tellClosed(s, err)
	if a.opt.FlowClosed != nil {
		a.guard(func() { a.opt.FlowClosed(s.flow) })
	}
}

// whyRead says what an error of the reader means, by the stage in which it came.
func (s *stream) whyRead(err error) ending {
	var framing *framingError
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.As(err, &framing):
		return endFraming
	case errors.Is(err, os.ErrDeadlineExceeded):
		return [...]ending{inHandshake: endSlowHandshake, inFirst: endSlowFirst, between: endIdle, inside: endSlowMessage}[s.stage]
	case isTimeout(err): // of the kernel: its keep-alives stayed unanswered
		return endVanished
	case s.stage == inHandshake && s.conn != s.raw:
		return endBadHandshake
	}
	return endByPeer
}

// whyWrite says what an error of the writer means.
func (s *stream) whyWrite(err error) ending {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return endUnread
	case isTimeout(err):
		return endVanished
	}
	return endByPeer
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// reason is why a closed connection was closed.
func (s *stream) reason() ending {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}
