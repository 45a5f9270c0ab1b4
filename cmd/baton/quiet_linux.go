package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// quiet keeps what is typed off the screen, and the process from being suspended with the screen as it is (a Ctrl-Z would
// leave a terminal without cursor). restore undoes that, and forgets what was typed meanwhile.
func quiet(f *os.File) (restore func()) {
	fd := int(f.Fd())
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return func() {}
	}
	now := *was
	now.Lflag &^= unix.ECHO
	now.Cc[unix.VSUSP] = 0                          // _POSIX_VDISABLE
	_ = unix.IoctlSetTermios(fd, unix.TCSETS, &now) // else what is typed is seen
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETSF, was) }
}
