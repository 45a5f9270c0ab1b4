package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// hangups tells of each SIGHUP. When it came because the terminal is gone that the node was started on, and nohup did not
// protect it, it ends the node, as everywhere: else a node that nobody sees would hold the ports.
func hangups(ctx context.Context, stop func()) <-chan struct{} {
	bound := hasTerminal() && !signal.Ignored(syscall.SIGHUP)
	in, out := make(chan os.Signal, 1), make(chan struct{}, 1)
	signal.Notify(in, syscall.SIGHUP)
	go func() {
		defer signal.Stop(in)
		for {
			select {
			case <-ctx.Done():
				return
			case <-in:
			}
			if bound && !hasTerminal() {
				stop()
				return
			}
			select {
			case out <- struct{}{}:
			default: // one is waiting already
			}
		}
	}()
	return out
}

// hasTerminal says whether the process has a controlling terminal.
func hasTerminal() bool {
	f, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	_ = f.Close()
	return true
}
