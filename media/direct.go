package media

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pion/rtcp"
)

// Direct media: a peer's sound goes straight to another peer, past its stream (docs/direct.md). Both streams stay open and stand by. Of such a
// stream only RTCP is left: it still comes here, because that is where the descriptions of both sides want it (RFC 3605), is read, and goes on
// to the other peer as it came. What a peer reports of a source that it hears straight is the proof that the way between the two is open.
//
// Nothing that a phone hears changes when its sound goes another way: a faithful line takes over the SSRC, the numbers and the timestamps of the
// first source that it sends, so that packets that go past it go on where it stopped, and it goes on with them when they come back.

// RTCPReport is what a peer has last said by RTCP of what it hears.
type RTCPReport struct {
	At      time.Time     // when it came; zero = never
	Longest time.Duration // the longest time between two with no offer between them; 0 = there were none
	Sources []ReportBlock
	Steady  time.Duration // the time between two such, if the last three were the same; else 0
	often   bool
	Sent    uint32 // packets that the peer says it has sent; 0 = it has not said
}

// ReportBlock is what a peer reports of one source.
type ReportBlock struct {
	SSRC    uint32
	Highest uint32 // extended sequence number of the newest packet
	Lost    int32
	Jitter  uint32
}

// often is the time between two reports of a peer whose next one need not be waited for.
const often = 1500 * time.Millisecond

// Often says that the next report comes soon, whenever it is looked.
func (r RTCPReport) Often() bool { return r.often && time.Since(r.At) < often }

// Of is what is reported of a source.
func (r RTCPReport) Of(ssrc uint32) (ReportBlock, bool) {
	i := slices.IndexFunc(r.Sources, func(h ReportBlock) bool { return h.SSRC == ssrc })
	if i < 0 {
		return ReportBlock{}, false
	}
	return r.Sources[i], true
}

// Report returns what the peer has last said.
func (s *Stream) Report() RTCPReport {
	s.ctrl.mu.Lock()
	defer s.ctrl.mu.Unlock()
	r := s.ctrl.report
	r.Sources = slices.Clone(r.Sources)
	return r
}

// note keeps a report of the peer's; under c.mu.
func (c *ctrl) note(packets []rtcp.Packet, at time.Time) {
	r := RTCPReport{At: at, Longest: c.report.Longest, Sent: c.report.Sent}
	said := false
	for _, p := range packets {
		switch p := p.(type) {
		case *rtcp.SenderReport:
			said, r.Sent = true, p.PacketCount
			r.hears(p.Reports)
		case *rtcp.ReceiverReport:
			said = true
			r.hears(p.Reports)
		}
	}
	if !said { // some phones open their NAT's port with other RTCP
		return
	}
	if !c.report.At.IsZero() && !c.anew {
		took := at.Sub(c.report.At)
		c.between[c.intervals%len(c.between)] = took
		c.intervals++
		r.Longest = max(r.Longest, took)
	}
	c.anew = false
	if c.intervals >= len(c.between) {
		shortest, longest := slices.Min(c.between[:]), slices.Max(c.between[:])
		if longest-shortest < shortest/30 {
			r.Steady = longest
		}
		r.often = longest < often
	}
	c.report = r
}

func (r *RTCPReport) hears(blocks []rtcp.ReceptionReport) {
	for _, b := range blocks {
		r.Sources = append(r.Sources, ReportBlock{SSRC: b.SSRC, Highest: b.LastSequenceNumber, Lost: int32(b.TotalLost<<8) >> 8, Jitter: b.Jitter})
	}
}

// Newest returns the source that was heard from the peer last, and its newest sequence number; false = none was.
func (s *Stream) Newest() (ssrc uint32, seq uint16, ok bool) {
	s.ear.catchUp()
	r := &s.ear.reception
	return r.ssrc.Load(), uint16(r.highest.Load()), r.received.Load() > 0
}

// Latched returns where the peer's packets come from; zero = none came yet.
func (s *Stream) Latched() netip.AddrPort {
	if at := s.ear.latch.source.Load(); at != nil {
		return at.from
	}
	return netip.AddrPort{}
}

// LastSound returns when RTP was last heard from the peer; zero = never.
func (s *Stream) LastSound() time.Time {
	s.ear.catchUp()
	return s.engine.wall(time.Duration(s.ear.source.last.Load()))
}

// Control returns where the stream takes RTCP.
func (s *Stream) Control() netip.AddrPort { return next(s.endpoint) }

// Adjacent says whether two addresses are in one network: of this machine's, or of those that are named, whose devices reach each other.
func (e *Engine) Adjacent(a, b netip.Addr, named []netip.Prefix) bool {
	in := func(nets []netip.Prefix, at netip.Addr) bool {
		return slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(at) })
	}
	if in(named, a) && in(named, b) {
		return true
	}
	return slices.ContainsFunc(networks(), func(p netip.Prefix) bool { return p.Contains(a) && p.Contains(b) })
}

// networks are those that this machine is in; of one that is larger than a site has (a /8 of a tunnel), only its own /24 or /64 counts, but for
// loopback.
func networks() []netip.Prefix {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var all []netip.Prefix
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		p = netip.PrefixFrom(p.Addr().Unmap().WithZone(""), p.Bits())
		switch least := map[bool]int{true: 16, false: 48}[p.Addr().Is4()]; {
		case p.Addr().IsLoopback() || p.Bits() >= least:
		case p.Addr().Is4():
			p = netip.PrefixFrom(p.Addr(), 24)
		default:
			p = netip.PrefixFrom(p.Addr(), 64)
		}
		all = append(all, p.Masked())
	}
	return all
}

// Bypass tells that the peer's sound goes straight to the peer of far from now on: its RTCP is passed on to there, far says nothing of its own to
// its peer, and that nothing is heard here is no silence. nil = it comes here again.
func (s *Stream) Bypass(far *Stream) {
	was := s.past.Swap(far)
	if was == far {
		return
	}
	if was != nil {
		was.under.Add(-1)
		was.line.standBy(s.engine.clock())
	}
	if far != nil {
		far.replaced(s.ear.reception.ssrc.Load())
		far.under.Add(1)
	}
}

// replaced takes that the peer hears the source of that SSRC straight from now on. It was sent another device's until then, after a move: that one
// takes its leave (RFC 3550 §6.6). There are phones that report on eight sources at the most, and forget none but by that.
func (s *Stream) replaced(ssrc uint32) {
	if was := s.line.ssrc.Load(); ssrc != 0 && was != ssrc && was != s.line.unnamed {
		s.goodbye(s.engine.clock())
	}
	s.straight.Store(ssrc)
}

// Elsewhere tells that the peer's sound goes by a connection of its own that does not lead here, as between two browsers: that nothing is heard here
// is no silence. It is told before the peer stops, and that it has ended when the peer is heard again.
func (s *Stream) Elsewhere(on bool) { s.elsewhere.Store(on) }

// passOn gives RTCP to the peer of far as it came.
func (s *Stream) passOn(b []byte, packets []rtcp.Packet, now time.Duration) {
	c := &s.ctrl
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.terms == nil {
		return
	}
	for _, p := range packets {
		if sr, ok := p.(*rtcp.SenderReport); ok {
			c.passed, c.passedAt = uint32(sr.NTPTime>>16), now
		}
	}
	s.writeRTCP(b)
}

// reportsOn says whether a report of the peer's is about what it is sent: by this line, or straight by the peer of the stream that the line follows.
func (s *Stream) reportsOn(ssrc uint32) bool {
	if ssrc == s.line.ssrc.Load() {
		return true
	}
	straight := s.straight.Load() // 0 = another process has heard it
	return s.under.Load() > 0 && (ssrc == straight || straight == 0)
}

// roundTrip is the time to the peer and back by its answer to a sender report, ours or one that was passed on; under c.mu. 0 = it does not tell.
func (s *Stream) roundTrip(b rtcp.ReceptionReport, now time.Duration) time.Duration {
	c := &s.ctrl
	switch {
	case b.LastSenderReport == 0:
		return 0
	case b.LastSenderReport == c.passed && c.passedAt != 0:
		return max(now-c.passedAt-duration(int64(b.Delay), 65536), 1)
	case s.under.Load() > 0:
		return 0 // by a clock that is not ours
	}
	middle := uint32(ntp(s.engine.wall(now)) >> 16)
	rtt := int32(middle - b.LastSenderReport - b.Delay)
	if rtt < 0 {
		return 0
	}
	return max(time.Duration(int64(rtt)*int64(time.Second)>>16), time.Second>>17) // less than the clock can tell
}

// headStart is by how many numbers a line goes on ahead of what its peer may have heard straight: a source may run ahead of the clock, and goes on
// for a moment.
const headStart = 100

// standBy tells the line that its peer has heard a source straight until now. If it is that source that comes here again, the line goes on as it;
// whatever else comes first is numbered ahead of all that can have been heard.
func (l *line) standBy(now time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recall()
	l.back = true
	if l.started && l.rate > 0 && l.frame > 0 {
		l.seq += uint16(min(ticks(now-l.due, l.rate)/int64(l.frame), 1<<14) + headStart)
	}
}

// mayTakeOver says whether the line may be the very stream of a source. With SRTP it is not: its numbers belong to its key.
func (l *line) mayTakeOver(src *source, p *packet) bool {
	return src != nil && !src.tone && !p.event && l.sealer == nil && l.terms != nil && l.terms.security == Clear && l.stream.ice == nil &&
		p.ssrc != l.stream.ear.reception.ssrc.Load() // or the peer would hear its own
}

// named gives a faithful line the SSRC for a new source, and says whether it goes on with the very numbers of that. What is spliced to a source
// goes on under its SSRC, so that a move is not heard. But no packet of the source itself may come under another number than it has: a tone, after
// which it may come back, has an SSRC of its own.
func (l *line) named(src *source, p *packet) bool {
	switch {
	case !l.faithful:
		return false
	case src.tone:
		l.ssrc.Store(l.unnamed)
		return false
	case !l.mayTakeOver(src, p):
		return false
	}
	return !l.started || l.ssrc.Load() == l.unnamed || l.ssrc.Load() == p.ssrc
}

// goOnAs sends p as it is, and has the line go on with its source's numbers.
func (l *line) goOnAs(p *packet, o *outgoing) bool {
	l.ssrc.Store(p.ssrc)
	l.seq, l.ts, l.skew = p.seq-1, p.ts, 0
	if !l.started || p.rate != l.rate {
		l.rate, l.frame = p.rate, uint32(ticks(l.terms.frame, p.rate))
	}
	if l.started { // so that the grid takes this one for its next
		l.ts -= l.frame
	}
	l.in = incoming{ssrc: p.ssrc, seq: p.seq, ts: p.ts, due: p.due}
	return l.begin(p, o)
}

// comeBack sends the first packet of a source that the peer has heard straight until now.
func (l *line) comeBack(p *packet, o *outgoing) bool {
	l.back, l.at = false, p.now // it was no pause
	return l.goOnAs(p, o)
}

// Faithful tells that the peer may hear straight, one day, what this stream sends it: its numbers are those of the source then.
func (s *Stream) Faithful(on bool) {
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	s.line.recall()
	s.line.faithful = on
}
