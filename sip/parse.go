package sip

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	sipgo "github.com/emiago/sipgo/sip"
)

// The limits of one message.
const (
	MaxMessage = 64 << 10 // octets; what is longer gets 513, or is dropped where that cannot be answered
	maxHeaders = 128
	maxVias    = 40  // RFC 4475 §3.1.1.7 has 34
	maxList    = 128 // values of one list
	maxParams  = 64  // of one value
)

// message is what requests and responses have in common, after parsing.
type message struct {
	headers []Header
	body    Body
	via     via // topmost
	from    NameAddr
	to      NameAddr
	callID  string
	cseq    uint32
	method  string // of the request line; of CSeq in a response
	flow    Flow
	length  int // of the message as it came, in bytes

	contacts []NameAddr // of a request that was checked
}

// refusal says with which status a request must be refused, and carries what could be read of it.
type refusal struct {
	code    int
	why     error
	headers []Header // beyond what every answer has
	request *Request
}

func (r *refusal) Error() string { return fmt.Sprintf("%d %s: %v", r.code, StatusText(r.code), r.why) }
func (r *refusal) Unwrap() error { return r.why }

func bad(format string, args ...any) *refusal {
	return &refusal{code: 400, why: fmt.Errorf(format, args...)}
}

var errNotSIP = errors.New("not a SIP message")

// parse reads one message: a *Request or a *Response. An error that is a *refusal can be answered; what led to any
// other is dropped. What is returned holds nothing of data. Octets after the body that Content-Length promises are ignored (RFC 3261 §18.3).
func parse(data []byte, flow Flow) (any, error) {
	line, rest, ok := bytes.Cut(data, []byte("\r\n"))
	if !ok {
		return nil, errNotSIP
	}
	if bytes.HasPrefix(line, []byte("SIP/")) {
		return parseResponse(string(line), data, flow)
	}
	start := string(line)
	r := &Request{}
	r.flow, r.length = flow, len(data)
	n, err := r.readHeaders(data, rest)
	if len(r.headers) == 0 || header(r.headers, "Call-ID") == "" && header(r.headers, "Via") == "" {
		return nil, errNotSIP
	}
	if r.method, _, _ = strings.Cut(start, " "); !isToken(r.method) {
		return nil, errNotSIP
	}
	if refused := r.check(start, data[n:], err); refused != nil {
		refused.request = r
		return nil, refused
	}
	return r, nil
}

// readHeaders reads the header fields, and returns where the body begins. When the start line is past sipgo, another
// is put in its place: the fields may be good enough to refuse the request by.
func (m *message) readHeaders(data, rest []byte) (int, error) {
	headers, n, plain := split(data)
	if plain {
		m.headers = headers
		return n, nil
	}
	return m.readOddHeaders(data, rest)
}

// readOddHeaders is readHeaders for what is not written plainly.
func (m *message) readOddHeaders(data, rest []byte) (int, error) {
	head, n, err := parser.ParseHeaders(data, false)
	if head == nil {
		const standIn = "OPTIONS sip:a SIP/2.0\r\n"
		var again error
		head, n, again = parser.ParseHeaders(append([]byte(standIn), rest...), false)
		n += len(data) - len(rest) - len(standIn)
		err = errors.Join(err, again)
		if head == nil {
			return len(data), err
		}
	}
	all := sipgoHeaders(head)
	m.headers = make([]Header, len(all))
	for i, h := range all {
		m.headers[i] = Header{h.Name(), h.Value()}
	}
	return min(n, len(data)), err
}

func sipgoHeaders(m sipgo.Message) []sipgo.Header {
	switch m := m.(type) {
	case *sipgo.Request:
		return m.Headers()
	case *sipgo.Response:
		return m.Headers()
	}
	return nil
}

// checkHeaders holds the fields against the rules that need no meaning: limits, names, bytes, how many of each.
func (m *message) checkHeaders() error {
	if len(m.headers) > maxHeaders {
		return fmt.Errorf("%d headers", len(m.headers))
	}
	for _, h := range m.headers {
		if !isToken(h.Name) {
			return fmt.Errorf("bad header name %q", h.Name)
		}
		if hasControl(h.Value) {
			return fmt.Errorf("control byte in %s", h.Name)
		}
		if fields[h.Name].list && strings.Count(h.Value, ",") >= maxList {
			return fmt.Errorf("more than %d values in %s", maxList, h.Name)
		}
	}
	var seen uint64
	for _, h := range m.headers {
		bit := uint64(1) << fields[h.Name].single &^ 1
		if seen&bit != 0 {
			return fmt.Errorf("%s stands twice", h.Name)
		}
		seen |= bit
	}
	return nil
}

// hasControl reports a control byte that no backslash quotes (RFC 4475 §3.1.1.2 has quoted ones).
func hasControl(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= ' ' && c != '\\' && c != 0x7f:
		case c == '\r' || c == '\n':
			return true
		case c == '\\' && i+1 < len(s) && s[i+1] != '\r' && s[i+1] != '\n':
			i++
		case c < ' ' && c != '\t' || c == 0x7f:
			return true
		}
	}
	return false
}

// readFields reads the fields that every message needs (RFC 3261 §8.1.1).
func (m *message) readFields() error {
	vias := values(m.headers, "Via")
	if len(vias) == 0 || len(vias) > maxVias {
		return fmt.Errorf("%d Vias", len(vias))
	}
	for i, v := range vias {
		one, err := parseVia(v)
		if err != nil {
			return err
		}
		if i == 0 {
			m.via = one
		}
	}
	if m.callID = header(m.headers, "Call-ID"); m.callID == "" || indexBlank(m.callID) >= 0 || strings.IndexByte(m.callID, ',') >= 0 {
		return errors.New("Call-ID is missing or bad")
	}
	var err error
	if m.from, err = parseParty(header(m.headers, "From")); err != nil {
		return fmt.Errorf("From: %w", err)
	}
	if m.to, err = parseParty(header(m.headers, "To")); err != nil {
		return fmt.Errorf("To: %w", err)
	}
	return nil
}

func parseParty(s string) (NameAddr, error) {
	if s == "" {
		return NameAddr{}, errors.New("is missing")
	}
	n, err := ParseNameAddr(s)
	if err == nil && n.URI.Scheme == "" {
		err = errors.New("a wildcard is nobody")
	}
	return n, err
}

// readCSeq reads the number and the method (RFC 3261 §8.1.1.5: below 2^31).
func (m *message) readCSeq() (method string, err error) {
	value := strings.TrimSpace(header(m.headers, "CSeq"))
	space := indexBlank(value)
	if space < 0 || !isToken(strings.TrimSpace(value[space:])) {
		return "", errors.New("CSeq is missing or bad")
	}
	n, err := strconv.ParseUint(value[:space], 10, 31)
	if err != nil {
		return "", fmt.Errorf("bad CSeq %q", value[:space])
	}
	m.cseq = uint32(n)
	return strings.TrimSpace(value[space:]), nil
}

// readBody takes the body out of what follows the headers.
func (m *message) readBody(rest []byte) error {
	if count(m.headers, "Content-Length") > 0 {
		n, err := strconv.ParseUint(header(m.headers, "Content-Length"), 10, 31)
		if err != nil {
			return fmt.Errorf("bad Content-Length %q", header(m.headers, "Content-Length"))
		}
		if int(n) > len(rest) {
			return fmt.Errorf("Content-Length is %d, the body has %d", n, len(rest))
		}
		rest = rest[:n]
	}
	if len(rest) > 0 {
		m.body = Body{Type: header(m.headers, "Content-Type"), Data: bytes.Clone(rest)}
	}
	return nil
}
