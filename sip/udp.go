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
	both  bool // an IPv6 socket, which takes IPv4 too
}

const udpBuffer = 4 << 20 // asked of the kernel; it may give less

func listenUDP(addr string) (*udpListener, error) {
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		return nil, err
	}
	conn := c.(*net.UDPConn)
	readBuffer(conn, udpBuffer)
	_ = conn.SetWriteBuffer(udpBuffer)
	bound := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	u := &udpListener{conn: conn, local: unmap(bound), both: bound.Addr().Is6()}
	if u.any() {
		wantAddress(conn)
	}
	return u, nil
}

// any says that the listener is on every address of the machine.
func (u *udpListener) any() bool { return u.local.Addr().IsUnspecified() }

// at is our end of a flow whose datagrams are sent to ip.
func (u *udpListener) at(ip netip.Addr) netip.AddrPort {
	if !u.any() || !ip.IsValid() || ip.IsMulticast() || ip == broadcast {
		return u.local
	}
	return netip.AddrPortFrom(ip, u.local.Port())
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// has says that local, our end of a flow, is this listener.
func (u *udpListener) has(local netip.AddrPort) bool {
	return local == u.local || (u.any() && local.Port() == u.local.Port())
}

// send writes a datagram, from the address that the flow began at as long as the machine has it.
func (u *udpListener) send(f Flow, data []byte) error {
	if from := f.Local.Addr(); u.any() && from.IsValid() && !from.IsUnspecified() {
		if _, _, err := u.conn.WriteMsgUDPAddrPort(data, sendFrom(from, u.both), f.Remote); err == nil {
			return nil
		}
	}
	_, err := u.conn.WriteToUDPAddrPort(data, f.Remote)
	return err
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// serveUDP reads datagrams until the socket is closed. One goroutine reads them, so that they keep their order.
func (a *Agent) serveUDP() {
	buf, oob := make([]byte, MaxMessage+1), make([]byte, addressBuffer)
	for {
		n, told, _, from, err := a.udp.conn.ReadMsgUDPAddrPort(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // nothing a datagram says may end the listener
			time.Sleep(time.Millisecond)
			continue
		}
		if n > MaxMessage || keepAlive(buf[:n]) || from.Port() == 0 {
			continue
		}
		flow := Flow{Transport: "udp", Local: a.udp.at(sentTo(oob[:told])), Remote: unmap(from)}
		if a.admits(buf[:n], flow) {
			a.receive(buf[:n], flow)
		}
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
