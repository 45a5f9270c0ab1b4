package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// How long the node waits for a first message, and what a busy machine may add.
const (
	firstMessage = 10 * time.Second
	lateBy       = 10 * time.Second
)

// stranger is a connection that takes a place and never says one whole thing.
type stranger struct {
	kind string
	open time.Duration // until it found itself closed, from when it was connected
	all  time.Duration // the same, from when it began to connect
	err  error
}

// strangers are the kinds, each beginning on a fresh connection; what it returns is dripped for ever, a byte every 200 ms.
var strangers = []struct {
	kind   string
	secure bool
	begin  func(c net.Conn) (net.Conn, string)
}{
	{"silent", false, func(c net.Conn) (net.Conn, string) { return c, "" }},
	{"half a message", false, func(c net.Conn) (net.Conn, string) {
		_, _ = c.Write([]byte("REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/TCP x;branch=z9hG4bK1\r\nFrom: "))
		return c, ""
	}},
	{"dripping", false, func(c net.Conn) (net.Conn, string) {
		return c, "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/TCP x"
	}},
	{"no handshake", true, func(c net.Conn) (net.Conn, string) { return c, "" }},
	{"ClientHello only", true, func(c net.Conn) (net.Conn, string) { _, _ = c.Write(clientHello()); return c, "" }},
	{"dripping ClientHello", true, func(c net.Conn) (net.Conn, string) { return c, string(clientHello()) }},
	{"dripping in TLS", true, func(c net.Conn) (net.Conn, string) {
		s := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		_ = s.SetDeadline(time.Now().Add(firstMessage))
		if err := s.Handshake(); err != nil {
			return c, ""
		}
		return s, "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/TLS x"
	}},
}

// clientHello is the first flight of a TLS client.
var clientHello = sync.OnceValue(func() []byte {
	ours, theirs := net.Pipe()
	go func() { _ = tls.Client(ours, &tls.Config{InsecureSkipVerify: true}).Handshake() }()
	buf := make([]byte, 8192)
	n, _ := theirs.Read(buf)
	theirs.Close()
	return buf[:n]
})

// strange connects as the i-th stranger and stays until it is closed.
func strange(i int, from netip.Addr, at *node.Node) (s stranger) {
	kind := strangers[i%len(strangers)]
	s.kind = kind.kind
	port := at.TCP.Port()
	if kind.secure {
		port = at.TLS.Port()
	}
	server := at.TCP.Addr()
	if from.IsLoopback() {
		server = netip.MustParseAddr("127.0.0.1")
	}
	d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}
	start := time.Now()
	c, err := d.Dial("tcp", netip.AddrPortFrom(server, port).String())
	if err != nil {
		s.err = err
		return s
	}
	defer c.Close()
	begin := time.Now()
	conn, text := kind.begin(c)
	if text != "" {
		stop := make(chan struct{})
		defer close(stop)
		go drip(conn, text, stop)
	}
	_ = c.SetReadDeadline(begin.Add(4 * firstMessage))
	s.err = untilClosed(conn)
	s.open, s.all = time.Since(begin), time.Since(start)
	return s
}

func drip(c net.Conn, text string, stop <-chan struct{}) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		if _, err := c.Write([]byte{text[i%len(text)]}); err != nil {
			return
		}
	}
}

// untilClosed reads what comes; an error says that the connection was not closed in time.
func untilClosed(c net.Conn) error {
	buf := make([]byte, 4096)
	for {
		if _, err := c.Read(buf); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				return fmt.Errorf("is not closed: %w", err)
			}
			return nil
		}
	}
}

// talking is a call of two phones that talk all the time.
type talking struct{ out, in *phone.Call }

// talks makes n calls between n pairs of users.
func talks(t *testing.T, n int) (*world, []talking) {
	users := map[string]string{"carol": "103"}
	for i := range n {
		users[fmt.Sprintf("a%d", i)], users[fmt.Sprintf("b%d", i)] = "", ""
	}
	w := newWorld(t, node.Options{Users: users})
	open := func(k int, user string) *phone.Phone {
		return w.phone(user, "desk", func(c *phone.Config) {
			c.Addr, c.Phase = node.IP(2+k%10), time.Duration(k%20)*time.Millisecond
		})
	}
	var calls []talking
	for i := range n {
		a, b := open(2*i, fmt.Sprintf("a%d", i)), open(2*i+1, fmt.Sprintf("b%d", i))
		out, in := w.connect(a, b.Config().User, b)
		calls = append(calls, talking{out, in})
	}
	return w, calls
}

// whole checks that every frame that one side sent in a time was heard by the other, on one stream.
func whole(t *testing.T, from, to *phone.Call, since, until time.Time) (frames int) {
	t.Helper()
	heard := map[uint32]bool{}
	var all []phone.Packet
	for _, p := range to.Media().Heard() {
		if p.At.After(since) {
			all = append(all, p)
		}
		if p.Source == from.Media().Source() {
			heard[p.Counter] = true
		}
	}
	lost := 0
	for counter, at := range from.Media().Sent() {
		if at.After(since) && at.Before(until) {
			frames++
			if !heard[counter] {
				lost++
			}
		}
	}
	if r := phone.Analyse(all, 8000); lost > 0 || r.Missing > 0 || len(r.SSRCs) != 1 || frames == 0 {
		t.Errorf("%s to %s: %d of %d frames lost; %s", from.Phone().Config().User, to.Phone().Config().User, lost, frames, r)
	}
	return frames
}

// TestStrangersBesideCalls wants 2,000 connections that are silent, half open or dripping to be closed in time, the calls
// beside them to lose nothing, phones to be able to come in meanwhile, and nothing to be left of it.
func TestStrangersBesideCalls(t *testing.T) {
	const calls, many, perSource = 50, 2000, 50
	w, talk := talks(t, calls)
	before, err := w.Debug()
	w.must(err)
	files := w.FDs()
	since := time.Now()

	results := make(chan stranger, many)
	for i := range many {
		n := i / perSource
		from := netip.AddrFrom4([4]byte{127, 0, 1, byte(1 + n/2)})
		if n%2 == 0 {
			from = node.IP(1 + n/2)
		}
		go func() { results <- strange(i, from, w.Node) }()
	}
	w.Eventually(firstMessage, "most strangers to be there", func() error {
		if d, err := w.Debug(); err != nil || d.Connections.Open < many*9/10 {
			return fmt.Errorf("%d are open, %v", d.Connections.Open, err)
		}
		return nil
	})
	var guests []*phone.Phone
	for _, transport := range []string{"tcp", "tls"} {
		begin := time.Now()
		p := w.phone("carol", "soft-"+transport, over(transport), func(c *phone.Config) { c.Addr = node.IP(11) })
		guests = append(guests, p)
		t.Logf("registered over %s beside them in %s", transport, time.Since(begin).Round(time.Millisecond))
	}
	during, err := w.Debug()
	w.must(err)
	checkClosed(t, results, many)
	until := time.Now()
	t.Logf("%d connections at the height, %d goroutines, %d MB live", during.Connections.Open, during.Goroutines, during.HeapBytes>>20)

	pause(time.Second) // what is under way arrives
	frames := 0
	for _, c := range talk {
		frames += whole(t, c.out, c.in, since, until) + whole(t, c.in, c.out, since, until)
	}
	t.Logf("%d calls for %s: %d frames, all heard", calls, until.Sub(since).Round(time.Millisecond), frames)
	for _, p := range guests {
		p.Disconnect()
	}
	w.Eventually(10*time.Second, "descriptors and goroutines to be what they were", func() error {
		after, err := w.Debug()
		if err != nil || after.Connections.Open != 0 || after.Goroutines > before.Goroutines+2 || w.FDs() > files+2 {
			return fmt.Errorf("%d connections, %d goroutines (were %d), %d files (were %d), %v", after.Connections.Open, after.Goroutines, before.Goroutines, w.FDs(), files, err)
		}
		return nil
	})
	after, err := w.Debug()
	w.must(err)
	if n := after.Connections.Closed["slow_first"] + after.Connections.Closed["slow_handshake"]; n != many {
		t.Errorf("counted %v, want %d slow ones", after.Connections.Closed, many)
	}
	for _, c := range talk {
		w.must(c.out.Hangup())
		w.ended(c.in)
	}
}

// checkClosed waits for all strangers and tells when each kind was closed.
func checkClosed(t *testing.T, results <-chan stranger, many int) {
	t.Helper()
	took := map[string][]time.Duration{}
	for range many {
		s := <-results
		switch {
		case s.err != nil:
			t.Errorf("%s: %v", s.kind, s.err)
		case s.open > firstMessage+lateBy || s.all < firstMessage-time.Second:
			t.Errorf("%s: closed after %s, want %s", s.kind, s.open, firstMessage)
		}
		took[s.kind] = append(took[s.kind], s.open)
	}
	for kind, all := range took {
		slices.Sort(all)
		t.Logf("%-20s %d closed after %.2f to %.2f s", kind, len(all), all[0].Seconds(), all[len(all)-1].Seconds())
	}
}

// TestTooManyOfOneSource wants the hundred and first connection of one address to be closed at once, and other addresses
// not to suffer.
func TestTooManyOfOneSource(t *testing.T) {
	w := newWorld(t)
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 2, 1)}}
	at := fmt.Sprintf("127.0.0.1:%d", w.TCP.Port())
	for range 150 {
		c, err := d.Dial("tcp", at)
		w.must(err)
		open = append(open, c)
	}
	w.Eventually(5*time.Second, "50 to be refused", func() error {
		d, err := w.Debug()
		if err != nil || d.Connections.Open != 100 || d.Connections.Refused["source"] != 50 {
			return fmt.Errorf("%+v, %v", d.Connections, err)
		}
		return nil
	})
	_ = open[149].SetReadDeadline(time.Now().Add(2 * time.Second))
	if err := untilClosed(open[149]); err != nil {
		t.Errorf("the last: %v", err)
	}
	w.phone("alice", "desk", over("tcp"))
	if n := strings.Count(w.Output(), "connection refused: too many"); n != 1 {
		t.Errorf("the log tells it %d times, want once", n)
	}
}

// ca writes what baton ca prints into a file.
func (w *world) ca() string {
	w.t.Helper()
	text, err := w.CLI("ca")
	w.must(err)
	name := filepath.Join(w.t.TempDir(), "ca.pem")
	w.must(os.WriteFile(name, []byte(text), 0o600))
	return name
}

// TestLinphoneTrustsTheCA wants a real softphone that verifies the server to register and to talk when it trusts the CA,
// and to turn away when it trusts another one.
func TestLinphoneTrustsTheCA(t *testing.T) {
	w := newWorld(t)
	alice := w.secureLinphone("alice", w.ca())
	w.Eventually(15*time.Second, "linphonec to be registered over TLS", func() error {
		if w.here("alice") == 0 {
			return fmt.Errorf("it said:\n%s", alice.output())
		}
		return nil
	})
	bob := w.phone("bob", "far", over("tls"))
	bob.Behave(phone.AutoAnswer)
	alice.do(fmt.Sprintf("call sip:bob@%s", w.TLS))
	in := w.ringing(bob)
	w.must(in.Await(5 * time.Second))
	if !in.HearsTone(5 * time.Second) {
		t.Error("bob hears nothing of linphonec")
	}
	w.must(in.Hangup())

	wary := w.secureLinphone("carol", newWorld(t).ca())
	w.Eventually(15*time.Second, "linphonec to break the handshake off", func() error {
		d, err := w.Debug()
		if err != nil || d.Connections.Closed["bad_handshake"] == 0 {
			return fmt.Errorf("%v, %v; it said:\n%s", d.Connections.Closed, err, wary.output())
		}
		return nil
	})
	if w.here("carol") != 0 {
		t.Error("linphonec has registered with a server that it cannot trust")
	}
}

// secureLinphone runs linphonec for a user over TLS; it trusts the CA of one file alone. Names are not compared: this
// one's TLS library knows no addresses in certificates (docs/phones.md), and the namespace has no names.
func (w *world) secureLinphone(user, ca string) *linphone {
	w.t.Helper()
	program := need(w.t, "linphonec", "linphone-cli")
	port, _ := linphonePorts.Next(w.t)
	l := &linphone{t: w.t, dir: w.t.TempDir()}
	w.must(os.MkdirAll(l.dir+"/.local/share/linphone", 0o700))
	w.must(os.MkdirAll(l.dir+"/.config/linphone", 0o700))
	config := fmt.Sprintf(linphoneConfig, port, port+16000)
	config = strings.Replace(config, "sip_tls_port=-1\n", "sip_tls_port=-2\nverify_server_certs=1\nverify_server_cn=0\nroot_ca="+ca+"\n", 1)
	w.must(os.WriteFile(l.dir+"/rc", []byte(config), 0o600))
	l.start(program)
	writeTone(w.t, l.dir+"/tone.wav", 600, time.Minute)
	l.do("soundcard use files")
	l.do("play " + l.dir + "/tone.wav")
	server := fmt.Sprintf("%s;transport=tls", w.TLS)
	l.do(fmt.Sprintf("register sip:%s@%s sip:%s %s", user, w.TLS, server, node.Password(user)))
	return l
}
