package sip

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
)

// SIP over WebSocket (RFC 7118). Whoever has made the WebSocket hands it over; from then on it is a connection like those
// that the agent has taken itself: the same places, limits and patience, one queue of what is to be written, an end that is told.
// The transport is wss, in Via as `WSS`, in URIs as `ws` (RFC 7118 §5): a client is reached over its connection alone, and what
// host it writes into Contact and Via (`abc.invalid`) is never looked up.

// MessageConn is a connection that carries one whole SIP message at a time (RFC 7118): a WebSocket after its upgrade. One
// goroutine reads, another writes; Close may be called by any, also several times.
type MessageConn interface {
	// ReadMessage waits for a message. What keeps the connection alive is none, unless it looks like one (RFC 5626 §4.4.1).
	// Its error may be one of those below.
	ReadMessage() ([]byte, error)
	WriteMessage(b []byte) error
	Close() error // at once, without waiting for the peer; it unblocks both
	Addrs() (local, remote netip.AddrPort)
}

// Why a MessageConn has ended, where that was not the peer's wish.
var (
	ErrMessageSize = errors.New("the message is too long")
	ErrMessageSlow = errors.New("the message is not whole in time")
	ErrVanished    = errors.New("the peer does not answer")
)

// ErrNoPlace says that a connection was not served: there are too many of its source, or in all.
var ErrNoPlace = errors.New("no place for another connection")

// ServeConn serves a connection until it is closed. With ErrNoPlace it was not served, and is still open.
func (a *Agent) ServeConn(c MessageConn) error {
	local, remote := c.Addrs()
	s := newStream(a, Flow{Transport: "wss", Local: unmap(local), Remote: unmap(remote)})
	s.line = newMessages(c, s)
	if why, ok := a.place(s); !ok {
		return fmt.Errorf("serve %s: %w (%s)", s.flow, ErrNoPlace, why)
	}
	a.wg.Go(s.write)
	a.serveStream(s)
	return nil
}

// messages is the line of a MessageConn. It knows no deadlines: timers end the stream when the peer's time is over.
type messages struct {
	conn   MessageConn
	late   *time.Timer // of the reader
	unread *time.Timer // of the writer
}

func newMessages(c MessageConn, s *stream) *messages {
	m := &messages{
		conn: c, late: time.AfterFunc(never, func() { s.close(s.whyRead(os.ErrDeadlineExceeded)) }),
		unread: time.AfterFunc(never, func() { s.close(endUnread) }),
	}
	m.late.Stop()
	m.unread.Stop()
	return m
}

const never = time.Duration(1<<63 - 1)

func (m *messages) open(time.Time) error { return nil }

// next reads one message. Its length is known, so that a wrong one does no harm to the next; but who sends anything else
// than SIP does not want to be here.
func (m *messages) next() ([]byte, error) {
	for {
		msg, err := m.conn.ReadMessage()
		if err != nil {
			return nil, err
		}
		blank := len(msg) - len(bytes.TrimLeft(msg, "\r\n"))
		switch line, _, _ := bytes.Cut(msg[blank:], []byte("\r\n")); {
		case len(msg) > MaxMessage:
			return nil, &framingError{513, msg, ErrMessageSize}
		case blank == len(msg) && bytes.Contains(msg, []byte("\r\n\r\n")):
			return nil, errPing
		case blank == len(msg): // the answer to a ping, or nothing
		case !startsMessage(line):
			return nil, &framingError{400, nil, errNotSIP}
		default:
			return msg[blank:], nil
		}
	}
}

func (m *messages) await(until time.Time) { m.late.Reset(time.Until(until)) }

func (m *messages) write(all batch, patience time.Duration, wrote func(int)) error {
	from := 0
	for _, end := range all.ends {
		m.unread.Reset(patience)
		err := m.conn.WriteMessage(all.data[from:end])
		m.unread.Stop()
		if err != nil {
			return err
		}
		wrote(end - from)
		from = end
	}
	return nil
}

func (m *messages) cut() {
	m.late.Stop()
	m.unread.Stop()
	_ = m.conn.Close()
}

func (m *messages) farewell() { m.cut() }
