package store_test

import (
	"errors"
	"testing"
	"time"

	"baton/call"
	"baton/store"
	"baton/test/redis"
)

// TestRedisSubscriptionsOfAnother: a subscription that was claimed is the claimer's alone to write and to drop.
func TestRedisSubscriptionsOfAnother(t *testing.T) {
	server := redis.Start(t, redis.Options{})
	one, _ := startRedis(t, redisOptions("redis://"+server.Addr, "n1"))
	two, _ := startRedis(t, redisOptions("redis://"+server.Addr, "n2"))
	wait := func(do func(done func(error))) error {
		done := make(chan error, 1)
		do(func(err error) { done <- err })
		return <-done
	}
	put := func(s *store.Redis, v call.StoredSubscription) error {
		return wait(func(done func(error)) { s.PutSubscription(v, done) })
	}
	if err := put(one, call.StoredSubscription{ID: "s1", Owner: "n1", Blob: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // whose answer was lost claims once more
		mine, err := two.ClaimSubscriptions([]string{"s1", "never"}, "n1", "n2")
		if err != nil || len(mine) != 1 || mine[0].ID != "s1" || mine[0].Owner != "n2" || string(mine[0].Blob) != "{}" {
			t.Fatalf("n2 has claimed %+v, %v", mine, err)
		}
	}
	if mine, err := one.ClaimSubscriptions([]string{"s1"}, "n1", "n3"); err != nil || len(mine) > 0 {
		t.Errorf("n3 has claimed it too: %+v, %v", mine, err)
	}
	if err := put(one, call.StoredSubscription{ID: "s1", Owner: "n1", Blob: []byte("old")}); !errors.Is(err, call.ErrStale) {
		t.Errorf("n1 writes what is n2's: %v", err)
	}
	if err := wait(func(done func(error)) { one.DropSubscription("s1", done) }); !errors.Is(err, call.ErrStale) {
		t.Errorf("n1 drops what is n2's: %v", err)
	}
	if err := put(two, call.StoredSubscription{ID: "s1", Owner: "n2", Blob: []byte("new")}); err != nil {
		t.Error(err)
	}
	if all, err := one.Subscriptions(); err != nil || len(all) != 1 || all[0].Owner != "n2" || string(all[0].Blob) != "new" {
		t.Errorf("stored is %+v, %v", all, err)
	}
	if err := wait(func(done func(error)) { two.DropSubscription("s1", done) }); err != nil {
		t.Error(err)
	}
}

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
