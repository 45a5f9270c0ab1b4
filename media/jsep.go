package media

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
)

// What a browser says of its transport (RFC 8829, 8839, 8842), read and written.

// digests are the bytes of the hash functions of certificate fingerprints (RFC 8122 §5) that are understood; those that are too weak to
// trust alone have none.
var digests = map[string]int{"sha-256": 32, "sha-384": 48, "sha-512": 64}

// readTransport reads what belongs to ICE and DTLS; what the line does not say of itself, the session says for all.
func (l *Line) readTransport(line, session []sdp.Attribute) {
	one := func(key string) string {
		if v, ok := attributeOf(line, key); ok {
			return v
		}
		v, _ := attributeOf(session, key)
		return v
	}
	l.Setup = strings.ToLower(one("setup"))
	if l.Fingerprints = readFingerprints(line); len(l.Fingerprints) == 0 {
		l.Fingerprints = readFingerprints(session)
	}
	if ufrag, pwd := one("ice-ufrag"), one("ice-pwd"); credential(ufrag) && credential(pwd) {
		_, lite := attributeOf(session, "ice-lite")
		l.ICE = &ICE{Ufrag: ufrag, Pwd: Secret(pwd), Lite: lite, Candidates: readCandidates(line)}
	}
	if v, ok := attributeOf(line, "mid"); ok && len(strings.Fields(v)) == 1 {
		l.Mid = strings.TrimSpace(v)
	}
	l.Msid, _ = attributeOf(line, "msid")
	l.readSource(line)
}

func attributeOf(attrs []sdp.Attribute, key string) (string, bool) {
	for _, a := range attrs {
		if a.Key == key {
			return strings.TrimSpace(a.Value), true
		}
	}
	return "", false
}

// credential says whether v can be a user name fragment or password of ICE (RFC 8839 §5.4).
func credential(v string) bool {
	odd := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '+' || r == '/')
	}
	return v != "" && len(v) <= 256 && !strings.ContainsFunc(v, odd)
}

// readSource reads the first SSRC that has a name (RFC 5576 §4.1).
func (l *Line) readSource(attrs []sdp.Attribute) {
	for _, a := range attrs {
		if a.Key != "ssrc" {
			continue
		}
		id, rest, _ := strings.Cut(a.Value, " ")
		cname, named := strings.CutPrefix(strings.TrimSpace(rest), "cname:")
		if n, err := strconv.ParseUint(id, 10, 32); err == nil && named {
			l.SSRC, l.CNAME = uint32(n), strings.TrimSpace(cname)
			return
		}
	}
}

// readFingerprints reads the a=fingerprint attributes whose hash is understood.
func readFingerprints(attrs []sdp.Attribute) []Fingerprint {
	var all []Fingerprint
	for _, a := range attrs {
		f := strings.Fields(a.Value)
		if a.Key != "fingerprint" || len(f) != 2 || len(all) == maxFingerprints {
			continue
		}
		hash, value := strings.ToLower(f[0]), strings.ToUpper(f[1])
		if pairs(value, digests[hash]) {
			all = append(all, Fingerprint{Hash: hash, Value: value})
		}
	}
	return all
}

// pairs says whether v is n bytes, at least one, in hexadecimal with colons.
func pairs(v string, n int) bool {
	f := strings.Split(v, ":")
	odd := func(s string) bool {
		_, err := strconv.ParseUint(s, 16, 8)
		return len(s) != 2 || err != nil
	}
	return n > 0 && len(f) == n && !slices.ContainsFunc(f, odd)
}

// readCandidates reads the a=candidate attributes of component 1.
func readCandidates(attrs []sdp.Attribute) []Candidate {
	var all []Candidate
	for _, a := range attrs {
		if a.Key != "candidate" {
			continue
		}
		if c, ok := readCandidate(a.Value); ok {
			all = append(all, c)
		}
	}
	return all
}

// readCandidate reads `foundation 1 udp priority address port typ type …` (RFC 8839 §5.1, RFC 6544 §4.5). A name instead of an address
// (mDNS) is not looked up.
func readCandidate(v string) (Candidate, bool) {
	f := strings.Fields(v)
	if len(f) < 8 || f[1] != "1" || f[6] != "typ" {
		return Candidate{}, false
	}
	c := Candidate{Foundation: f[0], Transport: strings.ToLower(f[2]), Type: f[7]}
	priority, err := strconv.ParseUint(f[3], 10, 32)
	port, portErr := strconv.ParseUint(f[5], 10, 16)
	if err != nil || portErr != nil {
		return Candidate{}, false
	}
	a, _ := netip.ParseAddr(f[4])
	c.Priority, c.Addr = uint32(priority), netip.AddrPortFrom(a.Unmap().WithZone(""), uint16(port))
	for i := 8; i+1 < len(f); i += 2 {
		if f[i] == "tcptype" {
			c.TCPType = f[i+1]
		}
	}
	return c, true
}

func (c Candidate) value() string {
	f := []string{
		c.Foundation, "1", c.Transport, strconv.FormatUint(uint64(c.Priority), 10), c.Addr.Addr().String(), strconv.Itoa(int(c.Addr.Port())),
		"typ", c.Type,
	}
	if c.TCPType != "" {
		f = append(f, "tcptype", c.TCPType)
	}
	return strings.Join(f, " ")
}

// writeTransport adds what belongs to ICE and DTLS.
func (l Line) writeTransport(m *sdp.MediaDescription) {
	if l.SSRC != 0 {
		m.WithValueAttribute("ssrc", strconv.FormatUint(uint64(l.SSRC), 10)+" cname:"+l.CNAME)
	}
	if l.Msid != "" {
		m.WithValueAttribute("msid", l.Msid)
	}
	for _, f := range l.Fingerprints {
		m.WithValueAttribute("fingerprint", f.Hash+" "+f.Value)
	}
	if l.Setup != "" {
		m.WithValueAttribute("setup", l.Setup)
	}
	if l.ICE == nil {
		return
	}
	m.WithValueAttribute("ice-ufrag", l.ICE.Ufrag).WithValueAttribute("ice-pwd", string(l.ICE.Pwd))
	for _, c := range l.ICE.Candidates {
		if c.Addr.Addr().IsValid() {
			m.WithValueAttribute("candidate", c.value())
		}
	}
}

// dtls says whether the line has all that DTLS-SRTP over ICE takes; without a profile for SRTP it is not meant to be (RFC 5764 §8).
func (l Line) dtls() bool { return l.secure() && l.ICE != nil && len(l.Fingerprints) > 0 }

// browserLine adds to our line what makes it one of DTLS-SRTP over ICE, RTCP with it.
func (l Line) browserLine(local Local, mid, setup string) Line {
	l.ICE, l.Fingerprints, l.Setup, l.Mid = local.ICE, local.Fingerprints, setup, mid
	l.SSRC, l.CNAME, l.Msid, l.RTCPMux = local.SSRC, local.CNAME, msid, true
	l.RTCP = l.Addr
	return l
}

// msid names the stream and the track of what a browser hears (RFC 8830): without it a page is given a track without a stream.
const msid = "baton audio"

// roleTowards is our part in the DTLS handshake with the owner of the line, as an answer says it (RFC 5763 §5, RFC 8842 §5.3): to one who
// leaves it open we leave the beginning, which saves a round trip, unless we have begun before.
func (l Line) roleTowards(begun bool) string {
	if l.Setup == "passive" || l.Setup != "active" && begun {
		return "active"
	}
	return "passive"
}

// begins says whether the owner of the line begins the DTLS handshake with the owner of other.
func (l Line) begins(other Line) bool {
	return l.Setup == "active" || l.Setup != "passive" && other.Setup == "passive"
}

// WebRTC says whether the description's audio is for DTLS-SRTP over ICE, as that of browsers is.
func (d Description) WebRTC() bool {
	return slices.ContainsFunc(d.Lines, func(l Line) bool { return l.audio() && l.dtls() })
}

// bundle reads the first a=group:BUNDLE.
func bundle(attrs []sdp.Attribute) []string {
	for _, a := range attrs {
		if f := strings.Fields(a.Value); a.Key == "group" && len(f) > 1 && f[0] == "BUNDLE" {
			return f[1:min(len(f), 1+maxLines)]
		}
	}
	return nil
}
