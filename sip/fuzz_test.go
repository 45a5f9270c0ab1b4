package sip

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"baton/test/torture"
)

func seeds(f *testing.F) {
	all, err := torture.Cases()
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range all {
		f.Add(c.Data)
	}
	f.Add([]byte(msg{method: "INVITE", body: "v=0\r\n"}.String()))
	f.Add([]byte(msg{method: "REFER", headers: []string{"r: <sip:b@h?Replaces=a%40b%3Bto-tag%3D1>"}}.String()))
}

// FuzzParseRequest: what is accepted can be answered, and neither the answer nor a request built from it lets a line
// of the peer's making through.
func FuzzParseRequest(f *testing.F) {
	seeds(f)
	a, err := NewAgent(Options{Secret: []byte("s"), Realm: testRealm, Credentials: logins{"alice": "pw"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(a.Close)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parse(data, Flow{Transport: "udp"})
		if refused, ok := err.(*refusal); ok {
			_ = a.reply(refused.request, "t", Reply{Code: refused.code, Headers: refused.headers})
			return
		}
		r, ok := m.(*Request)
		if err != nil || !ok {
			return
		}
		if keepAlive(data) {
			t.Errorf("%q is a request and would be dropped", data)
		}
		_, _, _ = ReferTarget(r)
		_, _, _ = ReferredBy(r)
		_, _, _ = ReferSilent(r)
		_ = a.auth.verify(r)
		raw := a.reply(r, "t", Reply{Code: 200})
		built(t, raw)
		back, err := parse(raw, Flow{})
		if res, ok := back.(*Response); err == nil && (!ok || res.callID != r.callID || res.cseq != r.cseq || res.via.branch() != r.via.branch()) {
			t.Errorf("the answer is another's: %q", raw)
		}
		x := Exchange{r, &serverTx{tag: "t"}}
		d := x.Dialog(1)
		if dr, err := a.draft(d.NewRequest("BYE", Body{})); err == nil {
			built(t, a.bytes(dr))
			if _, err := ParseRequest(a.bytes(dr)); err != nil {
				t.Errorf("our BYE: %v\n%q", err, a.bytes(dr))
			}
		}
	})
}

// ours are the headers of what we build without any of the caller's.
var ours = []string{
	"Via", "From", "To", "Call-ID", "CSeq", "Timestamp", "Record-Route", "Route", "Allow", "Contact", "Accept", "Supported", "Server",
	"User-Agent", "Max-Forwards", "Content-Type", "Content-Length",
}

// built checks a message of ours: whole lines, each with one of our headers, and nothing behind its end.
func built(t *testing.T, raw []byte) {
	t.Helper()
	head, body, ok := strings.Cut(string(raw), "\r\n\r\n")
	if !ok || body != "" {
		t.Fatalf("it does not end where it should: %q", raw)
	}
	for i, line := range strings.Split(head, "\r\n") {
		name, _, _ := strings.Cut(line, ":")
		if strings.ContainsAny(line, "\r\n") || i > 0 && !slices.Contains(ours, spelling(name)) {
			t.Fatalf("line %q: %q", line, raw)
		}
	}
}

// FuzzSplit: what is cut without the parser is what the parser makes of it.
func FuzzSplit(f *testing.F) {
	seeds(f)
	f.Add([]byte(registration(1, 2, "nonce")))
	f.Add([]byte("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nt:\tx\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		headers, end, plain := split(data)
		if !plain {
			return
		}
		var m message
		_, rest, _ := bytes.Cut(data, []byte("\r\n"))
		n, err := m.readOddHeaders(data, rest)
		if err != nil || n != end || !slices.Equal(m.headers, headers) {
			t.Errorf("%q\nsplit:  %q, body at %d\nparser: %q, body at %d, %v", data, headers, end, m.headers, n, err)
		}
	})
}

// FuzzParseURI: what is accepted means the same after it was written and read again.
func FuzzParseURI(f *testing.F) {
	for _, s := range []string{"sip:a@h", "sips:%00@[::1]:5061;x=%41?h=v", "tel:+1-2;ext=3", "sip:a;b?c@h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURI(s)
		if err != nil {
			return
		}
		again, err := ParseURI(u.String())
		if err != nil || again.String() != u.String() || again.User != u.User || again.Host != u.Host || again.Port != u.Port {
			t.Errorf("%q → %q → %q (%v)", s, u, again, err)
		}
	})
}

// FuzzParseNameAddr: as FuzzParseURI, for addresses.
func FuzzParseNameAddr(f *testing.F) {
	for _, s := range []string{`"A \"b\"" <sip:a@h;x>;tag=1`, "sip:a@h;tag=1", "*", "A <sip:h>", `<sip:h>;x="<y>"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseNameAddr(s)
		if err != nil || hasControl(s) {
			return
		}
		again, err := ParseNameAddr(n.String())
		if err != nil || again.String() != n.String() || tag(again) != tag(n) {
			t.Errorf("%q → %q → %q (%v)", s, n, again, err)
		}
	})
}

// FuzzReferTarget: whatever a Refer-To says, what comes of it has no headers to smuggle in.
func FuzzReferTarget(f *testing.F) {
	f.Add("<sip:b@h?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2>")
	f.Add("sip:*41@h")
	f.Fuzz(func(t *testing.T, s string) {
		r := &Request{message: message{headers: []Header{{"Refer-To", s}}}}
		if u, _, err := ReferTarget(r); err == nil && (len(u.Headers) != 0 || u.Scheme == "") {
			t.Errorf("%q → %#v", s, u)
		}
	})
}

// FuzzParseReplaces: what is accepted means the same after it was written and read again.
func FuzzParseReplaces(f *testing.F) {
	f.Add("a@b;to-tag=1;from-tag=2;early-only")
	f.Add("only-id")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReplaces(s)
		if err != nil || !plainValue(r.ToTag) || !plainValue(r.FromTag) {
			return
		}
		if again, err := ParseReplaces(r.String()); err != nil || again != r {
			t.Errorf("%q → %+v → %+v (%v)", s, r, again, err)
		}
	})
}

// FuzzFramer: a stream ends, is never cut beyond the limit, and the same messages come however it is chopped.
func FuzzFramer(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		all := func(r *framer) []string {
			var out []string
			for range len(data) + 2 {
				m, err := r.next()
				if err == errPing {
					out = append(out, "ping")
					continue
				}
				if err != nil {
					return out
				}
				if len(m) > MaxMessage {
					t.Fatalf("message of %d bytes", len(m))
				}
				out = append(out, string(m))
			}
			t.Fatal("the stream does not end")
			return nil
		}
		whole, chopped := all(newFramer(bytes.NewReader(data))), all(newFramer(oneByte{bytes.NewReader(data)}))
		if !slices.Equal(whole, chopped) {
			t.Errorf("%q whole, %q chopped", whole, chopped)
		}
		rest := data
		for _, m := range whole { // each is a piece of the stream, in order
			i := bytes.Index(rest, []byte(m))
			if m != "ping" && i < 0 {
				t.Fatalf("%q is not in the stream", m)
			}
			if m != "ping" {
				rest = rest[i+len(m):]
			}
		}
	})
}
