package store_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"baton/cluster"
	"baton/store"
	"baton/test/redis"
)

// TestRedisNodes: nodes find each other by what they announce, and those that are gone are forgotten.
func TestRedisNodes(t *testing.T) {
	server := redis.Start(t, redis.Options{})
	one, _ := startRedis(t, redisOptions("redis://"+server.Addr, "n1"))
	two, stop := startRedis(t, redisOptions("redis://"+server.Addr, "n2"))
	n1 := cluster.Node{ID: "n1", Instance: "a", Addr: "10.0.0.1:5080"}
	n2 := cluster.Node{ID: "n2", Instance: "b", Addr: "10.0.0.2:5080"}
	want := func(s *store.Redis, nodes ...cluster.Node) {
		t.Helper()
		if got, err := s.Nodes(t.Context()); err != nil || !slices.Equal(got, nodes) {
			t.Errorf("nodes are %v, %v, want %v", got, err, nodes)
		}
	}
	announce := func(s *store.Redis, n cluster.Node) {
		t.Helper()
		if err := s.Announce(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	want(one)
	announce(two, n2)
	announce(one, n1)
	want(one, n1, n2)
	want(two, n1, n2)
	n1.Instance = "c" // it was started again
	announce(one, n1)
	want(two, n1, n2)
	stop()
	ttl, err := server.Do("PTTL", "baton:node:{n2}")
	if ms, err2 := strconv.Atoi(strings.Trim(ttl, ":\r\n")); err != nil || err2 != nil || ms <= 0 || ms > 30_000 {
		t.Errorf("n2 is told of for %q ms yet, %v", ttl, err)
	}
	if _, err := server.Do("PEXPIRE", "baton:node:{n2}", "1"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	want(one, n1)
	if text, err := server.Do("SISMEMBER", "baton:nodes", "n2"); err != nil || text[:2] != ":0" {
		t.Errorf("n2 is still among the nodes: %q, %v", text, err)
	}
	server.Kill()
	if got, err := one.Nodes(t.Context()); err == nil {
		t.Errorf("a server that is away tells of %v", got)
	}
}
