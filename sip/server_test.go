package sip

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// open serves dialogs attached to nobody in particular: INVITEs go to fn without a password's check being in the way.
func inviting(fn func(*Exchange)) func(*Options) { return handle("INVITE", fn) }

func TestOrderInviteCancel(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			var cancelled atomic.Int32
			a := start(t, inviting(func(x *Exchange) {
				x.Watch(Watch{Cancelled: func() { cancelled.Add(1) }})
				_ = x.Respond(Reply{Code: 180})
			}))
			w := dial(t, network, "", a.Addrs()[network])
			w.send(msg{method: "INVITE", transport: network}.String())
			nonce := nonceOf(w.expect(401))
			const n = 2000
			refused := 0
			for i := range n {
				m := msg{method: "INVITE", callID: random(8), cseq: 2, transport: network, branch: magic + random(8)}
				m.headers = []string{login{user: "alice", password: "pw", method: "INVITE", nc: i + 1}.header(nonce)}
				c := m
				c.method, c.headers = "CANCEL", nil
				if network == "tcp" {
					w.send(m.String() + c.String())
				} else {
					w.send(m.String())
					w.send(c.String())
				}
				codes := map[string]int{}
				for codes["INVITE"] < 200 || codes["CANCEL"] == 0 {
					r := w.response()
					codes[r.method] = r.code
				}
				if codes["INVITE"] != 487 || codes["CANCEL"] != 200 {
					refused++
				}
				ack := m
				ack.method, ack.headers = "ACK", nil
				w.send(ack.String())
			}
			if refused != 0 {
				t.Errorf("%d of %d CANCELs found no INVITE", refused, n)
			}
			soon(t, "all cancelled", func() bool { return cancelled.Load() == n })
			soon(t, "transactions forgotten", func() bool { return a.tables() == 0 })
		})
	}
}

func TestInDialogOrder(t *testing.T) {
	type seen struct{ cseq uint32 }
	got := make(chan seen, 6000)
	a := start(t)
	w := dial(t, "tcp", "", a.Addrs()["tcp"])
	d := Dialog{CallID: "cid", LocalTag: "lt", RemoteTag: "ft", Flow: Flow{Transport: "udp", Remote: a.Addrs()["udp"]}}
	a.Attach(d, "alice", func(x *Exchange) {
		got <- seen{x.CSeq()}
		_ = x.Respond(Reply{Code: 200})
	})
	go func() { // the answers must be read
		for {
			if _, err := w.read(5 * time.Second); err != nil {
				return
			}
		}
	}()
	for i := range 500 {
		var b strings.Builder
		for j := range 10 {
			b.WriteString(msg{method: "INFO", toTag: "lt", cseq: 10*i + j + 1, transport: "TCP"}.String())
		}
		w.send(b.String())
		for j := range 10 {
			if s := receive(t, "INFO", got); s.cseq != uint32(10*i+j+1) {
				t.Fatalf("CSeq %d, want %d", s.cseq, 10*i+j+1)
			}
		}
	}
	a.Detach(d.ID())
}

func TestInviteAnswered(t *testing.T) {
	acked, exchange := make(chan Body, 5), make(chan *Exchange, 1)
	a := start(t, inviting(func(x *Exchange) {
		exchange <- x
		_ = x.Respond(Reply{Code: 180})
	}))
	w := dial(t, "udp", "", a.Addrs()["udp"])
	m := w.authenticated(msg{method: "INVITE", body: "offer", headers: []string{"Record-Route: <sip:p1;lr>,<sip:p2;lr>"}})
	w.expect(100)
	ringing := w.expect(180)
	x := receive(t, "INVITE", exchange)
	if ringing.ToTag() != x.LocalTag() || ringing.Header("Contact") != fmt.Sprintf("<sip:bob@127.0.0.1:%d>", a.Addrs()["udp"].Port()) {
		t.Errorf("180 has tag %q, Contact %q", ringing.ToTag(), ringing.Header("Contact"))
	}
	w.send(m.String()) // a repeat gets the last answer
	w.expect(180)

	begin := time.Now()
	if err := x.Respond(Reply{Code: 200, Body: Body{typeSDP, []byte("answer")}}); err != nil {
		t.Fatal(err)
	}
	if err := x.Respond(Reply{Code: 486}); !errors.Is(err, ErrAnswered) {
		t.Errorf("second final answer: %v", err)
	}
	x.Watch(Watch{Acked: func(b Body) { acked <- b }})
	ok := w.expect(200)
	if fmt.Sprint(ok.Headers("Record-Route")) != "[<sip:p1;lr> <sip:p2;lr>]" || string(ok.Body().Data) != "answer" || ok.Header("Allow") == "" {
		t.Errorf("200: %+v", ok)
	}
	for range 3 { // T1, 2·T1, 4·T1
		w.expect(200)
	}
	if took := time.Since(begin); took < 7*quick.t1 {
		t.Errorf("three repeats within %v", took)
	}
	ack := msg{method: "ACK", toTag: x.LocalTag(), cseq: m.cseq, body: "late answer"}
	w.send(ack.String())
	w.send(ack.String())
	if b := receive(t, "ACK", acked); string(b.Data) != "late answer" {
		t.Errorf("ACK has body %q", b.Data)
	}
	w.send(m.String()) // absorbed
	for {              // a repeat of the 200 may have crossed the ACK
		if data, err := w.read(10 * quick.t1); err == errQuiet {
			break
		} else if statusOf(t, data) != 200 {
			t.Fatalf("%s", data)
		}
	}
	if len(acked) != 0 {
		t.Error("Acked was told twice")
	}
	d := x.Dialog(2)
	if d.ID() != (DialogID{"cid", x.LocalTag(), "ft"}) || d.LocalCSeq != 200000 || d.RemoteCSeq != uint32(m.cseq) ||
		d.Target != "sip:alice@127.0.0.1:9999" || fmt.Sprint(d.RouteSet) != "[<sip:p1;lr> <sip:p2;lr>]" || d.Local.URI.User != "bob" {
		t.Errorf("%+v", d)
	}
	soon(t, "transaction forgotten", func() bool { return a.tables() == 0 })
}

func TestInviteNeverAcked(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		unacked := make(chan time.Duration, 2)
		a := start(t, inviting(func(x *Exchange) {
			begin := time.Now()
			x.Watch(Watch{Unacked: func() { unacked <- time.Since(begin) }})
			_ = x.Respond(Reply{Code: 200})
		}))
		w := dial(t, network, "", a.Addrs()[network])
		w.authenticated(msg{method: "INVITE", transport: network})
		if after := receive(t, network+": Unacked", unacked); after < quick.life() || after > 3*quick.life() {
			t.Errorf("%s: told after %v, want %v", network, after, quick.life())
		}
		n := 0
		for {
			data, err := w.read(quick.t2 * 2)
			if err != nil {
				break
			}
			if statusOf(t, data) == 200 {
				n++
			}
		}
		// 0, 1, 3, 7, 15 T1, then every 8 T1 until 64.
		if n < 6 || n > 11 { // a busy machine sends fewer
			t.Errorf("%s: the 200 was sent %d times", network, n)
		}
		soon(t, "transaction forgotten", func() bool { return a.tables() == 0 })
	}
}

// What happened before Watch is told at Watch.
func TestWatchComesLate(t *testing.T) {
	exchange := make(chan *Exchange, 1)
	a := start(t, inviting(func(x *Exchange) { exchange <- x }))
	for _, what := range []string{"cancelled", "acked", "unacked"} {
		w := dial(t, "udp", "", a.Addrs()["udp"])
		m := w.authenticated(msg{method: "INVITE", callID: what})
		w.expect(100)
		x := receive(t, "INVITE", exchange)
		switch what {
		case "cancelled":
			m.method = "CANCEL"
			w.send(m.String())
			w.final()
			w.final()
		case "acked":
			_ = x.Respond(Reply{Code: 200})
			w.expect(200)
			w.send(msg{method: "ACK", callID: what, toTag: x.LocalTag(), cseq: m.cseq}.String())
			w.send(msg{method: "OPTIONS", callID: what, branch: magic + "behind"}.String()) // on the same queue
			for w.response().method != "OPTIONS" {
			}
		case "unacked":
			_ = x.Respond(Reply{Code: 200})
			soon(t, "given up", func() bool { x.tx.mu.Lock(); defer x.tx.mu.Unlock(); return x.tx.state == ended })
		}
		told := make(chan string, 5)
		x.Watch(Watch{
			Cancelled: func() { told <- "cancelled" }, Acked: func(Body) { told <- "acked" },
			Unacked: func() { told <- "unacked" },
		})
		if got := receive(t, what, told); got != what || len(told) != 0 {
			t.Errorf("told %s, want %s", got, what)
		}
		x.tx.mu.Lock()
		if x.tx.watch != nil { // a call would live as long as the transaction
			t.Errorf("%s: who has been told all is still held", what)
		}
		x.tx.mu.Unlock()
	}
}

// An answered request costs its answer, not the request.
func TestAnsweredRequestsAreSmall(t *testing.T) {
	a := start(t)
	a.timing = timing{timerT1, timerT2, timerC, cancelWait}
	w := dial(t, "udp", "", a.Addrs()["udp"])
	local, _ := addrOf(w)
	flow := Flow{Transport: "udp", Local: a.Addrs()["udp"], Remote: local}
	const n = 2000
	var done atomic.Int32
	a.Attach(Dialog{CallID: "cid", LocalTag: "lt", RemoteTag: "ft", Flow: flow}, "", func(x *Exchange) {
		_ = x.Respond(Reply{Code: 200})
		done.Add(1)
	})
	before := heap()
	for i := range n {
		a.receive([]byte(msg{method: "INFO", toTag: "lt", cseq: i + 1, body: strings.Repeat("a=x\r\n", 200)}.String()), flow)
		soon(t, "answer", func() bool { return done.Load() == int32(i+1) })
	}
	each := (int64(heap()) - int64(before)) / n
	t.Logf("%d bytes each", each)
	if each > 800 {
		t.Errorf("an answered request keeps %d bytes", each)
	}
}

func TestRefusalIsRepeatedUntilAck(t *testing.T) {
	a := start(t, inviting(func(x *Exchange) { _ = x.Respond(Reply{Code: 486}) }))
	w := dial(t, "udp", "", a.Addrs()["udp"])
	m := w.authenticated(msg{method: "INVITE"})
	w.expect(100)
	tag := w.expect(486).ToTag()
	if w.expect(486).ToTag() != tag {
		t.Error("the repeat has another tag")
	}
	m.method, m.headers, m.toTag = "ACK", nil, tag
	w.send(m.String())
	for {
		if _, err := w.read(6 * quick.t1); err == errQuiet {
			break
		}
	}
	soon(t, "transaction forgotten", func() bool { return a.tables() == 0 })
}

func TestCancelAgainstFinal(t *testing.T) {
	for i := range 200 { // whichever is first, there is one final answer
		var cancelled atomic.Bool
		exchange := make(chan *Exchange, 1)
		a := start(t, inviting(func(x *Exchange) {
			x.Watch(Watch{Cancelled: func() { cancelled.Store(true) }})
			exchange <- x
		}))
		w := dial(t, "udp", "", a.Addrs()["udp"])
		m := w.authenticated(msg{method: "INVITE"})
		w.expect(100)
		x := receive(t, "INVITE", exchange)
		c := m
		c.method, c.headers = "CANCEL", nil
		done := make(chan error)
		go func() { done <- x.Respond(Reply{Code: 200}) }()
		w.send(c.String())
		err := <-done
		codes := map[string]int{}
		for codes["INVITE"] < 200 || codes["CANCEL"] == 0 {
			r := w.response()
			codes[r.method] = r.code
		}
		if err == nil && (codes["INVITE"] != 200 || cancelled.Load()) || err != nil && codes["INVITE"] != 487 || codes["CANCEL"] != 200 {
			t.Fatalf("%d: Respond: %v, answers %v, cancelled %v", i, err, codes, cancelled.Load())
		}
		if i >= 20 && err != nil {
			break
		}
	}
}

func TestCancelFromElsewhereFindsNothing(t *testing.T) {
	a := start(t, inviting(func(x *Exchange) { _ = x.Respond(Reply{Code: 180}) }))
	w := dial(t, "udp", "", a.Addrs()["udp"])
	m := w.authenticated(msg{method: "INVITE"})
	w.expect(100)
	w.expect(180)
	m.method, m.headers = "CANCEL", nil
	other := dial(t, "udp", "127.0.0.2", a.Addrs()["udp"])
	other.send(m.String())
	other.expect(481)
	w.quiet(30 * time.Millisecond)
}

func TestMergedInviteIsALoop(t *testing.T) {
	a := start(t, inviting(func(x *Exchange) { _ = x.Respond(Reply{Code: 180}) }))
	w := dial(t, "udp", "", a.Addrs()["udp"])
	m := w.authenticated(msg{method: "INVITE"})
	w.expect(100)
	w.expect(180)
	m.branch = magic + "another way"[:7]
	w.send(m.String())
	w.expect(482)
}

func TestInDialogFromElsewhere(t *testing.T) {
	got := make(chan *Exchange, 5)
	a := start(t, func(o *Options) {
		o.Listen.UDP = "0.0.0.0:0"
		o.Credentials = many{"alice": "alice", "101": "alice", "eve": "eve"}
	})
	to := a.Addrs()["udp"]
	w := dial(t, "udp", "", loopback(to))
	local, _ := addrOf(w)
	d := Dialog{CallID: "cid", LocalTag: "lt", RemoteTag: "ft", Flow: Flow{Transport: "udp", Local: to, Remote: local}}
	a.Attach(d, "alice", func(x *Exchange) {
		got <- x
		_ = x.Respond(Reply{Code: 200})
	})
	bye := func(cseq int) msg { return msg{method: "BYE", toTag: "lt", cseq: cseq} }
	other := dial(t, "udp", "127.0.0.3", loopback(to))
	other.send(bye(1).String())
	nonce := nonceOf(other.expect(401))
	m := bye(2)
	m.headers = []string{login{user: "eve", password: "pw", method: "BYE"}.header(nonce)}
	other.send(m.String())
	other.expect(403)
	m = bye(3)
	m.headers = []string{login{user: "alice", password: "pw", method: "BYE", nc: 2}.header(nonce)}
	other.send(m.String())
	other.expect(200)
	if x := receive(t, "BYE", got); x.User() != "alice" {
		t.Errorf("user %q", x.User())
	}
	w.send(bye(4).String()) // from where the peer is: no password asked
	w.expect(200)
	if x := receive(t, "BYE", got); x.User() != "" {
		t.Errorf("user %q", x.User())
	}
	w.send(msg{method: "PUBLISH", toTag: "lt", cseq: 5}.String())
	w.expect(405)
	a.Detach(d.ID())
	w.send(bye(6).String())
	w.expect(481)
}

// many is a Credentials with several users, all with the password "pw".
type many map[string]string

func (m many) Secret(login string) (Secret, bool) {
	user, ok := m[login]
	return Secret{User: user, Identities: []string{user, "alice"}, MD5: md5hex(login + ":" + testRealm + ":pw")}, ok
}

func TestPanicKillsOneRequestOnly(t *testing.T) {
	a := start(t, inviting(func(x *Exchange) { panic("test") }))
	w := dial(t, "udp", "", a.Addrs()["udp"])
	w.authenticated(msg{method: "INVITE"})
	w.expect(100)
	w.expect(500)
	w.send(probe("UDP"))
	for w.response().CallID() != "probe" {
	}
}

func TestUnansweredRequestIsForgotten(t *testing.T) {
	late := make(chan *Exchange, 1)
	a := start(t, handle("REGISTER", func(x *Exchange) { late <- x }))
	w := dial(t, "udp", "", a.Addrs()["udp"])
	w.authenticated(msg{method: "REGISTER"})
	x := receive(t, "REGISTER", late)
	soon(t, "transaction forgotten", func() bool { return a.tables() == 0 })
	if err := x.Respond(Reply{Code: 200}); !errors.Is(err, ErrAnswered) {
		t.Errorf("answer after its time: %v", err)
	}
}

func TestAnswersGoToTheSource(t *testing.T) {
	a := start(t)
	w := dial(t, "udp", "127.0.0.4", a.Addrs()["udp"])
	local, port := addrOf(w)
	for via, want := range map[string]string{
		"SIP/2.0/UDP 255.255.255.255:9;branch=z9hG4bK1;maddr=224.0.0.1": "received=127.0.0.4",
		"SIP/2.0/UDP 127.0.0.4;branch=z9hG4bK2;rport":                   fmt.Sprintf("rport=%d;received=127.0.0.4", port),
		"SIP/2.0/UDP 127.0.0.4;branch=z9hG4bK3":                         "branch=z9hG4bK3",
		"SIP/2.0/UDP h.invalid;received=1.2.3.4;branch=z9hG4bK4":        "received=127.0.0.4",
	} {
		w.send(msg{method: "OPTIONS", via: via}.String())
		if v := w.expect(401).Header("Via"); !strings.Contains(v, want) || strings.Contains(v, "1.2.3.4") {
			t.Errorf("%s from %v: %s", via, local, v)
		}
	}
}
