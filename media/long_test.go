package media

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
)

const (
	longCall  = 4 * time.Hour
	moveEvery = 10 * time.Minute
	longRTT   = 80 * time.Millisecond // that the peers' reports claim
	skewBound = 11 * time.Millisecond // half a frame, and what smoothing adds
)

// shift is a call between the far side and a device that is replaced again and again, on the clock of a room. Its packets are judged as they
// are sent and then forgotten.
type shift struct {
	*room
	judges  map[netip.AddrPort]*judge // by destination, RTP and RTCP
	far     *dev
	near    *dev
	retired []*judge // of devices that had the call before
}

type shiftConn struct{ s *shift }

func (s *shift) listen(netip.AddrPort, receiver) (conn, error) { return shiftConn{s}, nil }

func (c shiftConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if j := c.s.judges[to]; j != nil {
		j.take(c.s.now, b)
	}
	return len(b), nil
}

func (c shiftConn) Close() error { return nil }

// judge follows one outgoing line, packet by packet.
type judge struct {
	dev  *dev
	rate uint32

	packets, octets                 uint64
	breaks, backwards, ssrcs, wraps int
	tsWraps                         int
	ssrc, ts                        uint32
	seq                             uint16
	first, last, gap                time.Duration
	ticks                           int64         // of the timestamps since the first packet
	base, since                     time.Duration // of what the sources' clocks have drifted, until since
	ppm                             float64       // of the present source
	early, late                     time.Duration // of the timestamps, against the clock less what the sources drifted
	reports, untrue                 int
	worst                           time.Duration // of a sender report's timestamp
	heardOf                         uint32        // middle of the last report's NTP time
	heardAt                         time.Duration
	answered                        bool
}

// speaks tells that from now on the line carries a source whose clock is that wrong.
func (j *judge) speaks(now time.Duration, ppm float64) {
	j.base, j.since, j.ppm = j.drift(now), now, ppm
}

// drift is how far the sources' clocks are behind the true one.
func (j *judge) drift(now time.Duration) time.Duration {
	return j.base + time.Duration(float64(now-j.since)*j.ppm*1e-6)
}

func (j *judge) take(now time.Duration, b []byte) {
	if isRTCP(b) {
		j.takeReport(now, b)
		return
	}
	var h rtp.Header
	if _, err := h.Unmarshal(b); err != nil {
		j.breaks++
		return
	}
	if j.packets == 0 {
		j.first, j.ssrcs = now, 1
	} else {
		j.follow(now, &h)
	}
	j.ssrc, j.seq, j.ts, j.last = h.SSRC, h.SequenceNumber, h.Timestamp, now
	j.packets++
	j.octets += uint64(len(b) - 12)
}

func (j *judge) follow(now time.Duration, h *rtp.Header) {
	if h.SSRC != j.ssrc {
		j.ssrcs++
	}
	if h.SequenceNumber != j.seq+1 {
		j.breaks++
	}
	if h.SequenceNumber < j.seq {
		j.wraps++
	}
	step := int32(h.Timestamp - j.ts)
	if step <= 0 {
		j.backwards++
	}
	if h.Timestamp < j.ts {
		j.tsWraps++
	}
	j.ticks += int64(step)
	j.gap = max(j.gap, now-j.last)
	off := now - j.first - duration(j.ticks, j.rate) - j.drift(now)
	j.late, j.early = max(j.late, off), min(j.early, off)
}

// takeReport checks a sender report against what was sent: the counts, and that its two clocks name the same instant.
func (j *judge) takeReport(now time.Duration, b []byte) {
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		j.untrue++
		return
	}
	for _, p := range packets {
		sr, ok := p.(*rtcp.SenderReport)
		if !ok {
			continue
		}
		j.reports++
		wall := j.dev.r.e.wall(now)
		at := time.Unix(int64(sr.NTPTime>>32)-2208988800, int64(sr.NTPTime&0xffffffff*1e9>>32))
		off := duration(int64(int32(sr.RTPTime-j.ts)), j.rate) - (now - j.last)
		j.worst = max(j.worst, off.Abs())
		if at.Sub(wall).Abs() > time.Millisecond || sr.SSRC != j.ssrc ||
			sr.PacketCount != uint32(j.packets) || sr.OctetCount != uint32(j.octets) {
			j.untrue++
		}
		j.heardOf, j.heardAt, j.answered = uint32(sr.NTPTime>>16), now, false
	}
}

// answer has the device report on the line, as if the way there and back took longRTT.
func (j *judge) answer(now time.Duration) {
	if j.reports == 0 || j.answered {
		return
	}
	j.answered = true
	delay := uint32(int64(now-j.heardAt-longRTT) * 65536 / int64(time.Second))
	rr := &rtcp.ReceiverReport{SSRC: j.dev.hdr.SSRC, Reports: []rtcp.ReceptionReport{{
		SSRC: j.ssrc, LastSequenceNumber: uint32(j.seq), LastSenderReport: j.heardOf, Delay: delay,
	}}}
	b, err := rr.Marshal()
	if err != nil {
		j.untrue++
		return
	}
	j.dev.s.receiveRTCP(b, next(j.dev.at), now, nil)
}

// join opens a stream for a device and has its line judged.
func (s *shift) join(ip string, ppm float64, phase time.Duration, codec Codec) (*dev, *judge) {
	d := s.phone(ip, codec, dtmf)
	d.ppm, d.start = ppm, s.now+phase
	d.hdr.SequenceNumber, d.hdr.Timestamp = 65535-uint16(len(s.judges)), ^uint32(0)-d.frame*7
	d.s.line.seq, d.s.line.ts = 65400, ^uint32(0)-d.frame*3
	j := &judge{dev: d, rate: uint32(codec.Rate)}
	s.judges[d.at], s.judges[next(d.at)] = j, j
	return d, j
}

// pass lets time go by; RTCP runs beside.
func (s *shift) pass(until time.Duration, devices ...*dev) {
	for s.now < until {
		s.run(min(until, s.now+reportTick), devices...)
		s.e.report(s.now)
		for _, d := range devices {
			s.judges[d.at].answer(s.now)
		}
	}
}

// move gives the near side to another device, as a call does it.
func (s *shift) move(to *dev, j *judge) {
	old := s.near
	s.far.s.Feed(old.s, to.s)
	to.s.Feed(s.far.s)
	j.speaks(s.now, s.far.ppm)
	to.s.Follow(s.far.s)
	s.far.s.Follow(to.s)
	s.judges[s.far.at].speaks(s.now, to.ppm)
	s.pass(s.now+60*ms, old, to, s.far)
	s.far.s.Feed(to.s)
	s.near = to
	old.s.Close()
	s.retired = append(s.retired, s.judges[old.at])
	delete(s.judges, old.at)
	delete(s.judges, next(old.at))
}

// TestCallOfFourHours is a call of 720,000 packets each way that moves every ten minutes, between clocks that are 100 ppm wrong in either
// direction: all that is counted in 16 or 32 bits wraps on its way, and nothing may add up.
func TestCallOfFourHours(t *testing.T) {
	for _, codec := range []Codec{pcmu, {Name: "opus", PT: 111, Rate: 48000, Channels: 2}} {
		t.Run(codec.Name, func(t *testing.T) { fourHours(t, codec) })
	}
}

func fourHours(t *testing.T, codec Codec) {
	if testing.Short() {
		t.Skip("-short")
	}
	s := &shift{room: newRoom(t), judges: map[netip.AddrPort]*judge{}}
	s.e.sockets = s
	var heard *judge
	s.far, heard = s.join("192.0.2.20", -100, 7*ms, codec)
	var own *judge
	s.near, own = s.join("192.0.2.30", 100, 0, codec)
	bridge(s.near, s.far)
	heard.speaks(s.now, s.near.ppm)
	own.speaks(s.now, s.far.ppm)
	begin := s.now
	var early uint64
	moves := 0
	for at := begin + moveEvery; at < begin+longCall; at += moveEvery {
		s.pass(at, s.near, s.far)
		if moves++; moves == 3 {
			early = liveObjects()
		}
		ppm := 100 - float64(moves%5)*50
		phase := s.near.due() - s.now + 7*ms // always the same side of the old one's, so that an error would add up
		s.move(s.join(fmt.Sprintf("192.0.2.%d", 30+moves%200), ppm, phase, codec))
	}
	s.pass(begin+longCall, s.near, s.far)
	late := liveObjects()
	t.Logf("%d moves; live objects after half an hour %d, at the end %d", moves, early, late)
	if late > early+early/10+500 {
		t.Errorf("live objects grew from %d to %d", early, late)
	}
	judgeFar(t, s, heard)
	judgeNear(t, s)
	if n := longAllocs(s); n > 0 {
		t.Errorf("%v allocations per packet after four hours", n)
	}
}

func liveObjects() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapObjects
}

func judgeFar(t *testing.T, s *shift, j *judge) {
	t.Helper()
	t.Logf("far side: %d packets, %d numbers and %d timestamps wrapped, timestamps %v to %v of the clock, longest gap %v, %d reports, worst %v",
		j.packets, j.wraps, j.tsWraps, j.early, j.late, j.gap, j.reports, j.worst)
	want := int64(longCall / (20 * ms))
	if n := int64(j.packets); n < want-100 || n > want+100 {
		t.Errorf("%d packets, want about %d", n, want)
	}
	if j.breaks != 0 || j.backwards != 0 || j.ssrcs != 1 {
		t.Errorf("%d numbers out of line, %d timestamps not ahead, %d SSRC", j.breaks, j.backwards, j.ssrcs)
	}
	if j.wraps != 11 || j.tsWraps != 1 {
		t.Errorf("%d wraps of the sequence number and %d of the timestamp: the test has not tried them", j.wraps, j.tsWraps)
	}
	if j.early < -skewBound || j.late > skewBound {
		t.Errorf("timestamps are %v to %v of the clock, allowed are %v", j.early, j.late, skewBound)
	}
	if j.gap > 60*ms {
		t.Errorf("a gap of %v", j.gap)
	}
	judgeReports(t, "far side", j, longCall)
	st := s.far.s.Stats()
	if st.Out.Packets != j.packets || st.Out.Octets != j.octets || st.In.Packets != uint64(s.far.n) || st.In.Lost != 0 {
		t.Errorf("counters: out %d packets, %d octets, in %d packets of %d, %d lost", st.Out.Packets, st.Out.Octets, st.In.Packets, s.far.n, st.In.Lost)
	}
	if d := time.Duration(st.RTT*float64(ms)) - longRTT; d.Abs() > 2*ms {
		t.Errorf("RTT %v ms, want %v", st.RTT, longRTT)
	}
}

func judgeReports(t *testing.T, who string, j *judge, lasted time.Duration) {
	t.Helper()
	if least := int(lasted / reportEvery * 9 / 10); j.reports < least {
		t.Errorf("%s: %d sender reports, want at least %d", who, j.reports, least)
	}
	if j.untrue != 0 || j.worst > 2*ms {
		t.Errorf("%s: %d sender reports are untrue, timestamps up to %v off", who, j.untrue, j.worst)
	}
}

// judgeNear looks at what each of the devices was sent in its ten minutes.
func judgeNear(t *testing.T, s *shift) {
	t.Helper()
	var packets uint64
	for i, j := range append(s.retired, s.judges[s.near.at]) {
		packets += j.packets
		if j.breaks != 0 || j.backwards != 0 || j.ssrcs != 1 || j.early < -skewBound || j.late > skewBound {
			t.Errorf("device %d: %d out of line, %d timestamps not ahead, %d SSRC, timestamps %v to %v of the clock",
				i, j.breaks, j.backwards, j.ssrcs, j.early, j.late)
		}
		judgeReports(t, fmt.Sprintf("device %d", i), j, moveEvery)
	}
	if packets < uint64(s.far.n) {
		t.Errorf("the near devices were sent %d packets of %d", packets, s.far.n)
	}
	if n := s.far.s.Lost(); n != 0 {
		t.Errorf("%d packets of the far side reached nobody", n)
	}
}

// longAllocs is what a packet of the far side allocates on its way to the near one.
func longAllocs(s *shift) float64 {
	h := s.far.hdr
	b, _ := (&rtp.Packet{Header: h, Payload: make([]byte, 160)}).Marshal()
	delete(s.judges, s.near.at)
	return testing.AllocsPerRun(1000, func() {
		s.now += 20 * ms
		s.far.s.receive(b, s.far.at, s.now, nil)
		binary.BigEndian.PutUint16(b[2:], binary.BigEndian.Uint16(b[2:])+1)
		binary.BigEndian.PutUint32(b[4:], binary.BigEndian.Uint32(b[4:])+s.far.frame)
	})
}
