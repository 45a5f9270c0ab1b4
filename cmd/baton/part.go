package main

import (
	"context"
	"errors"
	"fmt"
)

// part is something of a node that runs until its context ends.
type part struct {
	name string
	run  func(context.Context) error
}

// runParts starts the parts from the bottom up and then calls ready. When ctx ends or something fails, it stops the
// parts from the top down, each only when all above it have returned. Its error is what failed first.
func runParts(ctx context.Context, ready func() error, parts ...part) error {
	failed := make(chan error, len(parts))
	stops := make([]func(), len(parts))
	for i, p := range parts {
		stops[i] = p.start(context.WithoutCancel(ctx), failed)
	}
	err := ready()
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-failed:
		}
	}
	for i := len(stops) - 1; i >= 0; i-- {
		stops[i]()
	}
	select {
	case later := <-failed:
		return errors.Join(err, later)
	default:
		return err
	}
}

// start runs p in a goroutine of its own; stop ends it and waits for it.
func (p part) start(ctx context.Context, failed chan<- error) (stop func()) {
	own, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := p.run(own)
		stopped := own.Err() != nil
		switch {
		case stopped && (err == nil || errors.Is(err, context.Canceled)):
		case err == nil:
			failed <- fmt.Errorf("%s stopped by itself", p.name)
		default:
			failed <- fmt.Errorf("%s: %w", p.name, err)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
