package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"baton/call"
	"baton/journal"
	"baton/registrar"
	"baton/store/storetest"
	"baton/test/redis"
)

const record = 6 << 10 // bytes of a call with two legs

// BenchmarkPut is the time from Put to done, one after the other as one call has them.
func BenchmarkPut(b *testing.B) {
	s, stop := start(b, b.TempDir())
	defer stop()
	blob := make([]byte, record)
	measure(b, func(i int, done func(error)) {
		s.Put(call.Stored{ID: string(rune('a' + i%100)), Epoch: 1, Version: uint64(i), Blob: blob}, done)
	})
}

// BenchmarkRedisPut is the same with a Redis on this machine: alone, and where a replica confirms each write.
func BenchmarkRedisPut(b *testing.B) {
	for _, replicas := range []int{0, 1} {
		b.Run(fmt.Sprint(replicas, " replicas"), func(b *testing.B) {
			server := redis.Start(b, redis.Options{})
			for range replicas {
				redis.StartReplica(b, server)
			}
			s, _ := startRedis(b, redisOptions("redis://"+server.Addr, "n1"))
			blob := make([]byte, record)
			measure(b, func(i int, done func(error)) {
				s.Put(call.Stored{ID: string(rune('a' + i%100)), Epoch: 1, Version: uint64(i), Blob: blob}, done)
			})
		})
	}
}

// BenchmarkBind is the part of a REGISTER's answer that is the store's.
func BenchmarkBind(b *testing.B) {
	s, stop := start(b, b.TempDir())
	defer stop()
	d := storetest.Device("alice", "urn:uuid:1", 1)
	measure(b, func(i int, done func(error)) { s.Bind("alice", []registrar.Device{d}, nil, done) })
}

func measure(b *testing.B, write func(i int, done func(error))) {
	took := make([]time.Duration, 0, b.N)
	done := make(chan error)
	for i := 0; b.Loop(); i++ {
		begin := time.Now()
		write(i, func(err error) { done <- err })
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkPutQueued is many calls at once: the queue is written as one.
func BenchmarkPutQueued(b *testing.B) {
	s, stop := start(b, b.TempDir())
	defer stop()
	blob := make([]byte, record)
	done := make(chan error, 256)
	for range cap(done) {
		done <- nil
	}
	for i := 0; b.Loop(); i++ {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		s.Put(call.Stored{ID: string(rune('a' + i%500)), Epoch: 1, Version: uint64(i), Blob: blob}, func(err error) { done <- err })
	}
}

// BenchmarkSelect is the log of one user among many, who is in every hundredth of 20,000 entries.
func BenchmarkSelect(b *testing.B) {
	s, stop := start(b, b.TempDir())
	defer stop()
	for i := range 20_000 {
		user := "bob"
		if i%100 == 0 {
			user = "alice"
		}
		s.Append(journal.Entry{Kind: journal.CallMoved, User: user, Peer: "carol", Call: "k3f9wq2a", Device: "yealink-t46", Data: map[string]string{
			"how": "refer", "who": user, "switch_ms": "23.1", "gap_ms": "20.0", "lost": "0", "overlap_ms": "43.0",
		}})
	}
	for b.Loop() {
		if all, err := s.Select(journal.Query{User: "alice"}); err != nil || len(all) != 200 {
			b.Fatal(len(all), err)
		}
	}
}
