package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"baton/call"
	"baton/cluster"
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
	o, err := redisOptions(c, node, log)
	if err != nil {
		return nil, err
	}
	s, err := OpenRedis(o)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func redisOptions(c config.Config, node string, log *slog.Logger) (RedisOptions, error) {
	key, err := cluster.ReadKey(c.Cluster.KeyFile)
	if err != nil {
		return RedisOptions{}, fmt.Errorf("cluster.key_file: %w", err)
	}
	return RedisOptions{Store: c.Store, Key: key[:], KeyFile: c.Cluster.KeyFile, Node: node, Log: log}, nil
}

// ErrNothing says that nothing of baton is in a Redis yet.
var ErrNothing = errors.New("nothing of baton is there yet")

// InspectRedis looks at the configured Redis without changing anything; its error may be ErrNothing.
func InspectRedis(c config.Config, log *slog.Logger) (h Health, err error) {
	o, err := redisOptions(c, "", log)
	if err != nil {
		return h, err
	}
	s, err := newRedis(o)
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, s.client.Close()) }()
	ctx, cancel := waiting()
	defer cancel()
	if err := s.openIdentity(ctx, o); absent(err) {
		return h, ErrNothing
	} else if err != nil {
		return h, err
	}
	users, err := s.Users()
	if err != nil {
		return h, err
	}
	h.Users = len(users)
	h.Devices, err = s.Devices()
	return h, err
}
