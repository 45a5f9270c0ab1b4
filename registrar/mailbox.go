package registrar

import "sync"

// mailbox holds what run still has to do. Posting never blocks.
type mailbox struct {
	wake chan struct{} // has one element while there is something to do

	mu   sync.Mutex
	todo []func()
}

func (m *mailbox) post(do func()) {
	m.mu.Lock()
	m.todo = append(m.todo, do)
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *mailbox) take() []func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.todo
	m.todo = nil
	return all
}
