package bench

import (
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// patience is how long an answer may take; requests are not sent again, so what is lost is counted as failed.
const patience = 5 * time.Second

// agent is a user agent for load: one UDP socket, any number of registrations and calls, no timers.
type agent struct {
	// set once
	user   string
	server netip.AddrPort // another one only while nothing is under way
	conn   *net.UDPConn
	at     netip.AddrPort
	legs   *generator // gives each call an address for its audio; nil: a fixed one, and no packets
	frames int        // RTP packets that each side sends once a call is up
	nextID atomic.Uint64

	// guarded by mu
	mu    sync.Mutex
	waits map[string]chan *phone.Message // responses, by Call-ID
	taken map[string]*answer             // calls that came in, by Call-ID
	made  map[string]*leg                // and those that went out
}

// answer is what an INVITE that came in was answered with.
type answer struct {
	ok  *phone.Message
	leg *leg
}

func newAgent(t *testing.T, user string, host netip.Addr, server netip.AddrPort, legs *generator) *agent {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, 0)))
	must(t, err)
	conn.SetReadBuffer(4 << 20)
	a := &agent{
		user: user, server: server, conn: conn, at: conn.LocalAddr().(*net.UDPAddr).AddrPort(), legs: legs,
		waits: map[string]chan *phone.Message{}, taken: map[string]*answer{}, made: map[string]*leg{},
	}
	go a.read()
	t.Cleanup(func() { conn.Close() })
	return a
}

func (a *agent) read() {
	buf := make([]byte, 65536)
	for {
		n, from, err := a.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		m, err := phone.Parse(buf[:n])
		if err != nil {
			continue // a keep-alive
		}
		if m.Code == 0 {
			a.serve(m, from)
			continue
		}
		a.mu.Lock()
		wait := a.waits[m.Get("Call-ID")]
		a.mu.Unlock()
		select {
		case wait <- m:
		default:
		}
	}
}

func (a *agent) send(m *phone.Message) { a.sendTo(m, a.server) }

func (a *agent) sendTo(m *phone.Message, to netip.AddrPort) { a.conn.WriteToUDPAddrPort(m.Bytes(), to) }

// serve answers a request: calls are taken at once, all else is agreed to.
func (a *agent) serve(m *phone.Message, from netip.AddrPort) {
	switch m.Method {
	case "INVITE":
		if phone.Param(m.Get("To"), "tag") != "" {
			a.again(m, from)
			return
		}
		a.take(m)
	case "ACK":
		a.mu.Lock()
		got := a.taken[m.Get("Call-ID")]
		a.mu.Unlock()
		if got != nil && got.leg != nil && a.frames > 0 {
			go a.legs.speak(got.leg, a.frames)
		}
	default:
		a.sendTo(reply(m, 200, "OK"), from)
	}
}

// again agrees to a re-INVITE: the sound goes to where that says.
func (a *agent) again(m *phone.Message, from netip.AddrPort) {
	a.mu.Lock()
	l, got := a.made[m.Get("Call-ID")], a.taken[m.Get("Call-ID")]
	a.mu.Unlock()
	if got != nil {
		l = got.leg
	}
	ok := reply(m, 200, "OK")
	ok.Add("Contact", a.contact())
	if a.describe(ok, l); l != nil {
		to := audioAddress(m.Body)
		l.next.Store(&to)
	}
	a.sendTo(ok, from)
}

func (a *agent) take(m *phone.Message) {
	id := m.Get("Call-ID")
	a.mu.Lock()
	got := a.taken[id]
	a.mu.Unlock()
	if got == nil {
		ringing := reply(m, 180, "Ringing")
		ringing.Add("Contact", a.contact())
		a.send(ringing)
		got = &answer{ok: reply(m, 200, "OK")}
		got.ok.Add("Contact", a.contact())
		got.leg = a.describe(got.ok, nil)
		if got.leg != nil {
			got.leg.to = audioAddress(m.Body)
		}
		a.mu.Lock()
		a.taken[id] = got
		a.mu.Unlock()
	}
	a.send(got.ok)
}

func reply(m *phone.Message, code int, reason string) *phone.Message {
	r := &phone.Message{Code: code, Reason: reason}
	for _, h := range m.Headers {
		switch h.Name {
		case "Via", "From", "Call-ID", "CSeq", "Record-Route":
			r.Add(h.Name, h.Value)
		case "To":
			if phone.Param(h.Value, "tag") == "" {
				h.Value += ";tag=far"
			}
			r.Add(h.Name, h.Value)
		}
	}
	return r
}

// describe puts an SDP body into a message and gives the leg that it tells of, a new one if it is nil; without audio there is none.
func (a *agent) describe(m *phone.Message, l *leg) *leg {
	addr := netip.AddrPortFrom(a.at.Addr(), rtpPort)
	if a.legs != nil {
		if l == nil {
			l = a.legs.newLeg()
		}
		addr = netip.AddrPortFrom(l.addr, rtpPort)
	}
	m.Add("Content-Type", "application/sdp")
	m.Body = description(addr)
	return l
}

func description(addr netip.AddrPort) []byte {
	return fmt.Appendf(nil, "v=0\r\no=- 1 1 IN IP4 %s\r\ns=-\r\nc=IN IP4 %s\r\nt=0 0\r\nm=audio %d RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\na=sendrecv\r\n",
		addr.Addr(), addr.Addr(), addr.Port())
}

func (a *agent) contact() string { return fmt.Sprintf("<sip:%s@%s>", a.user, a.at) }

// exchange is one Call-ID's requests and their answers.
type exchange struct {
	agent   *agent
	user    string
	id      string
	from    string
	seq     int
	answers chan *phone.Message
	took    time.Duration // from a request with credentials to its final answer
}

func (a *agent) exchange(user string) *exchange {
	id := fmt.Sprintf("%s-%s-%d", user, a.at, a.nextID.Add(1))
	x := &exchange{
		agent: a, user: user, id: id, from: fmt.Sprintf("<sip:%s@%s>;tag=%s", user, a.server.Addr(), hash(id)[:8]),
		answers: make(chan *phone.Message, 16),
	}
	a.mu.Lock()
	a.waits[id] = x.answers
	a.mu.Unlock()
	return x
}

func (x *exchange) close() {
	x.agent.mu.Lock()
	defer x.agent.mu.Unlock()
	delete(x.agent.waits, x.id)
}

func (x *exchange) request(method, uri, to string) *phone.Message {
	if method != "ACK" {
		x.seq++
	}
	m := &phone.Message{Method: method, URI: uri}
	m.Add("Via", fmt.Sprintf("SIP/2.0/UDP %s;branch=z9hG4bK%s-%d-%s;rport", x.agent.at, hash(x.id), x.seq, method))
	m.Add("Max-Forwards", "70")
	m.Add("From", x.from)
	m.Add("To", to)
	m.Add("Call-ID", x.id)
	m.Add("CSeq", fmt.Sprintf("%d %s", x.seq, method))
	return m
}

// final sends a request and waits for the answer that ends it.
func (x *exchange) final(m *phone.Message) (*phone.Message, error) {
	x.agent.send(m)
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		select {
		case res := <-x.answers:
			if seq, method := res.CSeq(); res.Code >= 200 && int(seq) == x.seq && method == m.Method {
				return res, nil
			}
		case <-late.C:
			return nil, fmt.Errorf("%s of %s: no answer within %s", m.Method, x.user, patience)
		}
	}
}

// authenticated sends a request twice: without credentials, and with what the challenge asks for.
func (x *exchange) authenticated(build func() *phone.Message) (*phone.Message, error) {
	m := build()
	res, err := x.final(m)
	if err != nil {
		return nil, err
	}
	if res.Code != 401 && res.Code != 407 {
		return res, fmt.Errorf("%s of %s: %s, want a challenge", m.Method, x.user, res.Line())
	}
	if m.Method == "INVITE" { // the ACK belongs to the same transaction, RFC 3261 §17.1.1.3
		ack := x.request("ACK", m.URI, res.Get("To"))
		ack.Set("Via", m.Get("Via"))
		x.agent.send(ack)
	}
	ask, with := "WWW-Authenticate", "Authorization"
	if res.Code == 407 {
		ask, with = "Proxy-Authenticate", "Proxy-Authorization"
	}
	again := build()
	again.Add(with, credentials(res.Get(ask), x.user, again.Method, again.URI))
	sent := time.Now()
	res, err = x.final(again)
	if x.took = time.Since(sent); err == nil && res.Code != 200 {
		err = fmt.Errorf("%s of %s: %s", m.Method, x.user, res.Line())
	}
	return res, err
}

// credentials answer an MD5 challenge with qop=auth (RFC 7616 §3.4).
func credentials(challenge, user, method, uri string) string {
	realm, nonce := quoted(challenge, "realm"), quoted(challenge, "nonce")
	ha1, ha2 := hash(user+":"+realm+":"+node.Password(user)), hash(method+":"+uri)
	v := fmt.Sprintf(`Digest username="%s", realm="%s", nonce="%s", uri="%s", response="%s", algorithm=MD5, qop=auth, nc=00000001, cnonce="c0ffee"`,
		user, realm, nonce, uri, hash(ha1+":"+nonce+":00000001:c0ffee:auth:"+ha2))
	if opaque := quoted(challenge, "opaque"); opaque != "" {
		v += fmt.Sprintf(`, opaque="%s"`, opaque)
	}
	return v
}

func quoted(challenge, name string) string {
	_, rest, _ := strings.Cut(challenge, name+`="`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

func hash(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}
