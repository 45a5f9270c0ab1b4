package bench

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a mill sends goes to the loopback interface by packet(7), as frames that are whole, like those of devices that are no part of
// this machine: routes and sockets to send them by would take more of the load's time than what is measured does.

// Sizes of the headers before a packet.
const (
	etherHeader  = 14
	ipHeader     = 20
	udpHeader    = 8
	frameHeaders = etherHeader + ipHeader + udpHeader
)

// framed is the leg's next packet as a frame; it is good until the one after.
func (l *leg) framed() ([]byte, error) {
	b, err := l.pack()
	if err != nil {
		return nil, err
	}
	whole := l.frame[:]
	if l.tx != nil {
		l.wired = append(l.wired[:frameHeaders], b...)
		whole = l.wired
	}
	if to := l.target(); to != l.headed {
		l.headed = to
		head(whole, netip.AddrPortFrom(l.addr, rtpPort), to)
	}
	return whole, nil
}

// head writes the headers of a frame. The loopback interface has no addresses of Ethernet; UDP's checksum is left out (RFC 768), for no bit
// is lost there.
func head(whole []byte, from, to netip.AddrPort) {
	binary.BigEndian.PutUint16(whole[12:], unix.ETH_P_IP)
	ip, udp := whole[etherHeader:etherHeader+ipHeader], whole[etherHeader+ipHeader:]
	copy(ip, []byte{0x45, 0})
	binary.BigEndian.PutUint16(ip[2:], uint16(ipHeader+len(udp)))
	binary.BigEndian.PutUint16(ip[6:], 0x4000) // not to be cut up
	ip[8], ip[9], ip[10], ip[11] = 64, unix.IPPROTO_UDP, 0, 0
	src, dst := from.Addr().As4(), to.Addr().As4()
	copy(ip[12:], src[:])
	copy(ip[16:], dst[:])
	sum := uint32(0)
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	binary.BigEndian.PutUint16(udp, from.Port())
	binary.BigEndian.PutUint16(udp[2:], to.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
}

// txRing is one thread's way to the loopback interface: frames in memory that it shares with the kernel (PACKET_TX_RING).
type txRing struct {
	fd   int
	mem  []byte
	next int // the slot for the next frame
}

// A slot has struct tpacket2_hdr and struct virtio_net_hdr before its frame.
const (
	txSlots  = 2 * sendBatch
	txSlot   = 512
	txHeader = 32
	txVirtio = 10
)

func openTxRing() (*txRing, error) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // of no protocol: it receives nothing
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	r := &txRing{fd: fd}
	err = errors.Join(
		unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: lo.Index}),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_TX_RING, &unix.TpacketReq{
			Block_size: txSlots * txSlot, Block_nr: 1, Frame_size: txSlot, Frame_nr: txSlots,
		}))
	if err == nil {
		r.mem, err = unix.Mmap(fd, 0, txSlots*txSlot, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return r, nil
}

func (r *txRing) close() {
	_ = unix.Munmap(r.mem)
	unix.Close(r.fd)
}

// put queues a frame; false: there is no room.
func (r *txRing) put(frame []byte) bool {
	slot := r.mem[r.next*txSlot : (r.next+1)*txSlot]
	status := (*uint32)(unsafe.Pointer(&slot[0]))
	if atomic.LoadUint32(status) != unix.TP_STATUS_AVAILABLE {
		return false
	}
	n := copy(slot[txHeader+txVirtio:], frame)
	binary.NativeEndian.PutUint32(slot[4:], uint32(txVirtio+n)) // tp_len
	binary.NativeEndian.PutUint16(slot[txHeader+2:], uint16(n)) // hdr_len: all of it is copied, so that its room is free again
	atomic.StoreUint32(status, unix.TP_STATUS_SEND_REQUEST)
	r.next = (r.next + 1) % txSlots
	return true
}

// flush sends what is queued.
func (r *txRing) flush() error {
	var errno unix.Errno
	for range 100 {
		_, _, errno = unix.Syscall6(unix.SYS_SENDTO, uintptr(r.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
		if errno == 0 {
			return nil
		}
		if errno != unix.EINTR && errno != unix.EAGAIN && errno != unix.ENOBUFS {
			break
		}
	}
	return os.NewSyscallError("sendto", errno)
}

// acceptLocal has the kernel of this network namespace take frames that come from an address of its own.
func acceptLocal() error {
	for _, name := range []string{"all/rp_filter", "lo/rp_filter"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+name, []byte("0"), 0); err != nil {
			return err
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/conf/lo/accept_local", []byte("1"), 0)
}
