package sip

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestRoutes(t *testing.T) {
	for _, c := range []struct {
		name, target string
		set          []string
		uri, routes  string
	}{
		{"none", "sip:a@h;x=1", nil, "sip:a@h;x=1", "[]"},
		{"loose", "sip:a@h", []string{"<sip:p1;lr>", "<sip:p2;lr>"}, "sip:a@h", "[<sip:p1;lr> <sip:p2;lr>]"},
		{"strict", "sip:a@h", []string{"<sip:p1>", "<sip:p2;lr>"}, "sip:p1", "[<sip:p2;lr> <sip:a@h>]"},
		{"strict alone", "sip:a@h", []string{"<sip:p1;transport=tcp>"}, "sip:p1;transport=tcp", "[<sip:a@h>]"},
		{"headers in the target", "sip:a@h?Route=%3Csip:evil%3E", nil, "sip:a@h", "[]"},
		{"headers in a strict route", "sip:a@h", []string{"<sip:p1?X=y>"}, "sip:p1", "[<sip:a@h>]"},
		{"method in the target", "sip:a@h;method=BYE;x", nil, "sip:a@h;x", "[]"},
	} {
		uri, routes, err := routeOf(c.target, c.set)
		if err != nil || uri != c.uri || fmt.Sprint(routes) != c.routes {
			t.Errorf("%s: %s %v, %v", c.name, uri, routes, err)
		}
	}
	for _, c := range []struct {
		target string
		set    []string
	}{{"", nil}, {"sip:a b", nil}, {"mailto:a@h", nil}, {"sip:a@h", []string{"<nonsense>"}}} {
		if uri, _, err := routeOf(c.target, c.set); err == nil {
			t.Errorf("%s %v is taken as %s", c.target, c.set, uri)
		}
	}
}

func parsed[T any](t *testing.T, raw string) T {
	t.Helper()
	m, err := parse([]byte(raw), Flow{Transport: "udp"})
	if err != nil {
		t.Fatal(err)
	}
	return m.(T)
}

const answer = "SIP/2.0 %d OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom: <sip:us@h>;tag=f\r\nTo: <sip:b@h>;tag=%s\r\n" +
	"Call-ID: c\r\nCSeq: 1 INVITE\r\n%sContent-Length: 0\r\n\r\n"

func TestDialogOfTheCaller(t *testing.T) {
	us, _ := ParseNameAddr(`"Us" <sip:us@h>;tag=old`)
	peer, _ := ParseNameAddr("<sip:b@h>")
	d := NewDialog(us, peer, "sip:b@1.2.3.4:99;ob", []string{"<sip:path;lr>"}, Flow{}, 3)
	if len(d.CallID) < 16 || len(d.LocalTag) < 16 || d.LocalCSeq != 300000 || len(d.Local.Params) != 0 {
		t.Errorf("%+v", d)
	}
	out := d.NewRequest("INVITE", Body{})
	if out.CSeq != 300001 || d.LocalCSeq != 300001 || out.Dialog.LocalCSeq != 300001 {
		t.Errorf("%+v", out)
	}
	early := parsed[*Response](t, fmt.Sprintf(answer, 180, "t1", "Record-Route: <sip:r1;lr>, <sip:r2;lr>\r\nRecord-Route: <sip:r3;lr>\r\nContact: <sip:e@5.6.7.8>\r\n"))
	d.Confirm(early)
	if d.RemoteTag != "t1" || fmt.Sprint(d.RouteSet) != "[<sip:r3;lr> <sip:r2;lr> <sip:r1;lr>]" || d.Target != "sip:e@5.6.7.8" {
		t.Errorf("early: %+v", d)
	}
	d.Confirm(parsed[*Response](t, fmt.Sprintf(answer, 200, "t2", "Contact: <sip:%61@5.6.7.8;p=%41>\r\n")))
	if d.RemoteTag != "t2" || len(d.RouteSet) != 0 || d.Target != "sip:%61@5.6.7.8;p=%41" {
		t.Errorf("settled: %+v", d)
	}
	d.Refresh(parsed[*Response](t, fmt.Sprintf(answer, 200, "t2", "Contact: <sip:new@9.9.9.9>\r\n")))
	d.Refresh(parsed[*Response](t, fmt.Sprintf(answer, 200, "t2", "")))
	if d.Target != "sip:new@9.9.9.9" {
		t.Errorf("refreshed: %s", d.Target)
	}
}

func TestDialogReceives(t *testing.T) {
	d := Dialog{Target: "sip:old@h"}
	request := func(method string, cseq int, contact string) *Request {
		return parsed[*Request](t, msg{method: method, cseq: cseq, toTag: "x", headers: []string{"Contact: <" + contact + ">"}}.String())
	}
	for _, c := range []struct {
		method string
		cseq   int
		fails  bool
		target string
	}{
		{"INVITE", 7, false, "sip:1@h"},
		{"INVITE", 7, true, "sip:1@h"},
		{"BYE", 6, true, "sip:1@h"},
		{"INFO", 8, false, "sip:1@h"},
		{"UPDATE", 9, false, "sip:5@h"},
		{"REFER", 300, false, "sip:5@h"},
	} {
		err := d.Receive(request(c.method, c.cseq, fmt.Sprintf("sip:%d@h", map[string]int{"UPDATE": 5}[c.method]+map[bool]int{true: 1}[c.method == "INVITE"])))
		if errors.Is(err, ErrCSeq) != c.fails || d.Target != c.target {
			t.Errorf("%s %d: %v, target %s", c.method, c.cseq, err, d.Target)
		}
	}
	if d.Flow.Transport != "udp" || d.RemoteCSeq != 300 {
		t.Errorf("%+v", d)
	}
}

func TestDialogIsAPlainValue(t *testing.T) {
	us, _ := ParseNameAddr(`"Ü \"q\"" <sip:us@[2001:db8::1]:99;transport=tcp>`)
	d := NewDialog(us, us, "sip:x@h", []string{"<sip:r;lr>"}, Flow{Transport: "tcp", ID: 1 << 63}, 1)
	data, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var back Dialog
	if err := json.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(d, back) {
		t.Errorf("%+v, %v", back, err)
	}
}

func TestNothingBreaksOutOfAHeader(t *testing.T) {
	a := start(t)
	local := NameAddr{Name: "x\r\nEvil: 1", URI: URI{Scheme: "sip", User: "a\r\nEvil: 2", Host: "h"}}
	d := NewDialog(local, local, "sip:b@h", nil, Flow{Transport: "udp", Local: a.Addrs()["udp"]}, 0)
	out := d.NewRequest("INVITE", Body{}, Header{"X", "y\r\nEvil: 3"}, Header{"Evil: 4\r\nX", "y"}, Header{"Via", "Evil"}, Header{"l", "7"})
	dr, err := a.draft(out)
	if err != nil {
		t.Fatal(err)
	}
	raw := string(a.bytes(dr))
	if strings.Contains(raw, "\nEvil") || strings.Contains(raw, "Via: Evil") || strings.Count(raw, "Content-Length") != 1 {
		t.Errorf("%s", raw)
	}
	if _, err := ParseRequest([]byte(raw)); err != nil {
		t.Errorf("our own request: %v\n%s", err, raw)
	}
}

// A route set whose first hop is a strict router: the in-dialog request, its CANCEL and the ACKs of both kinds all have the
// router as their Request-URI and the target last (RFC 3261 §12.2.1.1, §9.1, §17.1.1.3, §13.2.2.4).
func TestStrictRouterFirst(t *testing.T) {
	a := start(t)
	d, _ := call2(Flow{Transport: "udp", Local: a.Addrs()["udp"]})
	d.Target, d.RemoteTag, d.RouteSet = "sip:bob@h;x=1", "bt", []string{"<sip:strict;transport=udp>", "<sip:loose;lr>", "<sip:inner>"}
	out := d.NewRequest("INVITE", Body{})
	dr, err := a.draft(out)
	if err != nil {
		t.Fatal(err)
	}
	ack, err := a.ack(d, out.CSeq, Body{})
	if err != nil {
		t.Fatal(err)
	}
	refusal := parsed[*Response](t, fmt.Sprintf(answer, 486, "bt", ""))
	for name, raw := range map[string][]byte{"INVITE": a.bytes(dr), "CANCEL": a.cancel(dr), "ACK of 486": a.ackOf(dr, refusal), "ACK of 200": ack} {
		r := parsed[*Request](t, string(raw))
		if r.RequestURI().String() != "sip:strict;transport=udp" || fmt.Sprint(r.Headers("Route")) != "[<sip:loose;lr> <sip:inner> <sip:bob@h;x=1>]" {
			t.Errorf("%s %s %v", name, r.RequestURI(), r.Headers("Route"))
		}
		if same := r.via.branch() == dr.branch; same == (name == "ACK of 200") {
			t.Errorf("%s has the branch %s, the INVITE %s", name, r.via.branch(), dr.branch)
		}
	}
}

// A request that has come through a strict router has its target in the last Route (RFC 3261 §16.4); one of another host is
// not followed, and where the Request-URI names somebody he is meant.
func TestThroughAStrictRouter(t *testing.T) {
	got := make(chan string, 9)
	a := start(t, inviting(func(x *Exchange) {
		got <- x.RequestURI().String()
		_ = x.Respond(Reply{Code: 480})
	}))
	for _, c := range []struct{ uri, route, want string }{
		{"sip:example.com", "<sip:bob@example.com>", "sip:bob@example.com"},
		{"sip:127.0.0.1:5060;lr", "<sip:p.example.com;lr>, <sip:102@127.0.0.1?X=y>", "sip:102@127.0.0.1"},
		{"sip:example.com", "<sip:bob@evil.example>", "sip:example.com"},
		{"sip:bob@example.com", "<sip:carol@example.com>", "sip:bob@example.com"},
		{"sip:evil.example", "<sip:bob@example.com>", "sip:evil.example"},
		{"sip:example.com", "<sip:example.com;lr>", "sip:example.com"},
	} {
		w := dial(t, "udp", "", a.Addrs()["udp"])
		w.authenticated(msg{method: "INVITE", uri: c.uri, callID: random(8), headers: []string{"Route: " + c.route}})
		w.final()
		if uri := receive(t, "INVITE", got); uri != c.want {
			t.Errorf("%s with Route %s is for %s, want %s", c.uri, c.route, uri, c.want)
		}
	}
}
