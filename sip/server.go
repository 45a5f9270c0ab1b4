package sip

import (
	"slices"
	"strconv"
)

// known methods are challenged before they are refused (RFC 3261 §8.2: authentication comes first); one nobody has
// heard of is refused at once.
var methods = []string{
	"INVITE", "REGISTER", "OPTIONS", "SUBSCRIBE", "NOTIFY", "PUBLISH", "MESSAGE", "INFO", "UPDATE", "PRACK", "REFER",
	"BYE",
}

// dialogOnly methods have no meaning outside a dialog.
var dialogOnly = []string{"BYE", "INFO", "UPDATE", "PRACK"}

// serverKey identifies a server transaction (RFC 3261 §17.2.3): by branch, sent-by and method where the branch has
// the magic cookie, else by RFC 2543's fields. The source address is part of it: nobody else cancels.
func serverKey(r *Request, method string) string {
	var space [192]byte
	b := append(space[:0], r.via.branch()...)
	if len(b) <= len(magic) || string(b[:len(magic)]) != magic {
		b = append(append(append(b, '|'), r.callID...), '|')
		b = append(append(strconv.AppendUint(b, uint64(r.cseq), 10), '|'), r.FromTag()...)
	}
	b = append(append(b, '|'), r.via.host...)
	b = append(strconv.AppendInt(append(b, ':'), int64(r.via.port), 10), '|')
	b = append(r.flow.Remote.Addr().AppendTo(b), '|')
	return string(append(b, method...))
}

// mergeKey is what all copies of one request share, whichever way they came (RFC 3261 §8.2.2.2).
type mergeKey struct {
	callID, fromTag string
	cseq            uint32
}

type ackKey struct {
	dialog DialogID
	cseq   uint32
}

// attached is a dialog that somebody takes the requests of.
type attached struct {
	flow Flow
	user string
	fn   func(*Exchange)
}

// Attach has the requests inside a dialog, early or not (BYE, re-INVITE, PRACK, REFER, …) go to fn, on the ordered queue of its Call-ID.
// One from an address other than that of d.Flow is challenged and must be user's. Attaching again replaces.
func (a *Agent) Attach(d Dialog, user string, fn func(*Exchange)) {
	a.silence.claim(d.CallID)
	s := a.shard(d.CallID)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialogs[d.ID()] = &attached{d.Flow, user, fn}
}

// Detach forgets a dialog: its further requests are answered 481.
func (a *Agent) Detach(id DialogID) {
	s := a.shard(id.CallID)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.dialogs, id)
}

// request takes a valid request to its transaction, its dialog, or the handler of its method.
func (s *shard) request(r *Request) {
	switch r.method {
	case "ACK":
		s.ack(r)
		return
	case "CANCEL":
		s.cancel(r)
		return
	}
	s.mu.Lock()
	key := serverKey(r, r.method)
	tx, answer := s.servers[key], s.answers.find(key)
	d := s.dialogs[DialogID{r.callID, r.ToTag(), r.FromTag()}]
	first := s.merged[mergeKey{r.callID, r.FromTag(), r.cseq}]
	s.mu.Unlock()
	switch {
	case tx != nil:
		tx.repeat(r.flow)
	case answer != nil:
		_ = s.agent.send(r.flow, answer)
	case r.ToTag() != "" && r.method != "REGISTER":
		s.inside(r, d)
	case r.method == "INVITE" && first != nil:
		s.stateless(r, Reply{Code: 482})
	case !slices.Contains(methods, r.method):
		s.stateless(r, Reply{Code: 405})
	default:
		s.outside(r)
	}
}

// stateless answers once and remembers nothing (RFC 3261 §8.2.7).
func (s *shard) stateless(r *Request, rep Reply) { s.agent.stateless(r, rep) }

// inside serves a request in a dialog, if it comes from where the dialog's peer is or proves to be its user.
func (s *shard) inside(r *Request, d *attached) {
	if d == nil {
		s.stateless(r, Reply{Code: 481})
		return
	}
	if r.flow.Remote.Addr() != d.flow.Remote.Addr() && !s.authenticate(r, d) {
		return
	}
	x := s.begin(r)
	switch {
	case r.method == "PRACK":
		s.prack(x, d.fn)
	case r.method == "INVITE" || r.method == "BYE" || slices.Contains(s.agent.inDialog, r.method):
		s.serve(x, d.fn)
	default:
		s.unserved(x)
	}
}

// outside serves a request that stands for itself.
func (s *shard) outside(r *Request) {
	if s.shed(r) || r.user == "" && (!s.authenticate(r, nil) || s.exceeds(r) || s.place(r)) {
		return
	}
	s.fresh(r)
}

// fresh serves a request outside dialogs whose user is known.
func (s *shard) fresh(r *Request) {
	r.text = nil
	s.agent.pastStrictRouter(r)
	x := s.begin(r)
	if h := s.agent.opt.Handlers[r.method]; h != nil {
		s.serve(x, h)
		return
	}
	s.unserved(x)
}

// pastStrictRouter gives a request its Request-URI back that a strict router, or a phone that takes us for one, has put
// behind the Routes, with our own address in its place (RFC 3261 §16.4). It is a place of ours or it stays there.
func (a *Agent) pastStrictRouter(r *Request) {
	routes := r.Headers("Route")
	if len(routes) == 0 || r.uri.User != "" || !a.Own(r.uri.Host) {
		return
	}
	last, err := ParseNameAddr(routes[len(routes)-1])
	if err == nil && last.URI.User != "" && a.Own(last.URI.Host) {
		last.URI.Headers = nil
		r.uri = last.URI
	}
}

// authenticate challenges or refuses a request that its sender has not proved to be his; true if he has.
func (s *shard) authenticate(r *Request, d *attached) bool {
	v := s.agent.auth.verify(r)
	if v.user == "" {
		s.agent.tellRefused(r, v)
		s.challenge(r, v.challenge)
		return false
	}
	r.user, r.login = v.user, v.login
	s.agent.trust(r.flow, v.user)
	wrong := d != nil && d.user != v.user
	if d == nil && !contains(v.identities, r.from.URI.User) {
		wrong = true
	}
	if wrong {
		s.agent.log.Info("request in another's name refused", "user", v.user, "from", r.flow.String())
		_ = s.begin(r).Respond(Reply{Code: 403})
	}
	return !wrong
}

// serve calls a handler. If that panics, the request is answered all the same.
func (s *shard) serve(x *Exchange, handler func(*Exchange)) {
	if x.method == "INVITE" {
		_ = x.Respond(Reply{Code: 100})
	}
	served := false
	defer func() {
		if !served {
			_ = x.Respond(Reply{Code: 500})
		}
	}()
	handler(x)
	served = true
}

// unserved answers what has no handler.
func (s *shard) unserved(x *Exchange) {
	code := 405
	switch {
	case x.method == "OPTIONS" && !s.agent.Own(x.uri.Host):
		code = 404 // RFC 3261 §8.2.2.1; nothing is passed on to where it says
	case x.method == "OPTIONS":
		code = 200
	case x.method == "SUBSCRIBE", x.method == "NOTIFY": // RFC 6665; a 481 within a dialog would end that (RFC 5057)
		code = 489
	case x.ToTag() == "" && slices.Contains(dialogOnly, x.method):
		code = 481
	}
	_ = x.Respond(Reply{Code: code})
}

// ack takes an ACK to the INVITE it belongs to; one for nothing is dropped.
func (s *shard) ack(r *Request) {
	id := DialogID{r.callID, r.ToTag(), r.FromTag()}
	s.mu.Lock()
	refused := s.servers[serverKey(r, "INVITE")]
	taken := s.acks[ackKey{id, r.cseq}]
	s.mu.Unlock()
	switch {
	case taken != nil:
		taken.acked2xx(r)
	case refused != nil:
		refused.acked()
	}
}

// cancel takes a CANCEL to the INVITE it belongs to (RFC 3261 §9.2).
func (s *shard) cancel(r *Request) {
	s.mu.Lock()
	again := s.answers.find(serverKey(r, "CANCEL"))
	tx := s.servers[serverKey(r, "INVITE")]
	s.mu.Unlock()
	switch {
	case again != nil:
		_ = s.agent.send(r.flow, again)
	case tx == nil:
		s.stateless(r, Reply{Code: 481})
	default:
		x := s.begin(r)
		x.tx.tag = tx.tag
		_ = x.Respond(Reply{Code: 200})
		tx.cancel()
	}
}
