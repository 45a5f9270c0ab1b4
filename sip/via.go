package sip

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// via is one Via value (RFC 3261 §20.42).
type via struct {
	transport string // as written
	host      string
	port      int
	params    Params
}

const magic = "z9hG4bK" // RFC 3261 §8.1.1.7

// parseVia reads one Via value, with white space wherever the grammar lets it stand.
func parseVia(s string) (via, error) {
	s, params := trim(s), ""
	if i := strings.IndexByte(s, ';'); i >= 0 {
		s, params = trim(s[:i]), s[i:]
	}
	var v via
	name, rest, ok1 := strings.Cut(s, "/")
	version, rest, ok2 := strings.Cut(rest, "/")
	rest = trim(rest)
	i := indexBlank(rest)
	if !ok1 || !ok2 || i < 0 || !strings.EqualFold(trim(name), "SIP") || trim(version) != "2.0" {
		return v, fmt.Errorf("bad Via %q", s)
	}
	v.transport = rest[:i]
	if !isToken(v.transport) {
		return v, fmt.Errorf("bad transport in Via %q", s)
	}
	if strings.Contains(strings.ReplaceAll(trim(params), " ", ""), ";;") {
		return v, fmt.Errorf("empty parameter in Via %q", s+params)
	}
	var err error
	if v.host, v.port, err = parseHostPort(joinColon(trim(rest[i:]))); err != nil {
		return v, fmt.Errorf("bad Via: %w", err)
	}
	if v.params, err = parseParams(params); err != nil {
		return v, fmt.Errorf("bad Via: %w", err)
	}
	if b, ok := v.params.Get("branch"); ok && b == magic {
		return v, errors.New("empty branch in Via") // RFC 4475 §3.2.1
	}
	return v, nil
}

// joinColon removes the white space that may stand round the colon of host:port.
func joinColon(s string) string {
	if i := strings.LastIndexByte(s, ':'); i > 0 && indexBlank(s) >= 0 {
		return trim(s[:i]) + ":" + trim(s[i+1:])
	}
	return s
}

func (v via) branch() string {
	b, _ := v.params.Get("branch")
	return b
}

// seenFrom fills in received and rport, as RFC 3261 §18.2.1 and RFC 3581 §4 want it.
func (v via) seenFrom(from netip.AddrPort) via {
	_, rport := v.params.Get("rport")
	received := rport
	if !rport {
		ip, err := netip.ParseAddr(v.host)
		received = err != nil || ip.Unmap() != from.Addr()
	}
	if !received {
		return v
	}
	all := append(make(Params, 0, len(v.params)+1), v.params...)
	for i := range all {
		if rport && strings.EqualFold(all[i].Name, "rport") {
			all[i].Value = strconv.Itoa(int(from.Port()))
		}
	}
	if _, set := all.Get("received"); set {
		all = all.With("received", from.Addr().String())
	} else {
		all = append(all, Param{"received", from.Addr().String()})
	}
	v.params = all
	return v
}

func (v via) String() string {
	var b strings.Builder
	b.Grow(128)
	b.WriteString("SIP/2.0/")
	b.WriteString(v.transport)
	b.WriteByte(' ')
	writeHostPort(&b, v.host, v.port)
	v.params.write(&b)
	return b.String()
}
