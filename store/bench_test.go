package store_test

import (
	"slices"
	"testing"
	"time"

	"baton/call"
	"baton/registrar"
	"baton/store/storetest"
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
