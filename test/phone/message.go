package phone

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Header is one header field as it stood in the message, its name in the long form.
type Header struct{ Name, Value string }

// Message is a SIP request or response (RFC 3261 §7): Method and URI are set in a request, Code and Reason in a response.
type Message struct {
	Method, URI string
	Code        int
	Reason      string
	Headers     []Header
	Body        []byte

	sent func() // called when it has been sent for the first time
}

var errShort = errors.New("message not complete")

// compact holds the short header names of RFC 3261 §7.3.3 and of the RFCs that added some.
var compact = map[string]string{
	"v": "Via", "f": "From", "t": "To", "i": "Call-ID", "m": "Contact", "l": "Content-Length", "c": "Content-Type",
	"e": "Content-Encoding", "k": "Supported", "s": "Subject", "o": "Event", "u": "Allow-Events", "r": "Refer-To",
	"b": "Referred-By", "d": "Request-Disposition", "j": "Reject-Contact", "x": "Session-Expires",
}

// Parse reads one whole message as it came in a datagram; what follows Content-Length is left away.
func Parse(data []byte) (*Message, error) {
	m, n, err := parseHead(data)
	if err != nil {
		return nil, err
	}
	m.Body = data[n:]
	if size, ok := m.length(); ok {
		if size > len(m.Body) {
			return nil, errShort
		}
		m.Body = m.Body[:size]
	}
	m.Body = bytes.Clone(m.Body)
	return m, nil
}

// whole says that the body is as long as the headers say.
func (m *Message) whole() bool {
	size, told := m.length()
	return !told || size == len(m.Body)
}

// parseHead reads the start line and the headers, and tells where the body begins.
func parseHead(data []byte) (*Message, int, error) {
	end := bytes.Index(data, []byte("\r\n\r\n"))
	if end < 0 {
		return nil, 0, errShort
	}
	lines := strings.Split(string(data[:end]), "\r\n")
	m, err := parseStart(lines[0])
	if err != nil {
		return nil, 0, err
	}
	for _, line := range lines[1:] {
		if err := m.addLine(line); err != nil {
			return nil, 0, err
		}
	}
	return m, end + 4, nil
}

func parseStart(line string) (*Message, error) {
	f := strings.SplitN(line, " ", 3)
	if len(f) < 2 {
		return nil, fmt.Errorf("start line %q", line)
	}
	if f[0] != "SIP/2.0" {
		if len(f) != 3 || f[2] != "SIP/2.0" {
			return nil, fmt.Errorf("request line %q", line)
		}
		return &Message{Method: f[0], URI: f[1]}, nil
	}
	code, err := strconv.Atoi(f[1])
	if err != nil {
		return nil, fmt.Errorf("status line %q", line)
	}
	m := &Message{Code: code}
	if len(f) == 3 {
		m.Reason = f[2]
	}
	return m, nil
}

func (m *Message) addLine(line string) error {
	if line != "" && (line[0] == ' ' || line[0] == '\t') && len(m.Headers) > 0 { // a folded line, §7.3.1
		m.Headers[len(m.Headers)-1].Value += " " + strings.TrimSpace(line)
		return nil
	}
	name, value, ok := strings.Cut(line, ":")
	if !ok {
		return fmt.Errorf("header line %q", line)
	}
	m.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	return nil
}

// Add appends a header.
func (m *Message) Add(name, value string) {
	if long, ok := compact[strings.ToLower(name)]; ok {
		name = long
	}
	m.Headers = append(m.Headers, Header{name, value})
}

// Set replaces all headers of that name by one; an empty value only removes them.
func (m *Message) Set(name, value string) {
	kept := m.Headers[:0:0]
	done := value == ""
	for _, h := range m.Headers {
		switch {
		case !strings.EqualFold(h.Name, name):
			kept = append(kept, h)
		case !done:
			kept, done = append(kept, Header{name, value}), true
		}
	}
	if !done {
		kept = append(kept, Header{name, value})
	}
	m.Headers = kept
}

// Get is the first header of that name, or "".
func (m *Message) Get(name string) string {
	for _, h := range m.Headers {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

// All is every header of that name, in order.
func (m *Message) All(name string) []string {
	var all []string
	for _, h := range m.Headers {
		if strings.EqualFold(h.Name, name) {
			all = append(all, h.Value)
		}
	}
	return all
}

// Bytes is the message as it goes over the wire, with a true Content-Length.
func (m *Message) Bytes() []byte {
	var b bytes.Buffer
	if m.Code != 0 {
		fmt.Fprintf(&b, "SIP/2.0 %d %s\r\n", m.Code, m.Reason)
	} else {
		fmt.Fprintf(&b, "%s %s SIP/2.0\r\n", m.Method, m.URI)
	}
	for _, h := range m.Headers {
		if !strings.EqualFold(h.Name, "Content-Length") {
			fmt.Fprintf(&b, "%s: %s\r\n", h.Name, h.Value)
		}
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(m.Body))
	b.Write(m.Body)
	return b.Bytes()
}

// CSeq is the message's sequence number and its method.
func (m *Message) CSeq() (uint32, string) {
	number, method, _ := strings.Cut(m.Get("CSeq"), " ")
	n, _ := strconv.ParseUint(number, 10, 32)
	return uint32(n), strings.TrimSpace(method)
}

// Line is the start line without the version, for people: "INVITE sip:102@host" or "486 Busy Here".
func (m *Message) Line() string {
	if m.Code != 0 {
		return fmt.Sprintf("%d %s", m.Code, m.Reason)
	}
	return m.Method + " " + m.URI
}

func (m *Message) length() (int, bool) {
	v := m.Get("Content-Length")
	if v == "" {
		return 0, false
	}
	n, err := strconv.Atoi(v)
	return n, err == nil && n >= 0
}

func (m *Message) branch() string {
	via, _, _ := strings.Cut(m.Get("Via"), ",")
	return Param(via, "branch")
}

// key names the transaction that the message belongs to (RFC 3261 §17.1.3, §17.2.3).
func (m *Message) key() string {
	_, method := m.CSeq()
	if method == "ACK" {
		method = "INVITE"
	}
	return m.branch() + "|" + method
}

// Param is the value of a header parameter such as tag or branch, without quotes; "" if it is absent.
func Param(value, name string) string {
	if i := strings.LastIndexByte(value, '>'); i >= 0 {
		value = value[i+1:]
	}
	for _, p := range strings.Split(value, ";")[1:] {
		k, v, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(k), name) {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return ""
}

// AddrURI is the URI inside a name-addr or addr-spec (RFC 3261 §20.10).
func AddrURI(value string) string {
	if _, rest, ok := strings.Cut(value, "<"); ok {
		uri, _, _ := strings.Cut(rest, ">")
		return uri
	}
	uri, _, _ := strings.Cut(value, ";")
	return strings.TrimSpace(uri)
}

// DisplayName is the name before the URI of a name-addr, without quotes.
func DisplayName(value string) string {
	name, _, ok := strings.Cut(value, "<")
	if !ok {
		return ""
	}
	return strings.Trim(strings.TrimSpace(name), `"`)
}

// UserPart is the user of a SIP URI.
func UserPart(uri string) string {
	_, rest, _ := strings.Cut(uri, ":")
	user, _, ok := strings.Cut(rest, "@")
	if !ok {
		return ""
	}
	return user
}

// hostPort is the host and port of a SIP URI, with the port of the scheme and transport if it names none.
func hostPort(uri string) string {
	scheme, rest, _ := strings.Cut(uri, ":")
	if i := strings.IndexByte(rest, '@'); i >= 0 {
		rest = rest[i+1:]
	}
	rest, params, _ := strings.Cut(rest, ";")
	rest, _, _ = strings.Cut(rest, "?")
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.HasSuffix(rest, "]") {
		return rest
	}
	if scheme == "sips" || strings.Contains(strings.ToLower(params), "transport=tls") {
		return rest + ":5061"
	}
	return rest + ":5060"
}
