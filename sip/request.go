package sip

import "net/netip"

// Request is a parsed and validated request. It does not change after its handler was given it.
type Request struct {
	message
	uri  URI
	hops uint64 // Max-Forwards
	user string

	login string // that proved it
	text  []byte // as it came, of a new INVITE that another node may be given; else nil
}

// ParseRequest parses and validates one request, as if it had come in a datagram.
func ParseRequest(data []byte) (*Request, error) {
	if len(data) > MaxMessage {
		return nil, bad("message of %d bytes", len(data))
	}
	m, err := parse(data, Flow{Transport: "udp"})
	if err != nil {
		return nil, err
	}
	r, ok := m.(*Request)
	if !ok {
		return nil, errNotSIP
	}
	return r, nil
}

// Method is the method, as written: methods are case-sensitive (RFC 3261 §7.1).
func (r *Request) Method() string { return r.method }

// RequestURI is the URI of the request line.
func (r *Request) RequestURI() URI { return r.uri }

// User is the canonical name of the user whose password proved the request, "" if it was not challenged.
func (r *Request) User() string { return r.user }

// Login is the login name whose password proved the request: a name or number of User, or that of one of his sessions.
func (r *Request) Login() string { return r.login }

// From is the From header, its tag among the parameters.
func (m *message) From() NameAddr { return m.from }

// To is the To header, its tag among the parameters.
func (m *message) To() NameAddr { return m.to }

// FromTag is the tag of From, "" if it has none.
func (m *message) FromTag() string { return tag(m.from) }

// ToTag is the tag of To, "" if it has none.
func (m *message) ToTag() string { return tag(m.to) }

func tag(n NameAddr) string {
	t, _ := n.Params.Get("tag")
	return t
}

// CallID is the Call-ID.
func (m *message) CallID() string { return m.callID }

// CSeq is the sequence number.
func (m *message) CSeq() uint32 { return m.cseq }

// Contact is the first Contact, false if there is none that can be read.
func (m *message) Contact() (NameAddr, bool) {
	c := m.Contacts()
	if len(c) == 0 {
		return NameAddr{}, false
	}
	return c[0], true
}

// Contacts are all Contacts; one of `*` has the host "*". What is returned must not be changed.
func (m *message) Contacts() []NameAddr {
	if m.contacts != nil {
		return m.contacts
	}
	var out []NameAddr
	for _, v := range values(m.headers, "Contact") {
		if n, err := ParseNameAddr(v); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// target is the URI of the first Contact byte for byte, "" if there is none: what requests to the peer are sent to.
func (m *message) target() string {
	all := values(m.headers, "Contact")
	if len(all) == 0 {
		return ""
	}
	n, raw, err := parseNameAddr(all[0])
	if err != nil || n.URI.Host == "*" {
		return ""
	}
	return raw
}

// Header is the first value of a header, "" if there is none. Names may be compact and in any case.
func (m *message) Header(name string) string { return header(m.headers, name) }

// Headers are all values of a header; those of a list (Route, Path, Supported, …) are cut into its elements.
func (m *message) Headers(name string) []string { return values(m.headers, name) }

// Body is the message body. Of a multipart body of a request it is the session description.
func (m *message) Body() Body { return m.body }

// UserAgent is the User-Agent header, or Server in a response.
func (m *message) UserAgent() string {
	if ua := header(m.headers, "User-Agent"); ua != "" {
		return ua
	}
	return header(m.headers, "Server")
}

// Flow is the connection or 5-tuple the message came over.
func (m *message) Flow() Flow { return m.flow }

// Source is the address the message came from.
func (m *message) Source() netip.AddrPort { return m.flow.Remote }
