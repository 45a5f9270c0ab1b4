package store_test

import (
	"testing"
	"time"

	"baton/call"
	"baton/store"
	"baton/test/redis"
)

// TestRedisOwnerOf: by the Call-ID of a dialog each node finds who has its call, also after a claim, until it has ended.
func TestRedisOwnerOf(t *testing.T) {
	server := redis.Start(t, redis.Options{})
	one, _ := startRedis(t, redisOptions("redis://"+server.Addr, "n1"))
	two, _ := startRedis(t, redisOptions("redis://"+server.Addr, "n2"))
	want := func(s *store.Redis, callID, owner string) {
		t.Helper()
		if _, got, err := s.OwnerOf(t.Context(), callID); err != nil || got != owner {
			t.Errorf("%s is %q's, %v, want %q", callID, got, err, owner)
		}
	}
	wait := func(do func(done func(error))) {
		t.Helper()
		done := make(chan error, 1)
		do(func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	put := func(s *store.Redis, c call.Stored) {
		t.Helper()
		c.Blob = []byte("record")
		wait(func(done func(error)) { s.Put(c, done) })
	}
	want(two, "a@10.0.0.7", "")
	put(one, call.Stored{ID: "c1", Epoch: 1, Version: 1, Owner: "n1", Dialogs: []string{"a@10.0.0.7", "b {}"}})
	put(one, call.Stored{ID: "c2", Epoch: 1, Version: 1, Owner: "n1", Dialogs: []string{"d"}})
	want(two, "a@10.0.0.7", "n1")
	want(two, "b {}", "n1")
	put(one, call.Stored{ID: "c2", Epoch: 1, Version: 2, Owner: "n1", Dialogs: []string{"d", "b {}"}}) // it was moved there
	if text, err := server.Do("GET", one.DialogKey("b {}")); err != nil || text != "$2\r\nc2\r\n" {
		t.Errorf("b belongs to %q, %v", text, err)
	}
	if _, err := two.Claim("c1", 1, "n2"); err != nil {
		t.Fatal(err)
	}
	want(one, "a@10.0.0.7", "n2")
	put(two, call.Stored{ID: "c1", Epoch: 2, Version: 2, Owner: "n2", Dialogs: []string{"a@10.0.0.7", "b {}", "e"}})
	put(one, call.Stored{ID: "c3", Epoch: 1, Version: 1, Owner: "n1", Dialogs: []string{"b {}"}})
	want(one, "e", "n2")
	wait(func(done func(error)) { two.End("c1", 2, done) })
	want(one, "a@10.0.0.7", "")
	want(one, "e", "")
	want(two, "b {}", "n1") // another call's by now
	if text, err := server.Do("EXISTS", one.DialogKey("e")); err != nil || text != ":0\r\n" {
		t.Errorf("what is left of e: %q, %v", text, err)
	}

	server.Kill()
	if _, _, err := one.OwnerOf(t.Context(), "d"); err == nil {
		t.Error("a server that is away tells of owners")
	}
	for end := time.Now().Add(5 * time.Second); one.Healthy() == nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		one.Put(call.Stored{ID: "c2", Epoch: 1, Version: 3, Owner: "n1", Blob: []byte("record"), Dialogs: []string{"d"}}, func(error) {})
	}
	server.Run() // with nothing in it
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, owner, err := two.OwnerOf(t.Context(), "d"); err == nil && owner != "" {
			break
		}
	}
	want(two, "d", "n1") // written again, for it was gone
}
