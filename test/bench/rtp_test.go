package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"golang.org/x/sys/unix"
)

// rtpPort is the port of every leg; its address is its own, out of a network that is local to the namespace as a whole.
const rtpPort = 4000

const frameTicks = 160 // of the timestamp, for 20 ms

const rtpNetwork = "10.78.0.0/16"

// generator speaks and hears for any number of legs over one socket: packets are sent from a leg's address by
// IP_PKTINFO, carry the time of sending, and are stamped by the kernel when they come.
type generator struct {
	fd      int         // not of Go's poller, which would be woken for every packet
	leave   atomic.Bool // the reader shall leave the socket
	reading sync.WaitGroup
	talking sync.WaitGroup // who speaks
	over    atomic.Bool    // nobody shall any more

	sent   atomic.Int64
	heard  atomic.Int64
	window atomic.Bool // packets are counted and timed

	gaps atomic.Pointer[gaps] // nil = not watched

	mu     sync.Mutex
	legs   []*leg
	delays []time.Duration
}

const packetSize = 172 // RTP header and 20 ms of PCMU

// leg is one end of a call as its RTP sees it.
type leg struct {
	addr   netip.Addr
	to     netip.AddrPort
	next   atomic.Pointer[netip.AddrPort]  // where it sends to from now on; nil = to
	frame  [frameHeaders + packetSize]byte // its packet, behind room for the headers of a frame
	headed netip.AddrPort                  // that the headers of its frames are for
	source []byte                          // control message that gives a packet the leg's address
	seq    uint16
	ts     uint32
	tx     *srtp.Context // seals what it sends; nil = it is plain RTP
	header rtp.Header
	sealed []byte
	wired  []byte // with the headers of a frame
}

func newGenerator(t *testing.T) *generator {
	t.Helper()
	out, err := exec.Command("ip", "route", "replace", "local", rtpNetwork, "dev", "lo").CombinedOutput()
	if err != nil {
		t.Fatalf("make %s local: %v: %s", rtpNetwork, err, out)
	}
	must(t, acceptLocal())
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	g := &generator{fd: fd}
	must(t, errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO),         // the kernel numbers what may be cut up, which takes time
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20_000}), // it is looked whether the reader shall leave
		unix.Bind(fd, &unix.SockaddrInet4{Port: rtpPort})))
	g.listen()
	t.Cleanup(func() {
		g.over.Store(true)
		g.hush()
		g.talking.Wait()
		unix.Close(fd)
	})
	return g
}

// listen reads what comes in a goroutine of its own until hush.
func (g *generator) listen() {
	g.leave.Store(false)
	g.reading.Go(g.read)
}

func (g *generator) hush() {
	g.leave.Store(true)
	g.reading.Wait()
}

func (g *generator) newLeg() *leg {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := len(g.legs) + 257
	l := &leg{addr: netip.AddrFrom4([4]byte{10, 78, byte(n >> 8), byte(n)}), wired: make([]byte, frameHeaders)}
	b := l.packet()
	b[0] = 0x80
	binary.BigEndian.PutUint32(b[8:], uint32(n)) // SSRC
	binary.BigEndian.PutUint32(b[20:], uint32(len(g.legs)))
	l.source = sourceOf(l.addr)
	g.legs = append(g.legs, l)
	return l
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

func (l *leg) packet() []byte { return l.frame[frameHeaders:] }

// pack is a leg's next packet; it is good until the one after.
func (l *leg) pack() ([]byte, error) {
	l.seq++
	l.ts += frameTicks
	b := l.packet()
	binary.BigEndian.PutUint16(b[2:], l.seq)
	binary.BigEndian.PutUint32(b[4:], l.ts)
	binary.BigEndian.PutUint64(b[12:], uint64(time.Now().UnixNano()))
	if l.tx == nil {
		return b, nil
	}
	var err error
	l.sealed, err = l.tx.EncryptRTP(l.sealed[:0], b, &l.header)
	return l.sealed, err
}

// pass leaves out the leg's next packet, as one that is lost: what the leg sends keeps to its clock.
func (l *leg) pass() {
	l.seq++
	l.ts += frameTicks
}

// target is where the leg sends to.
func (l *leg) target() netip.AddrPort {
	if next := l.next.Load(); next != nil {
		return *next
	}
	return l.to
}

// send sends a leg's next packet.
func (g *generator) send(l *leg) {
	b, err := l.pack()
	if err != nil {
		return
	}
	to := l.target()
	if unix.Sendmsg(g.fd, b, l.source, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}, 0) == nil && g.window.Load() {
		g.sent.Add(1)
	}
}

// speak sends so many packets of one leg, one each 20 ms.
func (g *generator) speak(l *leg, frames int) {
	g.talking.Add(1)
	defer g.talking.Done()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range frames {
		g.send(l)
		<-tick.C
	}
}

// talk sends 50 packets a second of every leg, evenly spread, for so long.
func (g *generator) talk(legs []*leg, length time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	apart := 20 * time.Millisecond / time.Duration(len(legs))
	start := time.Now()
	for i := 0; ; i++ {
		due := time.Duration(i) * apart
		if due >= length {
			return
		}
		if wait := due - time.Since(start); wait > 0 { // time.Sleep rounds up to a millisecond
			ts := unix.NsecToTimespec(int64(wait))
			unix.Nanosleep(&ts, nil)
		}
		g.send(legs[i%len(legs)])
	}
}

func (g *generator) read() {
	buf, oob := make([]byte, 2048), make([]byte, 128)
	for !g.leave.Load() {
		n, control, _, _, err := unix.Recvmsg(g.fd, buf, oob, 0)
		switch sealed := n - packetSize; {
		case err != nil, !g.window.Load():
			continue
		case sealed == 10, sealed == 16: // the tag of AES_CM and of GCM: what it says is not for the generator
			g.heard.Add(1)
			continue
		case sealed != 0:
			continue
		}
		g.heard.Add(1)
		at := stampOf(oob[:control])
		if w := g.gaps.Load(); w != nil {
			w.heard(binary.BigEndian.Uint32(buf[20:]), int64(binary.BigEndian.Uint64(buf[12:])), at)
			continue
		}
		if at != 0 {
			g.mu.Lock()
			g.delays = append(g.delays, time.Duration(at-int64(binary.BigEndian.Uint64(buf[12:]))))
			g.mu.Unlock()
		}
	}
}

// stampOf is the time at which the kernel had the packet, in ns, 0 if it does not say.
func stampOf(oob []byte) int64 {
	if len(oob) < unix.CmsgLen(16) {
		return 0
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	if h.Level != unix.SOL_SOCKET || h.Type != unix.SO_TIMESTAMPNS {
		return 0
	}
	return (*unix.Timespec)(unsafe.Pointer(&oob[unix.CmsgLen(0)])).Nano()
}

// measured is what a time of talk showed.
type measured struct {
	sent, heard int64
	delays      []time.Duration
}

// measure lets all legs talk; the first two seconds are not counted, at is called at both
// ends of the rest.
func (g *generator) measure(legs []*leg, length time.Duration, at func()) measured {
	g.mu.Lock()
	g.delays = nil
	g.mu.Unlock()
	g.sent.Store(0)
	g.heard.Store(0)
	done := make(chan struct{})
	go func() {
		g.talk(legs, length+2*time.Second+200*time.Millisecond)
		close(done)
	}()
	time.Sleep(2 * time.Second)
	at()
	g.window.Store(true)
	time.Sleep(length)
	g.window.Store(false)
	at()
	<-done
	g.mu.Lock()
	defer g.mu.Unlock()
	return measured{g.sent.Load(), g.heard.Load(), g.delays}
}

// straight has legs send to each other, without a server between them, while f runs.
func straight(legs []*leg, f func()) {
	through := make([]netip.AddrPort, len(legs))
	for i, l := range legs {
		through[i], l.to = l.to, netip.AddrPortFrom(legs[i^1].addr, rtpPort)
	}
	f()
	for i, l := range legs {
		l.to = through[i]
	}
}

// audioAddress is where a description wants its audio.
func audioAddress(sdp []byte) netip.AddrPort {
	var addr netip.Addr
	var port uint64
	for line := range strings.Lines(string(sdp)) {
		if v, ok := strings.CutPrefix(line, "c=IN IP4 "); ok {
			addr, _ = netip.ParseAddr(strings.TrimSpace(v))
		}
		if v, ok := strings.CutPrefix(line, "m=audio "); ok {
			port, _ = strconv.ParseUint(strings.Fields(v)[0], 10, 16)
		}
	}
	return netip.AddrPortFrom(addr, uint16(port))
}

func micro(d time.Duration) string { return fmt.Sprintf("%.0f", float64(d)/float64(time.Microsecond)) }
