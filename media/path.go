package media

import (
	"net/netip"
	"slices"
	"time"
)

// terms are what an Apply means for the packet path; never changed once they stand.
type terms struct {
	at        time.Duration  // when they were applied
	peer      netip.Addr     // signalling IP
	remote    netip.AddrPort // where SDP wants RTP; zero = nowhere that may be sent to
	control   netip.AddrPort // and RTCP
	direction Direction
	security  Security
	send      []Codec
	codecs    []heard
	index     [128]uint8 // payload type → position in codecs + 1
	frame     time.Duration
}

// heard is a codec that the peer may send.
type heard struct {
	Codec
	rate         uint32
	event, sound bool
}

// defaultFrame is the packet time where nothing else is said (RFC 3551 §4.2).
const defaultFrame = 20 * time.Millisecond

func newTerms(a Agreement, peer netip.Addr, now time.Duration) *terms {
	t := &terms{at: now, peer: peer, direction: a.Direction, security: a.Security, send: slices.Clone(a.Send), frame: defaultFrame}
	t.remote, t.control = reachable(a.Remote, peer), reachable(a.RemoteRTCP, peer)
	if a.Ptime > 0 {
		t.frame = time.Duration(a.Ptime) * time.Millisecond
	}
	t.learn(a.Recv)
	t.learn(a.Send) // some peers send with their own payload types although ours are other ones
	return t
}

// learn adds codecs whose payload types are not taken yet.
func (t *terms) learn(codecs []Codec) {
	for _, c := range codecs {
		if c.PT < 128 && t.index[c.PT] == 0 && len(t.codecs) < 255 && c.Rate > 0 {
			t.codecs = append(t.codecs, heard{Codec: c, rate: uint32(c.Rate), event: c.event(), sound: c.sound()})
			t.index[c.PT] = uint8(len(t.codecs))
		}
	}
}

// reachable returns at if media may be sent there. A description must not make baton send to where the device itself could not have
// asked for: nobody, everybody, or this machine's own services.
func reachable(at netip.AddrPort, peer netip.Addr) netip.AddrPort {
	at = unmapped(at)
	a := at.Addr()
	zero := a.Is4() && a.As4()[0] == 0
	everybody := a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
	switch {
	case !a.IsValid(), at.Port() == 0, zero, a.IsUnspecified(), a.IsMulticast(), everybody:
	case a.IsLoopback() && !peer.IsLoopback():
	case a.IsLinkLocalUnicast() && !peer.IsLinkLocalUnicast():
	default:
		return at
	}
	return netip.AddrPort{}
}

// path is all that receive needs to know: what was agreed with the peer, and where its packets go.
type path struct {
	*terms
	opener *opener // nil = none agreed, or no keys yet
	sinks  []sink
	taps   []tap
	muted  bool // what comes goes nowhere
	aside  bool // nobody follows the stream yet
	leaves bool // nothing that comes now is awaited to its end
}

// sink is a line that may follow the stream.
type sink struct {
	line *line
	out  []outgoing // for each codec of terms
}

// outgoing says how a codec leaves.
type outgoing struct {
	ok    bool
	pt    uint8
	codec Codec      // as it leaves
	table *[256]byte // G.711 conversion
}

func newPath(t *terms, sinks []*Stream) *path {
	p := &path{terms: t}
	if !t.direction.receives() {
		return p
	}
	for _, s := range sinks {
		if s.terms == nil || !s.terms.direction.sends() {
			continue
		}
		k := sink{line: &s.line, out: make([]outgoing, len(t.codecs))}
		for i, c := range t.codecs {
			k.out[i] = carry(c.Codec, s.terms.send)
		}
		p.sinks = append(p.sinks, k)
	}
	return p
}

// carry says how c reaches a peer that wants one of send: as it is, or by the G.711 table.
func carry(c Codec, send []Codec) outgoing {
	if i := slices.IndexFunc(send, c.Is); i >= 0 && !c.nested() {
		return outgoing{ok: true, pt: send[i].PT, codec: send[i]}
	}
	if i := slices.IndexFunc(send, pcma.Is); i >= 0 && c.Is(pcmu) {
		return outgoing{ok: true, pt: send[i].PT, codec: send[i], table: &muToA}
	}
	if i := slices.IndexFunc(send, pcmu.Is); i >= 0 && c.Is(pcma) {
		return outgoing{ok: true, pt: send[i].PT, codec: send[i], table: &aToMu}
	}
	return outgoing{}
}
