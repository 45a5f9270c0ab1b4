package main

import (
	"fmt"
	"slices"
	"testing"
)

// TestHeirs shares calls between nodes: all nodes come to the same, each has its share, and when one is gone only its calls change hands.
func TestHeirs(t *testing.T) {
	nodes := []string{"n1", "n2", "n3", "n4"}
	const calls = 4000
	share := map[string]int{}
	for i := range calls {
		id := fmt.Sprintf("c%07d", i)
		heir := heirOf(id, nodes)
		share[heir]++
		turned := []string{"n3", "n1", "n4", "n2"}
		if other := heirOf(id, turned); other != heir {
			t.Fatalf("%s is %s's or %s's", id, heir, other)
		}
		left := slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return n == "n2" })
		if now := heirOf(id, left); heir != "n2" && now != heir {
			t.Fatalf("%s goes from %s to %s when n2 is gone", id, heir, now)
		}
	}
	for _, n := range nodes {
		if share[n] < calls/5 || share[n] > calls*3/10 {
			t.Errorf("%s has %d of %d calls", n, share[n], calls)
		}
	}
	if heir := heirOf("c", nil); heir != "" {
		t.Errorf("with nobody left it is %q", heir)
	}
}
