//go:build !linux

package media

// newSockets is the reader of this system.
func newSockets(e *Engine) sockets { return portable{e} }
