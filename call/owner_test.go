package call_test

import (
	"log/slog"
	"testing"
	"time"

	"baton/call"
	"baton/store"
)

// TestOthersRecords: what another node has in the store is left alone by a node that begins: its calls are not closed, its subscriptions
// not gone on with.
func TestOthersRecords(t *testing.T) {
	t.Parallel()
	r := openRig(t, t.TempDir(), ownAddress(), nil)
	r.user("bob", "102")
	bob := r.phone("bob", 1)
	r.told(r.subscribe(bob, "102"))
	r.stop()
	mine, theirs := call.Stored{ID: "mine", Epoch: 1, Owner: "test", Blob: []byte(`{"id":"mine"}`)}, call.Stored{ID: "theirs", Epoch: 1, Owner: "n2", Blob: []byte(`{"id":"theirs"}`)}
	with := func(do func(*store.Bolt)) {
		t.Helper()
		db, err := store.Open(r.dir, slog.New(slog.DiscardHandler))
		must(t, err)
		do(db)
		must(t, db.Close())
	}
	with(func(db *store.Bolt) {
		all, err := db.Subscriptions()
		must(t, err)
		if len(all) != 1 || all[0].Owner != "test" {
			t.Fatalf("subscriptions are %+v", all)
		}
		all[0].Owner = "n2"
		db.PutSubscription(all[0], nil)
		db.Put(mine, nil)
		db.Put(theirs, nil)
	})
	next := r.restart(r.dir, nil)
	next.eventually("its own call to be closed", 3*time.Second, func() bool {
		calls, err := next.store.Calls()
		return err == nil && len(calls) < 2
	})
	if n := next.b.Subscriptions(); n != 0 {
		t.Errorf("%d subscriptions of another node are gone on with", n)
	}
	next.stop()
	with(func(db *store.Bolt) {
		calls, err := db.Calls()
		must(t, err)
		subscriptions, err := db.Subscriptions()
		must(t, err)
		if len(calls) != 1 || calls[0].ID != "theirs" || len(subscriptions) != 1 {
			t.Errorf("in the store are the calls %v and %d subscriptions, want those of the other node", calls, len(subscriptions))
		}
	})
}
