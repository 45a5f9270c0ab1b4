//go:build !linux

package load

import "time"

// processorTime is not told here; the wait for processors is.
func processorTime() time.Duration { return 0 }
