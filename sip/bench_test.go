package sip

import (
	"strings"
	"testing"
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
