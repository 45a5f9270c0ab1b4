package media

import (
	"log/slog"
	"net/netip"
)

// Security is how a leg's audio is protected on its way, or is offered to be.
type Security uint8

const (
	Clear         Security = iota // RTP/AVP
	Opportunistic                 // RTP/AVP with keys, which the peer may take (OSRTP, RFC 8643)
	Twofold                       // two lines, RTP/SAVP before RTP/AVP, of which the peer refuses one
	SDES                          // RTP/SAVP alone, with keys in the description (RFC 4568)
	DTLS                          // UDP/TLS/RTP/SAVPF with ICE, keys by DTLS (RFC 5764, 8827): browsers
)

var securities = [...]string{"none", "osrtp", "savp+avp", "sdes", "dtls"}

func (s Security) String() string { return securities[s] }

// Secret is what nobody but the two ends of a leg may know; it prints as dots.
type Secret []byte

func (s Secret) String() string { return "…" }

// GoString keeps %#v from showing it.
func (s Secret) GoString() string { return "…" }

// LogValue keeps logs from showing it.
func (s Secret) LogValue() slog.Value { return slog.StringValue("…") }

// MarshalJSON keeps JSON from showing it; who keeps it writes it otherwise.
func (s Secret) MarshalJSON() ([]byte, error) {
	if len(s) == 0 {
		return []byte(`""`), nil
	}
	return []byte(`"…"`), nil
}

// UnmarshalJSON finds out whether there was one; what it was JSON does not know.
func (s *Secret) UnmarshalJSON(b []byte) error {
	*s = nil
	if string(b) != `""` && string(b) != "null" {
		*s = Secret("…")
	}
	return nil
}

// Crypto is one a=crypto attribute (RFC 4568 §9.1): the key with which its owner encrypts.
type Crypto struct {
	Tag   int    `json:"tag"`
	Suite string `json:"suite"`         // AES_CM_128_HMAC_SHA1_80, AEAD_AES_128_GCM, …
	Key   Secret `json:"key"`           // master key and, behind it, master salt
	MKI   Secret `json:"mki,omitempty"` // master key identifier in every packet, most significant byte first; empty = none
}

// ICE is what one end of a line says of its ICE agent (RFC 8839).
type ICE struct {
	Ufrag      string      `json:"ufrag"`
	Pwd        Secret      `json:"pwd"`
	Lite       bool        `json:"lite,omitempty"`
	Candidates []Candidate `json:"candidates,omitempty"`
}

// Candidate is one a=candidate attribute (RFC 8839 §5.1), of component 1: RTCP is multiplexed.
type Candidate struct {
	Foundation string         `json:"foundation"`
	Transport  string         `json:"transport"` // udp, tcp
	Priority   uint32         `json:"priority"`
	Addr       netip.AddrPort `json:"addr"` // zero address for a name (mDNS), which is not resolved
	Type       string         `json:"type"` // host, srflx, prflx, relay
	TCPType    string         `json:"tcptype,omitempty"`
}

// Fingerprint names a certificate (RFC 8122 §5): Hash as in "sha-256", Value in hexadecimal with colons.
type Fingerprint struct {
	Hash  string `json:"hash"`
	Value string `json:"value"`
}

// Local is what a stream has to say of itself in descriptions.
type Local struct {
	Addr  netip.AddrPort // where it takes RTP
	SSRC  uint32         // of what it sends
	CNAME string

	Offers       Security      // how an offer offers SRTP; an answer follows the offer
	Crypto       []Crypto      // its keys, one for each suite, the preferred first; none = its signalling is not encrypted
	ICE          *ICE          // its agent; nil = it has none, and offers of DTLS cannot be answered
	Fingerprints []Fingerprint // of its certificate
	Active       bool          // it has begun the DTLS handshake, and keeps that part
	Required     bool          // it takes no audio in the clear
}

// Local returns what the stream has to say of itself, without keys for SDES (Stream.Crypto).
func (s *Stream) Local() Local {
	if s.ice != nil {
		return s.localICE(s.ice.announced())
	}
	return Local{Addr: s.endpoint, SSRC: s.line.ssrc.Load(), CNAME: s.ctrl.cname}
}

// Crypto returns the stream's own keys for SDES, one for each suite, the preferred first; they are made when they are first asked for.
func (s *Stream) Crypto() []Crypto {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	return s.ownKeys()
}

// LocalFor returns what the stream has to say of itself in the answer to an offer. It is Local, unless the offer restarts ICE (RFC 8839 §4.4.1.1): then
// the answer has new credentials, and they hold once it is applied.
func (s *Stream) LocalFor(offer Description) Local {
	if s.ice == nil {
		return s.Local()
	}
	their := ""
	for _, l := range offer.Lines {
		if l.audio() && l.ICE != nil {
			their = l.ICE.Ufrag
			break
		}
	}
	return s.localICE(s.ice.answering(their))
}

func (s *Stream) localICE(ice *ICE) Local {
	return Local{
		Addr: s.endpoint, SSRC: s.line.ssrc.Load(), CNAME: s.ctrl.cname, Offers: DTLS,
		ICE: ice, Fingerprints: []Fingerprint{s.ice.shared.identity.fingerprint},
	}
}
