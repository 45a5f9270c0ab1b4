package media

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The legs of all browsers share one UDP port (RFC 7983), and the TCP connections that another port hands over (icetcp.go). Whose a packet is:
//
//	0–3      STUN       the stream whose ufrag the check names and whose password it was signed with (stun.go, ice.go)
//	20–63    DTLS       the stream that a check has validated this address for (dtls.go)
//	128–191  SRTP/SRTCP the same; then on the way of every packet (receive.go)
//
// Everything else is dropped and counted. Nothing is sent to an address from which no valid check came: the candidates that a peer names in
// its description are never used.

// shared is that port.
type shared struct {
	// set once
	engine   *Engine
	port     uint16
	tcpPort  uint16 // that takes connections for it; 0 = none
	identity identity

	// read by the packet path; replaced whole, under mu
	agents atomic.Pointer[map[string]*agent]           // by each of their own ufrags
	pairs  atomic.Pointer[map[netip.AddrPort]*icePair] // over UDP, by the peer's address

	strays strays
	errors bucket // answers to what is not from a peer

	mu     sync.Mutex
	doors  []*door
	conns  map[*tcpConn]struct{}
	closed bool
}

// strays counts what was not taken. Several readers count.
type strays struct {
	malformed atomic.Uint64 // nothing known, or not well-formed
	stranger  atomic.Uint64 // checks for nobody, or signed with another password
	foreign   atomic.Uint64 // media or DTLS from where no valid check came
}

// door is one socket of the port.
type door struct {
	shared *shared
	at     netip.AddrPort
	conn   atomic.Pointer[conn]
}

// ErrNoWebRTC says that the engine serves no browsers.
var ErrNoWebRTC = errors.New("no port for browsers: media.webrtc is 0")

func newShared(e *Engine, port, tcpPort uint16, secret []byte) (*shared, error) {
	id, err := newIdentity(secret)
	if err != nil {
		return nil, err
	}
	p := &shared{engine: e, port: port, tcpPort: tcpPort, identity: id, conns: map[*tcpConn]struct{}{}}
	p.agents.Store(&map[string]*agent{})
	p.pairs.Store(&map[netip.AddrPort]*icePair{})
	return p, nil
}

// open binds the port at all addresses, or at the one that is configured. Once it is open it stays so.
func (p *shared) open() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	if len(p.doors) > 0 {
		return nil
	}
	homes := []netip.Addr{p.engine.bind}
	if !p.engine.bind.IsValid() || p.engine.bind.IsUnspecified() {
		homes = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	var all []error
	for _, home := range homes {
		if err := p.bind(netip.AddrPortFrom(home, p.port)); err != nil {
			all = append(all, err)
		}
	}
	if err := errors.Join(all...); len(all) == len(homes) || errors.Is(err, syscall.EADDRINUSE) {
		p.shut()
		return fmt.Errorf("media.webrtc: %w", err)
	}
	return nil // a machine may have only one of the families
}

// bind opens one socket; p.mu is held.
func (p *shared) bind(at netip.AddrPort) error {
	d := &door{shared: p, at: at}
	c, err := p.engine.sockets.listen(at, d.receive)
	if err != nil {
		return err
	}
	if b, ok := c.(interface{ SetReadBuffer(bytes int) error }); ok {
		_ = b.SetReadBuffer(sharedBuffer) // a smaller one only makes loss likelier
	}
	d.conn.Store(&c)
	p.doors = append(p.doors, d)
	return nil
}

// doorTo is the socket that leads to an address, nil if there is none.
func (p *shared) doorTo(to netip.AddrPort) conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.doors {
		if to.IsValid() && d.at.Addr().Is4() == to.Addr().Is4() {
			return *d.conn.Load()
		}
	}
	return nil
}

// sharedBuffer holds half a second of a thousand legs, as far as the system allows.
const sharedBuffer = 8 << 20

// close ends the port and what came over TCP; streams are closed before.
func (p *shared) close() {
	p.mu.Lock()
	p.closed = true
	p.shut()
	conns := maps.Clone(p.conns)
	p.mu.Unlock()
	for c := range conns {
		c.close()
	}
}

func (p *shared) shut() {
	for _, d := range p.doors {
		(*d.conn.Load()).Close()
	}
	p.doors = nil
}

// receive takes one packet of the shared port.
func (d *door) receive(b []byte, from netip.AddrPort, now time.Duration, out outbox) {
	c := d.conn.Load()
	if c == nil || len(b) == 0 || len(b) > maxPacket {
		return
	}
	p := d.shared
	if b[0] < 4 {
		p.check(b, route{conn: *c, remote: from}, now)
		return
	}
	if pr := (*p.pairs.Load())[from]; pr != nil {
		p.take(pr, b, now, out)
		return
	}
	p.strays.foreign.Add(1)
}

// take gives a packet from a validated pair to the pair's stream.
func (p *shared) take(pr *icePair, b []byte, now time.Duration, out outbox) {
	switch first := b[0]; {
	case first >= 128 && first < 192:
		pr.agent.media(b, pr.remote, now, out)
	case first >= 20 && first < 64:
		pr.agent.dtls.receive(b)
	default:
		p.strays.malformed.Add(1)
	}
}

// enlist makes an agent known by a ufrag.
func (p *shared) enlist(ufrag string, a *agent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := maps.Clone(*p.agents.Load())
	all[ufrag] = a
	p.agents.Store(&all)
}

func (p *shared) dismiss(ufrags ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := maps.Clone(*p.agents.Load())
	for _, u := range ufrags {
		delete(all, u)
	}
	p.agents.Store(&all)
}

// portReuse is how long an address stays with the stream that it was validated for when another proves to be there too: browsers use a port
// again, and nobody else shall be able to take it away.
const portReuse = 10 * time.Second

// claim makes an address known as a pair's; false if it is another's that was there just now.
func (p *shared) claim(pr *icePair, now time.Duration) bool {
	if (*p.pairs.Load())[pr.remote] == pr {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := *p.pairs.Load()
	if was := old[pr.remote]; was != nil && was.agent != pr.agent && now-time.Duration(was.checked.Load()) < portReuse {
		return false
	}
	all := maps.Clone(old)
	all[pr.remote] = pr
	p.pairs.Store(&all)
	return true
}

// release forgets addresses that are still those pairs'.
func (p *shared) release(pairs ...*icePair) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := maps.Clone(*p.pairs.Load())
	for _, pr := range pairs {
		if all[pr.remote] == pr {
			delete(all, pr.remote)
		}
	}
	p.pairs.Store(&all)
}

// WebRTCAddrs returns where browsers' packets are taken over UDP: what a relay for them may send to. Nil if there is no such port.
func (e *Engine) WebRTCAddrs() []netip.AddrPort {
	if e.shared == nil {
		return nil
	}
	var ips []netip.Addr
	if e.bind.IsValid() && !e.bind.IsUnspecified() {
		ips = append(ips, e.bind)
	} else if all, err := net.InterfaceAddrs(); err == nil {
		for _, a := range all {
			if n, ok := a.(*net.IPNet); ok {
				ip, _ := netip.AddrFromSlice(n.IP)
				ips = append(ips, ip.Unmap())
			}
		}
	}
	if e.advertise.IsValid() {
		ips = append(ips, e.advertise)
	}
	var out []netip.AddrPort
	for _, ip := range ips {
		out = append(out, netip.AddrPortFrom(ip, e.shared.port))
	}
	return out
}

// besides are more addresses for a browser that has come to a loopback address. It asks from another one of the machine's, for
// browsers leave loopback out of ICE, and is answered from that very one: by it alone do check and answer fit.
func (p *shared) besides(at netip.Addr) []netip.AddrPort {
	if !at.IsLoopback() {
		return nil
	}
	all := slices.DeleteFunc(p.engine.WebRTCAddrs(), func(a netip.AddrPort) bool { return !a.Addr().IsGlobalUnicast() })
	return all[:min(len(all), 4)]
}

// WebRTCDropped counts what came for browsers' legs and was nobody's, by reason.
func (e *Engine) WebRTCDropped() map[string]uint64 {
	out := map[string]uint64{}
	if e.shared == nil {
		return out
	}
	s := &e.shared.strays
	for name, n := range map[string]*atomic.Uint64{"malformed": &s.malformed, "stranger": &s.stranger, "foreign": &s.foreign} {
		if v := n.Load(); v > 0 {
			out[name] = v
		}
	}
	return out
}

// bucket says how often something may be done in a second.
type bucket struct {
	mu     sync.Mutex
	second time.Duration
	n      int
}

func (b *bucket) take(limit int, now time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := now / time.Second; s != b.second {
		b.second, b.n = s, 0
	}
	b.n++
	return b.n <= limit
}
