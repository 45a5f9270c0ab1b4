package media

import (
	"cmp"
	"time"
)

// Report is what a device itself tells of the audio that it is in, however it tells it. Times are in milliseconds, shares in percent; what it
// has not told is nil or 0.
type Report struct {
	By    string    `json:"by,omitempty"` // how it was told: vq-rtcpxr, getstats, bye
	At    time.Time `json:"at"`
	Final bool      `json:"final,omitempty"`  // of the whole time, at its end
	RTT   float64   `json:"rtt_ms,omitempty"` // to the other end of its RTP: the node, or the other device where the audio is direct
	Hears Heard     `json:"hears"`
	Says  *Heard    `json:"says,omitempty"` // of what it sends, as the other end of its RTP has told it
}

// Heard is one direction as the one who hears it tells it.
type Heard struct {
	Codec     string   `json:"codec,omitempty"` // as in an rtpmap, the clock may be missing
	Packets   uint64   `json:"packets,omitempty"`
	Lost      uint64   `json:"lost,omitempty"`
	Loss      *float64 `json:"loss_percent,omitempty"`      // on the way
	Discarded float64  `json:"discarded_percent,omitempty"` // that came too late for the jitter buffer
	Jitter    *float64 `json:"jitter_ms,omitempty"`
	Buffer    float64  `json:"buffer_ms,omitempty"`         // how long its jitter buffer holds packets back
	Concealed *float64 `json:"concealed_percent,omitempty"` // of the sound: made up
	MOS       float64  `json:"mos,omitempty"`               // by its own estimate
}

// told says whether there is enough to estimate a quality by: what was lost, and what says how long packets are held back.
func (h *Heard) told() bool { return h != nil && h.Loss != nil && (h.Buffer > 0 || h.Jitter != nil) }

// held is how long packets wait at the one who hears them: as told, or by their jitter.
func (h *Heard) held(packet float64) float64 {
	if h.Buffer > 0 {
		return h.Buffer
	}
	return playout(*h.Jitter, packet)
}

// missed is the share of packets that was not played.
func (h *Heard) missed() float64 { return min(*h.Loss+h.Discarded, 100) }

// End is one end of a call: what the node has measured of its leg, and what its device tells itself, nil = nothing.
type End struct {
	Stats
	Report *Report
}

// Told estimates what the device of to hears of that of from by what the devices tell; nil while that is not enough. Where the node
// relays, it needs the round trips to both; direct says that it does not: the devices' own round trip is the whole way then, and what
// from was told by the other's RTCP stands for the report of one that makes none.
func Told(from, to End, direct bool) *Quality {
	heard, way := to.hears(), wayOf(from, to, direct)
	if direct && !heard.told() {
		heard = from.says()
	}
	if way == 0 || !heard.told() {
		return nil
	}
	codec, packet := cmp.Or(heard.Codec, to.Out.Codec), cmp.Or(from.Packet, usualPacket)
	if codec == "" {
		return nil
	}
	q := Estimate(codec, heard.missed(), packet+lookAhead(codec)+way+heard.held(packet))
	return &q
}

// usualPacket is what a packet holds where nothing else was agreed.
const usualPacket = 20.0

func (e End) hears() *Heard {
	if e.Report == nil {
		return nil
	}
	return &e.Report.Hears
}

func (e End) says() *Heard {
	if e.Report == nil {
		return nil
	}
	return e.Report.Says
}

// trip is the round trip that the device tells, 0 = none.
func (e End) trip() float64 {
	if e.Report == nil {
		return 0
	}
	return e.Report.RTT
}

// relayed is the round trip between node and device: as the node has measured it, else as the device tells it.
func (e End) relayed() float64 {
	if e.RTT > 0 {
		return e.RTT
	}
	return e.trip()
}

// wayOf is how long packets are on their way from one device to the other, 0 = not known.
func wayOf(from, to End, direct bool) float64 {
	near, far := to.relayed(), from.relayed()
	switch {
	case direct:
		return cmp.Or(to.trip(), from.trip()) / 2
	case near == 0 || far == 0:
		return 0
	}
	return far/2 + from.passing() + near/2
}
