package sip

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Outgoing messages are built here and only here, from what is named here and what the caller hands over: nothing
// of a received message passes through unread.

// product is what User-Agent and Server say.
const product = "baton"

// owned names the headers that only the agent writes.
var owned = []string{
	"Via", "From", "To", "Call-ID", "CSeq", "Content-Length", "Content-Type", "Route", "Record-Route",
	"User-Agent", "Server",
	"Authorization", "Proxy-Authorization", // no password of ours is for a peer: a challenge is a refusal
}

// writer collects a message.
type writer struct {
	bytes.Buffer
	short bool // compact names, and nothing that can be done without
}

// start writes the start line, of words with spaces between them.
func (w *writer) start(words ...string) {
	for i, word := range words {
		if i > 0 {
			w.WriteByte(' ')
		}
		w.WriteString(word)
	}
	w.WriteString("\r\n")
}

// line writes one header. A line end in the value would begin another header: it becomes a space.
func (w *writer) line(name, value string) {
	if w.short {
		if contains(dispensable, name) {
			return
		}
		if letter, ok := letters[spelling(name)]; ok {
			name = letter
		}
	}
	if strings.IndexByte(value, '\r') >= 0 || strings.IndexByte(value, '\n') >= 0 {
		value = printable(value)
	}
	w.WriteString(name)
	w.WriteString(": ")
	w.WriteString(value)
	w.WriteString("\r\n")
}

// extra writes the caller's headers, less those that are the agent's.
func (w *writer) extra(headers []Header) {
	for _, h := range headers {
		if isToken(h.Name) && !fields[spelling(h.Name)].owned {
			w.line(h.Name, h.Value)
		}
	}
}

// finish writes the body and its headers.
func (w *writer) finish(b Body) []byte {
	if len(b.Data) > 0 && b.Type != "" {
		w.line("Content-Type", b.Type)
	}
	w.line("Content-Length", strconv.Itoa(len(b.Data)))
	w.WriteString("\r\n")
	w.Write(b.Data)
	return w.Bytes()
}

// replyRoom is about what an answer says beyond what it repeats of its request, and usualRoom what it repeats at most, as a rule.
const (
	replyRoom = 256
	usualRoom = 1 << 10
)

// reply builds the answer to a request. contact is "" where none belongs.
func (a *Agent) reply(r *Request, toTag string, rep Reply) []byte {
	return a.writeReply(&writer{}, r, toTag, rep)
}

// shortReply is the same answer in as few bytes as it can have.
func (a *Agent) shortReply(r *Request, toTag string, rep Reply) []byte {
	return a.writeReply(&writer{short: true}, r, toTag, rep)
}

func (a *Agent) writeReply(w *writer, r *Request, toTag string, rep Reply) []byte {
	w.Grow(replyRoom + min(r.length, usualRoom) + len(rep.Body.Data))
	reason := rep.Reason
	if reason == "" {
		reason = StatusText(rep.Code)
	}
	w.start("SIP/2.0", strconv.Itoa(rep.Code), printable(reason))
	for i, v := range values(r.headers, "Via") {
		if i == 0 && r.via.host != "" {
			v = r.via.seenFrom(r.flow.Remote).String()
		}
		w.line("Via", v)
	}
	w.copy(r, "From")
	w.replyTo(r, toTag, rep.Code)
	w.copy(r, "Call-ID")
	w.copy(r, "CSeq")
	if rep.Code == 100 { // RFC 3261 §8.2.6.1
		w.copy(r, "Timestamp")
	}
	a.replyHeaders(w, r, rep)
	w.extra(rep.Headers)
	return r.flow.fit(w.finish(rep.Body))
}

func (w *writer) copy(r *Request, name string) {
	if v := header(r.headers, name); v != "" {
		w.line(name, v)
	}
}

func (w *writer) replyTo(r *Request, toTag string, code int) {
	to := header(r.headers, "To")
	if to == "" {
		return
	}
	if r.ToTag() == "" && code > 100 && r.to.URI.Scheme != "" {
		to += ";tag=" + toTag
	}
	w.line("To", to)
}

// replyHeaders writes what an answer says of us: Record-Route and Contact where it makes or keeps a dialog (RFC 3261
// §12.1.1), what is served where that is asked for.
func (a *Agent) replyHeaders(w *writer, r *Request, rep Reply) {
	good := rep.Code/100 == 2
	makes := good || rep.Code > 100 && rep.Code < 200
	if makes && (r.method == "INVITE" || r.method == "SUBSCRIBE") {
		for _, v := range r.Headers("Record-Route") {
			w.line("Record-Route", v)
		}
	}
	if makes && r.method == "INVITE" {
		w.line("Allow", a.allow)
	}
	if a.events != "" && (rep.Code == 489 || r.method == "OPTIONS" && good) { // RFC 6665 §8.3.2, §8.2.2
		w.line("Allow-Events", a.events)
	}
	if makes && keepsDialog(r.method) && header(rep.Headers, "Contact") == "" {
		w.line("Contact", a.contact(r.flow, r.uri.User))
	}
	if rep.Code == 405 || r.method == "OPTIONS" && good {
		w.line("Allow", a.allow)
	}
	if r.method == "OPTIONS" && good {
		w.line("Accept", a.accepts)
	}
	switch {
	case good && r.method == "OPTIONS" && r.ToTag() == "": // to the registrar too
		w.line("Supported", allExtensions)
	case good && (keepsDialog(r.method) || r.method == "OPTIONS"):
		w.line("Supported", extensions)
	}
	w.line("Server", product)
}

// keepsDialog tells the methods that set or refresh a remote target.
func keepsDialog(method string) bool {
	return method == "INVITE" || method == "UPDATE" || method == "SUBSCRIBE" || method == "NOTIFY" || method == "REFER"
}

// draft is a request on its way out: what its retransmission, CANCEL and ACK must repeat.
type draft struct {
	method string
	uri    string // Request-URI
	routes []string
	via    string
	branch string
	out    Outgoing
	limit  time.Duration // how long to wait while nothing is heard, 0 = Timer B or F
}

// draft resolves where a request goes: Request-URI and Route by the dialog's route set (RFC 3261 §12.2.1.1).
func (a *Agent) draft(out Outgoing) (*draft, error) {
	uri, routes, err := routeOf(out.Dialog.Target, out.Dialog.RouteSet)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", out.Method, out.Dialog.Target, err)
	}
	d := &draft{method: out.Method, uri: uri, routes: routes, out: out, branch: out.Branch}
	if d.branch == "" {
		d.branch = a.NewBranch()
	}
	d.via = a.viaTo(out.Dialog.Flow, d.branch)
	return d, nil
}

// NewBranch draws the branch of a transaction (RFC 3261 §8.1.1.7).
func (a *Agent) NewBranch() string { return magic + a.mark + random(12) }

func (a *Agent) viaTo(f Flow, branch string) string {
	u := a.ContactURI(f, "")
	return "SIP/2.0/" + strings.ToUpper(f.Transport) + " " + hostPort(u.Host, u.Port) + ";rport;branch=" + branch
}

// routeOf gives Request-URI and Route values. A first route without lr is a strict router's: it takes the
// Request-URI's place, and the target goes to the end.
func routeOf(target string, set []string) (uri string, routes []string, err error) {
	if uri, err = bareURI(target); err != nil {
		return "", nil, err
	}
	if len(set) == 0 {
		return uri, nil, nil
	}
	for _, v := range set {
		if _, _, err := parseNameAddr(v); err != nil {
			return "", nil, fmt.Errorf("route: %w", err)
		}
	}
	first, raw, _ := parseNameAddr(set[0])
	if _, loose := first.URI.Params.Get("lr"); loose {
		return uri, set, nil
	}
	routes = append(append(routes, set[1:]...), "<"+uri+">")
	uri, err = bareURI(raw)
	return uri, routes, err
}

// bareURI takes off what a Request-URI must not have (RFC 3261 §19.1.1): headers and the method parameter.
func bareURI(s string) (string, error) {
	u, err := ParseURI(s)
	if err != nil {
		return "", err
	}
	if u.Host == "" && u.Scheme != "tel" {
		return "", errors.New("no host to send to")
	}
	s, _, _ = strings.Cut(s, "?")
	if _, ok := u.Params.Get("method"); ok {
		u.Params, u.Headers = u.Params.without("method"), nil
		s = u.String()
	}
	return s, nil
}

// bytes writes the request as it goes out.
func (a *Agent) bytes(d *draft) []byte { return d.out.Dialog.Flow.fit(a.whole(d)) }

// whole writes the request with all that it may say.
func (a *Agent) whole(d *draft) []byte {
	var w writer
	a.frame(&w, d, d.method, d.out.Dialog.RemoteTag)
	if keepsDialog(d.method) && header(d.out.Headers, "Contact") == "" {
		w.line("Contact", a.contact(d.out.Dialog.Flow, d.out.Dialog.Local.URI.User))
	}
	if d.method == "INVITE" || d.method == "OPTIONS" || d.method == "UPDATE" {
		w.line("Allow", a.allow)
		w.line("Supported", extensions)
	}
	if d.method == "OPTIONS" {
		w.line("Accept", a.accepts)
	}
	w.extra(d.out.Headers)
	return w.finish(d.out.Body)
}

// frame writes what a request shares with its CANCEL and ACK.
func (a *Agent) frame(w *writer, d *draft, method, toTag string) {
	g := d.out.Dialog
	w.start(method, d.uri, "SIP/2.0")
	w.line("Via", d.via)
	if method == "CANCEL" || method == "ACK" || header(d.out.Headers, "Max-Forwards") == "" {
		w.line("Max-Forwards", "70")
	}
	for _, v := range d.routes {
		w.line("Route", v)
	}
	w.line("From", tagged(g.Local, g.LocalTag))
	w.line("To", tagged(g.Remote, toTag))
	w.line("Call-ID", g.CallID)
	w.line("CSeq", strconv.FormatUint(uint64(d.out.CSeq), 10)+" "+method)
	w.line("User-Agent", product)
}

// cancel writes the CANCEL of an INVITE (RFC 3261 §9.1).
func (a *Agent) cancel(d *draft, headers ...Header) []byte {
	var w writer
	a.frame(&w, d, "CANCEL", d.out.Dialog.RemoteTag)
	w.extra(headers)
	return w.finish(Body{})
}

// ackOf writes the ACK of a final answer that is no 2xx (RFC 3261 §17.1.1.3).
func (a *Agent) ackOf(d *draft, r *Response) []byte {
	var w writer
	a.frame(&w, d, "ACK", r.ToTag())
	return w.finish(Body{})
}

// ack writes the ACK of a 2xx: a request of its own, with the INVITE's CSeq (RFC 3261 §13.2.2.4).
func (a *Agent) ack(d Dialog, cseq uint32, body Body) ([]byte, error) {
	out := Outgoing{Dialog: d, Method: "ACK", CSeq: cseq, Body: body}
	draft, err := a.draft(out)
	if err != nil {
		return nil, err
	}
	return a.bytes(draft), nil
}

func tagged(n NameAddr, tag string) string {
	n.Params = n.Params.without("tag")
	if tag != "" {
		n.Params = append(n.Params, Param{"tag", tag})
	}
	return n.String()
}

// random is a word of 8·n bits nobody can guess, for Call-IDs, tags and branches (RFC 3261 §19.3).
func random(n int) string { return hex.EncodeToString(randomBytes(n)) }

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return b
}
