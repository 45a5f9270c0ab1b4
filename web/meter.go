package web

import (
	"maps"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// meter lets each of many do something so often: most at once, and one more every so often. It is a leaky bucket for each (GCRA).
type meter struct {
	most  int
	every time.Duration
	now   func() time.Time

	mu   sync.Mutex
	when map[string]time.Time // until when what was taken is not made good again; guarded by mu
}

// maxMetered bounds how many are told apart; those beyond share one bucket.
const maxMetered = 100_000

func newMeter(most int, every time.Duration) *meter {
	return &meter{most: most, every: every, now: time.Now, when: map[string]time.Time{}}
}

// take takes one, or says how long to wait for it.
func (m *meter) take(key string) (wait time.Duration) {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	key = m.room(key, now)
	at := m.when[key]
	if at.Before(now) {
		at = now
	}
	if wait := at.Sub(now) - time.Duration(m.most-1)*m.every; wait > 0 {
		return wait
	}
	m.when[key] = at.Add(m.every)
	return 0
}

// back gives one back that was not meant.
func (m *meter) back(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at, ok := m.when[key]; ok {
		m.when[key] = at.Add(-m.every)
	}
}

// room is the bucket of a key. Those that are full again are forgotten when there are many. mu is held.
func (m *meter) room(key string, now time.Time) string {
	if _, known := m.when[key]; known || len(m.when) < maxMetered {
		return key
	}
	maps.DeleteFunc(m.when, func(_ string, at time.Time) bool { return !at.After(now) })
	if len(m.when) < maxMetered {
		return key
	}
	return ""
}

// askerOf is where a request comes from: an IPv4 address, or an IPv6 /64, which is one household's.
func askerOf(r *http.Request) string {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	ip := at.Addr().Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	net, _ := ip.Prefix(64) // 64 bits are there
	return net.String()
}

// holds says whether something that was taken is not made good again.
func (m *meter) holds(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.when[key].After(m.now())
}
