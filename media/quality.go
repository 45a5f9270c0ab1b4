package media

import (
	"math"
	"strings"
)

// What a direction of a call sounds like, estimated from what is measured of it: the E-model of ITU-T G.107 with all
// but delay, codec and loss at its defaults,
//
//	R = 93.2 − Id − Ie,eff
//
// docs/measure.md has the formulas with their sources.

// Quality is what somebody hears of a direction.
type Quality struct {
	MOS   float64 `json:"mos"`          // 1 to 4.41, conversational, on the narrowband scale
	R     float64 `json:"r"`            // 0 to 93.2
	Loss  float64 `json:"loss_percent"` // of the packets that should have come
	Delay float64 `json:"delay_ms"`     // from mouth to ear, one way
}

// impairment is what a codec costs by itself (Ie) and how well it bears random loss (Bpl), as in ITU-T G.113 Appendix I, and how many
// milliseconds of what follows a frame it looks at before it encodes that.
type impairment struct{ ie, bpl, ahead float64 }

// impairments by encoding name, in capitals. Those of G.722 and opus are assumed: on the narrowband scale neither costs
// anything, and G.113 gives no Bpl for that scale.
var impairments = map[string]impairment{
	"PCMU": {0, 25.1, 0}, // with concealment, as phones have it; 4.3 without
	"PCMA": {0, 25.1, 0},
	"G722": {0, 15, 1.5},
	"OPUS": {0, 20, 6.5}, // RFC 6716 §2: 4 ms for its resampler and 2.5 for its transform
	"G729": {11, 19, 5},
	"G723": {15, 16.1, 7.5},
	"GSM":  {20, 10, 0},
}

// other is assumed of a codec that is not known.
var other = impairment{10, 10, 0}

// codecOf is what is known of a codec, named as in an rtpmap; the clock may follow.
func codecOf(codec string) impairment {
	name, _, _ := strings.Cut(strings.ToUpper(codec), "/")
	if i, known := impairments[name]; known {
		return i
	}
	return other
}

// lookAhead is how long, in milliseconds, a codec waits for what follows a frame.
func lookAhead(codec string) float64 { return codecOf(codec).ahead }

// passing is how long a packet is in the node, in milliseconds: half of them no longer (docs/measure.md).
func (s Stats) passing() float64 { return 0.1 + s.Tick/2 }

// Estimate is the quality of a codec (as in an rtpmap, the clock may follow) with so much loss, in percent, and delay from
// mouth to ear, in milliseconds.
func Estimate(codec string, loss, delay float64) Quality {
	r := max(0, 93.2-delayImpairment(delay)-lossImpairment(codec, loss))
	return Quality{MOS: round(mos(r), 2), R: round(r, 1), Loss: round(loss, 2), Delay: round(delay, 1)}
}

// delayImpairment is Id in the form of Cole and Rosenbluth (2001): two straight lines that meet at 177.3 ms.
func delayImpairment(ms float64) float64 {
	return 0.024*ms + 0.11*max(0, ms-177.3)
}

// lossImpairment is Ie,eff of G.107 §7.5 with random loss (BurstR = 1).
func lossImpairment(codec string, percent float64) float64 {
	i := codecOf(codec)
	return i.ie + (95-i.ie)*percent/(percent+i.bpl)
}

// mos is G.107 Annex B. Its cubic dips below 1 where R is nearly 0.
func mos(r float64) float64 {
	switch {
	case r <= 0:
		return 1
	case r >= 100:
		return 4.5
	}
	return max(1, 1+0.035*r+7e-6*r*(r-60)*(100-r))
}

// playout is how long a listener's adaptive buffer is taken to hold packets back: four times the mean deviation of their
// arrival (Ramjee et al., 1994), and never less than one packet.
func playout(jitter, packet float64) float64 { return max(4*jitter, packet) }

// Quality estimates both directions of a stream, as if nothing but baton were at the other end: in is what the peer says,
// out what it hears. What cannot be known yet is nil: nothing is without the delay, which the peer's reports tell, and
// out is not without what they say of loss.
func (s Stats) Quality() (in, out *Quality) {
	if s.RTT == 0 {
		return nil, nil
	}
	if s.In.Packets > 0 && s.In.Codec != "" {
		q := Estimate(s.In.Codec, s.In.LossPercent, s.delay(s.In))
		in = &q
	}
	if s.Reported && s.Out.Codec != "" {
		q := Estimate(s.Out.Codec, s.Out.LossPercent, s.delay(s.Out))
		out = &q
	}
	return in, out
}

// delay is from mouth to ear of one leg alone: a packet's time to fill, what its codec waits for, half the round trip, the listener's
// buffer.
func (s Stats) delay(t Traffic) float64 {
	return s.Packet + lookAhead(t.Codec) + s.RTT/2 + playout(t.Jitter, s.Packet)
}

// Across estimates what the peer of to hears of the peer of from. to's own reports tell loss and jitter of the whole way,
// for baton neither fills gaps nor buffers. Nil while either way is not known.
func Across(from, to Stats) *Quality {
	if from.RTT == 0 || to.RTT == 0 || !to.Reported || to.Out.Codec == "" {
		return nil
	}
	delay := from.Packet + lookAhead(to.Out.Codec) + from.RTT/2 + from.passing() + to.RTT/2 + playout(to.Out.Jitter, from.Packet)
	q := Estimate(to.Out.Codec, to.Out.LossPercent, delay)
	return &q
}

func round(v float64, digits int) float64 {
	unit := math.Pow10(digits)
	return math.Round(v*unit) / unit
}
