package cluster

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// hello is what both ends of a connection say first, the one that dialled before the other.
type hello struct {
	ID       string `json:"id"`
	Instance string `json:"instance"`
	Started  int64  `json:"started"` // unix milliseconds, by its own clock: of two instances of one name the later counts
	Port     uint16 `json:"port"`    // of its listener
	Host     string `json:"host"`    // "" = the address that the connection comes from
	// Ask: the connection is only to learn who is there and whether it lives. Of two nodes the one whose name is less
	// makes the connection that stays, so that there is one.
	Ask bool `json:"ask,omitempty"`
}

func (m *Mesh) hello(ask bool) hello {
	h := hello{ID: m.self.ID, Instance: m.self.Instance, Started: m.started, Port: m.at.Port(), Ask: ask}
	if ip := m.at.Addr(); !ip.IsUnspecified() {
		h.Host = ip.String()
	}
	return h
}

// node is who says hello, as he can be reached: where he listens on all addresses, at the one that his connection comes from.
func (h hello) node(from netip.Addr) Node {
	host := h.Host
	if host == "" {
		host = from.Unmap().String()
	}
	return Node{ID: h.ID, Instance: h.Instance, Addr: net.JoinHostPort(host, strconv.Itoa(int(h.Port)))}
}

func writeHello(c net.Conn, h hello) error {
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	_, err = c.Write(frame{what: frameHello, payload: text}.append(nil))
	return err
}

func readHello(c net.Conn) (hello, error) {
	var h hello
	f, err := (&frames{from: c, most: maxHello}).next()
	if err != nil {
		return h, err
	}
	if f.what != frameHello {
		return h, fmt.Errorf("%w: no hello", errFrame)
	}
	if err := json.Unmarshal(f.payload, &h); err != nil {
		return h, fmt.Errorf("hello: %w", err)
	}
	if h.ID == "" || h.Instance == "" || len(h.ID) > maxID || len(h.Instance) > maxID || h.Port == 0 {
		return h, fmt.Errorf("%w: hello of nobody", errFrame)
	}
	return h, nil
}

// connected is what dialling an address has come to.
type connected struct {
	conn *tls.Conn
	raw  net.Conn
	them hello
}

// dial connects to a node, proves the key and says hello.
func (m *Mesh) dial(ctx context.Context, addr string, ask bool) (connected, error) {
	ctx, cancel := context.WithTimeout(ctx, m.timing.handshake)
	defer cancel()
	raw, err := m.dialer().DialContext(ctx, "tcp", addr)
	if err != nil {
		return connected{}, err
	}
	conn, them, err := m.greet(ctx, raw, ask)
	if err != nil {
		_ = raw.Close()
		return connected{}, err
	}
	return connected{conn, raw, them}, nil
}

// countGreeting counts a handshake for a connection that stays, from its beginning to its end; false: the node stops.
func (m *Mesh) countGreeting(n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n > 0 && m.leaving {
		return false
	}
	m.greeting += n
	return true
}

// dialer connects from the address that the mesh listens on, if that is one.
func (m *Mesh) dialer() *net.Dialer {
	d := &net.Dialer{KeepAlive: -1}
	if ip := m.at.Addr(); !ip.IsUnspecified() {
		d.LocalAddr = &net.TCPAddr{IP: ip.AsSlice()}
	}
	return d
}

// greet is the dialler's part of handshake and hello; ctx bounds both.
func (m *Mesh) greet(ctx context.Context, raw net.Conn, ask bool) (*tls.Conn, hello, error) {
	if !ask {
		if !m.countGreeting(1) {
			return nil, hello{}, errLeaves
		}
		defer m.countGreeting(-1)
	}
	conn := tls.Client(raw, m.tls)
	until, _ := ctx.Deadline()
	_ = conn.SetDeadline(until)
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, hello{}, err
	}
	if err := writeHello(conn, m.hello(ask)); err != nil {
		return nil, hello{}, err
	}
	them, err := readHello(conn)
	if err != nil {
		return nil, hello{}, err
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, them, nil
}

// accept takes connections until the listener is closed.
func (m *Mesh) accept() {
	for {
		raw, err := m.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if !m.admit(addrOf(raw)) {
			m.counts.refused.Add(1)
			_ = raw.Close()
			continue
		}
		if !m.spawn(func() { m.welcome(raw) }) {
			_ = raw.Close()
			return
		}
	}
}

// admit takes a place for a handshake, if there is one for that address.
func (m *Mesh) admit(from netip.Addr) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := 0
	for _, n := range m.shaking {
		all += n
	}
	if all >= maxHandshakes || m.shaking[from] >= maxOfOne {
		return false
	}
	m.shaking[from]++
	return true
}

// shaken gives the place back.
func (m *Mesh) shaken(from netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shaking[from]--; m.shaking[from] <= 0 {
		delete(m.shaking, from)
	}
}

// welcome is the acceptor's part of handshake and hello.
func (m *Mesh) welcome(raw net.Conn) {
	s, ask := m.shake(raw)
	m.shaken(addrOf(raw))
	if s == nil || ask {
		_ = raw.Close()
		return
	}
	m.adopt(s, false)
}

func (m *Mesh) shake(raw net.Conn) (s *session, ask bool) {
	conn := tls.Server(raw, m.tls)
	_ = conn.SetDeadline(time.Now().Add(m.timing.handshake))
	stop := make(chan struct{})
	defer close(stop)
	m.spawn(func() {
		select {
		case <-stop:
		case <-m.done:
			_ = raw.Close()
		}
	})
	if err := conn.Handshake(); err != nil {
		if !errors.Is(err, io.EOF) {
			m.counts.handshakes.Add(1)
			m.log.Debug("connection to the mesh refused", "from", raw.RemoteAddr().String(), "err", err)
		}
		return nil, false
	}
	them, err := readHello(conn)
	if err != nil {
		m.counts.badFrames.Add(1)
		return nil, false
	}
	if err := writeHello(conn, m.hello(them.Ask)); err != nil {
		return nil, false
	}
	_ = conn.SetDeadline(time.Time{})
	m.meet(them, addrOf(raw), them.Ask)
	return m.sessionWith(conn, raw, them), them.Ask
}

func (m *Mesh) sessionWith(conn *tls.Conn, raw net.Conn, them hello) *session {
	return m.newSession(conn, raw, them.node(addrOf(raw)))
}

func addrOf(c net.Conn) netip.Addr { return c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr() }
