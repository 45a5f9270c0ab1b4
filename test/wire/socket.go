package wire

import (
	"fmt"
	"net"
	"net/netip"
	"time"
)

// socket stands on one side of the path for an address of the other side: what it hears is sent on to there, from the
// socket that stands for who sent it.
type socket struct {
	path   *Path
	conn   *net.UDPConn
	kind   Kind
	stands netip.AddrPort
	up     bool // what it hears goes to the node
	dead   bool // guarded by path.mu: forgotten by the NAT
}

func (s *socket) at() netip.AddrPort { return s.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// listen opens a socket. mu is held.
func (p *Path) listen(at netip.AddrPort, kind Kind, stands netip.AddrPort, up bool) (*socket, error) {
	if p.closed {
		return nil, net.ErrClosed
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	_ = conn.SetReadBuffer(1 << 20) // the kernel may give less
	s := &socket{path: p, conn: conn, kind: kind, stands: stands, up: up}
	p.all = append(p.all, s)
	p.side(up)[stands] = s
	p.wg.Go(s.read)
	return s, nil
}

// side holds the sockets whose packets go that way.
func (p *Path) side(up bool) map[netip.AddrPort]*socket {
	if up {
		return p.front
	}
	return p.back
}

func (s *socket) read() {
	buf := make([]byte, 65536)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		s.path.carry(s, buf[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), time.Now())
	}
}

// carry takes a datagram that s has heard.
func (p *Path) carry(s *socket, data []byte, from netip.AddrPort, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.dead || p.closed {
		return
	}
	as, err := p.image(!s.up, s.kind, from)
	if err != nil {
		return
	}
	out := data
	if s.kind == SIP {
		out = p.translate(data, s.up, pairOf(s, as, from))
	}
	for i, at := range p.fate(s.up, s.kind, data, now) {
		if i == 0 {
			out = append([]byte(nil), out...)
		}
		p.queue.add(at, func() { _, _ = as.conn.WriteToUDPAddrPort(out, s.stands) })
	}
}

// pairOf is how SIP addresses are put in place of each other for a message that s has heard from an address.
func pairOf(s, as *socket, from netip.AddrPort) [2]swap {
	return [2]swap{{s.at(), s.stands}, {from, as.at()}}
}

// image is the socket that stands for an address of the other side; one for audio comes with its neighbour for RTCP. mu is
// held.
func (p *Path) image(up bool, kind Kind, of netip.AddrPort) (*socket, error) {
	if s := p.side(up)[of]; s != nil {
		return s, nil
	}
	if kind == SIP {
		return p.listen(netip.AddrPortFrom(p.home(up), 0), SIP, of, up)
	}
	even := netip.AddrPortFrom(of.Addr(), of.Port()&^1)
	if err := p.listenPair(up, even); err != nil {
		return nil, err
	}
	return p.side(up)[of], nil
}

// listenPair takes an even port and the next.
func (p *Path) listenPair(up bool, of netip.AddrPort) error {
	if p.closed {
		return net.ErrClosed
	}
	for range 500 {
		port := uint16(40000 + 2*p.dice.IntN(10000))
		s, err := p.listen(netip.AddrPortFrom(p.home(up), port), RTP, of, up)
		if err != nil {
			continue
		}
		if _, err = p.listen(netip.AddrPortFrom(p.home(up), port+1), RTCP, netip.AddrPortFrom(of.Addr(), of.Port()+1), up); err == nil {
			return nil
		}
		s.conn.Close()
		delete(p.side(up), of)
	}
	return fmt.Errorf("no free pair of ports at %s", p.home(up))
}

// home is the address of the sockets on one side: those that stand for the node are with the phone. mu is held.
func (p *Path) home(up bool) netip.Addr {
	if up {
		return p.cfg.Phone
	}
	return p.outside
}
