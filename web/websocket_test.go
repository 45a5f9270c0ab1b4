package web

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"baton/config"
	"baton/sip"
)

// exchange is a SIP agent behind a TLS server that lets phones in by WebSocket, and what has happened there.
type exchange struct {
	t      *testing.T
	agent  *sip.Agent
	server *httptest.Server
	url    string // https
	log    *lines
	closed chan sip.Flow
	got    chan *sip.Exchange
}

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.String()
}

// alice is the only user.
type alice struct{}

func (alice) Secret(login string) (sip.Secret, bool) {
	return sip.Secret{User: "alice", Identities: []string{"alice"}, MD5: sum("alice:r:pw")}, login == "alice"
}

func sum(s string) string { b := md5.Sum([]byte(s)); return hex.EncodeToString(b[:]) }

func newExchange(t *testing.T, pace pace, tune func(*sip.Options), origins ...string) *exchange {
	t.Helper()
	e := &exchange{t: t, log: &lines{}, closed: make(chan sip.Flow, 1000), got: make(chan *sip.Exchange, 1000)}
	log := slog.New(slog.NewTextHandler(e.log, nil))
	serve := func(x *sip.Exchange) {
		_ = x.Respond(sip.Reply{Code: 200})
		e.got <- x
	}
	o := sip.Options{
		Realm: "r", Secret: []byte("s"), Credentials: alice{}, Log: log, FlowClosed: func(f sip.Flow) { e.closed <- f },
		Limits:   config.Limits{CPU: 90},
		Handlers: map[string]func(*sip.Exchange){"REGISTER": serve, "MESSAGE": serve},
	}
	if tune != nil {
		tune(&o)
	}
	var err error
	if e.agent, err = sip.NewAgent(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = e.agent.Run(ctx)
	}()
	h := Phones(e.agent, func() []string { return origins }, log).(*phones)
	h.pace = pace
	e.server = httptest.NewUnstartedServer(h)
	e.server.Config.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	e.server.StartTLS()
	e.url = e.server.URL
	t.Cleanup(func() {
		cancel()
		<-done
		e.server.Close()
	})
	return e
}

// dial opens a WebSocket as a browser with a page of an origin does; "" = no browser.
func (e *exchange) dial(origin string, protocols ...string) (*websocket.Conn, *http.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	o := &websocket.DialOptions{
		HTTPClient: e.server.Client(), Subprotocols: protocols, HTTPHeader: http.Header{}, CompressionMode: websocket.CompressionContextTakeover,
	}
	if origin != "" {
		o.HTTPHeader["Origin"] = strings.Split(origin, "|")
	}
	c, r, err := websocket.Dial(ctx, "wss"+strings.TrimPrefix(e.url, "https")+"/sip", o)
	if c != nil {
		c.SetReadLimit(-1)
		e.t.Cleanup(func() { _ = c.CloseNow() })
	}
	return c, r, err
}

func (e *exchange) phone() *websocket.Conn {
	e.t.Helper()
	c, _, err := e.dial("", "sip")
	if err != nil {
		e.t.Fatal(err)
	}
	return c
}

// soon waits for a condition.
func (e *exchange) soon(what string, ok func() bool) {
	e.t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			e.t.Fatalf("not in time: %s; %+v", what, e.agent.Connections())
		}
	}
}

// request is one of a browser's, whose host is made up.
func request(method, callID string, cseq int, more ...string) string {
	branch := make([]byte, 8)
	_, _ = rand.Read(branch)
	s := fmt.Sprintf("%s sip:example.com SIP/2.0\r\nVia: SIP/2.0/WSS x1.invalid;branch=z9hG4bK%x\r\nMax-Forwards: 70\r\n"+
		"From: <sip:alice@example.com>;tag=a\r\nTo: <sip:alice@example.com>\r\nCall-ID: %s\r\nCSeq: %d %[1]s\r\n"+
		"Contact: <sip:q@x1.invalid;transport=ws>;reg-id=1;+sip.instance=\"<urn:uuid:1>\"\r\n", method, branch, callID, cseq)
	for _, line := range more {
		s += line + "\r\n"
	}
	return s + "\r\n"
}

// credentials answer the challenge in a response.
func credentials(method, response string) string {
	_, nonce, _ := strings.Cut(response, `nonce="`)
	nonce, _, _ = strings.Cut(nonce, `"`)
	answer := sum(sum("alice:r:pw") + ":" + nonce + ":" + sum(method+":sip:example.com"))
	return fmt.Sprintf(`Authorization: Digest username="alice", realm="r", nonce=%q, uri="sip:example.com", response=%q`, nonce, answer)
}

func tell(t *testing.T, c *websocket.Conn, kind websocket.MessageType, text string) {
	t.Helper()
	if err := c.Write(context.Background(), kind, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// hear wants a response with the code, and gives its text.
func hear(t *testing.T, c *websocket.Conn, code int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, text, err := c.Read(ctx)
	if err != nil || !strings.HasPrefix(string(text), fmt.Sprintf("SIP/2.0 %d ", code)) {
		t.Fatalf("%v, want a %d:\n%s", err, code, text)
	}
	return string(text)
}

// register logs a phone in, and gives its flow.
func (e *exchange) register(c *websocket.Conn) sip.Flow {
	e.t.Helper()
	tell(e.t, c, websocket.MessageText, request("REGISTER", "reg", 1))
	challenge := hear(e.t, c, 401)
	tell(e.t, c, websocket.MessageText, request("REGISTER", "reg", 2, credentials("REGISTER", challenge)))
	hear(e.t, c, 200)
	return (<-e.got).Flow()
}

// away waits until the agent has told of the end of a flow.
func (e *exchange) away(f sip.Flow, within time.Duration) {
	e.t.Helper()
	limit := time.After(within)
	for {
		select {
		case g := <-e.closed:
			if g == f {
				return
			}
		case <-limit:
			e.t.Fatalf("%s is not told as closed within %v", f, within)
		}
	}
}

// TestS16Origin is CSWSH: a script of any page can open a WebSocket to the node, and the browser tells its origin.
func TestS16Origin(t *testing.T) {
	t.Parallel()
	e := newExchange(t, usualPace, nil, "https://phone.example.org", "http://localhost:5173")
	host := strings.TrimPrefix(e.url, "https://")
	_, port, _ := net.SplitHostPort(host)
	for _, c := range []struct {
		name, origin string
		in           bool
	}{
		{"no browser", "", true},
		{"our own page", "https://" + host, true},
		{"written in capitals", "HTTPS://" + host, true},
		{"allowed", "https://phone.example.org", true},
		{"allowed, with the usual port", "https://phone.example.org:443", true},
		{"allowed, without TLS", "http://localhost:5173", true},
		{"another page", "https://evil.example", false},
		{"our host without TLS", "http://" + host, false},
		{"another port of our host", "https://127.0.0.1:1", false},
		{"our address as a name", "https://localhost:" + port, false},
		{"allowed, another port", "https://phone.example.org:8443", false},
		{"allowed, without TLS where it has TLS", "http://phone.example.org", false},
		{"begins like an allowed one", "https://phone.example.org.evil.example", false},
		{"ends like an allowed one", "https://evilphone.example.org", false},
		{"our host before an @", "https://" + host + "@evil.example", false},
		{"a page without origin", "null", false},
		{"a file", "file://", false},
		{"two", "https://" + host + "|https://evil.example", false},
		{"two in one", "https://" + host + ", https://evil.example", false},
		{"empty", " ", false},
	} {
		conn, r, err := e.dial(c.origin, "sip")
		switch {
		case c.in && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.in:
			tell(t, conn, websocket.MessageText, request("OPTIONS", "origin", 1))
			hear(t, conn, 401)
		case err == nil || r == nil || r.StatusCode != 403:
			t.Errorf("%s: let in", c.name)
		}
	}
	if n := strings.Count(e.log.String(), "of another origin"); n != 1 || !strings.Contains(e.log.String(), "origin=https://evil.example") {
		t.Errorf("refused pages are told of %d times, want once in a while:\n%s", n, e.log)
	}
}

// TestWebSocketRefused wants those who come to the wrong door to be told so.
func TestWebSocketRefused(t *testing.T) {
	t.Parallel()
	e := newExchange(t, usualPace, nil)
	upgrade := map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
		"Sec-WebSocket-Protocol": "sip",
	}
	for _, c := range []struct {
		name, method string
		change       map[string]string
		code         int
		says         string
	}{
		{"a person with a browser", "GET", map[string]string{"Upgrade": "", "Connection": ""}, 426, "phones speak SIP"},
		{"a form", "POST", map[string]string{"Upgrade": "", "Connection": ""}, 426, "phones speak SIP"},
		{"another upgrade", "GET", map[string]string{"Upgrade": "h2c"}, 426, "websocket"},
		{"no subprotocol", "GET", map[string]string{"Sec-WebSocket-Protocol": ""}, 400, "subprotocol"},
		{"another subprotocol", "GET", map[string]string{"Sec-WebSocket-Protocol": "xmpp, sips"}, 400, "subprotocol"},
		{"another version", "GET", map[string]string{"Sec-WebSocket-Version": "8"}, 400, "13"},
		{"no key", "GET", map[string]string{"Sec-WebSocket-Key": ""}, 400, "Key"},
		{"another method", "POST", nil, 405, "GET"},
		{"among others", "GET", map[string]string{"Sec-WebSocket-Protocol": "xmpp, SIP", "Upgrade": "WebSocket"}, 101, ""},
	} {
		r, _ := http.NewRequest(c.method, e.url+"/sip", nil)
		for name, value := range upgrade {
			r.Header.Set(name, value)
		}
		for name, value := range c.change {
			if r.Header.Del(name); value != "" {
				r.Header.Set(name, value)
			}
		}
		got, err := e.server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if got.StatusCode != c.code {
			t.Errorf("%s: %s, want %d", c.name, got.Status, c.code)
		}
		if got.StatusCode == 101 {
			got.Body.Close()
			continue
		}
		text, _ := io.ReadAll(got.Body)
		got.Body.Close()
		if !strings.Contains(string(text), c.says) || got.StatusCode == 426 && got.Header.Get("Upgrade") != "websocket" {
			t.Errorf("%s: %q, %v", c.name, text, got.Header)
		}
	}
}

// TestWebSocketPhone has a phone register and be closed.
func TestWebSocketPhone(t *testing.T) {
	t.Parallel()
	e := newExchange(t, usualPace, nil)
	c, r, err := e.dial("https://"+strings.TrimPrefix(e.url, "https://"), "sip")
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Header; got.Get("Sec-WebSocket-Protocol") != "sip" || got.Get("Sec-WebSocket-Extensions") != "" {
		t.Errorf("subprotocol %q, extensions %q", got.Get("Sec-WebSocket-Protocol"), got.Get("Sec-WebSocket-Extensions"))
	}
	f := e.register(c)
	at := netip.MustParseAddrPort(strings.TrimPrefix(e.url, "https://"))
	if f.Transport != "wss" || f.Local != at || f.Remote.Addr() != at.Addr() || !e.agent.Alive(f) {
		t.Errorf("flow %+v", f)
	}
	if got := e.agent.Connections(); got.Open != 1 || got.Devices != 1 {
		t.Errorf("%+v", got)
	}
	begin := time.Now()
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("farewell: %v", err)
	}
	e.away(f, 5*time.Second)
	t.Logf("away %v after its farewell", time.Since(begin))
	c = e.phone()
	f = e.register(c)
	_ = c.CloseNow() // the tab is gone
	e.away(f, 5*time.Second)
}

// TestWebSocketFrames wants messages whole, however they come, and none longer than a SIP message may be.
func TestWebSocketFrames(t *testing.T) {
	t.Parallel()
	e := newExchange(t, usualPace, nil)
	sized := func(n int) string {
		m := request("OPTIONS", "sized", 1, "Subject: ")
		return strings.Replace(m, "Subject: ", "Subject: "+strings.Repeat("x", n-len(m)), 1)
	}
	c := e.phone()
	tell(t, c, websocket.MessageBinary, request("OPTIONS", "binary", 1))
	if text := hear(t, c, 401); !strings.Contains(text, "Call-ID: binary") {
		t.Error(text)
	}
	w := e.raw()
	for i, part := range strings.SplitAfter(request("OPTIONS", "frames", 1), "\r\n") {
		switch {
		case i == 0:
			w.frame(begins, part)
		case i == 3: // between the frames of a message there may be others (RFC 6455 §5.4)
			w.frame(ping, "p")
			fallthrough
		default:
			w.frame(goesOn, part)
		}
	}
	w.frame(0x80|goesOn, "")
	if first, payload, err := w.next(10 * time.Second); err != nil || first != pong || string(payload) != "p" {
		t.Errorf("%x %q %v, want a pong", first, payload, err)
	}
	if first, payload, err := w.next(10 * time.Second); err != nil || first != text || !strings.Contains(string(payload), "Call-ID: frames") {
		t.Errorf("%x %q %v, want the answer", first, payload, err)
	}
	tell(t, c, websocket.MessageText, sized(sip.MaxMessage))
	hear(t, c, 401)
	_ = c.Write(context.Background(), websocket.MessageText, []byte(sized(sip.MaxMessage+1)))
	if _, _, err := c.Read(context.Background()); err == nil {
		t.Error("a message that is too long was answered")
	}
	e.soon("it is counted", func() bool { return e.agent.Connections().Closed["framing"] == 1 })
}

// TestWebSocketBinary wants what is no UTF-8 to be sent as binary: a browser closes a WebSocket on which text is none.
func TestWebSocketBinary(t *testing.T) {
	t.Parallel()
	e := newExchange(t, usualPace, nil)
	c := e.phone()
	f := e.register(c)
	d := sip.NewDialog(sip.NameAddr{URI: e.agent.ContactURI(f, "a")}, sip.NameAddr{}, "sip:q@x1.invalid", nil, f, 0)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for body, want := range map[string]websocket.MessageType{"grüße": websocket.MessageText, "gr\xfc\xdfe": websocket.MessageBinary} {
		go func() {
			_, _ = e.agent.Do(ctx, d.NewRequest("MESSAGE", sip.Body{Type: "text/plain", Data: []byte(body)}))
		}()
		kind, msg, err := c.Read(context.Background())
		if err != nil || kind != want || !strings.HasSuffix(string(msg), "\r\n\r\n"+body) {
			t.Errorf("%v %q, %v", kind, msg, err)
		}
	}
}

// raw is a WebSocket client that does only what the test says.
type raw struct {
	net.Conn
	r *bufio.Reader
}

func (e *exchange) raw() *raw {
	e.t.Helper()
	c, err := tls.Dial("tcp", strings.TrimPrefix(e.url, "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = c.Close() })
	_, _ = fmt.Fprintf(c, "GET /sip HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: sip\r\n\r\n")
	w := &raw{c, bufio.NewReader(c)}
	r, err := http.ReadResponse(w.r, nil)
	if err != nil || r.StatusCode != 101 {
		e.t.Fatalf("%v, %v", r, err)
	}
	return w
}

// frame writes one frame with the first octet given (RFC 6455 §5.2), masked with zeros.
func (w *raw) frame(first byte, payload string) {
	head := []byte{first, 0x80 | 126, 0, 0, 0, 0, 0, 0}
	if len(payload) < 126 {
		head = []byte{first, 0x80 | byte(len(payload)), 0, 0, 0, 0}
	} else {
		binary.BigEndian.PutUint16(head[2:], uint16(len(payload)))
	}
	_, _ = w.Write(append(head, payload...))
}

// next reads the first octet of the next frame, and its payload.
func (w *raw) next(wait time.Duration) (first byte, payload []byte, err error) {
	_ = w.SetReadDeadline(time.Now().Add(wait))
	var head [2]byte
	if _, err = io.ReadFull(w.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int(head[1])
	if n == 126 {
		var long [2]byte
		if _, err = io.ReadFull(w.r, long[:]); err != nil {
			return 0, nil, err
		}
		n = int(binary.BigEndian.Uint16(long[:]))
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(w.r, payload)
	return head[0], payload, err
}

const (
	text   = 0x80 | 0x1 // final
	ping   = 0x80 | 0x9
	pong   = 0x80 | 0xA
	begins = 0x1 // a text that is not whole
	goesOn = 0x0
)

// hasty is a pace for tests.
var hasty = pace{ping: 100 * time.Millisecond, pong: 2 * time.Second, message: 10 * time.Second}

// TestWebSocketPings wants a peer that answers pings to be kept, one that does not to be away soon, and floods of them not to be
// answered each.
func TestWebSocketPings(t *testing.T) {
	t.Parallel()
	e := newExchange(t, hasty, nil)
	alive := e.phone()
	ctx := alive.CloseRead(context.Background()) // reads, which answers pings
	dead := e.raw()
	begin := time.Now()
	dead.frame(text, request("OPTIONS", "dead", 1))
	for pinged, answered := false, false; !pinged || !answered; { // the first ping may be due before the answer
		first, msg, err := dead.next(5 * time.Second)
		switch {
		case err == nil && first == ping && !pinged:
			pinged = true
		case err == nil && first == text && !answered && strings.HasPrefix(string(msg), "SIP/2.0 401"):
			answered = true
		default:
			t.Fatalf("%x %q %v, want an answer and a ping", first, msg, err)
		}
	}
	e.soon("the dead one has gone", func() bool { return e.agent.Connections().Closed["vanished"] == 1 })
	if took := time.Since(begin); took < hasty.pong {
		t.Errorf("given up after %v", took)
	}
	time.Sleep(hasty.pong + 5*hasty.ping)
	if ctx.Err() != nil || e.agent.Connections().Open != 1 {
		t.Errorf("who answers pings was closed: %v, %+v", ctx.Err(), e.agent.Connections())
	}
}

// TestWebSocketPingFlood wants pings not to be answered without end, and what comes behind them to be.
func TestWebSocketPingFlood(t *testing.T) {
	t.Parallel()
	e := newExchange(t, usualPace, nil)
	w := e.raw()
	for range 500 {
		w.frame(ping, "x")
	}
	w.frame(text, request("OPTIONS", "after", 1))
	pongs := 0
	for {
		first, _, err := w.next(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if first == text {
			break
		}
		pongs++
	}
	if pongs < pingsAnswered || pongs > 10*pingsAnswered {
		t.Errorf("%d of 500 pings were answered", pongs)
	}
}

// TestWebSocketSlow wants who drips a message, and who does not read, to be closed in time.
func TestWebSocketSlow(t *testing.T) {
	t.Parallel()
	slow := pace{ping: time.Minute, pong: time.Minute, message: 500 * time.Millisecond}
	e := newExchange(t, slow, nil)
	w := e.raw()
	w.frame(begins, "OPTIONS sip:a SIP/2.0\r\n")
	go func() {
		for range 200 {
			w.frame(goesOn, "")
			time.Sleep(50 * time.Millisecond)
		}
	}()
	e.soon("who drips is closed", func() bool { return e.agent.Connections().Closed["slow_message"] == 1 })

	e = newExchange(t, hasty, nil)
	deaf := e.phone()
	f := e.register(deaf)
	d := sip.NewDialog(sip.NameAddr{URI: e.agent.ContactURI(f, "a")}, sip.NameAddr{}, "sip:q@x1.invalid", nil, f, 0)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			out := d.NewRequest("MESSAGE", sip.Body{Type: "text/plain", Data: make([]byte, 60<<10)})
			once, cancel := context.WithTimeout(ctx, time.Millisecond)
			_, _ = e.agent.Do(once, out)
			cancel()
		}
	}()
	e.away(f, 15*time.Second)
}

// TestWebSocketProtocol wants who breaks the rules of WebSocket to be closed.
func TestWebSocketProtocol(t *testing.T) {
	t.Parallel()
	e := newExchange(t, usualPace, nil)
	for name, do := range map[string]func(w *raw){
		"continues nothing":     func(w *raw) { w.frame(0x80|goesOn, "x") },
		"begins within another": func(w *raw) { w.frame(begins, "x"); w.frame(begins, "x") },
		"compressed":            func(w *raw) { w.frame(text|0x40, "x") },
		"unknown kind":          func(w *raw) { w.frame(0x83, "x") },
		"not masked":            func(w *raw) { _, _ = w.Write([]byte{text, 1, 'x'}) },
		"fragment of a ping":    func(w *raw) { w.frame(0x9, "x") },
		"another protocol":      func(w *raw) { _, _ = w.Write([]byte("OPTIONS sip:a SIP/2.0\r\n\r\n")) },
		"closes":                func(w *raw) { w.frame(0x88, "\x03\xe8") },
	} {
		w := e.raw()
		do(w)
		var err error
		for err == nil {
			_, _, err = w.next(10 * time.Second)
		}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("%s: stays open", name)
		}
	}
	e.soon("all are forgotten", func() bool { return e.agent.Connections().Open == 0 })
}

// TestWebSocketNoPlace wants who finds no place to be told so.
func TestWebSocketNoPlace(t *testing.T) {
	t.Parallel()
	e := newExchange(t, usualPace, func(o *sip.Options) { o.Connections = config.Connections{PerSource: 2, Total: 10} })
	e.register(e.phone())
	e.register(e.phone())
	c, _, err := e.dial("", "sip")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = c.Read(context.Background())
	if websocket.CloseStatus(err) != websocket.StatusTryAgainLater {
		t.Errorf("%v, want %v", err, websocket.StatusTryAgainLater)
	}
	deaf := e.raw() // does not answer the farewell
	begin := time.Now()
	if _, _, err := deaf.next(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if _, _, err := deaf.next(10 * time.Second); err == nil || time.Since(begin) > 4*time.Second { // a whole farewell takes 5 s
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

// glance is an agent that lets a phone go at once, and remembers it only as long as others do.
type glance chan weak.Pointer[socket]

func (g glance) ServeConn(c sip.MessageConn) error {
	g <- weak.Make(c.(*socket))
	return nil
}

// TestWebSocketIsForgotten wants nothing to hold a socket that has ended, as the timer of its next ping would for ever.
func TestWebSocketIsForgotten(t *testing.T) {
	t.Parallel()
	e := newExchange(t, usualPace, nil)
	seen := make(glance, 1)
	e.server.Config.Handler.(*phones).agent = seen
	e.phone()
	s := <-seen
	e.soon("the socket is forgotten", func() bool {
		runtime.GC()
		return s.Value() == nil
	})
}

// TestWebSocketsLeaveNothing ends a node that has phones in all conditions.
func TestWebSocketsLeaveNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("node", func(t *testing.T) {
		e := newExchange(t, pace{ping: 5 * time.Millisecond, pong: time.Minute, message: time.Minute}, nil)
		e.register(e.phone())
		e.raw()
		half := e.raw()
		half.frame(begins, "OPTIONS")
		gone := e.phone()
		_ = gone.CloseNow()
		time.Sleep(50 * time.Millisecond)
	})
	goleak.VerifyNone(t, before)
}

// TestWebSocketEndsAtOnce closes a WebSocket of the HTTPS port whose peer takes nothing more: what is under TLS is closed, and its place
// is free, without a farewell that would wait for the peer.
func TestWebSocketEndsAtOnce(t *testing.T) {
	cert := certificateFor(t, "localhost")
	near, far := net.Pipe() // holds nothing: whoever writes waits until it is read
	port := &Port{conns: map[*portConn]struct{}{}, sources: map[netip.Prefix]int{}}
	place := &portConn{Conn: near, port: port}
	port.conns[place], port.sources[place.source] = struct{}{}, 1
	secure := tls.Server(&headConn{Conn: place, port: place}, &tls.Config{Certificates: []tls.Certificate{cert}})
	peer := tls.Client(far, &tls.Config{InsecureSkipVerify: true})
	shaken := make(chan error, 1)
	go func() {
		if err := peer.Handshake(); err != nil {
			shaken <- err
			return
		}
		_, err := io.ReadFull(peer, make([]byte, 1)) // the tickets of TLS 1.3 come before it
		shaken <- err
	}()
	if _, err := secure.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_ = abrupt{&headConn{Conn: secure, port: place}}.Close()
	if took := time.Since(began); took > time.Second {
		t.Errorf("closed after %s", took)
	}
	if len(port.conns) != 0 {
		t.Error("its place is still taken")
	}
	_ = far.Close()
}
