package call_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"baton/config"
	"baton/test/phone"
)

// answersTo lists the answers that a phone got to its requests of a method.
func answersTo(p *phone.Phone, method string) []phone.Logged {
	var all []phone.Logged
	for _, m := range p.Log() {
		if _, of := m.CSeq(); !m.Out && m.Code > 0 && of == method {
			all = append(all, m)
		}
	}
	return all
}

// requestsTo lists the requests of a method that a phone got, repeats left out.
func requestsTo(p *phone.Phone, method string) []phone.Logged {
	var all []phone.Logged
	seen := map[string]bool{}
	for _, m := range p.Log() {
		if !m.Out && m.Method == method && !seen[m.Get("CSeq")] {
			seen[m.Get("CSeq")] = true
			all = append(all, m)
		}
	}
	return all
}

func header(name, value string) phone.Header { return phone.Header{Name: name, Value: value} }

// TestReliableRinging calls with provisional answers that must arrive on both sides: each has its PRACK.
func TestReliableRinging(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	bob.Behave(phone.Behaviour{Reliable: true, Answer: true, After: 300 * time.Millisecond})
	out, err := alice.Dial("bob", phone.DialOptions{Headers: []phone.Header{header("Require", "100rel")}})
	must(t, err)
	in, err := bob.Ringing(5 * time.Second)
	must(t, err)
	must(t, out.Await(5*time.Second))
	if !out.Hears(in, 3*time.Second) || !in.Hears(out, 3*time.Second) {
		t.Error("they do not hear each other")
	}
	if n := in.Pracks(); n != 1 {
		t.Errorf("bob's 180 had %d PRACKs", n)
	}
	pracks := answersTo(alice, "PRACK")
	if len(pracks) != 1 || pracks[0].Code != 200 {
		t.Errorf("alice's PRACKs were answered %v", pracks)
	}
	for _, m := range answersTo(alice, "INVITE") {
		if m.Code > 100 && m.Code < 200 && m.Get("RSeq") == "" {
			t.Errorf("%s came without RSeq", m.Line())
		}
	}
	if ack := requestsTo(bob, "ACK"); len(ack) != 1 || strings.Fields(ack[0].Get("CSeq"))[0] != strings.Fields(in.Invite().Get("CSeq"))[0] {
		t.Errorf("the ACK after a PRACK: %v", ack)
	}
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestReliableEarlyMedia passes on sound before the answer, and the session that came with it is the one that holds.
func TestReliableEarlyMedia(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	bob.Behave(phone.Behaviour{Reliable: true, Early: true, Answer: true, After: time.Second})
	out, err := alice.Dial("bob", phone.DialOptions{Headers: []phone.Header{header("Supported", "100rel")}})
	must(t, err)
	in, err := bob.Ringing(5 * time.Second)
	must(t, err)
	if !out.Hears(in, 900*time.Millisecond) {
		t.Error("alice does not hear bob before he answers")
	}
	if out.State() != phone.Calling {
		t.Error("the call was answered before")
	}
	must(t, out.Await(5*time.Second))
	if !in.Hears(out, 3*time.Second) {
		t.Error("bob does not hear alice")
	}
	if n := answersTo(alice, "PRACK"); len(n) != 1 || in.Pracks() != 1 {
		t.Errorf("%d PRACKs from alice, %d to bob", len(n), in.Pracks())
	}
	must(t, in.Hangup())
	must(t, out.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestOfferInReliableRinging calls without an offer: the first message that must arrive brings ours, the PRACK the answer,
// and the 200 nothing (RFC 3261 §13.2.1).
func TestOfferInReliableRinging(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	bob.Behave(phone.Behaviour{Answer: true, After: 300 * time.Millisecond})
	out, err := alice.Dial("bob", phone.DialOptions{NoSDP: true, Headers: []phone.Header{header("Require", "100rel")}})
	must(t, err)
	in, err := bob.Ringing(5 * time.Second)
	must(t, err)
	must(t, out.Await(5*time.Second))
	if !out.Hears(in, 3*time.Second) || !in.Hears(out, 3*time.Second) {
		t.Error("they do not hear each other")
	}
	offers := 0
	for _, m := range answersTo(alice, "INVITE") {
		switch {
		case m.Code == 180 && strings.Contains(string(m.Body), "m=audio"):
			offers++
		case m.Code == 200 && len(m.Body) > 0:
			t.Errorf("the 200 brings a session once more:\n%s", m.Body)
		}
	}
	if offers != 1 {
		t.Errorf("%d reliable answers with an offer", offers)
	}
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestOfferPrackedWithOtherCodec has the caller's PRACK choose a codec that the callee has not: the callee is asked to take it.
func TestOfferPrackedWithOtherCodec(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	alice := r.phone("alice", 1, func(c *phone.Config) { c.Codecs = []phone.Codec{phone.PCMA} })
	bob := r.phone("bob", 1, func(c *phone.Config) { c.Codecs = []phone.Codec{phone.G722, phone.PCMA} })
	bob.Behave(phone.Behaviour{Answer: true, After: 300 * time.Millisecond})
	out, err := alice.Dial("bob", phone.DialOptions{NoSDP: true, Headers: []phone.Header{header("Require", "100rel")}})
	must(t, err)
	in, err := bob.Ringing(5 * time.Second)
	must(t, err)
	must(t, out.Await(5*time.Second))
	if !out.Hears(in, 3*time.Second) || !in.Hears(out, 3*time.Second) {
		t.Error("they do not hear each other")
	}
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestNeverPracked holds that a caller who does not acknowledge loses the call after 32 s, and the callee rings no more.
func TestNeverPracked(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Call.Ring = time.Minute })
	r.user("alice", "101")
	r.user("bob", "102")
	alice, bob := r.phone("alice", 1), r.phone("bob", 1)
	out, err := alice.Dial("bob", phone.DialOptions{NoPrack: true, Headers: []phone.Header{header("Require", "100rel")}})
	must(t, err)
	in, err := bob.Ringing(5 * time.Second)
	must(t, err)
	must(t, out.AwaitEnd(40*time.Second))
	if final := out.Final(); final == nil || final.Code != 504 {
		t.Errorf("the INVITE was answered %v", final)
	}
	must(t, in.AwaitEnd(time.Second))
	r.nothingLeft()
}

// TestUpdateBeforeAnswer has both sides change their codecs before the call is answered (RFC 3311).
func TestUpdateBeforeAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	both := func(c *phone.Config) { c.Codecs = []phone.Codec{phone.PCMU, phone.PCMA} }
	alice, bob := r.phone("alice", 1, both), r.phone("bob", 1, both)
	bob.Behave(phone.Behaviour{Reliable: true, Early: true})
	out, err := alice.Dial("bob", phone.DialOptions{Headers: []phone.Header{header("Supported", "100rel")}})
	must(t, err)
	in, err := bob.Ringing(5 * time.Second)
	must(t, err)
	if !out.Hears(in, 2*time.Second) {
		t.Fatal("no early sound")
	}
	must(t, in.Update([]phone.Codec{phone.PCMA}))
	if !out.Hears(in, 2*time.Second) {
		t.Error("no sound after the callee's UPDATE")
	}
	must(t, out.Update([]phone.Codec{phone.PCMA}))
	if !out.Hears(in, 2*time.Second) {
		t.Error("no sound after the caller's UPDATE")
	}
	must(t, in.Answer())
	must(t, out.Await(5*time.Second))
	if !out.Hears(in, 3*time.Second) || !in.Hears(out, 3*time.Second) {
		t.Error("they do not hear each other")
	}
	must(t, in.Update([]phone.Codec{phone.PCMU}))
	if !out.Hears(in, 3*time.Second) || !in.Hears(out, 3*time.Second) {
		t.Error("they do not hear each other after an UPDATE in the call")
	}
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestUpdateTooEarly holds the glare rules: an UPDATE with an offer while the INVITE's is not answered (RFC 3311 §5.2).
func TestUpdateTooEarly(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	bob.Behave(phone.Behaviour{Reliable: true})
	out, err := alice.Dial("bob", phone.DialOptions{Headers: []phone.Header{header("Require", "100rel")}})
	must(t, err)
	in, err := bob.Ringing(5 * time.Second)
	must(t, err)
	r.eventually("the PRACKs", 3*time.Second, func() bool { return in.Pracks() == 1 && len(answersTo(alice, "PRACK")) == 1 })
	var status *phone.Status
	if err := out.Update([]phone.Codec{phone.PCMU}); !errors.As(err, &status) || status.Code != 500 || status.Get("Retry-After") == "" {
		t.Errorf("the caller's UPDATE: %v", err)
	}
	if err := in.Update([]phone.Codec{phone.PCMU}); !errors.As(err, &status) || status.Code != 491 {
		t.Errorf("the callee's UPDATE: %v", err)
	}
	if _, err := out.Request("UPDATE", nil); err != nil {
		t.Errorf("the caller's UPDATE without offer: %v", err)
	}
	if _, err := in.Request("UPDATE", nil); err != nil {
		t.Errorf("the callee's UPDATE without offer: %v", err)
	}
	must(t, in.Answer())
	must(t, out.Await(5*time.Second))
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestHangUpBeforeAnswer ends an early dialog by BYE, which its caller may (RFC 3261 §15.1.1).
func TestHangUpBeforeAnswer(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	bob.Behave(phone.Behaviour{})
	out, err := alice.Dial("bob", phone.DialOptions{Headers: []phone.Header{header("Require", "100rel")}})
	must(t, err)
	in, err := bob.Ringing(5 * time.Second)
	must(t, err)
	r.eventually("the PRACK", 3*time.Second, func() bool { return len(answersTo(alice, "PRACK")) == 1 })
	if _, err := out.Request("BYE", nil); err != nil {
		t.Error(err)
	}
	must(t, out.AwaitEnd(3*time.Second))
	if final := out.Final(); final == nil || final.Code != 487 {
		t.Errorf("the INVITE was answered %v", final)
	}
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// proxied is a device behind a proxy that forks: the test answers its INVITEs by hand.
type proxied struct {
	*phone.Phone
	t      *testing.T
	invite *phone.Message
}

// answer gives an answer of one of the places that the INVITE was forked to.
func (p *proxied) answer(code int, tag string, sdp string, headers ...string) {
	p.t.Helper()
	b := &strings.Builder{}
	fmt.Fprintf(b, "SIP/2.0 %d X\r\n", code)
	for _, name := range []string{"Via", "From", "Call-ID", "CSeq"} {
		fmt.Fprintf(b, "%s: %s\r\n", name, p.invite.Get(name))
	}
	fmt.Fprintf(b, "To: %s;tag=%s\r\nContact: <%s;at=%s>\r\n", p.invite.Get("To"), tag, p.Contact(), tag)
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	if sdp != "" {
		b.WriteString("Content-Type: application/sdp\r\n")
	}
	fmt.Fprintf(b, "Content-Length: %d\r\n\r\n%s", len(sdp), sdp)
	must(p.t, p.SendRaw([]byte(b.String())))
}

// ok answers a request of the node in one of these dialogs.
func (p *proxied) ok(m *phone.Message) {
	b := &strings.Builder{}
	b.WriteString("SIP/2.0 200 OK\r\n")
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		fmt.Fprintf(b, "%s: %s\r\n", name, m.Get(name))
	}
	b.WriteString("Content-Length: 0\r\n\r\n")
	must(p.t, p.SendRaw([]byte(b.String())))
}

// ear is a socket for the sound of one place.
func ear(t *testing.T) (*net.UDPConn, string) {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	port := c.LocalAddr().(*net.UDPAddr).Port
	return c, fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio %d RTP/AVP 0\r\n", port)
}

func hears(c *net.UDPConn, limit time.Duration) bool {
	_ = c.SetReadDeadline(time.Now().Add(limit))
	_, _, err := c.ReadFromUDPAddrPort(make([]byte, 1500))
	return err == nil
}

// TestForkedBehindProxy has one INVITE answered by two places behind a proxy: each early dialog gets its own PRACK, the one
// that answers gets the call with the session that it had named before, and the other's late 200 is hung up.
func TestForkedBehindProxy(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	bob.Behave(phone.Behaviour{Silent: true})
	out, err := alice.Dial("bob")
	must(t, err)
	r.eventually("the INVITE", 3*time.Second, func() bool { return len(requestsTo(bob, "INVITE")) == 1 })
	p := &proxied{bob, t, requestsTo(bob, "INVITE")[0].Message}
	first, second := "first", "second"
	_, sdp1 := ear(t)
	ear2, sdp2 := ear(t)
	p.answer(183, first, sdp1, "Require: 100rel", "RSeq: 5")
	p.answer(183, second, sdp2, "Require: 100rel", "RSeq: 9", "Record-Route: <sip:127.0.0.1:9;lr>")
	r.eventually("two PRACKs", 3*time.Second, func() bool { return len(requestsTo(bob, "PRACK")) == 2 })
	for i, m := range requestsTo(bob, "PRACK") {
		tag, rack, route := first, "5 ", ""
		if i == 1 {
			tag, rack, route = second, "9 ", "<sip:127.0.0.1:9;lr>"
		}
		if phone.Param(m.Get("To"), "tag") != tag || !strings.HasPrefix(m.Get("RAck"), rack) || m.Get("Route") != route || !strings.HasSuffix(m.URI, "at="+tag) {
			t.Errorf("PRACK %d: %s To %s, RAck %s, Route %s", i, m.URI, m.Get("To"), m.Get("RAck"), m.Get("Route"))
		}
		p.ok(m.Message)
	}
	p.answer(200, second, "") // its session is that of its 183
	must(t, out.Await(5*time.Second))
	if !hears(ear2, 3*time.Second) {
		t.Error("the place that answered is sent no sound")
	}
	p.answer(200, first, sdp1)
	r.eventually("the other place is hung up", 3*time.Second, func() bool {
		byes := requestsTo(bob, "BYE")
		return len(byes) == 1 && phone.Param(byes[0].Get("To"), "tag") == first
	})
	p.ok(requestsTo(bob, "BYE")[0].Message)
	if acks := requestsTo(bob, "ACK"); len(acks) == 0 || phone.Param(acks[0].Get("To"), "tag") != second {
		t.Errorf("ACKs %v", acks)
	}
	must(t, out.Hangup())
	r.eventually("BYE of the call", 3*time.Second, func() bool { return phone.Param(lastBye(bob), "tag") == second })
	for _, m := range bob.Log() {
		if !m.Out && m.Method == "BYE" && phone.Param(m.Get("To"), "tag") == second {
			p.ok(m.Message)
			break
		}
	}
	r.nothingLeft()
}

func lastBye(p *phone.Phone) string {
	to := ""
	for _, m := range p.Log() {
		if !m.Out && m.Method == "BYE" {
			to = m.Get("To")
		}
	}
	return to
}
