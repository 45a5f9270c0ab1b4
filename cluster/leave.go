package cluster

import "time"

// leave says goodbye and lets it be written.
func (m *Mesh) leave() {
	m.mu.Lock()
	m.leaving = true // nobody connects again meanwhile
	m.mu.Unlock()
	_ = m.listener.Close()
	until := time.Now().Add(m.timing.bye)
	for m.greets() && time.Now().Before(until) { // who is greeted now takes this node for alive
		time.Sleep(time.Millisecond)
	}
	all := m.sessions()
	for _, s := range all {
		s.out.finish(frame{what: frameBye})
	}
	patience := time.NewTimer(time.Until(until))
	defer patience.Stop()
	for _, s := range all {
		select {
		case <-s.done:
		case <-patience.C:
			return
		}
	}
}

// greets says whether handshakes are under way.
func (m *Mesh) greets() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.greeting > 0 || len(m.shaking) > 0
}

// Close closes the port and all connections. Run does it itself: Close is for a mesh that never ran.
func (m *Mesh) Close() {
	m.mu.Lock()
	was := m.stopped
	m.stopped = true
	m.mu.Unlock()
	if was {
		return
	}
	close(m.done)
	_ = m.listener.Close()
	_ = m.udp.Close()
	for _, s := range m.sessions() {
		s.close()
	}
}
