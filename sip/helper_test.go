package sip

import (
	"bufio"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"baton/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testRealm = "baton-test"

func md5hex(s string) string { b := md5.Sum([]byte(s)); return hex.EncodeToString(b[:]) }
func sha256hex(s string) string {
	b := sha256.Sum256([]byte(s))
	return hex.EncodeToString(b[:])
}

// logins is a Credentials: login → password; every login is the user "u-"+login with the numbers given.
type logins map[string]string

func (l logins) Secret(login string) (Secret, bool) {
	password, ok := l[login]
	if !ok {
		return Secret{}, false
	}
	a1 := login + ":" + testRealm + ":" + password
	return Secret{User: "alice", Identities: []string{"alice", "101"}, MD5: md5hex(a1), SHA256: sha256hex(a1)}, true
}

// quick makes an agent's timers 25 times shorter than the RFC's.
var quick = timing{t1: 20 * time.Millisecond, t2: 160 * time.Millisecond, c: time.Second, cancel: 300 * time.Millisecond}

// unlimited has no rates: tests ask for more than any office does.
var unlimited = config.Limits{CPU: 90}

// start runs an agent on loopback until the test ends, without limits.
func start(t testing.TB, change ...func(*Options)) *Agent {
	t.Helper()
	o := Options{
		Listen: config.Listen{UDP: "127.0.0.1:0", TCP: "127.0.0.1:0"}, Domain: "example.com", Realm: testRealm,
		Secret: []byte("secret"), Limits: unlimited, Credentials: logins{"alice": "pw", "101": "pw"},
	}
	for _, c := range change {
		c(&o)
	}
	a, err := NewAgent(o)
	if err != nil {
		t.Fatal(err)
	}
	a.timing = quick
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = a.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Error("agent does not stop")
		}
	})
	return a
}

func handle(method string, fn func(*Exchange)) func(*Options) {
	return func(o *Options) {
		h := map[string]func(*Exchange){method: fn}
		for m, f := range o.Handlers {
			h[m] = f
		}
		o.Handlers = h
	}
}

// wire is a peer that is no agent: it sends bytes and reads messages.
type wire struct {
	t    testing.TB
	conn net.Conn
	r    interface{ next() ([]byte, error) } // nil over UDP
	buf  []byte
}

// dial opens a UDP socket or TCP connection from the given address ("" = any) to the agent.
func dial(t testing.TB, network, from string, to netip.AddrPort) *wire {
	t.Helper()
	d := net.Dialer{Timeout: 5 * time.Second}
	if from != "" {
		ip := net.ParseIP(from)
		if network == "udp" {
			d.LocalAddr = &net.UDPAddr{IP: ip}
		} else {
			d.LocalAddr = &net.TCPAddr{IP: ip}
		}
	}
	c, err := d.Dial(network, to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	w := &wire{t: t, conn: c, buf: make([]byte, MaxMessage)}
	if network == "tcp" {
		w.r = &framer{r: bufio.NewReader(c)}
	}
	return w
}

func (w *wire) send(msg string) {
	w.t.Helper()
	if _, err := w.conn.Write([]byte(msg)); err != nil {
		w.t.Fatal(err)
	}
}

var errQuiet = errors.New("nothing came")

// read waits for one message; errQuiet if none comes in time.
func (w *wire) read(wait time.Duration) ([]byte, error) {
	_ = w.conn.SetReadDeadline(time.Now().Add(wait))
	var msg []byte
	var err error
	if w.r != nil {
		msg, err = w.r.next()
	} else {
		var n int
		n, err = w.conn.Read(w.buf)
		msg = append([]byte(nil), w.buf[:n]...)
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return nil, errQuiet
	}
	return msg, err
}

// response waits for a response.
func (w *wire) response() *Response {
	w.t.Helper()
	for {
		data, err := w.read(5 * time.Second)
		if err != nil {
			w.t.Fatalf("no response: %v", err)
		}
		m, err := parse(data, Flow{})
		if err != nil {
			w.t.Fatalf("bad response: %v\n%s", err, data)
		}
		if r, ok := m.(*Response); ok {
			return r
		}
	}
}

// request waits for a request.
func (w *wire) request() *Request {
	w.t.Helper()
	for {
		data, err := w.read(5 * time.Second)
		if err != nil {
			w.t.Fatalf("no request: %v", err)
		}
		m, err := parse(data, Flow{Transport: "udp", Remote: netip.MustParseAddrPort(w.conn.RemoteAddr().String())})
		if err != nil {
			w.t.Fatalf("bad request: %v\n%s", err, data)
		}
		if r, ok := m.(*Request); ok {
			return r
		}
	}
}

// final waits for a final response.
func (w *wire) final() *Response {
	w.t.Helper()
	for {
		if r := w.response(); r.code >= 200 {
			return r
		}
	}
}

func (w *wire) expect(code int) *Response {
	w.t.Helper()
	r := w.response()
	if r.code != code {
		w.t.Fatalf("got %d %s, want %d", r.code, r.reason, code)
	}
	return r
}

// quiet fails if anything comes within the time.
func (w *wire) quiet(wait time.Duration) {
	w.t.Helper()
	if data, err := w.read(wait); err == nil {
		w.t.Fatalf("unexpected message:\n%s", data)
	}
}

// never fails if a request of the method comes within the time; others are passed over.
func (w *wire) never(method string, wait time.Duration) {
	w.t.Helper()
	for end := time.Now().Add(wait); time.Now().Before(end); {
		if data, err := w.read(time.Until(end)); err == nil && strings.HasPrefix(string(data), method) {
			w.t.Fatalf("unexpected %s:\n%s", method, data)
		}
	}
}

// msg is a request a test sends; zero fields get sensible values.
type msg struct {
	method, uri, from, to, fromTag, toTag, callID, branch, via string
	cseq                                                       int
	headers                                                    []string
	body                                                       string
	transport                                                  string
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func (m msg) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s SIP/2.0\r\n", m.method, or(m.uri, "sip:bob@example.com"))
	via := fmt.Sprintf("SIP/2.0/%s 127.0.0.1;rport;branch=%s", or(m.transport, "UDP"), or(m.branch, magic+random(8)))
	fmt.Fprintf(&b, "Via: %s\r\n", or(m.via, via))
	fmt.Fprintf(&b, "From: <sip:%s@example.com>;tag=%s\r\n", or(m.from, "alice"), or(m.fromTag, "ft"))
	to := fmt.Sprintf("<sip:%s@example.com>", or(m.to, "bob"))
	if m.toTag != "" {
		to += ";tag=" + m.toTag
	}
	fmt.Fprintf(&b, "To: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\nMax-Forwards: 70\r\n", to, or(m.callID, "cid"), max(m.cseq, 1), m.method)
	if m.method == "INVITE" && !strings.Contains(strings.Join(m.headers, "\n"), "Contact:") {
		b.WriteString("Contact: <sip:alice@127.0.0.1:9999>\r\n")
	}
	b.WriteString("User-Agent: a phone whose requests are as long as a phone's\r\n") // none shorter gets a full answer
	for _, h := range m.headers {
		b.WriteString(h + "\r\n")
	}
	if m.body != "" {
		b.WriteString("Content-Type: application/sdp\r\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(m.body), m.body)
	return b.String()
}

// login answers a challenge.
type login struct {
	user, password, algorithm, uri, method string
	nc                                     int
	noQOP                                  bool
}

func nonceOf(r *Response) string {
	_, s, _ := strings.Cut(r.Header("WWW-Authenticate"), `nonce="`)
	s, _, _ = strings.Cut(s, `"`)
	return s
}

func (l login) header(nonce string) string {
	h, uri := md5hex, or(l.uri, "sip:bob@example.com")
	if l.algorithm == "SHA-256" {
		h = sha256hex
	}
	ha1, ha2 := h(l.user+":"+testRealm+":"+l.password), h(l.method+":"+uri)
	s := fmt.Sprintf(`Authorization: Digest username="%s", realm="%s", nonce="%s", uri="%s"`, l.user, testRealm, nonce, uri)
	if l.algorithm != "" {
		s += ", algorithm=" + l.algorithm
	}
	if l.noQOP {
		return s + fmt.Sprintf(`, response="%s"`, h(ha1+":"+nonce+":"+ha2))
	}
	nc := fmt.Sprintf("%08x", max(l.nc, 1))
	return s + fmt.Sprintf(`, qop=auth, nc=%s, cnonce="xyz", response="%s"`, nc, h(ha1+":"+nonce+":"+nc+":xyz:auth:"+ha2))
}

// authenticated sends m without credentials, takes the challenge, and sends it again as alice; it returns what was
// sent then.
func (w *wire) authenticated(m msg) msg {
	w.t.Helper()
	w.send(m.String())
	r := w.expect(401)
	m.cseq = max(m.cseq, 1) + 1
	m.branch = magic + random(8)
	m.headers = append(m.headers, login{user: "alice", password: "pw", method: m.method, uri: m.uri}.header(nonceOf(r)))
	w.send(m.String())
	return m
}

// soon waits for a condition.
func soon(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func receive[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(5 * time.Second):
		t.Fatalf("not in time: %s", what)
		panic("unreachable")
	}
}

// tables counts what an agent remembers.
func (a *Agent) tables() int {
	n := 0
	for _, s := range a.shards {
		s.mu.Lock()
		n += len(s.servers) + len(s.merged) + len(s.acks) + len(s.clients) + len(s.invites) + len(s.dialogs)
		s.mu.Unlock()
	}
	return n
}

func addrOf(w *wire) (netip.AddrPort, int) {
	a := netip.MustParseAddrPort(w.conn.LocalAddr().String())
	return a, int(a.Port())
}

func loopback(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), a.Port())
}

// newLossy relays datagrams between whoever sends first and the target, dropping every n-th of each 2n at random.
func newLossy(t *testing.T, target netip.AddrPort, n int) netip.AddrPort {
	t.Helper()
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = front.Close() })
	rnd := rand.New(rand.NewPCG(1, 2))
	go func() {
		var caller netip.AddrPort
		buf := make([]byte, MaxMessage)
		for {
			k, from, err := front.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			to := target
			if from == target {
				to = caller
			} else {
				caller = from
			}
			if rnd.IntN(n) != 0 && to.IsValid() {
				_, _ = front.WriteToUDPAddrPort(buf[:k], to)
			}
		}
	}()
	return front.LocalAddr().(*net.UDPAddr).AddrPort()
}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // what a sync.Pool keeps is given up by the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
