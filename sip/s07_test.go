package sip

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// S7: whatever addresses a Via names, the answer goes to where the datagram came from, and only there.
func TestS07NothingGoesWhereAViaSays(t *testing.T) {
	a := start(t, func(o *Options) { o.Listen.UDP = "0.0.0.0:0" })
	victim, err := net.ListenPacket("udp", "127.0.0.9:0")
	if err != nil {
		t.Fatal(err)
	}
	defer victim.Close()
	there := victim.LocalAddr().(*net.UDPAddr)
	w := dial(t, "udp", "127.0.0.4", loopback(a.Addrs()["udp"]))
	for i, via := range []string{
		"127.0.0.9:%[1]d",
		"127.0.0.9:%[1]d;rport",
		"127.0.0.9:%[1]d;rport=%[1]d",
		"127.0.0.4;received=127.0.0.9;rport=%[1]d",
		"127.0.0.4:%[1]d;maddr=127.0.0.9",
		"127.0.0.4:%[1]d;maddr=127.0.0.9;ttl=16",
		"224.0.1.75:%[1]d;maddr=224.0.1.75",
		"255.255.255.255:%[1]d;rport",
		"127.255.255.255:%[1]d",
		"[::ffff:127.0.0.9]:%[1]d",
	} {
		for _, method := range []string{"OPTIONS", "INVITE", "REGISTER", "CANCEL", "FOO"} {
			m := msg{method: method, callID: random(4), via: fmt.Sprintf("SIP/2.0/UDP "+via, there.Port) + ";branch=" + magic + random(6)}
			w.send(m.String())
			if r := w.response(); r.CallID() != m.callID {
				t.Errorf("%d %s: answered %s", i, method, r.CallID())
			}
		}
	}
	w.quiet(3 * quick.t1) // and once each
	_ = victim.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, from, err := victim.ReadFrom(make([]byte, 2000)); err == nil {
		t.Errorf("%d bytes came from %v to an address that a Via named", n, from)
	}
}

// S7: what somebody who has not logged in is answered over UDP is at most 1.5 times as long as what he sent, in each
// kind of answer and for the shortest of requests, which get none.
func TestS07AnswersAreNoLongerThanTheirRequests(t *testing.T) {
	a := start(t, served(make(chan *Exchange, 9)))
	head := "SIP/2.0\r\nv:SIP/2.0/UDP a;branch=z9hG4bKx\r\nf:<sip:a@b>;tag=1\r\nt:<sip:a@b>\r\ni:%d\r\nCSeq:1 %s\r\n"
	forms := map[string]string{
		"challenge":       "OPTIONS sip:b " + head + "Max-Forwards:70\r\n",
		"stale login":     "REGISTER sip:b " + head + "Max-Forwards:70\r\n" + login{user: "alice", password: "pw", method: "REGISTER", uri: "sip:b"}.header("AAAA") + "\r\n",
		"unknown method":  "FOO sip:b " + head + "Max-Forwards:70\r\n",
		"no dialog":       "BYE sip:b " + strings.Replace(head, "t:<sip:a@b>", "t:<sip:a@b>;tag=2", 1) + "Max-Forwards:70\r\n",
		"bad request":     "OPTIONS sip:b " + head,
		"unknown require": "OPTIONS sip:b " + head + "Max-Forwards:70\r\nRequire:a,b,c\r\n",
		"cancel":          "CANCEL sip:b " + head + "Max-Forwards:70\r\n",
		"scheme":          "OPTIONS x:b " + head + "Max-Forwards:70\r\n",
		"no Via":          "OPTIONS sip:b SIP/2.0\r\ni:%d\r\nCSeq:1 %s\r\n",
	}
	n, answered, silent := 0, 0, 0
	for name, form := range forms {
		method, _, _ := strings.Cut(form, " ")
		for pad := 0; pad <= 600; pad += 10 {
			n++
			request := fmt.Sprintf(form, n, method)
			if pad > 0 {
				request += "s:" + strings.Repeat("x", pad) + "\r\n"
			}
			request += "\r\n"
			w := dial(t, "udp", "", a.Addrs()["udp"])
			w.send(request)
			answer, ok := answerBefore(t, w)
			if !ok {
				silent++
				if pad >= 200 && name != "no Via" {
					t.Errorf("%s of %d bytes is not answered", name, len(request))
				}
				continue
			}
			answered++
			if 2*len(answer) > 3*len(request) {
				t.Errorf("%s: %d bytes were answered with %d:\n%s", name, len(request), len(answer), answer)
			}
		}
	}
	if answered == 0 || silent == 0 {
		t.Errorf("%d answers, %d times silence: one of them was not tried", answered, silent)
	}
}

// answerBefore gives what came before the answer to a probe that was sent behind it.
func answerBefore(t *testing.T, w *wire) ([]byte, bool) {
	t.Helper()
	time.Sleep(time.Millisecond) // the queues of two Call-IDs run side by side
	w.send(probe("UDP"))
	first, err := w.read(5 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return first, !strings.Contains(string(first), "Call-ID: probe")
}

// S7: an answer in the short form is a whole answer, which a client can match and log in by.
func TestS07ShortChallengeCanBeAnswered(t *testing.T) {
	seen := make(chan *Exchange, 1)
	a := start(t, served(seen))
	w := dial(t, "udp", "", a.Addrs()["udp"])
	short := "REGISTER sip:b SIP/2.0\r\nv:SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK%s\r\nf:<sip:alice@example.com>;tag=1\r\nt:<sip:alice@example.com>\r\n" +
		"i:short-request-of-a-client\r\nCSeq:%d REGISTER\r\nMax-Forwards:70\r\nm:<sip:alice@192.0.2.77:5060>\r\nl:0\r\n%s\r\n"
	w.send(fmt.Sprintf(short, "a", 1, ""))
	data, err := w.read(5 * time.Second)
	if err != nil || !strings.Contains(string(data), "\r\nv: SIP/2.0/UDP") || strings.Contains(string(data), "Server") {
		t.Fatalf("not the short form: %v\n%s", err, data)
	}
	r := parsed[*Response](t, string(data))
	w.send(fmt.Sprintf(short, "b", 2, login{user: "alice", password: "pw", method: "REGISTER", uri: "sip:b"}.header(nonceOf(r))+"\r\n"))
	w.expect(200)
	receive(t, "REGISTER", seen)
}
