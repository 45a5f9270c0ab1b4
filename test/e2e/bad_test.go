package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// refused sends a request outside any dialog and checks its answer.
func (w *world) refused(p *phone.Phone, method, uri string, body []byte, want int, headers ...phone.Header) {
	w.t.Helper()
	res, err := p.Send(method, uri, body, headers...)
	if err != nil {
		w.t.Errorf("%s %s: %v", method, uri, err)
		return
	}
	if res.Code != want {
		w.t.Errorf("%s %s: %s, want %d", method, uri, res.Line(), want)
	}
}

func TestRequestsForNothing(t *testing.T) {
	p := newParty(t)
	device := p.devices[1]
	dialog := []phone.Header{{Name: "To", Value: "<sip:bob@baton>;tag=nothing"}, {Name: "Call-ID", Value: "no-such-call"}}
	for _, method := range []string{"BYE", "INFO", "REFER", "NOTIFY", "UPDATE", "INVITE"} {
		headers := dialog
		if method == "REFER" {
			headers = append(headers[:2:2], phone.Header{Name: "Refer-To", Value: "<sip:103@baton>"})
		}
		if method == "INVITE" || method == "REFER" || method == "UPDATE" {
			headers = append(headers[:len(headers):len(headers)], phone.Header{Name: "Contact", Value: "<" + device.Contact() + ">"})
		}
		p.refused(device, method, "sip:bob@"+p.UDP.String(), nil, 481, headers...)
	}
	p.refused(device, "CANCEL", "sip:bob@"+p.UDP.String(), nil, 481, dialog...)
	since := time.Now()
	ack := fmt.Sprintf("ACK sip:bob@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKnothing\r\nMax-Forwards: 70\r\nFrom: <sip:x@y>;tag=1\r\nTo: <sip:bob@x>;tag=2\r\nCall-ID: no-such-call\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
		p.UDP, device.Contact()[strings.IndexByte(device.Contact(), '@')+1:])
	p.must(device.SendRaw([]byte(ack)))
	p.asBefore()
	for _, m := range device.Received(since) {
		if m.Code != 0 {
			t.Errorf("an ACK was answered %s", m.Line())
		}
	}
	p.over()
}

func TestSDPThatCannotBe(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.phone("alice", "desk"), w.phone("bob", "far")
	bob.Behave(phone.AutoAnswer)
	head := "v=0\r\no=- 1 1 IN IP4 10.77.0.3\r\ns=-\r\nc=IN IP4 10.77.0.3\r\nt=0 0\r\n"
	for _, c := range []struct {
		name, sdp string
		want      int
	}{
		{"no audio", head + "m=video 30000 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n", 488},
		{"audio with port 0", head + "m=audio 0 RTP/AVP 0\r\n", 488},
		{"no line at all", head, 488},
		{"unknown codec", head + "m=audio 30000 RTP/AVP 97\r\na=rtpmap:97 FOO/8000\r\n", 488},
		{"only keys", head + "m=audio 30000 RTP/AVP 101\r\na=rtpmap:101 telephone-event/8000\r\n", 488},
		{"9 lines", head + strings.Repeat("m=audio 30000 RTP/AVP 0\r\n", 9), 413},
		{"65 candidates", head + "m=audio 30000 RTP/AVP 0\r\n" + strings.Repeat("a=candidate:1 1 udp 1 10.77.0.3 9 typ host\r\n", 65), 413},
		{"over 16 KiB", head + "m=audio 30000 RTP/AVP 0\r\n" + strings.Repeat("a=x\r\n", 5000), 413},
	} {
		out := w.dial(alice, "bob", phone.DialOptions{SDP: []byte(c.sdp)})
		w.must(out.AwaitEnd(5 * time.Second))
		if res := out.Final(); res == nil || res.Code != c.want {
			t.Errorf("%s: %s, want %d", c.name, line(res), c.want)
		}
	}
	for _, body := range []string{"", "hello", "v=0", "v=1\r\n" + head[5:] + "m=audio 30000 RTP/AVP 0\r\n", head + "m=audio 99999 RTP/AVP 0\r\n"} {
		out := w.dial(alice, "bob", phone.DialOptions{SDP: []byte(body + "\r\n")})
		w.must(out.AwaitEnd(5 * time.Second))
		if res := out.Final(); res == nil || (res.Code != 400 && res.Code != 488) {
			t.Errorf("body %.20q: %s", body, line(res))
		}
	}
	with := head + "m=audio 30000 RTP/AVP 0\r\nm=video 30002 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n"
	out := w.dial(alice, "bob", phone.DialOptions{SDP: []byte(with)})
	w.must(out.Await(5 * time.Second))
	if body := string(out.Final().Body); !strings.Contains(body, "m=video 0 ") || strings.Index(body, "m=video") < strings.Index(body, "m=audio") {
		t.Errorf("the video line is not refused in its place:\n%s", body)
	}
	w.must(out.Hangup())
}

func TestReferToNowhere(t *testing.T) {
	p := newParty(t)
	for _, c := range []struct {
		to   string
		want []int
	}{
		{"sip:nobody@" + p.UDP.Addr().String(), []int{404}},
		{"sip:somebody@elsewhere.example", []int{403, 404, 480}},
		{"101*9", []int{404, 480}},
		{"*419", []int{404, 480}},
		{"103", []int{480}}, // carol has no phone
		{"not a uri>", []int{400, 404, 416}},
	} {
		r, err := p.leg().Refer(c.to)
		code := 0
		if err == nil {
			code, err = r.Wait(10 * time.Second)
		} else if status, ok := err.(*phone.Status); ok {
			code, err = status.Code, nil
		}
		if err != nil || !contains(c.want, code) {
			t.Errorf("REFER to %s: %d %v, want one of %v", c.to, code, err, c.want)
		}
	}
	res, err := p.leg().Request("REFER", nil)
	if err == nil || res == nil || res.Code != 400 {
		t.Errorf("REFER without Refer-To: %s %v", line(res), err)
	}
	p.asBefore()
	p.over()
}

func contains(list []int, n int) bool {
	for _, k := range list {
		if k == n {
			return true
		}
	}
	return false
}

func TestReinviteThatCannotBe(t *testing.T) {
	p := newParty(t)
	for _, codecs := range [][]phone.Codec{{phone.GSM}, {phone.DTMF}} {
		err := p.leg().Reoffer(codecs)
		status, ok := err.(*phone.Status)
		if !ok || status.Code != 488 {
			t.Errorf("re-INVITE with %s: %v, want 488", codecs[0].Name, err)
		}
	}
	if res, err := p.leg().Request("FROBNICATE", nil); err == nil || res == nil || res.Code != 405 {
		t.Errorf("unknown method in a dialog: %s %v", line(res), err)
	}
	p.asBefore()
	p.over()
}

func TestGarbage(t *testing.T) {
	p := newParty(t)
	r := rand.New(rand.NewPCG(1, 2))
	good := string((&phone.Message{Method: "INVITE", URI: "sip:bob@" + p.UDP.String(), Headers: []phone.Header{
		{Name: "Via", Value: "SIP/2.0/UDP 10.77.0.19:5060;branch=z9hG4bKgarbage;rport"},
		{Name: "Max-Forwards", Value: "70"},
		{Name: "From", Value: "<sip:alice@x>;tag=1"},
		{Name: "To", Value: "<sip:bob@x>"},
		{Name: "Call-ID", Value: "garbage"},
		{Name: "CSeq", Value: "1 INVITE"},
		{Name: "Contact", Value: "<sip:alice@10.77.0.19>"},
	}, Body: []byte("v=0\r\n")}).Bytes())
	var messages [][]byte
	for range 2000 {
		b := []byte(good)
		for range 1 + r.IntN(8) {
			b[r.IntN(len(b))] = byte(r.IntN(256))
		}
		messages = append(messages, b, b[:r.IntN(len(b))])
	}
	for _, m := range []string{"", "\r\n", "\x00\x00\x00\x00", "SIP/2.0", "INVITE", strings.Repeat("A", 65000), "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00"} {
		messages = append(messages, []byte(m))
	}
	files, _ := filepath.Glob("../../../shared/torture/*/*.dat")
	for _, name := range files {
		if b, err := os.ReadFile(name); err == nil {
			messages = append(messages, b)
		}
	}
	udp, err := net.DialUDP("udp", &net.UDPAddr{IP: node.IP(19).AsSlice()}, net.UDPAddrFromAddrPort(p.UDP))
	p.must(err)
	defer udp.Close()
	for i, m := range messages {
		udp.Write(m)
		if i%50 == 49 { // no flood: each shall be read
			p.refused(p.devices[2], "OPTIONS", "sip:"+p.UDP.String(), nil, 200)
		}
	}
	for _, at := range []string{p.TCP.String(), p.TLS.String()} {
		for i := range 200 {
			c, err := net.DialTimeout("tcp", at, time.Second)
			if err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
			c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
			c.Write(messages[r.IntN(len(messages))])
			c.Close()
		}
	}
	p.asBefore()
	p.over()
}

func TestOversize(t *testing.T) {
	p := newParty(t)
	long := phone.Header{Name: "Subject", Value: strings.Repeat("x", 40000)}
	for _, transport := range []string{"udp", "tcp"} {
		caller := p.phone("carol", "long-"+transport, over(transport))
		res, err := caller.Send("OPTIONS", "sip:"+p.UDP.String(), nil, long)
		if err == nil && (res.Code < 200 || res.Code >= 600) {
			t.Errorf("%s: %s", transport, res.Line())
		}
	}
	c, err := net.Dial("tcp", p.TCP.String())
	p.must(err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "INVITE sip:bob@x SIP/2.0\r\nVia: SIP/2.0/TCP x;branch=z9hG4bK1\r\nContent-Length: 2000000000\r\n\r\n")
	chunk := make([]byte, 1<<16)
	written := 0
	for written < 64<<20 {
		n, err := c.Write(chunk)
		written += n
		if err != nil {
			break
		}
	}
	if written >= 64<<20 {
		t.Error("the node takes a message of 64 MB")
	}
	p.asBefore()
	p.over()
}

func TestSilentConnectionsBlockNobody(t *testing.T) {
	w := newWorld(t)
	for range 50 {
		for _, at := range []string{w.TCP.String(), w.TLS.String()} {
			c, err := net.Dial("tcp", at)
			w.must(err)
			defer c.Close()
		}
	}
	alice, bob := w.phone("alice", "desk", over("tls")), w.phone("bob", "far", over("tcp"))
	out, in := w.connect(alice, "bob", bob)
	w.must(out.Hangup())
	w.ended(in)
}

func TestForeignCallerIsChallenged(t *testing.T) {
	w := newWorld(t)
	bob := w.phone("bob", "far")
	thief := w.make("alice", "thief", func(c *phone.Config) { c.Password = "" })
	w.status(w.dial(thief, "bob"), 401)
	other := w.make("alice", "other", func(c *phone.Config) { c.Login, c.Password = "carol", node.Password("carol") })
	w.status(w.dial(other, "bob"), 403) // carol says that she is alice
	if got := bob.Received(time.Time{}); len(got) != 2 {
		t.Errorf("bob's phone was sent more than the answers to its REGISTERs: %d messages", len(got))
	}
}
