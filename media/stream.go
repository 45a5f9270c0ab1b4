package media

import (
	"net/netip"
	"time"
)

// StreamOptions says whom a stream is for.
type StreamOptions struct {
	Peer    netip.Addr         // signalling IP of the device
	OnHeard func(at time.Time) // once per Apply, at the first packet from the negotiated or latched source; must not block
}

// Stream is one audio stream of one leg: a port pair, and one unbroken outgoing line.
type Stream struct{}

// Endpoint returns the address to announce in SDP.
func (s *Stream) Endpoint() netip.AddrPort { return netip.AddrPort{} }

// Apply takes what an offer and its answer came to.
func (s *Stream) Apply(a Agreement) {}

// Feed says where what s hears goes.
func (s *Stream) Feed(sinks ...*Stream) {}

// Follow says whose media s sends out, from src's next packet on; nil is nobody.
func (s *Stream) Follow(src *Stream) {}

// Play sends a tone on the same unbroken line until the next Follow.
func (s *Stream) Play(t Tone) {}

// InUse returns the codec last heard from the peer.
func (s *Stream) InUse() (Codec, bool) { return Codec{}, false }

// LastHeard returns when RTP or RTCP was last heard from the peer; zero = never.
func (s *Stream) LastHeard() time.Time { return time.Time{} }

// FirstSent returns when the first packet was sent to the peer; zero = never.
func (s *Stream) FirstSent() time.Time { return time.Time{} }

// Splice reports the last Follow that switched.
func (s *Stream) Splice() SpliceReport { return SpliceReport{} }

// Stats returns the stream's counters.
func (s *Stream) Stats() Stats { return Stats{} }

// Close ends the stream; its ports rest.
func (s *Stream) Close() {}
