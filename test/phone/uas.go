package phone

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// request takes a request from the network, in the order of arrival.
func (p *Phone) request(m *Message, from *link) {
	p.mu.Lock()
	c, ask, realm := p.calls[m.Get("Call-ID")], p.behave.Ask, p.behave.Realm
	s := p.subs[m.Get("Call-ID")]
	p.mu.Unlock()
	switch {
	case ask != 0 && m.Method != "ACK" && m.Method != "CANCEL":
		p.challenge(m, from, ask, realm)
	case m.Method == "INVITE" && Param(m.Get("To"), "tag") == "":
		p.invited(m, from)
	case m.Method == "OPTIONS" && c == nil && Param(m.Get("To"), "tag") == "":
		p.respond(m, from, 200, "OK", token(6), nil, Header{"Allow", p.cfg.allowed()})
	case m.Method == "MESSAGE":
		p.onMessage(m, from)
	case m.Method == "NOTIFY" && s != nil:
		s.onNotify(m, from)
	case m.Method == "ACK":
		if c != nil {
			c.onAck(m)
		}
	case c == nil:
		p.respond(m, from, 481, "Call/Transaction Does Not Exist", token(6), nil)
	default:
		c.inDialog(m, from)
	}
}

// challenge asks the server for a password, as no phone has reason to.
func (p *Phone) challenge(m *Message, from *link, code int, realm string) {
	name := "WWW-Authenticate"
	if code == 407 {
		name = "Proxy-Authenticate"
	}
	p.respond(m, from, code, "Unauthorized", token(6), nil, Header{name, fmt.Sprintf(`Digest realm="%s", nonce="n", algorithm=MD5, qop="auth"`, realm)})
}

func (c *Call) inDialog(m *Message, from *link) {
	switch m.Method {
	case "CANCEL":
		c.onCancel(m, from)
	case "BYE":
		c.end("remote", m)
		c.phone.respond(m, from, 200, "OK", c.localTag, nil)
		c.media.close()
	case "PRACK":
		c.onPrack(m, from)
	case "INVITE", "UPDATE":
		c.onReinvite(m, from)
	case "NOTIFY":
		c.phone.mu.Lock()
		refuse := c.phone.behave.Notify
		c.phone.mu.Unlock()
		if refuse > 0 {
			c.phone.respond(m, from, refuse, "Refused", c.localTag, nil)
			return
		}
		c.phone.respond(m, from, 200, "OK", c.localTag, nil)
		c.onNotify(m)
	case "REFER":
		c.phone.respond(m, from, 603, "Decline", c.localTag, nil)
	case "INFO":
		c.onInfo(m, from)
	case "OPTIONS":
		c.onOptions(m, from)
	default:
		c.phone.respond(m, from, 200, "OK", c.localTag, nil)
	}
}

func (c *Call) onOptions(m *Message, from *link) {
	c.phone.mu.Lock()
	code := c.phone.behave.Options
	c.phone.mu.Unlock()
	switch {
	case code == 0:
		c.phone.respond(m, from, 200, "OK", c.localTag, nil)
	case code > 0:
		c.phone.respond(m, from, code, "Refused", c.localTag, nil)
	}
}

// invited begins an incoming call and does what the phone's behaviour says.
func (p *Phone) invited(m *Message, from *link) {
	p.mu.Lock()
	b := p.behave
	p.mu.Unlock()
	if b.Silent {
		return
	}
	c, err := p.newCall(false)
	if err != nil {
		p.respond(m, from, 500, "No Media", token(6), nil)
		return
	}
	p.mu.Lock()
	c.state, c.callID, c.invite, c.inviteOn = Alerting, m.Get("Call-ID"), m, from
	c.local, c.remote, c.remoteTag = m.Get("To"), stripTag(m.Get("From")), Param(m.Get("From"), "tag")
	c.target, c.routes = AddrURI(m.Get("Contact")), m.All("Record-Route")
	c.remoteSeq, _ = m.CSeq()
	c.localSeq = 100
	p.calls[c.callID] = c
	p.mu.Unlock()
	p.respond(m, from, 100, "Trying", "", nil)
	if len(m.Body) > 0 && !c.learn(m.Body, true) {
		c.refuse(488, "Not Acceptable Here")
		return
	}
	select {
	case p.incoming <- c:
	default:
	}
	c.behave(b)
}

func stripTag(v string) string {
	head, params, ok := strings.Cut(v, ">")
	if !ok {
		head, _, _ = strings.Cut(v, ";")
		return head
	}
	head += ">"
	for _, p := range strings.Split(params, ";") {
		if p = strings.TrimSpace(p); p != "" && !strings.HasPrefix(strings.ToLower(p), "tag=") {
			head += ";" + p
		}
	}
	return head
}

func (c *Call) behave(b Behaviour) {
	after := func(do func()) { time.AfterFunc(b.After, do) }
	if b.Ringless && asksRingless(c.invite) {
		c.Answer()
		return
	}
	if b.MinSE > 0 && seconds(c.invite.Get("Session-Expires")) < b.MinSE {
		c.refuse(422, "Session Interval Too Small", Header{"Min-SE", strconv.Itoa(b.MinSE)})
		return
	}
	if b.Reject > 0 {
		if b.After > 0 {
			c.Ring()
			after(func() { c.Reject(b.Reject) })
			return
		}
		c.Reject(b.Reject)
		return
	}
	c.media.Mute(b.HangUp)
	if b.Answer && b.After == 0 {
		c.Answer()
	} else {
		c.ring(b)
		if b.Answer {
			after(func() { c.Answer() })
		}
	}
	if b.HangUp {
		go c.hangUpAtOnce()
	}
}

// asksRingless says whether the caller wants the phone to answer by itself.
func asksRingless(invite *Message) bool {
	return strings.Contains(invite.Get("Call-Info"), "answer-after=0") ||
		strings.Contains(invite.Get("Alert-Info"), "alert-autoanswer") ||
		strings.HasPrefix(strings.ToLower(invite.Get("Answer-Mode")), "auto")
}

func (c *Call) hangUpAtOnce() {
	select {
	case <-c.acked:
		c.Hangup()
	case <-c.ended:
	}
}

// Ring sends 180.
func (c *Call) Ring() { c.ring(Behaviour{}) }

func (c *Call) ring(b Behaviour) {
	if c.State() != Alerting {
		return
	}
	if b.Early {
		c.phone.mu.Lock()
		c.early = true
		c.applyIfAgreed()
		c.phone.mu.Unlock()
		if b.Reliable {
			c.ringReliably(183, "Session Progress", c.describe())
			return
		}
		c.phone.respond(c.invite, c.inviteOn, 183, "Session Progress", c.localTag, c.describe())
		return
	}
	if b.Reliable {
		c.ringReliably(180, "Ringing", nil)
		return
	}
	var extra []Header
	if b.Talk {
		extra = []Header{{"Allow-Events", "talk, hold"}}
	}
	c.phone.respond(c.invite, c.inviteOn, 180, "Ringing", c.localTag, nil, extra...)
}

// applyIfAgreed starts the sound, unless the offer is still to come.
func (c *Call) applyIfAgreed() {
	if c.both != nil {
		c.apply()
	}
}

func (c *Call) describe() []byte {
	c.phone.mu.Lock()
	o := c.sdp
	c.phone.mu.Unlock()
	if c.web == nil {
		return o.bytes()
	}
	body, err := c.web.answer(o.direction)
	if err != nil && !c.media.over() {
		panic("answer of a browser: " + err.Error())
	}
	return body
}

// Answer picks the call up and repeats the 200 until its ACK comes (RFC 3261 §13.3.1.4).
func (c *Call) Answer() error {
	p := c.phone
	p.mu.Lock()
	if c.state != Alerting {
		p.mu.Unlock()
		return fmt.Errorf("answer: the call is %s", c.state)
	}
	c.state, c.times.Answered = Up, time.Now()
	close(c.up)
	c.applyIfAgreed()
	p.mu.Unlock()
	body := c.describe()
	p.respond(c.invite, c.inviteOn, 200, "OK", c.localTag, body)
	p.mu.Lock()
	res := p.answered[c.invite.key()]
	p.mu.Unlock()
	go c.repeatAnswer(res)
	return nil
}

func (c *Call) repeatAnswer(res *Message) {
	if !c.repeatUntil(c.acked, timerT2, res) {
		c.Hangup()
	}
}

// Reject refuses the call with a status.
func (c *Call) Reject(code int) error {
	reasons := map[int]string{480: "Temporarily Unavailable", 486: "Busy Here", 603: "Decline", 488: "Not Acceptable Here"}
	reason := reasons[code]
	if reason == "" {
		reason = "Refused"
	}
	return c.refuse(code, reason)
}

// Redirect refuses the call with 302 and another contact.
func (c *Call) Redirect(uri string) error {
	return c.refuse(302, "Moved Temporarily", Header{"Contact", "<" + uri + ">"})
}

func (c *Call) refuse(code int, reason string, extra ...Header) error {
	return c.decline(code, reason, "local", nil, extra...)
}

// decline gives a call that rings the one final answer it gets, which is not a 2xx: whoever answers or refuses it at the same moment is too late.
func (c *Call) decline(code int, reason, why string, last *Message, extra ...Header) error {
	p := c.phone
	p.mu.Lock()
	if s := c.state; s != Alerting {
		p.mu.Unlock()
		return fmt.Errorf("reject: the call is %s", s)
	}
	c.endNow(why, last)
	p.mu.Unlock()
	p.respond(c.invite, c.inviteOn, code, reason, c.localTag, nil, extra...)
	c.media.close()
	p.mu.Lock()
	c.forget()
	p.mu.Unlock()
	return nil
}

func (c *Call) onCancel(m *Message, from *link) {
	c.phone.respond(m, from, 200, "OK", c.localTag, nil)
	_ = c.decline(487, "Request Terminated", "cancelled", m) // or it has its answer
}

func (c *Call) onAck(m *Message) {
	c.phone.mu.Lock()
	n, _ := m.CSeq()
	first, _ := c.invite.CSeq()
	mine := !c.outgoing && n == first && !c.ackSeen && c.state == Up
	c.ackSeen = c.ackSeen || mine
	offered := len(c.invite.Body) > 0
	c.phone.mu.Unlock()
	if !mine {
		return
	}
	if !offered && len(m.Body) > 0 {
		c.learn(m.Body, false)
	}
	close(c.acked)
}

// onReinvite takes the peer's change of the sound (RFC 3261 §14.2); without an offer the phone sends its own in the answer.
func (c *Call) onReinvite(m *Message, from *link) {
	p := c.phone
	p.mu.Lock()
	refuse, late := p.behave.Refuse, p.behave.Late
	if m.Method == "INVITE" && c.offering > 0 && refuse == 0 { // RFC 3261 §14.2
		refuse = 491
	}
	n, _ := m.CSeq()
	again := n == c.changing // a repeat of what waits to be answered
	c.changing = n
	if refuse == 0 {
		c.confirmTarget(m)
	}
	p.mu.Unlock()
	switch {
	case refuse < 0, again:
		return
	case late > 0 && m.Method == "INVITE":
		p.respond(m, from, 100, "Trying", "", nil)
		time.AfterFunc(late, func() { c.reanswer(m, from, refuse) })
	default:
		c.reanswer(m, from, refuse)
	}
}

func (c *Call) reanswer(m *Message, from *link, refuse int) {
	p := c.phone
	if c.State() == Ended {
		p.respond(m, from, 481, "Call/Transaction Does Not Exist", c.localTag, nil)
		return
	}
	if refuse > 0 {
		p.respond(m, from, refuse, "Refused", c.localTag, nil)
		return
	}
	if len(m.Body) == 0 && m.Method == "UPDATE" {
		p.respond(m, from, 200, "OK", c.localTag, nil, p.sessionOf(m)...)
		return
	}
	if len(m.Body) > 0 && !c.learn(m.Body, true) {
		p.respond(m, from, 488, "Not Acceptable Here", c.localTag, nil)
		return
	}
	p.respond(m, from, 200, "OK", c.localTag, c.describe(), p.sessionOf(m)...)
}

// sessionOf agrees to the session timer that a request asks for (RFC 4028 §9).
func (p *Phone) sessionOf(m *Message) []Header {
	if v := m.Get("Session-Expires"); v != "" {
		return []Header{{"Session-Expires", v}}
	}
	return nil
}

// seconds is the number that a header's value begins with, 0 if there is none.
func seconds(v string) int {
	v, _, _ = strings.Cut(v, ";")
	n, _ := strconv.Atoi(strings.TrimSpace(v))
	return n
}

func (c *Call) onInfo(m *Message, from *link) {
	c.phone.mu.Lock()
	code := c.phone.behave.Info
	c.phone.mu.Unlock()
	if code > 0 {
		c.phone.respond(m, from, code, "Refused", c.localTag, nil)
		return
	}
	c.phone.respond(m, from, 200, "OK", c.localTag, nil)
}

func (c *Call) onNotify(m *Message) {
	if strings.HasPrefix(strings.ToLower(m.Get("Event")), "talk") {
		c.Answer()
		return
	}
	c.phone.mu.Lock()
	defer c.phone.mu.Unlock()
	if r := c.referral(m.Get("Event")); r != nil {
		select {
		case r.told <- m:
		default:
		}
	}
}

// referral is the one that a NOTIFY tells of: of a second REFER in a dialog it has the id (RFC 3515 §2.4.6), which may come before the
// answer to that.
func (c *Call) referral(event string) *Referral {
	id, _ := strconv.ParseUint(Param(event, "id"), 10, 32)
	for i, r := range c.refers {
		if id == 0 || uint64(r.seq) == id || r.seq == 0 && i == len(c.refers)-1 {
			return r
		}
	}
	return nil
}

// onMessage takes a message within a dialog or outside of one; it is read in the phone's Log.
func (p *Phone) onMessage(m *Message, from *link) {
	p.mu.Lock()
	code := p.behave.Message
	p.mu.Unlock()
	switch {
	case code == 0:
		p.respond(m, from, 200, "OK", token(6), nil)
	case code > 0:
		p.respond(m, from, code, "Refused", token(6), nil)
	}
}
