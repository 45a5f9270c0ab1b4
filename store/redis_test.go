package store_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"baton/config"
	"baton/store"
	"baton/store/storetest"
	"baton/test/redis"
)

var clusterKey = bytes.Repeat([]byte{7}, 32)

// redisOptions are those of a node at a server.
func redisOptions(url, node string) store.RedisOptions {
	c := config.Default().Store
	c.Redis = config.RedisURL(url)
	return store.RedisOptions{Store: c, Key: clusterKey, KeyFile: "cluster.key", Node: node, Log: slog.New(slog.DiscardHandler)}
}

// startRedis opens a store and runs it until stop.
func startRedis(t testing.TB, o store.RedisOptions) (s *store.Redis, stop func()) {
	t.Helper()
	s, err := store.OpenRedis(o)
	if err != nil {
		t.Fatal(err)
	}
	s.SetLaterBy(time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	var runs sync.WaitGroup
	runs.Go(func() { _ = s.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		runs.Wait()
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

func TestRedisContract(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	storetest.Run(t, func(t *testing.T) *storetest.Opened {
		if _, err := server.Do("FLUSHALL"); err != nil {
			t.Fatal(err)
		}
		o := redisOptions("redis://"+server.Addr, "n1")
		s, stop := startRedis(t, o)
		opened := &storetest.Opened{Store: s}
		opened.Reopen = func(t *testing.T) {
			t.Helper()
			stop()
			opened.Store, stop = startRedis(t, o)
		}
		return opened
	})
}
