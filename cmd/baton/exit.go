package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"baton/config"
)

// Exit statuses, as documented in docs/operate.md.
const (
	exitFailed   = 1 // it was tried and did not work
	exitUsage    = 2 // the command line is wrong
	exitNoNode   = 3 // no node is running there
	exitNotFound = 4 // there is no such user, device or call
	exitConfig   = 5 // the configuration is wrong
	exitBad      = 6 // a device was tested, and something of it does not work
)

// exitError is an error with the status to leave with.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usage is a wrong command line, with where to read how it goes.
func usage(c *cobra.Command, err error) error {
	return &exitError{exitUsage, fmt.Errorf("%w (see \"%s --help\")", err, c.CommandPath())}
}

// status is what the process leaves with.
func status(err error) int {
	var e *exitError
	var wrong config.Errors
	switch {
	case errors.As(err, &e):
		return e.status
	case errors.As(err, &wrong):
		return exitConfig
	case strings.HasPrefix(err.Error(), "unknown command"):
		return exitUsage
	}
	return exitFailed
}

// message is what the person reads: one line for each thing that is wrong. A line about the configuration begins
// with its place, so that an editor can jump there; any other begins with the program's name.
func message(err error) string {
	var wrong config.Errors
	if errors.As(err, &wrong) {
		lines := strings.Split(wrong.Error(), "\n")
		for i, line := range lines {
			lines[i] = clean(line)
		}
		return strings.Join(lines, "\n")
	}
	return "baton: " + strings.TrimSpace(clean(err.Error()))
}

// exactly wants n arguments and says which.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usage(c, fmt.Errorf("%s wants %s", c.CommandPath(), what))
		}
		return nil
	}
}

// atMost wants up to n arguments and says which.
func atMost(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > n {
			return usage(c, fmt.Errorf("%s wants %s", c.CommandPath(), what))
		}
		return nil
	}
}
