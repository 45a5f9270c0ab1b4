package media

import (
	"crypto/rand"
	"encoding/base64"
	mrand "math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
)

// RTCP ends at each leg: baton reports as a sender and receiver of its own, and believes what the peer reports of baton's line. Where sound goes
// straight from one peer to the other their RTCP is passed on instead (direct.go).

const (
	reportTick  = 250 * time.Millisecond // how often it is looked whose report is due
	reportEvery = 5 * time.Second        // mean, RFC 3550 §6.2
)

// ctrl is a stream's RTCP session.
type ctrl struct {
	// for anybody
	last        atomic.Int64 // when RTCP was last heard
	rtt         atomic.Int64
	theirLost   atomic.Int64
	theirJitter atomic.Uint32 // ticks of the line's clock
	theirSpan   atomic.Uint32 // numbers of the line from its first to the highest that was heard
	reported    atomic.Bool   // they have said anything of the line

	// set once
	cname string

	mu                 sync.Mutex
	resumed            bool  // the line was begun by another process: what they have missed before this one is not counted
	lostBefore         int64 // that
	foreign, malformed counter
	forged             counter
	terms              *terms
	opener             *opener
	sealer             *sealer
	buf                []byte         // of what is opened and sealed
	spoke              bool           // RTCP was sent
	source             netip.AddrPort // where RTCP last came from, on its own port
	due                time.Duration
	senderReport       uint32        // middle of the NTP time of the peer's last (LSR)
	senderReportAt     time.Duration // when it came
	about              uint32        // SSRC that the reports below are about
	expected, received int64         // at the last report
	sent               uint64        // packets at the last report
	report             RTCPReport    // the peer's last
	between            [3]time.Duration
	intervals          int    // that between has had
	anew               bool   // an offer came since the peer's last report: it may have begun to count anew
	passed             uint32 // middle of the NTP time of the sender report that was passed on to the peer last
	passedAt           time.Duration
}

func (c *ctrl) init(now time.Duration) {
	var b [12]byte
	_, _ = rand.Read(b[:])                               // never fails
	c.cname = base64.RawURLEncoding.EncodeToString(b[:]) // RFC 7022 §5
	c.due = now + spread(reportEvery/2)
}

// spread draws from half to one and a half of d, so that reports never fall into step (RFC 3550 §6.3.1).
func spread(d time.Duration) time.Duration { return d/2 + mrand.N(d) }

func (c *ctrl) apply(t *terms, g guards) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.terms == nil || c.terms.control != t.control {
		c.source = netip.AddrPort{}
	}
	c.terms, c.opener, c.sealer, c.anew = t, g.opener, g.sealer, true
}

// receiveRTCP takes one packet from the RTCP socket; nothing is sent in answer.
func (s *Stream) receiveRTCP(buf []byte, from netip.AddrPort, now time.Duration, _ outbox) {
	s.control(buf, from, now, false)
}

// control takes one compound packet of the peer; muxed if it came on the RTP port.
func (s *Stream) control(buf []byte, from netip.AddrPort, now time.Duration, muxed bool) {
	packets := s.readControl(buf, from, now, muxed)
	if far := s.past.Load(); far != nil && packets != nil {
		far.passOn(buf, packets, now)
	}
}

// readControl takes what the packet says, and returns it; nil = it is not the peer's.
func (s *Stream) readControl(buf []byte, from netip.AddrPort, now time.Duration, muxed bool) []rtcp.Packet {
	c := &s.ctrl
	c.mu.Lock()
	defer c.mu.Unlock()
	buf, ok := s.mayControl(buf, from, now)
	if !ok {
		return nil
	}
	packets, err := rtcp.Unmarshal(buf)
	if err != nil {
		c.malformed.inc()
		return nil
	}
	if !muxed {
		c.source = from
	}
	c.last.Store(int64(now))
	c.note(packets, s.engine.wall(now))
	for _, p := range packets {
		switch p := p.(type) {
		case *rtcp.SenderReport:
			if p.SSRC == s.ear.reception.ssrc.Load() {
				c.senderReport, c.senderReportAt = uint32(p.NTPTime>>16), now
			}
			s.reported(p.Reports, now)
		case *rtcp.ReceiverReport:
			s.reported(p.Reports, now)
		}
	}
	return packets
}

// mayControl opens RTCP, and says whether it is the peer's: by its tag, or without SRTP by the address that it came from.
func (s *Stream) mayControl(b []byte, from netip.AddrPort, now time.Duration) ([]byte, bool) {
	c := &s.ctrl
	switch {
	case c.terms == nil:
		c.foreign.inc()
		return nil, false
	case !isRTCP(b):
		c.malformed.inc()
		return nil, false
	case c.opener != nil:
		b, ok := c.opener.openRTCP(c.scratch(), b, now)
		if !ok {
			c.forged.inc()
		}
		return b, ok
	case c.terms.security != Clear || !s.reportsFrom(from):
		c.foreign.inc()
		return nil, false
	}
	return b, true
}

// scratch is the session's own buffer.
func (c *ctrl) scratch() []byte {
	if c.buf == nil {
		c.buf = make([]byte, 0, 256) // more than a report has
	}
	return c.buf
}

// reportsFrom says whether plain RTCP from this address is the peer's: the IP of its signalling, its SDP or its latched RTP.
func (s *Stream) reportsFrom(from netip.AddrPort) bool {
	t, ip := s.ctrl.terms, from.Addr()
	if ip == t.peer || ip == t.remote.Addr() || ip == t.control.Addr() {
		return true
	}
	at := s.ear.latch.source.Load()
	return at != nil && at.from.Addr() == ip
}

// reported takes what the peer says of our line.
func (s *Stream) reported(blocks []rtcp.ReceptionReport, now time.Duration) {
	c := &s.ctrl
	for _, b := range blocks {
		if !s.reportsOn(b.SSRC) {
			continue
		}
		lost := int64(int32(b.TotalLost<<8) >> 8) // 24 bits, signed
		if c.resumed && !c.countAnew(s, b.LastSequenceNumber, lost) {
			continue
		}
		c.theirLost.Store(lost - c.lostBefore)
		c.theirJitter.Store(b.Jitter)
		c.theirSpan.Store(b.LastSequenceNumber - s.line.base.Load() + 1)
		c.reported.Store(true)
		if rtt := s.roundTrip(b, now); rtt > 0 {
			c.rtt.Store(int64(rtt))
		}
	}
}

// countAnew has the peer's figures begin where this process has begun to send; false as long as it has heard nothing of that.
func (c *ctrl) countAnew(s *Stream, highest uint32, lost int64) bool {
	if s.line.first.Load() == 0 || int16(uint16(highest)-uint16(s.line.base.Load())) < 0 {
		return false
	}
	s.line.base.Store(highest)
	c.resumed, c.lostBefore = false, lost
	return true
}

// ntp is the 64-bit NTP time (RFC 3550 §4).
func ntp(t time.Time) uint64 {
	const since1900 = 2208988800
	sec := uint64(t.Unix() + since1900)
	return sec<<32 | uint64(t.Nanosecond())<<32/uint64(time.Second)
}

// report sends what is due on all streams.
func (e *Engine) report(now time.Duration) {
	for _, s := range e.open() {
		s.report(now)
	}
}

func (s *Stream) report(now time.Duration) {
	defer s.engine.survive("RTCP report")
	if s.ice != nil {
		s.ice.tick(now)
	}
	c := &s.ctrl
	c.mu.Lock()
	defer c.mu.Unlock()
	if now < c.due || c.terms == nil {
		return
	}
	c.due = now + spread(reportEvery)
	if s.under.Load() > 0 { // the peer has the reports of who talks to it
		return
	}
	s.sendRTCP(s.account(now))
}

// goodbye ends the stream's session (RFC 3550 §6.6), if anything was sent in it: who never spoke must not take his leave
// (§6.3.7).
func (s *Stream) goodbye(now time.Duration) {
	c := &s.ctrl
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.terms == nil || !c.spoke && s.line.first.Load() == 0 {
		return
	}
	s.sendRTCP(append(s.account(now), &rtcp.Goodbye{Sources: []uint32{s.line.ssrc.Load()}}))
}

// account is a sender report if anything was sent since the last one, else a receiver report, and the CNAME.
func (s *Stream) account(now time.Duration) []rtcp.Packet {
	c := &s.ctrl
	name := rtcp.NewCNAMESourceDescription(s.line.ssrc.Load(), c.cname)
	blocks := s.receptionReport(now)
	sr, ok := s.line.report(s.engine.wall(now), now)
	if !ok || uint64(sr.PacketCount) == c.sent {
		return []rtcp.Packet{&rtcp.ReceiverReport{SSRC: s.line.ssrc.Load(), Reports: blocks}, name}
	}
	c.sent = uint64(sr.PacketCount)
	sr.Reports = blocks
	return []rtcp.Packet{sr, name}
}

// report says which timestamp of the line belongs to now; true across every splice because it is read off the line's own grid.
func (l *line) report(wall time.Time, now time.Duration) (*rtcp.SenderReport, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle()
	return &rtcp.SenderReport{
		SSRC: l.ssrc.Load(), NTPTime: ntp(wall), RTPTime: l.clockAt(now),
		PacketCount: uint32(l.sent.Load()), OctetCount: uint32(l.octets.Load()),
	}, l.started
}

// receptionReport is the block about what is heard (RFC 3550 §6.4.1, A.3).
func (s *Stream) receptionReport(now time.Duration) []rtcp.ReceptionReport {
	s.ear.catchUp()
	c, r := &s.ctrl, &s.ear.reception
	if r.received.Load() == 0 {
		return nil
	}
	if ssrc := r.ssrc.Load(); ssrc != c.about {
		c.about, c.expected, c.received = ssrc, 0, 0
	}
	received := int64(r.received.Load())
	lost := r.missing()
	expected := received + lost
	b := rtcp.ReceptionReport{
		SSRC: c.about, TotalLost: uint32(min(max(lost, 0), 0x7fffff)), LastSequenceNumber: r.highest.Load(),
		Jitter: uint32(r.jitter.Load() >> 4), LastSenderReport: c.senderReport,
	}
	if interval := expected - c.expected; interval > 0 {
		b.FractionLost = uint8(min(max(interval-(received-c.received), 0)*256/interval, 255))
	}
	c.expected, c.received = expected, received
	if c.senderReport != 0 {
		b.Delay = uint32(ticks(now-c.senderReportAt, 65536))
	}
	return []rtcp.ReceptionReport{b}
}

// sendRTCP sends a compound packet to the peer: to where its RTCP comes from, until then to its SDP address; with rtcp-mux over the RTP port.
func (s *Stream) sendRTCP(packets []rtcp.Packet) {
	c := &s.ctrl
	b, err := rtcp.Marshal(packets)
	if err != nil {
		return // only lists too long for the format could fail
	}
	if b, ok := c.protect(b); ok {
		s.writeRTCP(b)
	}
}

// protect seals what goes out; false while there are no keys, or no more packets may be sealed with them.
func (c *ctrl) protect(b []byte) ([]byte, bool) {
	if c.sealer == nil {
		return b, c.terms.security == Clear
	}
	return c.sealer.sealRTCP(c.scratch(), b)
}

func (s *Stream) writeRTCP(b []byte) {
	c := &s.ctrl
	from, to := s.rtcp, c.terms.control
	switch {
	case s.ice != nil, c.terms.control == c.terms.remote:
		from, to = s.rtp, s.dest(c.terms)
	case c.source.IsValid():
		to = c.source
	}
	if to.IsValid() && !s.mute(s.engine.clock()) {
		c.spoke = true
		_, _ = from.WriteToUDPAddrPort(b, to) // lost reports are made up for by the next
	}
}
