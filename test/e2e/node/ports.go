package node

import (
	"sync"
	"testing"
)

// Ports gives out ports of a range, one step after the other and none twice. All programs of the tests share one namespace, and some listen at all
// its addresses: no two ranges may have a port in common.
type Ports struct {
	first, last, step int

	mu    sync.Mutex
	given int
}

// NewPorts is for those from first to last.
func NewPorts(first, last, step int) *Ports { return &Ports{first: first, last: last, step: step} }

// Next is the next one, and which it is, from 0 on. It fails the test if there is none left: then the range must become larger, somewhere else.
func (p *Ports) Next(t testing.TB) (port, n int) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	n = p.given
	if port = p.first + n*p.step; port > p.last {
		t.Fatalf("all ports from %d to %d are given out", p.first, p.last)
	}
	p.given++
	return port, n
}
