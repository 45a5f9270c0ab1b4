package media

import "testing"

func of(v float64) *float64 { return &v }

// TestTold: what a device tells takes the place of what the node has measured of what that device hears, and of nothing else; without the
// node on the way the devices' round trip is the whole way.
func TestTold(t *testing.T) {
	leg := func(rtt float64, r *Report) End {
		out := Traffic{Codec: "PCMA/8000", Packets: 100, Jitter: 50, LossPercent: 9}
		return End{Stats{RTT: rtt, Packet: 20, Out: out, Reported: true}, r}
	}
	bare := func(r *Report) End { return End{Report: r} }
	heard := func(rtt float64, h Heard) *Report { return &Report{RTT: rtt, Hears: h} }
	full := Heard{Codec: "PCMU", Loss: of(1), Discarded: 1.5, Jitter: of(3), Buffer: 60}
	jitter := Heard{Loss: of(0), Jitter: of(10)}
	tests := []struct {
		name        string
		from, to    End
		direct      bool
		delay, loss float64 // 0 = not known
	}{
		{"as told", leg(10, nil), leg(30, heard(999, full)), false, 20 + 5 + 15 + 0.1 + 60, 2.5},
		{"its buffer by its jitter", leg(10, nil), leg(30, heard(0, jitter)), false, 20 + 5 + 15 + 0.1 + 40, 0},
		{"the round trip as it tells it", leg(10, nil), leg(0, heard(50, full)), false, 20 + 5 + 25 + 0.1 + 60, 2.5},
		{"no round trip to who speaks", leg(0, nil), leg(30, heard(40, full)), false, 0, 0},
		{"nothing told", leg(10, heard(30, full)), leg(30, nil), false, 0, 0},
		{"no loss told", leg(10, nil), leg(30, heard(0, Heard{Jitter: of(1)})), false, 0, 0},
		{"neither buffer nor jitter told", leg(10, nil), leg(30, heard(0, Heard{Loss: of(0)})), false, 0, 0},
		{"direct", bare(nil), bare(heard(50, full)), true, 20 + 25 + 60, 2.5},
		{"direct, by the round trip of the other", bare(heard(40, jitter)), bare(heard(0, full)), true, 20 + 20 + 60, 2.5},
		{"direct, by what the speaker was told", bare(&Report{RTT: 50, Says: &full}), bare(nil), true, 20 + 25 + 60, 2.5},
		{"direct, no codec told", bare(nil), bare(heard(50, jitter)), true, 0, 0},
		{"direct, no round trip", bare(nil), bare(heard(0, full)), true, 0, 0},
		{"direct, nothing told", bare(nil), bare(nil), true, 0, 0},
		{"relayed, what the speaker was told is of the node", leg(10, &Report{RTT: 50, Says: &full}), leg(30, nil), false, 0, 0},
	}
	for _, tt := range tests {
		q := Told(tt.from, tt.to, tt.direct)
		switch {
		case q == nil && tt.delay != 0:
			t.Errorf("%s: not known, want %v ms", tt.name, tt.delay)
		case q != nil && (q.Delay != tt.delay || q.Loss != tt.loss):
			t.Errorf("%s: %+v, want %v ms, %v %%", tt.name, *q, tt.delay, tt.loss)
		}
	}
	lost := Heard{Codec: "opus", Loss: of(80), Discarded: 70, Buffer: 1}
	if q := Told(leg(1, nil), leg(1, heard(0, lost)), false); q == nil || q.Loss != 100 || q.Delay != 20+6.5+0.5+0.5+0.1+1 {
		t.Errorf("all is lost: %+v", q)
	}
}
