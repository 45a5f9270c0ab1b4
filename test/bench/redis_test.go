package bench

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/store"
	"baton/test/phone"
	"baton/test/redis"
)

// What the store may add to an answer, with Redis on the same machine, and what a record may be.
const (
	redisPut     = time.Millisecond // p99
	redisRecord  = 6500             // bytes of a call of two legs with SRTP (test/e2e TestRedis)
	redisEvery   = 5 * time.Millisecond
	redisSamples = 2000
)

// TestRedis measures what write-ahead costs an answer with a Redis on this machine: from Put to done of one record, 200 a second,
// alone and where a replica has to confirm it.
func TestRedis(t *testing.T) {
	server := redis.Start(t, redis.Options{})
	alone := putTimes(t, server)
	verdict(t, alone[1] <= redisPut, "write-ahead to a local Redis: p50 %v, p99 %v (limit %v)", alone[0], alone[1], redisPut)
	redis.StartReplica(t, server)
	confirmed := putTimes(t, server)
	verdict(t, confirmed[1] <= redisPut, "write-ahead that a replica confirms: p50 %v, p99 %v (limit %v)", confirmed[0], confirmed[1], redisPut)
}

// putTimes are p50 and p99.
func putTimes(t *testing.T, server *redis.Server) [2]time.Duration {
	t.Helper()
	c := config.Default().Store
	c.Redis = config.RedisURL("redis://" + server.Addr)
	s, err := store.OpenRedis(store.RedisOptions{Store: c, Key: bytes.Repeat([]byte{1}, 32), Node: "n1", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var runs sync.WaitGroup
	runs.Go(func() { _ = s.Run(ctx) })
	defer func() { cancel(); runs.Wait(); _ = s.Close() }()
	blob := make([]byte, redisRecord)
	all := make([]time.Duration, 0, redisSamples)
	done := make(chan error, 1)
	put := func(i int) error {
		s.Put(call.Stored{ID: strconv.Itoa(i % 100), Epoch: 1, Version: uint64(i), Owner: "n1", Blob: blob}, func(err error) { done <- err })
		return <-done
	}
	for i := 0; put(i) != nil; i++ { // a new replica confirms nothing for its first second
		if i > 1000 {
			t.Fatal("no write is confirmed")
		}
	}
	tick := time.NewTicker(redisEvery)
	defer tick.Stop()
	for i := range redisSamples {
		<-tick.C
		begun := time.Now()
		if err := put(i); err != nil && !errors.Is(err, call.ErrUnsafe) { // a replica may be late: that time counts too
			t.Fatal(err)
		}
		all = append(all, time.Since(begun))
	}
	return [2]time.Duration{phone.Quantile(all, 0.5).Round(time.Microsecond), phone.Quantile(all, 0.99).Round(time.Microsecond)}
}
