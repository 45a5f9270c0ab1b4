package wire

import (
	"container/heap"
	"sync"
	"time"
)

// queue does things at their time, in order; those of one time in the order in which they were added.
type queue struct {
	wake chan struct{}

	mu   sync.Mutex
	due  items
	next uint64
}

type item struct {
	at    time.Time
	order uint64
	do    func()
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) add(at time.Time, do func()) {
	q.mu.Lock()
	q.next++
	heap.Push(&q.due, item{at, q.next, do})
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// run serves the queue until stop is closed.
func (q *queue) run(stop <-chan struct{}) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(q.serve())
		select {
		case <-stop:
			return
		case <-q.wake:
		case <-timer.C:
		}
	}
}

// serve does what is due and says how long nothing will be.
func (q *queue) serve() time.Duration {
	for {
		q.mu.Lock()
		if len(q.due) == 0 {
			q.mu.Unlock()
			return time.Hour
		}
		if wait := time.Until(q.due[0].at); wait > 0 {
			q.mu.Unlock()
			return wait
		}
		i := heap.Pop(&q.due).(item)
		q.mu.Unlock()
		i.do()
	}
}

type items []item

func (s items) Len() int { return len(s) }
func (s items) Less(i, j int) bool {
	return s[i].at.Before(s[j].at) || s[i].at.Equal(s[j].at) && s[i].order < s[j].order
}
func (s items) Swap(i, j int) { s[i], s[j] = s[j], s[i] }
func (s *items) Push(x any)   { *s = append(*s, x.(item)) }

// Pop is heap.Interface's.
func (s *items) Pop() any {
	old := *s
	x := old[len(old)-1]
	*s = old[:len(old)-1]
	return x
}
