package sip

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var benchInvite = []byte(msg{method: "INVITE", headers: []string{
	"User-Agent: Yealink SIP-T46S 66.86.0.15", "Allow: INVITE, INFO, PRACK, ACK, BYE, CANCEL, OPTIONS, NOTIFY, REGISTER, SUBSCRIBE, REFER",
	"Supported: replaces", "Allow-Events: talk,hold,conference", "Contact: <sip:alice@192.0.2.7:5060;transport=udp>",
}, body: strings.Repeat("a=rtpmap:0 PCMU/8000\r\n", 25)}.String())

// BenchmarkParse is parsing and validating one INVITE with SDP.
func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(int64(len(benchInvite)))
	for b.Loop() {
		if _, err := ParseRequest(benchInvite); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDispatch is an in-dialog request from the bytes to its answer's bytes: parse, queue, transaction, handler.
// The answer leaves through a real socket.
func BenchmarkDispatch(b *testing.B) {
	a := start(b)
	w := dial(b, "udp", "", a.Addrs()["udp"])
	local, _ := addrOf(w)
	flow := Flow{Transport: "udp", Local: a.Addrs()["udp"], Remote: local}
	done := make(chan struct{}, 1)
	a.Attach(Dialog{CallID: "cid", LocalTag: "lt", RemoteTag: "ft", Flow: flow}, "", func(x *Exchange) {
		_ = x.Respond(Reply{Code: 200})
		done <- struct{}{}
	})
	template := msg{method: "INFO", toTag: "lt", branch: magic + "0000000000000000"}.String()
	at := strings.Index(template, "0000000000000000")
	b.ReportAllocs()
	for b.Loop() {
		data := []byte(template)
		copy(data[at:], random(8))
		a.receive(data, flow)
		<-done
	}
}

// BenchmarkStranger is the path of a flood: parse, challenge, answer.
func BenchmarkStranger(b *testing.B) {
	a := start(b)
	w := dial(b, "udp", "", a.Addrs()["udp"])
	local, _ := addrOf(w)
	r := &Request{}
	flow := Flow{Transport: "udp", Local: a.Addrs()["udp"], Remote: local}
	b.ReportAllocs()
	for b.Loop() {
		m, err := parse(benchInvite, flow)
		if err != nil {
			b.Fatal(err)
		}
		r = m.(*Request)
		a.shard(r.callID).request(r)
	}
}

// BenchmarkRegister is a registration: two datagrams in, a challenge and a 200 out, through a real socket.
func BenchmarkRegister(b *testing.B) {
	a := start(b, handle("REGISTER", func(x *Exchange) {
		_ = x.Respond(Reply{Code: 200, Headers: []Header{{"Contact", x.Header("Contact")}, {"Date", "Thu, 26 Nov 2026 10:00:00 GMT"}}})
	}))
	w := dial(b, "udp", "", a.Addrs()["udp"])
	local, _ := addrOf(w)
	flow := Flow{Transport: "udp", Local: a.Addrs()["udp"], Remote: local}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		a.receive([]byte(registration(i, 1, "")), flow)
		answer, err := w.read(time.Second)
		if err != nil {
			b.Fatal(err)
		}
		_, nonce, _ := strings.Cut(string(answer), `nonce="`)
		nonce, _, _ = strings.Cut(nonce, `"`)
		a.receive([]byte(registration(i, 2, nonce)), flow)
		if answer, err = w.read(time.Second); err != nil || !strings.HasPrefix(string(answer), "SIP/2.0 200") {
			b.Fatalf("%v %s", err, answer)
		}
	}
}

// registration is a REGISTER as phones send it.
func registration(i, seq int, nonce string) string {
	m := fmt.Sprintf("REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK%032d-%d;rport\r\nMax-Forwards: 70\r\n"+
		"From: <sip:alice@example.com>;tag=%08d\r\nTo: <sip:alice@example.com>\r\nCall-ID: %d@192.0.2.7\r\nCSeq: %d REGISTER\r\n"+
		"Contact: <sip:alice@192.0.2.7:5060;d=1>;expires=3600;+sip.instance=\"<urn:uuid:00000000-0000-4000-8000-000000000001>\"\r\n"+
		"Expires: 3600\r\nUser-Agent: bench/1.0\r\n", i, seq, i, i, seq)
	if nonce != "" {
		ha1, ha2 := md5hex("alice:"+testRealm+":pw"), md5hex("REGISTER:sip:example.com")
		m += fmt.Sprintf("Authorization: Digest username=\"alice\", realm=\"%s\", nonce=\"%s\", uri=\"sip:example.com\", response=\"%s\", algorithm=MD5, qop=auth, nc=00000001, cnonce=\"c0ffee\"\r\n",
			testRealm, nonce, md5hex(ha1+":"+nonce+":00000001:c0ffee:auth:"+ha2))
	}
	return m + "Content-Length: 0\r\n\r\n"
}
