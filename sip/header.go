package sip

import (
	"slices"
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
	"Proxy-Authorization", "Proxy-Require", "RAck", "RSeq", "Join", "Reason", "Record-Route", "Replaces", "Require", "Route", "Timestamp", "Unsupported",
	"Server", "User-Agent", "WWW-Authenticate", "Expires", "Min-Expires", "Min-SE", "Service-Route", "Accept-Encoding",
	"P-Asserted-Identity", "P-Preferred-Identity")

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
	"Event", "RAck", "RSeq", "Refer-To", "Referred-By", "Replaces", "Join", "Session-Expires", "Expires", "Min-Expires", "Min-SE",
}

// lists names the headers whose value is a comma-separated list.
var lists = []string{
	"Via", "Contact", "Route", "Record-Route", "Path", "Service-Route", "Require", "Proxy-Require", "Supported",
	"Unsupported", "Allow", "Allow-Events", "Accept", "Accept-Encoding", "Content-Encoding", "P-Asserted-Identity",
	"P-Preferred-Identity",
}

// field is what there is to know of a header by its name.
type field struct {
	list   bool
	single int  // its place in single, from 1
	owned  bool // only the agent writes it
}

// fields holds the names of known, in their one spelling. The parser has brought those of a message into it.
var fields = func() map[string]field {
	m := make(map[string]field)
	for _, name := range known {
		m[name] = field{list: slices.Contains(lists, name), single: slices.Index(single, name) + 1, owned: slices.Contains(owned, name)}
	}
	return m
}()

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
	if _, ok := fields[name]; ok {
		return name
	}
	if s, ok := known[strings.ToLower(name)]; ok {
		return s
	}
	return name
}

// named says whether the header has the name, which is in its one spelling if it has one.
func (h Header) named(name string) bool {
	return h.Name == name || len(h.Name) == len(name) && strings.EqualFold(h.Name, name)
}

// header finds the first value of a header, "" if there is none.
func header(headers []Header, name string) string {
	name = spelling(name)
	for i := range headers {
		if headers[i].named(name) {
			return headers[i].Value
		}
	}
	return ""
}

// values finds all values of a header, those of a list cut into its elements.
func values(headers []Header, name string) []string {
	name = spelling(name)
	list := fields[name].list
	var out []string
	for i := range headers {
		switch {
		case !headers[i].named(name):
		case !list:
			out = append(out, headers[i].Value)
		case strings.IndexByte(headers[i].Value, ',') < 0:
			out = append(out, trim(headers[i].Value))
		default:
			out = append(out, splitList(headers[i].Value)...)
		}
	}
	return out
}

func count(headers []Header, name string) int {
	n := 0
	for i := range headers {
		if headers[i].named(name) {
			n++
		}
	}
	return n
}
