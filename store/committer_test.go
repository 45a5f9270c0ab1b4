package store

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"baton/call"
	"baton/journal"
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
	c.close() // and everybody has been told
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

// TestLater writes what nobody waits for with what somebody waits for, and in time by itself.
func TestLater(t *testing.T) {
	for _, c := range []struct {
		name       string
		laterBy    time.Duration
		put, hurry bool
	}{
		{"with the next", time.Hour, true, false},
		{"by itself", 20 * time.Millisecond, false, false},
		{"when hurried", time.Hour, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := Open(t.TempDir(), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			b.commit.laterBy = c.laterBy
			ctx, stop := context.WithCancel(t.Context())
			var runs sync.WaitGroup
			defer runs.Wait()
			defer stop()
			runs.Go(func() { _ = b.Run(ctx) })
			b.Append(journal.Entry{Kind: journal.CallStarted})
			if c.hurry {
				b.Hurry()
			}
			if c.put {
				if all, _ := b.written(journal.Query{}); len(all) != 0 {
					t.Error("written at once, though nobody waits")
				}
				done := make(chan error)
				b.Put(call.Stored{ID: "x"}, func(err error) { done <- err })
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			}
			for limit := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
				if all, err := b.written(journal.Query{}); err != nil || len(all) == 1 {
					return
				}
				if c.put || time.Now().After(limit) {
					t.Fatal("the entry is not written")
				}
			}
		})
	}
}

// TestReadWhatIsQueued: who reads sees all that was written before, also what nobody has waited for.
func TestReadWhatIsQueued(t *testing.T) {
	b, err := Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	b.Append(journal.Entry{Kind: journal.CallStarted})
	b.PutLater(call.Stored{ID: "x"}, func(error) {})
	entries, err := b.Select(journal.Query{})
	if err != nil || len(entries) != 1 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	if calls, err := b.Calls(); err != nil || len(calls) != 1 {
		t.Errorf("%d calls, %v", len(calls), err)
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
