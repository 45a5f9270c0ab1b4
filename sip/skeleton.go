package sip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
)

// Errors that callers test for.
var (
	ErrAnswered = errors.New("request is already answered")
	ErrCSeq     = errors.New("CSeq is not above the last one")
	ErrFlowGone = errors.New("flow is gone")
	ErrTimeout  = errors.New("no answer in time")
)

var errTodo = errors.New("not built yet")

func ParseURI(s string) (URI, error)           { return URI{}, errTodo }
func (u URI) String() string                   { return "" }
func ParseNameAddr(s string) (NameAddr, error) { return NameAddr{}, errTodo }
func (n NameAddr) String() string              { return "" }
func (p Params) Get(name string) (string, bool) {
	return "", false
}
func (p Params) With(name, value string) Params { return p }

type Request struct{}

func (r *Request) Method() string                { return "" }
func (r *Request) RequestURI() URI               { return URI{} }
func (r *Request) From() NameAddr                { return NameAddr{} }
func (r *Request) To() NameAddr                  { return NameAddr{} }
func (r *Request) FromTag() string               { return "" }
func (r *Request) ToTag() string                 { return "" }
func (r *Request) CallID() string                { return "" }
func (r *Request) CSeq() uint32                  { return 0 }
func (r *Request) Contact() (NameAddr, bool)     { return NameAddr{}, false }
func (r *Request) Contacts() []NameAddr          { return nil }
func (r *Request) Header(name string) string     { return "" }
func (r *Request) Headers(name string) []string  { return nil }
func (r *Request) Body() Body                    { return Body{} }
func (r *Request) UserAgent() string             { return "" }
func (r *Request) Flow() Flow                    { return Flow{} }
func (r *Request) Source() netip.AddrPort        { return netip.AddrPort{} }
func (r *Request) User() string                  { return "" }
func ParseRequest(data []byte) (*Request, error) { return nil, errTodo }

type Exchange struct{ *Request }

func (x *Exchange) Respond(r Reply) error      { return errTodo }
func (x *Exchange) LocalTag() string           { return "" }
func (x *Exchange) Dialog(epoch uint64) Dialog { return Dialog{} }
func (x *Exchange) Watch(w Watch)              {}

type Watch struct {
	Cancelled func()
	Acked     func(Body)
	Unacked   func()
}

func NewDialog(local, remote NameAddr, target string, route []string, flow Flow, epoch uint64) Dialog {
	return Dialog{}
}
func (d Dialog) ID() DialogID { return DialogID{d.CallID, d.LocalTag, d.RemoteTag} }
func (d *Dialog) NewRequest(method string, body Body, headers ...Header) Outgoing {
	return Outgoing{}
}
func (d *Dialog) Confirm(r *Response)      {}
func (d *Dialog) Refresh(r *Response)      {}
func (d *Dialog) Receive(r *Request) error { return nil }

type Response struct{}

func (r *Response) Code() int                    { return 0 }
func (r *Response) Reason() string               { return "" }
func (r *Response) Header(name string) string    { return "" }
func (r *Response) Headers(name string) []string { return nil }
func (r *Response) Body() Body                   { return Body{} }
func (r *Response) To() NameAddr                 { return NameAddr{} }
func (r *Response) ToTag() string                { return "" }
func (r *Response) Contact() (NameAddr, bool)    { return NameAddr{}, false }
func (r *Response) Flow() Flow                   { return Flow{} }

type StatusError struct {
	Code     int
	Reason   string
	Response *Response
}

func (e *StatusError) Error() string { return fmt.Sprintf("%d %s", e.Code, e.Reason) }

type Agent struct{}

func NewAgent(o Options) (*Agent, error)                          { return nil, errTodo }
func (a *Agent) Run(ctx context.Context) error                    { return errTodo }
func (a *Agent) Addrs() map[string]netip.AddrPort                 { return nil }
func (a *Agent) Attach(d Dialog, user string, fn func(*Exchange)) {}
func (a *Agent) Detach(id DialogID)                               {}
func (a *Agent) Invite(ctx context.Context, out Outgoing, onProvisional func(*Response)) (*Response, error) {
	return nil, errTodo
}

type CancelReason struct {
	Cause int
	Text  string
}

func (c *CancelReason) Error() string                                    { return c.Text }
func (a *Agent) Ack(d Dialog, invite Outgoing, body Body) error          { return errTodo }
func (a *Agent) Do(ctx context.Context, out Outgoing) (*Response, error) { return nil, errTodo }
func (a *Agent) Own(host string) bool                                    { return false }
func (a *Agent) Alive(f Flow) bool                                       { return false }
func (a *Agent) ContactURI(f Flow, user string) URI                      { return URI{} }
func ParseReplaces(v string) (Replaces, error) { return Replaces{}, errTodo }

func ReferTarget(r *Request) (URI, *Replaces, error) { return URI{}, nil, errTodo }
func Sipfrag(code int, reason string) Body           { return Body{} }
func StatusText(code int) string                     { return "" }

type Replaces struct {
	CallID, ToTag, FromTag string
	EarlyOnly              bool
}
