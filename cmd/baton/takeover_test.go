package main

import (
	"fmt"
	"slices"
	"testing"

	"baton/cluster"
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

// TestAlone: a node is cut off when there are others and it reaches none.
func TestAlone(t *testing.T) {
	self := cluster.Peer{Self: true, State: cluster.Alive}
	for _, c := range []struct {
		others []cluster.State
		want   bool
		why    cluster.Why
	}{
		{nil, false, ""},
		{[]cluster.State{cluster.Left}, false, cluster.Stopped},
		{[]cluster.State{cluster.Dead}, true, cluster.Unreachable},
		{[]cluster.State{cluster.Dead}, false, cluster.Refused},
		{[]cluster.State{cluster.Dead, cluster.Suspect}, true, cluster.Refused},
		{[]cluster.State{cluster.Dead, cluster.Alive}, false, cluster.Unreachable},
		{[]cluster.State{cluster.Suspect, cluster.Left, cluster.Frozen}, true, ""},
	} {
		peers := []cluster.Peer{self}
		for _, s := range c.others {
			peers = append(peers, cluster.Peer{State: s, Why: c.why})
		}
		if got := alone(peers); got != c.want {
			t.Errorf("others %v: (%s): alone %v", c.others, c.why, got)
		}
	}
}
