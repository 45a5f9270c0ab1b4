package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"baton/call"
	"baton/media"
)

// legMedia is a leg's audio: where it goes, what was heard of the device, what was sent to it, how long the way is,
// and what was not taken.
func legMedia(l call.LegInfo) []string {
	s := l.Stats
	remote := orDash(s.Remote)
	if s.Remote != "" && !s.Latched {
		remote += " (not heard yet)"
	}
	rtt := "-"
	if s.RTT > 0 {
		rtt = milliseconds(s.RTT)
	}
	return []string{remote, orDash(s.In.Codec), traffic(s.In), traffic(s.Out), rtt, dropped(s.Dropped)}
}

// traffic is one direction in figures.
func traffic(t media.Traffic) string {
	if t.Packets == 0 {
		return "-"
	}
	return fmt.Sprintf("%d, %d lost, %s jitter", t.Packets, t.Lost, milliseconds(t.Jitter))
}

// dropped counts packets that were not taken, by reason.
func dropped(by map[string]uint64) string {
	var words []string
	for _, reason := range slices.Sorted(maps.Keys(by)) {
		if by[reason] > 0 {
			words = append(words, strconv.FormatUint(by[reason], 10)+" "+reason)
		}
	}
	return orDash(strings.Join(words, ", "))
}
