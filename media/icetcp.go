package media

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// ICE over TCP (RFC 6544): a connection that the peer has made carries STUN, DTLS and SRTP, each packet behind its length (RFC 4571). The
// packet path never waits for it: what goes out is queued, and audio that could not be sent within 200 ms is left out.

const (
	firstCheck = 10 * time.Second       // for the first valid check to come
	unchecked  = 2 * consent            // after the last one; browsers check a spare connection every 25 s
	stale      = 200 * time.Millisecond // for audio in the queue
	stuck      = 10 * time.Second       // without a byte that could be written before the connection is given up
	maxQueue   = 8 << 10
)

// tcpConn is one such connection.
type tcpConn struct {
	// set once
	shared *shared
	c      net.Conn
	remote netip.AddrPort

	agent atomic.Pointer[agent] // whose it is, since its first valid check

	mu      sync.Mutex
	queue   []byte        // entries: when it was queued (8), length (2), packet
	wake    chan struct{} // something was queued, or no more will be
	ended   bool
	late    uint64
	writing bool // the writer has been started
}

const entryHeader = 10

// ServeConn takes a TCP connection of a browser's ICE agent, and returns when that is over. Its first packet has to be a valid check of a
// stream's peer, within ten seconds, and the next one within a minute of the one before.
func (e *Engine) ServeConn(c net.Conn) {
	defer c.Close()
	p := e.shared
	if p == nil || !e.enter() {
		return
	}
	defer e.readers.Done()
	t := &tcpConn{shared: p, c: c, remote: remoteOf(c), wake: make(chan struct{}, 1)}
	if !p.adopt(t) {
		return
	}
	defer p.part(t)
	_ = c.SetReadDeadline(time.Now().Add(firstCheck))
	t.read()
	t.close()
	if a := t.agent.Load(); a != nil {
		a.gone(e.clock(), func(pr *icePair) bool { return pr.tcp == t })
	}
}

func remoteOf(c net.Conn) netip.AddrPort {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return unmapped(a.AddrPort())
	}
	at, _ := netip.ParseAddrPort(c.RemoteAddr().String())
	return unmapped(at)
}

// adopt keeps a connection until part, unless the port is closed.
func (p *shared) adopt(t *tcpConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.conns[t] = struct{}{}
	return true
}

func (p *shared) part(t *tcpConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, t)
}

// read takes packets until the connection ends.
func (t *tcpConn) read() {
	r := bufio.NewReaderSize(t.c, 2048)
	buf := make([]byte, maxPacket)
	for {
		n, err := readFrame(r, buf)
		if err != nil || !t.take(buf[:n]) {
			return
		}
	}
}

// readFrame reads one packet (RFC 4571 §2). One that is larger than any of UDP is not for us.
func readFrame(r *bufio.Reader, buf []byte) (int, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n > len(buf) {
		return 0, io.ErrShortBuffer
	}
	return io.ReadFull(r, buf[:n])
}

// take takes one packet; false ends the connection.
func (t *tcpConn) take(b []byte) (more bool) {
	defer t.shared.engine.survive("media packet")
	more = true
	now := t.shared.engine.clock()
	mine := t.agent.Load()
	if len(b) == 0 {
		return mine != nil // RFC 4571 §2: nothing
	}
	if b[0] < 4 {
		a := t.shared.check(b, route{tcp: t, remote: t.remote}, now)
		if a != nil {
			_ = t.c.SetReadDeadline(time.Now().Add(unchecked)) // or one whose pair has gone would be kept for ever
		}
		if mine == nil && a != nil {
			t.agent.Store(a)
		}
		return mine != nil || a != nil
	}
	if mine == nil {
		return false
	}
	t.shared.take(&icePair{agent: mine, route: route{tcp: t, remote: t.remote}}, b, now, nil)
	return true
}

// write queues a packet; the first one starts the writer.
func (t *tcpConn) write(b []byte, now time.Duration) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return 0, net.ErrClosed
	}
	if len(t.queue)+entryHeader+len(b) > maxQueue {
		t.queue = t.fresh(t.queue[:0], t.queue, now)
	}
	if len(t.queue)+entryHeader+len(b) > maxQueue {
		t.late++
		return 0, io.ErrShortWrite
	}
	t.queue = binary.BigEndian.AppendUint64(t.queue, uint64(now))
	t.queue = binary.BigEndian.AppendUint16(t.queue, uint16(len(b)))
	t.queue = append(t.queue, b...)
	if !t.writing {
		t.writing = true
		t.shared.engine.readers.Go(t.drain)
	}
	t.nudge()
	return len(b), nil
}

func (t *tcpConn) nudge() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// fresh appends the entries of queue that are not too late yet; media alone can be.
func (t *tcpConn) fresh(dst, queue []byte, now time.Duration) []byte {
	for len(queue) >= entryHeader {
		at, n := time.Duration(binary.BigEndian.Uint64(queue)), entryHeader+int(binary.BigEndian.Uint16(queue[8:]))
		if now-at > stale && queue[entryHeader] >= 128 {
			t.late++
		} else {
			dst = append(dst, queue[:n]...)
		}
		queue = queue[n:]
	}
	return dst
}

// drain writes what is queued until the connection ends.
func (t *tcpConn) drain() {
	var out, frames []byte
	for {
		<-t.wake
		t.mu.Lock()
		out, t.queue = t.queue, out[:0]
		frames = frame(frames[:0], t.fresh(out[:0], out, t.shared.engine.clock()))
		ended := t.ended
		t.mu.Unlock()
		if len(frames) > 0 {
			_ = t.c.SetWriteDeadline(time.Now().Add(stuck))
			if _, err := t.c.Write(frames); err != nil {
				t.close()
				return
			}
		}
		if ended {
			t.c.Close()
			return
		}
	}
}

// frame turns entries into packets behind their lengths.
func frame(dst, queue []byte) []byte {
	for len(queue) >= entryHeader {
		n := entryHeader + int(binary.BigEndian.Uint16(queue[8:]))
		dst = append(dst, queue[8:n]...)
		queue = queue[n:]
	}
	return dst
}

// finish ends the connection when what is queued has been written.
func (t *tcpConn) finish() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	if !t.writing {
		t.c.Close()
	}
	t.nudge()
}

// close ends it at once.
func (t *tcpConn) close() {
	t.finish()
	t.c.Close()
}
