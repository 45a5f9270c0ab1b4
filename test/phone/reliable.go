package phone

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// rseq is the number of a provisional answer that wants a PRACK (RFC 3262 §7.1), 0 of any other.
func rseq(m *Message) int {
	if !strings.Contains(strings.ToLower(m.Get("Require")), "100rel") {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(m.Get("RSeq")))
	return n
}

// onReliable acknowledges a provisional answer by PRACK, once: with our answer if it brought the offer.
func (c *Call) onReliable(res *Message) {
	p, n := c.phone, rseq(res)
	p.mu.Lock()
	again := n <= c.rseq
	if !again {
		c.rseq = n
		c.confirm(res)
	}
	offered, silent := len(c.invite.Body) > 0, c.dialled.NoPrack
	p.mu.Unlock()
	if again || silent {
		return
	}
	var body []byte
	if !offered && len(res.Body) > 0 && c.learn(res.Body, true) {
		body = c.describe()
	}
	cseq, _ := res.CSeq()
	go c.request("PRACK", body, Header{"RAck", fmt.Sprintf("%d %d INVITE", n, cseq)})
}

// ringReliably gives a provisional answer and repeats it until its PRACK comes (RFC 3262 §3).
func (c *Call) ringReliably(code int, reason string, body []byte) {
	p := c.phone
	p.mu.Lock()
	c.rseq++
	n, done := c.rseq, make(chan struct{})
	c.pracked = done
	p.mu.Unlock()
	p.respond(c.invite, c.inviteOn, code, reason, c.localTag, body,
		Header{"Require", "100rel"}, Header{"RSeq", strconv.Itoa(n)}, Header{"Allow", allow})
	p.mu.Lock()
	res := p.answered[c.invite.key()]
	p.mu.Unlock()
	go c.repeatUntil(done, timerB, res)
}

// repeatUntil repeats an answer to the INVITE, ever more seldom but at least that often, until done is closed or the call is over;
// false: nothing of that has come in time.
func (c *Call) repeatUntil(done <-chan struct{}, most time.Duration, res *Message) bool {
	for wait, total := timerT1, time.Duration(0); total < timerB; wait = min(2*wait, most) {
		select {
		case <-done:
			return true
		case <-c.ended:
			return true
		case <-c.phone.stop:
			return true
		case <-time.After(wait):
			total += wait
			c.phone.mu.Lock()
			on := c.inviteOn // the phone may be elsewhere by now
			c.phone.mu.Unlock()
			c.phone.send(res, on)
		}
	}
	return false
}

// onPrack takes the PRACK of our provisional answer; one for nothing gets 481.
func (c *Call) onPrack(m *Message, from *link) {
	p := c.phone
	first, _ := c.invite.CSeq()
	p.mu.Lock()
	right := c.pracked != nil && m.Get("RAck") == fmt.Sprintf("%d %d INVITE", c.rseq, first)
	if right {
		close(c.pracked)
		c.pracked = nil
		c.pracks++
	}
	p.mu.Unlock()
	if !right {
		p.respond(m, from, 481, "No Such Answer", c.localTag, nil)
		return
	}
	p.respond(m, from, 200, "OK", c.localTag, nil)
}

// Pracks counts the PRACKs of our provisional answers.
func (c *Call) Pracks() int {
	c.phone.mu.Lock()
	defer c.phone.mu.Unlock()
	return c.pracks
}

// Progressed sends 183 with the phone's SDP and sound before it answers.
func (c *Call) Progressed() { c.ring(Behaviour{Early: true}) }

// Update changes the phone's codecs by UPDATE, answered or not (RFC 3311).
func (c *Call) Update(codecs []Codec) error {
	c.turn.Lock()
	defer c.turn.Unlock()
	p := c.phone
	p.mu.Lock()
	c.sdp.codecs = codecs
	c.sdp.version++
	p.mu.Unlock()
	res, err := c.request("UPDATE", c.sayOffer())
	if err != nil {
		return err
	}
	if !c.learn(res.Body, false) {
		return fmt.Errorf("the answer to the UPDATE cannot be used:\n%s", res.Body)
	}
	return nil
}
