package registrar

import (
	"strings"
	"sync"
)

// memo remembers what a function has made of a text: the same few User-Agents come again and again, and reading one takes a
// dozen patterns.
type memo[V any] struct {
	read func(string) V

	mu    sync.Mutex
	known map[string]V
}

// maxRemembered bounds what strangers can have remembered; beyond it all is forgotten and begun anew.
const maxRemembered = 1000

func (m *memo[V]) of(text string) V {
	m.mu.Lock()
	v, ok := m.known[text]
	m.mu.Unlock()
	if ok {
		return v
	}
	v = m.read(text)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil || len(m.known) >= maxRemembered {
		m.known = make(map[string]V)
	}
	m.known[strings.Clone(text)] = v
	return v
}

var (
	products = memo[string]{read: product}
	kinds    = memo[Kind]{read: kindOfProduct}
)
