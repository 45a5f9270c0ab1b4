package sip

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// The fourteen methods (RFC 3261, 3262, 3265, 3311, 3428, 3515, 3903, 6086).
var fourteen = []string{
	"INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "REGISTER", "SUBSCRIBE", "NOTIFY", "PUBLISH", "MESSAGE", "INFO",
	"UPDATE", "PRACK", "REFER",
}

// accounts are two users with their passwords.
type accounts map[string]string

func (l accounts) Secret(login string) (Secret, bool) {
	password, ok := l[login]
	return Secret{User: login, Identities: []string{login}, MD5: md5hex(login + ":" + testRealm + ":" + password)}, ok
}

// S5: every method without a password, with a wrong one, with somebody else's and with the right one. ACK and CANCEL
// cannot be challenged (RFC 3261 §22.1): for no transaction the one is dropped, the other refused.
func TestS05EveryMethodIsChallenged(t *testing.T) {
	var served atomic.Int32
	a := start(t, func(o *Options) {
		o.Credentials = accounts{"alice": "pw", "eve": "eve's"}
		o.Handlers = map[string]func(*Exchange){}
		for _, m := range fourteen {
			o.Handlers[m] = func(x *Exchange) {
				served.Add(1)
				_ = x.Respond(Reply{Code: 299})
			}
		}
	})
	for row, c := range []struct {
		name string
		l    login
		want int
	}{
		{"without", login{}, 401},
		{"wrong password", login{user: "alice", password: "guess"}, 401},
		{"unknown user", login{user: "nobody", password: "pw"}, 401},
		{"another's name in From", login{user: "eve", password: "eve's"}, 403},
		{"right", login{user: "alice", password: "pw"}, 299},
	} {
		for i, method := range fourteen {
			from := fmt.Sprintf("127.0.%d.%d", row+1, i+1) // each from elsewhere, or it would be held up as a guesser
			want := c.want
			switch method {
			case "ACK":
				want = 0
			case "CANCEL":
				want = 481
			}
			before := served.Load()
			if got := tryAs(t, a, from, method, c.l); got != want {
				t.Errorf("%s, %s: %d, want %d", method, c.name, got, want)
			}
			if ran := served.Load() - before; (ran != 0) != (want == 299) {
				t.Errorf("%s, %s: the handler ran %d times", method, c.name, ran)
			}
		}
	}
}

// tryAs sends a request with credentials for a nonce of ours, and gives the final status, 0 for silence.
func tryAs(t *testing.T, a *Agent, from, method string, l login) int {
	t.Helper()
	w := dial(t, "udp", from, a.Addrs()["udp"])
	m := msg{method: method, callID: random(8), cseq: 2}
	if l.user != "" {
		w.send(msg{method: "OPTIONS", callID: random(8)}.String())
		l.method = method
		m.headers = []string{l.header(nonceOf(w.expect(401)))}
	}
	w.send(m.String())
	if method == "ACK" {
		w.send(probe("UDP"))
		if r := w.response(); r.CallID() != "probe" {
			return r.code
		}
		w.quiet(20 * time.Millisecond)
		return 0
	}
	return w.final().code
}

// S5: somebody's password is good for nobody else's From, whatever form the name in it has.
func TestS05FromIsTheUsersOwn(t *testing.T) {
	a := start(t, func(o *Options) {
		o.Credentials = accounts{"alice": "pw", "eve": "eve's"}
		o.Handlers = map[string]func(*Exchange){"INVITE": func(x *Exchange) { _ = x.Respond(Reply{Code: 480}) }}
	})
	for _, c := range []struct {
		from string
		want int
	}{
		{"<sip:eve@example.com>", 480},
		{"<sip:%65ve@example.com>", 480},
		{"<sip:eve:pw@example.com>", 480},
		{"<sip:alice@example.com>", 403},
		{`"eve" <sip:alice@example.com>`, 403},
		{"<sip:%61lice@example.com>", 403},
		{"<sip:alice;x=eve@example.com>", 403},
		{"<sip:eve%00alice@example.com>", 403},
		{"<sip:example.com>", 403},
		{"<tel:101>", 403},
		{"sip:alice@example.com", 403},
	} {
		w := dial(t, "udp", "", a.Addrs()["udp"])
		w.send(msg{method: "OPTIONS", callID: random(8)}.String())
		l := login{user: "eve", password: "eve's", method: "INVITE"}
		raw := fmt.Sprintf("INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;rport;branch=%s\r\nFrom: %s;tag=f\r\n"+
			"To: <sip:bob@example.com>\r\nCall-ID: %s\r\nCSeq: 2 INVITE\r\nMax-Forwards: 70\r\nContact: <sip:eve@127.0.0.1>\r\n%s\r\nContent-Length: 0\r\n\r\n",
			magic+random(8), c.from, random(8), l.header(nonceOf(w.expect(401))))
		w.send(raw)
		if got := w.final().code; got != c.want {
			t.Errorf("From: %s: %d, want %d", c.from, got, c.want)
		}
	}
}
