package sip

import (
	"fmt"
	"strings"
)

// ParseNameAddr reads a From, To, Contact, Route or Refer-To value: name-addr or addr-spec with its header parameters
// (RFC 3261 §20.10). A Contact of `*` has the host "*".
func ParseNameAddr(s string) (NameAddr, error) {
	n, _, err := parseNameAddr(s)
	return n, err
}

// parseNameAddr also gives the URI as it was written, to be sent back byte for byte.
func parseNameAddr(s string) (n NameAddr, raw string, err error) {
	s = trim(s)
	if s == "*" {
		return NameAddr{URI: URI{Host: "*"}}, "*", nil
	}
	open := openBracket(s)
	if open < 0 {
		return parseAddrSpec(s)
	}
	end := strings.IndexByte(s[open:], '>')
	if end < 0 {
		return n, "", fmt.Errorf("address %q: bracket is not closed", s)
	}
	if n.Name, err = parseDisplayName(s[:open]); err != nil {
		return n, "", err
	}
	raw = s[open+1 : open+end]
	if n.URI, err = ParseURI(raw); err != nil {
		return n, "", err
	}
	n.Params, err = parseParams(s[open+end+1:])
	return n, raw, err
}

// openBracket finds the '<' that opens the URI, outside the display name's quotes.
func openBracket(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '<' && !quoted:
			return i
		}
	}
	return -1
}

// parseAddrSpec reads the form without brackets, in which parameters belong to the header and a URI that holds a
// comma or question mark is not allowed.
func parseAddrSpec(s string) (n NameAddr, raw string, err error) {
	raw, params := s, ""
	if i := strings.IndexByte(s, ';'); i >= 0 {
		raw, params = trim(s[:i]), s[i:]
	}
	if strings.IndexByte(raw, '?') >= 0 || strings.IndexByte(raw, ',') >= 0 {
		return n, "", fmt.Errorf("address %q must stand in angle brackets", s)
	}
	if n.URI, err = ParseURI(raw); err != nil {
		return n, "", err
	}
	n.Params, err = parseParams(params)
	return n, raw, err
}

func parseDisplayName(s string) (string, error) {
	s = trim(s)
	if strings.HasPrefix(s, `"`) {
		if len(s) < 2 || !closesAt(s, len(s)-1) {
			return "", fmt.Errorf("display name %s: quotes do not match", s)
		}
		return unquote(s), nil
	}
	if strings.ContainsAny(s, `",;<>@\`) {
		return "", fmt.Errorf("display name %q must be quoted", s)
	}
	return s, nil
}

// closesAt reports whether the quoted-string that begins s ends exactly at byte end.
func closesAt(s string, end int) bool {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i == end
		}
	}
	return false
}

// String writes the address in brackets, the name quoted.
func (n NameAddr) String() string {
	if n.URI.Host == "*" {
		return "*"
	}
	var b strings.Builder
	if n.Name != "" {
		b.WriteString(quote(n.Name))
		b.WriteByte(' ')
	}
	b.WriteByte('<')
	b.WriteString(n.URI.String())
	b.WriteByte('>')
	n.Params.write(&b)
	return b.String()
}
