package phone

import (
	"fmt"
	"net/netip"
	"strings"
)

// place is where a phone is in the network.
type place struct {
	addr      netip.Addr
	transport string
	udp       *link          // its socket, nil where it has connections
	server    netip.AddrPort // that it registers with; invalid = that of its Config
}

// at is where the phone is now.
func (p *Phone) at() place {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.place
}

// server is where the phone registers.
func (p *Phone) server() netip.AddrPort {
	if s := p.at().server; s.IsValid() {
		return s
	}
	return p.cfg.Server
}

// Relocation is a change of network, as from wifi to mobile.
type Relocation struct {
	Addr      netip.Addr     // the new address; invalid = the same, with other ports
	Transport string         // the new transport, "" = the same
	Server    netip.AddrPort // that it registers with from now on; invalid = the same
	Abrupt    bool           // its connections are not closed: the other side is told nothing, and what it sends over them is lost
}

// Relocate gives the phone another address, or other ports: the sockets for SIP and for the sound of its calls are opened anew,
// what comes to the old ones is lost. The phone says nothing of it by itself; Register, Resume and Update tell the server.
func (p *Phone) Relocate(r Relocation) error {
	to := p.at()
	if r.Addr.IsValid() {
		to.addr = r.Addr
	}
	if r.Transport != "" {
		to.transport = r.Transport
	}
	if r.Server.IsValid() {
		to.server = r.Server
	}
	to.udp = nil
	var err error
	p.cfg.within(func() {
		if to.transport == "udp" {
			to.udp, err = p.openUDP(netip.AddrPortFrom(to.addr, 0))
		}
	})
	if err != nil {
		return fmt.Errorf("relocate %s: %w", p.cfg.UserAgent, err)
	}
	p.leave(to, r.Abrupt)
	return p.relocateCalls(to.addr)
}

// Unplug has the phone hear and say nothing, as one whose network is gone for a while and that has not noticed, or be back.
func (p *Phone) Unplug(on bool) {
	p.cutOff.Store(on)
	p.mu.Lock()
	if udp := p.place.udp; udp != nil {
		udp.deaf.Store(on)
	}
	for _, l := range p.links {
		l.deaf.Store(on)
	}
	p.mu.Unlock()
	for _, c := range p.Calls() {
		c.media.Mute(on)
		c.media.mu.Lock()
		c.media.cut = on
		c.media.mu.Unlock()
	}
}

// Rehome has the phone use another server from now on, as one that finds its own gone. It says nothing of it by itself.
func (p *Phone) Rehome(server netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.place.server = server
}

// Connected says that the phone needs no connection, or has one to its server.
func (p *Phone) Connected() bool {
	server := p.server().String()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.place.udp != nil || p.links[server] != nil
}

// leave closes the old sockets, or only stops listening to them.
func (p *Phone) leave(to place, abrupt bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.place.udp; old != nil {
		old.close()
	}
	for key, l := range p.links {
		l.deaf.Store(true)
		if !abrupt {
			l.close()
		}
		delete(p.links, key)
		p.left = append(p.left, l)
	}
	p.place = to
}

// relocateCalls has the calls speak from the new address, and say so when they describe themselves.
func (p *Phone) relocateCalls(addr netip.Addr) error {
	over, err := p.linkTo(p.server())
	if err != nil {
		return fmt.Errorf("relocate %s: %w", p.cfg.UserAgent, err)
	}
	for _, c := range p.Calls() {
		p.cfg.within(func() { err = c.media.rebind(addr) })
		if err != nil {
			return fmt.Errorf("relocate %s: %w", p.cfg.UserAgent, err)
		}
		p.mu.Lock()
		c.inviteOn = over
		if !c.sdp.addr.Addr().IsUnspecified() {
			c.sdp.addr = told(c.media.Addr())
		}
		c.sdp.version++
		p.mu.Unlock()
	}
	return nil
}

// rebind gives the sound another pair of ports.
func (m *Media) rebind(ip netip.Addr) error {
	conn, rtcp, err := openPair(ip)
	if err != nil {
		return err
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		conn.Close()
		rtcp.Close()
		return nil
	}
	m.conn.Close()
	m.rtcp.Close()
	m.conn, m.rtcp = conn, rtcp
	m.readers.Add(2)
	go m.read(conn)
	go m.readRTCP(rtcp)
	m.mu.Unlock()
	return nil
}

// As is the call as somebody else has it who knows everything of it but the password: a thief.
func (c *Call) As(thief *Phone) *Call {
	s, err := thief.newCall(c.outgoing)
	if err != nil {
		panic(err)
	}
	c.phone.mu.Lock()
	defer c.phone.mu.Unlock()
	s.state, s.callID, s.localTag, s.remoteTag = c.state, c.callID, c.localTag, c.remoteTag
	s.local, s.remote, s.target, s.routes, s.localSeq = c.local, c.remote, c.target, c.routes, c.localSeq+1000
	s.peer, s.both, s.invite = c.peer, c.both, c.invite
	return s
}

// Speak has the phone send its sound to where it knows that the peer listens.
func (c *Call) Speak() {
	c.phone.mu.Lock()
	defer c.phone.mu.Unlock()
	c.apply()
}

// Vanish ends the call's sound without a word.
func (c *Call) Vanish() {
	c.media.close()
	c.end("vanished", nil)
}

// Acknowledge sends the ACK that NoACK has kept back.
func (c *Call) Acknowledge() error {
	c.phone.mu.Lock()
	res, opt := c.final, c.dialled
	c.phone.mu.Unlock()
	if res == nil || !opt.NoACK {
		return fmt.Errorf("there is nothing to acknowledge")
	}
	c.ack(res, nil)
	return nil
}

// Dialled says that the call was dialled by the phone, to a number that begins so.
func (c *Call) Dialled(number string) bool {
	return c.outgoing && strings.HasPrefix(UserPart(AddrURI(c.remote)), number)
}

// SDP is what the phone says of its sound now.
func (c *Call) SDP() []byte { return c.describe() }

// ACK acknowledges a 2xx to a re-INVITE that was sent by Request.
func (c *Call) ACK(res *Message) { c.ack(res, nil) }
