// Package serial runs closures one at a time and in order, without a goroutine that waits for them: who brings the
// first one runs it, and what others bring meanwhile. It knows nothing of what they do.
package serial

import "sync"

// Queue is an ordered mailbox. Its closures have the queue to themselves, so that what they share needs no lock. They
// must not wait for the queue.
//
// A message that is handed from goroutine to goroutine costs a wake-up each time, which on an idle machine is many
// times what is done with it (docs/measure.md).
type Queue struct {
	// set once, before the first closure

	Guard   func(func())            // runs one closure and recovers, for a panic would leave the queue busy for ever; nil: as it is
	Settled func() (over bool)      // called when nothing is left to do, before the queue is free; over = nothing will be any more,
	Ended   func()                  // and this is called once the queue has closed because of that
	Start   func(func()) (ran bool) // starts a goroutine; nil: the go statement
	Limit   int                     // of what Do queues behind others; 0 = none

	Held bool // nothing runs until Release; set before the first closure, then guarded by mu

	mu     sync.Mutex
	items  []func() // from head on
	head   int
	busy   bool // somebody serves
	closed bool
}

// share is how many closures a caller of Do runs at most, his own among them, before a goroutine goes on with the rest:
// a reader of the network is not to be kept by what others bring.
const share = 32

// Do runs f now, in the goroutine of the caller, or has whoever serves the queue run it next. The caller must hold no
// lock that a closure of the queue might take. False: the queue is closed, or full.
func (q *Queue) Do(f func()) bool { return q.DoBelow(q.Limit, f) }

// DoBelow is Do with a limit of its own: what matters more may be brought when there is no room for the rest.
func (q *Queue) DoBelow(limit int, f func()) bool {
	taken, first := q.add(f, limit)
	if first {
		q.serve(share)
	}
	return taken
}

// Post has f run, never in the goroutine of the caller. False: the queue is closed.
func (q *Queue) Post(f func()) bool {
	taken, first := q.add(f, 0)
	if first {
		q.start()
	}
	return taken
}

// Release lets a held queue run, what has gathered first.
func (q *Queue) Release() {
	q.mu.Lock()
	q.Held = false
	first := q.head < len(q.items) && !q.busy
	q.busy = q.busy || first
	q.mu.Unlock()
	if first {
		q.serve(share)
	}
}

// Finish closes the queue when all that was brought before has run, and waits for that. No closure of the queue may call it.
func (q *Queue) Finish() {
	done := make(chan struct{})
	last := func() {
		q.Close()
		close(done)
	}
	if q.Do(last) {
		<-done
	}
}

// Close drops what is queued and takes nothing more. A closure that runs is not waited for.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed, q.items, q.head = true, nil, 0
	q.mu.Unlock()
}

// add queues f; first says that nobody serves the queue yet, and that the caller is to see to it.
func (q *Queue) add(f func(), limit int) (taken, first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || limit > 0 && len(q.items)-q.head >= limit {
		return false, false
	}
	if q.head > 64 && 2*q.head > len(q.items) { // a queue that is never empty does not grow for ever
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, f)
	if q.busy || q.Held {
		return true, false
	}
	q.busy = true
	return true, true
}

func (q *Queue) start() {
	serve := func() { q.serve(0) }
	if q.Start == nil {
		go serve()
		return
	}
	if !q.Start(serve) {
		q.Close()
	}
}

// serve runs what is queued until nothing is left; after most closures (0 = any number) a goroutine goes on with it.
func (q *Queue) serve(most int) {
	for ran := 0; most == 0 || ran < most; ran++ {
		f := q.next()
		if f == nil {
			if q.rest() {
				return
			}
			continue
		}
		q.run(f)
	}
	q.start()
}

func (q *Queue) run(f func()) {
	if q.Guard == nil {
		f()
		return
	}
	q.Guard(f)
}

// next takes the first closure off the queue, nil if there is none.
func (q *Queue) next() func() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.head == len(q.items) {
		return nil
	}
	f := q.items[q.head]
	q.items[q.head] = nil
	if q.head++; q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return f
}

// rest frees the queue, unless something is brought meanwhile.
func (q *Queue) rest() bool {
	over := false
	if q.Settled != nil {
		q.run(func() { over = q.Settled() })
	}
	if !q.free(over) {
		return false
	}
	if over && q.Ended != nil {
		q.run(q.Ended)
	}
	return true
}

func (q *Queue) free(over bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.head < len(q.items) {
		return false
	}
	q.busy, q.closed, q.items = false, q.closed || over, nil
	return true
}
