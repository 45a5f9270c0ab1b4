package media

import (
	"errors"
	"net"
	"net/netip"
	"runtime/debug"
	"time"
)

// sockets is the seam between the packet path and what reads packets: the kernel's UDP sockets with a goroutine each here, a test's own
// network, or a reader of many sockets at once.
type sockets interface {
	// listen binds a socket and gives what arrives to receive, from one goroutine at a time, until it is closed.
	listen(at netip.AddrPort, receive receiver) (conn, error)
}

// tick is for how long packets may wait to be read together; 0 = each is read at once.
func (e *Engine) tick() time.Duration {
	if s, ok := e.sockets.(interface{ tick() time.Duration }); ok {
		return s.tick()
	}
	return 0
}

// conn is one bound socket.
type conn interface {
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	Close() error
}

// receiver takes one packet, which is its own until it returns, and the outbox of who has read it; nil = none.
type receiver func(packet []byte, from netip.AddrPort, now time.Duration, out outbox)

// maxPacket is the largest packet taken: an Ethernet frame's.
const maxPacket = 1500

// socketBuffer holds seconds of audio, so that a busy machine loses none. The kernel counts some 800 bytes for a packet of 20 ms:
// enoughBuffer is five seconds.
const (
	socketBuffer = 256 << 10
	enoughBuffer = 200_000
)

// portable reads with a goroutine for each socket.
type portable struct{ e *Engine }

func (r portable) listen(at netip.AddrPort, receive receiver) (conn, error) {
	network := "udp4"
	if at.Addr().Is6() {
		network = "udp6"
	}
	c, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	_ = c.SetReadBuffer(socketBuffer) // a smaller one only makes loss likelier
	r.e.readers.Go(func() { r.serve(c, receive) })
	return c, nil
}

// serve reads a socket until it is closed. A panic costs the packet, not the node.
func (r portable) serve(c *net.UDPConn, receive receiver) {
	buf := make([]byte, maxPacket+1)
	for range 100 {
		err := r.read(c, buf, receive)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		r.e.log.Warn("media socket", "local", c.LocalAddr(), "err", err)
		time.Sleep(10 * time.Millisecond)
	}
	r.e.log.Error("media socket given up", "local", c.LocalAddr())
}

func (r portable) read(c *net.UDPConn, buf []byte, receive receiver) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.e.log.Error("media packet", "err", p, "stack", string(debug.Stack()))
			err = errors.New("panic")
		}
	}()
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		receive(buf[:n], unmapped(from), r.e.clock(), nil)
	}
}

// unmapped is at with an IPv4 address in its short form.
func unmapped(at netip.AddrPort) netip.AddrPort {
	if at.Addr().Is4() {
		return at
	}
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
}
