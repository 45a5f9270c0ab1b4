package sip

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestReadSubscribe(t *testing.T) {
	for _, c := range []struct {
		event, expires  string
		kind, repeated  string
		lasts           time.Duration
		given, mistaken bool
	}{
		{"dialog", "3600", "dialog", "dialog", time.Hour, true, false},
		{" Dialog ; sla; ID=\"x1\" ", "0", "dialog", "Dialog;id=x1", 0, true, false},
		{"dialog;ma", "", "dialog", "dialog", 0, false, false},
		{"presence.winfo;id=7", "99999999999999999999", "presence.winfo", "presence.winfo;id=7", (1<<32 - 1) * time.Second, true, false},
		{"", " 60 ", "", "", time.Minute, true, false},
		{event: ";id=1", mistaken: true},
		{event: "a b", mistaken: true},
		{event: "dialog;id=", mistaken: true},
		{event: `dialog;id="a b"`, mistaken: true},
		{event: "dialog;id=1;id=2", mistaken: true},
		{event: "dialog", expires: "-1", mistaken: true},
		{event: "dialog", expires: "soon", mistaken: true},
		{event: "dialog", expires: "1.5", mistaken: true},
	} {
		raw := msg{method: "SUBSCRIBE", headers: []string{"Event: " + c.event, "Expires: " + c.expires}}.String()
		if c.event == "" {
			raw = strings.Replace(raw, "Event: \r\n", "", 1)
		}
		r, err := ParseRequest([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		s, err := ReadSubscribe(r)
		if (err != nil) != c.mistaken {
			t.Errorf("Event %q, Expires %q: %v", c.event, c.expires, err)
		}
		if err == nil && (s.Package != c.kind || s.Event != c.repeated || s.Expires != c.lasts || s.Given != c.given) {
			t.Errorf("Event %q, Expires %q: %+v", c.event, c.expires, s)
		}
	}
}

// FuzzSubscribe: an event that is accepted means the same after it was repeated, and stands on one line.
func FuzzSubscribe(f *testing.F) {
	f.Add("dialog;id=7;sla", "3600")
	f.Add("a.b ; ID = \"x\"", "00")
	f.Add(";", "18446744073709551616")
	f.Fuzz(func(t *testing.T, event, expires string) {
		name, p, err := parseEvent(event)
		if err == nil {
			again, q, err := parseEvent(name)
			id, _ := p.Get("id")
			same, _ := q.Get("id")
			if err != nil || again != name || id != same || strings.ContainsAny(name, "\r\n \t") {
				t.Errorf("%q → %q → %q (%v)", event, name, again, err)
			}
		}
		if d, err := parseSeconds(expires); err == nil && (d < 0 || d > (1<<32-1)*time.Second) {
			t.Errorf("%q → %v", expires, d)
		}
	})
}

// TestSubscriptionDialog: a 200 to SUBSCRIBE sets a dialog up, with its route, in which NOTIFYs go and SUBSCRIBEs come, the target
// being what the newest of them says.
func TestSubscriptionDialog(t *testing.T) {
	seen, later := make(chan *Exchange, 1), make(chan *Exchange, 1)
	a := start(t, handle("SUBSCRIBE", func(x *Exchange) {
		seen <- x
		_ = x.Respond(Reply{Code: 200, Headers: []Header{{"Expires", "60"}}})
	}), func(o *Options) { o.InDialog, o.Events = []string{"SUBSCRIBE"}, []string{"dialog", "message-summary"} })
	w := dial(t, "udp", "", a.Addrs()["udp"])
	m := w.authenticated(msg{method: "SUBSCRIBE", headers: []string{
		"o: dialog", "Contact: <sip:alice@127.0.0.1:9999>", "Record-Route: <sip:p1;lr>, <sip:p2;lr>",
	}})
	ok := w.expect(200)
	if got := fmt.Sprint(ok.Headers("Record-Route")); got != "[<sip:p1;lr> <sip:p2;lr>]" || ok.Header("Contact") == "" || ok.ToTag() == "" {
		t.Errorf("Record-Route %s, Contact %q", got, ok.Header("Contact"))
	}
	d := receive(t, "SUBSCRIBE", seen).Dialog(0)
	a.Attach(d, "alice", func(x *Exchange) {
		later <- x
		_ = x.Respond(Reply{Code: 200})
	})
	w.send(msg{
		method: "SUBSCRIBE", callID: m.callID, toTag: ok.ToTag(), cseq: 7,
		headers: []string{"Event: dialog", "Contact: <sip:alice@127.0.0.1:7777>", "Record-Route: <sip:evil;lr>"},
	}.String())
	w.expect(200)
	if err := d.Receive(receive(t, "in the dialog", later).Request); err != nil || d.Target != "sip:alice@127.0.0.1:7777" {
		t.Errorf("target %s: %v", d.Target, err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := a.Do(context.Background(), d.NewRequest("NOTIFY", Body{}, Header{"Event", "dialog"}))
		done <- err
	}()
	n := w.request()
	if got := fmt.Sprint(n.Headers("Route")); got != "[<sip:p1;lr> <sip:p2;lr>]" || n.RequestURI().Port != 7777 || n.FromTag() != ok.ToTag() || n.ToTag() != "ft" {
		t.Errorf("NOTIFY: Route %s, to %v", got, n.RequestURI())
	}
	answer := fmt.Sprintf("SIP/2.0 200 OK\r\nVia: %s\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: 1 NOTIFY\r\nContent-Length: 0\r\n\r\n",
		n.Header("Via"), n.Header("From"), n.Header("To"), n.callID)
	w.send(answer)
	if err := receive(t, "the NOTIFY's answer", done); err != nil {
		t.Error(err)
	}
	w.send(msg{method: "SUBSCRIBE", callID: m.callID, toTag: "none", cseq: 8}.String())
	w.expect(481)
}

// TestAllowEvents: what is served is told with a 489 and to OPTIONS (RFC 6665 §8.2.2, §8.3.2).
func TestAllowEvents(t *testing.T) {
	a := start(t, handle("SUBSCRIBE", func(x *Exchange) { _ = x.Respond(Reply{Code: 489}) }),
		func(o *Options) { o.Events = []string{"dialog", "message-summary"} })
	for method, code := range map[string]int{"SUBSCRIBE": 489, "NOTIFY": 489, "OPTIONS": 200} {
		w := dial(t, "udp", "", a.Addrs()["udp"])
		w.authenticated(msg{method: method, callID: random(4)})
		if r := w.final(); r.code != code || !slices.Equal(r.Headers("Allow-Events"), []string{"dialog", "message-summary"}) {
			t.Errorf("%s: %d, Allow-Events %q", method, r.code, r.Header("Allow-Events"))
		}
	}
}
