package sip

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"strconv"
	"strings"
)

// supported lists the extensions a request may require (RFC 3261 §8.2.2.3); extensions are those of them that are told in
// calls, allExtensions also has what a registrar knows (RFC 3327, RFC 5627, RFC 5626).
var supported = []string{"replaces", option100rel, "timer", "norefersub", optionNoSub, "path", "gruu", "outbound"}

var (
	extensions    = strings.Join(supported[:5], ", ")
	allExtensions = strings.Join(supported, ", ")
)

// check validates a request in the order of RFC 3261 §8.2: first that it is one, then that it can be served. It
// gives the refusal, nil when there is none. headErr is what went wrong reading the header fields.
func (r *Request) check(start string, rest []byte, headErr error) *refusal {
	_, line, _ := strings.Cut(start, " ")
	uri, version, _ := strings.Cut(line, " ")
	if v, ok := strings.CutPrefix(version, "SIP/"); ok && v != "2.0" && v != "" && strings.Trim(v, "0123456789.") == "" {
		return &refusal{code: 505, why: fmt.Errorf("version %q", version)}
	}
	if version != "SIP/2.0" {
		return bad("bad request line %q", start)
	}
	var err error
	if r.uri, err = ParseURI(uri); err != nil && !errors.Is(err, errScheme) {
		return bad("request line: %w", err)
	}
	unknownScheme := err
	if err := r.checkHeaders(); err != nil {
		return &refusal{code: 400, why: err}
	}
	if headErr != nil && unknownScheme == nil {
		return bad("headers: %w", headErr)
	}
	if err := r.checkFields(rest); err != nil {
		return &refusal{code: 400, why: err}
	}
	if unknownScheme != nil {
		return &refusal{code: 416, why: unknownScheme}
	}
	return r.checkService()
}

func (r *Request) checkFields(rest []byte) error {
	if err := r.readFields(); err != nil {
		return err
	}
	method, err := r.readCSeq()
	if err != nil {
		return err
	}
	switch {
	case method != r.method:
		return fmt.Errorf("CSeq is of %s", method)
	case len(r.uri.Headers) > 0: // RFC 3261 §19.1.1: not allowed there, and never headers of ours
		return errors.New("request URI has headers")
	case r.FromTag() == "" && strings.HasPrefix(r.via.branch(), magic):
		return errors.New("From has no tag")
	}
	if r.hops, err = strconv.ParseUint(r.Header("Max-Forwards"), 10, 8); err != nil {
		return fmt.Errorf("Max-Forwards is missing or bad: %q", r.Header("Max-Forwards"))
	}
	if err := r.checkContacts(); err != nil {
		return err
	}
	if err := r.checkReplaces(); err != nil {
		return err
	}
	return r.readBody(rest)
}

// checkContacts reads every Contact; what sets up a dialog has exactly one (RFC 3261 §8.1.1.8).
func (r *Request) checkContacts() error {
	contacts := r.Headers("Contact")
	for _, v := range contacts {
		n, err := ParseNameAddr(v)
		if err != nil && (r.method == "INVITE" || !errors.Is(err, errScheme)) {
			return fmt.Errorf("Contact: %w", err)
		}
		if n.URI.Host == "*" && r.method != "REGISTER" {
			return errors.New("Contact is a wildcard")
		}
		if err == nil {
			r.contacts = append(r.contacts, n)
		}
	}
	if r.method == "INVITE" && len(contacts) != 1 {
		return fmt.Errorf("%d Contacts", len(contacts))
	}
	return nil
}

// checkReplaces keeps Replaces to INVITEs, which name one dialog at most (RFC 3891 §3, RFC 3911 §4).
func (r *Request) checkReplaces() error {
	there := r.Header("Replaces") != ""
	switch {
	case there && r.method != "INVITE" && r.method != "ACK":
		return errors.New("Replaces is for INVITE alone")
	case there && r.Header("Join") != "":
		return errors.New("Replaces and Join exclude each other")
	}
	return nil
}

// checkService refuses what is a good request but asks for what is not here.
func (r *Request) checkService() *refusal {
	if r.method == "ACK" {
		return nil // never answered; its body is taken as it comes
	}
	if r.method != "CANCEL" {
		if r.hops == 0 && r.method != "OPTIONS" { // RFC 3261 §16.3: we would pass it on
			return &refusal{code: 483, why: errors.New("Max-Forwards is 0")}
		}
		if u := r.unsupported(); len(u) > 0 {
			h := []Header{{"Unsupported", strings.Join(u, ", ")}}
			return &refusal{code: 420, why: fmt.Errorf("requires %q", u), headers: h}
		}
	}
	return r.checkBody()
}

func (r *Request) unsupported() []string {
	var out []string
	for _, option := range r.Headers("Require") {
		if option != "" && isToken(option) && !contains(supported, option) {
			out = append(out, option)
		}
	}
	return out
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if strings.EqualFold(v, s) {
			return true
		}
	}
	return false
}

const typeSDP = "application/sdp"

// checkBody refuses encodings, and in requests that carry sessions all bodies but SDP (RFC 3261 §8.2.3). A multipart
// body is replaced by the SDP in it (RFC 5621 §3.1).
func (r *Request) checkBody() *refusal {
	for _, e := range r.Headers("Content-Encoding") {
		if !strings.EqualFold(e, "identity") {
			h := []Header{{"Accept-Encoding", "identity"}}
			return &refusal{code: 415, why: fmt.Errorf("encoding %q", e), headers: h}
		}
	}
	if r.method != "INVITE" && r.method != "UPDATE" && r.method != "PRACK" {
		return nil
	}
	if !r.accepts(typeSDP) {
		return &refusal{code: 406, why: errors.New("no SDP is accepted in return")}
	}
	if len(r.body.Data) == 0 {
		return nil
	}
	kind, params, err := mime.ParseMediaType(r.body.Type)
	if err == nil && kind == "multipart/mixed" || kind == "multipart/alternative" {
		if b, ok := sdpPart(r.body.Data, params["boundary"]); ok {
			r.body = b
			return nil
		}
	}
	if kind == typeSDP {
		r.body.Type = typeSDP
		return nil
	}
	if _, p, _ := mime.ParseMediaType(r.Header("Content-Disposition")); p["handling"] == "optional" {
		r.body = Body{}
		return nil
	}
	return &refusal{code: 415, why: fmt.Errorf("body is %q", r.body.Type), headers: []Header{{"Accept", typeSDP}}}
}

// accepts reports whether the Accept headers, if there are any, take a media type.
func (r *Request) accepts(kind string) bool {
	all := r.Headers("Accept")
	for _, a := range all {
		a, _, _ = strings.Cut(strings.ToLower(a), ";")
		a = trim(a)
		family, _, _ := strings.Cut(kind, "/")
		if a == kind || a == "*/*" || a == family+"/*" {
			return true
		}
	}
	return len(all) == 0
}

func sdpPart(data []byte, boundary string) (Body, bool) {
	if boundary == "" {
		return Body{}, false
	}
	parts := multipart.NewReader(bytes.NewReader(data), boundary)
	for range 8 {
		p, err := parts.NextRawPart()
		if err != nil {
			return Body{}, false
		}
		if kind, _, err := mime.ParseMediaType(p.Header.Get("Content-Type")); err != nil || kind != typeSDP {
			continue
		}
		sdp, err := io.ReadAll(p)
		return Body{typeSDP, sdp}, err == nil
	}
	return Body{}, false
}
