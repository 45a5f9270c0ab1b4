package cluster

import (
	"context"
	"errors"
	"net"
	"time"
)

// Who lives (notes on the rules: docs/cluster.md, Nodes).
//
// A heartbeat that does not come proves nothing: the peer may be slow, the network bad, or this process itself may have stood
// still. So missing heartbeats, or the end of the connection, only begin a probe, and its verdict decides. A verdict counts only
// if this process ran all the while.

// look is what is done at every tick: heartbeats are sent, and each peer is judged.
func (m *Mesh) look(now time.Time) {
	load := m.opt.Load()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped {
		return
	}
	if late := now.Sub(m.ticked) - m.timing.beat; late > 2*m.timing.beat {
		m.woke(now, late)
	}
	m.ticked = now
	for id, p := range m.peers {
		m.beat(p, load)
		m.judge(p, now)
		m.connect(p, now)
		m.keepUp(p, now)
		if (p.state == Dead || p.state == Left || p.state == Unknown) && !p.listed && now.Sub(p.since) > m.timing.forget && p.session == nil {
			m.forgetBeats(p, p.node.Instance)
			delete(m.peers, id)
		}
	}
	for addr, s := range m.seeds {
		if p := m.peers[s.known]; s.known == m.self.ID || p != nil && (p.session != nil || p.state == Alive) {
			continue
		}
		m.sow(addr, s, now)
	}
	m.poll(now)
}

// woke notes that this process did not run for a while. What it did not hear meanwhile says nothing of the others. mu is held.
func (m *Mesh) woke(now time.Time, late time.Duration) {
	m.stalls++
	for _, p := range m.peers {
		if !p.heard.IsZero() {
			p.heard = now
		}
		if p.session != nil {
			p.session.awake(now)
		}
	}
	m.log.Warn("this node stood still", "for", late.Round(time.Millisecond).String())
	m.tell(Event{Node: m.self, From: Alive, To: Alive, Why: Stalled, At: now, Stall: late})
}

// beat sends a peer its heartbeat. mu is held; a datagram does not wait.
func (m *Mesh) beat(p *peer, load Load) {
	if p.beats != nil && p.state != Left && !m.leaving {
		_, _ = m.udp.WriteToUDPAddrPort(p.beats.next(load), p.beatTo)
	}
}

func (m *Mesh) sendBeat(p *peer) {
	load := m.opt.Load()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.beat(p, load)
}

// judge looks whether a peer was heard lately. mu is held.
func (m *Mesh) judge(p *peer, now time.Time) {
	switch p.state {
	case Alive:
		if now.Sub(p.heard) > time.Duration(m.timing.missed)*m.timing.beat {
			m.become(p, Suspect, Silent)
			m.probe(p)
		}
	case Suspect, Frozen:
		if now.Sub(p.probed) > 3*m.timing.beat {
			m.probe(p)
		}
	}
}

// keepUp measures a connection, and ends one over which nothing comes any more. mu is held.
func (m *Mesh) keepUp(p *peer, now time.Time) {
	s := p.session
	switch {
	case s == nil:
	case s.quiet(now) > m.timing.stuck && p.state != Frozen:
		m.log.Warn("nothing comes over the connection to node; it is made anew", "node", p.node.ID)
		s.close()
	case now.Sub(p.pinged) >= m.timing.ping:
		p.pinged = now
		s.ping(now)
	}
}

// hearBeats reads heartbeats until the socket is closed.
func (m *Mesh) hearBeats() {
	buf := make([]byte, 2048)
	for {
		n, _, err := m.udp.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			m.hearBeat(buf[:n], time.Now())
		}
	}
}

// hearBeat takes one datagram.
func (m *Mesh) hearBeat(data []byte, now time.Time) {
	id, ok := beatSession(data)
	if !ok {
		m.counts.badBeats.Add(1)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.beats[id]
	if b == nil {
		m.counts.strayBeats.Add(1)
		return
	}
	load, ok, replayed := b.open(data)
	switch {
	case replayed:
		m.counts.replayed.Add(1)
	case !ok:
		m.counts.badBeats.Add(1)
	case b.peer.node.Instance == b.instance:
		b.peer.load, b.peer.told = load, true
		m.hears(b.peer, now)
	}
}

// verdict is what a probe has found.
type verdict struct {
	state State // "" = nothing
	why   Why
}

// probe looks whether a peer is there. mu is held.
func (m *Mesh) probe(p *peer) {
	if p.probing {
		return
	}
	began, stalls, node, s := time.Now(), m.stalls, p.node, p.session
	p.probing, p.probed = true, began
	if !m.spawnLocked(func() { m.settle(p, node, began, stalls, m.examine(node, s)) }) {
		p.probing = false
	}
}

// settle takes a probe's verdict, unless it is of another instance, or this process stood still meanwhile, or the peer was heard
// after the probe had begun: then it is not gone, whatever the probe says.
func (m *Mesh) settle(p *peer, node Node, began time.Time, stalls int, v verdict) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.node.Instance != node.Instance {
		return
	}
	p.probing = false
	p.probed = now
	stood := m.stalls != stalls || now.Sub(m.ticked) > 3*m.timing.beat
	if v.state == "" || stood || m.stopped || p.state != Suspect && p.state != Frozen {
		return
	}
	if v.state.Gone() && p.heard.After(began) {
		m.probe(p) // it may have been its last word
		return
	}
	if v.state == Alive { // it has answered: only its heartbeats do not come, unless its connection was all that was missing
		if p.session != nil && now.Sub(p.heard) <= time.Duration(m.timing.missed)*m.timing.beat {
			m.become(p, Alive, Heard)
			return
		}
		m.become(p, Suspect, Answers)
		return
	}
	m.become(p, v.state, v.why)
	if v.state == Dead && p.session != nil {
		p.session.close()
	}
}

// examine looks whether an instance of a node is there: over the connection if there is one, and by a new one.
func (m *Mesh) examine(node Node, s *session) verdict {
	ctx, cancel := context.WithTimeout(m.context(), m.timing.probe)
	defer cancel()
	answers := make(chan bool, 1)
	asked := s != nil && m.spawn(func() { answers <- s.answersPing(ctx) })
	v := m.knock(ctx, node)
	if !v.state.Gone() {
		return v
	}
	if asked && <-answers {
		return verdict{Alive, Answers}
	}
	switch {
	case v.why != Refused:
		return m.askOthers(node, v)
	case s != nil && !s.over(): // the process has closed its listener, not the connection; or something between us says no in its name
		return m.askOthers(node, verdict{Dead, Unreachable})
	}
	return v
}

// again is how soon a connection that was taken and dropped at once is tried again: a process that ends closes one after the other.
const again = 5 * time.Millisecond

// knock makes a connection to a node and asks who it is. ctx bounds it.
func (m *Mesh) knock(ctx context.Context, node Node) verdict {
	taken := false // by the machine
	for ctx.Err() == nil {
		raw, err := m.dialer().DialContext(ctx, "tcp", node.Addr)
		switch {
		case err == nil:
			taken = true
			if v, there := m.whoIs(ctx, raw, node); there {
				return v
			}
		case refused(err):
			return verdict{Dead, Refused}
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
	switch {
	case m.context().Err() != nil:
		return verdict{}
	case taken:
		return verdict{Frozen, Mute}
	}
	return verdict{Dead, Unreachable}
}

// whoIs asks who is at the other end of a connection; there is false if nobody has answered.
func (m *Mesh) whoIs(ctx context.Context, raw net.Conn, node Node) (v verdict, there bool) {
	_, them, err := m.greet(ctx, raw, true)
	_ = raw.Close()
	switch {
	case err != nil:
		return v, false
	case them.ID == node.ID && them.Instance == node.Instance:
		return verdict{Alive, Answers}, true
	}
	m.meet(them, addrOf(raw), false)
	return v, true // meet has said what there is to say of the old instance
}

const kindHears = "cluster.hears"

// askOthers holds a verdict that may only mean that the network between us is broken: a node that another hears is not dead.
func (m *Mesh) askOthers(node Node, v verdict) verdict {
	ctx, cancel := context.WithTimeout(m.context(), m.timing.probe)
	defer cancel()
	for _, r := range m.CallAll(ctx, kindHears, []byte(node.Instance), node.ID) {
		if r.Err == nil && string(r.Payload) == "yes" {
			return verdict{Suspect, HeardOf}
		}
	}
	return v
}

// answerHears says whether this node has lately heard an instance.
func (m *Mesh) answerHears(_ context.Context, _ string, instance []byte) ([]byte, error) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.peers {
		if p.node.Instance == string(instance) && p.state == Alive && now.Sub(p.heard) < time.Duration(m.timing.missed)*m.timing.beat {
			return []byte("yes"), nil
		}
	}
	return []byte("no"), nil
}

// Examine looks now whether an instance of a node that this mesh may never have met is there, as it stands in the store: Alive if
// it answers, Suspect if nothing is proved, Frozen or Dead with the reason.
func (m *Mesh) Examine(node Node) (State, Why) {
	m.mu.Lock()
	p := m.peers[node.ID]
	if p != nil && p.node.Instance == node.Instance && p.state != Unknown {
		defer m.mu.Unlock()
		return p.state, p.why
	}
	stalls := m.stalls
	m.mu.Unlock()
	v := m.examine(node, nil)
	m.mu.Lock()
	defer m.mu.Unlock()
	if v.state == "" {
		if p := m.peers[node.ID]; p != nil && p.node.Instance != node.Instance && p.node.Instance != "" {
			return Dead, Replaced
		}
	}
	if v.state == "" || m.stalls != stalls || time.Since(m.ticked) > 3*m.timing.beat {
		return Suspect, Silent
	}
	return v.state, v.why
}
