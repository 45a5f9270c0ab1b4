package store_test

import (
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"baton/store/storetest"
)

// TestUsersWithoutTokens opens a users.db of a version that knew no tokens: there are none, and one can be added.
func TestUsersWithoutTokens(t *testing.T) {
	dir := t.TempDir()
	_, stop := start(t, dir)
	stop()
	db, err := bbolt.Open(filepath.Join(dir, "users.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("tokens")) }); err != nil {
		t.Fatal(err)
	}
	db.Close()
	s, stop := start(t, dir)
	defer stop()
	if all, err := s.Tokens(); err != nil || len(all) != 0 {
		t.Fatalf("%v, %v", all, err)
	}
	if err := s.PutToken(storetest.Token("t", "alice")); err != nil {
		t.Fatal(err)
	}
}
