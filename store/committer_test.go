package store

import (
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// TestOneWriteFails commits a batch in which one cannot be made: the others are, once, and the log keeps count.
func TestOneWriteFails(t *testing.T) {
	db, err := openState(filepath.Join(t.TempDir(), "state.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c, err := newCommitter(db, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	results := map[int]error{}
	var order []int
	for i := range 5 {
		do := func(tx *bbolt.Tx) error { return c.entries.add(tx, time.Unix(7, 0), []byte{byte(i)}) }
		if i == 3 {
			do = func(*bbolt.Tx) error { return broken }
		}
		c.add(write{do, func(err error) { order, results[i] = append(order, i), err }})
	}
	c.flush()
	for i := range 5 {
		if err := results[i]; order[i] != i || (i == 3) != errors.Is(err, broken) || i != 3 && err != nil {
			t.Errorf("write %d, told as number %d: %v", i, order[i], err)
		}
	}
	count := 0
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(logBucket).ForEach(func(_, v []byte) error { count++; return nil })
	})
	if err != nil || count != 4 || c.entries.now.count != 4 || c.entries.now.next != 4 {
		t.Errorf("log has %d entries, counted %+v, %v", count, c.entries.now, err)
	}
}

// TestQueueIsBounded stands for a disk that takes nothing for long.
func TestQueueIsBounded(t *testing.T) {
	c := &committer{wake: make(chan struct{}, 1), queue: make([]write, maxQueue)}
	var got error
	c.add(write{nil, func(err error) { got = err }})
	if !errors.Is(got, errFull) {
		t.Errorf("one too many: %v", got)
	}
}
