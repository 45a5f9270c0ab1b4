package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
	"baton/test/torture"
)

// torturer sends one message from an address of its own and hears what is said to it.
type torturer struct {
	*world
	torture.Case
	conn net.Conn
	udp  bool
	rest []byte // of a stream
}

// torturers all send from here.
var tortureIP = node.IP(19)

func (w *world) torturer(c torture.Case, network string) *torturer {
	w.t.Helper()
	u := &torturer{world: w, Case: c, udp: network == "udp"}
	var local net.Addr = &net.TCPAddr{IP: tortureIP.AsSlice()}
	if u.udp {
		local = &net.UDPAddr{IP: tortureIP.AsSlice()}
	}
	d := net.Dialer{LocalAddr: local, Timeout: 5 * time.Second}
	conn, err := d.Dial(network, w.UDP.String()) // both listeners have the same port
	w.must(err)
	w.t.Cleanup(func() { conn.Close() })
	u.conn = conn
	return u
}

func (u *torturer) send(b []byte) {
	u.t.Helper()
	if _, err := u.conn.Write(b); err != nil {
		u.t.Fatalf("%s: %v", u.Name, err)
	}
}

// read waits for one message.
func (u *torturer) read(limit time.Duration) ([]byte, error) {
	u.conn.SetReadDeadline(time.Now().Add(limit))
	buf := make([]byte, 1<<16)
	for {
		if b, ok := u.whole(); ok {
			return b, nil
		}
		n, err := u.conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if u.udp {
			return buf[:n], nil
		}
		u.rest = append(u.rest, buf[:n]...)
	}
}

// whole takes a message off the stream if one is there: what baton sends has a Content-Length.
func (u *torturer) whole() ([]byte, bool) {
	head, _, ok := bytes.Cut(u.rest, []byte("\r\n\r\n"))
	if !ok {
		return nil, false
	}
	size, _ := strconv.Atoi(valueOf(append(head[:len(head):len(head)], "\r\n"...), "Content-Length"))
	end := len(head) + 4 + size
	if len(u.rest) < end {
		return nil, false
	}
	b := u.rest[:end:end]
	u.rest = u.rest[end:]
	return b, true
}

func statusOf(b []byte) int {
	var code int
	fmt.Sscanf(string(b), "SIP/2.0 %d", &code)
	return code
}

const probeID = "is-it-still-there"

// answered sends a request that is surely answered behind the message, and gives the statuses that came beside that answer.
func (u *torturer) answered(want int) []int {
	u.t.Helper()
	pause(2 * time.Millisecond) // the two Call-IDs may be dealt with side by side
	transport := map[bool]string{true: "UDP", false: "TCP"}[u.udp]
	u.send(fmt.Appendf(nil, "OPTIONS sip:x@example.com SIP/2.0\r\nVia: SIP/2.0/%s %s;branch=z9hG4bKprobe;rport\r\nMax-Forwards: 70\r\n"+
		"From: <sip:x@example.com>;tag=1\r\nTo: <sip:x@example.com>\r\nCall-ID: %s\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
		transport, u.conn.LocalAddr(), probeID))
	var codes []int
	alive, limit := false, 5*time.Second
	for {
		b, err := u.read(limit)
		switch {
		case err != nil && alive && len(codes) >= want:
			return codes
		case err != nil:
			u.t.Errorf("%s: after %v: %v", u.Name, codes, err)
			return codes
		case valueOf(b, "Call-ID") == probeID:
			alive = true
		default:
			codes = append(codes, statusOf(b))
		}
		if alive && len(codes) >= want {
			limit = 10 * time.Millisecond // for one more than there should be
		}
	}
}

// stranger sends the message as it is.
func (u *torturer) stranger() {
	u.t.Helper()
	u.send(u.Data)
	if u.udp {
		if got := u.answered(len(u.Datagram)); !slices.Equal(got, u.Datagram) {
			u.t.Errorf("%s over UDP: %v, want %v", u.Name, got, u.Datagram)
		}
		return
	}
	var codes []int
	for range u.Stream {
		b, err := u.read(5 * time.Second)
		if err != nil {
			u.t.Errorf("%s over TCP: after %v: %v", u.Name, codes, err)
			return
		}
		codes = append(codes, statusOf(b))
	}
	slices.Sort(codes) // what is refused at once overtakes what is queued
	if !slices.Equal(codes, u.Stream) {
		u.t.Errorf("%s over TCP: %v, want %v", u.Name, codes, u.Stream)
	}
	switch u.After {
	case torture.Open:
		if got := u.answered(0); len(got) > 0 {
			u.t.Errorf("%s over TCP: %v more", u.Name, got)
		}
	case torture.Closed:
		u.closedWithin(5 * time.Second)
	case torture.Waits: // ten seconds for a first message
		u.closedWithin(20 * time.Second)
	}
}

func (u *torturer) closedWithin(limit time.Duration) {
	u.t.Helper()
	begin := time.Now()
	b, err := u.read(limit)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		u.t.Errorf("%s over TCP: the connection is not closed within %s (%q)", u.Name, limit, b)
	}
	if u.After == torture.Waits && time.Since(begin) < 5*time.Second {
		u.t.Errorf("%s over TCP: its end was not waited for (%v)", u.Name, err)
	}
}

// anew is the message as no other is: several have one Call-ID and branch, and what is served is remembered by those.
func (u *torturer) anew() []byte {
	mark := u.Name + "-" + u.conn.LocalAddr().Network() + "-"
	data := bytes.Replace(u.Data, []byte("branch=z9hG4bK"), []byte("branch=z9hG4bK"+mark), 1)
	return callID.ReplaceAll(data, []byte("${0}"+mark))
}

var callID = regexp.MustCompile(`(?im)^(call-id|i)[ \t]*:[ \t]*`)

// user sends the message with a password: the same, but for the name of the sender where no user can have that, and what says who he
// is. It gives the final answer.
func (u *torturer) user() []byte {
	u.t.Helper()
	data := u.anew()
	if u.As != "" {
		data = bytes.ReplaceAll(data, []byte("sip:"+u.As+"@"), []byte("sip:"+u.Login+"@"))
	}
	u.send(data)
	challenge, err := u.read(5 * time.Second)
	if err != nil || statusOf(challenge) != 401 {
		u.t.Errorf("%s: %q %v, want a challenge", u.Name, challenge, err)
		return nil
	}
	line, rest, _ := bytes.Cut(data, []byte("\r\n"))
	f := strings.Fields(string(line))
	credentials := phone.Digest(valueOf(challenge, "WWW-Authenticate"), u.Login, node.Password(u.Login), f[0], f[1])
	again := fmt.Appendf(nil, "%s\r\nAuthorization: %s\r\n%s", line, credentials, rest)
	if !u.udp && u.Name == "dblreq" { // the second message of it has been tried already
		again = again[:bytes.Index(again, []byte("\r\n\r\n"))+4]
	}
	u.send(again)
	for {
		b, err := u.read(10 * time.Second)
		if err != nil {
			u.t.Errorf("%s as %s: %v", u.Name, u.Login, err)
			return nil
		}
		if code := statusOf(b); code >= 200 && code != 401 {
			if !slices.Contains(u.Served, code) {
				u.t.Errorf("%s as %s: %d, want one of %v\n%s", u.Name, u.Login, code, u.Served, b)
			}
			u.acknowledge(f[0], f[1], b)
			return b
		}
	}
}

// valueOf is the first header of that name as baton spells it: in full, or short where a stranger is answered.
func valueOf(b []byte, name string) string {
	short := map[string]string{"Via": "v", "From": "f", "To": "t", "Call-ID": "i", "Content-Length": "l"}[name]
	_, rest, ok := strings.Cut(string(b), "\r\n"+name+": ")
	if !ok {
		_, rest, _ = strings.Cut(string(b), "\r\n"+short+": ")
	}
	v, _, _ := strings.Cut(rest, "\r\n")
	return v
}

// acknowledge ends an INVITE's transaction (RFC 3261 §17.1.1.3).
func (u *torturer) acknowledge(method, uri string, answer []byte) {
	if method != "INVITE" {
		return
	}
	number, _, _ := strings.Cut(valueOf(answer, "CSeq"), " ")
	via := valueOf(answer, "Via")
	u.send(fmt.Appendf(nil, "ACK %s SIP/2.0\r\nVia: %s\r\nMax-Forwards: 70\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %s ACK\r\nContent-Length: 0\r\n\r\n",
		uri, via, valueOf(answer, "From"), valueOf(answer, "To"), valueOf(answer, "Call-ID"), number))
}

// newTorture is a node that the messages are meant for, with calls that go on.
func newTorture(t *testing.T) (*live, []torture.Case) {
	t.Helper()
	cases, err := torture.Cases()
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Skip("the torture messages are not here")
	}
	users := liveUsers()
	for i, login := range torture.Logins() {
		users[login] = strconv.Itoa(201 + i)
	}
	return newLive(newWorld(t, node.Options{Config: "domain: example.com\ncall:\n  announce: false\n" + unlimited, Users: users})), cases
}

// TestTorture sends every message of RFC 4475 and RFC 5118 to a node with live calls, over UDP and TCP, as somebody whom nobody knows
// and, where that makes a difference, with a password. Each gets what it must, the calls lose no packet, and no answer goes anywhere
// but to who has sent the message, whatever Via and Contact say.
func TestTorture(t *testing.T) {
	l, cases := newTorture(t)
	gone := leaves(t)
	var waits sync.WaitGroup
	for _, c := range cases {
		if !c.Known() {
			t.Errorf("the table does not have %s", c.Name)
		}
		l.torturer(c, "udp").stranger()
		if u := l.torturer(c, "tcp"); c.After == torture.Waits {
			waits.Go(u.stranger)
		} else {
			u.stranger()
		}
	}
	for _, c := range callsFirst(cases) {
		for _, network := range []string{"udp", "tcp"} {
			if u := l.torturer(c, network); network == "udp" || c.After == torture.Open {
				u.registered(u.user())
			}
		}
	}
	waits.Wait()
	t.Logf("%d messages", len(cases))
	if n := gone(); n != 0 {
		t.Errorf("%d packets were sent to foreign addresses", n)
	}
	l.unharmed()
	l.over()
}

// callsFirst are the messages that a password is good for; those that register somebody last, so that nobody rings.
func callsFirst(cases []torture.Case) []torture.Case {
	var first, last []torture.Case
	for _, c := range cases {
		switch {
		case c.Login == "":
		case bytes.HasPrefix(c.Data, []byte("REGISTER")):
			last = append(last, c)
		default:
			first = append(first, c)
		}
	}
	return append(first, last...)
}

// registered checks what the answer to a REGISTER says of its contacts, where RFC 4475 has an opinion on that.
func (u *torturer) registered(answer []byte) {
	u.t.Helper()
	wants := map[string][]string{
		"escnull":  {"\r\nContact: <sip:%00@host5.example.com>;expires=", "\r\nContact: <sip:%00%00@host5.example.com>;expires="}, // §3.1.1.4: two
		"cparam01": {"\r\nContact: <sip:%2B19725552222@gw1.example.net>;unknownparam;expires="},                                   // §3.3.12: of the header
		"cparam02": {"\r\nContact: <sip:%2B19725552222@gw1.example.net;unknownparam>;expires="},                                   // §3.3.13: of the URI
		"regescrt": {"\r\nContact: <sip:user@example.com>;expires="},                                                              // §3.3.14: no Route
	}[u.Name]
	text := strings.ReplaceAll(string(answer), "sip:+1", "sip:%2B1") // both are right
	for _, want := range wants {
		if !strings.Contains(text, want) {
			u.t.Errorf("%s: no %q in\n%s", u.Name, want, answer)
		}
	}
}

// TestEmbeddedRoute calls a user whose contact has a Route in it (RFC 4475 §3.3.14): the INVITE goes to where the contact was registered
// from, and neither its Request-URI nor a Route of it says anything of that.
func TestEmbeddedRoute(t *testing.T) {
	l, cases := newTorture(t)
	gone := leaves(t)
	i := slices.IndexFunc(cases, func(c torture.Case) bool { return c.Name == "regescrt" })
	if i < 0 {
		t.Fatal("regescrt is not among the messages")
	}
	u := l.torturer(cases[i], "udp")
	u.registered(u.user())
	call := l.dial(l.phone("caller", "desk"), "user")
	invite, err := u.read(5 * time.Second)
	l.must(err)
	line, _, _ := strings.Cut(string(invite), "\r\n")
	if line != "INVITE sip:user@example.com SIP/2.0" || strings.Contains(string(invite), "\r\nRoute:") || strings.Contains(string(invite), "sip.example.com") {
		t.Errorf("the user is called by\n%s", invite)
	}
	u.refuse(invite)
	l.status(call, 486)
	if n := gone(); n != 0 {
		t.Errorf("%d packets were sent to foreign addresses", n)
	}
	l.unharmed()
	l.over()
}

// refuse answers an INVITE with 486 and takes its ACK.
func (u *torturer) refuse(invite []byte) {
	u.t.Helper()
	res := "SIP/2.0 486 Busy Here\r\n"
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		v := valueOf(invite, name)
		if name == "To" {
			v += ";tag=busy"
		}
		res += name + ": " + v + "\r\n"
	}
	u.send([]byte(res + "Content-Length: 0\r\n\r\n"))
	for {
		b, err := u.read(5 * time.Second)
		if err != nil && !errors.Is(err, io.EOF) {
			u.t.Fatalf("no ACK: %v", err)
		}
		if bytes.HasPrefix(b, []byte("ACK ")) {
			return
		}
	}
}
