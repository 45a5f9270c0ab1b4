package serial

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestOrderAndExclusion has many bring numbered closures by both ways: each one's run in order, and one at a time.
func TestOrderAndExclusion(t *testing.T) {
	const hands, each = 8, 2000
	var q Queue
	var inside atomic.Int32
	last := map[int]int{} // without a lock: the race detector watches
	done := make(chan struct{})
	left := hands * each
	var wg sync.WaitGroup
	for h := range hands {
		wg.Go(func() {
			for i := range each {
				bring := q.Do
				if (h+i)%3 == 0 {
					bring = q.Post
				}
				bring(func() {
					if inside.Add(1) != 1 {
						t.Error("two closures run at once")
					}
					if before, seen := last[h]; seen && before != i-1 {
						t.Errorf("%d of %d ran after %d", i, h, before)
					}
					last[h] = i
					inside.Add(-1)
					if left--; left == 0 {
						close(done)
					}
				})
			}
		})
	}
	wg.Wait()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("closures were lost")
	}
}

// TestDoRunsInTheCaller is what the package is for.
func TestDoRunsInTheCaller(t *testing.T) {
	var q Queue
	ran := false
	q.Do(func() { ran = true })
	if !ran {
		t.Error("Do has left its closure to somebody else")
	}
	var mu sync.Mutex
	mu.Lock()
	locked := make(chan struct{})
	q.Post(func() { mu.Lock(); close(locked) }) // would wait for ever in this goroutine
	mu.Unlock()
	<-locked
}

// TestFromWithin: a closure may bring others, which run after it.
func TestFromWithin(t *testing.T) {
	var q Queue
	var order []int
	q.Do(func() {
		q.Do(func() { order = append(order, 2) })
		q.Post(func() { order = append(order, 3) })
		order = append(order, 1)
	})
	if len(order) != 3 || order[0] != 1 || order[1] != 2 || order[2] != 3 {
		t.Errorf("they ran as %v", order)
	}
}

// TestManyAtOnceDoNotKeepACaller: what others bring all at once while the caller is at work is not all his.
func TestManyAtOnceDoNotKeepACaller(t *testing.T) {
	var mine, others atomic.Int32
	me := make(chan struct{}) // closed when Do has returned
	done := make(chan struct{})
	q := Queue{Start: func(serve func()) bool { // which goes on when Do has returned, whoever is quicker
		go func() { <-me; serve() }()
		return true
	}}
	const many = 10 * share
	q.Do(func() {
		for range many {
			q.Post(func() {
				select {
				case <-me:
					others.Add(1)
				default:
					mine.Add(1)
				}
				if mine.Load()+others.Load() == many {
					close(done)
				}
			})
		}
	})
	close(me)
	<-done
	if n := mine.Load(); n >= share || n == 0 {
		t.Errorf("the caller was kept for %d of %d", n, many)
	}
}

// TestNothingAfterClose: what stood behind the closure that closes the queue does not run.
func TestNothingAfterClose(t *testing.T) {
	var q Queue
	q.Do(func() {
		q.Post(q.Close)
		q.Post(func() { t.Error("it ran after Close") })
	})
	if q.Do(func() {}) {
		t.Error("taken after Close")
	}
}

// TestACallerIsNotKept: what a stream of closures keeps going is not the first caller's for ever.
func TestACallerIsNotKept(t *testing.T) {
	var q Queue
	var again func()
	var runs atomic.Int32
	stop := make(chan struct{})
	ended := make(chan struct{})
	again = func() {
		runs.Add(1)
		select {
		case <-stop:
			close(ended)
		default:
			q.Post(again)
		}
	}
	q.Do(again) // returns, though there is always one more
	if n := runs.Load(); n < share {
		t.Errorf("the caller ran %d, want %d", n, share)
	}
	close(stop)
	<-ended
}

func TestLimitAndClose(t *testing.T) {
	q := Queue{Limit: 2}
	var dropped atomic.Bool
	q.Do(func() {
		for range 2 {
			if !q.Do(func() {}) {
				t.Error("refused before the limit")
			}
		}
		if q.Do(func() {}) {
			t.Error("taken beyond the limit")
		}
		if !q.Post(func() { dropped.Store(true) }) {
			t.Error("Post knows no limit")
		}
		q.Close()
	})
	if q.Do(func() {}) || q.Post(func() {}) {
		t.Error("taken after Close")
	}
	if dropped.Load() {
		t.Error("what was queued ran after Close")
	}
}

// TestHeld gathers closures and runs them in order when it is released; Finish runs what is left and takes nothing more.
func TestHeld(t *testing.T) {
	q := Queue{Held: true}
	var order []int
	q.Do(func() { order = append(order, 1) })
	q.Post(func() { order = append(order, 2) })
	if len(order) != 0 {
		t.Fatal("a held queue runs")
	}
	q.Release()
	q.Do(func() { order = append(order, 3) })
	if !slices.Equal(order, []int{1, 2, 3}) {
		t.Errorf("they ran as %v", order)
	}
	busy, go1 := make(chan struct{}), make(chan struct{})
	q.Post(func() { close(busy); <-go1; order = append(order, 4) })
	<-busy
	q.Post(func() { order = append(order, 5) })
	time.AfterFunc(time.Millisecond, func() { close(go1) })
	q.Finish()
	if !slices.Equal(order, []int{1, 2, 3, 4, 5}) || q.Do(func() {}) {
		t.Errorf("finished, they had run as %v", order)
	}
}

// TestSettled is asked whenever nothing is left, and ends the queue once it is over.
func TestSettled(t *testing.T) {
	asked, ended, over := 0, 0, false
	q := Queue{Settled: func() bool { asked++; return over }, Ended: func() { ended++ }}
	q.Do(func() {})
	if asked != 1 || ended != 0 {
		t.Errorf("asked %d times, ended %d times", asked, ended)
	}
	q.Do(func() { over = true })
	if q.Post(func() {}) {
		t.Error("taken when all was over")
	}
	if ended != 1 {
		t.Errorf("told %d times that it has ended", ended)
	}
}

// TestGuard keeps what goes wrong in one from the others.
func TestGuard(t *testing.T) {
	q := Queue{Guard: func(f func()) { defer func() { _ = recover() }(); f() }}
	ran, settled := false, 0
	q.Settled = func() bool { settled++; panic("two") }
	q.Do(func() { panic("one") })
	q.Do(func() { ran = true })
	if !ran || settled != 2 {
		t.Error("a panic has ended the queue")
	}
}

// TestStartRefused: a queue whose goroutines are not to be any more takes nothing.
func TestStartRefused(t *testing.T) {
	q := Queue{Start: func(func()) bool { return false }}
	q.Post(func() { t.Error("it ran") })
	if q.Do(func() {}) {
		t.Error("taken, but nobody would run it")
	}
}

// BenchmarkDo is a message on an idle queue, BenchmarkPost the same through a goroutine.
func BenchmarkDo(b *testing.B) {
	var q Queue
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		q.Do(func() { n++ })
	}
}

func BenchmarkPost(b *testing.B) {
	var q Queue
	done := make(chan struct{})
	b.ReportAllocs()
	for b.Loop() {
		q.Post(func() { done <- struct{}{} })
		<-done
	}
}
