package media

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// polled reads all sockets in few loops (loop_linux.go): a socket costs no goroutine and no buffer. The sockets are not Go's, so that the
// runtime is not woken for them as well.
type polled struct {
	e     *Engine
	conns fdTable
	keen  bool // its loops always tick

	batched atomic.Bool // packets are read and sent together while a loop ticks, as far as is known
	asked   sync.Once   // whether they can be

	mu    sync.Mutex // what calls do; the packet path never takes it
	loops []*loop
}

// fdTable finds a socket by its descriptor without a lock; it grows in pages and never shrinks.
type fdTable [1024]atomic.Pointer[fdPage]

type fdPage [1024]atomic.Pointer[polledConn]

func (t *fdTable) get(fd int) *polledConn {
	if page := t.page(fd); page != nil {
		return page[fd%len(page)].Load()
	}
	return nil
}

func (t *fdTable) page(fd int) *fdPage {
	if i := fd / len(fdPage{}); i >= 0 && i < len(t) {
		return t[i].Load()
	}
	return nil
}

// set is called under polled.mu. False says that the descriptor is beyond a million.
func (t *fdTable) set(fd int, c *polledConn) bool {
	i := fd / len(fdPage{})
	if i >= len(t) {
		return false
	}
	if t[i].Load() == nil {
		t[i].Store(new(fdPage))
	}
	t[i].Load()[fd%len(fdPage{})].Store(c)
	return true
}

// polledConn is one UDP socket.
type polledConn struct {
	p       *polled
	loop    *loop
	local   netip.AddrPort
	receive receiver

	held  bool         // the next packet is read already; of the loop's goroutine
	burst atomic.Int32 // more packets that are read before another socket has its turn

	fd    int
	users atomic.Int64 // system calls that use the number, twice each; odd = it is closed, and the last user gives it back
}

// newSockets is the reader of this system.
func newSockets(e *Engine) sockets { return newPolled(e, loops()) }

func newPolled(e *Engine, loops int) *polled {
	p := &polled{e: e}
	p.batched.Store(true)
	for range loops {
		p.loops = append(p.loops, &loop{p: p})
	}
	return p
}

func (p *polled) listen(at netip.AddrPort, receive receiver) (conn, error) {
	fd, err := bound(at)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: "udp", Addr: net.UDPAddrFromAddrPort(at), Err: err}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.loops[int(at.Port())/2%len(p.loops)] // a pair stays together
	if err := l.start(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	c := &polledConn{p: p, loop: l, local: at, receive: receive, fd: fd}
	l.open++
	if !p.conns.set(fd, c) {
		return nil, errors.Join(fmt.Errorf("media socket: too many open files"), c.closeLocked())
	}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
		return nil, errors.Join(fmt.Errorf("media socket: %w", err), c.closeLocked())
	}
	return c, nil
}

// tick is that of the loops while one of them ticks.
func (p *polled) tick() time.Duration {
	for _, l := range p.loops {
		if l.ticking.Load() {
			return tick
		}
	}
	return 0
}

// bound makes a socket that never blocks.
func bound(at netip.AddrPort) (int, error) {
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16(), ZoneId: zone(at.Addr())})
	if at.Addr().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	if family == unix.AF_INET6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if family == unix.AF_INET { // the kernel looks for no identification then, which is 3 % of a packet's cost; no audio needs fragments
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	}
	if !ample() {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer) // a smaller one only makes loss likelier
	}
	if err := unix.Bind(fd, sa); err != nil {
		unix.Close(fd)
		return 0, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// ample says that a socket has room for seconds of audio without being asked to: four system calls less for each call.
var ample = sync.OnceValue(func() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	size, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	return err == nil && size >= enoughBuffer
})

func zone(a netip.Addr) uint32 {
	if a.Zone() == "" {
		return 0
	}
	if i, err := net.InterfaceByName(a.Zone()); err == nil {
		return uint32(i.Index)
	}
	return 0
}

// enter keeps the number from being given to another socket until leave; false: the socket is closed.
func (c *polledConn) enter() bool {
	for {
		n := c.users.Load()
		if n&1 != 0 {
			return false
		}
		if c.users.CompareAndSwap(n, n+2) {
			return true
		}
	}
}

func (c *polledConn) leave() {
	if c.users.Add(-2) == 1 {
		unix.Close(c.fd)
	}
}

// read takes one packet, or those that are there of a socket that many peers send to, and says how many; where there are more epoll says so
// again.
func (c *polledConn) read(buf []byte, out outbox) (packets int) {
	for range 1 + c.burst.Load() {
		n, from, errno := c.recvfrom(buf)
		if errno != 0 {
			return packets
		}
		packets++
		c.hear(buf[:n], from, c.p.e.clock(), out)
	}
	return packets
}

// hear has a packet received. A panic costs the packet, not the node.
func (c *polledConn) hear(b []byte, from netip.AddrPort, now time.Duration, out outbox) {
	defer c.p.e.survive("media packet")
	c.receive(b, from, now, out)
}

// sharedBurst is how many packets of a socket with many peers are read in one go.
const sharedBurst = 31

// waiting says whether another packet has come; of the loop's goroutine.
func (c *polledConn) waiting() bool {
	if c.held {
		return true
	}
	if !c.enter() {
		return false
	}
	defer c.leave()
	n, err := unix.IoctlGetInt(c.fd, unix.TIOCINQ) // the size of the next
	return err == nil && n > 0
}

// hurry has all that wait read in one go, or one at a time.
func (c *polledConn) hurry(on bool) {
	if on {
		c.burst.Store(sharedBurst)
	} else {
		c.burst.Store(0)
	}
}

// SetReadBuffer makes room for what many peers send, as far as the system allows, and has it read in bursts.
func (c *polledConn) SetReadBuffer(bytes int) error {
	if !c.enter() {
		return net.ErrClosed
	}
	defer c.leave()
	c.burst.Store(sharedBurst)
	if unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes) == nil {
		return nil
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bytes))
}

func (c *polledConn) recvfrom(buf []byte) (int, netip.AddrPort, syscall.Errno) {
	var sa unix.RawSockaddrInet6 // the larger of the two
	size := uint32(unsafe.Sizeof(sa))
	if !c.enter() {
		return 0, netip.AddrPort{}, unix.EBADF
	}
	defer c.leave()
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(c.fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0,
		uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return 0, netip.AddrPort{}, errno
	}
	return int(n), addressOf(&sa), 0
}

// addressOf reads a socket address of either family. The port stands in network order.
func addressOf(sa *unix.RawSockaddrInet6) netip.AddrPort {
	port := func(p *uint16) uint16 {
		b := (*[2]byte)(unsafe.Pointer(p))
		return uint16(b[0])<<8 | uint16(b[1])
	}
	if sa.Family == unix.AF_INET {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port(&v4.Port))
	}
	return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), port(&sa.Port))
}

// WriteToUDPAddrPort sends one datagram. It does not wait for a full queue: a late packet is a lost one.
func (c *polledConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	var sa unix.RawSockaddrInet6
	size := fill(&sa, to)
	if !c.enter() {
		return 0, net.ErrClosed
	}
	defer c.leave()
	n, errno := c.sendto(b, &sa, size)
	if errno != 0 {
		return 0, errno
	}
	return n, nil
}

// sendto is that system call; between enter and leave.
func (c *polledConn) sendto(b []byte, to *unix.RawSockaddrInet6, size uintptr) (int, syscall.Errno) {
	for range 2 { // an ICMP error of the packet before is told once
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(c.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0,
			uintptr(unsafe.Pointer(to)), size)
		if errno == 0 {
			return int(n), 0
		}
		if errno != unix.ECONNREFUSED && errno != unix.EINTR {
			return 0, errno
		}
	}
	return 0, unix.ECONNREFUSED
}

// fill writes a socket address of the family of to, and gives its size.
func fill(sa *unix.RawSockaddrInet6, to netip.AddrPort) uintptr {
	port := func(p *uint16) {
		b := (*[2]byte)(unsafe.Pointer(p))
		b[0], b[1] = byte(to.Port()>>8), byte(to.Port())
	}
	if ip := to.Addr().Unmap(); ip.Is4() {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		v4.Family, v4.Addr = unix.AF_INET, ip.As4()
		port(&v4.Port)
		return unsafe.Sizeof(*v4)
	}
	*sa = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: to.Addr().As16(), Scope_id: zone(to.Addr())}
	port(&sa.Port)
	return unsafe.Sizeof(*sa)
}

// Close ends the socket; with its last one a loop ends.
func (c *polledConn) Close() error {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	return c.closeLocked()
}

func (c *polledConn) closeLocked() error {
	p := c.p
	n := c.users.Or(1)
	if n&1 != 0 {
		return net.ErrClosed
	}
	p.conns.set(c.fd, nil) // its close takes it out of the epoll (epoll(7), Q6)
	c.loop.closed()
	if n == 0 {
		return unix.Close(c.fd)
	}
	return nil // by leave
}
