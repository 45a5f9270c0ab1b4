package sip

import (
	"hash/maphash"
	"sync"
	"time"
)

// nonceWindows is the NonceStore of one node: per nonce the highest count and which of the 63 below it were used. Two
// generations of nonces are kept; the older one goes when the younger is as old as a nonce can get. A nonce is known by its hash,
// under a seed that nobody else knows, so that the maps hold no pointer: every registration has a nonce of its own.
type nonceWindows struct {
	mu      sync.Mutex
	life    time.Duration
	turned  time.Time
	now     map[uint64]window
	earlier map[uint64]window
}

type window struct {
	top  uint32
	used uint64 // bit i: top-i was used
}

func newNonceWindows(life time.Duration) *nonceWindows {
	return &nonceWindows{life: 2 * life, turned: time.Now(), now: make(map[uint64]window)}
}

// Use reports whether nc is new for nonce, and marks it used.
func (n *nonceWindows) Use(nonce string, nc uint32) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.turn()
	key := maphash.String(seed, nonce)
	w, known := n.now[key]
	if !known {
		w = n.earlier[key]
	}
	fresh := w.use(nc)
	n.now[key] = w
	return fresh
}

func (n *nonceWindows) turn() {
	if since := time.Since(n.turned); since >= n.life {
		n.earlier = n.now
		if since >= 2*n.life {
			n.earlier = nil
		}
		n.now, n.turned = make(map[uint64]window), time.Now()
	}
}

func (w *window) use(nc uint32) bool {
	if nc > w.top {
		w.used = w.used<<min(nc-w.top, 64) | 1
		w.top = nc
		return true
	}
	back := w.top - nc
	if back >= 64 || nc == 0 || w.used&(1<<back) != 0 {
		return false
	}
	w.used |= 1 << back
	return true
}
