package sip

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// unackedFor is how long, in milliseconds, a connection may have data that its peer does not acknowledge. While there
// is such data the kernel sends no keep-alives, and left alone would go on for a quarter of an hour.
const unackedFor = 25_000

// giveUpUnacked sets the limit on a listener; its connections inherit it.
func giveUpUnacked(_, _ string, c syscall.RawConn) error {
	var err error
	set := func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, unackedFor)
	}
	return errors.Join(c.Control(set), err)
}

// descriptors is how many files the process may have open, 0 = not known. Go raises the soft limit to the hard one.
func descriptors() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	return int(min(l.Cur, 1<<30))
}
