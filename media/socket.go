package media

import (
	"errors"
	"net"
	"net/netip"
	"runtime/debug"
	"time"
)

// sockets is the seam between the packet path and what reads packets: the kernel's UDP sockets with a goroutine each here, a test's own
// network, or a reader of many sockets at once. Whatever it is calls receive from one goroutine at a time for each conn.
type sockets interface {
	listen(at netip.AddrPort) (conn, error)
}

// conn is one bound socket.
type conn interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	Close() error
}

// receiver takes one packet, which is its own until it returns.
type receiver func(packet []byte, from netip.AddrPort, now time.Duration)

// maxPacket is the largest packet taken: an Ethernet frame's.
const maxPacket = 1500

// socketBuffer holds seconds of audio, so that a busy machine loses none.
const socketBuffer = 256 << 10

type udpSockets struct{}

func (udpSockets) listen(at netip.AddrPort) (conn, error) {
	network := "udp4"
	if at.Addr().Is6() {
		network = "udp6"
	}
	c, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	_ = c.SetReadBuffer(socketBuffer) // a smaller one only makes loss likelier
	return c, nil
}

// read feeds one socket to receive until it is closed. A panic costs the packet, not the node.
func (e *Engine) read(s *Stream, c conn, receive receiver) {
	defer e.readers.Done()
	buf := make([]byte, maxPacket)
	for failures := 0; failures < 100; failures++ {
		err := e.readAll(c, buf, receive)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		e.log.Warn("media socket", "local", s.endpoint, "err", err)
		time.Sleep(10 * time.Millisecond)
	}
	e.log.Error("media socket given up", "local", s.endpoint)
}

func (e *Engine) readAll(c conn, buf []byte, receive receiver) (err error) {
	defer func() {
		if r := recover(); r != nil {
			e.log.Error("media packet", "err", r, "stack", string(debug.Stack()))
			err = errors.New("panic")
		}
	}()
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		receive(buf[:n], unmapped(from), e.clock())
	}
}

// unmapped is at with an IPv4 address in its short form.
func unmapped(at netip.AddrPort) netip.AddrPort {
	if at.Addr().Is4() {
		return at
	}
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
}
