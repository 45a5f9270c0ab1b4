package edge

import (
	"strings"
	"testing"
	"time"

	"baton/sip"
)

// newINVITE is one of alice's, with the credentials that n asks for.
func (p *phone) newINVITE(callID string) request {
	p.t.Helper()
	r := request{method: "INVITE", uri: "sip:bob@example.com", from: "<sip:alice@example.com>;tag=f", to: "<sip:bob@example.com>", callID: callID, cseq: 1}
	p.send(r.String())
	nonce := nonceIn.FindStringSubmatch(p.want("SIP/2.0 401"))[1]
	r.cseq, r.branch, r.auth = 2, "z9hG4bKplaced"+callID, credentials("alice", "INVITE", r.uri, nonce, 1)
	return r
}

// quiet says what a phone gets in some time, 100 aside.
func (p *phone) quiet(wait time.Duration) string {
	for end := time.Now().Add(wait); time.Now().Before(end); {
		if text := p.read(time.Until(end)); text != "" && !strings.HasPrefix(text, "SIP/2.0 100") {
			return text
		}
	}
	return ""
}

// TestNewCallAtAnotherNode: n1 has n2 serve a new INVITE, once it has proved whose it is; what the phone repeats, cancels, and sends in the
// dialog goes there too, and no password is asked for twice.
func TestNewCallAtAnotherNode(t *testing.T) {
	all := nodes(t, 2)
	n1, n2 := all[0], all[1]
	came, cancelled := make(chan *sip.Exchange, 8), make(chan bool, 2)
	n2.locked(func() {
		n2.invite = func(x *sip.Exchange) {
			x.Watch(sip.Watch{Cancelled: func() { cancelled <- true }})
			came <- x
		}
	})
	decide := make(chan func(sip.Place), 8)
	n1.locked(func() {
		n1.invite = func(x *sip.Exchange) { _ = x.Respond(sip.Reply{Code: 486}) }
		n1.place = func(_ *sip.Request, decided func(sip.Place)) bool {
			decide <- decided
			return true
		}
	})
	n2.locked(func() { n2.place = n1.place }) // it is not asked: nothing is passed on twice
	p := dial(t, "udp", n1)

	r := p.newINVITE("c1")
	text := r.String()
	p.send(text)
	decided := <-decide
	p.send(text) // while nothing is decided
	decided(sip.Place{Node: "n2", Dialled: "carol"})
	x := <-came
	if x.User() != "alice" || x.RequestURI().User != "carol" || x.Flow().Node != "n1" {
		t.Errorf("%s calls %s over %s", x.User(), x.RequestURI().User, x.Flow())
	}
	p.send(text) // and afterwards
	p.want("SIP/2.0 100")
	if text := p.quiet(300 * time.Millisecond); text != "" || len(came) > 0 || len(decide) > 0 {
		t.Errorf("repeats: %d calls, %d decisions, answer\n%s", len(came), len(decide), text)
	}
	must(t, x.Respond(sip.Reply{Code: 200}))
	ok := p.want("SIP/2.0 200")
	ack := r
	contact, _, _ := strings.Cut(strings.TrimPrefix(field(ok, "Contact"), "<"), ">")
	ack.method, ack.branch, ack.auth, ack.to, ack.uri = "ACK", "", "", field(ok, "To"), contact
	p.send(ack.String())
	if text := p.quiet(1200 * time.Millisecond); text != "" {
		t.Errorf("the ACK does not find n2; it says\n%s", text)
	}

	r = p.newINVITE("c2") // cancelled before it is decided, and n2 has the CANCEL behind the INVITE
	p.send(r.String())
	decided = <-decide
	cancel := r
	cancel.method, cancel.auth = "CANCEL", ""
	p.send(cancel.String())
	decided(sip.Place{Node: "n2"})
	<-came
	p.want("SIP/2.0 487")
	ack = cancel
	ack.method = "ACK"
	p.send(ack.String())
	select {
	case <-cancelled:
	case <-time.After(5 * time.Second):
		t.Error("n2 does not hear of the CANCEL")
	}

	n1.mesh.Break("n2") // it cannot be given away now
	r = p.newINVITE("c3")
	p.send(r.String())
	decided = <-decide
	n2.stop()
	soon(t, "n2 has left", func() bool { return !n1.mesh.Linked("n2") })
	decided(sip.Place{Node: "n2"})
	p.want("SIP/2.0 486")
}

// TestBeginGarbage: what is no new INVITE begins nothing.
func TestBeginGarbage(t *testing.T) {
	all := nodes(t, 2)
	came := make(chan bool, 8)
	all[1].locked(func() { all[1].invite = func(*sip.Exchange) { came <- true } })
	r := request{method: "INVITE", uri: "sip:bob@example.com", from: "<sip:alice@example.com>;tag=f", to: "<sip:bob@example.com>", callID: "g", cseq: 1}
	f := sip.Flow{Transport: "udp"}
	bye := r
	bye.method = "BYE"
	must(t, all[0].edge.Begin("n2", f, sip.Proof{User: "alice"}, []byte(bye.String())))
	must(t, all[0].edge.Begin("n2", f, sip.Proof{User: "alice"}, []byte("nothing")))
	must(t, all[0].edge.Begin("n2", f, sip.Proof{}, []byte(r.String())))
	must(t, all[0].mesh.Send("n2", kindBegin, []byte("\x00\x02{}")))
	must(t, all[0].mesh.Send("n2", kindBegin, []byte("\xff")))
	must(t, all[0].edge.Begin("n2", f, sip.Proof{User: "alice"}, []byte(r.String())))
	<-came
	time.Sleep(50 * time.Millisecond)
	if len(came) > 0 {
		t.Error("garbage was served")
	}
}
