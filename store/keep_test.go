package store

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"baton/journal"
)

// filled is a store whose log has n entries, one an hour, the newest a minute old.
func filled(t *testing.T, n int) *Bolt {
	t.Helper()
	b, err := Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	now := time.Now().Add(-time.Minute)
	for i := range n {
		e := journal.Entry{Time: now.Add(time.Duration(i-n+1) * time.Hour), Kind: journal.CallEnded, User: fmt.Sprint("u", i%7), Call: fmt.Sprintf("c%05d", i)}
		if i%3 == 0 {
			e.Kind, e.Call, e.Peer = journal.DeviceAway, "", fmt.Sprint("u", i%5)
		}
		b.Append(e)
	}
	b.commit.flush()
	return b
}

func (b *Bolt) count(t *testing.T) int {
	t.Helper()
	b.commit.turn.Lock()
	all, err := b.written(journal.Query{})
	counted := b.commit.entries.now.count
	b.commit.turn.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != counted {
		t.Errorf("log has %d entries and counts %d", len(all), counted)
	}
	return len(all)
}

// TestKeep deletes what is too old or too much, a step at a time, and lets writes in between.
func TestKeep(t *testing.T) {
	tests := []struct {
		name    string
		age     time.Duration
		entries int
		left    int
		steps   int
	}{
		{"everything", 0, 10_000, 1800, 1},
		{"young enough", 1800 * time.Hour, 10_000, 1800, 1},
		{"by age", 100 * time.Hour, 10_000, 100, 4},
		{"by number", 0, 1200, 1200, 2},
		{"by both", 1300 * time.Hour, 1200, 1200, 2},
		{"all are old", time.Millisecond, 10_000, 0, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := filled(t, 1800)
			b.Keep(tt.age, tt.entries)
			steps, before := 1, b.count(t)
			for b.commit.tidy() {
				steps++
				if n := b.count(t); before-n > tidyStep {
					t.Fatalf("one step deleted %d entries", before-n)
				}
				before = b.count(t)
			}
			if n := b.count(t); n != tt.left || steps != tt.steps {
				t.Errorf("%d entries left after %d steps, want %d after %d", n, steps, tt.left, tt.steps)
			}
		})
	}
}

// TestKeepIdle: a node to which nothing happens forgets in time as well.
func TestKeepIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := filled(t, 100)
		b.Keep(50*time.Hour, 1000)
		ctx, cancel := context.WithCancel(t.Context())
		var runs sync.WaitGroup
		runs.Go(func() { _ = b.Run(ctx) })
		synctest.Wait()
		if n := b.count(t); n != 50 {
			t.Errorf("%d entries at the start, want 50", n)
		}
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		if n := b.count(t); n != 40 {
			t.Errorf("%d entries 10 hours later, want 40", n)
		}
		cancel()
		runs.Wait()
	})
}

// TestBeat: a run that did not end well was there until its last beat, one that did until its end.
func TestBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		open := func() (*Bolt, func(), func()) {
			b, err := Open(dir, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			beating, still := context.WithCancel(t.Context())
			var runs, beats sync.WaitGroup
			runs.Go(func() { _ = b.Run(ctx) })
			beats.Go(func() { _ = b.Beat(beating) })
			return b, func() { still(); beats.Wait() }, func() {
				cancel()
				runs.Wait()
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			}
		}
		began := time.Now()
		b, still, stop := open()
		if !b.LastRun().IsZero() {
			t.Errorf("a new store has run at %v", b.LastRun())
		}
		time.Sleep(time.Hour + 2*time.Second)
		stop() // nothing is taken any more, as if the node were killed
		still()
		b, still, stop = open()
		if want := began.Add(time.Hour); !b.LastRun().Equal(want) {
			t.Errorf("killed, it last ran at %v, want %v", b.LastRun(), want)
		}
		time.Sleep(time.Hour + 2*time.Second)
		still()
		stop()
		b, still, stop = open()
		if want := began.Add(2*time.Hour + 4*time.Second); !b.LastRun().Equal(want) {
			t.Errorf("stopped, it last ran at %v, want %v", b.LastRun(), want)
		}
		still()
		stop()
	})
}

// TestSelect compares the pages of a long log with a filter over all of it.
func TestSelect(t *testing.T) {
	b := filled(t, 3*page+17)
	all, err := b.Select(journal.Query{})
	if err != nil || len(all) != 3*page+17 {
		t.Fatalf("%d entries, %v", len(all), err)
	}
	middle := all[page+5].Time
	for _, q := range []journal.Query{
		{Limit: 1},
		{Limit: page},
		{Limit: page + 1},
		{Since: middle},
		{Until: middle},
		{Since: middle, Until: middle.Add(24 * time.Hour)},
		{User: "u3"},
		{User: "u3", Limit: 40},
		{Call: "c00001"},
		{Call: "c0123", Limit: 3},
		{Call: "none"},
		{Kinds: []journal.Kind{journal.DeviceAway}, User: "u4", Since: middle, Limit: 100},
		{Limit: 2 * len(all)},
	} {
		var want []journal.Entry
		for _, e := range all {
			if q.Matches(e) {
				want = append(want, e)
			}
		}
		if q.Limit > 0 {
			want = want[max(len(want)-q.Limit, 0):]
		}
		got, err := b.Select(q)
		same := slices.EqualFunc(got, want, func(a, b journal.Entry) bool { return a.Time.Equal(b.Time) && a.Call == b.Call })
		if err != nil || !same {
			t.Errorf("%+v: %d entries, want %d, error %v", q, len(got), len(want), err)
		}
	}
}

// TestTidyFails leaves the count as it was where nothing could be deleted.
func TestTidyFails(t *testing.T) {
	b := filled(t, 20)
	b.Keep(0, 10)
	path := b.state.Path()
	if err := b.state.Close(); err != nil {
		t.Fatal(err)
	}
	if b.commit.tidy() || b.commit.entries.now.count != 20 {
		t.Errorf("counts %d", b.commit.entries.now.count)
	}
	var err error
	if b.state, err = openSound(path); err != nil {
		t.Fatal(err)
	}
}

// TestHealthy has the store tell that its own writes fail, or do not come to an end.
func TestHealthy(t *testing.T) {
	b, err := Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Healthy(); err != nil {
		t.Errorf("before it runs: %v", err)
	}
	beat := func() {
		b.beat(time.Now())
		b.commit.flush()
	}
	if beat(); b.Healthy() != nil {
		t.Errorf("after a write: %v", b.Healthy())
	}
	b.health.last = time.Now().Add(-time.Minute)
	if err := b.Healthy(); err == nil || !strings.Contains(err.Error(), "no write for 1m0s") {
		t.Errorf("a minute later: %v", err)
	}
	if beat(); b.Healthy() != nil {
		t.Errorf("after another: %v", b.Healthy())
	}
	if err := b.state.Close(); err != nil {
		t.Fatal(err)
	}
	if beat(); b.Healthy() == nil {
		t.Error("a write has failed, and it is well")
	}
}
