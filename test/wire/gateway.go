package wire

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
)

// swap is an address as it stands in a message, and what is put in its place.
type swap struct{ from, to netip.AddrPort }

// translate puts the addresses of the other side into a SIP message that goes that way: those of SIP wherever they stand,
// those of audio in a session description. mu is held.
func (p *Path) translate(msg []byte, up bool, sip [2]swap) []byte {
	head, body, ok := bytes.Cut(msg, []byte("\r\n\r\n"))
	if !ok {
		return msg // keep-alive
	}
	text := replaceBoth(string(head), sip)
	if bytes.Contains(body, []byte("m=audio ")) {
		body = []byte(p.description(string(body), up))
		text = setLength(text, len(body))
	}
	return append([]byte(text+"\r\n\r\n"), body...)
}

// replaceBoth replaces two addresses in one pass, for one may look like the other's replacement.
func replaceBoth(s string, by [2]swap) string {
	var out strings.Builder
	for len(s) > 0 {
		at, which := len(s), -1
		for i, w := range by {
			if k := indexAddr(s, w.from.String()); k >= 0 && k < at {
				at, which = k, i
			}
		}
		out.WriteString(s[:at])
		if which < 0 {
			break
		}
		out.WriteString(by[which].to.String())
		s = s[at+len(by[which].from.String()):]
	}
	return out.String()
}

// indexAddr finds addr where it is no part of a longer number.
func indexAddr(s, addr string) int {
	for from := 0; ; {
		k := strings.Index(s[from:], addr)
		if k < 0 {
			return -1
		}
		k += from
		end := k + len(addr)
		if (k == 0 || !numeric(s[k-1])) && (end == len(s) || !numeric(s[end])) {
			return k
		}
		from = end
	}
}

func numeric(c byte) bool { return c >= '0' && c <= '9' || c == '.' }

// description puts the path's own address and port into the first audio line.
func (p *Path) description(sdp string, up bool) string {
	lines := strings.Split(sdp, "\r\n")
	var host netip.Addr
	where, media := -1, -1
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "c=") && (where < 0 || media >= 0):
			f := strings.Fields(line)
			host, _ = netip.ParseAddr(f[len(f)-1])
			where = i
		case strings.HasPrefix(line, "m=audio ") && media < 0:
			media = i
		case strings.HasPrefix(line, "m="):
			return p.place(lines, where, media, host, up)
		}
	}
	return p.place(lines, where, media, host, up)
}

func (p *Path) place(lines []string, where, media int, host netip.Addr, up bool) string {
	whole := strings.Join(lines, "\r\n")
	if where < 0 || media < 0 || !host.IsValid() || host.IsUnspecified() {
		return whole
	}
	f := strings.Fields(lines[media])
	if len(f) < 2 {
		return whole
	}
	port, err := strconv.ParseUint(f[1], 10, 16)
	if err != nil || port == 0 {
		return whole
	}
	s, err := p.image(!up, RTP, netip.AddrPortFrom(host, uint16(port)))
	if err != nil {
		return whole
	}
	lines[where] = "c=IN IP4 " + s.at().Addr().String()
	f[1] = strconv.Itoa(int(s.at().Port()))
	lines[media] = strings.Join(f, " ")
	return strings.Join(lines, "\r\n")
}

// setLength writes the length of the new body.
func setLength(head string, n int) string {
	lines := strings.Split(head, "\r\n")
	for i, line := range lines {
		name, _, _ := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); strings.EqualFold(name, "Content-Length") || strings.EqualFold(name, "l") {
			lines[i] = "Content-Length: " + strconv.Itoa(n)
		}
	}
	return strings.Join(lines, "\r\n")
}
