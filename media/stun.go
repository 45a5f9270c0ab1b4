package media

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun/v3"
)

// Connectivity checks (RFC 8445 §7.3): what is read of them, and how they are answered. An answer is never larger than what it answers, so
// that nobody gains by lending his address to another.

// route is how a packet came, and how an answer goes.
type route struct {
	conn   conn     // UDP
	tcp    *tcpConn // or TCP
	remote netip.AddrPort
}

func (r *route) write(b []byte, now time.Duration) (int, error) {
	if r.tcp != nil {
		return r.tcp.write(b, now)
	}
	return r.conn.WriteToUDPAddrPort(b, r.remote)
}

// same says whether both are one way.
func (r *route) same(o *route) bool { return r.remote == o.remote && r.tcp == o.tcp }

// request is a Binding request of a peer's agent.
type request struct {
	m                *stun.Message
	size             int
	own, their       string // ufrags
	signed           bool
	priority         uint32
	nominates        bool // USE-CANDIDATE
	controlled       bool // it takes itself for the controlled one
	incomprehensible []stun.AttrType
}

var messages = sync.Pool{New: func() any { return stun.New() }}

// unauthenticated is how many error answers go out in a second to those who have not shown the password.
const unauthenticated = 50

// check takes one STUN message, and returns the agent whose peer has signed it; nil if nobody has.
func (p *shared) check(b []byte, via route, now time.Duration) *agent {
	m := messages.Get().(*stun.Message)
	defer messages.Put(m)
	var r request
	switch known, ok := r.read(m, b); {
	case !ok:
		p.strays.malformed.Add(1)
		return nil
	case !known:
		return nil // an indication keeps a NAT open; answers are to nothing that was asked
	}
	a := (*p.agents.Load())[r.own]
	if a == nil {
		p.strays.stranger.Add(1)
		p.refuse(&r, via, now)
		return nil
	}
	if !a.check(&r, via, now) {
		return nil
	}
	return a
}

// read takes a message apart. False for ok: it is not well-formed; for binding: it is none to be answered.
func (r *request) read(m *stun.Message, b []byte) (binding, ok bool) {
	m.Raw = append(m.Raw[:0], b...)
	if m.Decode() != nil || len(m.Raw) != 20+int(m.Length) || stun.Fingerprint.Check(m) != nil {
		return false, false
	}
	if m.Type != stun.BindingRequest {
		return false, true
	}
	r.m, r.size = m, len(b)
	for _, a := range m.Attributes {
		if !r.attribute(a) {
			return false, false
		}
		if r.signed {
			break // what stands behind MESSAGE-INTEGRITY is not signed (RFC 8489 §14.5)
		}
	}
	return true, true
}

// attribute notes one attribute; false if it is not well-formed.
func (r *request) attribute(a stun.RawAttribute) bool {
	switch a.Type {
	case stun.AttrUsername:
		own, their, ok := bytes.Cut(a.Value, []byte(":"))
		if !ok || len(a.Value) > 513 {
			return false
		}
		r.own, r.their = string(own), string(their)
	case stun.AttrPriority:
		if len(a.Value) != 4 {
			return false
		}
		r.priority = binary.BigEndian.Uint32(a.Value)
	case stun.AttrUseCandidate:
		r.nominates = true
	case stun.AttrICEControlled:
		r.controlled = true
	case stun.AttrMessageIntegrity:
		r.signed = true
	case stun.AttrFingerprint:
	default:
		if a.Type.Required() && len(r.incomprehensible) < 8 {
			r.incomprehensible = append(r.incomprehensible, a.Type)
		}
	}
	return true
}

// signedBy says whether the request was made with the password.
func (r *request) signedBy(pwd stun.MessageIntegrity) bool { return r.signed && pwd.Check(r.m) == nil }

// refuse answers somebody who does not know the password: 401, or 400 if nothing was signed (RFC 8489 §9.1.3).
func (p *shared) refuse(r *request, via route, now time.Duration) {
	if !p.errors.take(unauthenticated, now) {
		return
	}
	code := stun.CodeUnauthorized
	if !r.signed || r.own == "" {
		code = stun.CodeBadRequest
	}
	r.answer(via, now, stun.BindingError, failure(code), stun.Fingerprint)
}

// failure is an ERROR-CODE without words, which nobody reads.
func failure(code stun.ErrorCode) stun.ErrorCodeAttribute {
	return stun.ErrorCodeAttribute{Code: code, Reason: []byte{}}
}

// answer sends an answer, if it is no larger than the request.
func (r *request) answer(via route, now time.Duration, parts ...stun.Setter) {
	m := messages.Get().(*stun.Message)
	defer messages.Put(m)
	parts = append([]stun.Setter{stun.NewTransactionIDSetter(r.m.TransactionID)}, parts...)
	if m.Build(parts...) != nil || len(m.Raw) > r.size {
		return
	}
	_, _ = via.write(m.Raw, now) // a lost answer is asked for again
}
