package sip

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"baton/config"
)

func TestFramer(t *testing.T) {
	one := msg{method: "OPTIONS", body: "12345"}.String()
	long := strings.Replace(one, "Content-Length: 5", "X: "+strings.Repeat("y", 10000)+"\r\nl : 5", 1)
	folded := strings.Replace(one, "Content-Length: 5", "Content-Length:\r\n 5", 1)
	ping := "\r\n\r\n"
	for _, c := range []struct {
		name, in string
		want     []string // "ping" or the message
		ends     bool     // by a framing error
	}{
		{"two", one + one, []string{one, one}, false},
		{"ping between", one + ping + one, []string{one, "ping", one}, false},
		{"single line ends", "\r\n" + one + "\r\n" + one, []string{one, one}, false},
		{"two pings", ping + ping, []string{"ping", "ping"}, false},
		{"long", long + one, []string{long, one}, false},
		{"folded length", folded + one, []string{folded, one}, false},
		{"no length", strings.Replace(one, "Content-Length", "X", 1), nil, true},
		{"two lengths", strings.Replace(one, "Content-Length", "l: 5\r\nContent-Length", 1), nil, true},
		{"negative length", strings.Replace(one, "Length: 5", "Length: -5", 1), nil, true},
		{"huge length", strings.Replace(one, "Length: 5", "Length: 99999999", 1), nil, true},
		{"past 64 KiB", strings.Replace(one, "Length: 5", "Length: 65536", 1), nil, true},
		{"endless headers", "INVITE sip:a SIP/2.0\r\n" + strings.Repeat("X: y\r\n", 20000), nil, true},
		{"endless line", "INVITE sip:a SIP/2.0\r\nX: " + strings.Repeat("y", 70000), nil, true},
		{"another protocol", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", nil, true},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\n", nil, true},
	} {
		for name, r := range map[string]io.Reader{"whole": strings.NewReader(c.in), "by bytes": oneByte{strings.NewReader(c.in)}} {
			f := newFramer(r)
			var got []string
			var err error
			for err == nil {
				var m []byte
				switch m, err = f.next(); {
				case errors.Is(err, errPing):
					got, err = append(got, "ping"), nil
				case err == nil:
					got = append(got, string(m))
				}
			}
			var framing *framingError
			if strings.Join(got, "|") != strings.Join(c.want, "|") || errors.As(err, &framing) != c.ends {
				t.Errorf("%s, %s: %d messages, %v", c.name, name, len(got), err)
			}
		}
	}
}

// oneByte reads one byte at a time.
type oneByte struct{ io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.Reader.Read(p[:min(1, len(p))]) }

func closes(w *wire, within time.Duration) bool {
	_ = w.conn.SetReadDeadline(time.Now().Add(within))
	_, err := io.Copy(io.Discard, w.conn)
	var ne net.Error
	return !(errors.As(err, &ne) && ne.Timeout())
}

func impatient(a *Agent) {
	a.patience = patience{first: 500 * time.Millisecond, message: 500 * time.Millisecond, stranger: time.Second, device: time.Minute, write: time.Second}
}

// startWith is start with a change to the agent before it runs.
func startWith(t *testing.T, change func(*Agent), o Options) *Agent {
	t.Helper()
	o.Secret, o.Realm, o.Credentials = []byte("s"), testRealm, logins{"alice": "pw"}
	a, err := NewAgent(o)
	if err != nil {
		t.Fatal(err)
	}
	a.timing = quick
	if change != nil {
		change(a)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return a
}

func TestConnectionLimits(t *testing.T) {
	o := Options{Listen: config.Listen{TCP: "127.0.0.1:0"}, Handlers: map[string]func(*Exchange){
		"REGISTER": func(x *Exchange) { _ = x.Respond(Reply{Code: 200}) },
	}}
	a := startWith(t, impatient, o)
	to := a.Addrs()["tcp"]
	silent, half, dripping, idle := dial(t, "tcp", "", to), dial(t, "tcp", "", to), dial(t, "tcp", "", to), dial(t, "tcp", "", to)
	device := dial(t, "tcp", "", to)
	half.send("INVITE sip:a SIP/2.0\r\nVia:")
	idle.send(probe("TCP"))
	idle.expect(401)
	device.authenticated(msg{method: "REGISTER", transport: "TCP"})
	device.expect(200)
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for range 250 { // pings do not count as a message
			if _, err := dripping.conn.Write([]byte("\r\n\r\n")); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	for name, w := range map[string]*wire{"silent": silent, "half a message": half, "pinging only": dripping, "idle": idle} {
		if !closes(w, 5*time.Second) {
			t.Errorf("%s: the connection stays", name)
		}
	}
	<-stop
	device.send("\r\n\r\n")
	if closes(device, 1500*time.Millisecond) {
		t.Error("a device's connection is closed")
	}
	soon(t, "only the device is left", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return len(a.streams) == 1 })
}

func TestSlowMessageAfterTheFirst(t *testing.T) {
	a := startWith(t, impatient, Options{Listen: config.Listen{TCP: "127.0.0.1:0"}})
	w := dial(t, "tcp", "", a.Addrs()["tcp"])
	w.send(probe("TCP"))
	w.expect(401)
	begin := time.Now()
	go func() {
		for range 250 {
			if _, err := w.conn.Write([]byte("O")); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	if !closes(w, 5*time.Second) || time.Since(begin) > 3*time.Second {
		t.Errorf("a dripping message kept the connection for %v", time.Since(begin))
	}
}

func TestConnectionsPerSource(t *testing.T) {
	a := start(t)
	to := a.Addrs()["tcp"]
	for range usualPlaces.PerSource {
		dial(t, "tcp", "", to)
	}
	soon(t, "all are there", func() bool { return a.Connections().Open == usualPlaces.PerSource })
	if one := dial(t, "tcp", "", to); !closes(one, 3*time.Second) {
		t.Error("one too many is kept")
	}
	other := dial(t, "tcp", "127.0.0.2", to)
	other.send(probe("TCP"))
	other.expect(401)
	soon(t, "the refused one is counted", func() bool { return a.Connections().Refused["source"] == 1 })
}

func TestPeerThatDoesNotRead(t *testing.T) {
	closed := make(chan Flow, 1)
	a := start(t, func(o *Options) { o.FlowClosed = func(f Flow) { closed <- f } })
	dev := newDevice(t, a, "tcp")
	big := make([]byte, 32<<10)
	begin := time.Now()
	var err error
	for range 10_000 {
		if err = a.send(dev.flow, big); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrFlowGone) || time.Since(begin) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
	receive(t, "FlowClosed", closed)
}

func TestPing(t *testing.T) {
	a := start(t)
	w := dial(t, "tcp", "", a.Addrs()["tcp"])
	for range 3 {
		w.send("\r\n\r\n")
		buf := make([]byte, 10)
		_ = w.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, err := w.conn.Read(buf); err != nil || string(buf[:n]) != "\r\n" {
			t.Fatalf("%q, %v", buf[:n], err)
		}
	}
	u := dial(t, "udp", "", a.Addrs()["udp"])
	for _, s := range []string{"\r\n\r\n", "\r\n", "\x00\x00\x00\x00", "jaK"} {
		u.send(s)
	}
	u.quiet(30 * time.Millisecond)
}

func TestBusyPort(t *testing.T) {
	a := start(t)
	for transport, l := range map[string]config.Listen{
		"udp": {UDP: a.Addrs()["udp"].String()}, "tcp": {UDP: "127.0.0.1:0", TCP: a.Addrs()["tcp"].String()},
	} {
		_, err := NewAgent(Options{Listen: l, Secret: []byte("s")})
		want := "listen on " + transport + " " + a.Addrs()[transport].String() + ": bind: address already in use"
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := NewAgent(Options{Listen: config.Listen{TLS: "127.0.0.1:0"}, Secret: []byte("s")}); err == nil {
		t.Error("TLS without a certificate")
	}
}

func testTLS(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func TestTLS(t *testing.T) {
	closed := make(chan Flow, 2)
	a := startWith(t, impatient, Options{
		Listen: config.Listen{TLS: "127.0.0.1:0"}, TLS: testTLS(t), FlowClosed: func(f Flow) { closed <- f },
		Handlers: map[string]func(*Exchange){"REGISTER": func(x *Exchange) { _ = x.Respond(Reply{Code: 200}) }},
	})
	silent := dial(t, "tcp", "", a.Addrs()["tls"]) // no handshake: closed, and in nobody's way
	c, err := tls.Dial("tcp", a.Addrs()["tls"].String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w := &wire{t: t, conn: c, r: newFramer(c)}
	w.authenticated(msg{method: "REGISTER", transport: "TLS"})
	w.expect(200)
	if !closes(silent, 3*time.Second) {
		t.Error("a connection without handshake stays")
	}
	receive(t, "silent one closed", closed)
	_ = c.Close()
	if f := receive(t, "device closed", closed); f.Transport != "tls" || f.ID == 0 {
		t.Errorf("%v", f)
	}
}

func TestIPv6(t *testing.T) {
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skip("no IPv6 here")
	} else {
		_ = l.Close()
	}
	a := startWith(t, nil, Options{Listen: config.Listen{UDP: ":0", TCP: ":0"}})
	for _, network := range []string{"udp", "tcp"} {
		port := a.Addrs()[network].Port()
		for _, ip := range []string{"127.0.0.1", "::1"} {
			addr := netip.AddrPortFrom(netip.MustParseAddr(ip), port)
			w := dial(t, network, "", addr)
			w.send(probe(network))
			r := w.expect(401)
			if got, _ := r.via.params.Get("received"); ip == "::1" && got != "::1" {
				t.Errorf("%s %s: received=%s", network, ip, got)
			}
			local, _ := addrOf(w)
			u := a.ContactURI(Flow{Transport: network, Local: a.Addrs()[network], Remote: local}, "x")
			want := "sip:x@" + netip.AddrPortFrom(addr.Addr(), port).String()
			if network == "tcp" {
				want += ";transport=tcp"
			}
			if u.String() != want {
				t.Errorf("Contact towards %v: %s, want %s", local, u, want)
			}
		}
	}
}

func TestRunEndsEverything(t *testing.T) {
	before := goleak.IgnoreCurrent()
	a, err := NewAgent(Options{Listen: config.Listen{UDP: "127.0.0.1:0", TCP: "127.0.0.1:0"}, Secret: []byte("s")})
	if err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, before) // New starts nothing
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	tcp := newDevice(t, a, "tcp")
	udp := newDevice(t, a, "udp")
	var waiting []chan result
	for _, f := range []Flow{tcp.flow, udp.flow} {
		_, out := call2(f)
		waiting = append(waiting, invite(context.Background(), a, out, nil))
	}
	tcp.next("INVITE")
	r := udp.next("INVITE")
	udp.answer(r, 180, "x")
	cancel()
	if err := receive(t, "end of Run", done); err != nil {
		t.Error(err)
	}
	for _, w := range waiting {
		if res := receive(t, "end of Invite", w); !errors.Is(res.err, ErrFlowGone) {
			t.Errorf("%v", res.err)
		}
	}
	goleak.VerifyNone(t, before)
	if l, err := net.Listen("tcp", a.Addrs()["tcp"].String()); err != nil {
		t.Error("the port is still taken")
	} else {
		_ = l.Close()
	}
}

func TestCloseWithoutRun(t *testing.T) {
	a, err := NewAgent(Options{Listen: config.Listen{UDP: "127.0.0.1:0"}, Secret: []byte("s")})
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	b, err := NewAgent(Options{Listen: config.Listen{UDP: a.Addrs()["udp"].String()}, Secret: []byte("s")})
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
}
