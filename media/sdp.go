package media

import "net/netip"

// Direction says which ways media flows, seen by the one whose description it stands in (RFC 8866 §6.7).
type Direction uint8

// The directions; the zero value is the default of a description that names none.
const (
	SendRecv Direction = iota
	SendOnly
	RecvOnly
	Inactive
)

// Reverse returns the direction as the other side sees it.
func (d Direction) Reverse() Direction { return d }

// String returns the attribute's name, "sendrecv" and so on.
func (d Direction) String() string { return "" }

// Line is one m-line with what belongs to it.
type Line struct {
	Kind      string         `json:"kind"`  // audio, video, …
	Proto     string         `json:"proto"` // RTP/AVP, RTP/SAVP, …
	Addr      netip.AddrPort `json:"addr"`  // where its owner wants RTP; port 0 = refused
	RTCP      netip.AddrPort `json:"rtcp"`  // where its owner wants RTCP
	Codecs    []Codec        `json:"codecs,omitempty"`
	Direction Direction      `json:"direction"`
	Ptime     int            `json:"ptime,omitempty"` // milliseconds, 0 = not said
	RTCPMux   bool           `json:"rtcp_mux,omitempty"`
	Formats   []string       `json:"formats,omitempty"` // raw, for refusing
}

// Origin is what stands in o=: the leg's own session id, and a version that grows by 1 with every change (RFC 3264 §8).
type Origin struct {
	User    string `json:"user"`
	ID      uint64 `json:"id"`
	Version uint64 `json:"version"`
}

// Description is a session description as a plain value.
type Description struct {
	Origin Origin     `json:"origin"`
	Addr   netip.Addr `json:"addr"`
	Lines  []Line     `json:"lines"`
}

// ParseSDP reads a session description of at most 16 KiB and 8 m-lines.
func ParseSDP(b []byte) (Description, error) { return Description{}, nil }

// Marshal writes the description.
func (d Description) Marshal() []byte { return nil }

// Audio returns the first usable audio line and its index.
func (d Description) Audio() (Line, int, bool) { return Line{}, 0, false }

// Held says whether the owner of the description does not want to hear us, in any of the dialects of hold.
func (d Description) Held() bool { return false }

// WithDirection returns a copy whose audio has the direction dir.
func (d Description) WithDirection(dir Direction) Description { return d }

// NewOffer returns an offer of one audio line.
func NewOffer(o Origin, codecs []Codec, at netip.AddrPort, dir Direction) Description {
	return Description{}
}

// NewAnswer answers offer (RFC 3264 §6) with those of its codecs that are in codecs.
func NewAnswer(o Origin, offer Description, codecs []Codec, at netip.AddrPort, dir Direction) (Description, error) {
	return Description{}, nil
}

// Agreement is what an offer and its answer come to, seen by the local side.
type Agreement struct {
	Remote     netip.AddrPort `json:"remote"`
	RemoteRTCP netip.AddrPort `json:"remote_rtcp"`
	Send       []Codec        `json:"send"`
	Recv       []Codec        `json:"recv"`
	Direction  Direction      `json:"direction"`
	Ptime      int            `json:"ptime,omitempty"`
}

// Agree says what local and remote come to; either may be the offer.
func Agree(local, remote Description) (Agreement, error) { return Agreement{}, nil }
