package sip

import (
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

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
