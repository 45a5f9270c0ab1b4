package call

import (
	"testing"

	"baton/media"
)

// TestWays: each pair of seats that are held and measured has both its ways, by the legs that hold them.
func TestWays(t *testing.T) {
	leg := func(rtt float64, reported bool) []LegInfo {
		tr := media.Traffic{Codec: "PCMU/8000", Packets: 50}
		return []LegInfo{{Stats: media.Stats{RTT: rtt, Packet: 20, In: tr, Out: tr, Reported: reported}}}
	}
	seats := []SeatInfo{
		{User: "alice", Legs: leg(10, true)},
		{User: "bob", Legs: append(leg(30, true), leg(900, true)...)},
		{User: "carol", Empty: true, Legs: leg(10, true)},
		{User: "dave", Legs: leg(0, false)},
		{User: "erin", Legs: leg(50, false)},
		{User: "frank"},
	}
	got := map[string]float64{}
	for _, w := range ways(seats, false) {
		got[w.From+" to "+w.To] = w.Delay
	}
	want := map[string]float64{ // 20 + half of each round trip + 0.1 in the node + a buffer of 20
		"alice to bob": 60.1, "bob to alice": 60.1, "erin to alice": 70.1, "erin to bob": 80.1,
	}
	if len(got) != len(want) {
		t.Errorf("ways %v, want %v", got, want)
	}
	if all := ways(seats, true); len(all) > 0 {
		t.Errorf("of a direct call, of which no device has told, is known %v", all)
	}
	for way, delay := range want {
		if got[way] != delay {
			t.Errorf("%s: %v ms, want %v", way, got[way], delay)
		}
	}
}
