package sip

import (
	"bytes"
	"strings"
)

// Most messages are written plainly: a start line without surprises, and each field on a line of its own. Those are cut
// here, into one string that all their values are parts of. Whatever is written in another way is left to the parser,
// which gives the same for plain ones (FuzzSplit).

// split cuts a plain message into its header fields and tells where the body begins; false: it is not plain.
func split(data []byte) (headers []Header, end int, plain bool) {
	end = bytes.Index(data, []byte("\r\n\r\n"))
	if end < 0 {
		return nil, 0, false
	}
	text := string(data[:end+2])
	line, rest, _ := strings.Cut(text, "\r\n")
	if !plainStart(line) {
		return nil, 0, false
	}
	headers = make([]Header, 0, 16)
	for rest != "" {
		line, rest, _ = strings.Cut(rest, "\r\n")
		h, ok := plainField(line)
		if !ok || len(headers) > maxHeaders {
			return nil, 0, false
		}
		headers = append(headers, h)
	}
	return headers, end + 4, len(headers) > 0
}

// plainField cuts one line: a name, a colon right behind it, a value in which no line ends. A line that goes on another one
// begins with white space and so with no name.
func plainField(line string) (Header, bool) {
	colon := strings.IndexByte(line, ':')
	if colon < 1 || !isToken(line[:colon]) || strings.IndexByte(line, '\r') >= 0 {
		return Header{}, false
	}
	return Header{spelling(line[:colon]), strings.TrimSpace(line[colon+1:])}, true
}

// plainStart says whether the start line is a request to a plain SIP URI or a status line with a plain reason.
func plainStart(line string) bool {
	if rest, ok := strings.CutPrefix(line, "SIP/2.0 "); ok {
		code, reason, _ := strings.Cut(rest, " ")
		odd := len(reason) >= 3 && strings.EqualFold(reason[:3], "sip") // the parser would take the line for a request's
		return len(code) == 3 && strings.Trim(code, "0123456789") == "" && len(rest) > 3 && !odd && strings.IndexByte(rest, '\r') < 0
	}
	method, rest, _ := strings.Cut(line, " ")
	uri, version, _ := strings.Cut(rest, " ")
	return version == "SIP/2.0" && isToken(method) && plainURI(uri)
}

// plainURI says whether a URI is sip:user@host:port, or that without user or port, of letters, digits, hyphens and dots.
func plainURI(s string) bool {
	s, ok := strings.CutPrefix(s, "sip:")
	if user, rest, found := strings.Cut(s, "@"); found {
		if s = rest; !plainWord(user) {
			return false
		}
	}
	host, port, found := strings.Cut(s, ":")
	return ok && plainWord(host) && (!found || len(port) < 6 && port != "" && port[0] != '0' && strings.Trim(port, "0123456789") == "")
}

func plainWord(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlnum(s[i]) && s[i] != '-' && s[i] != '.' {
			return false
		}
	}
	return s != ""
}
