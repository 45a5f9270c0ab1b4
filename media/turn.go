package media

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pion/turn/v5"
)

// How long what is told and granted by TURN lasts.
const (
	turnCredentials = 4 * time.Hour    // from their making on, for a new allocation
	turnUnallocated = 20 * time.Second // a connection without an allocation
	turnUnread      = 10 * time.Second // one write to a client that does not read
)

// How many allocations there may be when nothing else is set: a browser makes one for each network interface and call, and two
// calls in a move.
const (
	turnPerUser = 16
	turnTotal   = 1000
)

// TURNOptions is what a TURN needs.
type TURNOptions struct {
	// Peers are the engine's own addresses for browser legs, as they are announced: what may be relayed to, and nothing else.
	Peers   func() []netip.AddrPort
	Realm   string
	Secret  []byte // that credentials are made with
	PerUser int    // allocations of one user; 0 = 16
	Total   int    // of all; 0 = 1000
	Log     *slog.Logger
}

// TURN relays the media of browsers that only get a TCP connection out to the engine of this node (RFC 8656, over TCP and TLS).
// It is no relay to anywhere else. Connections are handed in; it listens nowhere itself.
//
// Credentials are those of the REST API for TURN services (draft-uberti-behave-turn-rest-00): the username holds the time until
// which they are good, the password is its HMAC.
type TURN struct {
	// set once
	opt    TURNOptions
	secret []byte
	log    *slog.Logger
	now    func() time.Time
	idle   time.Duration // that a connection may be without an allocation

	wg sync.WaitGroup

	mu      sync.Mutex
	conns   map[*turnConn]struct{}
	users   map[string]int // allocations
	total   int
	stopped bool
}

// NewTURN starts nothing.
func NewTURN(o TURNOptions) (*TURN, error) {
	switch {
	case o.Peers == nil:
		return nil, errors.New("turn: nothing to relay to")
	case len(o.Secret) == 0 || o.Realm == "":
		return nil, errors.New("turn: neither secret nor realm may be empty")
	}
	if o.PerUser == 0 {
		o.PerUser = turnPerUser
	}
	if o.Total == 0 {
		o.Total = turnTotal
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	own := hmac.New(sha256.New, o.Secret) // so that the secret may serve others too
	own.Write([]byte("turn credentials"))
	return &TURN{opt: o, secret: own.Sum(nil), log: o.Log, now: time.Now, idle: turnUnallocated, conns: map[*turnConn]struct{}{}, users: map[string]int{}}, nil
}

// Credentials are for one user, for allocations made before until. A connection keeps what it has been granted.
func (t *TURN) Credentials(user string) (username, password string, until time.Time) {
	until = t.now().Add(turnCredentials).Truncate(time.Second)
	username = strconv.FormatInt(until.Unix(), 10) + ":" + user
	return username, t.password(username), until
}

func (t *TURN) password(username string) string {
	h := hmac.New(sha1.New, t.secret)
	h.Write([]byte(username))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// userOf reads a username; what is none of ours has no user.
func userOf(username string) (user string, until time.Time, ok bool) {
	expiry, user, found := strings.Cut(username, ":")
	seconds, err := strconv.ParseInt(expiry, 10, 64)
	return user, time.Unix(seconds, 0), found && err == nil
}

// Run serves until ctx ends, then closes every connection and waits for their end.
func (t *TURN) Run(ctx context.Context) error {
	<-ctx.Done()
	t.mu.Lock()
	t.stopped = true
	for c := range t.conns {
		_ = c.Conn.Close()
	}
	t.mu.Unlock()
	t.wg.Wait()
	return nil
}

// Allocations counts those that there are.
func (t *TURN) Allocations() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.total
}

// ServeConn answers TURN and STUN on a connection until it is closed, which ServeConn does at last itself.
func (t *TURN) ServeConn(c net.Conn) {
	conn := &turnConn{Conn: c, turn: t, closed: make(chan struct{})}
	conn.local = addrPortOf(c.LocalAddr()).Addr()
	if !t.enter(conn) {
		_ = c.Close()
		return
	}
	defer t.leave(conn)
	conn.idle = time.AfterFunc(t.idle, func() { _ = conn.Close() })
	defer conn.idle.Stop()
	// A server of its own for each connection: its nonces are good here alone, and what it has granted ends with it.
	s, err := turn.NewServer(turn.ServerConfig{
		ListenerConfigs: []turn.ListenerConfig{{Listener: conn, RelayAddressGenerator: conn, PermissionHandler: t.permits}},
		LoggerFactory:   silent, Realm: t.opt.Realm,
		AuthHandler: conn.authenticate, QuotaHandler: conn.reserve,
		EventHandler: turn.EventHandler{
			OnAllocationCreated: func(_, _ net.Addr, _, user, _ string, relay net.Addr, _ int) { conn.allocated(user, relay) },
			OnAllocationDeleted: func(_, _ net.Addr, _, _, _ string) { conn.unallocated() },
		},
	})
	if err != nil {
		t.log.Error("turn connection not served", "from", c.RemoteAddr().String(), "err", err)
		_ = c.Close()
		return
	}
	<-conn.closed
	_ = s.Close()
}

func (t *TURN) enter(c *turnConn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return false
	}
	t.conns[c] = struct{}{}
	t.wg.Add(1)
	return true
}

func (t *TURN) leave(c *turnConn) {
	c.release()
	t.mu.Lock()
	delete(t.conns, c)
	t.mu.Unlock()
	t.wg.Done()
}

// permits says whether a peer is the engine. A permission is for all ports of an address (RFC 8656 §9): the relay itself looks
// at them.
func (t *TURN) permits(client net.Addr, peer net.IP) bool {
	ip, ok := netip.AddrFromSlice(peer)
	ip = ip.Unmap()
	for _, p := range t.opt.Peers() {
		if ok && p.Addr().Unmap() == ip {
			return true
		}
	}
	t.log.Info("turn: peer refused", "from", client.String(), "to", ip.String())
	return false
}

// announced is the peer as the engine announces it, if it is one.
func (t *TURN) announced(to netip.AddrPort) bool {
	for _, p := range t.opt.Peers() {
		if netip.AddrPortFrom(p.Addr().Unmap(), p.Port()) == to {
			return true
		}
	}
	return false
}
