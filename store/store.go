package store

import (
	"context"
	"log/slog"
	"time"

	"baton/call"
	"baton/config"
	"baton/journal"
	"baton/registrar"
)

// Store is all that a node needs of a store: *Bolt and *Redis are one.
type Store interface {
	registrar.Store
	call.Store
	journal.Journal
	Select(journal.Query) ([]journal.Entry, error)
	CountCalls() (int, error)
	Keep(age time.Duration, entries int)
	Realm() string
	Secret() []byte
	LastRun() time.Time
	Healthy() error
	HealthySince() time.Time
	Run(context.Context) error
	Beat(context.Context) error
	Close() error
}

var (
	_ Store          = (*Bolt)(nil)
	_ Store          = (*Redis)(nil)
	_ registrar.Feed = (*Redis)(nil)
)

// OpenConfigured opens the store that is configured: Redis, or the embedded one in dir. node is this node's name.
func OpenConfigured(c config.Config, dir, node string, log *slog.Logger) (Store, error) {
	if c.Store.Redis == "" {
		b, err := Open(dir, log)
		if err != nil {
			return nil, err
		}
		return b, nil
	}
	key, err := ReadKey(c.Cluster.KeyFile)
	if err != nil {
		return nil, err
	}
	s, err := OpenRedis(RedisOptions{Store: c.Store, Key: key, KeyFile: c.Cluster.KeyFile, Node: node, Log: log})
	if err != nil {
		return nil, err
	}
	return s, nil
}
