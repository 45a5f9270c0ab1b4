package sip

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// names are the header names of a message as they stand in it.
func names(msg []byte) string {
	head, _, _ := strings.Cut(string(msg), "\r\n\r\n")
	var all []string
	for _, line := range strings.Split(head, "\r\n")[1:] {
		name, _, _ := strings.Cut(line, ":")
		all = append(all, name)
	}
	return strings.Join(all, " ")
}

// TestSlim has a message lose one thing after the other as its limit sinks, and its body never.
func TestSlim(t *testing.T) {
	const body = "v=0\r\nUser-Agent: none\r\n"
	msg := "INVITE sip:bob@192.0.2.7 SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=b\r\nFrom: <sip:a@b>\r\nUser-Agent: baton\r\n" +
		"Allow: INVITE\r\nDiversion: <sip:2@b>\r\nDiversion: <sip:1@b>\r\nHistory-Info: <sip:1@b>;index=1\r\n" +
		"History-Info: <sip:2@b>;index=1.1\r\nP-Asserted-Identity: <sip:a@b>\r\nCall-Info: <sip:b>;answer-after=0\r\nContent-Length: 23\r\n\r\n" + body
	steps := []struct {
		without string // a line that goes
		left    string
	}{
		{"User-Agent: baton", "Via From Allow Diversion Diversion History-Info History-Info P-Asserted-Identity Call-Info Content-Length"},
		{"History-Info: <sip:2@b>;index=1.1", "Via From Allow Diversion Diversion History-Info P-Asserted-Identity Call-Info Content-Length"},
		{"History-Info: <sip:1@b>;index=1", "Via From Allow Diversion Diversion P-Asserted-Identity Call-Info Content-Length"},
		{"Allow: INVITE", "Via From Diversion Diversion P-Asserted-Identity Call-Info Content-Length"},
		{"Diversion: <sip:1@b>", "Via From Diversion P-Asserted-Identity Call-Info Content-Length"},
		{"P-Asserted-Identity: <sip:a@b>", "Via From Diversion Call-Info Content-Length"},
		{"", "v f Diversion Call-Info l"},
	}
	if got := slim([]byte(msg), len(msg)); string(got) != msg {
		t.Errorf("a message as long as its limit is changed:\n%s", got)
	}
	limit := len(msg)
	for _, s := range steps {
		limit--
		got := slim([]byte(msg), limit)
		if names(got) != s.left || !strings.HasSuffix(string(got), "\r\n\r\n"+body) {
			t.Errorf("limit %d: has %s, want %s\n%s", limit, names(got), s.left, got)
		}
		if s.without != "" && len(got) > limit {
			t.Errorf("limit %d: has %d bytes", limit, len(got))
		}
		limit = len(got)
	}
	if got := slim([]byte(msg), 10); names(got) != steps[len(steps)-1].left {
		t.Errorf("what cannot be short enough is %s", got)
	}
}

// padded is an INVITE over a flow with a header so long that the whole has n bytes.
func padded(t *testing.T, a *Agent, f Flow, n int) Outgoing {
	t.Helper()
	_, out := call2(f)
	measure := func() int {
		d, err := a.draft(out)
		if err != nil {
			t.Fatal(err)
		}
		return len(a.whole(d))
	}
	out.Headers = []Header{{"History-Info", "<sip:1@b>"}, {"X-Test", "1"}}
	out.Headers[1].Value = strings.Repeat("x", 1+n-measure())
	if got := measure(); got != n {
		t.Fatalf("it has %d bytes, want %d", got, n)
	}
	return out
}

// TestRequestsFitADatagram sends INVITEs of 1,300 bytes and of more, over UDP and TCP.
func TestRequestsFitADatagram(t *testing.T) {
	a := start(t)
	for _, c := range []struct {
		transport  string
		long, sent int // 0 = as long as it was built
		short      bool
	}{
		{"udp", 1300, 0, false},
		{"udp", 1301, 1300, false},
		{"tcp", 1301, 0, false},
		{"udp", 1440, 1300, true},
		{"udp", 3000, 3000, true},
		{"tcp", 3000, 0, false},
	} {
		t.Run(fmt.Sprint(c.transport, c.long), func(t *testing.T) {
			d := newDevice(t, a, c.transport)
			out := padded(t, a, d.flow, c.long)
			if long := c.transport == "udp" && c.long > 1300; a.TooLong(out) != long {
				t.Errorf("too long: %v", !long)
			}
			done := invite(context.Background(), a, out, nil)
			data, err := d.read(5 * time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if c.sent == 0 && len(data) != c.long || c.sent > 0 && len(data) > c.sent {
				t.Errorf("%d bytes were sent", len(data))
			}
			if compact := strings.Contains(string(data), "\r\nv: SIP/2.0"); compact != c.short {
				t.Errorf("sent\n%s", data)
			}
			m, err := parse(data, d.flow)
			if err != nil {
				t.Fatalf("cannot be read: %v\n%s", err, data)
			}
			d.answer(m.(*Request), 486, "d")
			if r := <-done; !strings.Contains(fmt.Sprint(r.err), "486") {
				t.Errorf("came to %v", r.err)
			}
		})
	}
}

// TestAnswersFitADatagram has an answer that repeats much of its request leave out what it can.
func TestAnswersFitADatagram(t *testing.T) {
	a := start(t, handle("OPTIONS", func(x *Exchange) {
		_ = x.Respond(Reply{Code: 200, Headers: []Header{{"History-Info", strings.Repeat("h", 600)}}})
	}))
	for network, full := range map[string]bool{"udp": false, "tcp": true} {
		w := dial(t, network, "", a.Addrs()[network])
		w.authenticated(msg{method: "OPTIONS", transport: strings.ToUpper(network), callID: strings.Repeat("i", 600)})
		res := w.final()
		if has := res.Header("Server") != "" && res.Header("History-Info") != ""; res.code != 200 || has != full {
			t.Errorf("%s: %d with everything: %v", network, res.code, has)
		}
	}
}
