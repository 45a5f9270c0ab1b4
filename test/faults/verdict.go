package faults

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"baton/test/phone"
)

// Fate is what has become of one answered call.
type Fate struct {
	Call   string // as the tests name it
	State  string // in which the fault found it
	Fault  string
	Ended  []string // the legs that have ended, with why, though nobody hung up
	Silent []string // the legs that hear nothing of the other side, though they should
}

// Lost says that the call is not what it was.
func (f Fate) Lost() bool { return len(f.Ended) > 0 || len(f.Silent) > 0 }

// String is for people.
func (f Fate) String() string {
	var all []string
	if len(f.Ended) > 0 {
		all = append(all, "ended: "+strings.Join(f.Ended, ", "))
	}
	if len(f.Silent) > 0 {
		all = append(all, "silent: "+strings.Join(f.Silent, ", "))
	}
	return fmt.Sprintf("call %s (%s) is lost to %s: %s", f.Call, f.State, f.Fault, strings.Join(all, "; "))
}

// both is how close packets of two senders must be to each other for both to speak at that time.
const both = 100 * time.Millisecond

// TwoSpeakers is for how long a phone was sent sound from two places at once, and when that was over. A stream that begins when another has ended,
// however often, is no such time.
func TwoSpeakers(heard []phone.Packet) (longest time.Duration, until time.Time) {
	var since time.Time
	last := map[netip.AddrPort]time.Time{}
	heard = slices.Clone(heard)
	slices.SortStableFunc(heard, func(a, b phone.Packet) int { return a.At.Compare(b.At) })
	for i, p := range heard {
		if i > 0 && p.At.Sub(heard[i-1].At) > both {
			since = time.Time{}
		}
		again := !last[p.From].IsZero() && p.At.Sub(last[p.From]) <= both // not the first of its stream
		other := false
		for from, at := range last {
			other = other || from != p.From && p.At.Sub(at) <= both
		}
		last[p.From] = p.At
		switch {
		case !other:
			since = time.Time{}
		case since.IsZero() && again:
			since = p.At
		}
		if d := p.At.Sub(since); !since.IsZero() && d > longest {
			longest, until = d, p.At
		}
	}
	return longest, until
}

// Row is what one kind of fault has done so far.
type Row struct {
	Kind  string
	Times int
	Calls int
	Lost  int
	Gaps  []time.Duration
}

// Table is the rows for people, in the order of their kinds.
func Table(rows map[string]*Row) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-44s %5s %5s %9s %9s %9s %5s\n", "fault", "times", "calls", "gap p50", "p99", "max", "lost")
	kinds := make([]string, 0, len(rows))
	for k := range rows {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	for _, k := range kinds {
		r := rows[k]
		ms := func(q float64) string { return fmt.Sprintf("%d ms", phone.Quantile(r.Gaps, q).Milliseconds()) }
		fmt.Fprintf(&b, "%-44s %5d %5d %9s %9s %9s %5d\n", k, r.Times, r.Calls, ms(0.5), ms(0.99), ms(1), r.Lost)
	}
	return b.String()
}

// scan finds what a node's log may never have.
func scan(line string) (bad bool) {
	for _, word := range []string{"DATA RACE", "panic", "fatal error"} {
		bad = bad || strings.Contains(line, word)
	}
	return bad
}
