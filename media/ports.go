package media

import (
	"fmt"
	"time"

	"baton/config"
)

// portRest is how long a port pair rests after use, so that a new call never hears an old one.
const portRest = 10 * time.Second

// ports gives out pairs of an even port for RTP and the next for RTCP (RFC 3550 §11).
type ports struct {
	first, last uint16                   // even, inclusive
	until       map[uint16]time.Duration // taken or resting, until when; forever while in use
}

const forever = time.Duration(1<<63 - 1)

func newPorts(r config.PortRange) ports {
	if r == (config.PortRange{}) {
		r = config.PortRange{First: 20000, Last: 29999}
	}
	p := ports{first: r.First + r.First&1, last: r.Last, until: map[uint16]time.Duration{}}
	if p.last > 0 {
		p.last = (p.last - 1) &^ 1
	}
	return p
}

// String names the range for an error.
func (p ports) String() string { return fmt.Sprintf("%d-%d", p.first, p.last+1) }

func (p ports) pairs() int { return max(0, (int(p.last)-int(p.first))/2+1) }

// take returns the RTP port of a free pair, from a random start on.
func (p ports) take(now time.Duration, random func(int) int) (uint16, error) {
	n := p.pairs()
	start := random(n)
	for i := range n {
		port := p.first + uint16(2*((start+i)%n))
		if until, known := p.until[port]; !known || until <= now {
			p.until[port] = forever
			return port, nil
		}
	}
	return 0, fmt.Errorf("%w: all %d pairs of %v are in use or resting", ErrNoPorts, n, p)
}

// rest gives a pair back; it can be taken again after a while.
func (p ports) rest(port uint16, now time.Duration) { p.until[port] = now + portRest }
