package store

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"baton/registrar"
)

// TestInspect wants the store to be read whole and left as it is, and each way of being unreadable to be told.
func TestInspect(t *testing.T) {
	dir := t.TempDir()
	if _, err := Inspect(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a store: %v", err)
	}
	b, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(dir); !errors.Is(err, ErrRunning) {
		t.Errorf("while it is open: %v", err)
	}
	b.Bind("alice", []registrar.Device{{User: "alice", Name: "desk", Key: "k"}}, nil, func(err error) {
		if err != nil {
			t.Error(err)
		}
	})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	before := sums(t, dir)
	h, err := Inspect(dir)
	if err != nil || h.Users != 0 || len(h.Devices) != 1 || h.Devices[0].Name != "desk" {
		t.Errorf("%+v, error %v", h, err)
	}
	if after := sums(t, dir); after != before {
		t.Errorf("looking has changed it: %s, was %s", after, before)
	}
	for _, name := range []string{"state.db", "users.db"} {
		breakFile(t, filepath.Join(dir, name))
		if _, err := Inspect(dir); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("broken %s: %v", name, err)
		}
	}
}

// breakFile overwrites all pages of a file.
func breakFile(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("nonsense", int(info.Size())/8)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// sums tells the content of a directory.
func sums(t *testing.T, dir string) string {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		all.WriteString(f.Name() + " " + string(sum[:4]) + "\n")
	}
	return all.String()
}
