package media

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/turn/v5"
)

// turnConn is one client's connection. To pion's server it is the listener that it came from, and what makes its relay.
type turnConn struct {
	net.Conn
	turn   *TURN
	local  netip.Addr // at which the client has reached us
	idle   *time.Timer
	closed chan struct{}

	// guarded by turn.mu
	user  string // whose allocation counts
	taken bool   // its place is counted
	made  bool   // there is an allocation
	given bool   // to the server, by Accept
	ended bool
}

// Accept gives the connection, once.
func (c *turnConn) Accept() (net.Conn, error) {
	c.turn.mu.Lock()
	first := !c.given
	c.given = true
	c.turn.mu.Unlock()
	if first {
		return &turnStream{c}, nil
	}
	<-c.closed
	return nil, net.ErrClosed
}

// Addr is where the listener would be.
func (c *turnConn) Addr() net.Addr { return c.LocalAddr() }

// Close closes the connection and what was its listener.
func (c *turnConn) Close() error {
	c.turn.mu.Lock()
	first := !c.ended
	c.ended = true
	c.turn.mu.Unlock()
	if !first {
		return nil
	}
	close(c.closed)
	return c.Conn.Close()
}

// turnStream is the connection as the server reads and writes it.
type turnStream struct{ *turnConn }

// Write gives up on a client that does not read.
func (s *turnStream) Write(b []byte) (int, error) {
	_ = s.SetWriteDeadline(time.Now().Add(turnUnread)) // an error of the connection is Write's too
	n, err := s.Conn.Write(b)
	if err != nil {
		_ = s.Close()
	}
	return n, err
}

// authenticate gives the key that belongs to a username, if that is still good; what has an allocation may go on with it.
func (c *turnConn) authenticate(a *turn.RequestAttributes) (user string, key []byte, ok bool) {
	user, until, ok := userOf(a.Username)
	if !ok {
		return "", nil, false
	}
	c.turn.mu.Lock()
	goesOn := c.made && c.user == user
	c.turn.mu.Unlock()
	if !goesOn && c.turn.now().After(until) {
		return "", nil, false
	}
	return user, turn.GenerateAuthKey(a.Username, c.turn.opt.Realm, c.turn.password(a.Username)), true
}

// reserve takes a user's place for an allocation, if one is left.
func (c *turnConn) reserve(user, _ string, _ net.Addr) bool {
	t := c.turn
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case c.taken: // by an attempt that has failed, of whomever
		return c.user == user
	case t.stopped || t.total >= t.opt.Total || t.users[user] >= t.opt.PerUser:
		t.log.Warn("turn: too many allocations", "user", user, "from", c.RemoteAddr().String())
		return false
	}
	c.user, c.taken = user, true
	t.users[user]++
	t.total++
	return true
}

func (c *turnConn) allocated(user string, relay net.Addr) {
	c.idle.Stop()
	c.turn.mu.Lock()
	c.made = true
	c.turn.mu.Unlock()
	c.turn.log.Debug("turn: allocated", "user", user, "from", c.RemoteAddr().String(), "at", relay.String())
}

func (c *turnConn) unallocated() {
	c.release()
	c.idle.Reset(c.turn.idle)
}

// release gives the place back.
func (c *turnConn) release() {
	t := c.turn
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.taken {
		if t.users[c.user]--; t.users[c.user] == 0 {
			delete(t.users, c.user)
		}
		t.total--
	}
	c.taken, c.made = false, false
}

// Validate implements turn.RelayAddressGenerator.
func (c *turnConn) Validate() error { return nil }

// AllocatePacketConn opens the relay's socket at an address that the engine announces, if it is one of this machine; the one
// that the client has come to if possible.
func (c *turnConn) AllocatePacketConn(o turn.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	at, err := c.relayAddr(o.Network == "udp6")
	if err != nil {
		return nil, nil, err
	}
	u, err := net.ListenUDP(o.Network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, uint16(o.RequestedPort))))
	if err != nil {
		return nil, nil, fmt.Errorf("open a relay: %w", err)
	}
	return &turnRelay{UDPConn: u, turn: c.turn, at: at, to: map[netip.AddrPort]netip.AddrPort{}, from: map[netip.AddrPort]netip.AddrPort{}}, u.LocalAddr(), nil
}

// relayAddr chooses among the machine's addresses that the engine announces.
func (c *turnConn) relayAddr(six bool) (netip.Addr, error) {
	var found netip.Addr
	for _, p := range c.turn.opt.Peers() {
		a := p.Addr().Unmap()
		switch {
		case a.Is6() != six || !ofThisMachine(a):
		case a == c.local:
			return a, nil
		case !found.IsValid():
			found = a
		}
	}
	if !found.IsValid() && c.local.IsValid() && c.local.Is6() == six {
		found = c.local // all that is announced is before a NAT
	}
	if !found.IsValid() {
		return netip.Addr{}, errors.New("open a relay: no address of this family")
	}
	return found, nil
}

// AllocateListener refuses: media comes by UDP (RFC 6062 is not served).
func (c *turnConn) AllocateListener(turn.AllocateListenerConfig) (net.Listener, net.Addr, error) {
	return nil, nil, errors.New("no relay for TCP")
}

// AllocateConn refuses as AllocateListener does.
func (c *turnConn) AllocateConn(turn.AllocateConnConfig) (net.Conn, error) {
	return nil, errors.New("no relay for TCP")
}

// turnRelay is the relay's socket. It carries packets to and from the engine's ports alone. An address that the engine announces
// and this machine has not, that of a NAT before it, stands for the relay's own address: no router has to turn packets round.
type turnRelay struct {
	*net.UDPConn
	turn *TURN
	at   netip.Addr

	mu   sync.Mutex
	to   map[netip.AddrPort]netip.AddrPort // announced → where it is
	from map[netip.AddrPort]netip.AddrPort // and back
}

// WriteTo sends to the engine; to others it does as if.
func (r *turnRelay) WriteTo(b []byte, addr net.Addr) (int, error) {
	to, ok := r.place(addrPortOf(addr))
	if !ok {
		return len(b), nil
	}
	return r.UDPConn.WriteToUDPAddrPort(b, to)
}

// place is where an announced address is.
func (r *turnRelay) place(announced netip.AddrPort) (netip.AddrPort, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if to, known := r.to[announced]; known {
		return to, true
	}
	if !r.turn.announced(announced) {
		return netip.AddrPort{}, false
	}
	to := announced
	if !ofThisMachine(to.Addr()) {
		to = netip.AddrPortFrom(r.at, to.Port())
	}
	r.to[announced], r.from[to] = to, announced
	return to, true
}

// ReadFrom takes what the engine sends, as from the address that it was sent to.
func (r *turnRelay) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := r.ReadFromUDPAddrPort(b)
		if err != nil {
			return n, nil, err
		}
		r.mu.Lock()
		announced, known := r.from[netip.AddrPortFrom(from.Addr().Unmap(), from.Port())]
		r.mu.Unlock()
		if known {
			return n, net.UDPAddrFromAddrPort(announced), nil
		}
	}
}

// ofThisMachine says whether a socket can be bound to an address.
func ofThisMachine(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, has := range all {
		if p, err := netip.ParsePrefix(has.String()); err == nil && p.Addr().Unmap() == a {
			return true
		}
	}
	return false
}

// addrPortOf is a network address without the form of IPv4 in IPv6.
func addrPortOf(a net.Addr) netip.AddrPort {
	var at netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		at = a.AddrPort()
	case *net.TCPAddr:
		at = a.AddrPort()
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}
