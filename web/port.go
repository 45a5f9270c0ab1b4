package web

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baton/config"
)

// How long a connection may take for what comes first. Browsers open some before they need them, which say nothing at all.
const (
	greetWait  = 10 * time.Second // until the TLS handshake is done, or until it is clear that there is none
	silentWait = 10 * time.Second // for the first bytes behind it
	headerWait = 10 * time.Second // for the header of a request
	idleWait   = 75 * time.Second // between two requests
	stopWait   = 2 * time.Second  // for requests that are under way when the node stops
)

const maxHeader = 16 << 10

// alpnACME is what a connection negotiates that an ACME authority makes to see whether the name is ours (RFC 8737).
const alpnACME = "acme-tls/1"

// Conns serves connections that are no HTTP. It owns them: it blocks or not, and closes them at last.
type Conns interface{ ServeConn(c net.Conn) }

// PortOptions is what the HTTPS port leads to.
type PortOptions struct {
	TLS         *tls.Config // certificates; what may be negotiated besides HTTP/1.1
	HTTP        http.Handler
	ICE         Conns // ICE-TCP (RFC 6544), nil = closed
	TURN        Conns // TURN and STUN, nil = closed
	Connections config.Connections
	Log         *slog.Logger
}

// Port is the one TCP port that a browser needs. It serves HTTPS and, told apart by the first bytes before TLS and behind it,
// ICE-TCP and TURN: so that a call works where nothing else gets out. HTTP without TLS is led to HTTPS.
type Port struct {
	// set once
	opt    PortOptions
	log    *slog.Logger
	l      net.Listener
	tls    *tls.Config
	places config.Connections
	greet  time.Duration // as greetWait
	silent time.Duration // as silentWait
	header time.Duration // as headerWait

	secure, plain *handoff
	served        sync.WaitGroup
	counts        portCounts

	mu      sync.Mutex
	conns   map[*portConn]struct{}
	sources map[netip.Prefix]int
	stopped bool
}

type portCounts struct {
	by                      [len(purposes)]atomic.Uint64
	slow, handshakes        atomic.Uint64
	refusedSource, refused  atomic.Uint64
	displaced, acceptErrors atomic.Uint64
}

// PortCounts counts the connections of the HTTPS port since its start.
type PortCounts struct {
	Open         int               `json:"open"`
	Idle         int               `json:"idle"`              // of those: their clients have asked for nothing so far, or for nothing more
	Served       map[string]uint64 `json:"served,omitempty"`  // by what they were for: http, turn, ice, acme; a secure one counts as tls too
	Slow         uint64            `json:"slow"`              // said too little in time
	BadHandshake uint64            `json:"bad_handshake"`     // TLS failed
	Refused      map[string]uint64 `json:"refused,omitempty"` // by the limit: source, total
	Displaced    uint64            `json:"displaced"`         // said nothing yet, and made room for another
	AcceptErrors uint64            `json:"accept_errors"`
}

// ListenPort opens the port. As on the SIP ports, the kernel asks a silent peer whether it is there and gives up one that does
// not acknowledge.
func ListenPort(address string, o PortOptions) (*Port, error) {
	lc := net.ListenConfig{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 4 * time.Second, Count: 4},
		Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			set := func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 25_000)
			}
			return errors.Join(c.Control(set), err)
		},
	}
	l, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return nil, fmt.Errorf("listen on web %s: %w", address, err)
	}
	return newPort(l, o), nil
}

func newPort(l net.Listener, o PortOptions) *Port {
	p := &Port{
		opt: o, log: o.Log, l: l, tls: o.TLS.Clone(), places: portPlaces(o.Connections, descriptors()), greet: greetWait, silent: silentWait, header: headerWait,
		secure: newHandoff(l.Addr()), plain: newHandoff(l.Addr()),
		conns: map[*portConn]struct{}{}, sources: map[netip.Prefix]int{},
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	// HTTP/2 needs a *tls.Conn, which a connection that was looked into is not. "stun.turn" is RFC 7443.
	p.tls.NextProtos = append([]string{"http/1.1", "stun.turn"}, p.tls.NextProtos...)
	return p
}

// portPlaces are the limits in force: a quarter of the file descriptors is the most, beside the half that the SIP ports may take.
func portPlaces(set config.Connections, descriptors int) config.Connections {
	usual := config.Default().Connections
	if set.PerSource == 0 {
		set.PerSource = usual.PerSource
	}
	if set.Total == 0 {
		set.Total = usual.Total
	}
	if descriptors > 0 {
		set.Total = min(set.Total, max(1, descriptors/4))
	}
	return set
}

// descriptors is how many files the process may have open, 0 = not known.
func descriptors() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	return int(min(l.Cur, 1<<30))
}

// Addr is where the port is.
func (p *Port) Addr() netip.AddrPort { return unmapped(p.l.Addr()) }

// Close closes a port that never ran.
func (p *Port) Close() error { return p.l.Close() }

// Counts counts the connections.
func (p *Port) Counts() PortCounts {
	c := &p.counts
	served := map[string]uint64{}
	for i := range c.by {
		if i != int(unclear) {
			served[purposes[i]] = c.by[i].Load()
		}
	}
	p.mu.Lock()
	open, idle := len(p.conns), 0
	for conn := range p.conns {
		if conn.waits.Load() {
			idle++
		}
	}
	p.mu.Unlock()
	return PortCounts{
		Open: open, Idle: idle, Served: served, Slow: c.slow.Load(), BadHandshake: c.handshakes.Load(),
		Refused:   map[string]uint64{"source": c.refusedSource.Load(), "total": c.refused.Load()},
		Displaced: c.displaced.Load(), AcceptErrors: c.acceptErrors.Load(),
	}
}

// Run serves until ctx ends. Requests under way then have two seconds; after that every connection is closed, whoever serves it.
func (p *Port) Run(ctx context.Context) error {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx)) // of requests: ended first, so that streams of events end
	defer cancel()
	secure, plain := p.server(own, p.opt.HTTP), p.server(own, http.HandlerFunc(leadToHTTPS))
	plain.SetKeepAlivesEnabled(false)
	var servers sync.WaitGroup
	servers.Go(func() { _ = secure.Serve(p.secure) }) // ends with Shutdown
	servers.Go(func() { _ = plain.Serve(p.plain) })
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		p.accept(ctx)
	}()
	<-ctx.Done()
	_ = p.l.Close()
	<-accepted
	cancel()
	grace, over := context.WithTimeout(context.WithoutCancel(ctx), stopWait)
	defer over()
	for _, s := range []*http.Server{plain, secure} {
		if s.Shutdown(grace) != nil {
			_ = s.Close()
		}
	}
	p.closeAll()
	servers.Wait()
	p.served.Wait()
	return nil
}

func (p *Port) server(ctx context.Context, h http.Handler) *http.Server {
	return &http.Server{
		Handler: withTLS(h), ReadHeaderTimeout: p.header, IdleTimeout: idleWait, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, headKey{}, c.(*headConn).state)
		},
		ConnState: func(c net.Conn, s http.ConnState) {
			c.(*headConn).port.waits.Store(s == http.StateIdle || s == http.StateNew)
		},
		ErrorLog: slog.NewLogLogger(serverLog{p.log.Handler()}, slog.LevelDebug),
	}
}

// closeAll closes every connection and lets no new one in.
func (p *Port) closeAll() {
	p.secure.Close()
	p.plain.Close()
	p.mu.Lock()
	p.stopped = true
	all := make([]*portConn, 0, len(p.conns))
	for c := range p.conns {
		all = append(all, c)
	}
	p.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}

// accept takes connections until the listener is closed. It does nothing that could wait for a peer.
func (p *Port) accept(ctx context.Context) {
	const first, last = 5 * time.Millisecond, time.Second
	for rest := first; ; {
		c, err := p.l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err == nil:
			rest = first
			p.take(c)
			continue
		}
		p.counts.acceptErrors.Add(1)
		p.log.Debug("cannot accept connections; is the limit of open files too low?", "transport", "web", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(rest):
			rest = min(2*rest, last)
		}
	}
}

// take serves a connection, or closes it when there is no place for it.
func (p *Port) take(raw net.Conn) {
	c := &portConn{Conn: raw, port: p, source: sourceOf(unmapped(raw.RemoteAddr()).Addr())}
	c.waits.Store(true)
	if !p.admit(c) {
		_ = raw.Close()
		return
	}
	p.served.Go(func() { p.serve(c) })
}

// admit gives a connection its place. When all are taken, one that waits for what its client might say is closed for it.
func (p *Port) admit(c *portConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.stopped:
		return false
	case p.sources[c.source] >= p.places.PerSource:
		p.counts.refusedSource.Add(1)
		return false
	case len(p.conns) >= p.places.Total && !p.displace():
		p.counts.refused.Add(1)
		return false
	}
	p.conns[c] = struct{}{}
	p.sources[c.source]++
	return true
}

// displace frees a place; some are tried, in the map's random order. mu is held.
func (p *Port) displace() bool {
	tried := 0
	for c := range p.conns {
		if c.waits.Load() {
			p.counts.displaced.Add(1)
			p.remove(c)
			_ = c.Conn.Close()
			return true
		}
		if tried++; tried == 64 {
			break
		}
	}
	return false
}

// remove frees a place, once. mu is held.
func (p *Port) remove(c *portConn) {
	if _, there := p.conns[c]; !there {
		return
	}
	delete(p.conns, c)
	if p.sources[c.source]--; p.sources[c.source] == 0 {
		delete(p.sources, c.source)
	}
}

// serve finds out what a connection is for and gives it there.
func (p *Port) serve(c *portConn) {
	defer func() {
		if x := recover(); x != nil { // one connection is lost
			p.log.Error("connection of the web port lost", "from", c.RemoteAddr().String(), "err", x)
			_ = c.Close()
		}
	}()
	_ = c.SetDeadline(time.Now().Add(p.greet)) // a connection that is broken already shows it when it is read
	head, what, err := peek(c)
	if err != nil {
		p.lost(c, err)
		return
	}
	first := &headConn{Conn: c, port: c, head: head}
	if what != forTLS {
		p.give(first, what, p.plain)
		return
	}
	p.counts.by[forTLS].Add(1)
	p.serveTLS(c, first)
}

// serveTLS makes the handshake and looks once more.
func (p *Port) serveTLS(c *portConn, first net.Conn) {
	t := tls.Server(first, p.tls)
	if err := t.Handshake(); err != nil {
		p.counts.handshakes.Add(1)
		p.log.Debug("no TLS", "transport", "web", "from", c.RemoteAddr().String(), "err", err)
		_ = c.Close()
		return
	}
	state := t.ConnectionState()
	if state.NegotiatedProtocol == alpnACME {
		p.counts.by[forALPN].Add(1)
		_ = t.Close()
		return
	}
	_ = c.SetDeadline(time.Now().Add(p.silent))
	head, what, err := peek(t)
	if err != nil {
		p.lost(c, err)
		return
	}
	if what == forTLS {
		what = forHTTP // TLS within TLS is nothing: the server says so
	}
	p.give(&headConn{Conn: t, port: c, head: head, state: &state}, what, p.secure)
}

// lost closes a connection of which it is not known what it was for.
func (p *Port) lost(c *portConn, err error) {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		p.counts.slow.Add(1)
	}
	_ = c.Close()
}

// give hands a connection to those who serve it.
func (p *Port) give(c *headConn, what purpose, server *handoff) {
	p.counts.by[what].Add(1)
	_ = c.SetDeadline(time.Time{})
	if what == forHTTP {
		server.give(c)
		return
	}
	to := p.opt.TURN
	if what == forICE {
		to = p.opt.ICE
	}
	if to == nil {
		_ = c.Close()
		return
	}
	c.port.waits.Store(false)
	to.ServeConn(c)
}

// leadToHTTPS answers those who speak HTTP to the HTTPS port.
func leadToHTTPS(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || r.Host == "" {
		http.Error(w, "this port speaks HTTPS", http.StatusBadRequest)
		return
	}
	to := url.URL{Scheme: "https", Host: r.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, to.String(), http.StatusTemporaryRedirect)
}

// serverLog lets what net/http says pass at a level of its own: a handler that has panicked is an error.
type serverLog struct{ slog.Handler }

// Enabled implements slog.Handler.
func (s serverLog) Enabled(ctx context.Context, _ slog.Level) bool {
	return s.Handler.Enabled(ctx, slog.LevelError)
}

// Handle implements slog.Handler.
func (s serverLog) Handle(ctx context.Context, r slog.Record) error {
	if bytes.Contains([]byte(r.Message), []byte("panic serving")) {
		r.Level = slog.LevelError
	}
	if !s.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return s.Handler.Handle(ctx, r)
}

// sourceOf is whom a connection is counted with: an IPv4 address, or the /64 that one IPv6 subscriber has.
func sourceOf(ip netip.Addr) netip.Prefix {
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.WithZone("").Prefix(bits)
	return p
}

// unmapped is a TCP address without the form of IPv4 in IPv6.
func unmapped(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := t.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}
