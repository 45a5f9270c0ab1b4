package media

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
)

// Limits on what is parsed at all.
const (
	maxSDP        = 16 << 10
	maxLines      = 8
	maxFormats    = 64
	maxCandidates = 64 // of ICE (RFC 8839 §5.1), in all lines together
)

// ParseSDP reads a session description of at most 16 KiB, 8 m-lines and 64 candidates. It is liberal in the order of lines and with what it has no use
// for: kinds of media it does not know are kept so that they can be refused.
func ParseSDP(b []byte) (Description, error) {
	if len(b) > maxSDP {
		return Description{}, fmt.Errorf("parse SDP of %d bytes: %w", len(b), ErrTooLarge)
	}
	if n := bytes.Count(b, []byte("\na=candidate:")); n > maxCandidates {
		return Description{}, fmt.Errorf("parse SDP of %d candidates: %w", n, ErrTooLarge)
	}
	text, names := tidy(b)
	if len(names) > maxLines {
		return Description{}, fmt.Errorf("parse SDP of %d m-lines: %w", len(names), ErrTooLarge)
	}
	for _, n := range names {
		if len(n) < 3 { // the formats are missing where some phones refuse a line
			return Description{}, fmt.Errorf("parse SDP: m-line of %d fields", len(n))
		}
	}
	var raw sdp.SessionDescription
	if err := raw.UnmarshalString(text); err != nil {
		return Description{}, fmt.Errorf("parse SDP: %w", err)
	}
	d := Description{
		Origin: Origin{User: raw.Origin.Username, ID: raw.Origin.SessionID, Version: raw.Origin.SessionVersion},
		Addr:   address(raw.ConnectionInformation),
	}
	for i, m := range raw.MediaDescriptions {
		d.Lines = append(d.Lines, readLine(m, names[i], d.Addr, raw.Attributes))
	}
	d.Bundle = bundle(raw.Attributes)
	return d, nil
}

// tidy brings a description into the strict form that the parser wants: lines in order, only those that matter here, and m-lines of kinds or
// protocols unknown to it replaced. It also returns the fields of each m-line as they stood.
func tidy(b []byte) (text string, names [][]string) {
	var head, medias strings.Builder
	one := map[byte]string{'s': "s=-"}
	to := &head
	for line := range bytes.Lines(b) {
		l := string(bytes.TrimRight(line, "\r\n\x00 "))
		if len(l) < 2 || l[1] != '=' || strings.ContainsFunc(l, func(r rune) bool { return r < ' ' && r != '\t' }) {
			continue
		}
		switch key := l[0]; {
		case key == 'm':
			to = &medias
			names = append(names, strings.Fields(l[2:]))
			to.WriteString(stand(names[len(names)-1]))
		case key == 'a' || key == 'c' && to == &medias:
			to.WriteString(l + "\r\n")
		case to == &head && (key == 'v' || key == 'o' || key == 'c'):
			one[key] = l
		}
	}
	var out strings.Builder
	for _, key := range "vosc" {
		if l := one[byte(key)]; l != "" {
			out.WriteString(l + "\r\n")
		}
	}
	out.WriteString("t=0 0\r\n" + head.String() + medias.String())
	return out.String(), names
}

// stand is the m-line given to the parser for one with these fields: the port is what it reads, the rest it only checks.
func stand(fields []string) string {
	port := "0"
	if len(fields) > 1 {
		port = fields[1]
	}
	return "m=audio " + port + " RTP/AVP 0\r\n"
}

func readLine(m *sdp.MediaDescription, name []string, session netip.Addr, whole []sdp.Attribute) Line {
	at := session
	if m.ConnectionInformation != nil {
		at = address(m.ConnectionInformation)
	}
	l := Line{Kind: name[0], Proto: name[2], Formats: name[3:min(len(name), 3+maxFormats)]}
	l.Addr = netip.AddrPortFrom(at, uint16(m.MediaName.Port.Value))
	l.RTCP = next(l.Addr)
	l.Direction = directionOf(m.Attributes, directionOf(whole, SendRecv))
	_, l.RTCPMux = m.Attribute("rtcp-mux")
	_, l.Keyed = m.Attribute("crypto")
	l.Crypto = readCryptos(m.Attributes)
	l.readTransport(m.Attributes, whole)
	if v, ok := m.Attribute("rtcp"); ok && l.Addr.Port() != 0 {
		l.RTCP = rtcpAddress(v, at, l.RTCP)
	}
	if v, ok := m.Attribute("ptime"); ok {
		l.Ptime = ptime(v)
	}
	if strings.Contains(l.Proto, "RTP/") {
		l.Codecs = codecs(l.Formats, m.Attributes)
	}
	return l
}

// address reads a c= line; a host name gives the zero Addr, and the source of the peer's packets has to be waited for.
func address(c *sdp.ConnectionInformation) netip.Addr {
	if c == nil || c.Address == nil {
		return netip.Addr{}
	}
	a, _ := netip.ParseAddr(c.Address.Address)
	return a.Unmap().WithZone("")
}

// rtcpAddress reads a=rtcp (RFC 3605): a port, and perhaps an address.
func rtcpAddress(v string, at netip.Addr, otherwise netip.AddrPort) netip.AddrPort {
	f := strings.Fields(v)
	if len(f) == 0 {
		return otherwise
	}
	port, err := strconv.ParseUint(f[0], 10, 16)
	if err != nil || port == 0 {
		return otherwise
	}
	if len(f) > 3 {
		if a, err := netip.ParseAddr(f[3]); err == nil {
			at = a.Unmap().WithZone("")
		}
	}
	return netip.AddrPortFrom(at, uint16(port))
}

// ptime reads milliseconds; some phones write 20.0, and nothing over 200 is meant.
func ptime(v string) int {
	f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
	if err != nil || f < 1 || f > 200 {
		return 0
	}
	return int(f)
}

func directionOf(attrs []sdp.Attribute, otherwise Direction) Direction {
	for i := len(attrs) - 1; i >= 0; i-- {
		for d, name := range directions {
			if strings.EqualFold(attrs[i].Key, name) {
				return Direction(d)
			}
		}
	}
	return otherwise
}

// codecs reads the payload formats in the order of the m-line, by rtpmap or by the static table.
func codecs(formats []string, attrs []sdp.Attribute) []Codec {
	maps, fmtps := map[string]string{}, map[string]string{}
	for _, a := range attrs {
		pt, rest, _ := strings.Cut(strings.TrimSpace(a.Value), " ")
		switch strings.ToLower(a.Key) {
		case "rtpmap":
			maps[pt] = strings.TrimSpace(rest)
		case "fmtp":
			fmtps[pt] = strings.TrimSpace(rest)
		}
	}
	var out []Codec
	var seen [128]bool
	for _, f := range formats {
		pt, err := strconv.ParseUint(f, 10, 7)
		if err != nil || seen[pt] {
			continue
		}
		c, ok := static[uint8(pt)]
		if m := maps[f]; m != "" {
			c, ok = rtpmap(m)
		}
		if ok {
			c.PT, c.Fmtp, seen[pt] = uint8(pt), fmtps[f], true
			out = append(out, c)
		}
	}
	return out
}

// rtpmap reads name/clock[/channels].
func rtpmap(v string) (Codec, bool) {
	f := strings.Split(v, "/")
	if len(f) < 2 || f[0] == "" || strings.ContainsAny(f[0], " \t") {
		return Codec{}, false
	}
	c := Codec{Name: f[0]}
	rate, err := strconv.ParseUint(strings.TrimSpace(f[1]), 10, 20)
	if err != nil || rate < 1000 {
		return Codec{}, false
	}
	c.Rate = int(rate)
	if len(f) > 2 {
		n, err := strconv.ParseUint(strings.TrimSpace(f[2]), 10, 4)
		if err != nil {
			return Codec{}, false
		}
		if n > 1 {
			c.Channels = int(n)
		}
	}
	return c, true
}
