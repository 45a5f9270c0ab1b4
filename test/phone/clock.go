package phone

import (
	"container/heap"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Frame is the time that one packet covers.
const Frame = 20 * time.Millisecond

// grid is when frame 0 of a phone with phase 0 was due; all phones of the process share it, so that the phases of two
// phones can be compared.
var grid = time.Now()

// ticker is the one thread that sends every phone's frames on time; a goroutine per phone would be late by what the Go
// scheduler pleases.
var ticker = &frameClock{wake: -1}

type frameClock struct {
	once sync.Once
	wake int // eventfd that ends the thread's sleep

	mu  sync.Mutex
	due dueHeap
}

// add lets m send from its next frame on.
func (c *frameClock) add(m *Media) {
	c.once.Do(c.start)
	c.mu.Lock()
	defer c.mu.Unlock()
	m.frame = int64(time.Since(grid)-m.phase)/int64(Frame) + 1
	heap.Push(&c.due, m)
	unix.Write(c.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// remove returns when m will not be sent any more.
func (c *frameClock) remove(m *Media) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, o := range c.due {
		if o == m {
			heap.Remove(&c.due, i)
			return
		}
	}
}

func (c *frameClock) start() {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		panic("eventfd for the phones' clock: " + err.Error())
	}
	c.wake = fd
	go c.run()
}

func (c *frameClock) run() {
	runtime.LockOSThread()
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	buf := make([]byte, 8)
	for {
		wait := c.sendDue()
		ts := unix.NsecToTimespec(int64(wait))
		fds := []unix.PollFd{{Fd: int32(c.wake), Events: unix.POLLIN}}
		unix.Ppoll(fds, &ts, nil)
		unix.Read(c.wake, buf)
	}
}

// sendDue sends what is due and tells how long nothing will be.
func (c *frameClock) sendDue() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.due) > 0 {
		m := c.due[0]
		if wait := time.Until(m.nextAt()); wait > 0 {
			return wait
		}
		m.sendFrame()
		m.frame++
		heap.Fix(&c.due, 0)
	}
	return time.Second
}

// dueHeap orders the senders by when their next frame is due.
type dueHeap []*Media

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].nextAt().Before(h[j].nextAt()) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(*Media)) }

// Pop is heap.Interface's.
func (h *dueHeap) Pop() any {
	old := *h
	m := old[len(old)-1]
	*h = old[:len(old)-1]
	return m
}
