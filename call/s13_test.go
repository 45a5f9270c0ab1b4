package call_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/test/phone"
)

// whitelist holds what may stand in a message that leaves for a phone. A new header is added here when baton is to write it.
var whitelist = []string{
	"Via", "Max-Forwards", "Route", "Record-Route", "From", "To", "Call-ID", "CSeq", "Contact", "User-Agent", "Server",
	"Allow", "Supported", "Require", "Accept", "Content-Type", "Content-Length", "Event", "Subscription-State", "Reason",
	"P-Asserted-Identity", "Diversion", "History-Info", "Warning", "Retry-After", "Date", "Refer-Sub", "Unsupported",
	"Session-Expires", "Min-SE", "RSeq", "RAck", "WWW-Authenticate", "Timestamp", "Expires", "Min-Expires", "Call-Info",
	"Alert-Info", "Answer-Mode", "Accept-Encoding", "Allow-Events", "Referred-By",
}

// canary stands in all that is smuggled: it must not be found in any message at another phone.
const canary = "smuggled"

// smuggled are headers that a message of a hostile phone bears (CVE-2016-9938, CVE-2020-28361, RFC 4475).
var smuggled = []phone.Header{
	{Name: "X-Foo", Value: canary},
	{Name: "X-Bar ", Value: canary},
	{Name: "X-Fold", Value: "a\r\n " + canary},
	{Name: "P-Asserted-Identity", Value: `"` + canary + `" <sip:boss@` + canary + `.example>`},
	{Name: "P-Asserted-Identity ", Value: "<sip:" + canary + "@x>"},
	{Name: "Remote-Party-ID", Value: "<sip:" + canary + "@x>"},
	{Name: "P-Preferred-Identity", Value: "<sip:" + canary + "@x>"},
	{Name: "Diversion", Value: "<sip:" + canary + "@x>;reason=unconditional"},
	{Name: "History-Info", Value: "<sip:" + canary + "@x>;index=1"},
	{Name: "Call-Info", Value: "<sip:" + canary + ">;answer-after=0"},
	{Name: "Alert-Info", Value: "<http://" + canary + ">;info=alert-autoanswer"},
	{Name: "Answer-Mode", Value: "Auto;x=" + canary},
	{Name: "Priv-Answer-Mode", Value: "Auto;x=" + canary},
	{Name: "Subject", Value: canary},
	{Name: "Reason", Value: "SIP;cause=200;text=\"" + canary + "\""},
	{Name: "Warning", Value: "399 x \"" + canary + "\""},
	{Name: "Organization", Value: canary},
	{Name: "User-to-User", Value: canary},
	{Name: "Authorization-Info", Value: canary},
	{Name: "Identity", Value: canary},
	{Name: "Geolocation", Value: "<sip:" + canary + ">"},
	{Name: "Referred-By", Value: "<sip:" + canary + "@x>"},
	{Name: "Privacy", Value: canary},
	{Name: "User-Agent", Value: canary + "/1.0"},
	{Name: "Server", Value: canary},
	{Name: "Allow", Value: "INVITE, " + canary},
	{Name: "Supported", Value: canary},
	{Name: "Accept-Contact", Value: "*;" + canary},
	{Name: "Session-ID", Value: canary},
	{Name: "X-Escaped", Value: "%0d%0aEvil: " + canary},
	{Name: "MIME-Version", Value: canary},
	{Name: "Content-Language", Value: canary},
}

// S13: what phones put into their messages, as caller, as callee and in a transfer, stays there: what leaves at the other
// phones is built from what baton knows.
func TestS13NothingIsSmuggled(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	r.user("carol", "103")
	hostile := func(c *phone.Config) {
		c.Display = canary + `%0d%0aEvil: 1`
		c.ContactUser = canary + "%0D%0AEvil:1"
	}
	alice, bob, carol := r.phone("alice", 1, hostile), r.phone("bob", 1), r.phone("carol", 1)
	bob.Behave(phone.Behaviour{Answer: true, Headers: smuggled, Reason: canary + "\tEvil"})
	out := mustDial(t, alice, "102", phone.DialOptions{Headers: smuggled})
	in, err := bob.Ringing(5 * time.Second)
	must(t, err)
	must(t, out.Await(5*time.Second))
	carol.Behave(phone.AutoAnswer)
	c := mustDial(t, bob, "103", phone.DialOptions{Headers: smuggled})
	must(t, c.Await(3*time.Second))
	must(t, second(carol.Ringing(3*time.Second)))
	must(t, c.Hangup())
	carol.Behave(phone.Behaviour{Reject: 486, Headers: smuggled, Reason: canary})
	refused := mustDial(t, alice, "103", phone.DialOptions{Headers: smuggled})
	must(t, refused.AwaitEnd(5*time.Second))
	must(t, second(carol.Ringing(3*time.Second)))
	carol.Behave(phone.AutoAnswer)
	res, err := out.Request("REFER", nil, append([]phone.Header{
		{Name: "Refer-To", Value: "<sip:103@" + r.server.String() + "?X-Foo=" + canary + "&P-Asserted-Identity=%3csip%3a" + canary + "%40x%3e&Subject=%0d%0aEvil:%20" + canary + ">"},
	}, smuggled...)...)
	if err != nil || res.Code != 202 {
		t.Fatalf("REFER: %v %v", res, err)
	}
	at, err := carol.Ringing(3 * time.Second)
	must(t, err)
	must(t, out.AwaitEnd(5*time.Second))
	if !at.Hears(in, 3*time.Second) {
		t.Error("the transferred call is silent")
	}
	for _, method := range []string{"INFO", "NOTIFY", "MESSAGE", "INVITE"} {
		_, _ = in.Request(method, nil, smuggled...)
	}
	must(t, in.Hangup())
	r.nothingLeft()
	for _, p := range []*phone.Phone{alice, bob, carol} {
		mine := []string{}
		if p == alice {
			mine = []string{"From", "To", "Contact", "Via"} // which her own requests and bindings come back in
		}
		pure(t, p, mine)
	}
}

// pure looks through all that a phone was sent. mine are the headers in which a phone's own words come back to it.
func pure(t *testing.T, p *phone.Phone, mine []string) {
	t.Helper()
	for _, m := range p.Received(time.Time{}) {
		for _, h := range m.Headers {
			if !slices.Contains(whitelist, h.Name) {
				t.Errorf("%s was sent %s: %s in %s", p.Config().User, h.Name, h.Value, m.Line())
			}
			echo := m.Method == "" && slices.Contains(mine, h.Name) || m.Method != "" && slices.Contains(mine, h.Name) && h.Name != "From"
			if strings.Contains(h.Value, canary) && !echo || strings.ContainsFunc(h.Value, func(c rune) bool { return c < ' ' || c == 0x7f }) {
				t.Errorf("%s was sent %s: %q in %s", p.Config().User, h.Name, h.Value, m.Line())
			}
		}
		own := m.Method != "" && p.Config().ContactUser != p.Config().User // its Contact is the Request-URI
		if strings.Contains(m.Line()+string(m.Body), canary) && !own {
			t.Errorf("%s was sent %s\n%s", p.Config().User, m.Line(), m.Body)
		}
	}
}

// S13: a header with a control byte, or a name that is no token, makes a bad request, and no call.
func TestS13ControlBytes(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	alice, bob := r.phone("alice", 1), r.phone("bob", 1)
	for _, h := range []phone.Header{
		{Name: "X-Foo\x01", Value: canary},
		{Name: "X Foo", Value: canary},
		{Name: "X-Foo", Value: "a\x00" + canary},
		{Name: "X-Foo", Value: "a\rb: " + canary},
		{Name: "X-Foo", Value: "a\nb: " + canary},
		{Name: "X-Foo", Value: canary + "\x1b[2J"},
		{Name: "X-Foo", Value: canary + "\x7f"},
		{Name: "", Value: canary},
		{Name: "Subject\x00", Value: canary},
		{Name: "X\xc3\xa4", Value: canary},
	} {
		c := mustDial(t, alice, "102", phone.DialOptions{Headers: []phone.Header{h}})
		must(t, c.AwaitEnd(5*time.Second))
		if res := c.Final(); res == nil || res.Code != 400 {
			t.Errorf("%q: %q: %v, want 400", h.Name, h.Value, res)
		}
	}
	if n := len(methods(bob.Received(time.Time{}), "INVITE")); n != 0 {
		t.Errorf("bob was called %d times", n)
	}
	r.nothingLeft()
}

// S23: another user's call is not taken over, by none of the ways in which one's own is: the right Replaces, a code with any
// number, a REFER with the right tags. The calls go on.
func TestS23NobodyTakesAnothersCall(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	r.user("eve", "666")
	eve := r.phone("eve", 1)
	eve.Behave(phone.AutoAnswer)
	out, in := r.connect(alice, bob)
	calls := func() string { return fmt.Sprint(r.b.Calls("")[0].Seats[0].User, r.b.Calls("")[0].Seats[1].User) }
	was := calls()
	for _, victim := range []*phone.Call{out, in} {
		for _, to := range []string{"101", "102", "666"} {
			c := mustDial(t, eve, to, phone.DialOptions{Headers: []phone.Header{{Name: "Replaces", Value: victim.Replaces()}}})
			r.refused(c, 481)
		}
	}
	for _, code := range []string{"*40", "*401", "*402", "*41", "*411"} {
		c := mustDial(t, eve, code, phone.DialOptions{NoSDP: true})
		r.refused(c, 404)
	}
	alice.Behave(phone.Behaviour{Reject: 486})
	c := mustDial(t, eve, "101*1") // a call to alice's device, which may refuse it: no way into hers
	must(t, c.AwaitEnd(5*time.Second))
	if code := steal(t, r, out, "REFER"); code != 401 {
		t.Errorf("a REFER with the right tags from elsewhere: %d, want 401", code)
	}
	if code := steal(t, r, out, "BYE"); code != 401 {
		t.Errorf("a BYE with the right tags from elsewhere: %d, want 401", code)
	}
	if now := calls(); now != was || !in.Hears(out, time.Second) || !out.Hears(in, time.Second) {
		t.Errorf("the call of %s is now of %s", was, now)
	}
	for _, name := range []string{"Answer-Mode", "Call-Info", "Alert-Info"} {
		for _, m := range methods(alice.Received(time.Time{}), "INVITE") {
			if m.Get(name) != "" {
				t.Errorf("alice's phone was told by eve to answer: %s", m.Get(name))
			}
		}
	}
	must(t, out.Hangup())
	r.nothingLeft()
}

// steal sends a request of a phone's dialog, with all that belongs into it, from another address.
func steal(t *testing.T, r *rig, c *phone.Call, method string) int {
	t.Helper()
	conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 66)}, net.UDPAddrFromAddrPort(r.server))
	must(t, err)
	defer conn.Close()
	invite, ok := c.Invite(), c.Final()
	_, err = fmt.Fprintf(conn, "%s %s SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.66;branch=z9hG4bKsteal%s;rport\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\n"+
		"CSeq: 900 %s\r\nMax-Forwards: 70\r\nContact: <sip:eve@127.0.0.66>\r\nRefer-To: <sip:666@%s>\r\nUser-Agent: thief\r\nContent-Length: 0\r\n\r\n",
		method, phone.AddrURI(ok.Get("Contact")), method, invite.Get("From"), ok.Get("To"), c.ID(), method, r.server)
	must(t, err)
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	must(t, err)
	m, err := phone.Parse(buf[:n])
	must(t, err)
	return m.Code
}
