package phone

import (
	"fmt"
	"slices"
	"time"
)

// Report is what a run of heard packets shows of the stream that brought them.
type Report struct {
	Packets    int
	Missing    int // sequence numbers between the first and the last that never came
	Reordered  int // packets that came after one with a higher sequence number
	Duplicates int
	Skipped    int // frames of 20 ms that the timestamps jump over without a packet missing
	SSRCs      []uint32
	Markers    int
	Changed    int           // numbered frames whose payload is not as it was sent
	Tones      int           // payloads that are no numbered frame
	Events     int           // telephone-events
	Gap        time.Duration // longest time between two arrivals
	GapAt      time.Time     // when it ended
	Drift      time.Duration // furthest that timestamps went from the clock, see Analyse
	Sources    map[uint16]int
}

// String is the report in one line.
func (r Report) String() string {
	return fmt.Sprintf("%d packets, %d missing, %d skipped, %d reordered, %d duplicates, %d SSRC, %d markers, %d tone, gap %s, drift %s, sources %v",
		r.Packets, r.Missing, r.Skipped, r.Reordered, r.Duplicates, len(r.SSRCs), r.Markers, r.Tones, round(r.Gap), round(r.Drift), r.Sources)
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// Analyse reads heard packets as one stream of the given clock rate. Drift compares timestamps with arrival times: the
// packets are cut into spans of half a second, of each the earliest arrival relative to its timestamp is taken (what is
// late was held up on the way, not stamped wrongly), and the furthest of these from the first span's is told.
func Analyse(heard []Packet, rate int) Report {
	r := Report{Packets: len(heard), Sources: map[uint16]int{}}
	seen := map[int64]bool{}
	var top, low int64
	for i, p := range heard {
		r.count(p)
		seq := int64(p.Seq)
		if i == 0 {
			top, low = seq, seq
			seen[seq] = true
			continue
		}
		seq = top + int64(int16(p.Seq-uint16(top)))
		switch {
		case seen[seq]:
			r.Duplicates++
		case seq < top:
			r.Reordered++
		}
		seen[seq] = true
		if before := heard[i-1]; seq == top+1 && p.Seq == before.Seq+1 && p.Event == nil && before.Event == nil {
			r.Skipped += max(0, int(int32(p.TS-before.TS))/(rate/50)-1)
		}
		top, low = max(top, seq), min(low, seq)
		if gap := p.At.Sub(heard[i-1].At); gap > r.Gap {
			r.Gap, r.GapAt = gap, p.At
		}
	}
	if len(heard) > 0 {
		r.Missing = int(top-low) + 1 - len(seen)
		r.Drift = drift(heard, rate)
	}
	return r
}

func (r *Report) count(p Packet) {
	if !slices.Contains(r.SSRCs, p.SSRC) {
		r.SSRCs = append(r.SSRCs, p.SSRC)
	}
	if p.Marker {
		r.Markers++
	}
	switch {
	case p.Event != nil:
		r.Events++
	case p.Source == 0:
		r.Tones++
	default:
		r.Sources[p.Source]++
		if !p.Exact {
			r.Changed++
		}
	}
}

func drift(heard []Packet, rate int) time.Duration {
	const span = 500 * time.Millisecond
	first := heard[0]
	var base, worst time.Duration
	known := false
	for i := 0; i < len(heard); {
		start := heard[i].At
		best := time.Duration(1<<63 - 1)
		for ; i < len(heard) && heard[i].At.Sub(start) < span; i++ {
			p := heard[i]
			if p.Event != nil { // its timestamp is that of the key's first packet
				continue
			}
			stamped := time.Duration(int32(p.TS-first.TS)) * time.Second / time.Duration(rate)
			best = min(best, p.At.Sub(first.At)-stamped)
		}
		if best == time.Duration(1<<63-1) {
			continue
		}
		if !known {
			base, known = best, true
		}
		worst = max(worst, (best - base).Abs())
	}
	return worst
}

// LongestGap is the longest time between two arrivals of which the later lies in [from, to], and when it ended. A window
// that nothing fell into is one gap.
func LongestGap(heard []Packet, from, to time.Time) (time.Duration, time.Time) {
	longest, at := time.Duration(0), from
	last := from
	for _, p := range heard {
		if p.At.Before(from) {
			last = p.At
			continue
		}
		if p.At.After(to) {
			break
		}
		if gap := p.At.Sub(last); gap > longest {
			longest, at = gap, p.At
		}
		last = p.At
	}
	if gap := to.Sub(last); gap > longest && gap > 2*Frame {
		longest, at = gap, to
	}
	return longest, at
}

// Between are the packets that arrived in [from, to).
func Between(heard []Packet, from, to time.Time) []Packet {
	var some []Packet
	for _, p := range heard {
		if !p.At.Before(from) && p.At.Before(to) {
			some = append(some, p)
		}
	}
	return some
}

// Of are the numbered frames of one source.
func Of(heard []Packet, source uint16) []Packet {
	var some []Packet
	for _, p := range heard {
		if p.Source == source {
			some = append(some, p)
		}
	}
	return some
}

// Lost are the numbers of the frames that the speaker sent in [from, to) and that reached none of the listeners.
func Lost(speaker *Media, from, to time.Time, listeners ...*Media) []uint32 {
	got := map[uint32]bool{}
	for _, l := range listeners {
		for _, p := range Of(l.Heard(), speaker.Source()) {
			got[p.Counter] = true
		}
	}
	var lost []uint32
	for n, at := range speaker.Sent() {
		if !at.Before(from) && at.Before(to) && !got[n] {
			lost = append(lost, n)
		}
	}
	slices.Sort(lost)
	return lost
}

// Quantile is the q-th part (0..1) of the durations; 0 for none.
func Quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
