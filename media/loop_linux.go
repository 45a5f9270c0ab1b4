package media

import (
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loop reads its sockets in one goroutine, which lives while it has some.
type loop struct {
	p       *polled
	ticking atomic.Bool // for others to see

	// guarded by p.mu
	epoll int // 0 = the goroutine does not run
	wake  int // eventfd that ends it
	open  int // sockets
}

// turns is what a loop's goroutine has: the one before it may still be ending.
type turns struct {
	*loop
	pace  pace
	keeps bool // its processor while it waits
	buf   []byte
	batch *batch // from the first tick until it rests, if there is one
}

// loops is how many an engine has: one with much to do takes a processor, and the others are for the calls.
func loops() int { return max(1, runtime.NumCPU()/4) }

// start opens the epoll and begins to read, unless it does so already; p.mu is held.
func (l *loop) start() error {
	if l.epoll != 0 {
		return nil
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)})
	}
	if err != nil {
		unix.Close(epoll)
		return os.NewSyscallError("eventfd", err)
	}
	l.epoll, l.wake = epoll, wake
	l.p.e.readers.Go(func() { l.run(epoll, wake) })
	return nil
}

// closed takes a socket away, and ends the goroutine with the last; p.mu is held.
func (l *loop) closed() {
	if l.open--; l.open == 0 {
		one := [8]byte{0: 1, 7: 1} // not zero in either byte order
		_, _ = unix.Write(l.wake, one[:])
		l.epoll = 0
	}
}

// run reads until the last socket is closed.
func (l *loop) run(epoll, wake int) {
	defer unix.Close(wake)
	defer unix.Close(epoll)
	e := l.p.e
	events := make([]unix.EpollEvent, 512)
	t := turns{loop: l, pace: pace{since: e.clock(), ticking: l.p.keen, always: l.p.keen}, buf: make([]byte, maxPacket+1)}
	defer t.end()
	for {
		n, errno := t.wait(epoll, events)
		if errno != 0 && errno != unix.EINTR {
			e.log.Error("media sockets", "err", errno)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if slices.ContainsFunc(events[:n], func(ev unix.EpollEvent) bool { return ev.Fd == int32(wake) }) {
			return
		}
		packets, now := t.read(events[:n]), e.clock()
		t.pace.count(packets, now)
		t.rest(now)
		if n == 0 && t.pace.ticking {
			if t.batch != nil {
				t.batch.depth.slept()
			}
			t.nap(t.pace.sleep(e.clock()))
		}
	}
}

// read reads of the sockets that have packets, while the loop ticks by the ring.
func (t *turns) read(events []unix.EpollEvent) (packets int) {
	if t.pace.ticking && t.gather() {
		n, err := t.batch.pass(&t.p.conns, events)
		if err != nil {
			t.p.e.log.Warn("media: packets go one by one from now on", "err", err)
			t.p.batched.Store(false)
			t.unbatch()
		}
		return n
	}
	for _, ev := range events {
		if c := t.p.conns.get(int(ev.Fd)); c != nil {
			packets += c.read(t.buf, nil)
		}
	}
	return packets
}

// gather says whether packets can be read and sent together; where they cannot it tries once.
func (t *turns) gather() bool {
	p := t.p
	if t.batch != nil || !p.batched.Load() {
		return t.batch != nil
	}
	var err error
	if t.batch, err = newBatch(p.e); err != nil {
		p.batched.Store(false)
	}
	p.asked.Do(func() {
		if err != nil {
			p.e.log.Info("media: each packet has system calls of its own: no io_uring", "err", err)
			return
		}
		p.e.log.Debug("media: packets are read and sent together, by io_uring")
	})
	return err == nil
}

// rest gives the ring back when it was not needed for long.
func (t *turns) rest(now time.Duration) {
	if t.batch != nil && t.pace.rested(now) {
		t.unbatch()
	}
}

// end gives the ring back, and the processor.
func (t *turns) end() {
	t.keep(false)
	t.unbatch()
}

func (t *turns) unbatch() {
	if t.batch != nil {
		t.batch.close()
		t.batch = nil
	}
}

// wait returns how many sockets have packets. While the loop ticks it does not wait, and none have when all are read.
func (t *turns) wait(epoll int, events []unix.EpollEvent) (int, unix.Errno) {
	ticking := t.pace.ticking
	if ticking != t.ticking.Load() {
		t.ticking.Store(ticking)
	}
	t.keep(ticking || t.pace.lively(t.p.e.clock()))
	switch {
	case ticking:
		return poll(epoll, events, 0)
	case t.keeps:
		return poll(epoll, events, livelyWait)
	}
	n, err := unix.EpollWait(epoll, events, -1)
	errno, _ := err.(unix.Errno)
	return max(n, 0), errno
}

// keep says whether the loop keeps its processor while it waits, of Go's scheduler a P. It does so only where there is one more for it: many
// engines in a process would leave none.
func (t *turns) keep(yes bool) {
	switch {
	case yes == t.keeps:
	case !yes:
		keepers.Add(-1)
		t.keeps = false
	case keepers.Add(1) > int32(loops()):
		keepers.Add(-1)
	default:
		spare()
		t.keeps = true
	}
}

// keepers is how many loops keep their processor.
var keepers atomic.Int32

// poll is epoll_wait(2) without the runtime's knowledge, so that the loop need not ask it for a processor again (of Go's scheduler, a P) when packets
// have come: that takes a wake-up of another thread for each packet, and where all are busy tens of milliseconds. A signal by which the runtime
// wants the goroutine to stop ends it early.
func poll(epoll int, events []unix.EpollEvent, wait time.Duration) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(wait.Milliseconds()), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// nap sleeps until the next tick, as poll waits where the loop keeps its processor.
func (t *turns) nap(d time.Duration) {
	if d <= 0 {
		return
	}
	ts := unix.NsecToTimespec(int64(d))
	if t.keeps {
		unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
	} else {
		_ = unix.Nanosleep(&ts, nil)
	}
}

// spare gives Go's scheduler a processor more for each loop, since one that polls or naps keeps its own.
var spare = sync.OnceFunc(func() { runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + loops()) })
