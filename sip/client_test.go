package sip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// device is a wire that an agent calls: a UDP socket, or a TCP connection it has opened.
type device struct {
	*wire
	flow Flow
}

func newDevice(t *testing.T, a *Agent, network string) device {
	t.Helper()
	w := dial(t, network, "", a.Addrs()[network])
	local, _ := addrOf(w)
	f := Flow{Transport: network, Local: a.Addrs()[network], Remote: local}
	if network == "tcp" {
		soon(t, "connection known", func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			for _, s := range a.streams {
				if s.flow.Remote == local {
					f = s.flow
					return true
				}
			}
			return false
		})
	}
	return device{w, f}
}

// answer sends a response to a request; a tag is added to To.
func (d device) answer(r *Request, code int, tag string, headers ...string) {
	d.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "SIP/2.0 %d %s\r\nVia: %s\r\nFrom: %s\r\nTo: %s", code, StatusText(code), r.Header("Via"), r.Header("From"), r.Header("To"))
	if tag != "" && r.ToTag() == "" {
		b.WriteString(";tag=" + tag)
	}
	fmt.Fprintf(&b, "\r\nCall-ID: %s\r\nCSeq: %s\r\n", r.CallID(), r.Header("CSeq"))
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	b.WriteString("Content-Length: 0\r\n\r\n")
	d.send(b.String())
}

// next waits for the next request of a method, passing over repeats of others.
func (d device) next(method string) *Request {
	d.t.Helper()
	for range 50 {
		if r := d.request(); r.Method() == method {
			return r
		}
	}
	d.t.Fatalf("no %s among 50 requests", method)
	return nil
}

func call2(f Flow) (Dialog, Outgoing) {
	us, _ := ParseNameAddr(`"Alice" <sip:alice@example.com>`)
	peer, _ := ParseNameAddr("<sip:bob@example.com>")
	d := NewDialog(us, peer, "sip:bob@192.0.2.7:5066;ob", nil, f, 1)
	return d, d.NewRequest("INVITE", Body{typeSDP, []byte("v=0\r\n")}, Header{"X-Test", "1"})
}

// result is what an exchange came to.
type result struct {
	r   *Response
	err error
}

func invite(ctx context.Context, a *Agent, out Outgoing, codes chan int) chan result {
	done := make(chan result, 1)
	go func() {
		r, err := a.Invite(ctx, out, func(r *Response) {
			if codes != nil {
				codes <- r.Code()
			}
		})
		done <- result{r, err}
	}()
	return done
}

func TestInviteAccepted(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			a := start(t)
			dev := newDevice(t, a, network)
			d, out := call2(dev.flow)
			codes := make(chan int, 9)
			done := invite(context.Background(), a, out, codes)
			r := dev.next("INVITE")
			via := fmt.Sprintf("SIP/2.0/%s 127.0.0.1:%d;", strings.ToUpper(network), a.Addrs()[network].Port())
			if r.Header("X-Test") != "1" || r.CSeq() != 100001 || r.RequestURI().String() != "sip:bob@192.0.2.7:5066;ob" ||
				!strings.HasPrefix(r.Header("Via"), via) || r.Header("Allow") == "" || r.Header("Supported") != "replaces, 100rel, timer, norefersub, nosub" {
				t.Errorf("INVITE %+v", r)
			}
			if c, _ := r.Contact(); c.URI.String() != a.ContactURI(dev.flow, "alice").String() {
				t.Errorf("Contact %v", c)
			}
			dev.answer(r, 100, "")
			dev.answer(r, 180, "bt")
			dev.answer(r, 183, "bt")
			dev.answer(r, 200, "bt", "Contact: <sip:bob@192.0.2.7:99>", "Record-Route: <sip:p1;lr>, <sip:p2>")
			res := receive(t, "answer", done)
			if res.err != nil || res.r.Code() != 200 {
				t.Fatalf("%v %v", res.r, res.err)
			}
			if one, two := <-codes, <-codes; one != 180 || two != 183 || len(codes) != 0 {
				t.Errorf("told of %d, %d", one, two)
			}
			d.Confirm(res.r)
			dev.answer(r, 200, "bt") // a repeat before the ACK: nothing to say yet
			if err := a.Ack(d, out, Body{typeSDP, []byte("late")}); err != nil {
				t.Fatal(err)
			}
			ack := dev.next("ACK")
			if ack.CSeq() != out.CSeq || ack.RequestURI().String() != "sip:p2" || ack.ToTag() != "bt" || string(ack.Body().Data) != "late" ||
				fmt.Sprint(ack.Headers("Route")) != "[<sip:p1;lr> <sip:bob@192.0.2.7:99>]" || ack.via.branch() == r.via.branch() {
				t.Errorf("ACK %+v", ack)
			}
			dev.answer(r, 200, "bt")
			if again := dev.next("ACK"); again.via.branch() != ack.via.branch() {
				t.Error("the repeated 2xx gets another ACK")
			}
			bye := make(chan result, 1)
			go func() { r, err := a.Do(context.Background(), d.NewRequest("BYE", Body{})); bye <- result{r, err} }()
			b := dev.next("BYE")
			if b.CSeq() != 100002 || b.Header("Contact") != "" {
				t.Errorf("BYE %+v", b)
			}
			dev.answer(b, 200, "")
			if res := receive(t, "BYE's answer", bye); res.err != nil {
				t.Error(res.err)
			}
			soon(t, "transactions forgotten", func() bool { return a.tables() == 0 })
		})
	}
}

// Two messages in a row keep their order: no 183 is lost to the 200 behind it.
func TestProvisionalBeforeFinal(t *testing.T) {
	a := start(t)
	dev := newDevice(t, a, "udp")
	lost := 0
	for range 1000 {
		d, out := call2(dev.flow)
		codes := make(chan int, 9)
		done := invite(context.Background(), a, out, codes)
		r := dev.next("INVITE")
		dev.answer(r, 183, "x")
		dev.answer(r, 200, "x")
		res := receive(t, "answer", done)
		if res.err != nil {
			t.Fatal(res.err)
		}
		if len(codes) != 1 {
			lost++
		}
		d.Confirm(res.r)
		_ = a.Ack(d, out, Body{})
		dev.next("ACK")
	}
	if lost != 0 {
		t.Errorf("%d of 1000 183s were lost", lost)
	}
}

func TestInviteRefused(t *testing.T) {
	a := start(t)
	dev := newDevice(t, a, "udp")
	_, out := call2(dev.flow)
	done := invite(context.Background(), a, out, nil)
	r := dev.next("INVITE")
	dev.answer(r, 486, "bt", "Retry-After: 5")
	res := receive(t, "answer", done)
	var st *StatusError
	if !errors.As(res.err, &st) || st.Code != 486 || st.Error() != "486 Busy Here" || st.Response.Header("Retry-After") != "5" {
		t.Fatalf("%v", res.err)
	}
	if !strings.Contains(res.err.Error(), "sip:bob@192.0.2.7") {
		t.Errorf("the error does not say what was tried: %v", res.err)
	}
	ack := dev.next("ACK")
	if ack.via.branch() != r.via.branch() || ack.ToTag() != "bt" || ack.CSeq() != r.CSeq() {
		t.Errorf("ACK %+v", ack)
	}
	begin := time.Now()
	dev.answer(r, 486, "bt") // its ACK was lost
	dev.next("ACK")
	if took := time.Since(begin); took > time.Second {
		t.Errorf("the ACK was repeated after %v", took)
	}
}

// A challenge from a phone is a refusal: our passwords are for nobody who asks.
func TestChallengeIsNotAnswered(t *testing.T) {
	a := start(t)
	dev := newDevice(t, a, "udp")
	_, out := call2(dev.flow)
	done := invite(context.Background(), a, out, nil)
	r := dev.next("INVITE")
	dev.answer(r, 407, "bt", `Proxy-Authenticate: Digest realm="`+testRealm+`", nonce="x"`)
	var st *StatusError
	if res := receive(t, "answer", done); !errors.As(res.err, &st) || st.Code != 407 {
		t.Errorf("%v", res.err)
	}
	dev.next("ACK")
	dev.never("INVITE", 100*time.Millisecond)
}

// TestChallengesAreNeverAnswered wants one request to each, whoever challenges it with whatever: a node that answers
// challenges for ever and a phone that asks for ever would keep each other busy.
func TestChallengesAreNeverAnswered(t *testing.T) {
	a := start(t)
	for _, method := range []string{"OPTIONS", "NOTIFY", "BYE", "REFER", "MESSAGE"} {
		for code, name := range map[int]string{401: "WWW-Authenticate", 407: "Proxy-Authenticate"} {
			for _, stale := range []string{"", ", stale=true"} {
				dev := newDevice(t, a, "udp")
				d, _ := call2(dev.flow)
				done := make(chan error, 1)
				go func() {
					_, err := a.Do(context.Background(), d.NewRequest(method, Body{}))
					done <- err
				}()
				r := dev.next(method)
				if r.Header("Authorization") != "" || r.Header("Proxy-Authorization") != "" {
					t.Errorf("%s has credentials", method)
				}
				dev.answer(r, code, "bt", name+`: Digest realm="`+testRealm+`", nonce="x"`+stale)
				var st *StatusError
				if err := receive(t, "answer", done); !errors.As(err, &st) || st.Code != code {
					t.Errorf("%s answered %d: %v", method, code, err)
				}
				for data, err := dev.read(10 * time.Millisecond); err == nil; data, err = dev.read(10 * time.Millisecond) {
					again, err := ParseRequest(data) // a repeat may have been on its way
					if err != nil || again.via.branch() != r.via.branch() {
						t.Errorf("after the %d came\n%s", code, data)
					}
				}
			}
		}
	}
}

// TestProvisionalsWithoutEnd wants a peer's 1xx not to fill the memory while nobody reads them, and its final answer to
// be heard all the same.
func TestProvisionalsWithoutEnd(t *testing.T) {
	b := newInbox()
	for range 10_000 {
		b.put(&Response{code: 180})
	}
	for range 10_000 {
		b.put(&Response{code: 486})
	}
	all := b.take()
	if len(all) != maxMail || all[maxMail/2].code != 486 {
		t.Errorf("%d are kept, the middle one is %d", len(all), all[len(all)/2].code)
	}
}

func TestCancel(t *testing.T) {
	a := start(t)
	dev := newDevice(t, a, "udp")
	_, out := call2(dev.flow)
	ctx, cancel := context.WithCancelCause(context.Background())
	done := invite(ctx, a, out, nil)
	r := dev.next("INVITE")
	elsewhere := &CancelReason{200, `Call "completed" elsewhere`}
	cancel(elsewhere)
	dev.never("CANCEL", 3*quick.t1) // before a 1xx
	dev.answer(r, 180, "bt")
	c := dev.next("CANCEL")
	if c.via.branch() != r.via.branch() || c.CSeq() != r.CSeq() || c.ToTag() != "" || c.RequestURI().String() != r.RequestURI().String() ||
		c.Header("Reason") != `SIP;cause=200;text="Call \"completed\" elsewhere"` {
		t.Errorf("CANCEL %+v", c)
	}
	dev.answer(c, 200, "bt")
	dev.answer(r, 487, "bt")
	dev.next("ACK")
	if res := receive(t, "end", done); !errors.Is(res.err, elsewhere) {
		t.Errorf("%v", res.err)
	}
}

func TestAnswerCrossesCancel(t *testing.T) {
	for _, wait := range []string{"at once", "after Invite has returned"} {
		a := start(t)
		dev := newDevice(t, a, "udp")
		_, out := call2(dev.flow)
		ctx, cancel := context.WithCancel(context.Background())
		done := invite(ctx, a, out, nil)
		r := dev.next("INVITE")
		dev.answer(r, 180, "bt")
		time.Sleep(5 * time.Millisecond)
		cancel()
		c := dev.next("CANCEL")
		if wait != "at once" {
			if res := receive(t, "end", done); !errors.Is(res.err, context.Canceled) {
				t.Errorf("%v", res.err)
			}
		}
		dev.answer(r, 200, "bt", "Contact: <sip:bob@192.0.2.9>")
		dev.answer(c, 481, "")
		ack, bye := dev.next("ACK"), dev.next("BYE")
		if ack.ToTag() != "bt" || bye.ToTag() != "bt" || bye.CSeq() != r.CSeq()+1 || bye.RequestURI().Host != "192.0.2.9" {
			t.Errorf("%s: ACK %+v BYE %+v", wait, ack, bye)
		}
		dev.answer(bye, 200, "")
		dev.answer(r, 200, "bt", "Contact: <sip:bob@192.0.2.9>")
		dev.next("ACK")
		dev.never("BYE", 50*time.Millisecond)
		if wait == "at once" {
			if res := receive(t, "end", done); !errors.Is(res.err, context.Canceled) {
				t.Errorf("%v", res.err)
			}
		}
	}
}

func TestForks(t *testing.T) {
	a := start(t)
	dev := newDevice(t, a, "udp")
	d, out := call2(dev.flow)
	done := invite(context.Background(), a, out, nil)
	r := dev.next("INVITE")
	dev.answer(r, 180, "one")
	dev.answer(r, 180, "two")
	dev.answer(r, 200, "two", "Contact: <sip:two@192.0.2.9>")
	dev.answer(r, 200, "one", "Contact: <sip:one@192.0.2.9>")
	res := receive(t, "answer", done)
	if res.err != nil || res.r.ToTag() != "two" {
		t.Fatalf("%v %v", res.r, res.err)
	}
	ack, bye := dev.next("ACK"), dev.next("BYE")
	if ack.ToTag() != "one" || bye.ToTag() != "one" || bye.RequestURI().User != "one" {
		t.Errorf("ACK of %s, BYE of %s", ack.ToTag(), bye.ToTag())
	}
	dev.answer(bye, 200, "")
	d.Confirm(res.r)
	if err := a.Ack(d, out, Body{}); err != nil {
		t.Fatal(err)
	}
	if ack := dev.next("ACK"); ack.ToTag() != "two" {
		t.Errorf("ACK of %s", ack.ToTag())
	}
	for _, tag := range []string{"one", "two"} { // repeats get each its own ACK
		dev.answer(r, 200, tag)
		if ack := dev.next("ACK"); ack.ToTag() != tag {
			t.Errorf("2xx of %s: ACK of %s", tag, ack.ToTag())
		}
	}
}

func TestReInviteCrossingCancelGoesOn(t *testing.T) {
	a := start(t)
	dev := newDevice(t, a, "udp")
	d, _ := call2(dev.flow)
	d.RemoteTag = "bt"
	out := d.NewRequest("INVITE", Body{})
	ctx, cancel := context.WithCancel(context.Background())
	done := invite(ctx, a, out, nil)
	r := dev.next("INVITE")
	if r.ToTag() != "bt" {
		t.Errorf("To-tag %q", r.ToTag())
	}
	dev.answer(r, 100, "")
	time.Sleep(5 * time.Millisecond)
	cancel()
	dev.next("CANCEL")
	dev.answer(r, 200, "")
	if res := receive(t, "answer", done); res.err != nil || res.r.Code() != 200 {
		t.Fatalf("%v", res.err)
	}
	if err := a.Ack(d, out, Body{}); err != nil {
		t.Fatal(err)
	}
	dev.next("ACK")
}

func TestTimersOfTheClient(t *testing.T) {
	a := start(t)
	for _, network := range []string{"udp", "tcp"} {
		dev := newDevice(t, a, network)
		d, out := call2(dev.flow)
		begin := time.Now()
		done := invite(context.Background(), a, out, nil)
		dev.next("INVITE")
		n := 1
		for time.Since(begin) < quick.life()-5*quick.t1 {
			if _, err := dev.read(quick.t1); err == nil {
				n++
			}
		}
		most := map[string]int{"udp": 6, "tcp": 1}[network] // Timer A: 0, 1, 3, 7, 15, 31 T1
		if n > most || n < (most+1)/2 {                     // a busy machine sends fewer
			t.Errorf("%s: INVITE was sent %d times, want %d", network, n, most)
		}
		if res := receive(t, "Timer B", done); !errors.Is(res.err, ErrTimeout) {
			t.Errorf("%s: %v", network, res.err)
		}
		begin = time.Now()
		_, err := a.Do(context.Background(), d.NewRequest("OPTIONS", Body{}))
		if took := time.Since(begin); !errors.Is(err, ErrTimeout) || took < quick.life() || took > 3*quick.life() {
			t.Errorf("%s: Timer F after %v: %v", network, took, err)
		}
	}
}

func TestTimerC(t *testing.T) {
	a := start(t)
	dev := newDevice(t, a, "udp")
	_, out := call2(dev.flow)
	done := invite(context.Background(), a, out, nil)
	r := dev.next("INVITE")
	begin := time.Now()
	for range 3 { // each 1xx starts it again
		dev.answer(r, 180, "bt")
		dev.never("CANCEL", quick.c/2)
	}
	dev.next("CANCEL")
	if took := time.Since(begin); took < 3*quick.c/2 {
		t.Errorf("CANCEL after %v", took)
	}
	dev.answer(r, 487, "bt")
	if res := receive(t, "end", done); !errors.Is(res.err, ErrTimeout) {
		t.Errorf("%v", res.err)
	}
}

func TestDo(t *testing.T) {
	a := start(t)
	dev := newDevice(t, a, "udp")
	d, _ := call2(dev.flow)
	d.RemoteTag = "bt"
	done := make(chan result, 1)
	do := func(ctx context.Context, out Outgoing) {
		r, err := a.Do(ctx, out)
		done <- result{r, err}
	}
	go do(context.Background(), d.NewRequest("NOTIFY", Sipfrag(100, ""), Header{"Event", "refer"}, Header{"Subscription-State", "active"}))
	r := dev.next("NOTIFY")
	again := dev.next("NOTIFY") // Timer E
	if r.via.branch() != again.via.branch() || r.Header("Event") != "refer" || r.Body().Type != "message/sipfrag;version=2.0" {
		t.Errorf("NOTIFY %+v", r)
	}
	dev.answer(r, 481, "")
	var st *StatusError
	if res := receive(t, "answer", done); !errors.As(res.err, &st) || st.Code != 481 {
		t.Errorf("%v", res.err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	go do(ctx, d.NewRequest("OPTIONS", Body{}))
	dev.next("OPTIONS")
	why := errors.New("enough")
	cancel(why)
	if res := receive(t, "end", done); !errors.Is(res.err, why) {
		t.Errorf("%v", res.err)
	}
	soon(t, "transactions forgotten", func() bool { return a.tables() == 0 })
}

func TestFlowGone(t *testing.T) {
	closed := make(chan Flow, 5)
	a := start(t, func(o *Options) { o.FlowClosed = func(f Flow) { closed <- f } })
	dev := newDevice(t, a, "tcp")
	d, out := call2(dev.flow)
	if !a.Alive(dev.flow) {
		t.Error("the flow should live")
	}
	done := invite(context.Background(), a, out, nil)
	dev.next("INVITE")
	begin := time.Now()
	_ = dev.conn.Close()
	if res := receive(t, "end", done); !errors.Is(res.err, ErrFlowGone) {
		t.Errorf("%v", res.err)
	}
	if f := receive(t, "FlowClosed", closed); f != dev.flow {
		t.Errorf("FlowClosed of %v", f)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("noticed after %v", took)
	}
	begin = time.Now()
	for _, f := range []Flow{
		dev.flow,
		{Transport: "tcp", Local: dev.flow.Local, Remote: dev.flow.Remote, ID: 7},
		{},
		{Transport: "udp"},
		{Transport: "udp", Local: netip.MustParseAddrPort("127.0.0.1:1"), Remote: dev.flow.Remote},
	} {
		d.Flow = f
		_, err1 := a.Do(context.Background(), d.NewRequest("BYE", Body{}))
		_, err2 := a.Invite(context.Background(), d.NewRequest("INVITE", Body{}), nil)
		err3 := a.Ack(d, out, Body{})
		if a.Alive(f) || !errors.Is(err1, ErrFlowGone) || !errors.Is(err2, ErrFlowGone) || !errors.Is(err3, ErrFlowGone) {
			t.Errorf("%v: %v, %v, %v", f, err1, err2, err3)
		}
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("dead flows took %v", took)
	}
}

// Two agents call each other over a network that loses a third of all datagrams, both ways.
func TestLossyNetwork(t *testing.T) {
	acked := make(chan struct{}, 100)
	callee := start(t)
	callee.auth.credentials = nil
	caller := start(t)
	relay := newLossy(t, callee.Addrs()["udp"], 3)
	from, _ := ParseNameAddr("<sip:a@h>")
	for i := range 20 {
		d := NewDialog(from, from, "sip:b@h", nil, Flow{Transport: "udp", Local: caller.Addrs()["udp"], Remote: relay}, 1)
		d.RemoteTag = fmt.Sprint("callee", i)
		callee.Attach(Dialog{CallID: d.CallID, LocalTag: d.RemoteTag, RemoteTag: d.LocalTag, Flow: Flow{Remote: relay}}, "", func(x *Exchange) {
			if x.Method() == "INVITE" {
				x.Watch(Watch{Acked: func(Body) { acked <- struct{}{} }})
				_ = x.Respond(Reply{Code: 180})
			}
			_ = x.Respond(Reply{Code: 200})
		})
		out := d.NewRequest("INVITE", Body{})
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		if _, err := caller.Invite(ctx, out, nil); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
		if err := caller.Ack(d, out, Body{}); err != nil {
			t.Fatal(err)
		}
		receive(t, "ACK", acked)
		if _, err := caller.Do(ctx, d.NewRequest("BYE", Body{})); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
		cancel()
	}
	if len(acked) != 0 {
		t.Errorf("%d ACKs too many", len(acked))
	}
}
