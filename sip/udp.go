package sip

import (
	"errors"
	"net"
	"net/netip"
	"time"
)

// udpListener is the one UDP socket: what is answered and what is asked goes out of it.
type udpListener struct {
	conn  *net.UDPConn
	local netip.AddrPort
}

const udpBuffer = 4 << 20 // asked of the kernel; it may give less

func listenUDP(addr string) (*udpListener, error) {
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		return nil, err
	}
	conn := c.(*net.UDPConn)
	_ = conn.SetReadBuffer(udpBuffer)
	_ = conn.SetWriteBuffer(udpBuffer)
	return &udpListener{conn, unmap(conn.LocalAddr().(*net.UDPAddr).AddrPort())}, nil
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// serveUDP reads datagrams until the socket is closed. One goroutine reads them, so that they keep their order.
func (a *Agent) serveUDP() {
	buf := make([]byte, maxMessage+1)
	for {
		n, from, err := a.udp.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // nothing a datagram says may end the listener
			time.Sleep(time.Millisecond)
			continue
		}
		if n > maxMessage || keepAlive(buf[:n]) || from.Port() == 0 {
			continue
		}
		flow := Flow{Transport: "udp", Local: a.udp.local, Remote: unmap(from)}
		a.receive(append([]byte(nil), buf[:n]...), flow)
	}
}

// keepAlive tells a datagram that only keeps a NAT's door open: line ends, zeros, or a few bytes of anything.
func keepAlive(b []byte) bool {
	const shortest = 16
	for _, c := range b {
		if c != '\r' && c != '\n' && c != 0 {
			return len(b) < shortest
		}
	}
	return true
}
