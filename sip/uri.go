package sip

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// errScheme marks a URI that may be well-formed but whose scheme is none of ours (answered 416).
var errScheme = errors.New("unknown URI scheme")

// ParseURI reads a SIP, SIPS or tel URI (RFC 3261 §25.1, RFC 3966 §3). Escapes are resolved in the parts, not before
// they are told apart; a password is dropped.
func ParseURI(s string) (URI, error) {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || !isScheme(scheme) {
		return URI{}, fmt.Errorf("URI %q has no scheme", s)
	}
	for i := 0; i < len(rest); i++ {
		if c := rest[i]; c <= ' ' || c == 0x7f || c == '<' || c == '>' || c == '"' {
			return URI{}, fmt.Errorf("URI %q has a character that must be escaped", s)
		}
	}
	u := URI{Scheme: strings.ToLower(scheme)}
	var err error
	switch u.Scheme {
	case "sip", "sips":
		err = u.parseSIP(rest)
	case "tel":
		err = u.parseTel(rest)
	default:
		err = errScheme
	}
	if err != nil {
		return URI{}, fmt.Errorf("URI %q: %w", s, err)
	}
	return u, nil
}

func isScheme(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlnum(s[i]) && strings.IndexByte("+-.", s[i]) < 0 {
			return false
		}
	}
	return s != "" && (s[0] < '0' || s[0] > '9')
}

func (u *URI) parseSIP(s string) error {
	if user, rest, ok := strings.Cut(s, "@"); ok {
		user, _, _ = strings.Cut(user, ":")
		if user == "" {
			return errors.New("empty user")
		}
		u.User, s = unescape(user), rest
	}
	s, headers, _ := strings.Cut(s, "?")
	hostport, params, _ := strings.Cut(s, ";")
	var err error
	if u.Host, u.Port, err = parseHostPort(hostport); err != nil {
		return err
	}
	if u.Params, err = parseEscaped(params, ";"); err != nil {
		return err
	}
	u.Headers, err = parseEscaped(headers, "&")
	return err
}

func (u *URI) parseTel(s string) error {
	number, params, _ := strings.Cut(s, ";")
	if number == "" || strings.Trim(number, "+-.()0123456789*#abcdefABCDEF") != "" {
		return errors.New("bad telephone number")
	}
	u.User = number
	var err error
	u.Params, err = parseEscaped(params, ";")
	return err
}

// parseEscaped reads the parameters or headers of a URI.
func parseEscaped(s, sep string) (Params, error) {
	var out Params
	for s != "" {
		var one string
		one, s, _ = strings.Cut(s, sep)
		if one == "" {
			continue
		}
		name, value, _ := strings.Cut(one, "=")
		if name == "" {
			return nil, errors.New("a value has no name")
		}
		out = append(out, Param{unescape(name), unescape(value)})
	}
	return out, nil
}

// parseHostPort reads host[:port]; an IPv6 reference loses its brackets (RFC 5118 §4).
func parseHostPort(s string) (host string, port int, err error) {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", 0, fmt.Errorf("host %q: bracket is not closed", s)
		}
		ip, err := netip.ParseAddr(s[1:end])
		if err != nil || !ip.Is6() || ip.Zone() != "" {
			return "", 0, fmt.Errorf("host %q is no IPv6 address", s)
		}
		host, s = s[1:end], s[end+1:]
	} else {
		host, s = s, ""
		if i := strings.IndexByte(host, ':'); i >= 0 {
			host, s = host[:i], host[i:]
		}
		if !isHost(host) {
			return "", 0, fmt.Errorf("bad host %q", host)
		}
	}
	if s == "" {
		return host, 0, nil
	}
	if s[0] != ':' {
		return "", 0, fmt.Errorf("bad text after host: %q", s)
	}
	port, err = parsePort(s[1:])
	return host, port, err
}

func parsePort(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("bad port %q", s)
	}
	return int(n), nil
}

func isHost(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlnum(s[i]) && strings.IndexByte("-._", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

// String writes the URI, escaping what RFC 3261 §25.1 wants escaped in each part.
func (u URI) String() string {
	var b strings.Builder
	b.Grow(64)
	b.WriteString(u.Scheme)
	b.WriteByte(':')
	if u.Scheme == "tel" {
		b.WriteString(u.User)
	} else {
		u.writeAddress(&b)
	}
	for _, p := range u.Params {
		b.WriteByte(';')
		writePair(&b, p, "[]/:&+$")
	}
	for i, p := range u.Headers {
		b.WriteByte("?&"[min(i, 1)])
		escape(&b, p.Name, "[]/?:+$")
		b.WriteByte('=')
		escape(&b, p.Value, "[]/?:+$")
	}
	return b.String()
}

func (u URI) writeAddress(b *strings.Builder) {
	if u.User != "" {
		escape(b, u.User, "&=+$,;?/")
		b.WriteByte('@')
	}
	writeHostPort(b, u.Host, u.Port)
}

func writePair(b *strings.Builder, p Param, also string) {
	escape(b, p.Name, also)
	if p.Value != "" {
		b.WriteByte('=')
		escape(b, p.Value, also)
	}
}

func hostPort(host string, port int) string {
	var b strings.Builder
	b.Grow(len(host) + 8)
	writeHostPort(&b, host, port)
	return b.String()
}

func writeHostPort(b *strings.Builder, host string, port int) {
	if strings.IndexByte(host, ':') >= 0 {
		b.WriteByte('[')
		b.WriteString(host)
		b.WriteByte(']')
	} else {
		b.WriteString(host)
	}
	if port != 0 {
		var digits [8]byte
		b.WriteByte(':')
		b.Write(strconv.AppendInt(digits[:0], int64(port), 10))
	}
}
