package sip

// Param is one parameter of a URI or header, unescaped; a flag has no value.
type Param struct{ Name, Value string }

// Params keeps the order in which parameters came.
type Params []Param

// URI is a SIP, SIPS or tel URI (RFC 3261 §19.1, RFC 3966) as a plain value.
type URI struct {
	Scheme  string
	User    string // unescaped, without password
	Host    string // IPv6 without brackets
	Port    int    // 0 = none given
	Params  Params
	Headers Params // after '?', unescaped
}

// NameAddr is a display name with a URI and header parameters (RFC 3261 §20.10).
type NameAddr struct {
	Name   string
	URI    URI
	Params Params
}

// Header is one header field as it stands in a message.
type Header struct{ Name, Value string }

// Body is a message body with its Content-Type; the zero value is no body.
type Body struct {
	Type string
	Data []byte
}

// Reply is an answer to give: status, reason ("" = the RFC's phrase), headers beyond what the agent adds, body.
type Reply struct {
	Code    int
	Reason  string
	Headers []Header
	Body    Body
}
