//go:build !linux

package sip

import "net"

// readBuffer asks for a buffer of so many bytes; the system may give less.
func readBuffer(c *net.UDPConn, size int) { _ = c.SetReadBuffer(size) }

// kernelDrops is not told here.
func kernelDrops(*net.UDPConn) uint64 { return 0 }
