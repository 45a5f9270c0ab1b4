package media

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"
	"go.uber.org/goleak"
)

// turnRig is a TURN behind a TLS listener, and an engine's socket that answers what it gets with its capitals.
type turnRig struct {
	t      *testing.T
	turn   *TURN
	at     net.Listener
	engine netip.AddrPort
	peers  []netip.AddrPort
	set    func(*TURN) // before it serves
}

func newTURNRig(t *testing.T, change func(*turnRig, *TURNOptions)) *turnRig {
	t.Helper()
	r := &turnRig{t: t}
	u, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r.engine = addrPortOf(u.LocalAddr())
	r.peers = []netip.AddrPort{r.engine}
	o := TURNOptions{Peers: func() []netip.AddrPort { return r.peers }, Realm: "baton", Secret: []byte("a secret of the node")}
	if change != nil {
		change(r, &o)
	}
	if r.turn, err = NewTURN(o); err != nil {
		t.Fatal(err)
	}
	if r.set != nil {
		r.set(r.turn)
	}
	if r.at, err = tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{anyCertificate(t)}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = r.turn.Run(ctx) })
	all.Go(func() { echo(u) })
	all.Go(func() {
		for {
			c, err := r.at.Accept()
			if err != nil {
				return
			}
			all.Go(func() { r.turn.ServeConn(c) })
		}
	})
	t.Cleanup(func() {
		_ = r.at.Close()
		_ = u.Close()
		cancel()
		all.Wait()
		if n := r.turn.Allocations(); n != 0 || len(r.turn.users) != 0 {
			t.Errorf("%d allocations of %v are still counted", n, r.turn.users)
		}
		goleak.VerifyNone(t)
	})
	return r
}

func echo(u *net.UDPConn) {
	b := make([]byte, 1500)
	for {
		n, from, err := u.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		_, _ = u.WriteToUDPAddrPort(bytes.ToUpper(b[:n]), from)
	}
}

// anyCertificate is good enough for a client that does not check.
func anyCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// dial is a client with credentials, over a connection of its own.
func (r *turnRig) dial(username, password string) *turn.Client {
	r.t.Helper()
	c, err := tls.Dial("tcp", r.at.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		r.t.Fatal(err)
	}
	client, err := turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: r.at.Addr().String(), TURNServerAddr: r.at.Addr().String(), Conn: turn.NewSTUNConn(c),
		Username: username, Password: password, Realm: "baton", LoggerFactory: silent, RTO: 5 * time.Second,
	})
	if err == nil {
		err = client.Listen()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		client.Close()
		_ = c.Close()
	})
	return client
}

// user is a client with good credentials.
func (r *turnRig) user(name string) *turn.Client {
	username, password, _ := r.turn.Credentials(name)
	return r.dial(username, password)
}

// allocate wants an allocation, which ends with the test.
func (r *turnRig) allocate(c *turn.Client) net.PacketConn {
	r.t.Helper()
	relay, err := c.Allocate()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = relay.Close() })
	return relay
}

// answers wants a packet to come back, changed by the engine.
func (r *turnRig) answers(relay net.PacketConn, to netip.AddrPort) {
	r.t.Helper()
	if _, err := relay.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(to)); err != nil {
		r.t.Fatalf("to %v: %v", to, err)
	}
	b := make([]byte, 1500)
	_ = relay.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, from, err := relay.ReadFrom(b)
	if err != nil || string(b[:n]) != "HELLO" || addrPortOf(from) != to {
		r.t.Errorf("to %v: %q came from %v, error %v", to, b[:n], from, err)
	}
}

// TestTURNRelays has a client reach the engine over TLS, and be told its own address.
func TestTURNRelays(t *testing.T) {
	r := newTURNRig(t, nil)
	c := r.user("alice")
	seen, err := c.SendBindingRequest()
	if err != nil || !addrPortOf(seen).Addr().IsLoopback() {
		t.Errorf("binding: %v, error %v", seen, err)
	}
	relay := r.allocate(c)
	if at := addrPortOf(relay.LocalAddr()); at.Addr() != r.engine.Addr() {
		t.Errorf("relayed at %v, want an address that the engine announces, %v", at, r.engine)
	}
	r.answers(relay, r.engine)
	if n := r.turn.Allocations(); n != 1 {
		t.Errorf("%d allocations are counted", n)
	}
	if err := relay.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "the allocation to be over", func() bool { return r.turn.Allocations() == 0 })
}

// TestTURNBehindNAT has the address that the engine announces be that of a NAT: the relay finds the engine all the same, and
// the client sees the address that it knows.
func TestTURNBehindNAT(t *testing.T) {
	outside := netip.MustParseAddr("203.0.113.7")
	r := newTURNRig(t, func(r *turnRig, _ *TURNOptions) {
		r.peers = []netip.AddrPort{netip.AddrPortFrom(outside, r.engine.Port())}
	})
	r.answers(r.allocate(r.user("alice")), netip.AddrPortFrom(outside, r.engine.Port()))
}

// TestTURNIsNoOpenRelay is S12: nothing is relayed to but the engine's own ports, however the address is written.
func TestTURNIsNoOpenRelay(t *testing.T) {
	r := newTURNRig(t, nil)
	c := r.user("alice")
	relay := r.allocate(c)
	for _, host := range []string{
		"127.0.0.2", "0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1", "255.255.255.255", "10.0.0.1", "192.0.2.1", "8.8.8.8",
	} {
		ip := net.ParseIP(host)
		if err := c.CreatePermission(&net.UDPAddr{IP: ip, Port: int(r.engine.Port())}); err == nil || !strings.Contains(err.Error(), "403") {
			t.Errorf("%s: %v, want 403", host, err)
		}
	}
	for _, host := range []string{"::", "::1", "::ffff:0.0.0.0", "::ffff:127.0.0.2", "::ffff:169.254.169.254", "ff02::1", "fe80::1"} {
		if ip := net.ParseIP(host); r.turn.permits(relay.LocalAddr(), ip.To16()) {
			t.Errorf("%s is permitted", host)
		}
	}
	if !r.turn.permits(relay.LocalAddr(), net.ParseIP("::ffff:127.0.0.1")) {
		t.Error("the engine's own address is not permitted as IPv4 in IPv6")
	}

	// Another port of the engine's address: what redis or the control API would be.
	other, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for range 3 {
		if _, err := relay.WriteTo([]byte("hello"), other.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	r.answers(relay, r.engine) // what was sent before has been dealt with
	if n := readable(other); n != 0 {
		t.Errorf("%d packets came to another port of the engine's address", n)
	}
	// And from there nothing comes in.
	if _, err := other.WriteTo([]byte("intruder"), relay.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	r.answers(relay, r.engine)
}

// readable counts the datagrams that wait at a socket.
func readable(c net.PacketConn) (n int) {
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	for b := make([]byte, 1500); ; n++ {
		if _, _, err := c.ReadFrom(b); err != nil {
			return n
		}
	}
}

// TestTURNCredentials wants nothing but what was made here, and in time; a connection goes on with what it has.
func TestTURNCredentials(t *testing.T) {
	var later time.Duration
	var mu sync.Mutex
	r := newTURNRig(t, func(r *turnRig, _ *TURNOptions) {
		r.set = func(s *TURN) { s.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(later) } }
	})
	other, err := NewTURN(TURNOptions{Peers: r.turn.opt.Peers, Realm: "baton", Secret: []byte("another node's")})
	if err != nil {
		t.Fatal(err)
	}
	good, password, until := r.turn.Credentials("alice")
	if left := time.Until(until); left < time.Hour || left > 12*time.Hour {
		t.Errorf("credentials are good for %v", left)
	}
	forged := strconv.FormatInt(until.Add(time.Hour).Unix(), 10) + ":alice"
	old := strconv.FormatInt(time.Now().Add(-time.Second).Unix(), 10) + ":alice"
	for what, c := range map[string][2]string{
		"wrong password":         {good, "wrong"},
		"no password":            {good, ""},
		"longer than granted":    {forged, password},
		"for somebody else":      {strings.Replace(good, "alice", "bob", 1), password},
		"of another node":        {good, other.password(good)},
		"expired":                {old, r.turn.password(old)},
		"no time":                {"alice", r.turn.password("alice")},
		"a time that is no time": {"soon:alice", r.turn.password("soon:alice")},
	} {
		relay, err := r.dial(c[0], c[1]).Allocate()
		if err == nil {
			_ = relay.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "401") {
			t.Errorf("%s: %v, want 401", what, err)
		}
	}
	c := r.dial(good, password)
	relay := r.allocate(c)
	mu.Lock()
	later = 24 * time.Hour
	mu.Unlock()
	if err := c.CreatePermission(net.UDPAddrFromAddrPort(r.engine)); err != nil {
		t.Errorf("a connection does not go on when its credentials have expired: %v", err)
	}
	r.answers(relay, r.engine)
	if _, err := r.dial(good, password).Allocate(); err == nil {
		t.Error("expired credentials make a new allocation")
	}
}

// TestTURNQuota bounds the allocations of a user and of all, and counts those down that are over.
func TestTURNQuota(t *testing.T) {
	r := newTURNRig(t, func(_ *turnRig, o *TURNOptions) { o.PerUser, o.Total = 2, 3 })
	first := r.allocate(r.user("alice"))
	r.allocate(r.user("alice"))
	full := func(user string) {
		t.Helper()
		if _, err := r.user(user).Allocate(); err == nil || !strings.Contains(err.Error(), "486") {
			t.Errorf("one more of %s: %v, want 486", user, err)
		}
	}
	full("alice")
	r.allocate(r.user("bob"))
	full("carol")
	_ = first.Close()
	eventually(t, "a place", func() bool { return r.turn.Allocations() == 2 })
	r.allocate(r.user("carol"))
	full("alice")
}

// TestTURNWithoutAllocation closes a connection that asks for nothing, and one whose allocation is over.
func TestTURNWithoutAllocation(t *testing.T) {
	r := newTURNRig(t, func(r *turnRig, _ *TURNOptions) { r.set = func(s *TURN) { s.idle = 300 * time.Millisecond } })
	c, err := tls.Dial("tcp", r.at.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	b := make([]byte, 1500)
	if n, err := c.Read(b); err != nil || !stun.IsMessage(b[:n]) {
		t.Fatalf("binding: %v", err)
	}
	if _, err := c.Read(b); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the connection is not closed: %v", err)
	}
	relay := r.allocate(r.user("alice"))
	time.Sleep(3 * r.turn.idle)
	r.answers(relay, r.engine) // this one stays
}

// TestTURNNoTCP refuses allocations of TCP (RFC 6062).
func TestTURNNoTCP(t *testing.T) {
	r := newTURNRig(t, nil)
	if _, err := r.user("alice").AllocateTCP(); err == nil || !strings.Contains(err.Error(), "508") {
		t.Errorf("%v, want 508", err)
	}
	if n := r.turn.Allocations(); n > 1 {
		t.Errorf("%d allocations are counted", n)
	}
}

// eventually polls until what is awaited has happened.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !happened(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
