package sip

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// served counts what its handlers are given, and answers 200.
func served(c chan *Exchange) func(*Options) {
	return func(o *Options) {
		o.Handlers = map[string]func(*Exchange){}
		for _, m := range []string{"REGISTER", "INVITE", "MESSAGE"} {
			o.Handlers[m] = func(x *Exchange) {
				c <- x
				_ = x.Respond(Reply{Code: 200})
			}
		}
	}
}

func TestDigest(t *testing.T) {
	seen := make(chan *Exchange, 10)
	a := start(t, served(seen))
	for _, c := range []struct {
		name string
		l    login
		from string
		code int
	}{
		{"name", login{user: "alice", password: "pw"}, "alice", 200},
		{"number", login{user: "101", password: "pw"}, "101", 200},
		{"name logs in, number in From", login{user: "alice", password: "pw"}, "101", 200},
		{"without qop", login{user: "alice", password: "pw", noQOP: true}, "alice", 200},
		{"MD5 named", login{user: "alice", password: "pw", algorithm: "MD5"}, "alice", 200},
		{"SHA-256", login{user: "alice", password: "pw", algorithm: "SHA-256"}, "alice", 200},
		{"another host in the uri", login{user: "alice", password: "pw", uri: "sip:bob@10.1.2.3:5060"}, "alice", 200},
		{"another user in the uri", login{user: "alice", password: "pw", uri: "sip:eve@example.com"}, "alice", 401},
		{"wrong password", login{user: "alice", password: "no"}, "alice", 401},
		{"unknown user", login{user: "eve", password: "pw"}, "alice", 401},
		{"algorithm unknown", login{user: "alice", password: "pw", algorithm: "SHA-512"}, "alice", 401},
		{"another's name in From", login{user: "alice", password: "pw"}, "bob", 403},
	} {
		w := dial(t, "udp", "", a.Addrs()["udp"])
		m := msg{method: "REGISTER", from: c.from, callID: random(4)}
		w.send(m.String())
		r := w.expect(401)
		c.l.method = "REGISTER"
		m.cseq, m.headers = 2, []string{c.l.header(nonceOf(r))}
		w.send(m.String())
		if got := w.final(); got.code != c.code {
			t.Errorf("%s: %d, want %d", c.name, got.code, c.code)
		}
		if c.code == 200 {
			if x := receive(t, "request", seen); x.User() != "alice" {
				t.Errorf("%s: user %q", c.name, x.User())
			}
		}
	}
}

func TestEveryMethodIsChallenged(t *testing.T) {
	a := start(t)
	w := dial(t, "udp", "", a.Addrs()["udp"])
	for _, m := range []string{"REGISTER", "INVITE", "OPTIONS", "SUBSCRIBE", "NOTIFY", "PUBLISH", "MESSAGE", "INFO", "UPDATE", "PRACK", "REFER", "BYE"} {
		w.send(msg{method: m, callID: m}.String())
		if r := w.response(); r.code != 401 || !strings.HasPrefix(r.Header("WWW-Authenticate"), "Digest ") || r.ToTag() == "" {
			t.Errorf("%s without a password: %d", m, r.code)
		}
		if m == "INVITE" { // the ACK of a stateless answer is absorbed
			w.send(msg{method: "ACK", callID: m}.String())
		}
	}
	w.send(msg{method: "CANCEL", callID: "x"}.String())
	w.expect(481)
	w.send(msg{method: "ACK", callID: "x"}.String())
	w.send(msg{method: "FOO", callID: "x"}.String())
	if r := w.expect(405); !strings.Contains(r.Header("Allow"), "INVITE") {
		t.Errorf("Allow is %q", r.Header("Allow"))
	}
	w.quiet(30 * time.Millisecond)
}

func TestUnservedMethods(t *testing.T) {
	a := start(t, handle("REGISTER", func(*Exchange) {}))
	for m, code := range map[string]int{"OPTIONS": 200, "SUBSCRIBE": 489, "NOTIFY": 489, "MESSAGE": 405, "PUBLISH": 405, "BYE": 481, "UPDATE": 481, "INVITE": 405} {
		w := dial(t, "udp", "", a.Addrs()["udp"])
		w.authenticated(msg{method: m, callID: random(4)})
		r := w.final()
		if r.code != code {
			t.Errorf("%s: %d, want %d", m, r.code, code)
		}
		if allow := r.Header("Allow"); (code == 405 || m == "OPTIONS") && allow != "INVITE, ACK, CANCEL, BYE, PRACK, OPTIONS, REGISTER, REFER, NOTIFY, INFO, UPDATE" {
			t.Errorf("%s: Allow is %q", m, allow)
		}
	}
}

func TestReplayIsRefused(t *testing.T) {
	seen := make(chan *Exchange, 10)
	a := start(t, served(seen))
	w := dial(t, "udp", "", a.Addrs()["udp"])
	m := w.authenticated(msg{method: "REGISTER"})
	w.expect(200)
	receive(t, "first", seen)

	w.send(m.String()) // a retransmission: the transaction answers it
	w.expect(200)
	m.branch = magic + "other" // the same credentials in another request
	w.send(m.String())
	if r := w.expect(401); !strings.Contains(r.Header("WWW-Authenticate"), "stale=true") {
		t.Errorf("challenge %q", r.Header("WWW-Authenticate"))
	}
	other := dial(t, "udp", "127.0.0.2", a.Addrs()["udp"])
	m.branch, m.headers[0] = magic+"third", strings.ReplaceAll(m.headers[0], "nc=00000001", "nc=00000002")
	other.send(m.String())
	other.expect(401)
	if len(seen) != 0 {
		t.Error("a replay reached the handler")
	}
}

func TestNonceCountsOutOfOrder(t *testing.T) {
	n := newNonceWindows(time.Minute)
	for _, c := range []struct {
		nc  uint32
		new bool
	}{
		{1, true},
		{1, false},
		{3, true},
		{2, true},
		{2, false},
		{3, false},
		{100, true},
		{37, true},
		{36, false},
		{99, true},
		{99, false},
		{0, false},
		{1000, true},
		{936, false},
		{937, true},
		{1<<32 - 1, true},
		{5, false},
	} {
		if got := n.Use("n", c.nc); got != c.new {
			t.Errorf("nc %d: new is %v", c.nc, got)
		}
	}
	if !n.Use("m", 1) {
		t.Error("another nonce has its own counts")
	}
}

func TestNoncesAreForgotten(t *testing.T) {
	n := newNonceWindows(time.Minute)
	for i := range 1000 {
		n.Use(fmt.Sprint(i), 1)
	}
	n.turned = time.Now().Add(-3 * time.Minute)
	if n.Use("999", 1); len(n.earlier) != 1000 {
		t.Errorf("%d nonces in the older generation", len(n.earlier))
	}
	n.turned = time.Now().Add(-3 * time.Minute)
	n.Use("new", 1)
	n.turned = time.Now().Add(-time.Hour)
	n.Use("newer", 1)
	if len(n.now)+len(n.earlier) != 1 {
		t.Errorf("%d nonces are kept", len(n.now)+len(n.earlier))
	}
}

func TestNonceExpires(t *testing.T) {
	a := authenticator{secret: []byte("s")}
	ip := netip.MustParseAddr("192.0.2.1")
	now := time.Now()
	n := a.nonce(ip, now)
	for after, want := range map[time.Duration]bool{0: true, 59 * time.Second: true, 61 * time.Second: false, -2 * time.Minute: false} {
		if got := a.fresh(n, ip, now.Add(after)); got != want {
			t.Errorf("after %v: fresh is %v", after, got)
		}
	}
	other := authenticator{secret: []byte("t")}
	if other.fresh(n, ip, now) || a.fresh(n+"A", ip, now) || a.fresh("", ip, now) || a.fresh(n, netip.MustParseAddr("192.0.2.2"), now) {
		t.Error("a foreign nonce is fresh")
	}
}

func TestStaleNonceIsSaidToBeStale(t *testing.T) {
	a := start(t)
	w := dial(t, "udp", "", a.Addrs()["udp"])
	old := a.auth.nonce(netip.MustParseAddr("127.0.0.1"), time.Now().Add(-2*time.Minute))
	for password, stale := range map[string]bool{"pw": true, "no": false} {
		w.send(msg{method: "REGISTER", callID: random(4), headers: []string{login{user: "alice", password: password, method: "REGISTER"}.header(old)}}.String())
		if r := w.expect(401); strings.Contains(r.Header("WWW-Authenticate"), "stale=true") != stale {
			t.Errorf("password %s: %q", password, r.Header("WWW-Authenticate"))
		}
	}
}

func TestCredentialRefuses(t *testing.T) {
	whole := `username="a", realm="r", nonce="n", uri="sip:x", response="00"`
	for _, v := range []string{
		"", "Basic " + whole, "Digest", `Digest username="a"`, "Digest " + whole + ", algorithm=SHA-512",
		"Digest " + whole + ", algorithm=MD5-sess", "Digest " + whole + ", qop=auth", "Digest " + whole + `, qop=auth-int, nc=00000001, cnonce="x"`,
		"Digest " + whole + `, qop=auth, nc=1, cnonce="x"`, "Digest " + whole + `, qop=auth, nc=00000000, cnonce="x"`,
	} {
		if c, err := parseCredential(v); err == nil {
			t.Errorf("%s is taken as %+v", v, c)
		}
	}
	c, err := parseCredential(`digest USERNAME="a\"b,c" , realm = "r", nonce="n",uri="sip:x", response="00", username="z"`)
	if err != nil || c.username != `a"b,c` {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestChallengeIsNoAmplifier(t *testing.T) {
	a := start(t)
	w := dial(t, "udp", "", a.Addrs()["udp"])
	m := msg{method: "INVITE", body: strings.Repeat("a=x\r\n", 20)}.String()
	w.send(m)
	data, err := w.read(5 * time.Second)
	if err != nil || len(data) > len(m)*3/2 {
		t.Errorf("%d bytes asked, %d answered (%v)", len(m), len(data), err)
	}
	w.send("X x\r\ni:1\r\n") // nearly nothing
	w.quiet(30 * time.Millisecond)
}
