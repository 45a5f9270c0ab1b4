package media

import (
	"sync/atomic"
	"time"
)

// counter has one writer at a time and any number of readers.
type counter struct{ v atomic.Uint64 }

func (c *counter) inc()         { c.v.Store(c.v.Load() + 1) }
func (c *counter) add(n uint64) { c.v.Store(c.v.Load() + n) }
func (c *counter) share()       { c.v.Add(1) } // inc, for one with several writers
func (c *counter) Load() uint64 { return c.v.Load() }

// drops counts the packets that were not taken, by reason.
type drops struct {
	malformed counter // no RTP
	early     counter // nothing agreed yet
	foreign   counter // not from the peer
	forged    counter // not verified
	muted     counter // of a peer that only listens
	payload   counter // a payload type that was not agreed, or that nobody it is for knows
}

// reception is what RFC 3550 §6.4.1 wants to know of a source; A.1, A.3 and A.8 are the algorithms.
type reception struct {
	ssrc     atomic.Uint32
	base     atomic.Uint32 // extended sequence number of the first packet
	highest  atomic.Uint32 // extended sequence number
	received atomic.Uint64 // since base
	jitter   atomic.Uint64 // ticks × 16
	rate     atomic.Uint32
	packets  counter // of all sources
	octets   counter
	before   counter // packets expected and not received of sources before this one

	transit int64
	bad     uint16 // where a jump would go on
}

// count takes one packet; called by the reader.
func (r *reception) count(p *packet) {
	r.packets.inc()
	r.octets.add(uint64(p.end - p.body))
	if p.ssrc != r.ssrc.Load() || r.received.Load() == 0 {
		r.restart(p)
		return
	}
	step := p.seq - uint16(r.highest.Load())
	switch {
	case step < maxJump:
		r.highest.Store(r.highest.Load() + uint32(step))
	case step <= 0xffff-maxMisorder:
		if p.seq != r.bad {
			r.bad = p.seq + 1
			return
		}
		r.restart(p)
		return
	}
	r.received.Store(r.received.Load() + 1)
	if !p.event {
		r.measure(p)
	}
}

// maxMisorder is how late a packet may come and still be counted (RFC 3550 A.1).
const maxMisorder = 100

func (r *reception) restart(p *packet) {
	if r.received.Load() > 0 {
		r.before.add(uint64(max(r.missing(), 0)))
	}
	r.ssrc.Store(p.ssrc)
	r.base.Store(uint32(p.seq))
	r.highest.Store(uint32(p.seq))
	r.received.Store(1)
	r.jitter.Store(0)
	r.rate.Store(p.rate)
	r.bad = p.seq - 1
	r.transit = ticks(p.now, p.rate) - int64(p.ts)
}

// measure is the interarrival jitter of RFC 3550 A.8, in integers.
func (r *reception) measure(p *packet) {
	transit := ticks(p.now, p.rate) - int64(p.ts)
	d := int64(int32(transit - r.transit))
	r.transit = transit
	if p.rate != r.rate.Load() {
		r.rate.Store(p.rate)
		return
	}
	if d < 0 {
		d = -d
	}
	if d > int64(p.rate) {
		return // a pause of the source, not the network's
	}
	j := int64(r.jitter.Load())
	r.jitter.Store(uint64(j + d - (j+8)>>4))
}

// missing is expected less received; duplicates make it negative.
func (r *reception) missing() int64 {
	return int64(r.highest.Load()) - int64(r.base.Load()) + 1 - int64(r.received.Load())
}

func (r *reception) lost() uint64 {
	n := r.before.Load()
	if r.received.Load() > 0 {
		n += uint64(max(r.missing(), 0))
	}
	return n
}

func (r *reception) jitterMS() float64 {
	rate := r.rate.Load()
	if rate == 0 {
		return 0
	}
	return float64(r.jitter.Load()>>4) * 1000 / float64(rate)
}

// Stats are the counters of one stream.
type Stats struct {
	Local    string            `json:"local"`
	Remote   string            `json:"remote"` // where packets are sent
	Latched  bool              `json:"latched"`
	Way      string            `json:"way,omitempty"`       // of a WebRTC peer: udp or tcp, by the pair that it has nominated
	RTT      float64           `json:"rtt_ms,omitempty"`    // by the peer's reports; 0 = not known
	Packet   float64           `json:"packet_ms,omitempty"` // time that one packet holds
	Tick     float64           `json:"tick_ms,omitempty"`   // for so long at most packets wait until they are read together; 0 = each is at once
	In       Traffic           `json:"in"`                  // from the peer
	Out      Traffic           `json:"out"`                 // to the peer; lost and jitter as the peer reports them
	Reported bool              `json:"reported"`            // the peer has reported on what it hears
	Secure   string            `json:"secure"`              // none, sdes or dtls
	Kernel   uint64            `json:"kernel,omitempty"`    // packets from the peer that the kernel has forwarded by itself
	Dropped  map[string]uint64 `json:"dropped,omitempty"`
}

// Traffic is one direction of a stream.
type Traffic struct {
	SSRC        uint32  `json:"ssrc"`
	Codec       string  `json:"codec,omitempty"`
	Packets     uint64  `json:"packets"`
	Octets      uint64  `json:"octets"` // payload
	Lost        uint64  `json:"lost"`
	LossPercent float64 `json:"loss_percent"` // of the packets that should have come
	Jitter      float64 `json:"jitter_ms"`
}

// Stats returns the stream's counters.
func (s *Stream) Stats() Stats {
	s.catchUp()
	st := Stats{Local: s.endpoint.String(), Dropped: s.dropped(), Secure: Clear.String()}
	st.RTT = float64(s.ctrl.rtt.Load()) / float64(time.Millisecond)
	st.Tick = float64(s.engine.tick()) / float64(time.Millisecond)
	st.Kernel = s.ear.fast.kernel.Load()
	r := &s.ear.reception
	st.In = Traffic{SSRC: r.ssrc.Load(), Packets: r.packets.Load(), Octets: r.octets.Load(), Lost: r.lost(), Jitter: r.jitterMS()}
	st.In.LossPercent = percent(st.In.Lost, st.In.Packets+st.In.Lost)
	if c, ok := s.InUse(); ok {
		st.In.Codec = c.rtpmap()
	}
	st.Out = s.sent()
	st.Reported = s.ctrl.reported.Load()
	st.Latched = s.ear.latch.source.Load() != nil
	if s.ice != nil {
		st.Way, st.Latched = s.ice.way(), s.ice.out.Load() != nil
	}
	if p := s.path.Load(); p != nil {
		st.Secure = p.security.String()
		st.Packet = float64(p.frame) / float64(time.Millisecond)
		if to := s.dest(p.terms); to.IsValid() {
			st.Remote = to.String()
		}
	}
	return st
}

func (s *Stream) sent() Traffic {
	l := &s.line
	f := Traffic{SSRC: l.ssrc.Load(), Packets: l.sent.Load(), Octets: l.octets.Load(), Lost: uint64(max(s.ctrl.theirLost.Load(), 0))}
	f.LossPercent = percent(f.Lost, s.ctrl.expectedOf(f.Packets))
	l.mu.Lock()
	defer l.mu.Unlock()
	f.Codec = l.codec()
	if l.rate > 0 {
		f.Jitter = float64(s.ctrl.theirJitter.Load()) * 1000 / float64(l.rate)
	}
	return f
}

// expectedOf is how many packets the peer should have had of a line when it last reported: by the numbers it has seen,
// which count what was lost before baton too, or as many as were sent where those make no sense.
func (c *ctrl) expectedOf(sent uint64) uint64 {
	n := uint64(c.theirSpan.Load())
	if n == 0 || n > 2*sent+1000 {
		return sent
	}
	return n
}

func percent(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return min(float64(part)*100/float64(whole), 100)
}

func (s *Stream) dropped() map[string]uint64 {
	d, l := &s.ear.drops, &s.line
	out := map[string]uint64{}
	for name, c := range map[string]*counter{
		"malformed": &d.malformed, "early": &d.early, "foreign": &d.foreign, "forged": &d.forged, "payload": &d.payload, "muted": &d.muted,
		"late": &l.late, "slot": &l.slot, "unsent": &l.unsent, "rtcp_foreign": &s.ctrl.foreign, "rtcp_malformed": &s.ctrl.malformed,
		"rtcp_forged": &s.ctrl.forged,
	} {
		if n := c.Load(); n > 0 {
			out[name] = n
		}
	}
	return out
}
