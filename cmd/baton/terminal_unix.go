//go:build unix

package main

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// isTerminal says whether f is one.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	return err == nil
}

// terminalSize is the size of a terminal in columns and lines; one that does not know its own has 80 by 24.
func terminalSize(f *os.File) (width, height int) {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 || size.Row == 0 {
		return fallbackWidth, 24
	}
	return int(size.Col), int(size.Row)
}

// resized tells of every change of the terminal's size.
func resized() (changes chan os.Signal, stop func()) {
	changes = make(chan os.Signal, 1)
	signal.Notify(changes, unix.SIGWINCH)
	return changes, func() { signal.Stop(changes) }
}
