package sip

import (
	"fmt"
	"slices"
	"strings"
)

// DialogID identifies a dialog from our side (RFC 3261 §12).
type DialogID struct{ CallID, LocalTag, RemoteTag string }

// Dialog is all that is needed to go on with a dialog: a plain value that can be stored (RFC 3261 §12).
type Dialog struct {
	CallID     string   `json:"call_id"`
	Local      NameAddr `json:"local"`  // who we are in it, without tag
	Remote     NameAddr `json:"remote"` // who the peer is, without tag
	LocalTag   string   `json:"local_tag"`
	RemoteTag  string   `json:"remote_tag,omitempty"`
	LocalCSeq  uint32   `json:"local_cseq"`  // of our last request
	RemoteCSeq uint32   `json:"remote_cseq"` // of the peer's last request, 0 = none yet
	RouteSet   []string `json:"route_set,omitempty"`
	Target     string   `json:"target"` // remote target URI, refreshed by re-INVITE and UPDATE
	Flow       Flow     `json:"flow"`
}

// Outgoing is one request to send, with a snapshot of its dialog. Its CSeq is fixed.
type Outgoing struct {
	Dialog  Dialog
	Method  string
	CSeq    uint32
	Headers []Header
	Body    Body
	Branch  string // of its Via (Agent.NewBranch), for one that another process may have to withdraw; "" = drawn as it is sent
}

// cseqPerEpoch keeps the requests of a call's new node above all that its old one may have sent.
const cseqPerEpoch = 100_000

// NewDialog begins a dialog of ours: from local to remote, at the target URI, by the route (a binding's Path) and
// over the flow.
func NewDialog(local, remote NameAddr, target string, route []string, flow Flow, epoch uint64) Dialog {
	local.Params, remote.Params = nil, nil
	return Dialog{
		CallID: random(16), LocalTag: random(10), Local: local, Remote: remote,
		LocalCSeq: uint32(epoch * cseqPerEpoch), RouteSet: slices.Clone(route), Target: target, Flow: flow,
	}
}

// Advance takes the dialog over for an epoch of its call: our requests count on above all that were sent before.
func (d *Dialog) Advance(epoch uint64) {
	d.LocalCSeq = max(d.LocalCSeq+1, uint32(epoch*cseqPerEpoch))
}

// ID identifies the dialog.
func (d Dialog) ID() DialogID { return DialogID{d.CallID, d.LocalTag, d.RemoteTag} }

// NewRequest takes the next CSeq for a request in the dialog, or for the INVITE that sets it up.
func (d *Dialog) NewRequest(method string, body Body, headers ...Header) Outgoing {
	d.LocalCSeq++
	return Outgoing{Dialog: *d, Method: method, CSeq: d.LocalCSeq, Headers: headers, Body: body}
}

// Confirm takes tag, route set and remote target from an answer to our INVITE: a 1xx with a tag makes the dialog
// early, a 2xx settles it (RFC 3261 §12.1.2, §13.2.2.4).
func (d *Dialog) Confirm(r *Response) {
	if r.ToTag() == "" {
		return
	}
	d.RemoteTag = strings.Clone(r.ToTag())
	d.RouteSet = cloned(r.Headers("Record-Route"))
	slices.Reverse(d.RouteSet)
	d.Refresh(r)
}

// Refresh takes the remote target from a 2xx to our re-INVITE or UPDATE (RFC 3261 §12.2.1.2).
func (d *Dialog) Refresh(r *Response) {
	d.Follow(r)
	d.aim(r.target())
}

// Receive takes a request of the peer's: its CSeq, which must be above the last (ErrCSeq), the flow it came over, and
// the new target of one that refreshes it (RFC 3261 §12.2.2).
func (d *Dialog) Receive(r *Request) error {
	if d.RemoteCSeq != 0 && r.cseq <= d.RemoteCSeq {
		return fmt.Errorf("%s with CSeq %d after %d: %w", r.method, r.cseq, d.RemoteCSeq, ErrCSeq)
	}
	d.RemoteCSeq = r.cseq
	if r.method == "INVITE" || r.method == "UPDATE" || r.method == "SUBSCRIBE" {
		d.aim(r.target())
	}
	d.Flow = r.flow
	return nil
}

// aim takes a new remote target, if there is one.
func (d *Dialog) aim(target string) {
	if target != "" && target != d.Target {
		d.Target = strings.Clone(target)
	}
}

// cloned are strings without the message that they stand in: a dialog outlives it by far, and would keep it whole.
func cloned(all []string) []string {
	for i := range all {
		all[i] = strings.Clone(all[i])
	}
	return all
}

func (n NameAddr) cloned() NameAddr {
	n.Name, n.URI = strings.Clone(n.Name), n.URI.cloned()
	return n
}

func (u URI) cloned() URI {
	u.Scheme, u.User, u.Host = strings.Clone(u.Scheme), strings.Clone(u.User), strings.Clone(u.Host)
	u.Params, u.Headers = u.Params.cloned(), u.Headers.cloned()
	return u
}

func (p Params) cloned() Params {
	p = slices.Clone(p)
	for i := range p {
		p[i].Name, p[i].Value = strings.Clone(p[i].Name), strings.Clone(p[i].Value)
	}
	return p
}

// Dialog is the dialog that a 2xx to this INVITE or SUBSCRIBE sets up, from the callee's side (RFC 3261 §12.1.1).
func (x *Exchange) Dialog(epoch uint64) Dialog {
	local, remote := x.to, x.from
	local.Params, remote.Params = nil, nil
	return Dialog{
		CallID: strings.Clone(x.callID), Local: local.cloned(), Remote: remote.cloned(), LocalTag: x.LocalTag(), RemoteTag: strings.Clone(x.FromTag()),
		LocalCSeq: uint32(epoch * cseqPerEpoch), RemoteCSeq: x.cseq,
		RouteSet: cloned(x.Headers("Record-Route")), Target: strings.Clone(x.target()), Flow: x.flow,
	}
}
