package registrar

import (
	"bufio"
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/config"
	"baton/sip"
)

// station is a registrar behind a real agent on loopback.
type station struct {
	*Registrar
	agent *sip.Agent
}

func newStation(t *testing.T, keepAlive time.Duration) *station {
	t.Helper()
	var s station
	var err error
	s.agent, err = sip.NewAgent(sip.Options{
		Listen: config.Listen{UDP: "127.0.0.1:0", TCP: "127.0.0.1:0", TLS: "off"}, Realm: "baton", Secret: []byte(strings.Repeat("k", 32)),
		Credentials: &s, Log: slog.New(slog.DiscardHandler),
		Handlers:   map[string]func(*sip.Exchange){"REGISTER": func(x *sip.Exchange) { s.Register(x) }},
		FlowClosed: func(f sip.Flow) { s.FlowClosed(f) },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Registrar, err = New(Options{
		Agent: s.agent, Store: newMemory(), Journal: new(diary), Log: slog.New(slog.DiscardHandler), Realm: "baton", KeepAlive: keepAlive,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.askTimeout = 300 * time.Millisecond
	if _, _, err := s.AddUser(UserSpec{Name: "alice", Numbers: []string{"101"}, Password: "secret"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var runs sync.WaitGroup
	runs.Go(func() { _ = s.agent.Run(ctx) })
	runs.Go(func() { _ = s.Run(ctx) })
	t.Cleanup(func() { cancel(); runs.Wait() })
	return &s
}

// line is a phone's socket, with a reader for what comes.
type line struct {
	net.Conn
	t    *testing.T
	in   *bufio.Reader
	cseq int
}

func (s *station) dial(t *testing.T, network string) *line {
	t.Helper()
	c, err := net.Dial(network, s.agent.Addrs()[network].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &line{Conn: c, t: t, in: bufio.NewReaderSize(c, 64<<10)}
}

// read takes one message without body.
func (l *line) read() string {
	l.t.Helper()
	_ = l.SetReadDeadline(time.Now().Add(5 * time.Second))
	var b strings.Builder
	for !strings.HasSuffix(b.String(), "\r\n\r\n") {
		part, err := l.in.ReadString('\n')
		if err != nil {
			l.t.Fatalf("read: %v", err)
		}
		if b.Len() > 0 || part != "\r\n" { // no keep-alive
			b.WriteString(part)
		}
	}
	return b.String()
}

var challenge = regexp.MustCompile(`(?i)WWW-Authenticate: Digest .*realm="([^"]*)".*\r\n`)

// register registers with a digest of login and password, and returns the final answer.
func (l *line) register(login, password, contact string) string {
	l.t.Helper()
	return l.registerAs(login, login, password, contact)
}

// registerAs registers a user by a login that may be another name.
func (l *line) registerAs(user, login, password, contact string) string {
	l.t.Helper()
	network := l.LocalAddr().Network()
	send := func(authorization string) string {
		l.cseq++
		fmt.Fprintf(l, "REGISTER sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/%s %s;branch=z9hG4bK-%d-%d;rport\r\nMax-Forwards: 70\r\n"+
			"From: <sip:%s@127.0.0.1>;tag=t\r\nTo: <sip:%s@127.0.0.1>\r\nCall-ID: %s\r\nCSeq: %d REGISTER\r\nContact: %s\r\n"+
			"User-Agent: Yealink SIP-T46S 66.85.0.5\r\n%sContent-Length: 0\r\n\r\n",
			strings.ToUpper(network), l.LocalAddr(), l.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort().Port(), l.cseq, user, user, l.LocalAddr(), l.cseq, contact, authorization)
		return l.read()
	}
	first := send("")
	m := challenge.FindStringSubmatch(first)
	if !strings.HasPrefix(first, "SIP/2.0 401 ") || m == nil {
		l.t.Fatalf("no challenge:\n%s", first)
	}
	nonce := regexp.MustCompile(`nonce="([^"]*)"`).FindStringSubmatch(first)[1]
	hash := func(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }
	response := hash(hash(login+":"+m[1]+":"+password) + ":" + nonce + ":00000001:c:auth:" + hash("REGISTER:sip:127.0.0.1"))
	return send(fmt.Sprintf(`Authorization: Digest username="%s", realm="%s", nonce="%s", uri="sip:127.0.0.1", response="%s", `+
		"algorithm=MD5, qop=auth, nc=00000001, cnonce=\"c\"\r\n", login, m[1], nonce, response))
}

func (s *station) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: devices are %+v", what, s.Devices("alice"))
		}
	}
}

// TestAgent registers over real sockets, is kept alive over the flow, and is away when that has closed.
func TestAgent(t *testing.T) {
	s := newStation(t, 200*time.Millisecond)
	for _, network := range []string{"udp", "tcp"} {
		phone := s.dial(t, network)
		contact := fmt.Sprintf("<sip:x@192.168.77.7:5060;transport=%s>", network) // as from behind NAT
		if got := phone.register("101", "wrong", contact); !strings.HasPrefix(got, "SIP/2.0 401 ") {
			t.Fatalf("a wrong password gets\n%s", got)
		}
		got := phone.register("101", "secret", contact)
		if !strings.HasPrefix(got, "SIP/2.0 200 ") || !regexp.MustCompile(regexp.QuoteMeta("Contact: "+contact)+`;expires=3[2-6][0-9]{2}\r\n`).MatchString(got) {
			t.Fatalf("REGISTER over %s gets\n%s", network, got)
		}
		here := s.Lookup("alice")
		if len(here) != 1 || here[0].Binding.Flow.Transport != network || here[0].Binding.Flow.Remote != addr(phone.LocalAddr()) {
			t.Fatalf("devices here: %+v", here)
		}
		for range 2 {
			ask := phone.read()
			if !strings.HasPrefix(ask, "OPTIONS sip:x@192.168.77.7:5060;transport="+network+" SIP/2.0\r\n") {
				t.Fatalf("kept alive by\n%s", ask)
			}
			_, _ = io.WriteString(phone, refusal404(t, ask))
		}
		if !s.Devices("alice")[0].Here() {
			t.Error("a phone that answers 404 is away")
		}
		if d, ok := s.DeviceOf("alice", here[0].Binding.Flow, sip.NameAddr{}); !ok || d.Key != here[0].Key {
			t.Errorf("device of the flow is %+v", d)
		}
		_ = phone.Close()
		s.until(t, "closed over "+network, func() bool { return len(s.Lookup("alice")) == 0 })
		if err := s.Forget("alice", "1"); err != nil {
			t.Fatal(err)
		}
	}
}

func addr(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }

// refusal404 answers a request as a phone does that knows no such user.
func refusal404(t *testing.T, request string) string {
	t.Helper()
	r, err := sip.ParseRequest([]byte(request))
	if err != nil {
		t.Fatalf("%v in\n%s", err, request)
	}
	var b strings.Builder
	b.WriteString("SIP/2.0 404 Not Found\r\n")
	for _, name := range []string{"Via", "From", "Call-ID", "CSeq"} {
		fmt.Fprintf(&b, "%s: %s\r\n", name, r.Header(name))
	}
	fmt.Fprintf(&b, "To: %s;tag=x\r\nContent-Length: 0\r\n\r\n", r.Header("To"))
	return b.String()
}
