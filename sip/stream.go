package sip

import (
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

// stream is one connection: TCP, TLS, or a WebSocket. Its reader's goroutine makes the handshake and reads, its writer's writes.
type stream struct {
	// set once
	agent  *Agent
	line   line
	flow   Flow
	source netip.Prefix
	out    outbox
	done   chan struct{}
	end    sync.Once
	users  users // other nodes

	trusted atomic.Bool // an authenticated request came over it

	// guarded by mu
	mu    sync.Mutex
	stage stage
	why   ending // set before done closes
}

// line is what a connection is made of: octets that are cut into messages, or messages as they are.
type line interface {
	open(until time.Time) error // what comes before the first message
	next() ([]byte, error)      // one message, or errPing
	await(until time.Time)      // next fails then with os.ErrDeadlineExceeded, or finds the stream closed
	// write writes one message behind the other; wrote is told how many octets of them are gone.
	write(messages batch, patience time.Duration, wrote func(octets int)) error
	cut()      // ends it at once, whatever the peer does; everything above returns
	farewell() // ends it when all is written, as its protocol wants it
}

// send queues one message. A peer that does not read its messages loses the connection.
func (s *stream) send(data []byte) error {
	if s.over() {
		return fmt.Errorf("send over %s: %w", s.flow, ErrFlowGone)
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
		close(s.done) // under mu: nothing is awaited after it
		s.mu.Unlock()
		s.line.cut()
	})
}

// write is the writer's goroutine.
func (s *stream) write() {
	for {
		select {
		case <-s.done:
			return
		case <-s.out.wake:
			messages, last := s.out.take()
			if err := s.line.write(messages, s.agent.patience.write, s.out.wrote); err != nil {
				s.close(s.whyWrite(err))
				return
			}
			if last {
				s.line.farewell()
				s.close(endFraming)
				return
			}
		}
	}
}

// read is the reader's goroutine: handshake, then messages until the first error.
func (s *stream) read() error {
	defer s.agent.survive()
	if err := s.line.open(s.begin()); err != nil {
		return err
	}
	s.enter(inFirst)
	for {
		msg, err := s.line.next()
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

// begin sets until when the first message must have come.
func (s *stream) begin() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awaits(s.agent.patience.first)
	return time.Now().Add(s.agent.patience.first)
}

// over says that the connection has ended.
func (s *stream) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
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
		s.awaits(s.agent.patience.message)
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
	s.awaits(idle)
}

// awaits sets how long the next message may take, unless the connection has ended. mu is held.
func (s *stream) awaits(d time.Duration) {
	if !s.over() {
		s.line.await(time.Now().Add(d))
	}
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
	defer a.wg.Done() // of admit
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
	a.tellGone(s)
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
	case errors.As(err, &framing), errors.Is(err, ErrMessageSize):
		return endFraming
	case errors.Is(err, ErrMessageSlow):
		return endSlowMessage
	case errors.Is(err, os.ErrDeadlineExceeded):
		return [...]ending{inHandshake: endSlowHandshake, inFirst: endSlowFirst, between: endIdle, inside: endSlowMessage}[s.stage]
	case isTimeout(err), errors.Is(err, ErrVanished): // the kernel's keep-alives stayed unanswered, or a WebSocket's
		return endVanished
	case s.stage == inHandshake:
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
