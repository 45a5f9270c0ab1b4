// Package store keeps what a node must not forget: users, devices, the records of live calls and the log. It knows
// what they are called and how to write them, nothing of what they mean.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"baton/call"
	"baton/journal"
	"baton/registrar"
)

// ErrRunning says that another process has the store open: a node is running on it.
var ErrRunning = errors.New("a node is running on it")

// errClosed is what a write gets that comes after Close.
var errClosed = errors.New("store is closed")

// Bolt is the embedded store of a single node: two files in one directory. users.db is synced at each commit. state.db
// (devices, calls, log) is not: it survives the death of the process at any moment, and is begun anew if a power cut
// has left it unreadable.
type Bolt struct {
	log     *slog.Logger
	users   *bbolt.DB
	state   *bbolt.DB
	realm   string
	secret  []byte
	lastRun time.Time
	commit  *committer
	health  health
}

var (
	_ registrar.Store = (*Bolt)(nil)
	_ call.Store      = (*Bolt)(nil)
	_ journal.Journal = (*Bolt)(nil)
)

// Open opens the store in dir and makes it if there is none. Another process that has it open is ErrRunning.
func Open(dir string, log *slog.Logger) (*Bolt, error) {
	if log == nil {
		log = slog.Default()
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	b := &Bolt{log: log}
	var err error
	if b.users, err = openUsers(filepath.Join(dir, "users.db")); err != nil {
		return nil, fmt.Errorf("open store in %s: %w", dir, err)
	}
	if b.state, err = openState(filepath.Join(dir, "state.db"), log); err != nil {
		return nil, errors.Join(fmt.Errorf("open store in %s: %w", dir, err), b.users.Close())
	}
	if err = errors.Join(b.readIdentity(), b.readLastRun()); err == nil {
		b.commit, err = newCommitter(b.state, log)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store in %s: %w", dir, err), b.users.Close(), b.state.Close())
	}
	return b, nil
}

// Run commits what is queued until ctx ends, and then what is left. What is queued while it does not run is committed
// by Close.
func (b *Bolt) Run(ctx context.Context) error {
	b.commit.run(ctx)
	return nil
}

// Close commits what is queued and closes both files. Run must have returned.
func (b *Bolt) Close() error {
	b.commit.close()
	return errors.Join(b.state.Sync(), b.state.Close(), b.users.Close())
}

// Realm is that of every challenge and secret: made with the store and never changed, whatever the node's name and
// address become.
func (b *Bolt) Realm() string { return b.realm }

// Secret is the node's own, 32 bytes: it keys nonces and stateless tags.
func (b *Bolt) Secret() []byte { return b.secret }
