package media

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pion/rtcp"
)

// reports returns the RTCP that was sent to the device.
func (r *room) reports(d *dev) (all []rtcp.Packet, at []time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.wire[next(d.at)] {
		packets, err := rtcp.Unmarshal(p.b)
		if err != nil {
			r.t.Fatal(err)
		}
		if err := rtcp.CompoundPacket(packets).Validate(); err != nil {
			r.t.Fatal(err)
		}
		for _, one := range packets {
			all, at = append(all, one), append(at, p.at)
		}
	}
	return all, at
}

// ahead is how far the n-th report is asked for ahead of its time, so that each is due.
func ahead(n int) time.Duration { return time.Duration(n) * 20 * time.Second }

// TestSenderReportsStayTrue: across moves, the timestamp of a sender report is what the line's packets say at that time, the counts are
// those of the line, the name stays.
func TestSenderReportsStayTrue(t *testing.T) {
	r := newRoom(t)
	far, dev := r.phone("203.0.113.5"), r.phone("198.51.100.7")
	bridge(far, dev)
	r.run(r.now+time.Second, far, dev)
	for i := range 10 {
		dev = r.move(far, dev, rand.N(20*ms), rand.Float64()*200-100, 0)
		r.run(r.now+rand.N(20*ms), far, dev)
		far.s.report(r.now + ahead(i+1))
	}
	srs := 0
	sent := r.got(far)
	names := map[string]bool{}
	all, at := r.reports(far)
	for i, p := range all {
		switch p := p.(type) {
		case *rtcp.SenderReport:
			srs++
			now := at[i] + ahead(srs)
			var ref seen
			n := uint32(0)
			for _, s := range sent {
				if s.at <= at[i] {
					ref, n = s, n+1
				}
			}
			want := tsOf(ref.b) + uint32(ticks(now-ref.at, 8000))
			if off := int32(p.RTPTime - want); off > 160 || off < -160 {
				t.Errorf("report %d: timestamp off by %d ticks", srs, off)
			}
			if wall := r.e.wall(now); p.NTPTime != ntp(wall) {
				t.Errorf("report %d: NTP time %x, want %x", srs, p.NTPTime, ntp(wall))
			}
			if p.PacketCount != n || p.OctetCount != n*160 || p.SSRC != far.s.line.ssrc.Load() {
				t.Errorf("report %d: %d packets, %d octets, want %d", srs, p.PacketCount, p.OctetCount, n)
			}
			if len(p.Reports) != 1 || p.Reports[0].SSRC != far.hdr.SSRC {
				t.Errorf("report %d: blocks %+v", srs, p.Reports)
			}
		case *rtcp.SourceDescription:
			names[p.Chunks[0].Items[0].Text] = true
		case *rtcp.Goodbye:
			t.Error("BYE on a line that goes on")
		}
	}
	if srs != 10 || len(names) != 1 {
		t.Errorf("%d sender reports, names %v", srs, names)
	}
	far.s.Close()
	all, _ = r.reports(far)
	if bye, ok := all[len(all)-1].(*rtcp.Goodbye); !ok || bye.Sources[0] != far.s.line.ssrc.Load() {
		t.Errorf("last packet %T, want BYE", all[len(all)-1])
	}
}

// TestNoFarewell: who has sent nothing must not say BYE (RFC 3550 §6.3.7).
func TestNoFarewell(t *testing.T) {
	r := newRoom(t)
	a, b := r.phone("203.0.113.5"), r.phone("198.51.100.7")
	bridge(a, b)
	a.s.Close()
	if all, _ := r.reports(a); len(all) > 0 {
		t.Errorf("a stream that never spoke sent %T", all[len(all)-1])
	}
}

func TestReceptionReports(t *testing.T) {
	r := newRoom(t)
	a, b := r.phone("203.0.113.5"), r.phone("198.51.100.7")
	bridge(a, b)
	for i := range 100 {
		r.now += 20 * ms
		if i%10 == 5 {
			a.hdr.SequenceNumber++
			a.hdr.Timestamp += 160
			continue // lost
		}
		late := r.now
		if i%2 == 0 {
			late += 4 * ms
		}
		r.now, late = late, r.now
		a.send()
		r.now = late
	}
	st := a.s.Stats()
	if st.In.Lost != 10 || st.In.Packets != 90 || math.Abs(st.In.Jitter-4) > 0.8 {
		t.Errorf("in: %+v, want 10 lost and a jitter of 4 ms", st.In)
	}
	// The peer's sender report, then ours half a second later.
	sr := &rtcp.SenderReport{SSRC: a.hdr.SSRC, NTPTime: 0x1122334455667788}
	buf, err := rtcp.Marshal([]rtcp.Packet{sr})
	if err != nil {
		t.Fatal(err)
	}
	a.s.receiveRTCP(buf, next(a.at), r.now, nil)
	heard := a.s.LastHeard()
	if !heard.Equal(r.e.wall(r.now)) {
		t.Errorf("last heard %v", heard)
	}
	r.now += 500 * ms
	a.s.report(r.now + time.Minute)
	all, _ := r.reports(a)
	var block rtcp.ReceptionReport
	switch p := all[len(all)-2].(type) {
	case *rtcp.ReceiverReport:
		block = p.Reports[0]
	case *rtcp.SenderReport:
		block = p.Reports[0]
	}
	if block.SSRC != a.hdr.SSRC || block.TotalLost != 10 || block.FractionLost != 25 || uint16(block.LastSequenceNumber) != a.hdr.SequenceNumber-1 {
		t.Errorf("block %+v", block)
	}
	if block.LastSenderReport != 0x33445566 || block.Delay != uint32(60.5*65536) {
		t.Errorf("LSR %x DLSR %d", block.LastSenderReport, block.Delay)
	}
}

func TestRoundTrip(t *testing.T) {
	r := newRoom(t)
	a, b := r.phone("203.0.113.5"), r.phone("198.51.100.7")
	bridge(a, b)
	r.run(r.now+100*ms, a, b)
	r.now += 7 * time.Second
	a.s.report(r.now)
	all, _ := r.reports(a)
	sr, ok := all[0].(*rtcp.SenderReport)
	if !ok {
		t.Fatalf("%T", all[0])
	}
	r.now += 1080 * ms // of which the peer kept it for a second
	rr := &rtcp.ReceiverReport{SSRC: 7, Reports: []rtcp.ReceptionReport{{
		SSRC: sr.SSRC, TotalLost: 3, Jitter: 80, LastSenderReport: uint32(sr.NTPTime >> 16), Delay: 65536,
	}}}
	buf, err := rr.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	a.s.receive(buf, a.at, r.now, nil) // on the RTP port: rtcp-mux
	if st := a.s.Stats(); math.Abs(st.RTT-80) > 1 || st.Out.Lost != 3 || st.Out.Jitter != 10 {
		t.Errorf("rtt %v ms, out %+v", st.RTT, st.Out)
	}
}

func TestRTCPGoesWhereItIsWanted(t *testing.T) {
	r := newRoom(t)
	mux := r.phone("203.0.113.5")
	a := agreed(mux.at, pcmu)
	a.RemoteRTCP = a.Remote
	mux.s.Apply(a)
	r.now += 10 * time.Second
	r.e.report(r.now)
	all := r.wire[mux.at]
	if len(all) != 1 || !isRTCP(all[0].b) || all[0].from != mux.s.Endpoint().Port() {
		t.Errorf("with rtcp-mux: %v", all)
	}
	r.now += 10 * time.Second
	r.e.report(r.now)
	if n := len(r.wire[mux.at]); n != 2 {
		t.Errorf("%d reports after 20 s", n)
	}
}
