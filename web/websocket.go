package web

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"baton/config"
	"baton/sip"
)

// SIP is who serves the WebSockets of phones; *sip.Agent is one.
type SIP interface {
	ServeConn(c sip.MessageConn) error
}

// pace is how long the peer of a WebSocket is waited for, beside what the agent itself waits for (sip: patience).
type pace struct {
	ping    time.Duration // between a pong and the next ping
	pong    time.Duration // for the pong
	message time.Duration // from a message's first frame to its last octet
}

var usualPace = pace{ping: 20 * time.Second, pong: 10 * time.Second, message: 10 * time.Second}

// pingsAnswered is how many of a peer's own pings are answered in a second; the rest is passed over (RFC 6455 §5.5.3).
const pingsAnswered = 10

// phones is the door for phones that speak SIP over WebSocket (RFC 7118): browsers, which say what page they come from, and
// others, which do not.
type phones struct {
	// set once
	agent   SIP
	origins func() []string // beside the node's own
	log     *slog.Logger
	pace    pace

	told atomic.Int64 // when a refused page was last told of, in seconds
}

// Phones is a handler that makes WebSockets and has agent serve SIP on them. A page may come from the host that it asks, or
// from one of origins, as in https://phone.example.org.
func Phones(agent SIP, origins func() []string, log *slog.Logger) http.Handler {
	return &phones{agent: agent, origins: origins, log: log, pace: usualPace}
}

// ServeHTTP lets one phone in, or says why not.
func (p *phones) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if code, why := p.refusal(r); code != 0 {
		if code == http.StatusUpgradeRequired {
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Connection", "Upgrade")
		}
		http.Error(w, why, code)
		return
	}
	u := &upgrade{ResponseWriter: w}
	var pings perSecond
	conn, err := websocket.Accept(u, r, &websocket.AcceptOptions{
		Subprotocols: []string{"sip"}, InsecureSkipVerify: true, // the origin has been looked at
		OnPingReceived: func(context.Context, []byte) bool { return pings.count() <= pingsAnswered },
	})
	if err != nil {
		p.log.Debug("WebSocket refused", "from", r.RemoteAddr, "err", err) // it has been answered
		return
	}
	conn.SetReadLimit(sip.MaxMessage)
	go p.serve(newSocket(conn, u.conn, p.pace))
}

// serve has a phone served to its end. It is a goroutine of its own, because that of the HTTP server has a stack that was made
// for the handshake and holds the request: 17 KB that ten thousand idle phones do not need. The agent's Run waits for it.
func (p *phones) serve(s *socket) {
	defer s.end()
	if err := p.agent.ServeConn(s); err != nil {
		s.turnAway()
	}
}

// refusal says why a request is not let in, and with which status; 0 = it is. What is wrong with the WebSocket itself is for
// websocket.Accept to say.
func (p *phones) refusal(r *http.Request) (code int, why string) {
	switch {
	case !has(r.Header, "Upgrade", "websocket"):
		return http.StatusUpgradeRequired, "here phones speak SIP over WebSocket (RFC 7118): ask for an upgrade to websocket, with the subprotocol sip"
	case !p.welcome(r):
		p.tell(r)
		return http.StatusForbidden, "this page may not use the phones of this server: its origin must be the server's own or stand in the setting web.origins"
	case !has(r.Header, "Sec-WebSocket-Protocol", "sip"):
		return http.StatusBadRequest, "the subprotocol is missing: a phone asks for sip in Sec-WebSocket-Protocol (RFC 7118 §4.1)"
	}
	return 0, ""
}

// has says whether a list header has a value, in any case.
func has(h http.Header, name, value string) bool {
	return slices.ContainsFunc(h.Values(name), func(line string) bool {
		return slices.ContainsFunc(strings.Split(line, ","), func(v string) bool {
			return strings.EqualFold(strings.TrimSpace(v), value)
		})
	})
}

// welcome says whether the page that asks may: a script of any page can make a WebSocket to any server, and the browser says
// only whose it is (RFC 6455 §10.2). Who says nothing is no browser.
func (p *phones) welcome(r *http.Request) bool {
	told := r.Header.Values("Origin")
	if len(told) == 0 {
		return true
	}
	origin, err := config.Origin(told[0])
	if err != nil || len(told) > 1 {
		return false
	}
	own, err := config.Origin("https://" + r.Host)
	return err == nil && origin == own || slices.Contains(p.origins(), origin)
}

// tell logs a page that was refused, once in a while.
func (p *phones) tell(r *http.Request) {
	const every = 10
	now, last := time.Now().Unix(), p.told.Load()
	if now-last >= every && p.told.CompareAndSwap(last, now) {
		p.log.Warn("WebSocket refused: its page is of another origin, see the setting web.origins",
			"origin", strings.Join(r.Header.Values("Origin"), ", "), "host", r.Host, "from", r.RemoteAddr)
	}
}

// perSecond counts what happens in a second; one goroutine counts.
type perSecond struct{ second, n int64 }

func (p *perSecond) count() int64 {
	if now := time.Now().Unix(); now != p.second {
		p.second, p.n = now, 0
	}
	p.n++
	return p.n
}

// upgrade keeps hold of the connection that a WebSocket takes over.
type upgrade struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack gives the connection away as one that ends at once.
func (u *upgrade) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(u.ResponseWriter).Hijack()
	u.conn = abrupt{c}
	return u.conn, rw, err
}

// abrupt closes what is under TLS, whose farewell would wait for the peer.
type abrupt struct{ net.Conn }

// Close closes the innermost connection.
func (a abrupt) Close() error {
	c := a.Conn
	for {
		outer, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c.Close()
		}
		c = outer.NetConn()
	}
}

// socket is a WebSocket as the SIP agent takes it. The agent reads and writes; the socket looks whether the peer is there.
type socket struct {
	// set once
	conn          *websocket.Conn
	under         net.Conn
	pace          pace
	local, remote netip.AddrPort

	slow, vanished atomic.Bool // why it was closed

	// guarded by mu
	mu    sync.Mutex
	next  *time.Timer // ping; nil = no more
	beats sync.WaitGroup
}

func newSocket(conn *websocket.Conn, under net.Conn, pace pace) *socket {
	s := &socket{conn: conn, under: under, pace: pace, local: addrOf(under.LocalAddr()), remote: addrOf(under.RemoteAddr())}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beats.Add(1)
	s.next = time.AfterFunc(pace.ping, s.beat)
	return s
}

func addrOf(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort()
	}
	return netip.AddrPort{}
}

// beat asks the peer whether it is there, and has it asked again. It holds one of beats until it is not asked any more.
func (s *socket) beat() {
	ctx, cancel := context.WithTimeout(context.Background(), s.pace.pong)
	defer cancel()
	if err := s.conn.Ping(ctx); err != nil {
		s.vanished.Store(ctx.Err() != nil)
		_ = s.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil {
		s.beats.Done()
		return
	}
	s.next.Reset(s.pace.ping)
}

// end closes the socket, and waits until nothing of it is left.
func (s *socket) end() {
	_ = s.Close()
	s.mu.Lock()
	if s.next.Stop() {
		s.beats.Done()
	}
	s.next = nil
	s.mu.Unlock()
	s.beats.Wait()
}

// ReadMessage waits for a message, of text or binary (RFC 7118 §4.2), whole or in frames; pings are answered meanwhile.
func (s *socket) ReadMessage() ([]byte, error) {
	_, r, err := s.conn.Reader(context.Background())
	if err != nil {
		return nil, s.why(err)
	}
	late := time.AfterFunc(s.pace.message, func() {
		s.slow.Store(true)
		_ = s.Close()
	})
	defer late.Stop()
	msg, err := io.ReadAll(r)
	if err != nil {
		return nil, s.why(err)
	}
	return msg, nil
}

// why adds to an error what the agent wants to know of it.
func (s *socket) why(err error) error {
	switch {
	case errors.Is(err, websocket.ErrMessageTooBig):
		return fmt.Errorf("%w: %w", sip.ErrMessageSize, err)
	case s.slow.Load():
		return fmt.Errorf("%w: %w", sip.ErrMessageSlow, err)
	case s.vanished.Load():
		return fmt.Errorf("%w: %w", sip.ErrVanished, err)
	}
	return err
}

// WriteMessage sends a message as text, or as binary if it is none (RFC 6455 §5.6).
func (s *socket) WriteMessage(b []byte) error {
	kind := websocket.MessageText
	if !utf8.Valid(b) {
		kind = websocket.MessageBinary
	}
	return s.conn.Write(context.Background(), kind, b)
}

// Close ends the socket at once, also one that waits for its peer's farewell.
func (s *socket) Close() error {
	_ = s.under.Close()
	return s.conn.CloseNow()
}

// Addrs are the ends of the connection under it.
func (s *socket) Addrs() (local, remote netip.AddrPort) { return s.local, s.remote }

// turnAway tells the peer that there is no place for it, and gives it half a second to hear that.
func (s *socket) turnAway() {
	late := time.AfterFunc(time.Second/2, func() { _ = s.Close() })
	defer late.Stop()
	_ = s.conn.Close(websocket.StatusTryAgainLater, "too many connections")
}
