//go:build unix

package cluster

import (
	"errors"
	"syscall"
)

// refused says that a machine has answered that nobody listens.
func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
