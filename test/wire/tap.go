package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Heard is one RTP packet as a Tap saw it pass: what of it is in the clear with SRTP too.
type Heard struct {
	At       time.Time // by the kernel
	From, To netip.AddrPort
	PT       byte
	Marker   bool
	Seq      uint16
	TS, SSRC uint32
}

// Tap sees all RTP over UDP, plain or SRTP, that passes between addresses of this machine, without standing in its way. All methods
// may be called from any goroutine.
type Tap struct {
	socket *os.File
	done   chan struct{}

	mu  sync.Mutex
	log []Heard
}

// Listen begins to listen in the namespace of the calling thread. It needs the rights of root there.
func Listen() (*Tap, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0) // nothing comes before the filter stands
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	t := &Tap{socket: os.NewFile(uintptr(fd), "tap"), done: make(chan struct{})}
	if err := t.bind(fd); err != nil {
		t.socket.Close()
		return nil, err
	}
	go t.read()
	return t, nil
}

func (t *Tap) bind(fd int) error {
	lo, err := net.InterfaceByName("lo") // by which the kernel delivers between its own addresses
	if err != nil {
		return err
	}
	filter := []unix.SockFilter{ // UDP over IPv4, or over IPv6 without further headers
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: 4},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 4, Jt: 2},
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 6},
		{Code: unix.BPF_JMP | unix.BPF_JA, K: 1},
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 9},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.IPPROTO_UDP, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: snap},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	return errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: swapped(unix.ETH_P_ALL), Ifindex: lo.Index}),
	)
}

func swapped(n uint16) uint16 { return n<<8 | n>>8 }

// snap is enough for the headers of IPv6, UDP and RTP.
const snap = 80

func (t *Tap) read() {
	defer close(t.done)
	raw, err := t.socket.SyscallConn()
	if err != nil {
		return
	}
	b, control := make([]byte, snap), make([]byte, 64)
	for {
		var n, nc int
		var from unix.Sockaddr
		failed := raw.Read(func(fd uintptr) bool {
			n, nc, _, from, err = unix.Recvmsg(int(fd), b, control, 0)
			return !errors.Is(err, unix.EAGAIN)
		})
		if failed != nil || err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if err != nil || !ok || link.Pkttype == unix.PACKET_OUTGOING { // each is seen twice: as it leaves and as it comes
			continue
		}
		if h, ok := parse(b[:n]); ok {
			h.At = stamp(control[:nc])
			t.mu.Lock()
			t.log = append(t.log, h)
			t.mu.Unlock()
		}
	}
}

// stamp is when the kernel had a packet.
func stamp(control []byte) time.Time {
	all, err := unix.ParseSocketControlMessage(control)
	if err == nil && len(all) == 1 && all[0].Header.Type == unix.SO_TIMESTAMPNS && len(all[0].Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
		ts := (*unix.Timespec)(unsafe.Pointer(&all[0].Data[0]))
		return time.Unix(ts.Unix())
	}
	return time.Now()
}

// parse reads a datagram's headers; false for what is no RTP (RFC 5761 §4, RFC 7983).
func parse(b []byte) (h Heard, ok bool) {
	var from, to netip.Addr
	switch {
	case len(b) >= 20 && b[0]>>4 == 4 && len(b) >= int(b[0]&15)*4:
		from, to = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		b = b[int(b[0]&15)*4:]
	case len(b) >= 40 && b[0]>>4 == 6:
		from, to = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		b = b[40:]
	}
	if len(b) < 20 {
		return h, false
	}
	h.From = netip.AddrPortFrom(from, binary.BigEndian.Uint16(b))
	h.To = netip.AddrPortFrom(to, binary.BigEndian.Uint16(b[2:]))
	b = b[8:]
	h.PT, h.Marker = b[1]&0x7f, b[1]&0x80 != 0
	h.Seq, h.TS, h.SSRC = binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	return h, b[0]>>6 == 2 && (b[1] < 192 || b[1] > 223)
}

// Packets are those seen since a time that ok takes, in the order in which they passed.
func (t *Tap) Packets(since time.Time, ok func(Heard) bool) []Heard {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(t.log), func(h Heard) bool { return h.At.Before(since) || !ok(h) })
}

// Close ends it.
func (t *Tap) Close() {
	t.socket.Close()
	<-t.done
}
