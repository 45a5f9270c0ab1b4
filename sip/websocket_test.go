package sip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"baton/config"
)

// socket is the node's end of a real WebSocket, with no checks of its own.
type socket struct {
	*websocket.Conn
	local, remote netip.AddrPort
}

func (s socket) ReadMessage() ([]byte, error) {
	_, msg, err := s.Read(context.Background())
	return msg, err
}

func (s socket) WriteMessage(b []byte) error {
	return s.Write(context.Background(), websocket.MessageText, b)
}

func (s socket) Close() error                          { return s.CloseNow() }
func (s socket) Addrs() (local, remote netip.AddrPort) { return s.local, s.remote }

// door opens WebSockets to the agent at the address that is given.
func door(t testing.TB, a *Agent) netip.AddrPort {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"sip"}})
		if err != nil {
			return
		}
		c.SetReadLimit(-1)
		defer func() { _ = c.CloseNow() }()
		local := r.Context().Value(http.LocalAddrContextKey).(net.Addr).(*net.TCPAddr).AddrPort()
		_ = a.ServeConn(socket{c, local, netip.MustParseAddrPort(r.RemoteAddr)})
	}))
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

// client is a browser's end, as a wire has it: every Write is one message, next reads one.
type client struct {
	ws            *websocket.Conn
	local, remote net.Addr
	net.Conn      // nil: nothing else of it is called

	once     sync.Once
	messages chan []byte
	deadline time.Time
}

func dialWS(t testing.TB, from string, to netip.AddrPort) *wire {
	t.Helper()
	c := &client{remote: net.TCPAddrFromAddrPort(to), messages: make(chan []byte, 1)}
	d := net.Dialer{Timeout: 5 * time.Second}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, network, addr)
		if err == nil {
			c.local = conn.LocalAddr()
		}
		return conn, err
	}}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var err error
	o := &websocket.DialOptions{Subprotocols: []string{"sip"}, HTTPClient: &http.Client{Transport: transport}}
	if c.ws, _, err = websocket.Dial(ctx, "ws://"+to.String(), o); err != nil {
		t.Fatal(err)
	}
	c.ws.SetReadLimit(-1)
	t.Cleanup(func() { _ = c.ws.CloseNow() })
	return &wire{t: t, conn: c, r: c}
}

func (c *client) Write(b []byte) (int, error) {
	return len(b), c.ws.Write(context.Background(), websocket.MessageText, b)
}

// next waits until the deadline; one that has passed does no harm to the connection.
func (c *client) next() ([]byte, error) {
	c.once.Do(func() {
		go func() {
			defer close(c.messages)
			for {
				_, msg, err := c.ws.Read(context.Background())
				if err != nil {
					return
				}
				c.messages <- msg
			}
		}()
	})
	select {
	case msg, ok := <-c.messages:
		if !ok {
			return nil, io.EOF
		}
		return msg, nil
	case <-time.After(time.Until(c.deadline)):
		return nil, os.ErrDeadlineExceeded
	}
}

func (c *client) Read([]byte) (int, error)          { _, err := c.next(); return 0, err }
func (c *client) SetReadDeadline(t time.Time) error { c.deadline = t; return nil }
func (c *client) Close() error                      { return c.ws.CloseNow() }
func (c *client) LocalAddr() net.Addr               { return c.local }
func (c *client) RemoteAddr() net.Addr              { return c.remote }

// browser writes a request as JsSIP does: its host is made up, and there is no Content-Length where it is not needed.
func browser(m msg) msg {
	m.via = "SIP/2.0/WSS df7jal23ls0d.invalid;branch=" + magic + random(8)
	return m
}

func (m msg) bare() string { return strings.Replace(m.String(), "Content-Length: 0\r\n", "", 1) }

// TestWebSocket has a browser register and be called: by its connection, although nobody can find its Contact.
func TestWebSocket(t *testing.T) {
	t.Parallel()
	type binding struct {
		flow    Flow
		contact NameAddr
	}
	registered, closed := make(chan binding, 1), make(chan Flow, 1)
	a := start(t, handle("REGISTER", func(x *Exchange) {
		c, _ := x.Contact()
		registered <- binding{x.Flow(), c}
		_ = x.Respond(Reply{Code: 200})
	}), func(o *Options) { o.FlowClosed = func(f Flow) { closed <- f } })
	at := door(t, a)
	w := dialWS(t, "", at)
	m := browser(msg{method: "REGISTER", headers: []string{
		`Contact: <sip:q3v2@df7jal23ls0d.invalid;transport=ws>;reg-id=1;+sip.instance="<urn:uuid:1>"`,
		"Supported: path, outbound", "Require: outbound",
	}})
	w.send(m.bare())
	r := w.expect(401)
	if got := r.via; got.transport != "WSS" || got.host != "df7jal23ls0d.invalid" || got.branch() == "" {
		t.Errorf("Via of the answer: %s", got)
	}
	if got, _ := r.via.params.Get("received"); got != "127.0.0.1" {
		t.Errorf("received=%q", got)
	}
	m.cseq, m.via = 2, browser(m).via
	m.headers = append(m.headers, credentials(nonceOf(r)))
	w.send(m.bare())
	w.expect(200)
	dev := receive(t, "REGISTER", registered)
	local, _ := addrOf(w)
	if f := dev.flow; f.Transport != "wss" || f.Remote != local || f.Local != at || f.ID == 0 || !a.Alive(f) {
		t.Errorf("flow %+v", f)
	}
	d := NewDialog(NameAddr{URI: a.ContactURI(dev.flow, "bob")}, NameAddr{URI: URI{Scheme: "sip", User: "alice", Host: "example.com"}},
		dev.contact.URI.String(), nil, dev.flow, 0)
	done := invite(t.Context(), a, d.NewRequest("INVITE", Body{Type: typeSDP, Data: []byte("v=0\r\n")}), nil)
	req := w.request()
	if uri := req.uri.String(); uri != "sip:q3v2@df7jal23ls0d.invalid;transport=ws" {
		t.Errorf("Request-URI %s", uri)
	}
	if req.via.transport != "WSS" || hostPort(req.via.host, req.via.port) != at.String() {
		t.Errorf("Via of the INVITE: %s", req.via)
	}
	if c := req.target(); c != fmt.Sprintf("sip:bob@%s;transport=ws", at) {
		t.Errorf("Contact of the INVITE: %s", c)
	}
	device{w, dev.flow}.answer(req, 200, "x", "Contact: <sip:q3v2@df7jal23ls0d.invalid;transport=ws;ob>")
	res := receive(t, "answer", done)
	if res.err != nil {
		t.Fatal(res.err)
	}
	_ = w.conn.Close()
	if f := receive(t, "end of the flow", closed); f != dev.flow || a.Alive(f) {
		t.Errorf("closed %v", f)
	}
	if err := a.send(dev.flow, []byte("x")); !errors.Is(err, ErrFlowGone) {
		t.Errorf("sending to a flow that is gone: %v", err)
	}
}

// credentials answer the challenge of a REGISTER.
func credentials(nonce string) string {
	return login{user: "alice", password: "pw", method: "REGISTER"}.header(nonce)
}

// TestWebSocketMessages wants each WebSocket message to be one of SIP, both ways, whatever its Content-Length says.
func TestWebSocketMessages(t *testing.T) {
	t.Parallel()
	a := start(t, agreeing)
	at := door(t, a)
	long := msg{method: "MESSAGE", body: "12345"}.String()
	for _, c := range []struct {
		name, text string
		code       int // of the answer; 0 = none comes, and what follows is served; -1 = the connection ends
	}{
		{"whole", msg{method: "OPTIONS"}.String(), 401},
		{"no length", msg{method: "OPTIONS"}.bare(), 401},
		{"line ends before it", "\r\n\r\n" + msg{method: "OPTIONS"}.String(), 401},
		{"a body without a length", strings.Replace(long, "Content-Length: 5\r\n", "", 1), 401},
		{"more than its length", long + "6789", 401},
		{"less than its length", strings.Replace(long, "Length: 5", "Length: 6", 1), 400},
		{"no headers that can be answered", "INVITE sip:a@b SIP/2.0\r\n\r\n", 0},
		{"line end alone", "\r\n", 0},
		{"nothing", "", 0},
		{"longer than a message may be", msg{method: "MESSAGE", body: strings.Repeat("x", MaxMessage)}.String(), 513},
		{"another protocol", "GET / HTTP/1.1\r\n\r\n", -1},
		{"no protocol", `{"type":"offer"}`, -1},
	} {
		w := dialWS(t, "", at)
		w.send(c.text)
		switch {
		case c.code > 0:
			if r := w.response(); r.code != c.code {
				t.Errorf("%s: %d, want %d", c.name, r.code, c.code)
			}
		case c.code == 0:
			w.send(msg{method: "OPTIONS", callID: "next"}.String())
			if r := w.expect(401); r.callID != "next" {
				t.Errorf("%s: answered", c.name)
			}
		}
		if ends := c.code < 0 || c.code == 513; ends != closes(w, 300*time.Millisecond) {
			t.Errorf("%s: ends %v, want %v", c.name, !ends, ends)
		}
	}
	w := dialWS(t, "", at)
	for i := range 200 { // faster than they can be answered: answers gather
		w.send(msg{method: "OPTIONS", callID: fmt.Sprint("c", i)}.String())
	}
	for i := range 200 {
		data, err := w.read(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		m, err := parse(data, Flow{})
		if r, ok := m.(*Response); err != nil || !ok || strings.Count(string(data), "SIP/2.0 401") != 1 || len(r.body.Data) > 0 {
			t.Fatalf("answer %d is not one message: %v\n%s", i, err, data)
		}
	}
}

// TestWebSocketKeepAlive is RFC 5626 §4.4.1 as browsers do it.
func TestWebSocketKeepAlive(t *testing.T) {
	t.Parallel()
	w := dialWS(t, "", door(t, start(t)))
	for range 3 {
		w.send("\r\n\r\n")
		if got, err := w.read(5 * time.Second); err != nil || string(got) != "\r\n" {
			t.Fatalf("%q, %v", got, err)
		}
		w.send("\r\n") // the answer to one of ours
	}
	w.quiet(50 * time.Millisecond)
}

// mailbox is a MessageConn within the process, for a test's clock.
type mailbox struct {
	toNode chan []byte
	fail   chan error
	stuck  bool // the peer does not read
	remote string
	closed chan struct{}
	once   sync.Once
}

func newMailbox(from string) *mailbox {
	return &mailbox{toNode: make(chan []byte), fail: make(chan error, 1), remote: from, closed: make(chan struct{})}
}

func (m *mailbox) ReadMessage() ([]byte, error) {
	select {
	case b := <-m.toNode:
		return b, nil
	case err := <-m.fail:
		return nil, err
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *mailbox) WriteMessage([]byte) error {
	if m.stuck {
		<-m.closed
		return net.ErrClosed
	}
	return nil
}

func (m *mailbox) Close() error { m.once.Do(func() { close(m.closed) }); return nil }

func (m *mailbox) Addrs() (local, remote netip.AddrPort) {
	return netip.MustParseAddrPort("127.0.0.1:8443"), netip.AddrPortFrom(netip.MustParseAddr(m.remote), 1000)
}

// say sends a message unless the connection has ended.
func (m *mailbox) say(text string) bool {
	select {
	case m.toNode <- []byte(text):
		return true
	case <-m.closed:
		return false
	}
}

// logIn logs in without looking at the answers: the nonce is the agent's own.
func (m *mailbox) logIn(a *Agent) {
	_, remote := m.Addrs()
	r := msg{method: "REGISTER", headers: []string{login{user: "alice", password: "pw", method: "REGISTER"}.header(a.auth.nonce(remote.Addr(), time.Now()))}}
	m.say(r.String())
	synctest.Wait()
}

// TestWebSocketPatience wants WebSockets to be waited for as TCP is.
func TestWebSocketPatience(t *testing.T) {
	t.Parallel()
	hello := probe("WSS")
	repeat := func(m *mailbox, pause time.Duration, text string) {
		go func() {
			for m.say(text) {
				time.Sleep(pause)
			}
		}()
	}
	for _, c := range []struct {
		name  string
		do    func(a *Agent, m *mailbox)
		want  time.Duration
		under string
	}{
		{"silent", func(*Agent, *mailbox) {}, 10 * time.Second, "slow_first"},
		{"pings only", func(_ *Agent, m *mailbox) { repeat(m, time.Second, "\r\n\r\n") }, 10 * time.Second, "slow_first"},
		{"empty messages", func(_ *Agent, m *mailbox) { repeat(m, time.Second, "") }, 10 * time.Second, "slow_first"},
		{"stranger says no more", func(_ *Agent, m *mailbox) { m.say(hello) }, 120 * time.Second, "idle"},
		{"stranger pings", func(_ *Agent, m *mailbox) { m.say(hello); repeat(m, 20*time.Second, "\r\n\r\n") }, 120 * time.Second, "idle"},
		{"device says no more", func(a *Agent, m *mailbox) { m.logIn(a) }, 65 * time.Minute, "idle"},
		{"another protocol", func(_ *Agent, m *mailbox) { m.say("{}") }, 0, "framing"},
		{"does not read", func(_ *Agent, m *mailbox) { m.stuck = true; m.say(hello) }, 10 * time.Second, "unread"},
		{"drips a message", func(_ *Agent, m *mailbox) { m.fail <- fmt.Errorf("x: %w", ErrMessageSlow) }, 0, "slow_message"},
		{"too long", func(_ *Agent, m *mailbox) { m.fail <- fmt.Errorf("x: %w", ErrMessageSize) }, 0, "framing"},
		{"vanishes", func(_ *Agent, m *mailbox) { m.fail <- fmt.Errorf("x: %w", ErrVanished) }, 0, "vanished"},
		{"closes", func(_ *Agent, m *mailbox) { m.fail <- io.EOF }, 0, "by_peer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var told []Flow
			bubble(t, newPipes(), nil, Options{FlowClosed: func(f Flow) { told = append(told, f) }}, func(a *Agent) {
				m, begin := newMailbox("192.0.2.1"), time.Now()
				served := make(chan error, 1)
				go func() { served <- a.ServeConn(m) }()
				c.do(a, m)
				<-m.closed
				if took := time.Since(begin).Round(time.Second); took != c.want {
					t.Errorf("closed after %v, want %v", took, c.want)
				}
				if err := <-served; err != nil {
					t.Error(err)
				}
				if got := a.Connections(); got.Open != 0 || got.Closed[c.under] != 1 || len(told) != 1 {
					t.Errorf("%+v, want one %s; told of %v", got, c.under, told)
				}
			})
		})
	}
}

// TestWebSocketPlaces wants TCP and WebSockets to share the places of a source and of all, and who finds none to be left open,
// for whoever has made it to say so.
func TestWebSocketPlaces(t *testing.T) {
	t.Parallel()
	l := newPipes()
	bubble(t, l, nil, Options{Connections: config.Connections{PerSource: 2, Total: 4}}, func(a *Agent) {
		serve := func(from string) (*mailbox, chan error) {
			m, served := newMailbox(from), make(chan error, 1)
			go func() { served <- a.ServeConn(m) }()
			synctest.Wait()
			return m, served
		}
		refused := func(served chan error) bool {
			select {
			case err := <-served:
				return errors.Is(err, ErrNoPlace)
			default:
				return false
			}
		}
		tcp := l.connect("192.0.2.1")
		first, one := serve("192.0.2.1")
		third, two := serve("192.0.2.1")
		if refused(one) || !refused(two) {
			t.Error("one TCP connection and one WebSocket are what a source has here")
		}
		select {
		case <-third.closed:
			t.Error("who found no place was closed before he was told")
		default:
		}
		first.logIn(a)
		logged(t, tcp)
		stranger, _ := serve("192.0.2.2")
		device, three := serve("192.0.2.3")
		device.logIn(a)
		other, four := serve("192.0.2.4")
		if refused(three) || refused(four) {
			t.Error("no stranger made room")
		}
		<-stranger.closed
		other.logIn(a)
		if _, five := serve("192.0.2.5"); !refused(five) {
			t.Error("a device was displaced")
		}
		if got := a.Connections(); got.Open != 4 || got.Devices != 4 || got.Refused["source"] != 1 || got.Refused["total"] != 1 {
			t.Errorf("%+v", got)
		}
		_ = tcp.Close()
	})
}

// TestWebSocketFlood is TestOneSourceTooFast over WebSockets: the same limits, by where it comes from.
func TestWebSocketFlood(t *testing.T) {
	t.Parallel()
	a := start(t, agreeing, limited(config.Limits{Stranger: 10}))
	at := door(t, a)
	w := dialWS(t, "127.0.0.9", at)
	const n = 300
	go func() {
		for i := range n {
			_, _ = w.conn.Write([]byte(msg{method: "INVITE", callID: fmt.Sprint("c", i)}.String()))
		}
	}()
	codes := w.outcomes(500 * time.Millisecond)
	if codes[401] < 100 || codes[401] > 150 || codes[503] < 3 || codes[503] > 20 || len(codes) != 2 {
		t.Errorf("%v, want some 100 challenges and 3 refusals a second", codes)
	}
	if c := a.Traffic(); int(c.Refused["stranger"]) != codes[503] || int(c.Dropped["stranger"]) != n-codes[401]-codes[503] {
		t.Errorf("%v, counted %+v", codes, c)
	}
	second := dialWS(t, "127.0.0.9", at) // another connection of the same source
	for i := range 100 {
		second.send(msg{method: "INVITE", callID: fmt.Sprint("second", i)}.String())
	}
	if codes := second.outcomes(500 * time.Millisecond); codes[401] > 50 {
		t.Errorf("%v: a second connection has the limit anew", codes)
	}
	other := dialWS(t, "127.0.0.10", at)
	other.send(msg{method: "INVITE", callID: "other"}.String())
	other.expect(401)
}

// TestServeConnEnds wants Run to end what is served, and what comes later not to be served.
func TestServeConnEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, err := NewAgent(Options{Secret: []byte("s")})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done, served := make(chan error), make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		m := newMailbox("192.0.2.1")
		go func() { served <- a.ServeConn(m) }()
		m.say(probe("WSS"))
		cancel()
		<-m.closed
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := a.ServeConn(newMailbox("192.0.2.1")); !errors.Is(err, ErrNoPlace) {
			t.Errorf("served by an agent that has stopped: %v", err)
		}
	})
}
