package sip

import (
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// readBuffer asks for a buffer of so many bytes, beyond the kernel's usual limit where the process may: what comes while
// the node is not running, for 40 ms of a flood, must not push out what devices send.
func readBuffer(c *net.UDPConn, size int) {
	raw, err := c.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) })
	}
	if err != nil {
		_ = c.SetReadBuffer(size)
	}
}

// What SO_MEMINFO tells of a socket, by place (linux/sock_diag.h).
const (
	meminfoDrops = 8
	meminfoAll   = 9
)

// kernelDrops is how many datagrams the kernel has dropped because the socket's buffer was full, 0 where it does not say.
func kernelDrops(c *net.UDPConn) uint64 {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	var info [meminfoAll]uint32
	_ = raw.Control(func(fd uintptr) {
		size := uint32(unsafe.Sizeof(info))
		_, _, _ = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	})
	return uint64(info[meminfoDrops])
}
