package media

import (
	"math"
	"testing"
	"time"

	"github.com/pion/rtcp"
)

// TestMOS holds the table of ITU-T G.109 and the ends of the scale.
func TestMOS(t *testing.T) {
	for r, want := range map[float64]float64{-5: 1, 0: 1, 3: 1, 50: 2.58, 60: 3.10, 70: 3.60, 80: 4.03, 90: 4.34, 93.2: 4.41, 100: 4.5, 120: 4.5} {
		if got := mos(r); math.Abs(got-want) > 0.008 {
			t.Errorf("R %v is MOS %.3f, want %v", r, got, want)
		}
	}
	for r := 0.0; r < 93; r++ {
		if mos(r+1) < mos(r) {
			t.Errorf("MOS falls from R %v to %v", r, r+1)
		}
	}
}

// TestEstimate holds values worked out by hand from the formulas of docs/measure.md.
func TestEstimate(t *testing.T) {
	tests := []struct {
		codec               string
		loss, delay, r, mos float64
	}{
		{"PCMU/8000", 0, 0, 93.2, 4.41},
		{"PCMU/8000", 0, 150, 89.6, 4.33},       // Id = 0.024 * 150 = 3.6
		{"PCMU/8000", 0, 400, 59.1, 3.05},       // Id = 9.6 + 0.11 * 222.7 = 34.1
		{"pcma/8000", 1, 0, 89.6, 4.33},         // Ie,eff = 95 / 26.1 = 3.64
		{"PCMA/8000", 5, 100, 75.0, 3.82},       // Ie,eff = 475 / 30.1 = 15.78, Id = 2.4
		{"PCMU/8000", 10, 0, 66.1, 3.41},        // Ie,eff = 950 / 35.1 = 27.07
		{"G729/8000", 0, 0, 82.2, 4.10},         // Ie = 11
		{"G729/8000", 5, 0, 64.7, 3.34},         // Ie,eff = 11 + 84 * 5 / 24 = 28.5
		{"G722/8000", 2, 50, 80.8, 4.05},        // Ie,eff = 190 / 17 = 11.18, Id = 1.2
		{"opus/48000/2", 3, 60, 79.4, 4.00},     // Ie,eff = 285 / 23 = 12.39, Id = 1.44
		{"nobody-knows/8000", 0, 0, 83.2, 4.14}, // Ie = 10
		{"PCMU/8000", 100, 0, 17.3, 1.19},       // Ie,eff = 9500 / 125.1 = 75.94
		{"PCMU/8000", 100, 2000, 0, 1},
	}
	for _, tt := range tests {
		q := Estimate(tt.codec, tt.loss, tt.delay)
		if math.Abs(q.R-tt.r) > 0.06 || math.Abs(q.MOS-tt.mos) > 0.011 || q.Loss != tt.loss || q.Delay != tt.delay {
			t.Errorf("%s, %v%% lost, %v ms: %+v, want R %v, MOS %v", tt.codec, tt.loss, tt.delay, q, tt.r, tt.mos)
		}
	}
}

// TestQualityUnknown: what was not measured is not estimated.
func TestQualityUnknown(t *testing.T) {
	heard := Traffic{Codec: "PCMU/8000", Packets: 100, Jitter: 10}
	tests := []struct {
		name    string
		s       Stats
		in, out bool
	}{
		{"nothing", Stats{}, false, false},
		{"no round trip", Stats{In: heard, Out: heard, Reported: true}, false, false},
		{"not heard", Stats{RTT: 5, Out: heard, Reported: true}, false, true},
		{"no report", Stats{RTT: 5, In: heard, Out: heard}, true, false},
		{"all", Stats{RTT: 5, In: heard, Out: heard, Reported: true}, true, true},
	}
	for _, tt := range tests {
		in, out := tt.s.Quality()
		if (in != nil) != tt.in || (out != nil) != tt.out {
			t.Errorf("%s: in %v, out %v", tt.name, in, out)
		}
		if q := Across(tt.s, tt.s); (q != nil) != (tt.s.RTT > 0 && tt.out) {
			t.Errorf("%s: across %v", tt.name, q)
		}
	}
}

// TestDelay: packet + half of each round trip + the buffer, which is four times the jitter or a packet, and across also the node.
func TestDelay(t *testing.T) {
	leg := func(rtt, jitter float64) Stats {
		tr := Traffic{Codec: "PCMU/8000", Packets: 100, Jitter: jitter}
		return Stats{RTT: rtt, Packet: 20, In: tr, Out: tr, Reported: true}
	}
	tests := []struct {
		from, to      Stats
		alone, across float64
	}{
		{leg(1, 0), leg(1, 0), 40.5, 41.1},
		{leg(30, 2), leg(10, 4.9), 55, 60.1},
		{leg(30, 2), leg(10, 10), 55, 80.1},
		{leg(100, 25), leg(60, 10), 170, 140.1},
	}
	for _, tt := range tests {
		in, _ := tt.from.Quality()
		if got := Across(tt.from, tt.to); in.Delay != tt.alone || got.Delay != tt.across {
			t.Errorf("alone %v, want %v; across %v, want %v", in.Delay, tt.alone, got.Delay, tt.across)
		}
	}
	opus := leg(30, 2)
	opus.In.Codec, opus.Out.Codec = "opus/48000/2", "opus/48000/2"
	in, out := opus.Quality() // 6.5 ms more, for its encoder looks ahead
	if got := Across(opus, opus); in.Delay != 61.5 || out.Delay != 61.5 || got.Delay != 76.6 {
		t.Errorf("opus: in %v, out %v, across %v", in.Delay, out.Delay, got.Delay)
	}
}

// TestReportedFigures: what a peer's receiver report says of our line becomes loss, jitter and round trip of that direction,
// and what was lost before baton counts as expected.
func TestReportedFigures(t *testing.T) {
	r := newRoom(t)
	far, dev := r.phone("203.0.113.5"), r.phone("198.51.100.7")
	bridge(far, dev)
	r.run(r.now+2*time.Second, far, dev)
	if st := far.s.Stats(); st.Reported || st.RTT != 0 || st.In.LossPercent != 0 || st.Packet != 20 {
		t.Fatalf("before any report: %+v", st)
	}
	sent := far.s.Stats().Out.Packets
	first := far.s.line.base.Load()
	span := uint32(sent) + 25 // 25 numbers never reached baton
	middle := func(at time.Duration) uint32 { return uint32(ntp(r.e.wall(at)) >> 16) }
	report := rtcp.ReceiverReport{SSRC: far.hdr.SSRC, Reports: []rtcp.ReceptionReport{{
		SSRC: far.s.line.ssrc.Load(), TotalLost: 25, LastSequenceNumber: first + span - 1, Jitter: 80,
		LastSenderReport: middle(r.now - 40*time.Millisecond), Delay: 0,
	}}}
	b, err := report.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	far.s.receiveRTCP(b, far.at, r.now, nil)
	st := far.s.Stats()
	if want := 2500 / float64(span); !st.Reported || math.Abs(st.Out.LossPercent-want) > 1e-9 || st.Out.Jitter != 10 || math.Abs(st.RTT-40) > 0.1 {
		t.Errorf("%+v, want %.2f%% lost, 10 ms jitter, 40 ms round trip", st, want)
	}
	_, out := st.Quality()
	if out == nil || math.Abs(out.Delay-80) > 0.2 { // 20 + 40 / 2 + 4 * 10
		t.Errorf("out %+v, want 80 ms", out)
	}
	report.Reports[0].LastSequenceNumber = first - 1<<20 // makes no sense: as many as were sent are expected
	b, _ = report.Marshal()
	far.s.receiveRTCP(b, far.at, r.now, nil)
	if got, want := far.s.Stats().Out.LossPercent, 2500/float64(sent); math.Abs(got-want) > 1e-9 {
		t.Errorf("%v%% lost, want %v", got, want)
	}
}

// TestDelayOfTick: while the node reads packets together half of them wait for half a tick.
func TestDelayOfTick(t *testing.T) {
	tr := Traffic{Codec: "PCMU/8000", Packets: 100}
	leg := Stats{RTT: 1, Packet: 20, In: tr, Out: tr, Reported: true, Tick: 2}
	if got := Across(leg, leg); got.Delay != 42.1 {
		t.Errorf("across %v", got.Delay)
	}
}
