package web

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
)

// portConn is a connection with its place, which it gives back when it is closed.
type portConn struct {
	net.Conn
	port   *Port
	source netip.Prefix
	waits  atomic.Bool // its client has asked for nothing so far, or for nothing more
}

// Close closes the connection and frees its place.
func (c *portConn) Close() error {
	c.port.mu.Lock()
	c.port.remove(c)
	c.port.mu.Unlock()
	return c.Conn.Close()
}

// headConn is a connection whose first bytes have been read already; they are read again.
type headConn struct {
	net.Conn
	port  *portConn
	head  []byte
	state *tls.ConnectionState // nil = without TLS
}

// Read gives the first bytes first.
func (c *headConn) Read(b []byte) (int, error) {
	if len(c.head) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.head)
	c.head = c.head[n:]
	return n, nil
}

// NetConn is the connection under it, for those who must end it at once.
func (c *headConn) NetConn() net.Conn { return c.Conn }

type headKey struct{}

// withTLS tells requests of the TLS that they came over: a connection that was looked into hides it from net/http.
func withTLS(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.TLS, _ = r.Context().Value(headKey{}).(*tls.ConnectionState)
		h.ServeHTTP(w, r)
	})
}

// handoff is a listener whose connections are given to it.
type handoff struct {
	at    net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandoff(at net.Addr) *handoff {
	return &handoff{at: at, conns: make(chan net.Conn), done: make(chan struct{})}
}

// give waits until the connection is taken, or closes it.
func (h *handoff) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		_ = c.Close()
	}
}

// Accept waits for a connection.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr is that of the port.
func (h *handoff) Addr() net.Addr { return h.at }
