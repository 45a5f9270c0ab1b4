// Package store keeps what a node must not forget: users, devices, the records of live calls and the log. It knows
// what they are called and how to write them, nothing of what they mean.
package store

import (
	"context"
	"log/slog"
	"time"

	"baton/call"
	"baton/journal"
	"baton/registrar"
)

// Bolt is the embedded store of a single node.
type Bolt struct{}

// Open opens the store in dir.
func Open(dir string, log *slog.Logger) (*Bolt, error) { return &Bolt{}, nil }

func (b *Bolt) Run(ctx context.Context) error                                             { <-ctx.Done(); return nil }
func (b *Bolt) Close() error                                                              { return nil }
func (b *Bolt) Realm() string                                                             { return "baton" }
func (b *Bolt) Secret() []byte                                                            { return nil }
func (b *Bolt) Users() ([]registrar.User, error)                                          { return nil, nil }
func (b *Bolt) PutUser(u registrar.User) error                                            { return nil }
func (b *Bolt) RemoveUser(name string) error                                              { return nil }
func (b *Bolt) Devices() ([]registrar.Device, error)                                      { return nil, nil }
func (b *Bolt) Bind(user string, put []registrar.Device, drop []string, done func(error)) {}
func (b *Bolt) Put(s call.Stored, done func(error))                                       {}
func (b *Bolt) End(id string, epoch uint64, done func(error))                             {}
func (b *Bolt) Calls() ([]call.Stored, error)                                             { return nil, nil }
func (b *Bolt) Append(e journal.Entry)                                                    {}
func (b *Bolt) Entries(from, to time.Time, limit int) ([]journal.Entry, error)            { return nil, nil }

var (
	_ registrar.Store = (*Bolt)(nil)
	_ call.Store      = (*Bolt)(nil)
	_ journal.Journal = (*Bolt)(nil)
)
