package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"
)

// session is one connection to a peer. One goroutine reads it and one writes.
type session struct {
	// set once
	mesh   *Mesh
	peer   *peer
	node   Node
	conn   *tls.Conn
	raw    net.Conn
	out    outbox
	done   chan struct{}
	end    sync.Once
	slots  chan struct{} // of requests that are served
	ctx    context.Context
	cancel context.CancelFunc

	// guarded by mu
	mu     sync.Mutex
	lastID uint64
	wait   map[uint64]chan frame
	pings  map[uint64]time.Time
	read   time.Time // last
}

func (m *Mesh) newSession(conn *tls.Conn, raw net.Conn, node Node) *session {
	s := &session{
		mesh: m, node: node, conn: conn, raw: raw, out: newOutbox(), done: make(chan struct{}), slots: make(chan struct{}, maxRequests),
		wait: make(map[uint64]chan frame), pings: make(map[uint64]time.Time), read: time.Now(),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// close ends the connection at once.
func (s *session) close() {
	s.end.Do(func() {
		close(s.done)
		s.cancel()
		_ = s.raw.Close()
	})
}

func (s *session) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// write is the writer's goroutine.
func (s *session) write() {
	defer s.close()
	var buf []byte
	for {
		select {
		case <-s.done:
			return
		case <-s.out.wake:
		}
		for {
			data, over := s.out.take(buf)
			if len(data) > 0 {
				_ = s.conn.SetWriteDeadline(time.Now().Add(s.mesh.timing.write))
				if _, err := s.conn.Write(data); err != nil {
					return
				}
			}
			if over {
				s.farewell()
				return
			}
			if buf = data; cap(buf) > 4*writeAtOnce {
				buf = nil
			}
			if len(data) == 0 {
				break
			}
		}
	}
}

// farewell lets the peer read all that was written: it closes when it has.
func (s *session) farewell() {
	_ = s.conn.CloseWrite()
	patience := time.NewTimer(s.mesh.timing.bye)
	defer patience.Stop()
	select {
	case <-s.done:
	case <-patience.C:
	}
}

// serve reads the connection to its end, which it tells.
func (s *session) serve() {
	r := &frames{from: s.conn, most: maxFrame}
	var err error
	for {
		var f frame
		if f, err = r.next(); err != nil {
			break
		}
		s.mu.Lock()
		s.read = time.Now()
		s.mu.Unlock()
		if f.what == frameBye {
			s.mesh.leftBy(s)
			break
		}
		s.mesh.guard(func() { s.take(f) })
	}
	if errors.Is(err, errFrame) {
		s.mesh.counts.badFrames.Add(1)
		s.mesh.log.Warn("node speaks otherwise; its connection is closed", "node", s.node.ID, "err", err)
	}
	s.close()
	s.mesh.lost(s, err)
}

// take serves one frame.
func (s *session) take(f frame) {
	switch f.what {
	case framePing:
		s.out.hurry(frame{what: framePong, id: f.id})
	case framePong:
		s.pong(f.id)
	case frameMessage:
		if fn := s.mesh.messages[f.kind]; fn != nil {
			fn(s.node.ID, f.payload)
			return
		}
		s.mesh.counts.unserved.Add(1)
	case frameRequest:
		s.request(f)
	case frameAnswer, frameFailure:
		f.payload = append([]byte(nil), f.payload...)
		s.mu.Lock()
		c := s.wait[f.id]
		delete(s.wait, f.id)
		s.mu.Unlock()
		if c != nil {
			c <- f
		}
	}
}

// ping asks for a sign of life; the answer is a sign of it.
func (s *session) ping(now time.Time) (id uint64) {
	s.mu.Lock()
	s.lastID++
	id = s.lastID
	if len(s.pings) > 64 {
		clear(s.pings)
	}
	s.pings[id] = now
	s.mu.Unlock()
	s.out.hurry(frame{what: framePing, id: id})
	return id
}

func (s *session) pong(id uint64) {
	s.mu.Lock()
	at, asked := s.pings[id]
	delete(s.pings, id)
	c := s.wait[id]
	delete(s.wait, id)
	s.mu.Unlock()
	if c != nil {
		c <- frame{what: framePong}
	}
	if asked {
		s.mesh.measured(s, time.Since(at))
	}
}

// answersPing asks once and waits for the answer, at most until ctx ends.
func (s *session) answersPing(ctx context.Context) bool {
	c := make(chan frame, 1)
	id := s.ping(time.Now())
	s.mu.Lock()
	switch _, asked := s.pings[id]; {
	case !asked:
		c <- frame{} // it was quick
	case s.wait != nil: // the connection has not ended
		s.wait[id] = c
	}
	s.mu.Unlock()
	defer s.forget(id)
	select {
	case <-c:
		return true
	case <-ctx.Done():
		return false
	case <-s.done:
		return false
	}
}

func (s *session) forget(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.wait, id)
}

// quiet is how long nothing has come.
func (s *session) quiet(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Sub(s.read)
}

// awake forgets how long nothing has come, because we did not look.
func (s *session) awake(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read = now
}
