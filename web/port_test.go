package web

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"baton/config"
	"baton/media"
)

// certificateFor is one that only tests trust.
func certificateFor(t *testing.T, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: time.Now().Add(time.Hour), DNSNames: names}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// portRig is a port that runs.
type portRig struct {
	t    *testing.T
	port *Port
	at   string
	log  *lockedBuffer
	stop func()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// hello answers each request with how it came.
func hello(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s tls=%v", r.Proto, r.URL.Path, r.TLS != nil && r.TLS.HandshakeComplete)
}

func newPortRig(t *testing.T, change func(*PortOptions), set ...func(*Port)) *portRig {
	t.Helper()
	r := &portRig{t: t, log: &lockedBuffer{}}
	o := PortOptions{
		TLS:  &tls.Config{Certificates: []tls.Certificate{certificateFor(t, "127.0.0.1", "localhost")}},
		HTTP: http.HandlerFunc(hello), Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&o)
	}
	var err error
	if r.port, err = ListenPort("127.0.0.1:0", o); err != nil {
		t.Fatal(err)
	}
	for _, f := range set {
		f(r.port)
	}
	r.at = r.port.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.port.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(30 * time.Second):
			t.Error("the port does not stop")
		}
		if n := r.port.Counts().Open; n != 0 || len(r.port.sources) != 0 {
			t.Errorf("%d connections of %v are still counted", n, r.port.sources)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// dial connects, from one address of loopback or any.
func (r *portRig) dial(secure bool, from string, protos ...string) net.Conn {
	r.t.Helper()
	d := net.Dialer{Timeout: 20 * time.Second}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial("tcp", r.at)
	if err != nil {
		r.t.Fatal(err)
	}
	if secure {
		s := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: protos})
		if err := s.Handshake(); err != nil {
			r.t.Fatal(err)
		}
		c = s
	}
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// get asks over a connection as it is.
func get(c net.Conn, method, path string) (status int, body, location string, err error) {
	req, err := http.NewRequest(method, "http://localhost:8443"+path, nil)
	if err != nil {
		return 0, "", "", err
	}
	if err := req.Write(c); err != nil {
		return 0, "", "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), req)
	if err != nil {
		return 0, "", "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), resp.Header.Get("Location"), err
}

// closed wants the other side to close a connection.
func (r *portRig) closed(c net.Conn, what string) {
	r.t.Helper()
	if _, err := io.Copy(io.Discard, c); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		r.t.Errorf("%s: the connection stays open", what)
	}
}

func TestPurposeOf(t *testing.T) {
	binding := stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(binding))), binding...)
	for _, c := range []struct {
		what string
		b    []byte
		n    int // bytes until it is clear
		want purpose
	}{
		{"TLS", []byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, 1}, 2, forTLS},
		{"HTTP", []byte("GET / HTTP/1.1"), 1, forHTTP},
		{"TURN", binding, 8, forTURN},
		{"ICE-TCP", framed, 10, forICE},
		{"ICE-TCP whose length looks like TLS", append([]byte{22, 4}, framed[2:]...), 10, forICE},
		{"line ends before HTTP", []byte("\r\n\r\nGET / HTTP/1.1"), 10, forHTTP},
		{"zeros", make([]byte, 12), 10, forHTTP},
		{"SSL 2.0", []byte{0x80, 0x2e, 1, 3, 1}, 1, forHTTP},
		{"DTLS over TCP", []byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 10, forHTTP},
	} {
		for n := range len(c.b) + 1 {
			want := unclear
			if n >= c.n {
				want = c.want
			}
			if got := purposeOf(c.b[:n]); got != want {
				t.Errorf("%s, %d bytes: %v, want %v", c.what, n, got, want)
			}
		}
	}
}

func FuzzPurposeOf(f *testing.F) {
	f.Add([]byte("GET / HTTP"))
	f.Add([]byte{22, 3, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, what, err := peek(iotestOneByte{bytes.NewReader(b)})
		if err == nil && what == unclear {
			t.Error("it is neither clear nor an error")
		}
		if err == nil && what != purposeOf(b[:min(len(b), enough)]) {
			t.Errorf("byte by byte it is %v, at once %v", what, purposeOf(b[:min(len(b), enough)]))
		}
	})
}

type iotestOneByte struct{ io.Reader }

func (r iotestOneByte) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(1, len(p))]) }

// echoConns sends back what it reads.
type echoConns struct{ n chan net.Conn }

func (e *echoConns) ServeConn(c net.Conn) {
	defer c.Close()
	if e.n != nil {
		e.n <- c
	}
	b := make([]byte, 1500)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
	}
}

// newTURN is a real one, whose engine's address is engine.
func newTURN(t *testing.T, engine netip.AddrPort) *media.TURN {
	t.Helper()
	s, err := media.NewTURN(media.TURNOptions{Peers: func() []netip.AddrPort { return []netip.AddrPort{engine} }, Realm: "baton", Secret: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPortTellsApart serves the four on one port, in one piece and byte by byte, with TLS and without.
func TestPortTellsApart(t *testing.T) {
	defer goleak.VerifyNone(t)
	r := newPortRig(t, func(o *PortOptions) {
		o.ICE, o.TURN = &echoConns{}, newTURN(t, netip.MustParseAddrPort("127.0.0.1:9"))
	})
	defer r.stop()
	binding := stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(binding))), binding...)
	for _, secure := range []bool{false, true} {
		for _, slowly := range []bool{false, true} {
			name := fmt.Sprintf("TLS %v, byte by byte %v", secure, slowly)
			open := func() net.Conn {
				c := r.dial(secure, "")
				if slowly {
					return byteByByte{c}
				}
				return c
			}
			status, body, to, err := get(open(), http.MethodGet, "/x/y?z=1")
			switch {
			case err != nil:
				t.Errorf("%s: HTTP: %v", name, err)
			case secure && (status != 200 || body != "HTTP/1.1 /x/y tls=true"):
				t.Errorf("%s: HTTP: %d %s", name, status, body)
			case !secure && (status != http.StatusTemporaryRedirect || to != "https://localhost:8443/x/y?z=1"):
				t.Errorf("%s: HTTP: %d to %s", name, status, to)
			}
			c := open()
			if _, err := c.Write(binding); err != nil {
				t.Fatal(err)
			}
			answer := &stun.Message{Raw: make([]byte, 200)}
			n, err := c.Read(answer.Raw)
			answer.Raw = answer.Raw[:n]
			var seen stun.XORMappedAddress
			if err == nil {
				err = answer.Decode()
			}
			if err == nil {
				err = seen.GetFrom(answer)
			}
			if err != nil || seen.Port != c.LocalAddr().(*net.TCPAddr).Port {
				t.Errorf("%s: binding answered with %v, error %v", name, seen, err)
			}
			c = open()
			if _, err := c.Write(framed); err != nil {
				t.Fatal(err)
			}
			back := make([]byte, len(framed))
			if _, err := io.ReadFull(c, back); err != nil || !bytes.Equal(back, framed) {
				t.Errorf("%s: ICE-TCP got %x, error %v", name, back, err)
			}
		}
	}
	if status, body, _, err := get(r.dial(false, ""), http.MethodPost, "/"); err != nil || status != 400 || !strings.Contains(body, "HTTPS") {
		t.Errorf("POST without TLS: %d %s, error %v", status, body, err)
	}
	want := map[string]uint64{"http": 5, "tls": 6, "turn": 4, "ice": 4, "acme": 0}
	for what, n := range r.port.Counts().Served {
		if n != want[what] {
			t.Errorf("%d connections for %s are counted, want %d", n, what, want[what])
		}
	}
}

// byteByByte writes each byte by itself.
type byteByByte struct{ net.Conn }

func (c byteByByte) Write(b []byte) (int, error) {
	for i := range b {
		if i == 20 {
			n, err := c.Conn.Write(b[i:])
			return i + n, err
		}
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
		time.Sleep(time.Millisecond)
	}
	return len(b), nil
}

// TestPortRelays has a real TURN client reach the engine through the port.
func TestPortRelays(t *testing.T) {
	defer goleak.VerifyNone(t)
	engine, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	relay := newTURN(t, engine.LocalAddr().(*net.UDPAddr).AddrPort())
	r := newPortRig(t, func(o *PortOptions) { o.TURN = relay })
	defer r.stop()
	user, password, _ := relay.Credentials("alice")
	client, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: r.at, Conn: turn.NewSTUNConn(r.dial(true, "")), Username: user, Password: password, Realm: "baton", RTO: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Listen(); err != nil {
		t.Fatal(err)
	}
	c, err := client.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.WriteTo([]byte("hello"), engine.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	_ = engine.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, _, err := engine.ReadFromUDP(b); err != nil || string(b[:n]) != "hello" {
		t.Errorf("the engine got %q, error %v", b[:n], err)
	}
}

// TestPortSilence has many connections that say nothing, as browsers open them: they hold nobody up and are closed in time.
func TestPortSilence(t *testing.T) {
	defer goleak.VerifyNone(t)
	r := newPortRig(t, nil, func(p *Port) { p.greet, p.silent = time.Second, time.Second })
	defer r.stop()
	var quiet []net.Conn
	for range 20 {
		quiet = append(quiet, r.dial(false, ""), r.dial(true, "", "http/1.1"))
	}
	half := r.dial(false, "")
	if _, err := half.Write([]byte{22, 3, 1, 2, 0, 1}); err != nil { // a ClientHello that does not go on
		t.Fatal(err)
	}
	if status, _, _, err := get(r.dial(true, ""), http.MethodGet, "/"); err != nil || status != 200 {
		t.Errorf("beside silent ones: %d, error %v", status, err)
	}
	for _, c := range append(quiet, half) {
		r.closed(c, "silent")
	}
	patiently(t, "the count of silent ones", func() bool { c := r.port.Counts(); return c.Slow == 40 && c.BadHandshake == 1 })
}

// TestPortSlowHeader is S15: a request whose header does not end.
func TestPortSlowHeader(t *testing.T) {
	r := newPortRig(t, nil, func(p *Port) { p.header = time.Second })
	c := r.dial(true, "")
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for _, part := range append([]string{"GET / HTTP/1.1\r\nHost: x\r\n"}, slices.Repeat([]string{"X: y\r\n"}, 1000)...) {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				_, _ = io.WriteString(c, part)
			}
		}
	}()
	began := time.Now()
	r.closed(c, "slow header")
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("closed after %v", took)
	}
	big := r.dial(true, "")
	_, _ = fmt.Fprintf(big, "GET / HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("x", 64<<10))
	if resp, err := http.ReadResponse(bufio.NewReader(big), nil); err == nil && resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of 64 KiB got %s", resp.Status)
	}
}

// TestPortLimits refuses more than a source may have, and makes room for one who asks by closing one who does not.
func TestPortLimits(t *testing.T) {
	defer goleak.VerifyNone(t)
	serving := &echoConns{n: make(chan net.Conn, 10)}
	r := newPortRig(t, func(o *PortOptions) { o.ICE, o.Connections = serving, config.Connections{PerSource: 3, Total: 5} })
	defer r.stop()
	framed := append([]byte{0, 20}, stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw...)
	ice := func(from string) net.Conn {
		c := r.dial(false, from)
		if _, err := c.Write(framed); err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := ice("127.0.0.2")
	<-serving.n
	ice("127.0.0.2")
	<-serving.n
	ice("127.0.0.2")
	<-serving.n
	r.closed(r.dial(false, "127.0.0.2"), "the fourth of a source")
	first.Close()
	patiently(t, "a place", func() bool { return r.port.Counts().Open == 2 })
	ice("127.0.0.2")
	<-serving.n

	ice("127.0.0.3")
	<-serving.n
	silent := r.dial(false, "127.0.0.3")
	patiently(t, "all places to be taken", func() bool { c := r.port.Counts(); return c.Open == 5 && c.Idle == 1 })
	asks := ice("127.0.0.4")
	<-serving.n
	r.closed(silent, "the silent one")
	if _, err := io.ReadFull(asks, make([]byte, len(framed))); err != nil {
		t.Errorf("who asks is not served: %v", err)
	}
	r.closed(r.dial(false, "127.0.0.5"), "when all are in use")
	c := r.port.Counts()
	if c.Refused["source"] != 1 || c.Refused["total"] != 1 || c.Displaced != 1 || c.Open != 5 || c.Idle != 0 {
		t.Errorf("counted %+v", c)
	}
	for _, tt := range []struct{ files, want int }{{0, 10_000}, {1024, 256}, {2, 1}, {1 << 20, 10_000}} {
		if got := portPlaces(config.Connections{}, tt.files); got.Total != tt.want || got.PerSource != 100 {
			t.Errorf("with %d files: %+v", tt.files, got)
		}
	}
}

// TestPortNegotiates HTTP/1.1 with who knows newer, TURN by its name, and what an ACME authority wants; nothing else.
func TestPortNegotiates(t *testing.T) {
	r := newPortRig(t, func(o *PortOptions) { o.TLS.NextProtos = []string{alpnACME} }, func(p *Port) { p.silent = time.Second })
	for _, c := range []struct {
		offered []string
		want    string
		fails   bool
	}{
		{[]string{"h2", "http/1.1"}, "http/1.1", false},
		{nil, "", false},
		{[]string{"stun.turn"}, "stun.turn", false},
		{[]string{alpnACME}, alpnACME, false},
		{[]string{"h2"}, "", true},
	} {
		raw, err := net.Dial("tcp", r.at)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		_ = raw.SetDeadline(time.Now().Add(30 * time.Second))
		s := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: c.offered})
		err = s.Handshake()
		if (err != nil) != c.fails || s.ConnectionState().NegotiatedProtocol != c.want {
			t.Errorf("%v: %q, error %v", c.offered, s.ConnectionState().NegotiatedProtocol, err)
		}
		if c.want == alpnACME {
			r.closed(s, "an authority's look")
		}
	}
	r.closed(r.dial(true, "", "stun.turn"), "no TURN is served, yet") // after the silence
}

// TestPortStops ends with a stream of events, an upgraded connection and one of ICE open; a handler that panics harms no other.
func TestPortStops(t *testing.T) {
	defer goleak.VerifyNone(t)
	serving := &echoConns{n: make(chan net.Conn, 10)}
	begun := make(chan struct{}, 2)
	mux := http.NewServeMux()
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		begun <- struct{}{}
		<-r.Context().Done()
	})
	mux.HandleFunc("/upgrade", func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		begun <- struct{}{}
		_, _ = io.Copy(io.Discard, c)
	})
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("a test's") })
	r := newPortRig(t, func(o *PortOptions) { o.HTTP, o.ICE = mux, serving })
	for _, path := range []string{"/events", "/upgrade"} {
		if _, err := io.WriteString(r.dial(true, ""), "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		<-begun
	}
	if _, err := r.dial(true, "").Write(append([]byte{0, 20}, stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw...)); err != nil {
		t.Fatal(err)
	}
	<-serving.n
	r.dial(true, "")
	r.dial(false, "")
	if _, _, _, err := get(r.dial(true, ""), http.MethodGet, "/panic"); err == nil {
		t.Error("a handler has panicked, and answered")
	}
	if log := r.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "panic serving") {
		t.Errorf("the panic is not in the log: %s", log)
	}
	r.stop()
}

// TestPortGivesUp looks at what the kernel is told about a connection.
func TestPortGivesUp(t *testing.T) {
	serving := &echoConns{n: make(chan net.Conn, 1)}
	r := newPortRig(t, func(o *PortOptions) { o.ICE = serving })
	if _, err := r.dial(false, "").Write(append([]byte{0, 20}, stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw...)); err != nil {
		t.Fatal(err)
	}
	c := (<-serving.n).(*headConn).port.Conn.(*net.TCPConn)
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	option := func(level, name int) (v int) {
		if err := raw.Control(func(fd uintptr) { v, _ = unix.GetsockoptInt(int(fd), level, name) }); err != nil {
			t.Fatal(err)
		}
		return v
	}
	if ms := option(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); ms != 25_000 {
		t.Errorf("unacknowledged for %d ms", ms)
	}
	if option(unix.SOL_SOCKET, unix.SO_KEEPALIVE) == 0 || option(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE) != 10 {
		t.Error("no keep-alive")
	}
}
