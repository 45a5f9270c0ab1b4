package sip

import (
	"strings"

	sipgo "github.com/emiago/sipgo/sip"
)

// compact holds the compact forms of header names (RFC 3261 §20 and the RFCs that came after it).
var compact = map[string]string{
	"a": "Accept-Contact", "b": "Referred-By", "c": "Content-Type", "d": "Request-Disposition",
	"e": "Content-Encoding", "f": "From", "i": "Call-ID", "j": "Reject-Contact", "k": "Supported",
	"l": "Content-Length", "m": "Contact", "n": "Identity-Info", "o": "Event", "r": "Refer-To", "s": "Subject",
	"t": "To", "u": "Allow-Events", "v": "Via", "x": "Session-Expires", "y": "Identity",
}

// known holds the spelling of the headers this package reads itself, by lower-case name.
var known = spellings("Accept", "Allow", "Authorization", "CSeq", "Content-Disposition", "Max-Forwards", "Path",
	"Proxy-Require", "Reason", "Record-Route", "Replaces", "Require", "Route", "Timestamp", "Unsupported",
	"User-Agent", "WWW-Authenticate")

func spellings(names ...string) map[string]string {
	m := make(map[string]string)
	for _, n := range names {
		m[strings.ToLower(n)] = n
	}
	for short, n := range compact {
		m[short], m[strings.ToLower(n)] = n, n
	}
	return m
}

// single names the headers of which a message may have one at most: what they say decides who is meant.
var single = []string{
	"Call-ID", "CSeq", "From", "To", "Max-Forwards", "Content-Length", "Content-Type", "Content-Encoding",
	"Event", "Refer-To", "Referred-By", "Replaces", "Session-Expires", "Expires", "Min-Expires", "Min-SE",
}

// lists names the headers whose value is a comma-separated list.
var lists = map[string]bool{
	"via": true, "contact": true, "route": true, "record-route": true, "path": true, "service-route": true,
	"require": true, "proxy-require": true, "supported": true, "unsupported": true, "allow": true,
	"allow-events": true, "accept": true, "accept-encoding": true, "content-encoding": true,
	"p-asserted-identity": true, "p-preferred-identity": true,
}

// parser cuts a message into start line and header fields. Every known name, long or compact, is given its one
// spelling; what the fields mean is read in this package, strictly.
var parser = sipgo.NewParser(sipgo.WithHeadersParsers(headerParsers()))

func headerParsers() map[string]sipgo.HeaderParser {
	m := make(map[string]sipgo.HeaderParser)
	for lower, name := range known {
		m[lower] = func(_ []byte, value string) (sipgo.Header, error) {
			return sipgo.NewHeader(name, value), nil
		}
	}
	return m
}

// spelling gives the one spelling of a header name.
func spelling(name string) string {
	if s, ok := known[strings.ToLower(name)]; ok {
		return s
	}
	return name
}

// header finds the first value of a header, "" if there is none.
func header(headers []Header, name string) string {
	name = spelling(name)
	for _, h := range headers {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

// values finds all values of a header, those of a list cut into its elements.
func values(headers []Header, name string) []string {
	name = spelling(name)
	list := lists[strings.ToLower(name)]
	var out []string
	for _, h := range headers {
		switch {
		case !strings.EqualFold(h.Name, name):
		case list:
			out = append(out, splitList(h.Value)...)
		default:
			out = append(out, h.Value)
		}
	}
	return out
}

func count(headers []Header, name string) int {
	n := 0
	for _, h := range headers {
		if strings.EqualFold(h.Name, name) {
			n++
		}
	}
	return n
}
