package phone

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// Status is a final answer that was not a success.
type Status struct {
	*Message
}

// Error is the status line.
func (s *Status) Error() string { return s.Line() }

// Register binds the phone's contact for that long and gives the answer (RFC 3261 §10.2).
func (p *Phone) Register(expires time.Duration) (*Message, error) {
	return p.register(p.contactHeader(), expires)
}

// Unregister removes the phone's binding.
func (p *Phone) Unregister() (*Message, error) { return p.register(p.contactHeader(), 0) }

// UnregisterAll sends the contact "*", which removes the bindings of all devices of the user.
func (p *Phone) UnregisterAll() (*Message, error) { return p.register("*", 0) }

func (p *Phone) register(contact string, expires time.Duration) (*Message, error) {
	res, err := p.registerOnce(contact, expires)
	if errors.Is(err, net.ErrClosed) { // the server has closed the connection meanwhile: there is another by now
		res, err = p.registerOnce(contact, expires)
	}
	return res, err
}

func (p *Phone) registerOnce(contact string, expires time.Duration) (*Message, error) {
	to, err := p.linkTo(p.server())
	if err != nil {
		return nil, fmt.Errorf("register %s: %w", p.cfg.User, err)
	}
	req := p.request0("REGISTER", "sip:"+p.cfg.host(), p.URI(), p.regID, token(6), p.nextReg(), to)
	req.Add("Contact", contact)
	req.Add("Expires", fmt.Sprint(int(expires/time.Second)))
	if p.cfg.GRUU {
		req.Add("Supported", "path, gruu")
	}
	byFlow := to.network == "wss" && p.cfg.RegID > 0 && expires > 0 && contact != "*"
	if byFlow {
		req.Add("Supported", "outbound")
	}
	res, err := p.exchange(req, to, p.nextReg, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("register %s: %w", p.cfg.User, err)
	}
	if res.Code != 200 {
		return res, fmt.Errorf("register %s: %w", p.cfg.User, &Status{res})
	}
	if byFlow && res.Get("Require") != "outbound" {
		return res, fmt.Errorf("register %s: the answer does not say Require: outbound (RFC 5626 §6)", p.cfg.User)
	}
	p.mu.Lock()
	_, rest, _ := strings.Cut(res.Get("Contact"), `pub-gruu="`)
	p.gruu, _, _ = strings.Cut(rest, `"`)
	p.mu.Unlock()
	return res, nil
}

// GRUU is the public GRUU that the phone was told when it registered, "" = none.
func (p *Phone) GRUU() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gruu
}

func (p *Phone) nextReg() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.regSeq++
	return p.regSeq
}

// request0 is a request outside a dialog, with what every request has (RFC 3261 §8.1.1).
func (p *Phone) request0(method, uri, to, callID, fromTag string, seq uint32, over *link) *Message {
	req := &Message{Method: method, URI: uri}
	req.Add("Via", p.via(over))
	req.Add("Max-Forwards", "70")
	req.Add("From", p.fromHeader()+";tag="+fromTag)
	req.Add("To", "<"+to+">")
	req.Add("Call-ID", callID)
	req.Add("CSeq", fmt.Sprintf("%d %s", seq, method))
	req.Add("User-Agent", p.cfg.UserAgent)
	return req
}

func (p *Phone) fromHeader() string {
	if p.cfg.Display != "" {
		return fmt.Sprintf(`"%s" <%s>`, p.cfg.Display, p.URI())
	}
	return "<" + p.URI() + ">"
}

// Send is a request outside any dialog: OPTIONS, SUBSCRIBE, or one that a test makes up. Headers replace those of the same name.
func (p *Phone) Send(method, uri string, body []byte, headers ...Header) (*Message, error) {
	to, err := p.linkTo(p.server())
	if err != nil {
		return nil, err
	}
	seq := uint32(1)
	req := p.request0(method, uri, uri, token(12), token(6), seq, to)
	req.Body = body
	for _, h := range headers {
		req.Set(h.Name, h.Value)
	}
	return p.exchange(req, to, func() uint32 { seq++; return seq }, nil, nil)
}
