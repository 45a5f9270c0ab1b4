package cluster

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// Who is a member of the cluster, and the one connection to each.

// meet notes what a hello says: which node is at an address, and that it lives. mu is not held.
func (m *Mesh) meet(h hello, from netip.Addr, asks bool) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if h.ID == m.self.ID {
		if h.Instance != m.self.Instance {
			m.log.Error("another node has this node's name; give each its own (cluster.name)", "node", h.ID, "from", from.String())
		}
		return
	}
	p := m.know(h.ID)
	if p == nil || !m.instance(p, h, from) {
		return
	}
	if asks && m.leads(h.ID) && p.session == nil {
		p.reset() // it cannot make the connection: this node does, now
	}
	if p.state != Left {
		m.hears(p, now)
	}
}

// Twin is where another process answers that runs under this node's name, "" = nowhere: it is looked for where the directory says that the name was last. It
// is asked for before Run, and before anything is done in the name of the node.
func (m *Mesh) Twin(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, m.timing.probe)
	defer cancel()
	all, _ := m.opt.Directory.Nodes(ctx) // what cannot be read tells of none
	for _, n := range all {
		if n.ID != m.self.ID || n.Addr == m.self.Addr { // an earlier run of this one
			continue
		}
		raw, err := m.dialer().DialContext(ctx, "tcp", n.Addr)
		if err != nil {
			continue
		}
		_, them, err := m.greet(ctx, raw, true)
		_ = raw.Close()
		if err == nil && them.ID == m.self.ID && them.Instance != m.self.Instance {
			return n.Addr
		}
	}
	return ""
}

// know finds or makes a peer; nil: there is no room for another. mu is held.
func (m *Mesh) know(id string) *peer {
	p := m.peers[id]
	if p == nil && len(m.peers) < maxPeers {
		p = &peer{node: Node{ID: id}, state: Unknown, since: time.Now()}
		m.peers[id] = p
	}
	return p
}

// instance takes the instance that a hello tells of for the peer's; false: it is one that was replaced. mu is held.
func (m *Mesh) instance(p *peer, h hello, from netip.Addr) bool {
	n := h.node(from)
	if p.node.Instance == h.Instance {
		p.node.Addr = n.Addr
		return true
	}
	if p.node.Instance != "" {
		if h.Started < p.started && p.session != nil && time.Since(p.heard) < m.timing.probe {
			m.log.Warn("two nodes have one name; the one that started later counts", "node", h.ID, "from", from.String())
			return false
		}
		m.replaced(p)
	}
	fresh := &peer{node: n, started: h.Started, state: Unknown, since: time.Now(), listed: p.listed, dialing: p.dialing}
	*p = *fresh
	return true
}

// replaced ends the instance of a peer that has come back as another. mu is held.
func (m *Mesh) replaced(p *peer) {
	if p.state != Dead && p.state != Left {
		m.become(p, Dead, Replaced)
	}
	m.forgetBeats(p, p.node.Instance)
	if s := p.session; s != nil {
		p.session = nil
		s.close()
	}
}

// forgetBeats drops all keys of an instance. mu is held.
func (m *Mesh) forgetBeats(p *peer, instance string) {
	for id, b := range m.beats {
		if b.peer == p && b.instance == instance {
			delete(m.beats, id)
		}
	}
}

// leads says whether this node makes the connection to another.
func (m *Mesh) leads(id string) bool { return m.self.ID < id }

// adopt makes a connection the one to its peer, and serves it. It was greeted and met before.
func (m *Mesh) adopt(s *session, dialled bool) {
	keys, err := newBeats(s.conn.ConnectionState(), dialled)
	if err != nil || !m.take(s, keys, dialled) {
		m.turnAway(s)
		return
	}
	if !m.spawn(s.serve) || !m.spawn(s.write) {
		s.close()
		return
	}
	m.sendBeat(s.peer)
}

// turnAway closes a connection that is not wanted. If that is because this node stops it says so: the other end takes the
// connection for made, and would take its end for a death.
func (m *Mesh) turnAway(s *session) {
	defer s.close()
	m.mu.Lock()
	leaving := m.leaving
	m.mu.Unlock()
	if !leaving {
		return
	}
	_ = s.conn.SetDeadline(time.Now().Add(m.timing.probe))
	if _, err := s.conn.Write(frame{what: frameBye}.append(nil)); err == nil && s.conn.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, s.conn) // until the other end has read it
	}
}

// take puts a connection in the place of the one before; false: it is not wanted.
func (m *Mesh) take(s *session, keys *beats, dialled bool) bool {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.peers[s.node.ID]
	if m.stopped || m.leaving || p == nil || p.node.Instance != s.node.Instance || dialled != m.leads(s.node.ID) {
		return false
	}
	if old := p.session; old != nil {
		p.session = nil
		old.close()
	}
	s.peer, p.session, p.beats = p, s, keys
	p.beatTo = beatsTo(p.node.Addr, addrOf(s.raw))
	m.keepBeats(p, keys)
	p.reset()
	if p.state == Left { // it has not, or not yet
		p.state = Unknown
	}
	m.hears(p, now)
	m.tell(Event{Node: p.node, From: p.state, To: p.state, Why: Linked, At: now})
	m.log.Info("connected to node", "node", p.node.ID, "at", p.node.Addr)
	return true
}

// keepBeats takes the heartbeats of a new connection, and for a while those of the one before. mu is held.
func (m *Mesh) keepBeats(p *peer, keys *beats) {
	for id, b := range m.beats {
		if b.peer == p && b.instance == p.node.Instance && b.beats != p.before {
			delete(m.beats, id)
		}
	}
	m.beats[keys.session] = &beating{keys, p, p.node.Instance}
	p.before = keys
}

// beatsTo is where a node's heartbeats go: where it listens or, if that is a name, where its connection is.
func beatsTo(addr string, peer netip.Addr) netip.AddrPort {
	if at, err := netip.ParseAddrPort(addr); err == nil {
		return at
	}
	_, text, _ := net.SplitHostPort(addr)
	port, _ := strconv.ParseUint(text, 10, 16)
	return netip.AddrPortFrom(peer, uint16(port))
}

// lost is the end of a connection: unless the node has said goodbye, somebody looks at once whether it is still there.
func (m *Mesh) lost(s *session, err error) {
	s.fail()
	m.mu.Lock()
	defer m.mu.Unlock()
	p := s.peer
	if p.session != s {
		return
	}
	p.session, p.rtt = nil, 0
	if m.stopped || m.leaving || p.state == Left {
		return
	}
	m.log.Info("connection to node has ended", "node", p.node.ID, "err", err)
	if p.state == Alive {
		m.become(p, Suspect, Disconnected)
	}
	m.probe(p)
}

// leftBy is a goodbye.
func (m *Mesh) leftBy(s *session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.peer.session == s {
		m.become(s.peer, Left, Stopped)
		m.forgetBeats(s.peer, s.node.Instance)
		s.peer.beats = nil
	}
}

// measured is the answer to a ping.
func (m *Mesh) measured(s *session, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := s.peer; p.session == s {
		p.rtt = took
	}
}

// connect does what is due for a peer without connection: whose name is less dials, the other reminds it. mu is held.
func (m *Mesh) connect(p *peer, now time.Time) {
	if p.session != nil || p.dialing || p.probing || p.node.Addr == "" || now.Before(p.next) {
		return
	}
	p.dialing = true
	addr, id, leads := p.node.Addr, p.node.ID, m.leads(p.node.ID)
	if !m.spawnLocked(func() { m.reach(p, addr, id, leads) }) {
		p.dialing = false
	}
}

// reach dials a peer.
func (m *Mesh) reach(p *peer, addr, id string, leads bool) {
	c, err := m.dial(m.context(), addr, !leads)
	if err == nil {
		m.meet(c.them, addrOf(c.raw), false)
		if leads && c.them.ID == id {
			m.adopt(m.sessionWith(c.conn, c.raw, c.them), true)
		} else {
			_ = c.raw.Close()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p.dialing = false
	if p.session == nil {
		p.failed(time.Now(), m.timing)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		m.log.Debug("node is not reached", "node", id, "at", addr, "err", err)
	}
}

func (m *Mesh) context() context.Context {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ctx
}

// poll asks the directory, now and then.
func (m *Mesh) poll(now time.Time) {
	if m.polling || now.Sub(m.polled) < m.timing.poll && !m.polled.IsZero() {
		return
	}
	m.polling, m.polled = m.spawnLocked(m.consult), now
}

// consult announces this node and takes what the directory says.
func (m *Mesh) consult() {
	ctx, cancel := context.WithTimeout(m.context(), m.timing.handshake)
	defer cancel()
	err := m.opt.Directory.Announce(ctx, m.self)
	all, err2 := m.opt.Directory.Nodes(ctx)
	err = errors.Join(err, err2)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil && !m.unread && m.ctx.Err() == nil {
		m.log.Warn("directory of the cluster cannot be reached; nodes that are known stay known", "err", err)
	}
	m.polling, m.unread = false, err != nil
	if err2 != nil {
		return // those who are known stay known
	}
	for _, p := range m.peers {
		p.listed = slices.ContainsFunc(all, func(n Node) bool { return n.ID == p.node.ID || n.Addr == p.node.Addr })
	}
	for _, n := range all {
		m.told(n)
	}
}

// told takes one node of the directory. Where a node is met, its own word counts more. mu is held.
func (m *Mesh) told(n Node) {
	switch {
	case n.Addr == "" || n.ID == m.self.ID:
	case n.ID == "":
		if m.seeds[n.Addr] == nil && len(m.seeds) < maxPeers {
			m.seeds[n.Addr] = &seed{}
		}
	default:
		if p := m.know(n.ID); p != nil {
			p.listed = true
			if p.session == nil && p.state != Alive {
				p.node.Addr = n.Addr
			}
		}
	}
}

// sow asks who is at an address, as long as nobody is there who is known. mu is held.
func (m *Mesh) sow(addr string, s *seed, now time.Time) {
	if s.asking || now.Before(s.next) {
		return
	}
	s.asking = m.spawnLocked(func() { m.ask(addr, s) })
}

func (m *Mesh) ask(addr string, s *seed) {
	c, err := m.dial(m.context(), addr, true)
	if err == nil {
		m.meet(c.them, addrOf(c.raw), false)
		_ = c.raw.Close()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.asking = false
	s.failed(time.Now(), m.timing)
	if s.known = ""; err == nil {
		s.known = c.them.ID
	}
}
