package call

import "sync"

// mailbox is an unbounded queue of closures with one reader: whoever posts never waits.
type mailbox struct {
	mu    sync.Mutex
	queue []func()
	shut  bool
	wake  chan struct{} // holds one token while queue is not empty
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

// post queues f; false says that nobody reads any more.
func (m *mailbox) post(f func()) bool {
	m.mu.Lock()
	if m.shut {
		m.mu.Unlock()
		return false
	}
	m.queue = append(m.queue, f)
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return true
}

// close ends the mailbox if it is empty.
func (m *mailbox) close() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shut = len(m.queue) == 0
	return m.shut
}

// take returns all that is queued, in order.
func (m *mailbox) take() []func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	queue := m.queue
	m.queue = nil
	return queue
}
