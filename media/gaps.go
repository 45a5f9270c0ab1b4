package media

import "time"

// SpliceReport is what the last switch of a stream's source came to, seen by its peer.
type SpliceReport struct {
	At         time.Time     `json:"at"`          // when the new source's first packet was sent; zero = no switch yet
	Gap        time.Duration `json:"gap"`         // longest time between two packets sent, from 100 ms before to 500 ms after
	Lost       int           `json:"lost"`        // frame slots skipped
	Overlap    time.Duration `json:"overlap"`     // how long both sources were heard
	FirstHeard time.Time     `json:"first_heard"` // first packet of the new source
}

const (
	gapBefore = 100 * time.Millisecond
	gapAfter  = 500 * time.Millisecond
)

// gaps measures the last switch; guarded by the line's mutex.
type gaps struct {
	recent [16]time.Duration // when the last packets were sent
	next   int

	at       time.Duration // of the switch, 0 = none
	longest  time.Duration
	lost     int
	old, new *source
}

func (g *gaps) last() time.Duration { return g.recent[(g.next+len(g.recent)-1)%len(g.recent)] }

// sent notes a packet.
func (g *gaps) sent(now time.Duration) {
	if last := g.last(); g.at > 0 && last > 0 && last < g.at+gapAfter {
		g.longest = max(g.longest, now-last)
	}
	g.recent[g.next] = now
	g.next = (g.next + 1) % len(g.recent)
}

// spliced begins a measurement with the packets sent before.
func (g *gaps) spliced(old, src *source, now time.Duration, lost int) {
	g.at, g.lost, g.old, g.new = now, lost, old, src
	g.longest = 0
	for i := range len(g.recent) - 1 {
		a, b := g.recent[(g.next+i)%len(g.recent)], g.recent[(g.next+i+1)%len(g.recent)]
		if a > 0 && b >= now-gapBefore {
			g.longest = max(g.longest, b-a)
		}
	}
}

// Splice reports the last Follow that switched. Within 500 ms of it the figures are those so far.
func (s *Stream) Splice() SpliceReport {
	e, l := s.engine, &s.line
	now := e.clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle()
	g := &l.gaps
	if g.at == 0 {
		return SpliceReport{}
	}
	r := SpliceReport{At: e.wall(g.at), Gap: g.longest, Lost: g.lost}
	if last := g.last(); last < g.at+gapAfter { // nothing came after it
		r.Gap = max(r.Gap, min(now, g.at+gapAfter)-last)
	}
	first := time.Duration(g.new.first.Load())
	r.FirstHeard = e.wall(first)
	if g.old != nil && !g.old.tone && first > 0 {
		r.Overlap = max(0, min(now, time.Duration(g.old.last.Load()))-first)
	}
	return r
}
