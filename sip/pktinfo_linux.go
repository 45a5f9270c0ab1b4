package sip

import (
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"
	"unsafe"
)

// A listener on every address is told by the kernel which of them a datagram was sent to, and answers from that one
// (RFC 3581 §4: the source must be what the request was sent to, or a NAT drops the answer).

// wantAddress has the kernel tell the address (ip(7), ipv6(7)). One of the two fails, by the socket's family.
func wantAddress(conn *net.UDPConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_PKTINFO, 1)
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_RECVPKTINFO, 1)
	})
}

// sentTo reads the address that a datagram was sent to; the zero address if the kernel did not say.
func sentTo(oob []byte) netip.Addr {
	for len(oob) >= syscall.CmsgLen(0) {
		length, level, kind := readControl(oob)
		if length < syscall.CmsgLen(0) || length > len(oob) {
			break
		}
		data := oob[syscall.CmsgLen(0):length]
		switch {
		case level == syscall.IPPROTO_IP && kind == syscall.IP_PKTINFO && len(data) >= 12:
			return netip.AddrFrom4([4]byte(data[8:12])) // ipi_addr
		case level == syscall.IPPROTO_IPV6 && kind == syscall.IPV6_PKTINFO && len(data) >= 20:
			ip := netip.AddrFrom16([16]byte(data[:16])).Unmap()
			if ip.IsLinkLocalUnicast() {
				return netip.Addr{} // needs its interface too: the kernel knows
			}
			return ip
		}
		oob = oob[min(len(oob), syscall.CmsgSpace(length-syscall.CmsgLen(0))):]
	}
	return netip.Addr{}
}

// readControl reads the head of a control message: its whole length, and what it is of.
func readControl(b []byte) (length int, level, kind int32) {
	at := unsafe.Sizeof(uintptr(0))
	if at == 8 {
		length = int(binary.NativeEndian.Uint64(b))
	} else {
		length = int(binary.NativeEndian.Uint32(b))
	}
	return length, int32(binary.NativeEndian.Uint32(b[at:])), int32(binary.NativeEndian.Uint32(b[at+4:]))
}

// sendFrom is the control message that sets a datagram's source address. A socket for both families takes the IPv6 form.
func sendFrom(ip netip.Addr, both bool) []byte {
	if both {
		b := control(syscall.IPPROTO_IPV6, syscall.IPV6_PKTINFO, 20)
		as16 := ip.As16()
		copy(b[syscall.CmsgLen(0):], as16[:])
		return b
	}
	b := control(syscall.IPPROTO_IP, syscall.IP_PKTINFO, 12)
	as4 := ip.As4()
	copy(b[syscall.CmsgLen(0)+4:], as4[:]) // ipi_spec_dst
	return b
}

// control makes an empty control message.
func control(level, kind int32, size int) []byte {
	b := make([]byte, syscall.CmsgSpace(size))
	if unsafe.Sizeof(uintptr(0)) == 8 {
		binary.NativeEndian.PutUint64(b, uint64(syscall.CmsgLen(size)))
	} else {
		binary.NativeEndian.PutUint32(b, uint32(syscall.CmsgLen(size)))
	}
	at := unsafe.Sizeof(uintptr(0))
	binary.NativeEndian.PutUint32(b[at:], uint32(level))
	binary.NativeEndian.PutUint32(b[at+4:], uint32(kind))
	return b
}

const addressBuffer = 128
