package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"baton/call"
	"baton/journal"
	"baton/store"
	"baton/store/storetest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("BATON_STORE_WRITER"); dir != "" {
		writeUntilKilled(dir)
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("baton/test/e2e/node.spawning")) // which starts servers for all tests
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *storetest.Opened {
		dir := t.TempDir()
		s, stop := start(t, dir)
		o := &storetest.Opened{Store: s}
		o.Reopen = func(t *testing.T) {
			t.Helper()
			stop()
			o.Store, stop = start(t, dir)
		}
		t.Cleanup(func() { stop() })
		return o
	})
}

// start opens the store in dir and runs it until stop.
func start(t testing.TB, dir string) (s *store.Bolt, stop func()) {
	t.Helper()
	s, err := store.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.SetLaterBy(time.Millisecond) // thousands of writes are waited for here, one after the other
	ctx, cancel := context.WithCancel(t.Context())
	var runs sync.WaitGroup
	runs.Go(func() { _ = s.Run(ctx) })
	return s, sync.OnceFunc(func() {
		cancel()
		runs.Wait()
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

func TestIdentityIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "open")
	s, stop := start(t, dir)
	realm, secret := s.Realm(), s.Secret()
	if realm == "" || len(secret) < 32 {
		t.Fatalf("realm %q, secret of %d bytes", realm, len(secret))
	}
	stop()
	s, stop = start(t, dir)
	defer stop()
	if s.Realm() != realm || !bytes.Equal(s.Secret(), secret) {
		t.Error("realm or secret have changed")
	}
	other, stopOther := start(t, t.TempDir())
	defer stopOther()
	if bytes.Equal(other.Secret(), secret) {
		t.Error("two stores have one secret")
	}
	for _, name := range []string{"users.db", "state.db"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s can be read by others: %v", name, info.Mode())
		}
	}
}

func TestOpenTwice(t *testing.T) {
	dir := t.TempDir()
	_, stop := start(t, dir)
	defer stop()
	_, err := store.Open(dir, nil)
	if !errors.Is(err, store.ErrRunning) || !strings.Contains(err.Error(), "users.db") {
		t.Errorf("open twice: %v", err)
	}
}

func TestOpenFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(file, nil); err == nil {
		t.Error("a file is opened as a data directory")
	}
}

// TestUnreadable breaks the files as a power cut would. Users are never thrown away, state is begun anew.
func TestUnreadable(t *testing.T) {
	breaks := map[string]func([]byte) []byte{
		"cut short":              func(b []byte) []byte { return b[:len(b)/3] },
		"cut to one page":        func(b []byte) []byte { return b[:4096] },
		"zeros":                  func(b []byte) []byte { return make([]byte, len(b)) },
		"garbage":                func(b []byte) []byte { return bytes.Repeat([]byte("baton"), len(b)/5) },
		"pages never came":       func(b []byte) []byte { clear(b[2*4096:]); return b },
		"one page in the middle": func(b []byte) []byte { return clearPages(b, `"text":"number 1000 `) },
		"pages mixed up": func(b []byte) []byte {
			return slices.Concat(b[:2*4096], b[3*4096:], b[2*4096:3*4096])
		},
	}
	for name, spoil := range breaks {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, stop := start(t, dir)
			if err := s.PutUser(storetest.User("alice", "101")); err != nil {
				t.Fatal(err)
			}
			for i := range 2000 {
				s.Append(journal.Entry{Kind: journal.CallEnded, Text: fmt.Sprint("number ", i, strings.Repeat(" x", 250))})
			}
			stop()
			state := filepath.Join(dir, "state.db")
			b, err := os.ReadFile(state)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(state, spoil(b), 0o600); err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			s, err = store.Open(dir, slog.New(slog.NewTextHandler(&said, nil)))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if users, err := s.Users(); err != nil || len(users) != 1 {
				t.Errorf("users: %v, %v", users, err)
			}
			if entries, err := s.Entries(time.Time{}, time.Time{}, 0); err != nil || len(entries) != 0 {
				t.Errorf("%d entries, %v", len(entries), err)
			}
			if aside, _ := filepath.Glob(state + ".unreadable-*"); len(aside) != 1 || !strings.Contains(said.String(), "level=WARN") {
				t.Errorf("moved aside: %v; said: %s", aside, said.String())
			}
		})
	}
}

// clearPages loses every page that holds the text.
func clearPages(b []byte, text string) []byte {
	for page := range slices.Chunk(b, 4096) {
		if bytes.Contains(page, []byte(text)) {
			clear(page)
		}
	}
	return b
}

// TestCutAnywhere cuts the file at many lengths. It opens at each: with all that it held where only free pages are
// missing, else anew.
func TestCutAnywhere(t *testing.T) {
	const entries = 400
	dir := t.TempDir()
	s, stop := start(t, dir)
	for i := range entries {
		s.Append(journal.Entry{Kind: journal.CallEnded, Text: fmt.Sprint("number ", i, strings.Repeat(" x", 250))})
	}
	stop()
	state := filepath.Join(dir, "state.db")
	whole, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for n := 4096; n < len(whole); n += 3 * 4096 {
		if err := os.WriteFile(state, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(whole), err)
		}
		got, err := s.Entries(time.Time{}, time.Time{}, 0)
		if err != nil || len(got) != 0 && len(got) != entries {
			t.Fatalf("cut to %d of %d bytes: %d entries, %v", n, len(whole), len(got), err)
		}
		if len(got) == 0 {
			lost++
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		aside, _ := filepath.Glob(state + ".unreadable-*")
		for _, f := range aside {
			_ = os.Remove(f)
		}
	}
	if lost == 0 {
		t.Error("nothing was ever lost: the cuts are not tried")
	}
}

func TestUnreadableUsers(t *testing.T) {
	dir := t.TempDir()
	_, stop := start(t, dir)
	stop()
	users := filepath.Join(dir, "users.db")
	junk := bytes.Repeat([]byte("baton"), 4000)
	if err := os.WriteFile(users, junk, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := store.Open(dir, nil); err == nil {
		s.Close()
		t.Fatal("unreadable users are opened")
	}
	if left, err := os.ReadFile(users); err != nil || !bytes.Equal(left, junk) {
		t.Error("unreadable users.db is not left for its owner to look at")
	}
}

// TestFirstStartCutShort finds a store that a node killed at its first start has left behind for ever.
func TestFirstStartCutShort(t *testing.T) {
	for name, left := range map[string][]byte{"empty": {}, "half a page": bytes.Repeat([]byte{0}, 2000)} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "users.db.new"), left, 0o600); err != nil {
				t.Fatal(err)
			}
			_, stop := start(t, dir)
			stop()
		})
	}
}

func TestLogIsBounded(t *testing.T) {
	const most, slack = 100_000, 1_000
	dir := t.TempDir()
	s, stop := start(t, dir)
	base := time.Unix(1_700_000_000, 0).UTC()
	for i := range most + 3*slack {
		s.Append(journal.Entry{Time: base.Add(time.Duration(i) * time.Millisecond), Kind: journal.CallEnded})
	}
	stop()
	s, stop = start(t, dir)
	defer stop()
	all, err := s.Entries(time.Time{}, time.Time{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < most || len(all) >= most+slack {
		t.Errorf("log has %d entries, want %d and up to %d more", len(all), most, slack)
	}
	if last := base.Add((most + 3*slack - 1) * time.Millisecond); !all[len(all)-1].Time.Equal(last) {
		t.Errorf("newest entry is of %v, want %v", all[len(all)-1].Time, last)
	}
}

// TestCloseCommits is the command line without a node: nothing runs, and what was changed is kept.
func TestCloseCommits(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 2)
	s.Put(call.Stored{ID: "c", Epoch: 1}, func(err error) { told <- err })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-told; err != nil {
		t.Error(err)
	}
	s.Put(call.Stored{ID: "d", Epoch: 1}, func(err error) { told <- err })
	if err := <-told; err == nil {
		t.Error("a closed store takes a write")
	}
	s, stop := start(t, dir)
	defer stop()
	if calls, err := s.Calls(); err != nil || len(calls) != 1 {
		t.Errorf("calls: %v, %v", calls, err)
	}
}

// TestCountCalls counts what Calls lists, also what is still on its way to the file.
func TestCountCalls(t *testing.T) {
	db, stop := start(t, t.TempDir())
	defer stop()
	for i := range 300 { // more than a page holds
		db.Put(call.Stored{ID: fmt.Sprintf("call%d", i), Version: 1, Blob: make([]byte, 200)}, func(error) {})
	}
	db.End("call7", 0, func(error) {})
	if n, err := db.CountCalls(); err != nil || n != 299 {
		t.Errorf("%d records, %v", n, err)
	}
}
