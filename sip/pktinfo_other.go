//go:build !linux

package sip

import (
	"net"
	"net/netip"
)

// Elsewhere than on Linux the kernel chooses an answer's source address.

func wantAddress(*net.UDPConn)         {}
func sentTo([]byte) netip.Addr         { return netip.Addr{} }
func sendFrom(netip.Addr, bool) []byte { return nil }

const addressBuffer = 0
