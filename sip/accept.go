package sip

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"baton/config"
)

// How long accept rests after an error, doubled from the first to the last.
const (
	firstRest = 5 * time.Millisecond
	lastRest  = time.Second
)

// usualPlaces are the limits when none are set.
var usualPlaces = config.Connections{PerSource: 100, Total: 10_000}

// placesFor are the limits in force: connections never take more than half of the file descriptors that the process
// may have, because a call needs four and the store some too.
func placesFor(set config.Connections, descriptors int) config.Connections {
	c := usualPlaces
	if set.PerSource > 0 {
		c.PerSource = set.PerSource
	}
	if set.Total > 0 {
		c.Total = set.Total
	}
	if descriptors > 0 {
		c.Total = min(c.Total, max(1, descriptors/2))
	}
	return c
}

// strangersTried is how many connections are looked at to find a stranger's place.
const strangersTried = 64

// accept takes connections until the listener is closed. It does nothing that could wait for a peer.
func (a *Agent) accept(ctx context.Context, l *streamListener) {
	rest := firstRest
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if !a.rest(ctx, l, rest, err) {
				return
			}
			rest = min(2*rest, lastRest)
			continue
		}
		rest = firstRest
		a.take(l, c)
	}
}

// rest lets some time pass after an error: out of file descriptors, most likely. The connections that are there go on,
// new ones wait in the kernel.
func (a *Agent) rest(ctx context.Context, l *streamListener, rest time.Duration, err error) bool {
	a.acceptErrors.Add(1)
	if more, ok := a.seldom.allow("accept"); ok {
		a.log.Warn("cannot accept connections; is the limit of open files too low?", "transport", l.transport, "err", err, "unsaid", more)
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(rest):
		return true
	}
}

// take serves one connection, or closes it when there is no place for it.
func (a *Agent) take(l *streamListener, c net.Conn) {
	s := newStream(a, Flow{Transport: l.transport, Local: addrPort(c.LocalAddr()), Remote: addrPort(c.RemoteAddr())})
	s.line = newOctets(c, l.tls, func() { s.enter(inside) })
	if _, ok := a.place(s); !ok {
		_ = c.Close()
		return
	}
	a.wg.Go(s.write)
	go a.serveStream(s)
}

// newStream is a connection that has no line yet.
func newStream(a *Agent, f Flow) *stream {
	return &stream{agent: a, out: newOutbox(), done: make(chan struct{}), flow: f, source: sourceOf(f.Remote.Addr())}
}

// place is admit that counts and tells of those who find no place.
func (a *Agent) place(s *stream) (ending, bool) {
	why, ok := a.admit(s)
	if ok {
		return why, true
	}
	a.ended[why].Add(1)
	if more, ok := a.seldom.allow(why.String()); ok {
		a.log.Warn("connection refused: too many", "of", why, "from", s.flow.Remote.String(), "unsaid", more)
	}
	return why, false
}

// admit gives a new connection its place and its number, and has Run wait for its reader. When all places are taken, one that nobody has logged in on
// is freed for it, so that strangers cannot shut devices out.
func (a *Agent) admit(s *stream) (ending, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.stopped:
		return refusedStopped, false
	case a.sources[s.source] >= a.places.PerSource:
		return refusedSource, false
	case len(a.streams) >= a.places.Total && !a.displace():
		return refusedTotal, false
	}
	a.lastStream++
	s.flow.ID = a.lastStream
	a.streams[s.flow.ID] = s
	a.sources[s.source]++
	a.wg.Add(1)
	return 0, true
}

// displace frees the place of any stranger: the map's order is random enough. mu is held.
func (a *Agent) displace() bool {
	tried := 0
	for _, s := range a.streams {
		if !s.trusted.Load() {
			s.close(endDisplaced)
			a.remove(s)
			return true
		}
		if tried++; tried == strangersTried {
			break
		}
	}
	return false
}

// forget counts a closed connection and frees its place.
func (a *Agent) forget(s *stream) {
	a.ended[s.reason()].Add(1)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remove(s)
}

// remove frees a place, once. mu is held.
func (a *Agent) remove(s *stream) {
	if a.streams[s.flow.ID] != s {
		return
	}
	delete(a.streams, s.flow.ID)
	if a.sources[s.source]--; a.sources[s.source] == 0 {
		delete(a.sources, s.source)
	}
}

// sourceOf is whom a connection is counted with: an IPv4 address, or the /64 that one IPv6 subscriber has.
func sourceOf(ip netip.Addr) netip.Prefix {
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.WithZone("").Prefix(bits)
	return p
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		return unmap(t.AddrPort())
	}
	return netip.AddrPort{}
}
