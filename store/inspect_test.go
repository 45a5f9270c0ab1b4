package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"baton/call"
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

// TestInspectWalks wants a broken page to be found that holds neither users nor devices.
func TestInspectWalks(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	marker := bytes.Repeat([]byte("here is a call "), 200) // larger than what stands within another page
	b.Put(call.Stored{ID: "one", Epoch: 1, Version: 1, Blob: marker}, func(err error) {
		if err != nil {
			t.Error(err)
		}
	})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "state.db")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(content, marker)
	if at < 0 {
		t.Fatal("the call is not in the file")
	}
	page := at / os.Getpagesize() * os.Getpagesize()
	clear(content[page : page+os.Getpagesize()])
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(dir); err == nil || !strings.Contains(err.Error(), "state.db") {
		t.Errorf("a page of zeros: %v", err)
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
