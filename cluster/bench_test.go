package cluster

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkMessages has one node send another messages as long as an INVITE.
func BenchmarkMessages(b *testing.B) {
	key := NewKey()
	var came atomic.Int64
	one, two := benchNode(b, "a", key, nil, nil), benchNode(b, "b", key, nil, &came)
	meetIn(b, one, two)
	payload := make([]byte, 1200)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		for one.Send("b", "n", payload) != nil {
			time.Sleep(50 * time.Microsecond) // the queue is full: it is bounded
		}
	}
	for came.Load() < int64(b.N) {
		time.Sleep(50 * time.Microsecond)
	}
}

// BenchmarkCall is a request and its answer.
func BenchmarkCall(b *testing.B) {
	key := NewKey()
	one, two := benchNode(b, "a", key, nil, nil), benchNode(b, "b", key, nil, nil)
	meetIn(b, one, two)
	for b.Loop() {
		if _, err := one.Call(b.Context(), "b", "echo", nil); err != nil {
			b.Fatal(err)
		}
	}
}

func benchNode(b *testing.B, id string, key Key, d Directory, came *atomic.Int64) *Mesh {
	m, err := New(Options{ID: id, Listen: "127.0.0.1:0", Key: key, Directory: d})
	if err != nil {
		b.Fatal(err)
	}
	m.Handle("n", func(string, []byte) { came.Add(1) })
	m.HandleCall("echo", func(_ context.Context, _ string, p []byte) ([]byte, error) { return p, nil })
	return m
}

// meetIn runs two nodes that find each other.
func meetIn(b *testing.B, one, two *Mesh) {
	two.opt.Directory = Static{one.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	for _, m := range []*Mesh{one, two} {
		go func() { done <- m.Run(ctx) }()
	}
	b.Cleanup(func() {
		cancel()
		<-done
		<-done
	})
	for !one.Linked("b") || !two.Linked("a") {
		time.Sleep(time.Millisecond)
	}
}
