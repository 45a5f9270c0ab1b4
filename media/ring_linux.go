package media

import (
	"math"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring is an io_uring(7), by which one system call does the work of many. What is queued is done, and over, when enter returns: everything here is
// asked not to wait. It belongs to one goroutine, whatever thread that is on.
type ring struct {
	fd         int
	memory     []byte // queue of what is to be done, and of what came of it; shared with the kernel
	entryBytes []byte // what is to be done, which that queue names by number
	entries    unsafe.Pointer

	queued uint32 // since the last enter
	tail   uint32
	mask   uint32

	kernelTail       *uint32
	doneHead         *uint32
	doneTail         *uint32
	doneMask         uint32
	done             unsafe.Pointer
	results          []int32 // by the number of a slot
	submitted, ended uint32  // of those that were queued
	broken           bool    // nothing is done any more
}

// pending is the result of a slot whose work has not been done.
const pending = math.MinInt32

// The kernel's ABI, of linux/io_uring.h.
type (
	ringOffsets struct {
		head, tail, mask, entries, a, b, c, d uint32 // a to c: flags, dropped, array of submissions; overflow, results, flags of completions
		address                               uint64
	}
	ringParams struct {
		entries, results, flags, cpu, idle, features, worker uint32
		reserved                                             [3]uint32
		submit, complete                                     ringOffsets
	}
	ringEntry struct {
		op, flags uint8
		priority  uint16
		fd        int32
		address2  uint64
		address   uint64
		size      uint32
		msgFlags  uint32
		slot      uint64
		buffer    uint32
		size2     uint16
		_         uint16
		_         [2]uint64
	}
	ringResult struct {
		slot  uint64
		value int32
		flags uint32
	}
)

const (
	ringRecvMsg    = 10
	ringSend       = 26
	ringGetEvents  = 1
	ringOneMapping = 1 // feature, Linux 5.4
	ringAtEntries  = 0x10000000
)

// openRing makes one for so many pieces of work at a time. An error says that this system has none, or does not let us.
func openRing(slots int) (*ring, error) {
	var p ringParams
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(slots), uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, os.NewSyscallError("io_uring_setup", errno)
	}
	r := &ring{fd: int(fd), results: make([]int32, slots)}
	if p.features&ringOneMapping == 0 {
		r.close()
		return nil, os.NewSyscallError("io_uring_setup", unix.ENOTSUP)
	}
	if err := r.share(&p); err != nil {
		r.close()
		return nil, os.NewSyscallError("mmap", err)
	}
	return r, nil
}

// share maps what the kernel and we both have.
func (r *ring) share(p *ringParams) (err error) {
	size := max(int(p.submit.c)+4*int(p.entries), int(p.complete.b)+int(unsafe.Sizeof(ringResult{}))*int(p.results))
	const rights, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED | unix.MAP_POPULATE
	if r.memory, err = unix.Mmap(r.fd, 0, size, rights, flags); err != nil {
		return err
	}
	if r.entryBytes, err = unix.Mmap(r.fd, ringAtEntries, int(unsafe.Sizeof(ringEntry{}))*int(p.entries), rights, flags); err != nil {
		return err
	}
	at := func(offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.memory[offset])) }
	r.entries, r.done = unsafe.Pointer(&r.entryBytes[0]), unsafe.Pointer(&r.memory[p.complete.b])
	r.kernelTail, r.doneHead, r.doneTail = at(p.submit.tail), at(p.complete.head), at(p.complete.tail)
	r.mask, r.doneMask = *at(p.submit.mask), *at(p.complete.mask)
	for i := range p.entries {
		*at(p.submit.c + 4*i) = i
	}
	return nil
}

func (r *ring) close() {
	if r.memory != nil {
		_ = unix.Munmap(r.memory)
	}
	if r.entryBytes != nil {
		_ = unix.Munmap(r.entryBytes)
	}
	unix.Close(r.fd)
}

// queue adds a piece of work; at most as many as the ring has slots, each with a slot of its own.
func (r *ring) queue(e ringEntry) {
	r.results[e.slot] = pending
	if r.broken {
		return
	}
	*(*ringEntry)(unsafe.Add(r.entries, uintptr(r.tail&r.mask)*unsafe.Sizeof(e))) = e
	r.tail++
	r.queued++
}

// receive queues recvmsg(2); what h points to is the kernel's until enter returns.
func (r *ring) receive(slot, fd int, h *unix.Msghdr) {
	r.queue(ringEntry{
		op: ringRecvMsg, fd: int32(fd), address: uint64(uintptr(unsafe.Pointer(h))), size: 1, msgFlags: unix.MSG_DONTWAIT, slot: uint64(slot),
	})
}

// send queues sendto(2); b and to are the kernel's until enter returns.
func (r *ring) send(slot, fd int, b []byte, to *unix.RawSockaddrInet6, size uintptr) {
	r.queue(ringEntry{
		op: ringSend, fd: int32(fd), address: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))), size: uint32(len(b)), msgFlags: unix.MSG_DONTWAIT,
		address2: uint64(uintptr(unsafe.Pointer(to))), size2: uint16(size), slot: uint64(slot),
	})
}

// enter does what is queued. After an error the ring is of no use any more, and the results say what was done.
func (r *ring) enter() error {
	if r.broken {
		return unix.EBADF
	}
	n := r.queued
	r.queued, r.submitted, r.ended = 0, 0, 0
	atomic.StoreUint32(r.kernelTail, r.tail)
	for tries := 0; r.ended < n; tries++ {
		wait, flags := uint32(0), 0
		if r.submitted == n { // does not happen: nothing is asked for that could take time
			wait, flags = n-r.ended, ringGetEvents
		}
		k, _, errno := unix.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(n-r.submitted), uintptr(wait), uintptr(flags), 0, 0)
		if errno != 0 {
			if tries < 100 && (errno == unix.EINTR || errno == unix.EAGAIN || errno == unix.EBUSY) {
				continue
			}
			r.broken = true
			return os.NewSyscallError("io_uring_enter", errno)
		}
		r.submitted += uint32(k)
		r.collect()
	}
	return nil
}

// collect takes the results that there are.
func (r *ring) collect() {
	head, tail := *r.doneHead, atomic.LoadUint32(r.doneTail)
	for ; head != tail; head++ {
		c := (*ringResult)(unsafe.Add(r.done, uintptr(head&r.doneMask)*unsafe.Sizeof(ringResult{})))
		r.results[c.slot] = c.value
		r.ended++
	}
	atomic.StoreUint32(r.doneHead, head)
}
