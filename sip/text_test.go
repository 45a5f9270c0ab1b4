package sip

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestParseURI(t *testing.T) {
	for _, c := range []struct {
		in   string
		want URI
		out  string // "" = as in
	}{
		{in: "sip:alice@example.com", want: URI{Scheme: "sip", User: "alice", Host: "example.com"}},
		{in: "SIPS:bob@[2001:db8::1]:5061;transport=tls", want: URI{Scheme: "sips", User: "bob", Host: "2001:db8::1", Port: 5061, Params: Params{{"transport", "tls"}}}, out: "sips:bob@[2001:db8::1]:5061;transport=tls"},
		{in: "sip:example.com;lr", want: URI{Scheme: "sip", Host: "example.com", Params: Params{{"lr", ""}}}},
		{in: "sip:a:secret@h", want: URI{Scheme: "sip", User: "a", Host: "h"}, out: "sip:a@h"},
		{in: "sip:%61l%40ice@h", want: URI{Scheme: "sip", User: "al@ice", Host: "h"}, out: "sip:al%40ice@h"},
		{in: "sip:*41@h", want: URI{Scheme: "sip", User: "*41", Host: "h"}},
		{in: "sip:%23123@h", want: URI{Scheme: "sip", User: "#123", Host: "h"}},
		{in: "sip:u@h?Replaces=a%40b%3Bto-tag%3D1&X=", want: URI{Scheme: "sip", User: "u", Host: "h", Headers: Params{{"Replaces", "a@b;to-tag=1"}, {"X", ""}}}},
		{in: "tel:+49-30-123;phone-context=x", want: URI{Scheme: "tel", User: "+49-30-123", Params: Params{{"phone-context", "x"}}}},
	} {
		got, err := ParseURI(c.in)
		if err != nil || fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", c.want) {
			t.Errorf("%s: %#v, %v", c.in, got, err)
		}
		if got.String() != or(c.out, c.in) {
			t.Errorf("%s: written %s", c.in, got)
		}
	}
}

func TestParseURIRefuses(t *testing.T) {
	for _, in := range []string{
		"", "sip", "sip:", ":x", "1sip:a", "sip:@h", "sip:a@", "sip:a b@h", "sip:a@h:0", "sip:a@h:65536", "sip:a@h:x",
		"sip:2001:db8::1", "sip:[2001:db8::1", "sip:[1.2.3.4]", "sip:[fe80::1%25eth0]", "sip:[::1]x", "<sip:a@h>",
		"sip:a@h;=x", "sip:a@h@i", "mailto:a@h", "tel:", "tel:12x34z", "sip:a@h\r\nX: y", "sip:a@h\x00",
	} {
		if u, err := ParseURI(in); err == nil {
			t.Errorf("%q is taken as %#v", in, u)
		}
	}
}

func TestParseNameAddr(t *testing.T) {
	for _, c := range []struct{ in, name, uri, params, out string }{
		{`<sip:a@h>;tag=1`, "", "sip:a@h", ";tag=1", `<sip:a@h>;tag=1`},
		{`"A \"B\", C" <sip:a@h;p=1>;x`, `A "B", C`, "sip:a@h;p=1", ";x", `"A \"B\", C" <sip:a@h;p=1>;x`},
		{`Alice Smith <sip:a@h>`, "Alice Smith", "sip:a@h", "", `"Alice Smith" <sip:a@h>`},
		{`Jürgen<sip:a@h>`, "Jürgen", "sip:a@h", "", `"Jürgen" <sip:a@h>`},
		{`sip:a@h;tag=1`, "", "sip:a@h", ";tag=1", `<sip:a@h>;tag=1`},
		{`<sip:a@h>;+sip.instance="<urn:uuid:1>";reg-id=1;`, "", "sip:a@h", `;+sip.instance="<urn:uuid:1>";reg-id=1`, `<sip:a@h>;+sip.instance="<urn:uuid:1>";reg-id=1`},
		{"<sip:a@h> ; TAG = x ; q = 0.5", "", "sip:a@h", ";TAG=x;q=0.5", "<sip:a@h>;TAG=x;q=0.5"},
		{`"" <sip:a@h>`, "", "sip:a@h", "", "<sip:a@h>"},
	} {
		n, err := ParseNameAddr(c.in)
		var p strings.Builder
		n.Params.write(&p)
		if err != nil || n.Name != c.name || n.URI.String() != c.uri || p.String() != c.params || n.String() != c.out {
			t.Errorf("%s: %q %s %s → %s, %v", c.in, n.Name, n.URI, &p, n, err)
		}
	}
	if n, err := ParseNameAddr("*"); err != nil || n.URI.Host != "*" || n.String() != "*" {
		t.Errorf("*: %v, %v", n, err)
	}
	if v, ok := (Params{{"Tag", "x"}}).Get("tAG"); !ok || v != "x" {
		t.Error("parameter names must not depend on case")
	}
}

func TestParseNameAddrRefuses(t *testing.T) {
	for _, in := range []string{
		"", "<>", "<sip:a@h", `"a <sip:a@h>`, `"a" b" <sip:a@h>`, "a, b <sip:a@h>", "< sip:a@h >", "sip:a@h?x=y",
		"sip:a@h,b", "<sip:a@h> x", "<sip:a@h>;a=1;A=2", `<sip:a@h>;a="1`, "<sip:a@h>;a b=1", "<sip:a@h>;=1",
	} {
		if n, err := ParseNameAddr(in); err == nil {
			t.Errorf("%q is taken as %#v", in, n)
		}
	}
}

func TestParamsWithLeavesTheOriginal(t *testing.T) {
	p := Params{{"a", "1"}, {"B", "2"}, {"b", "3"}}
	q := p.With("b", "9").With("c", "")
	if fmt.Sprint(p) != "[{a 1} {B 2} {b 3}]" || fmt.Sprint(q) != "[{a 1} {B 9} {c }]" {
		t.Errorf("%v, %v", p, q)
	}
}

// TestReferMethod: a transfer is an INVITE; what asks for something else is told apart from what cannot be read.
func TestReferMethod(t *testing.T) {
	for uri, other := range map[string]bool{"sip:b@h;method=INVITE": false, "sip:b@h": false, "sip:b@h;method=BYE": true, "sip:b@h;METHOD=invite": true} {
		r, err := ParseRequest([]byte(msg{method: "REFER", headers: []string{"Refer-To: <" + uri + ">"}}.String()))
		if err != nil {
			t.Fatal(err)
		}
		u, _, err := ReferTarget(r)
		if errors.Is(err, ErrReferMethod) != other || !other && u.String() != "sip:b@h" {
			t.Errorf("%s: %s, %v", uri, u, err)
		}
	}
}

func TestReferredBy(t *testing.T) {
	for _, c := range []struct {
		header    string
		there, ok bool
	}{
		{"X: y", false, true},
		{"Referred-By: <sip:a@h>;cid=\"1@h\"", true, true},
		{"b: \"A\" <sip:a@h>", true, true},
		{"Referred-By: ", true, false},
		{"Referred-By: *", true, false},
		{"Referred-By: alice", true, false},
		{"Referred-By: <sip:a@h", true, false},
	} {
		r, err := ParseRequest([]byte(msg{method: "REFER", headers: []string{c.header}}.String()))
		if err != nil {
			t.Fatal(err)
		}
		_, there, err := ReferredBy(r)
		if there != c.there || (err == nil) != c.ok {
			t.Errorf("%q: %v, %v", c.header, there, err)
		}
	}
}

// TestReferSilent has every way to ask for no NOTIFY, and what is none.
func TestReferSilent(t *testing.T) {
	for header, want := range map[string]string{
		"X: y": "false ", "Refer-Sub: true": "false ", "Refer-Sub: false": "true Refer-Sub", "refer-sub:  FALSE ;x": "true Refer-Sub",
		"Require: nosub": "true ", "Refer-Sub: perhaps": "error",
	} {
		r, err := ParseRequest([]byte(msg{method: "REFER", headers: []string{header}}.String()))
		if err != nil {
			t.Fatal(err)
		}
		silent, answer, err := ReferSilent(r)
		got := fmt.Sprintf("%t ", silent)
		if len(answer) > 0 {
			got += answer[0].Name
		}
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", header, got, want)
		}
	}
}

func TestReferTarget(t *testing.T) {
	for _, c := range []struct {
		header, uri string
		replaces    *Replaces
	}{
		{"Refer-To: <sip:bob@h>", "sip:bob@h", nil},
		{"r: sip:*41@h", "sip:*41@h", nil},
		{"Refer-To: <sip:bob@h?Replaces=12345%40192.168.118.3%3Bto-tag%3D12345%3Bfrom-tag%3D5FFE-3994>", "sip:bob@h", &Replaces{"12345@192.168.118.3", "12345", "5FFE-3994", false}},
		{"Refer-To: <sip:bob@h?Replaces=abc%3bfrom-tag%3dF%3bto-tag%3dT%3bearly-only&Route=%3Csip:evil%3E>", "sip:bob@h", &Replaces{"abc", "T", "F", true}},
		{"Refer-To: <sip:bob@h?Route=%3Csip:evil%3E>", "sip:bob@h", nil},
		{"Refer-To: <sip:bob@h?Replaces=only-id@x>", "sip:bob@h", &Replaces{CallID: "only-id@x"}},
	} {
		r, err := ParseRequest([]byte(msg{method: "REFER", headers: []string{c.header}}.String()))
		if err != nil {
			t.Fatal(err)
		}
		u, rep, err := ReferTarget(r)
		if err != nil || u.String() != c.uri || fmt.Sprint(rep) != fmt.Sprint(c.replaces) {
			t.Errorf("%s: %s %v %v", c.header, u, rep, err)
		}
	}
	for _, h := range []string{"X: y", "Refer-To: *", "Refer-To: bob", "Refer-To: <sip:b@h?Replaces=%20%3Bto-tag%3D1>"} {
		r, err := ParseRequest([]byte(msg{method: "REFER", headers: []string{h}}.String()))
		if err != nil {
			t.Fatal(err)
		}
		if u, rep, err := ReferTarget(r); err == nil {
			t.Errorf("%s is taken as %v %v", h, u, rep)
		}
	}
}

func TestStatusText(t *testing.T) {
	for code, want := range map[int]string{200: "OK", 486: "Busy Here", 499: "Bad Request", 699: "Busy Everywhere", 7: "Unknown"} {
		if got := StatusText(code); got != want {
			t.Errorf("%d: %s", code, got)
		}
	}
	if b := Sipfrag(180, ""); b.Type != "message/sipfrag;version=2.0" || string(b.Data) != "SIP/2.0 180 Ringing\r\n" {
		t.Errorf("%s %q", b.Type, b.Data)
	}
	if b := Sipfrag(200, "x\r\nEvil: y"); strings.Count(string(b.Data), "\n") != 1 {
		t.Errorf("a reason breaks out of its line: %q", b.Data)
	}
}

func TestCompactHeaders(t *testing.T) {
	raw := "REFER sip:bob@example.com SIP/2.0\r\nv: SIP/2.0/UDP 1.2.3.4;branch=z9hG4bKx\r\nf: <sip:a@h>;TAG=1\r\n" +
		"t: <sip:b@h>;Tag=2\r\ni: id\r\nCSeq: 1 REFER\r\nMax-Forwards: 70\r\nm: <sip:a@1.2.3.4>\r\nk: timer, replaces\r\n" +
		"s: hi\r\no: talk\r\nr: <sip:c@h>\r\nb: <sip:a@h>\r\nu: talk\r\nx: 1800\r\nc: text/plain\r\nl: 2\r\n\r\nhi"
	r, err := ParseRequest([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Via": "SIP/2.0/UDP 1.2.3.4;branch=z9hG4bKx", "from": "<sip:a@h>;TAG=1", "Call-ID": "id", "Supported": "timer, replaces",
		"Subject": "hi", "Event": "talk", "Refer-To": "<sip:c@h>", "Referred-By": "<sip:a@h>", "allow-events": "talk",
		"session-expires": "1800", "CONTENT-TYPE": "text/plain", "r": "<sip:c@h>",
	} {
		if got := r.Header(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if r.FromTag() != "1" || r.ToTag() != "2" || fmt.Sprint(r.Headers("k")) != "[timer replaces]" || string(r.Body().Data) != "hi" {
		t.Errorf("%q %q %q %q", r.FromTag(), r.ToTag(), r.Headers("k"), r.Body().Data)
	}
}

func TestValidation(t *testing.T) {
	good := msg{method: "INVITE", callID: "c1", body: "v=0\r\n"}
	mutate := func(old, with string) string { return strings.Replace(good.String(), old, with, 1) }
	for _, c := range []struct {
		name, raw string
		code      int
	}{
		{"good", good.String(), 0},
		{"control byte in a header name", mutate("Max-Forwards", "X-By\x01pass: y\r\nMax-Forwards"), 400},
		{"control byte in a value", mutate("Max-Forwards", "X: a\x02b\r\nMax-Forwards"), 400},
		{"bare LF", mutate("Max-Forwards", "X: a\nEvil: b\r\nMax-Forwards"), 400},
		{"space before the colon", mutate("Max-Forwards:", "Max-Forwards :"), 0},
		{"no Max-Forwards", mutate("Max-Forwards: 70\r\n", ""), 400},
		{"Max-Forwards 0", mutate("Max-Forwards: 70", "Max-Forwards: 000"), 483},
		{"Max-Forwards 256", mutate("Max-Forwards: 70", "Max-Forwards: 256"), 400},
		{"Max-Forwards -1", mutate("Max-Forwards: 70", "Max-Forwards: -1"), 400},
		{"two From", mutate("CSeq", "f: <sip:x@h>;tag=2\r\nCSeq"), 400},
		{"two Call-ID", mutate("CSeq", "i: other\r\nCSeq"), 400},
		{"two Content-Length", mutate("CSeq", "l: 5\r\nCSeq"), 400},
		{"no From tag", mutate(";tag=ft", ""), 400},
		{"no Contact", mutate("Contact: <sip:alice@127.0.0.1:9999>\r\n", ""), 400},
		{"two Contacts", mutate("Contact:", "m: <sip:b@h>\r\nContact:"), 400},
		{"wildcard Contact", mutate("<sip:alice@127.0.0.1:9999>", "*"), 400},
		{"CSeq of another method", mutate("1 INVITE", "1 invite"), 400},
		{"version", mutate(" SIP/2.0\r\nVia", " SIP/3.0\r\nVia"), 505},
		{"require", mutate("CSeq", "Require: precondition, replaces\r\nCSeq"), 420},
		{"known require", mutate("CSeq", "Require: replaces, 100rel, timer\r\nCSeq"), 0},
		{"scheme", mutate("INVITE sip:", "INVITE mailto:"), 416},
		{"body type", mutate("application/sdp", "text/plain"), 415},
		{"optional body", mutate("application/sdp", "text/plain\r\nContent-Disposition: render;handling=optional"), 0},
		{"encoding", mutate("CSeq", "e: gzip\r\nCSeq"), 415},
		{"accept", mutate("CSeq", "Accept: text/plain\r\nCSeq"), 406},
		{"accept any", mutate("CSeq", "Accept: text/plain, */*;q=0.1\r\nCSeq"), 0},
		{"many headers", mutate("CSeq", strings.Repeat("X: y\r\n", 130)+"CSeq"), 400},
		{"many Vias", mutate("From", "Via: "+strings.Repeat("SIP/2.0/UDP h;branch=z9hG4bKq,", 60)+"SIP/2.0/UDP h\r\nFrom"), 400},
		{"short body", mutate("Content-Length: 5", "Content-Length: 6"), 400},
		{"header without colon", mutate("CSeq", "nonsense\r\nCSeq"), 400},
	} {
		_, err := ParseRequest([]byte(c.raw))
		code := 0
		if r, ok := err.(*refusal); ok {
			code = r.code
		} else if err != nil {
			code = -1
		}
		if code != c.code {
			t.Errorf("%s: %d (%v), want %d", c.name, code, err, c.code)
		}
	}
}

func TestMultipartBodyGivesItsSDP(t *testing.T) {
	body := "--b\r\nContent-Type: application/pidf+xml\r\n\r\n<x/>\r\n--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b--\r\n"
	raw := msg{method: "INVITE", body: body}.String()
	raw = strings.Replace(raw, "application/sdp", "multipart/mixed;boundary=b", 1)
	r, err := ParseRequest([]byte(raw))
	if err != nil || r.Body().Type != typeSDP || string(r.Body().Data) != "v=0" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestNotSIPIsDropped(t *testing.T) {
	for _, in := range []string{
		"", "\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "hello", "A B C\r\n\r\n", "SIP/2.0 200 OK\r\n\r\n",
		"SIP/2.0 4294967301 x\r\nVia: SIP/2.0/UDP h\r\n\r\n", strings.Repeat("a", 70000),
	} {
		_, err := parse([]byte(in), Flow{})
		if _, refused := err.(*refusal); err == nil || refused {
			t.Errorf("%.20q would be answered (%v)", in, err)
		}
	}
}
