package sip

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// pracker is a caller whose INVITE is under way at an agent, and what its handler holds of it.
type pracker struct {
	*wire
	t      *testing.T
	agent  *Agent
	invite msg
	x      *Exchange
	events chan string
	pracks chan *Exchange
}

// newPracker sends an INVITE with these headers; its dialog is attached as soon as it is taken.
func newPracker(t *testing.T, body string, headers ...string) *pracker {
	p := &pracker{t: t, events: make(chan string, 9), pracks: make(chan *Exchange, 9)}
	taken := make(chan *Exchange, 1)
	p.agent = start(t, inviting(func(x *Exchange) {
		x.Watch(Watch{
			Cancelled: func() { p.events <- "cancelled" }, Acked: func(Body) { p.events <- "acked" },
			Unacked: func() { p.events <- "unacked" },
		})
		taken <- x
	}))
	p.wire = dial(t, "udp", "", p.agent.Addrs()["udp"])
	p.invite = p.authenticated(msg{method: "INVITE", body: body, headers: headers})
	p.x = receive(t, "INVITE", taken)
	p.agent.Attach(p.x.Dialog(1), "alice", func(x *Exchange) {
		p.pracks <- x
		_ = x.Respond(Reply{Code: 200})
	})
	p.expect(100)
	return p
}

func (p *pracker) respond(code int, body string) {
	p.t.Helper()
	rep := Reply{Code: code}
	if body != "" {
		rep.Body = Body{typeSDP, []byte(body)}
	}
	if err := p.x.Respond(rep); err != nil {
		p.t.Fatal(err)
	}
}

// prack acknowledges an answer.
func (p *pracker) prack(r *Response, cseq int) msg {
	m := msg{method: "PRACK", toTag: r.ToTag(), cseq: cseq, branch: magic + random(8)}
	m.headers = []string{fmt.Sprintf("RAck: %s %d INVITE", r.Header("RSeq"), p.invite.cseq)}
	p.send(m.String())
	return m
}

func (p *pracker) ack(tag string) {
	p.send(msg{method: "ACK", toTag: tag, cseq: p.invite.cseq}.String())
}

// next is the next answer above 100 that is no repeat of an earlier one.
func (p *pracker) next(code int, seen ...*Response) *Response {
	p.t.Helper()
	for range 20 {
		r := p.response()
		again := slices.ContainsFunc(seen, func(s *Response) bool {
			return s.code == r.code && s.Header("RSeq") == r.Header("RSeq") && s.method == r.method
		})
		if again {
			continue
		}
		if r.code != code {
			p.t.Fatalf("got %d %s of %s, want %d", r.code, r.reason, r.method, code)
		}
		return r
	}
	p.t.Fatalf("no %d", code)
	return nil
}

// TestReliableWhere holds which provisional answers are sent reliably (RFC 3262 §3): all if it is required, those with a
// session if it is supported, else none.
func TestReliableWhere(t *testing.T) {
	for _, c := range []struct {
		header   string
		ringing  bool
		progress bool
	}{
		{"Require: 100rel", true, true}, {"Supported: timer, 100rel", false, true}, {"Supported: timer", false, false}, {"k: 100rel", false, true},
	} {
		t.Run(c.header, func(t *testing.T) {
			p := newPracker(t, "v=0\r\n", c.header)
			p.respond(180, "")
			ringing := p.next(180)
			if ringing.RSeq() != 0 != c.ringing {
				t.Errorf("180 has RSeq %q and Require %q", ringing.Header("RSeq"), ringing.Header("Require"))
			}
			if c.ringing {
				p.prack(ringing, 3)
				p.next(200, ringing)
			}
			p.respond(183, "v=0\r\n")
			progress := p.next(183, ringing)
			if progress.RSeq() != 0 != c.progress {
				t.Errorf("183 has RSeq %q and Require %q", progress.Header("RSeq"), progress.Header("Require"))
			}
			if c.ringing && progress.RSeq() != ringing.RSeq()+1 {
				t.Errorf("RSeq %d after %d", progress.RSeq(), ringing.RSeq())
			}
			p.respond(486, "")
		})
	}
}

// TestReliableInTurn holds that an answer waits for the PRACK of the one before it, a 2xx for that of a session, and that
// each is repeated meanwhile.
func TestReliableInTurn(t *testing.T) {
	p := newPracker(t, "v=0\r\n", "Require: 100rel")
	p.respond(183, "v=0\r\n")
	p.respond(180, "")
	p.respond(200, "v=0\r\n")
	if err := p.x.Respond(Reply{Code: 486}); err == nil {
		t.Error("a second final answer was taken while the first one waited")
	}
	first := p.next(183)
	for range 2 { // repeated, nothing overtakes it
		if r := p.response(); r.code != 183 || r.RSeq() != first.RSeq() {
			t.Fatalf("%d %q overtook", r.code, r.Header("RSeq"))
		}
	}
	p.prack(first, 3)
	if r := p.next(200, first); r.method != "PRACK" {
		t.Fatalf("200 of %s before the PRACK's", r.method)
	}
	// The 180 carries no session: the 200 does not wait for its PRACK, which is taken all the same.
	second := p.next(180, first)
	ok := p.next(200, first, second)
	if ok.method != "INVITE" || second.RSeq() != first.RSeq()+1 {
		t.Errorf("%s 200, RSeq %d after %d", ok.method, second.RSeq(), first.RSeq())
	}
	p.prack(second, 4)
	for r := p.response(); r.method != "PRACK"; r = p.response() {
		if r.code != 200 {
			t.Errorf("got %d after the 200", r.code)
		}
	}
	p.ack(ok.ToTag())
	if e := receive(t, "ACK", p.events); e != "acked" {
		t.Error(e)
	}
	soon(t, "all forgotten", func() bool { return p.agent.tables() == 1 }) // the dialog
}

// TestPrackOfNothing holds that a PRACK for what was not sent, or for what has its PRACK, is refused, and a repeated one
// answered again.
func TestPrackOfNothing(t *testing.T) {
	p := newPracker(t, "v=0\r\n", "Require: 100rel")
	p.respond(180, "")
	r := p.next(180)
	bad := msg{method: "PRACK", toTag: r.ToTag(), cseq: 3}
	for header, code := range map[string]int{
		"RAck: 1 2 INVITE": 481, "RAck: " + r.Header("RSeq") + " 77 INVITE": 481, "RAck: x": 400, "X-None: 1": 400,
		"RAck: " + r.Header("RSeq") + " 2 UPDATE": 400,
	} {
		bad.headers = []string{header}
		p.send(bad.String())
		if got := p.next(code, r); got.method != "PRACK" {
			t.Errorf("%s: %s", header, got.method)
		}
	}
	good := p.prack(r, 4)
	p.next(200, r)
	p.send(good.String())
	if again := p.next(200, r); again.method != "PRACK" {
		t.Errorf("200 of %s", again.method)
	}
	p.prack(r, 5)
	p.next(481, r)
	if n := len(p.pracks); n != 1 {
		t.Errorf("%d PRACKs reached the dialog, want 1", n)
	}
	p.quiet(100 * time.Millisecond) // the 180 is repeated no more
	p.respond(486, "")
}

// TestNoPrack holds that an INVITE whose PRACK never comes is refused, with its watcher told.
func TestNoPrack(t *testing.T) {
	p := newPracker(t, "v=0\r\n", "Require: 100rel")
	p.respond(183, "v=0\r\n")
	p.respond(200, "v=0\r\n")
	first := p.next(183)
	began := time.Now()
	p.next(504, first)
	if d := time.Since(began); d < quick.life()/2 {
		t.Errorf("refused after %s already", d)
	}
	if e := receive(t, "news", p.events); e != "cancelled" {
		t.Error(e)
	}
}

// TestCancelWhileReliable holds that a CANCEL wins against a 2xx that waits for its PRACK.
func TestCancelWhileReliable(t *testing.T) {
	p := newPracker(t, "v=0\r\n", "Supported: 100rel")
	p.respond(183, "v=0\r\n")
	p.respond(200, "v=0\r\n")
	first := p.next(183)
	cancel := p.invite
	cancel.method, cancel.headers, cancel.body = "CANCEL", nil, ""
	p.send(cancel.String())
	codes := map[string]int{}
	for len(codes) < 2 {
		if r := p.response(); r.code >= 200 {
			codes[r.method] = r.code
		}
	}
	if codes["CANCEL"] != 200 || codes["INVITE"] != 487 {
		t.Errorf("answers %v", codes)
	}
	p.prack(first, 3)
	for r := p.response(); r.method != "PRACK"; r = p.response() {
		if r.code == 200 && r.method == "INVITE" {
			t.Error("the 200 was sent after the CANCEL")
		}
	}
	if e := receive(t, "news", p.events); e != "cancelled" {
		t.Error(e)
	}
}

// TestReliableTold holds that the caller is told each reliable answer once and in order, by dialog (RFC 3262 §4).
func TestReliableTold(t *testing.T) {
	a := start(t)
	dev := newDevice(t, a, "udp")
	d, out := call2(dev.flow)
	told := make(chan string, 20)
	done := make(chan result, 1)
	go func() {
		r, err := a.Invite(context.Background(), out, func(r *Response) {
			told <- fmt.Sprintf("%d %s %s", r.Code(), r.ToTag(), RAck(r).Value)
		})
		done <- result{r, err}
	}()
	r := dev.next("INVITE")
	say := func(code int, tag string, seq string) {
		if seq == "" {
			dev.answer(r, code, tag)
			return
		}
		dev.answer(r, code, tag, "Require: 100rel", "RSeq: "+seq)
	}
	say(180, "a", "7")
	say(180, "a", "7") // repeated
	say(183, "a", "9") // one is missing
	say(183, "b", "4") // another fork has numbers of its own
	say(183, "a", "8")
	say(180, "a", "") // not reliable
	say(183, "a", "9")
	dev.answer(r, 180, "", "Require: 100rel", "RSeq: 10") // no dialog, nothing to acknowledge
	say(200, "a", "")
	res := receive(t, "200", done)
	if res.err != nil {
		t.Fatal(res.err)
	}
	d.Confirm(res.r)
	if err := a.Ack(d, out, Body{}); err != nil {
		t.Error(err)
	}
	want := []string{"180 a 7 100001 INVITE", "183 b 4 100001 INVITE", "183 a 8 100001 INVITE", "180 a 0 100001 INVITE", "183 a 9 100001 INVITE", "180  0 100001 INVITE"}
	for _, w := range want {
		if got := receive(t, w, told); got != w {
			t.Errorf("told %q, want %q", got, w)
		}
	}
}

func TestSessionExpires(t *testing.T) {
	for _, c := range []struct {
		header string
		want   SessionExpires
		there  bool
		bad    bool
	}{
		{"", SessionExpires{}, false, false},
		{"Session-Expires: 1800;refresher=uac\r\n", SessionExpires{1800 * time.Second, "uac"}, true, false},
		{"x: 90 ; refresher = uas\r\n", SessionExpires{90 * time.Second, "uas"}, true, false},
		{"Session-Expires: 90;foo\r\n", SessionExpires{90 * time.Second, ""}, true, false},
		{"Session-Expires: 90;refresher=me\r\n", SessionExpires{}, true, true},
		{"Session-Expires: -5\r\n", SessionExpires{}, true, true},
		{"Session-Expires: 99999999999\r\n", SessionExpires{}, true, true},
	} {
		r, err := ParseRequest([]byte(strings.Replace(msg{method: "INVITE"}.String(), "CSeq", c.header+"Min-SE: 120\r\nCSeq", 1)))
		if err != nil {
			t.Fatal(err)
		}
		got, there, err := r.SessionExpires()
		if there != c.there || err != nil != c.bad || !c.bad && got != c.want {
			t.Errorf("%q: %+v %v %v", c.header, got, there, err)
		}
		if r.MinSE() != 2*time.Minute {
			t.Errorf("Min-SE %s", r.MinSE())
		}
	}
}
