package media

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// While a loop ticks it takes the packets of many sockets by one system call, and sends by another what comes of them: two ways into the kernel and
// back are a fifth of what a packet costs, and what one packet needs is in the processor's cache for the next. Where there is no io_uring each
// packet has its own calls.

const (
	batchSize  = 128             // packets at a time; with more the first of them are out of the processor's cache before they are sent
	batchSlot  = 1600            // bytes for one that is read: at least maxPacket+1, and no multiple of much, for the cache's sake
	batchBytes = batchSize * 256 // of those that are sent
)

// batch is what a loop has on hand. Its goroutine alone has it, but for rounds and what mu guards.
type batch struct {
	ring  *ring
	e     *Engine
	depth depth

	// what is read
	conns [batchSize]*polledConn
	heads [batchSize]unix.Msghdr
	parts [batchSize]unix.Iovec
	from  [batchSize]unix.RawSockaddrInet6

	// what is sent: an outbox
	n, used int
	letters [batchSize]letter
	bytes   [batchBytes]byte

	rounds atomic.Uint64 // changed under mu

	mu    sync.Mutex // what others have put behind it
	later []latecomer

	slots [batchSize][batchSlot]byte
}

// letter is a packet of the outbox.
type letter struct {
	conn   *polledConn
	b      []byte
	to     unix.RawSockaddrInet6
	size   uintptr
	unsent *counter
}

// latecomer is a packet of another goroutine's.
type latecomer struct {
	by     conn
	b      []byte
	to     netip.AddrPort
	unsent *counter
}

// newBatch opens a ring, and tries whether it does all that is needed.
func newBatch(e *Engine) (*batch, error) {
	r, err := openRing(batchSize)
	if err != nil {
		return nil, err
	}
	b := &batch{ring: r, e: e}
	for i := range b.heads {
		b.parts[i].Base = &b.slots[i][0]
		b.parts[i].SetLen(maxPacket + 1)
		b.heads[i] = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&b.from[i])), Iov: &b.parts[i], Iovlen: 1}
	}
	if err := b.try(); err != nil {
		r.close()
		return nil, err
	}
	return b, nil
}

// try sends a packet to itself: Linux before 6.0 has a ring that can do less.
func (b *batch) try() error {
	fd, err := bound(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	at, ok := sa.(*unix.SockaddrInet4)
	if !ok {
		return unix.EAFNOSUPPORT
	}
	to := netip.AddrPortFrom(netip.AddrFrom4(at.Addr), uint16(at.Port))
	l := &b.letters[0]
	b.ring.send(0, fd, []byte("one"), &l.to, fill(&l.to, to))
	if err := b.ring.enter(); err != nil {
		return err
	}
	b.ask(0, fd)
	switch err := b.ring.enter(); {
	case err != nil:
		return err
	case b.ring.results[0] != 3 || addressOf(&b.from[0]) != to:
		return unix.ENOTSUP
	}
	return nil
}

// ask queues that the next packet of a socket is read.
func (b *batch) ask(i, fd int) {
	b.heads[i].Namelen = uint32(unsafe.Sizeof(b.from[i]))
	b.ring.receive(i, fd, &b.heads[i])
}

// pass reads of each of these sockets, has its packets received, and sends what comes of that; it says how many packets there were. An error says
// that this cannot be done any more, and nothing is lost by it.
func (b *batch) pass(conns *fdTable, events []unix.EpollEvent) (packets int, err error) {
	asked, got, each := 0, 0, b.depth.each()
	for len(events) > 0 {
		n := 0
		for len(events) > 0 && n+each <= batchSize {
			c := conns.get(int(events[0].Fd))
			events = events[1:]
			switch {
			case c == nil:
			case c.burst.Load() > 0: // there is more than one packet
				packets += c.read(b.slots[batchSize-1][:maxPacket+1], b)
				b.flush()
			default:
				for k := 0; k < each && c.enter(); k++ {
					b.conns[n] = c
					n++
				}
			}
		}
		k, err := b.round(n)
		asked, got = asked+n, got+k
		if err != nil {
			return packets + got, err
		}
	}
	b.depth.count(asked, got)
	return packets + got, nil
}

// depth is how many packets of each socket are asked for at a time: one, but for a loop that is behind. Its sockets have more than one, and what
// each of them costs, above all to bring it into the processor's cache, is then shared. What is asked for in vain is cheap, but not for nothing.
type depth struct {
	shift  int // the power of two
	last   int // packets of the pass before; 0 = the loop has slept since
	repeat int // so many passes have brought as much again
}

const (
	deepest  = 3 // eight packets
	isBehind = 3
)

func (d *depth) each() int { return 1 << d.shift }

// count takes what came of a pass.
func (d *depth) count(asked, got int) {
	switch {
	case got < asked*3/4:
		d.shift, d.repeat = max(0, d.shift-1), 0
	case d.last > 0 && got >= d.last*3/4:
		if d.repeat++; d.repeat >= isBehind {
			d.shift, d.repeat = min(d.shift+1, deepest), 0
		}
	default:
		d.repeat = 0
	}
	d.last = got
}

// slept is told that all was read.
func (d *depth) slept() { *d = depth{} }

// round reads a packet for each of the first n slots; a socket that has several of them has them side by side.
func (b *batch) round(n int) (packets int, err error) {
	if n == 0 {
		return 0, nil
	}
	for i, c := range b.conns[:n] {
		b.ask(i, c.fd)
	}
	err = b.ring.enter()
	now := b.e.clock()
	for i, c := range b.conns[:n] {
		b.conns[i] = nil
		c.leave()
		if size := b.ring.results[i]; size >= 0 {
			packets++
			c.held = i+1 < n && b.conns[i+1] == c && b.ring.results[i+1] >= 0
			c.hear(b.slots[i][:size], addressOf(&b.from[i]), now, b)
		}
	}
	b.flush()
	return packets, err
}

// add is the outbox's; b is the loop's goroutine.
func (b *batch) add(by conn, packet []byte, to netip.AddrPort, unsent *counter) (round uint64, ok bool) {
	c, to := socketOf(by, to)
	if c == nil || len(packet) > len(b.bytes) {
		return 0, false
	}
	if b.n == len(b.letters) || b.used+len(packet) > len(b.bytes) {
		b.flush()
	}
	if !c.enter() {
		return 0, false
	}
	l := &b.letters[b.n]
	l.conn, l.unsent, l.b = c, unsent, b.bytes[b.used:b.used+len(packet)]
	l.size = fill(&l.to, to)
	copy(l.b, packet)
	b.n, b.used = b.n+1, b.used+len(packet)
	return b.rounds.Load(), true
}

// socketOf is the socket by which a packet leaves, and to where; nil if it does not leave by one.
func socketOf(by conn, to netip.AddrPort) (*polledConn, netip.AddrPort) {
	if a, ok := by.(*agent); ok {
		if by, to = a.socket(); by == nil {
			return nil, to
		}
	}
	c, _ := by.(*polledConn)
	return c, to
}

// behind is the outbox's, and any goroutine's.
func (b *batch) behind(round uint64, by conn, packet []byte, to netip.AddrPort, unsent *counter) bool {
	if b.rounds.Load() != round {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rounds.Load() != round {
		return false
	}
	b.later = append(b.later, latecomer{by, append([]byte(nil), packet...), to, unsent})
	return true
}

// flush sends what the outbox has, and then what others have put behind that.
func (b *batch) flush() {
	if b.n == 0 {
		return
	}
	letters := b.letters[:b.n]
	for i := range letters {
		l := &letters[i]
		b.ring.send(i, l.conn.fd, l.b, &l.to, l.size)
	}
	_ = b.ring.enter() // the results say what was not sent; who reads next learns of it
	for i := range letters {
		l := &letters[i]
		if r := b.ring.results[i]; r < 0 {
			b.again(l, r)
		}
		l.conn.leave()
		l.conn, l.unsent, l.b = nil, nil, nil
	}
	b.n, b.used = 0, 0
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.later {
		if _, err := l.by.WriteToUDPAddrPort(l.b, l.to); err != nil {
			l.unsent.share()
		}
	}
	b.later = nil
	b.rounds.Add(1)
}

// again sends a packet by a system call of its own if the ring has not, or the error was that of an earlier packet.
func (b *batch) again(l *letter, result int32) {
	if result != pending && result != -int32(unix.ECONNREFUSED) && result != -int32(unix.EINTR) {
		l.unsent.share()
		return
	}
	if _, errno := l.conn.sendto(l.b, &l.to, l.size); errno != 0 {
		l.unsent.share()
	}
}

func (b *batch) close() { b.ring.close() }
