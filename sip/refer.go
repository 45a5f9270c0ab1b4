package sip

import (
	"errors"
	"fmt"
	"strings"
)

// Replaces names a dialog from the view of who receives it (RFC 3891 §3): its to-tag is the receiver's own tag.
type Replaces struct {
	CallID, ToTag, FromTag string
	EarlyOnly              bool
}

// Names says whether this means a dialog of ours. The tags may be missing or "0", and they may be the other way round:
// dialog-info tells them from the view of the phone that it is about, and phones differ in which one they take over.
func (r Replaces) Names(d DialogID) bool {
	return r.CallID == d.CallID &&
		(fits(r.ToTag, d.LocalTag) && fits(r.FromTag, d.RemoteTag) || fits(r.ToTag, d.RemoteTag) && fits(r.FromTag, d.LocalTag))
}

// fits says whether a tag is meant: "" and "0" mean any (RFC 3891 §3 has "0" for one that is not there).
func fits(said, tag string) bool { return said == "" || said == "0" || said == tag }

// ID is the dialog that is named to the letter, with the receiver's tag as the local one.
func (r Replaces) ID() DialogID { return DialogID{r.CallID, r.ToTag, r.FromTag} }

// ParseReplaces reads a Replaces value. The tags may be missing: Snom's call pick-up sends the Call-ID alone.
func ParseReplaces(v string) (Replaces, error) {
	id, rest := trim(v), ""
	if i := strings.IndexByte(id, ';'); i >= 0 {
		id, rest = trim(id[:i]), id[i:]
	}
	if id == "" || strings.ContainsAny(id, " \t,\r\n") {
		return Replaces{}, fmt.Errorf("Replaces %q has no Call-ID", v)
	}
	p, err := parseParams(rest)
	if err != nil {
		return Replaces{}, fmt.Errorf("Replaces %q: %w", v, err)
	}
	r := Replaces{CallID: id}
	r.ToTag, _ = p.Get("to-tag")
	r.FromTag, _ = p.Get("from-tag")
	_, r.EarlyOnly = p.Get("early-only")
	return r, nil
}

// String writes the value of a Replaces header.
func (r Replaces) String() string {
	s := r.CallID
	if r.ToTag != "" {
		s += ";to-tag=" + r.ToTag
	}
	if r.FromTag != "" {
		s += ";from-tag=" + r.FromTag
	}
	if r.EarlyOnly {
		s += ";early-only"
	}
	return s
}

// ErrReferMethod says that a REFER asks for another request than INVITE.
var ErrReferMethod = errors.New("Refer-To asks for another request than INVITE")

// ReferTarget reads the Refer-To of a REFER (RFC 3515 §2.1). A Replaces in the URI is taken off and returned
// (RFC 3891 §4); the URI's other headers are dropped: they must not become headers of a request of ours. The error is
// ErrReferMethod where the URI names a method, and not INVITE.
func ReferTarget(r *Request) (URI, *Replaces, error) {
	v := r.Header("Refer-To")
	if v == "" {
		return URI{}, nil, errors.New("REFER has no Refer-To")
	}
	n, err := ParseNameAddr(v)
	if err != nil {
		return URI{}, nil, fmt.Errorf("Refer-To: %w", err)
	}
	if n.URI.Scheme == "" {
		return URI{}, nil, errors.New("Refer-To is a wildcard")
	}
	u := n.URI
	if method, ok := u.Params.Get("method"); ok && method != "INVITE" {
		return URI{}, nil, fmt.Errorf("%w: %q", ErrReferMethod, method)
	}
	u.Params = u.Params.without("method")
	value, ok := u.Headers.Get("Replaces")
	u.Headers = nil
	if !ok {
		return u, nil, nil
	}
	replaces, err := ParseReplaces(value)
	if err != nil {
		return URI{}, nil, fmt.Errorf("Refer-To: %w", err)
	}
	return u, &replaces, nil
}

// ReferredBy reads who a REFER or INVITE says has referred it (RFC 3892 §3); false: it does not say. The sender says so
// of himself: it proves nothing.
func ReferredBy(r *Request) (NameAddr, bool, error) {
	all := r.Headers("Referred-By")
	if len(all) == 0 {
		return NameAddr{}, false, nil
	}
	n, err := ParseNameAddr(all[0])
	if err == nil && n.URI.Scheme == "" {
		err = errors.New("it is a wildcard")
	}
	if err != nil {
		return NameAddr{}, true, fmt.Errorf("Referred-By: %w", err)
	}
	return n, true, nil
}

// optionNoSub has a REFER make no subscription (RFC 7614 §4).
const optionNoSub = "nosub"

// ReferSilent says whether who sends a REFER wants no NOTIFY of it: by Refer-Sub (RFC 4488 §4) or by requiring nosub
// (RFC 7614 §4). answer is what the 2xx says of it.
func ReferSilent(r *Request) (silent bool, answer []Header, err error) {
	sub, _, _ := strings.Cut(strings.ToLower(r.Header("Refer-Sub")), ";")
	switch sub = trim(sub); {
	case r.Requires(optionNoSub):
		return true, nil, nil
	case sub == "false":
		return true, []Header{{"Refer-Sub", "false"}}, nil
	case sub != "" && sub != "true":
		return false, nil, fmt.Errorf("Refer-Sub is %q: it is true or false", r.Header("Refer-Sub"))
	}
	return false, nil, nil
}
