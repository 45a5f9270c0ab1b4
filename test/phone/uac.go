package phone

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Cancel ends a call that is not answered yet (RFC 3261 §9.1); it waits for the first provisional answer before.
func (c *Call) Cancel() error {
	p := c.phone
	deadline := time.Now().Add(5 * time.Second)
	for len(c.Progress()) == 0 && c.State() == Calling && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	p.mu.Lock()
	invite, to := c.invite, c.inviteOn
	c.cancelled = true
	p.mu.Unlock()
	cancel := &Message{Method: "CANCEL", URI: invite.URI}
	n, _ := invite.CSeq()
	for _, name := range []string{"Via", "Route", "Max-Forwards", "From", "To", "Call-ID"} {
		for _, v := range invite.All(name) {
			cancel.Add(name, v)
		}
	}
	cancel.Add("CSeq", fmt.Sprintf("%d CANCEL", n))
	res, err := p.roundTrip(cancel, to, nil)
	if err == nil && res.Code != 200 {
		err = &Status{res}
	}
	return err
}

// request sends a request of the dialog, with credentials if asked, and takes anything but a success for an error.
func (c *Call) request(method string, body []byte, headers ...Header) (*Message, error) {
	next := func() uint32 {
		c.order.Lock() // requests leave in the order of their CSeq (RFC 3261 §12.2.1.1)
		return c.nextSeq()
	}
	req, to, err := c.build(method, next())
	if err != nil {
		c.order.Unlock()
		return nil, err
	}
	req.sent = c.order.Unlock
	req.Body = body
	for _, h := range headers {
		req.Set(h.Name, h.Value)
	}
	if body != nil && req.Get("Content-Type") == "" {
		req.Add("Content-Type", "application/sdp")
	}
	if method == "INVITE" {
		c.offers(1)
		defer c.offers(-1)
	}
	res, err := c.phone.exchange(req, to, next, nil, nil)
	if err == nil && res.Code >= 300 {
		err = &Status{res}
	}
	return res, err
}

func (c *Call) offers(n int) {
	c.phone.mu.Lock()
	defer c.phone.mu.Unlock()
	c.offering += n
}

// Holding says that the phone has the call on hold.
func (c *Call) Holding() bool {
	c.phone.mu.Lock()
	defer c.phone.mu.Unlock()
	return c.holding
}

// Request sends any request in the dialog.
func (c *Call) Request(method string, body []byte, headers ...Header) (*Message, error) {
	return c.request(method, body, headers...)
}

// ackPatience is how long a phone that was called waits for the ACK before it hangs up.
const ackPatience = 3 * time.Second

// Hangup ends the call by what its state asks for: BYE, which who was called must not send before the ACK (RFC 3261 §15), CANCEL or 603. The
// phone goes on talking until the BYE is answered.
func (c *Call) Hangup() error {
	switch c.State() {
	case Ended:
		return nil
	case Alerting:
		return c.Reject(603)
	case Calling:
		if err := c.Cancel(); err != nil {
			return err
		}
		return c.AwaitEnd(5 * time.Second)
	}
	if !c.outgoing {
		_ = c.AwaitACK(ackPatience)
	}
	_, err := c.request("BYE", nil)
	if why, _ := c.Why(); why == "remote" { // both hung up at once
		err = nil
	}
	c.media.close()
	c.end("local", nil)
	return err
}

// HoldDialect is one of the ways in which phones say that they hold.
type HoldDialect string

// The dialects of hold: three directions, RFC 2543's null address, and the null address with port 9.
const (
	HoldSendonly HoldDialect = "sendonly"
	HoldInactive HoldDialect = "inactive"
	HoldRecvonly HoldDialect = "recvonly"
	HoldNullAddr HoldDialect = "c=0.0.0.0"
	HoldPort9    HoldDialect = "port 9"
)

// Hold puts the call on hold by re-INVITE; the phone stops talking.
func (c *Call) Hold(how HoldDialect) error {
	return c.reinvite(true, func(o *offer) {
		switch how {
		case HoldNullAddr:
			o.addr = netip.AddrPortFrom(netip.IPv4Unspecified(), o.addr.Port())
			o.direction = "inactive"
		case HoldPort9:
			o.addr = netip.AddrPortFrom(netip.IPv4Unspecified(), 9)
			o.direction = "inactive"
		default:
			o.direction = string(how)
		}
		if how == HoldNullAddr || how == HoldPort9 {
			o.bare = true
		}
	})
}

// Resume takes the call back from hold.
func (c *Call) Resume() error {
	return c.reinvite(false, func(o *offer) { o.addr, o.direction, o.bare = told(c.media.Addr()), "sendrecv", false })
}

// RestartICE sends a re-INVITE of a browser that has changed its network.
func (c *Call) RestartICE() error {
	err := c.reinvite(false, func(o *offer) { o.restart = true })
	c.phone.mu.Lock()
	c.sdp.restart = false
	c.phone.mu.Unlock()
	return err
}

// Reoffer sends a re-INVITE with these codecs.
func (c *Call) Reoffer(codecs []Codec) error {
	return c.reinvite(false, func(o *offer) { o.codecs = codecs })
}

// reinvite changes what the phone says of its sound; a phone that holds does not talk.
func (c *Call) reinvite(hold bool, change func(*offer)) error {
	c.turn.Lock()
	defer c.turn.Unlock()
	p := c.phone
	p.mu.Lock()
	was, wasHolding := c.sdp, c.holding
	change(&c.sdp)
	c.sdp.version++
	c.holding = hold
	c.offering++ // from before there is an offer: a browser that has one takes none
	p.mu.Unlock()
	defer c.offers(-1)
	res, err := c.request("INVITE", c.sayOffer())
	if err != nil {
		if c.web != nil {
			c.web.takeBack()
		}
		p.mu.Lock()
		c.sdp, c.holding = was, wasHolding
		p.mu.Unlock()
		return err
	}
	p.mu.Lock()
	c.confirmTarget(res)
	p.mu.Unlock()
	c.learn(res.Body, false)
	c.ack(res, nil)
	return nil
}

// Reinvite sends a re-INVITE with any body and acknowledges a success; what the phone says and hears stays as it is. It gives the status.
func (c *Call) Reinvite(body []byte) (int, error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	res, err := c.request("INVITE", body)
	var refused *Status
	switch {
	case errors.As(err, &refused):
		return refused.Code, nil
	case err != nil:
		return 0, err
	}
	c.ack(res, nil)
	return res.Code, nil
}

// AskOffer sends a re-INVITE without offer and answers the one that comes. It gives the SDP of that offer.
func (c *Call) AskOffer() ([]byte, error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	res, err := c.request("INVITE", nil)
	if err != nil {
		return nil, err
	}
	c.phone.mu.Lock()
	c.confirmTarget(res)
	c.phone.mu.Unlock()
	if !c.learn(res.Body, true) {
		return res.Body, fmt.Errorf("no codec of the offer is known")
	}
	c.ack(res, c.describe())
	return res.Body, nil
}

func (c *Call) confirmTarget(res *Message) {
	if contact := res.Get("Contact"); contact != "" {
		c.target = AddrURI(contact)
	}
}

// Referral is a transfer that the phone asked for, with what it was told of it.
type Referral struct {
	told chan *Message
	seq  uint32 // CSeq of the REFER, known when it was answered
}

// Refer asks the peer to call a URI or a user of the phone's own domain in the phone's place (RFC 3515): a blind transfer.
func (c *Call) Refer(to string) (*Referral, error) {
	if !strings.Contains(to, ":") {
		to = "sip:" + to + "@" + c.phone.cfg.host()
	}
	r := &Referral{told: make(chan *Message, 64)}
	c.phone.mu.Lock()
	c.refers = append(c.refers, r)
	c.phone.mu.Unlock()
	res, err := c.request("REFER", nil, Header{"Refer-To", "<" + to + ">"}, Header{"Referred-By", "<" + c.phone.URI() + ">"})
	if err == nil && res.Code != 202 && res.Code != 200 {
		err = &Status{res}
	}
	c.phone.mu.Lock()
	defer c.phone.mu.Unlock()
	if err != nil { // it made no subscription
		c.refers = slices.DeleteFunc(c.refers, func(k *Referral) bool { return k == r })
		return r, err
	}
	r.seq, _ = res.CSeq()
	return r, err
}

// ReferTo asks for an attended transfer: the peer of this call shall take the place of the other call's dialog (RFC 5589 §7).
func (c *Call) ReferTo(other *Call) (*Referral, error) {
	other.phone.mu.Lock()
	target := AddrURI(other.remote)
	other.phone.mu.Unlock()
	return c.Refer(target + "?Replaces=" + url.QueryEscape(other.Replaces()))
}

// Wait collects NOTIFYs until the last one and gives the status in it (RFC 3515 §2.4.5).
func (r *Referral) Wait(limit time.Duration) (int, error) {
	deadline := time.After(limit)
	for {
		select {
		case m := <-r.told:
			code := sipfrag(m.Body)
			if code >= 200 || strings.HasPrefix(m.Get("Subscription-State"), "terminated") {
				return code, nil
			}
		case <-deadline:
			return 0, fmt.Errorf("transfer: no final NOTIFY within %s", limit)
		}
	}
}

func sipfrag(body []byte) int {
	f := strings.Fields(string(body))
	if len(f) < 2 || f[0] != "SIP/2.0" {
		return 0
	}
	n, _ := strconv.Atoi(f[1])
	return n
}
