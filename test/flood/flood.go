// Package flood sends INVITEs without a password at an even rate, from one address or as if from many, and counts what comes
// back. It costs little: the datagrams are made beforehand, and nothing of the answers is read.
package flood

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Flood is one socket that sends from any of its addresses.
type Flood struct {
	conn    *net.UDPConn
	to      netip.AddrPort
	message []byte
	ids     []int    // where the message has its number
	from    [][]byte // control messages that give a datagram its source

	sent, sentBytes, heard, heardBytes atomic.Int64
}

// Counts is what a flood has sent and what it was answered.
type Counts struct{ Sent, SentBytes, Heard, HeardBytes int64 }

// network is local to the namespace as a whole once Strangers was called.
const network = "10.79.0.0/16"

// Strangers makes so many addresses of this namespace's own, up to 60,000, and returns them.
func Strangers(n int) ([]netip.Addr, error) {
	if out, err := exec.Command("ip", "route", "replace", "local", network, "dev", "lo").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make %s local: %w: %s", network, err, out)
	}
	var all []netip.Addr
	for i := range n {
		all = append(all, netip.AddrFrom4([4]byte{10, 79, byte((i + 257) >> 8), byte(i + 257)}))
	}
	return all, nil
}

const number = "0123456789abcdef"

// New opens a flood of a server from local addresses, in turn.
func New(to netip.AddrPort, from ...netip.Addr) (*Flood, error) {
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return nil, err
	}
	_ = conn.SetReadBuffer(4 << 20)
	f := &Flood{conn: conn, to: to, message: invite(to)}
	for at := 0; ; {
		i := strings.Index(string(f.message[at:]), number)
		if i < 0 {
			break
		}
		f.ids = append(f.ids, at+i)
		at += i + len(number)
	}
	for _, addr := range from {
		f.from = append(f.from, sourceOf(addr))
	}
	go f.read()
	return f, nil
}

// invite is one as a desk phone writes it.
func invite(to netip.AddrPort) []byte {
	sdp := "v=0\r\no=- 20083 20083 IN IP4 192.168.1.20\r\ns=SDP data\r\nc=IN IP4 192.168.1.20\r\nt=0 0\r\nm=audio 11780 RTP/AVP 0 8 9 101\r\n" +
		"a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:9 G722/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
	return fmt.Appendf(nil, "INVITE sip:102@%s SIP/2.0\r\nVia: SIP/2.0/UDP 192.168.1.20:5060;branch=z9hG4bK%s;rport\r\n"+
		"From: \"101\" <sip:101@%s>;tag=%s\r\nTo: <sip:102@%s>\r\nCall-ID: %s@192.168.1.20\r\nCSeq: 1 INVITE\r\n"+
		"Contact: <sip:101@192.168.1.20:5060>\r\nContent-Type: application/sdp\r\nMax-Forwards: 70\r\nUser-Agent: Yealink SIP-T46S 66.86.0.15\r\n"+
		"Allow: INVITE, INFO, PRACK, ACK, BYE, CANCEL, OPTIONS, NOTIFY, REGISTER, SUBSCRIBE, REFER, PUBLISH, UPDATE, MESSAGE\r\n"+
		"Supported: replaces\r\nContent-Length: %d\r\n\r\n%s", to, number, to, number, to, number, len(sdp), sdp)
}

// sourceOf is the control message of ip(7) that sends from an address.
func sourceOf(addr netip.Addr) []byte {
	b := make([]byte, unix.CmsgSpace(unix.SizeofInet4Pktinfo))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
	h.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
	(*unix.Inet4Pktinfo)(unsafe.Pointer(&b[unix.CmsgLen(0)])).Spec_dst = addr.As4()
	return b
}

// Run sends so many a second for so long, or until it is closed.
func (f *Flood) Run(rate int, length time.Duration) error {
	start := time.Now()
	for i := 0; ; i++ {
		due := time.Duration(i) * time.Second / time.Duration(rate)
		if due >= length {
			return nil
		}
		if wait := due - time.Since(start); wait > 0 {
			time.Sleep(wait) // a millisecond or so: some datagrams are due after it
		}
		switch err := f.one(); {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		}
	}
}

func (f *Flood) one() error {
	n := f.sent.Add(1)
	var id [8]byte
	binary.BigEndian.PutUint64(id[:], uint64(n))
	for _, at := range f.ids {
		hex.Encode(f.message[at:], id[:])
	}
	f.sentBytes.Add(int64(len(f.message)))
	_, _, err := f.conn.WriteMsgUDPAddrPort(f.message, f.from[n%int64(len(f.from))], f.to)
	return err
}

func (f *Flood) read() {
	buf := make([]byte, 4096)
	for {
		n, err := f.conn.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			f.heard.Add(1)
			f.heardBytes.Add(int64(n))
		}
	}
}

// Counts are those until now.
func (f *Flood) Counts() Counts {
	return Counts{f.sent.Load(), f.sentBytes.Load(), f.heard.Load(), f.heardBytes.Load()}
}

// Close ends it.
func (f *Flood) Close() { f.conn.Close() }
