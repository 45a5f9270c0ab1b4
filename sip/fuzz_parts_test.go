package sip

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// FuzzParseResponse: what is taken for a response to an INVITE of ours has an ACK and a BYE that are well-formed and say nothing
// that the peer has made up.
func FuzzParseResponse(f *testing.F) {
	seeds(f)
	f.Add([]byte("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>;tag=2\r\nCall-ID: c\r\n" +
		"CSeq: 1 INVITE\r\nContact: \"B, C\" <sip:b@[::1]:5070;lr>\r\nRecord-Route: <sip:r1;lr>, <sip:r2>\r\nm: <sip:x@y>\r\nl: 0\r\n\r\n"))
	f.Add([]byte("SIP/2.0 302 Gone\x01\r\nv: SIP/2.0/TCP h\r\nf: sip:a@h\r\nt: sip:b@h;tag=\"x\r\n y\"\r\ni: c\r\nCSeq: 2 BYE\r\n\r\n"))
	a, err := NewAgent(Options{Secret: []byte("s"), Realm: testRealm})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(a.Close)
	us := NameAddr{Name: "A", URI: URI{Scheme: "sip", User: "a", Host: "h"}}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parse(data, Flow{Transport: "udp"})
		r, ok := m.(*Response)
		if err != nil || !ok {
			return
		}
		if r.code < 100 || r.code > 699 || r.callID == "" || len(r.Headers("Via")) != 1 || len(r.body.Data) > len(data) {
			t.Errorf("%+v", r)
		}
		d := NewDialog(us, us, "sip:b@h", nil, Flow{Transport: "udp"}, 1)
		dr, err := a.draft(d.NewRequest("INVITE", Body{}))
		if err != nil {
			t.Fatal(err)
		}
		acceptable(t, a.ackOf(dr, r))
		_ = statusError(r).Error()
		d.Confirm(r)
		if out, err := a.draft(d.NewRequest("BYE", Body{})); err == nil {
			acceptable(t, a.bytes(out))
		}
	})
}

// acceptable checks that a request of ours is one that we would take ourselves.
func acceptable(t *testing.T, raw []byte) {
	t.Helper()
	built(t, raw)
	if _, err := ParseRequest(raw); err != nil {
		t.Errorf("%v: %q", err, raw)
	}
}

// FuzzVia: what is accepted means the same after it was written and read again, and where it came from stands in it then.
func FuzzVia(f *testing.F) {
	for _, s := range []string{
		"SIP/2.0/UDP h;branch=z9hG4bK1;rport", "sip / 2.0 / TLS [::1] : 5061 ; received=1.2.3.4", "SIP/2.0/UDP h;x=\"a;b\\\"\"", "SIP/2.0/X h;;",
	} {
		f.Add(s)
	}
	from := netip.MustParseAddrPort("192.0.2.9:4711")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := parseVia(s)
		if err != nil || hasControl(s) {
			return
		}
		again, err := parseVia(v.String())
		if err != nil || again.String() != v.String() || again.branch() != v.branch() || again.host != v.host || again.port != v.port {
			t.Errorf("%q → %q → %q (%v)", s, v, again, err)
		}
		seen, err := parseVia(v.seenFrom(from).String())
		if err != nil || seen.branch() != v.branch() {
			t.Fatalf("%q from %v is %q (%v)", s, from, v.seenFrom(from), err)
		}
		received, ok := seen.params.Get("received")
		rport, asked := seen.params.Get("rport")
		if asked && rport != "4711" || ok && received != "192.0.2.9" || !ok && v.host != "192.0.2.9" && v.host != "::ffff:192.0.2.9" {
			t.Errorf("%q from %v is %q", s, from, seen)
		}
	})
}

// FuzzParams: as FuzzVia, for the parameters of a header.
func FuzzParams(f *testing.F) {
	for _, s := range []string{";a=1;b", "; a = \"x;\\\"y\" ;", ";a;A", ";a=\"\t\\y\"", ";+sip.instance=\"<urn:x>\"", ";q=0.5;x=[::1]:5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parseParams(s)
		if err != nil || hasControl(s) {
			return
		}
		if len(p) > maxParams {
			t.Fatalf("%d parameters", len(p))
		}
		var b strings.Builder
		p.write(&b)
		again, err := parseParams(b.String())
		for i := range p {
			p[i].Value = spaced(p[i].Value)
		}
		if err != nil || !reflect.DeepEqual(p, again) || strings.ContainsAny(b.String(), "\r\n") {
			t.Errorf("%q → %q → %q (%v)", s, p, again, err)
		}
	})
}

// spaced is s as it is written: a control byte that was quoted is a space then.
func spaced(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c < ' ' || c == 0x7f {
			b[i] = ' '
		}
	}
	return string(b)
}

// FuzzList: a list falls into elements that hold no comma of the list, and together they are the list.
func FuzzList(f *testing.F) {
	for _, s := range []string{"a, b", `"a,b" <sip:c,d>,e`, `"`, "<,", strings.Repeat(",", 200)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		all := splitList(s)
		if len(all) > maxList+1 {
			t.Fatalf("%d elements", len(all))
		}
		for _, one := range all[:len(all)-1] {
			if indexOutside(one, ",") >= 0 {
				t.Errorf("%q is one of %q", one, s)
			}
		}
		if again := splitList(strings.Join(all, ",")); !slices.Equal(all, again) {
			t.Errorf("%q → %q → %q", s, all, again)
		}
	})
}

// FuzzCredential: what is accepted is complete, and means the same when it is written again.
func FuzzCredential(f *testing.F) {
	for _, s := range []string{
		`Digest username="a", realm="r", nonce="n", uri="sip:h", response="x"`,
		`digest username=a,realm="r\"",nonce=n,uri="sip:a,b@h",response=x,algorithm=sha-256,qop=auth,nc=0000000a,cnonce="c"`,
		`Digest username="a", username="b", nc=00000000`, "Digest username=\"\\\x01\",realm=r,nonce=\"\t\",uri=u,response=x", "Basic QWxhZGRpbg==",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCredential(s)
		if err != nil || hasControl(s) {
			return
		}
		if c.username == "" || c.nonce == "" || c.response == "" || c.count == 0 {
			t.Fatalf("%q → %+v", s, c)
		}
		out := "Digest username=" + quote(c.username) + ",realm=" + quote(c.realm) + ",nonce=" + quote(c.nonce) + ",uri=" + quote(c.uri) +
			",response=" + quote(c.response)
		if c.sha256 {
			out += ",algorithm=SHA-256"
		}
		if c.qop != "" {
			out += ",qop=" + c.qop + ",nc=" + c.nc + ",cnonce=" + quote(c.cnonce)
		}
		again, err := parseCredential(out)
		for _, v := range []*string{&c.username, &c.realm, &c.nonce, &c.uri, &c.response, &c.cnonce} {
			*v = spaced(*v)
		}
		if c.qop == "" { // then they mean nothing
			c.nc, c.cnonce = "", ""
		}
		if err != nil || again != c {
			t.Errorf("%q → %+v → %q → %+v (%v)", s, c, out, again, err)
		}
	})
}

// FuzzMultipart: the session description of a multipart body is a piece of it.
func FuzzMultipart(f *testing.F) {
	f.Add([]byte("--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\r\n--b--"), "multipart/mixed;boundary=b")
	f.Add([]byte("--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b\r\nContent-Type: application/sdp;x=\"\r\n\r\nv=0\r\n--b--\r\n"), `multipart/alternative; boundary="b"`)
	f.Fuzz(func(t *testing.T, data []byte, kind string) {
		r := &Request{message: message{body: Body{kind, data}, method: "INVITE", headers: []Header{{"Content-Type", kind}}}}
		if refused := r.checkBody(); refused != nil {
			if refused.code != 415 {
				t.Errorf("%v", refused)
			}
			return
		}
		if !bytes.Contains(data, r.body.Data) || len(r.body.Data) > 0 && r.body.Type != typeSDP {
			t.Errorf("%q of %q", r.body, data)
		}
	})
}

// FuzzNumbers reads what stands in RAck, Session-Expires and Min-SE: what is accepted means the same when it is written again.
func FuzzNumbers(f *testing.F) {
	for _, v := range []string{"1 2 INVITE", "2147483647 0 INVITE", "1 2 BYE", "1800;refresher=uac", "90 ; refresher = uas", "-1", "99999999999;x", "+5;refresher=me"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		if seq, cseq, err := parseRAck(v); err == nil {
			again, cagain, err := parseRAck(fmt.Sprintf("%d %d INVITE", seq, cseq))
			if err != nil || again != seq || cagain != cseq || seq > 1<<31-1 || cseq > 1<<31-1 {
				t.Errorf("RAck %q: %d %d", v, seq, cseq)
			}
		}
		m := message{headers: []Header{{"Session-Expires", v}, {"Min-SE", v}}}
		s, there, err := m.SessionExpires()
		if there != (v != "") || m.MinSE() < 0 {
			t.Errorf("%q: %+v %v, %v", v, s, there, m.MinSE())
		}
		if err != nil || !there {
			return
		}
		m.headers[0] = s.Header()
		if again, _, err := m.SessionExpires(); err != nil || again != s || strings.ContainsAny(s.Header().Value, "\r\n,") {
			t.Errorf("%q → %+v → %+v (%v)", v, s, again, err)
		}
	})
}
