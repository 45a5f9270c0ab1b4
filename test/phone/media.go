package phone

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Packet is one RTP packet as it was heard.
type Packet struct {
	At      time.Time // the kernel's stamp of its arrival
	From    netip.AddrPort
	Seq     uint16
	TS      uint32
	SSRC    uint32
	PT      uint8
	Marker  bool
	Size    int       // of the payload
	Source  uint16    // who spoke: the source number of the phone that sent the frame, 0 for a tone or a voice
	Counter uint32    // the frame's number at its source
	Sent    time.Time // when its source sent it
	Exact   bool      // the payload's head came through unchanged
	Event   *Event    // a telephone-event, RFC 4733
}

// SenderReport is what an RTCP sender report said (RFC 3550 §6.4.1).
type SenderReport struct {
	At      time.Time
	SSRC    uint32
	NTP     time.Time
	TS      uint32
	Packets uint32
}

// Media is the sound of one call: it sends numbered frames on the clock and records what it hears.
type Media struct {
	// set once
	source uint16
	phase  time.Duration
	ssrc   uint32
	tsBase uint32
	quiet  bool // no recording: for runs with many calls

	// owned by ticker under its lock
	frame int64

	mu      sync.Mutex
	cond    *sync.Cond
	conn    *net.UDPConn
	rtcp    *net.UDPConn
	remote  netip.AddrPort
	control netip.AddrPort // where it sends RTCP
	hears   func(netip.AddrPort) bool
	counts  map[uint32]*counted // what was heard, by source
	packets uint32
	told    time.Time // by RTCP
	cut     bool      // not even RTCP goes out
	codec   Codec     // sent
	recv    map[uint8]Codec
	keys    Codec // telephone-event, as sent
	sending bool
	muted   bool
	fresh   bool // the next packet begins a talk spurt
	seq     uint16
	counter uint32
	sent    map[uint32]time.Time
	event   *eventOut
	guard   *guard   // nil = in the clear
	web     *browser // in place of the sockets
	forged  int
	heard   []Packet
	reports []SenderReport
	closed  bool

	readers sync.WaitGroup
}

func openMedia(ip netip.Addr, source uint16, phase time.Duration, quiet bool) (*Media, error) {
	conn, rtcp, err := openPair(ip)
	if err != nil {
		return nil, err
	}
	return newMedia(conn, rtcp, source, phase, quiet), nil
}

// openPair takes an even port and the next one for RTCP at ip.
func openPair(ip netip.Addr) (conn, rtcp *net.UDPConn, err error) {
	for range 200 {
		port := rtpPorts.next()
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, port)))
		if err != nil {
			continue
		}
		rtcp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, port+1)))
		if err != nil {
			conn.Close()
			continue
		}
		if err := stamp(conn); err != nil {
			conn.Close()
			rtcp.Close()
			return nil, nil, err
		}
		return conn, rtcp, nil
	}
	return nil, nil, fmt.Errorf("no free pair of RTP ports at %s", ip)
}

// ports hands out the ports of a range in turn, from anywhere: the next one is that which was used longest ago, as somebody may
// still send to who had it last.
type ports struct {
	first, step, room uint32
	taken             atomic.Uint32
}

func newPorts(first, step, room uint32) *ports {
	p := &ports{first: first, step: step, room: room}
	p.taken.Store(rand.Uint32() >> 1)
	return p
}

func (p *ports) next() uint16 { return uint16(p.first + p.step*(p.taken.Add(1)%p.room)) }

var (
	rtpPorts = newPorts(10000, 2, 4900)
	sipPorts = newPorts(61000, 1, 4500) // above those that the kernel gives out by itself
)

func newMedia(conn, rtcp *net.UDPConn, source uint16, phase time.Duration, quiet bool) *Media {
	m := &Media{
		conn: conn, rtcp: rtcp, source: source, phase: phase, quiet: quiet,
		ssrc: rand.Uint32(), tsBase: rand.Uint32(), seq: uint16(rand.Uint32()),
		recv: map[uint8]Codec{PCMU.PT: PCMU, PCMA.PT: PCMA}, // before the answer, too, which sound may overtake (RFC 3264 §5.1)
		sent: map[uint32]time.Time{}, codec: PCMU, fresh: true,
	}
	m.cond = sync.NewCond(&m.mu)
	m.readers.Add(2)
	go m.read(conn)
	go m.readRTCP(rtcp)
	return m
}

// stamp asks the kernel for the time of each packet's arrival.
func stamp(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
		unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20)
	})
	if err == nil {
		err = failed
	}
	return err
}

// Addr is where the phone hears RTP.
func (m *Media) Addr() netip.AddrPort {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// Source is the number that its frames bear.
func (m *Media) Source() uint16 { return m.source }

// agree sets where to, with which codec and whether the phone sends, and what it understands.
func (m *Media) agree(remote netip.AddrPort, send Codec, recv []Codec, keys Codec, sending bool) {
	m.mu.Lock()
	m.remote, m.codec, m.keys = remote, send, keys
	for _, c := range recv {
		m.recv[c.PT] = c
	}
	was := m.sending
	m.sending = sending && remote.IsValid() && !remote.Addr().IsUnspecified() && remote.Port() != 0
	start := m.sending && !was
	stop := was && !m.sending
	m.fresh = m.fresh || start
	m.mu.Unlock()
	if start {
		ticker.add(m)
	}
	if stop {
		ticker.remove(m)
	}
}

// Mute makes the phone send nothing, or talk again.
func (m *Media) Mute(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.muted = on
	m.fresh = m.fresh || !on
}

// SendAs makes the phone send another codec than the first that was agreed.
func (m *Media) SendAs(c Codec) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.codec = c
}

// SendRaw sends bytes as they are, from the phone's own RTP socket to where its frames go; control from its RTCP socket to the port above.
func (m *Media) SendRaw(b []byte, control bool) error {
	m.mu.Lock()
	to, conn, rtcp := m.remote, m.conn, m.rtcp
	m.mu.Unlock()
	if control {
		to, conn = netip.AddrPortFrom(to.Addr(), to.Port()+1), rtcp
	}
	_, err := conn.WriteToUDPAddrPort(b, to)
	return err
}

func (m *Media) nextAt() time.Time { return grid.Add(m.phase + time.Duration(m.frame)*Frame) }

// sendFrame sends the packet of the present frame; the timestamp goes by the clock, whatever was left out.
func (m *Media) sendFrame() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.muted {
		return
	}
	var buf [12 + frameSize]byte
	if n := m.sendEvent(buf[:]); n > 0 {
		m.transmit(buf[:n])
		return
	}
	m.counter++
	now := time.Now()
	m.header(buf[:], m.codec.PT, m.fresh, m.tsNow(m.codec.Rate))
	frame{source: m.source, counter: m.counter, sent: now.UnixNano()}.write(buf[12:], lawOf(m.codec))
	if !m.quiet {
		m.sent[m.counter] = now
	}
	m.fresh = false
	m.transmit(buf[:])
}

func (m *Media) tsNow(rate int) uint32 {
	return m.tsBase + uint32(m.frame*int64(rate)/int64(time.Second/Frame))
}

func (m *Media) header(b []byte, pt uint8, marker bool, ts uint32) {
	b[0], b[1] = 0x80, pt
	if marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], m.seq)
	binary.BigEndian.PutUint32(b[4:], ts)
	binary.BigEndian.PutUint32(b[8:], m.ssrc)
	m.seq++
	m.packets++
}

func (m *Media) read(conn *net.UDPConn) {
	defer m.readers.Done()
	buf, oob := make([]byte, 2048), make([]byte, 128)
	for {
		n, on, _, from, err := conn.ReadMsgUDPAddrPort(buf, oob)
		if err != nil {
			return
		}
		m.record(buf[:n], stampOf(oob[:on]), netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
	}
}

// stampOf reads the kernel's time out of the control message.
func stampOf(oob []byte) time.Time {
	msgs, err := unix.ParseSocketControlMessage(oob)
	for i := range msgs {
		if err == nil && msgs[i].Header.Type == unix.SO_TIMESTAMPNS && len(msgs[i].Data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(msgs[i].Data)), int64(binary.NativeEndian.Uint64(msgs[i].Data[8:])))
		}
	}
	return time.Now()
}

func (m *Media) record(b []byte, at time.Time, from netip.AddrPort) {
	if len(b) < 12 || b[0]>>6 != 2 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hears != nil && !m.hears(from) {
		return
	}
	b, ok := m.open(b, false)
	if !ok {
		return
	}
	p := Packet{
		At: at, From: from, Marker: b[1]&0x80 != 0, PT: b[1] & 0x7f, Seq: binary.BigEndian.Uint16(b[2:]),
		TS: binary.BigEndian.Uint32(b[4:]), SSRC: binary.BigEndian.Uint32(b[8:]), Size: len(b) - 12,
	}
	m.tally(p.SSRC, p.Seq)
	codec := m.recv[p.PT]
	if codec.event() {
		p.Event = readEvent(b[12:])
	} else if f, exact, ok := readFrame(b[12:], expandOf(codec)); ok {
		p.Source, p.Counter, p.Sent, p.Exact = f.source, f.counter, time.Unix(0, f.sent), exact
	}
	if m.quiet && len(m.heard) > 0 {
		m.heard[0] = p
	} else {
		m.heard = append(m.heard, p)
	}
	m.cond.Broadcast()
}

func (m *Media) readRTCP(conn *net.UDPConn) {
	defer m.readers.Done()
	buf := make([]byte, 2048)
	for {
		n, _, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		m.mu.Lock()
		m.reported(buf[:n])
		m.mu.Unlock()
	}
}

// reported takes an RTCP packet; m.mu is held.
func (m *Media) reported(b []byte) {
	b, ok := m.open(b, true)
	if !ok || len(b) < 28 || b[1] != 200 {
		return
	}
	m.reports = append(m.reports, SenderReport{
		At: time.Now(), SSRC: binary.BigEndian.Uint32(b[4:]), NTP: ntpTime(binary.BigEndian.Uint64(b[8:])),
		TS: binary.BigEndian.Uint32(b[16:]), Packets: binary.BigEndian.Uint32(b[20:]),
	})
}

func ntpTime(v uint64) time.Time {
	const to1970 = 2208988800
	return time.Unix(int64(v>>32)-to1970, int64(v&0xffffffff*1e9>>32))
}

// Heard is everything heard so far, in the order of arrival.
func (m *Media) Heard() []Packet {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Packet(nil), m.heard...)
}

// Reports are the sender reports received so far.
func (m *Media) Reports() []SenderReport {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]SenderReport(nil), m.reports...)
}

// Sent tells when each numbered frame was sent.
func (m *Media) Sent() map[uint32]time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[uint32]time.Time, len(m.sent))
	for n, at := range m.sent {
		all[n] = at
	}
	return all
}

// Await waits for a packet that arrived after since and that want says yes to.
func (m *Media) Await(since time.Time, limit time.Duration, want func(Packet) bool) (Packet, bool) {
	deadline := time.Now().Add(limit)
	timer := time.AfterFunc(limit, func() { m.mu.Lock(); m.cond.Broadcast(); m.mu.Unlock() })
	defer timer.Stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := 0; ; {
		if m.quiet {
			i = 0
		}
		for ; i < len(m.heard); i++ {
			if p := m.heard[i]; p.At.After(since) && want(p) {
				return p, true
			}
		}
		if !time.Now().Before(deadline) || m.closed {
			return Packet{}, false
		}
		m.cond.Wait()
	}
}

// over says that the sound has ended: a browser has nothing to say of it any more.
func (m *Media) over() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}

// close stops sending and listening at once.
func (m *Media) close() {
	ticker.remove(m)
	m.mu.Lock()
	web := m.web
	m.closed, m.sending = true, false
	m.conn.Close()
	m.rtcp.Close()
	m.mu.Unlock()
	if web != nil {
		web.close()
	}
	m.readers.Wait()
	m.mu.Lock()
	m.cond.Broadcast()
	m.mu.Unlock()
}
