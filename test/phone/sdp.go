package phone

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Codec is one payload type of an audio line.
type Codec struct {
	Name     string
	PT       uint8
	Rate     int // of the RTP clock
	Channels int
	Fmtp     string
}

// The codecs that tests name. What is sent as OPUS is no opus, only numbered bytes under its payload type.
var (
	PCMU = Codec{Name: "PCMU", PT: 0, Rate: 8000}
	PCMA = Codec{Name: "PCMA", PT: 8, Rate: 8000}
	G722 = Codec{Name: "G722", PT: 9, Rate: 8000}
	OPUS = Codec{Name: "opus", PT: 111, Rate: 48000, Channels: 2, Fmtp: "useinbandfec=1"}
	GSM  = Codec{Name: "GSM", PT: 3, Rate: 8000}
	DTMF = Codec{Name: "telephone-event", PT: 101, Rate: 8000, Fmtp: "0-16"}

	WideDTMF = Codec{Name: "telephone-event", PT: 113, Rate: 48000, Fmtp: "0-16"} // beside opus
)

func (c Codec) same(o Codec) bool { return strings.EqualFold(c.Name, o.Name) && c.Rate == o.Rate }

func (c Codec) event() bool { return strings.EqualFold(c.Name, "telephone-event") }

// Description is what the phone reads of a peer's SDP: the first audio line that is not refused.
type Description struct {
	Session   uint64 // sess-id and
	Version   uint64 // sess-version of the o= line
	Addr      netip.AddrPort
	Control   netip.AddrPort // of RTCP (RFC 3605), the next port where nothing is said
	Codecs    []Codec
	Direction string // sendrecv if none is said
	Crypto    bool   // an a=crypto line was there
	Keys      []Crypto
	Ufrag     string   // of ICE
	Profile   string   // of the audio line
	Lines     []string // all m= lines
	Index     int      // of the audio line
}

// ParseSDP reads a session description as far as a phone needs it (RFC 8866).
func ParseSDP(body []byte) (Description, error) {
	return parseSDP(body, func(string, bool) bool { return true })
}

// keyed says of each m= line of a description whether it has a=crypto.
func keyed(body []byte) []bool {
	var all []bool
	for line := range strings.Lines(string(body)) {
		switch {
		case strings.HasPrefix(line, "m="):
			all = append(all, false)
		case strings.HasPrefix(line, "a=crypto:") && len(all) > 0:
			all[len(all)-1] = true
		}
	}
	return all
}

// parseSDP reads the first audio line that the phone takes.
func parseSDP(body []byte, takes func(profile string, keyed bool) bool) (Description, error) {
	d := Description{Direction: "sendrecv"}
	keys := keyed(body)
	var host netip.Addr
	var port, audio int
	names := map[uint8]*Codec{}
	var order []uint8
	in := true // in the session part or in the audio line that is read
	for _, line := range strings.Split(strings.ReplaceAll(string(body), "\r\n", "\n"), "\n") {
		kind, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		f := strings.Fields(value)
		switch {
		case kind == "m":
			d.Lines = append(d.Lines, value)
			in = audio == 0 && len(f) > 3 && f[0] == "audio" && f[1] != "0" && takes(f[2], keys[len(d.Lines)-1])
			if in {
				audio++
				d.Index, d.Profile = len(d.Lines)-1, f[2]
				port, _ = strconv.Atoi(f[1])
				order = payloads(f[3:], names)
			}
		case !in:
		case kind == "o" && len(f) == 6:
			d.Session, _ = strconv.ParseUint(f[1], 10, 64)
			d.Version, _ = strconv.ParseUint(f[2], 10, 64)
		case kind == "c" && len(f) == 3:
			host, _ = netip.ParseAddr(f[2])
		case kind == "a":
			d.attribute(value, names)
		}
	}
	if audio == 0 {
		return d, fmt.Errorf("no audio line in %q", body)
	}
	d.Addr = netip.AddrPortFrom(host, uint16(port))
	switch {
	case d.Control.Port() == 0:
		d.Control = netip.AddrPortFrom(host, uint16(port)+1)
	case !d.Control.Addr().IsValid():
		d.Control = netip.AddrPortFrom(host, d.Control.Port())
	}
	for _, pt := range order {
		d.Codecs = append(d.Codecs, *names[pt])
	}
	return d, nil
}

// payloads notes the payload types of an m= line; the static ones have their meaning from RFC 3551.
func payloads(fields []string, names map[uint8]*Codec) []uint8 {
	var order []uint8
	for _, f := range fields {
		n, err := strconv.ParseUint(f, 10, 7)
		if err != nil {
			continue
		}
		pt := uint8(n)
		names[pt] = &Codec{PT: pt, Rate: 8000}
		for _, c := range []Codec{PCMU, PCMA, G722, GSM} {
			if c.PT == pt {
				names[pt] = &c
			}
		}
		order = append(order, pt)
	}
	return order
}

// rtcp reads a=rtcp:PORT [IN IP4 ADDRESS].
func (d *Description) rtcp(value string) {
	f := strings.Fields(value)
	if len(f) == 0 {
		return
	}
	port, _ := strconv.ParseUint(f[0], 10, 16)
	var at netip.Addr
	if len(f) == 4 {
		at, _ = netip.ParseAddr(f[3])
	}
	d.Control = netip.AddrPortFrom(at, uint16(port))
}

func (d *Description) attribute(value string, names map[uint8]*Codec) {
	name, rest, _ := strings.Cut(value, ":")
	switch name {
	case "sendrecv", "sendonly", "recvonly", "inactive":
		d.Direction = name
	case "rtcp":
		d.rtcp(rest)
	case "ice-ufrag":
		d.Ufrag = rest
	case "crypto":
		d.Crypto = true
		if c, ok := parseCrypto(rest); ok {
			d.Keys = append(d.Keys, c)
		}
	case "rtpmap", "fmtp":
		number, text, _ := strings.Cut(rest, " ")
		pt, _ := strconv.ParseUint(number, 10, 7)
		c := names[uint8(pt)]
		if c == nil {
			return
		}
		if name == "fmtp" {
			c.Fmtp = text
			return
		}
		parts := strings.Split(text, "/")
		c.Name = parts[0]
		if len(parts) > 1 {
			c.Rate, _ = strconv.Atoi(parts[1])
		}
		if len(parts) > 2 {
			c.Channels, _ = strconv.Atoi(parts[2])
		}
	}
}

// offer is what the phone writes itself: one audio line at addr.
type offer struct {
	session, version uint64
	addr             netip.AddrPort
	codecs           []Codec
	direction        string
	bare             bool // say no direction, as RFC 2543 phones do
	restart          bool // of a browser: begin ICE anew

	profile string // RTP/AVP if empty
	keys    []Crypto
	twofold bool     // of an offer: a line with keys, then one without
	lines   []string // of an answer: the m= lines of the offer, all refused but that at index
	index   int
}

func (o offer) bytes() []byte {
	var b strings.Builder
	family := "IP4"
	if o.addr.Addr().Is6() {
		family = "IP6"
	}
	host := o.addr.Addr().String()
	fmt.Fprintf(&b, "v=0\r\no=phone %d %d IN %s %s\r\ns=-\r\nc=IN %s %s\r\nt=0 0\r\n", o.session, o.version, family, host, family, host)
	if o.twofold {
		o.audio(&b, "RTP/SAVP", o.keys)
		o.audio(&b, "RTP/AVP", nil)
		return []byte(b.String())
	}
	for i, line := range o.lines {
		if f := strings.Fields(line); i < o.index {
			fmt.Fprintf(&b, "m=%s 0 %s\r\n", f[0], strings.Join(f[2:], " "))
		}
	}
	o.audio(&b, cmp.Or(o.profile, "RTP/AVP"), o.keys)
	for i, line := range o.lines {
		if f := strings.Fields(line); i > o.index {
			fmt.Fprintf(&b, "m=%s 0 %s\r\n", f[0], strings.Join(f[2:], " "))
		}
	}
	return []byte(b.String())
}

// audio writes one audio line.
func (o offer) audio(b *strings.Builder, profile string, keys []Crypto) {
	fmt.Fprintf(b, "m=audio %d %s", o.addr.Port(), profile)
	for _, c := range o.codecs {
		fmt.Fprintf(b, " %d", c.PT)
	}
	b.WriteString("\r\n")
	for _, c := range o.codecs {
		channels := ""
		if c.Channels > 1 {
			channels = fmt.Sprintf("/%d", c.Channels)
		}
		fmt.Fprintf(b, "a=rtpmap:%d %s/%d%s\r\n", c.PT, c.Name, c.Rate, channels)
		if c.Fmtp != "" {
			fmt.Fprintf(b, "a=fmtp:%d %s\r\n", c.PT, c.Fmtp)
		}
	}
	for _, k := range keys {
		fmt.Fprintf(b, "a=crypto:%s\r\n", k)
	}
	b.WriteString("a=ptime:20\r\n")
	if !o.bare {
		fmt.Fprintf(b, "a=%s\r\n", o.direction)
	}
}

// common keeps of the offered codecs those that are ours too, in the offer's order and with its payload types (RFC 3264 §6.1).
func common(offered, ours []Codec) []Codec {
	var both []Codec
	for _, c := range offered {
		for _, o := range ours {
			if c.same(o) {
				both = append(both, c)
				break
			}
		}
	}
	return both
}

// talks says whether there is a codec among them that carries a voice.
func talks(codecs []Codec) bool {
	for _, c := range codecs {
		if !c.event() {
			return true
		}
	}
	return false
}
