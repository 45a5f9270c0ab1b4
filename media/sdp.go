package media

import (
	"net/netip"
	"slices"
	"strings"
)

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
	Keyed     bool           `json:"keyed,omitempty"`   // it has a=crypto, if only what cannot be used; never written
	Formats   []string       `json:"formats,omitempty"` // raw, for refusing

	Crypto       []Crypto      `json:"crypto,omitempty"` // that can be used (RFC 4568)
	ICE          *ICE          `json:"ice,omitempty"`
	Fingerprints []Fingerprint `json:"fingerprints,omitempty"`
	Setup        string        `json:"setup,omitempty"` // of DTLS (RFC 4145 §4): actpass, active, passive
	Mid          string        `json:"mid,omitempty"`   // RFC 5888
	SSRC         uint32        `json:"ssrc,omitempty"`  // RFC 5576, with its CNAME
	CNAME        string        `json:"cname,omitempty"`
	Msid         string        `json:"msid,omitempty"` // RFC 8830
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
	Addr   netip.Addr `json:"addr"` // of the session; a line may have its own
	Lines  []Line     `json:"lines"`
	Bundle []string   `json:"bundle,omitempty"` // mids that share a transport (RFC 9143)
}

// Audio returns the first usable audio line and its index: not refused, and with keys where its profile is one of SRTP. Where there are two
// of one audio, in the clear and not, either stands for both.
func (d Description) Audio() (Line, int, bool) {
	for i, l := range d.Lines {
		if l.audio() && (!l.secure() || l.keys()) {
			return l, i, true
		}
	}
	return Line{}, -1, false
}

func (l Line) audio() bool { return l.Kind == "audio" && l.Addr.Port() != 0 }

// keys says whether the line has what keys are made of.
func (l Line) keys() bool { return len(l.Crypto) > 0 || l.dtls() }

// secure says whether the line is SRTP by its profile (RFC 3711 §12, RFC 5764 §8). AVP with a=crypto is not: it can be answered in the clear.
func (l Line) secure() bool { return strings.Contains(strings.ToUpper(l.Proto), "SAVP") }

// Encryption is how an offer offers SRTP: "none", "osrtp" (keys with AVP, RFC 8643), "savp+avp" (a line of each), "savp", which cannot be
// answered in the clear, or "dtls".
func (d Description) Encryption() string {
	has := func(what func(Line) bool) bool {
		return slices.ContainsFunc(d.Lines, func(l Line) bool { return l.audio() && what(l) })
	}
	clear := has(func(l Line) bool { return !l.secure() })
	switch {
	case has(Line.dtls):
		return "dtls"
	case has(Line.secure) && clear:
		return "savp+avp"
	case has(Line.secure):
		return "savp"
	case has(func(l Line) bool { return l.Keyed }):
		return "osrtp"
	}
	return "none"
}

// HoldDialect is how a description that holds says so: its direction, or "0.0.0.0".
func (d Description) HoldDialect() string {
	line, _, ok := d.Audio()
	switch {
	case !ok || !d.Held():
		return ""
	case line.unsendable():
		return "0.0.0.0"
	}
	return line.Direction.String()
}

// noAudio says why d has no usable audio line.
func (d Description) noAudio() error {
	switch {
	case slices.ContainsFunc(d.Lines, func(l Line) bool { return l.audio() && l.secure() }):
		return ErrSecure
	case slices.ContainsFunc(d.Lines, Line.audio):
		return ErrClear
	}
	return ErrNoAudio
}

// Held says whether the owner of the description does not want to hear us, in any of the dialects of hold: a direction other than sendrecv
// (RFC 3264 §8.4; some phones say recvonly), or the address 0.0.0.0 of RFC 2543.
func (d Description) Held() bool {
	l, _, ok := d.Audio()
	return ok && l.willing() != SendRecv
}

// willing is the line's direction when an address that cannot be sent to (RFC 2543 §B.5) is taken for what it means.
func (l Line) willing() Direction {
	if l.unsendable() {
		return l.Direction.and(SendOnly)
	}
	return l.Direction
}

// unsendable says whether the line's address is the one that means hold. With ICE it means that candidates are to come (RFC 8839 §4.3.3).
func (l Line) unsendable() bool { return l.Addr.Addr().IsUnspecified() && !l.dtls() }

// WithDirection returns a copy whose audio has the direction dir.
func (d Description) WithDirection(dir Direction) Description {
	d.Lines = slices.Clone(d.Lines)
	for i, l := range d.Lines {
		if l.audio() {
			d.Lines[i].Direction = dir
		}
	}
	return d
}
