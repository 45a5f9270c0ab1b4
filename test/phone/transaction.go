package phone

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

const (
	timerT1 = 500 * time.Millisecond // RFC 3261 §17.1.1.1
	timerT2 = 4 * time.Second
	timerB  = 64 * timerT1
)

// ErrTimeout says that no final answer came.
var ErrTimeout = errors.New("no answer")

// dispatch takes a message from the network.
func (p *Phone) dispatch(m *Message, from *link) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.log = append(p.log, Logged{Message: m, At: time.Now(), Peer: from.remote})
	p.mu.Unlock()
	if m.Code != 0 {
		p.response(m, from)
		return
	}
	p.mu.Lock()
	again := p.answered[m.key()]
	p.mu.Unlock()
	if again != nil && m.Method != "ACK" {
		p.send(again, from)
		return
	}
	p.request(m, from)
}

func (p *Phone) response(m *Message, from *link) {
	p.mu.Lock()
	wait, ack := p.waiting[m.key()], p.acks[m.key()]
	if wait != nil {
		select {
		case wait <- m:
		default:
		}
	}
	p.mu.Unlock()
	if wait == nil && ack != nil && m.Code >= 200 {
		p.send(ack.msg, ack.to)
	}
}

func (p *Phone) send(m *Message, to *link) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return errors.New("phone is closed")
	}
	p.log = append(p.log, Logged{Message: m, At: time.Now(), Out: true, Peer: to.remote})
	p.mu.Unlock()
	return to.write(m.Bytes())
}

// SendRaw sends bytes as they are to the server, for tests of bad input.
func (p *Phone) SendRaw(b []byte) error {
	l, err := p.linkTo(p.server())
	if err != nil {
		return err
	}
	return l.write(b)
}

// roundTrip sends a request and waits for its final answer; seen is told every provisional one.
func (p *Phone) roundTrip(req *Message, to *link, seen func(*Message)) (*Message, error) {
	ch := make(chan *Message, 64)
	p.mu.Lock()
	p.waiting[req.key()] = ch
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.waiting, req.key())
		p.mu.Unlock()
	}()
	err := p.send(req, to)
	if req.sent != nil {
		req.sent()
	}
	if err != nil && to.udp == nil {
		return nil, fmt.Errorf("%s: %w", req.Line(), err)
	}
	limit, repeat := time.NewTimer(timerB), time.NewTimer(timerT1)
	defer limit.Stop()
	defer repeat.Stop()
	for wait := timerT1; ; {
		select {
		case res := <-ch:
			if res.Code >= 200 {
				p.ackFailure(req, res, to)
				return res, nil
			}
			repeat.Stop()
			if req.Method == "INVITE" {
				limit.Reset(3 * time.Minute) // Timer C
			}
			if seen != nil {
				seen(res)
			}
		case <-repeat.C:
			if now, err := p.linkTo(to.remote); err == nil && (to.udp != nil || now.network != to.network || now.local != to.local) {
				to = now // the phone may be elsewhere by now
				p.send(req, to)
			}
			if wait *= 2; req.Method != "INVITE" {
				wait = min(wait, timerT2)
			}
			repeat.Reset(wait)
		case <-limit.C:
			return nil, fmt.Errorf("%s: %w", req.Line(), ErrTimeout)
		case <-p.stop:
			return nil, fmt.Errorf("%s: phone closed", req.Line())
		}
	}
}

// ackFailure acknowledges a final answer other than 2xx to an INVITE, in its transaction (RFC 3261 §17.1.1.3).
func (p *Phone) ackFailure(invite, res *Message, to *link) {
	if invite.Method != "INVITE" || res.Code < 300 {
		return
	}
	ack := &Message{Method: "ACK", URI: invite.URI}
	ack.Add("Via", invite.Get("Via"))
	for _, r := range invite.All("Route") {
		ack.Add("Route", r)
	}
	n, _ := invite.CSeq()
	ack.Add("Max-Forwards", "70")
	ack.Add("From", invite.Get("From"))
	ack.Add("To", res.Get("To"))
	ack.Add("Call-ID", invite.Get("Call-ID"))
	ack.Add("CSeq", fmt.Sprintf("%d ACK", n))
	p.remember(res.key(), ack, to)
	p.send(ack, to)
}

// remember keeps an ACK for repeats of what it acknowledged.
func (p *Phone) remember(key string, ack *Message, to *link) {
	p.mu.Lock()
	p.acks[key] = &sentAck{ack, to}
	p.mu.Unlock()
	time.AfterFunc(timerB, func() {
		p.mu.Lock()
		delete(p.acks, key)
		p.mu.Unlock()
	})
}

// exchange sends a request and, if it is challenged, once more with credentials. next numbers the second one.
func (p *Phone) exchange(req *Message, to *link, next func() uint32, seen func(*Message), sent func(*Message)) (*Message, error) {
	if sent != nil {
		sent(req)
	}
	res, err := p.roundTrip(req, to, seen)
	if err != nil || (res.Code != 401 && res.Code != 407) || p.cfg.Password == "" {
		return res, err
	}
	name, value, err := p.authorize(res, req.Method, req.URI)
	if err != nil {
		return res, err
	}
	again := &Message{Method: req.Method, URI: req.URI, Headers: append([]Header(nil), req.Headers...), Body: req.Body, sent: req.sent}
	again.Set("Via", p.via(to))
	again.Set("CSeq", fmt.Sprintf("%d %s", next(), req.Method))
	again.Set(name, value)
	if sent != nil {
		sent(again)
	}
	return p.roundTrip(again, to, seen)
}

func (p *Phone) via(to *link) string {
	if to.network == "wss" {
		return fmt.Sprintf("SIP/2.0/WSS %s;branch=z9hG4bK%s", p.madeUp, token(10))
	}
	names := map[string]string{"udp": "UDP", "tcp": "TCP", "tls": "TLS"}
	return fmt.Sprintf("SIP/2.0/%s %s;branch=z9hG4bK%s;rport", names[to.network], told(to.local), token(10))
}

// route finds where a request goes: the first route, else its URI (RFC 3261 §8.1.2).
func (p *Phone) route(uri string, routes []string) (*link, error) {
	if p.cfg.Outbound {
		return p.linkTo(p.cfg.Server)
	}
	if len(routes) > 0 {
		uri = AddrURI(routes[0])
	}
	at, err := netip.ParseAddrPort(hostPort(uri))
	if err != nil {
		if !p.server().IsValid() {
			return nil, fmt.Errorf("no address in %q: %w", uri, err)
		}
		at = p.server() // a name that stands for the server
	}
	return p.linkTo(p.cfg.zoned(at))
}

// respond answers a request; the answer is kept for repeats of the request.
func (p *Phone) respond(req *Message, from *link, code int, reason, toTag string, body []byte, extra ...Header) {
	p.mu.Lock()
	if req.Method == "INVITE" {
		for _, h := range p.behave.Headers {
			if !slices.ContainsFunc(extra, func(e Header) bool { return e.Name == h.Name }) {
				extra = append(extra[:len(extra):len(extra)], h)
			}
		}
		if p.behave.Reason != "" {
			reason = p.behave.Reason
		}
	}
	p.mu.Unlock()
	m := &Message{Code: code, Reason: reason, Body: body}
	for _, name := range []string{"Via", "Record-Route", "From", "To", "Call-ID", "CSeq"} {
		for _, v := range req.All(name) {
			if name == "To" && toTag != "" && Param(v, "tag") == "" {
				v += ";tag=" + toTag
			}
			m.Add(name, v)
		}
	}
	m.Add("User-Agent", p.cfg.UserAgent)
	if req.Method == "INVITE" && code > 100 && code < 300 {
		m.Add("Contact", p.dialogContact())
		if p.cfg.Allow != "" {
			m.Add("Allow", p.cfg.Allow)
		}
	}
	for _, h := range extra {
		m.Add(h.Name, h.Value)
	}
	if body != nil {
		m.Add("Content-Type", "application/sdp")
	}
	key := req.key()
	p.mu.Lock()
	p.answered[key] = m
	p.mu.Unlock()
	if code >= 200 {
		time.AfterFunc(timerB, func() {
			p.mu.Lock()
			delete(p.answered, key)
			p.mu.Unlock()
		})
	}
	p.send(m, from)
}

// dialogContact is the Contact of its dialogs: its GRUU, if it was told one and uses it (RFC 5627 §4.4).
func (p *Phone) dialogContact() string {
	if u := p.GRUU(); u != "" {
		return "<" + u + ">"
	}
	return p.contactHeader()
}

func (p *Phone) contactHeader() string {
	v := "<" + p.Contact() + ">"
	if p.cfg.Instance != "" {
		v += `;+sip.instance="<` + p.cfg.Instance + `>"`
	}
	if p.cfg.RegID > 0 {
		v += fmt.Sprintf(";reg-id=%d", p.cfg.RegID)
	}
	return v
}
