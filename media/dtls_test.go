package media

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// record makes one of DTLS.
func record(kind byte, epoch uint16, body ...byte) []byte {
	b := []byte{kind, 0xfe, 0xfd, byte(epoch >> 8), byte(epoch), 0, 0, 0, 0, 0, 77}
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

// foreignHello is the ClientHello of somebody else, with suites that we have or with none.
func foreignHello(t *testing.T, suites bool) []byte {
	t.Helper()
	n := newEther(t)
	c := n.newClient("203.0.113.66:5000", true)
	var hello []byte
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	n.meddle(func(_, _ netip.AddrPort, b []byte, up bool) bool {
		if hello == nil && up {
			hello = bytes.Clone(b)
			cancel()
		}
		return true
	})
	conn, err := c.dtls()
	if err != nil {
		t.Fatal(err)
	}
	if conn.HandshakeContext(ctx) == nil || hello == nil {
		t.Fatal("no ClientHello")
	}
	if ok, _ := clientHello(hello); !ok {
		t.Fatalf("no ClientHello: %x", hello)
	}
	if suites {
		return hello
	}
	at := helloRandomPos + helloRandom
	at += 1 + int(hello[at]) // session
	at += 1 + int(hello[at]) // cookie
	list := hello[at+2 : at+2+int(binary.BigEndian.Uint16(hello[at:]))]
	clear(list) // TLS_NULL_WITH_NULL_NULL
	return hello
}

// forgedRecords are packets that anybody can send (security.md, S3).
func forgedRecords(t *testing.T) map[string][]byte {
	return map[string][]byte{
		"ClientHello with a NULL suite": foreignHello(t, false),
		"ClientHello with good suites":  foreignHello(t, true),
		"data of epoch 0":               record(23, 0, 1, 2, 3),
		"a fatal alert":                 record(21, 0, 2, 40),
		"close_notify":                  record(21, 0, 1, 0),
		"a fatal alert of epoch 1":      record(21, 1, bytes.Repeat([]byte{9}, 26)...),
		"ChangeCipherSpec":              record(20, 0, 1),
		"a long ChangeCipherSpec":       record(20, 0, 1, 1),
		"a fragment beyond its message": record(22, 0, 11, 0, 0, 9, 0, 1, 0, 0, 8, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8),
		"a cut handshake record":        record(22, 0, 11, 0, 0),
		"a message of the far future":   record(22, 0, 11, 0, 0, 1, 0, 99, 0, 0, 0, 0, 0, 1, 7),
		"a Finished of epoch 1":         record(22, 1, bytes.Repeat([]byte{9}, 40)...),
		"a record longer than it is":    append(record(22, 0, 1)[:12], 99),
		"zeros":                         make([]byte, 40)[:20:20],
		"RTP":                           append([]byte{0x80, 0, 0, 1}, make([]byte, 168)...),
		"another protocol":              []byte("GET / HTTP/1.1\r\n\r\n"),
	}
}

// TestForgedHandshake (S3) sends each forgery at each point of a handshake, from another address and from the peer's own. It must come through
// in both roles.
func TestForgedHandshake(t *testing.T) {
	t.Parallel()
	all := forgedRecords(t)
	for _, active := range []bool{true, false} {
		for name, forged := range all {
			for _, own := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, the peer is the client: %v, from its own address: %v", name, active, own), func(t *testing.T) {
					t.Parallel()
					n := newEther(t)
					c := n.newClient("203.0.113.5:5000", active)
					from := c.address()
					if !own {
						from = netip.MustParseAddrPort("198.51.100.66:666")
					}
					// Between a ClientHello and our answer to it nobody could tell which of two is the peer's own.
					var begun atomic.Bool
					begun.Store(!(own && active && strings.HasPrefix(name, "ClientHello with good")))
					n.meddle(func(_, _ netip.AddrPort, b []byte, up bool) bool {
						if first, _ := clientHello(b); ofDTLS(b) && up && !first {
							begun.Store(true) // it has our answer
						}
						if ofDTLS(b) && (up || !active) && begun.Load() {
							n.arrive(forged, from, c.s.Endpoint())
						}
						return false
					})
					c.connect()
					c.say('1')
					c.await(func() bool { return len(c.heard) == 1 })
				})
			}
		}
	}
}

// TestForgedHellos sends so many ClientHellos in the middle of a handshake that there is no place for all. The peer's own keeps its.
func TestForgedHellos(t *testing.T) {
	t.Parallel()
	hello := foreignHello(t, true)
	n := newEther(t)
	c := n.newClient("203.0.113.5:5000", true)
	n.meddle(func(_, _ netip.AddrPort, b []byte, up bool) bool {
		if first, _ := clientHello(b); !ofDTLS(b) || !up || first {
			return false
		}
		for range 2 * maxTries {
			hello[helloRandomPos]++
			n.arrive(hello, c.address(), c.s.Endpoint())
		}
		return false
	})
	c.connect()
	c.say('1')
	c.await(func() bool { return len(c.heard) == 1 })
}

// TestHandshakeAgain: where we are the client and nobody has answered, another offer and answer is another chance, though it is the same as before.
func TestHandshakeAgain(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	c := n.newClient("203.0.113.5:5000", false)
	c.s.Apply(c.agreement())
	c.s.ice.dtls.fail() // after ten seconds
	c.connect()
	c.say('1')
	c.await(func() bool { return len(c.heard) == 1 })
}

func ofDTLS(b []byte) bool { return len(b) > 0 && b[0] >= 20 && b[0] < 64 }

// TestHandshakeLoss loses every second, third, … packet of the handshake.
func TestHandshakeLoss(t *testing.T) {
	t.Parallel()
	for _, active := range []bool{true, false} {
		for _, every := range []int{2, 3, 4, 5} {
			t.Run(fmt.Sprintf("1 of %d, the peer is the client: %v", every, active), func(t *testing.T) {
				t.Parallel()
				n := newEther(t)
				c := n.newClient("203.0.113.5:5000", active)
				var mu sync.Mutex
				count := map[bool]int{} // each way
				n.meddle(func(_, _ netip.AddrPort, b []byte, up bool) bool {
					if !ofDTLS(b) {
						return false
					}
					if len(b) > handshakeMTU+100 {
						t.Errorf("a packet of %d bytes", len(b))
					}
					mu.Lock()
					defer mu.Unlock()
					count[up]++
					return count[up]%every == 0
				})
				c.connect()
				c.say('1')
				c.await(func() bool { return len(c.heard) == 1 })
			})
		}
	}
}

// TestClientTriesAgain: a forged ServerHello ends a try, and the next one comes through.
func TestClientTriesAgain(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	c := n.newClient("203.0.113.5:5000", false)
	hello := []byte{2, 0, 0, 38, 0, 0, 0, 0, 0, 0, 0, 38, 0xfe, 0xfd}
	hello = append(append(hello, make([]byte, 32)...), 0, 0, 0, 0) // no suite that there is
	var once sync.Once
	n.meddle(func(_, _ netip.AddrPort, b []byte, up bool) (lost bool) {
		if !up && ofDTLS(b) {
			once.Do(func() {
				lost = true
				n.arrive(record(22, 0, hello...), c.address(), c.s.Endpoint())
			})
		}
		return lost
	})
	c.connect()
	c.say('1')
	c.await(func() bool { return len(c.heard) == 1 })
}

// TestHandshakeBeforeApply: a browser may be faster than the way of its answer.
func TestHandshakeBeforeApply(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	c := n.newClient("203.0.113.5:5000", true)
	c.check(nominate{})
	if err := c.shake(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	d := &c.s.ice.dtls
	c.await(func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.made != nil })
	c.say('1')
	if c.s.Stats().In.Packets != 0 || len(c.heard) != 0 {
		t.Error("heard before it was agreed on")
	}
	c.s.Apply(c.agreement())
	c.say('2')
	if len(c.heard) != 1 || c.s.Stats().In.Packets != 1 {
		t.Errorf("%+v", c.s.Stats())
	}
}

// TestFingerprints: keys are used only with the peer whose certificate was described by a hash that still means something.
func TestFingerprints(t *testing.T) {
	t.Parallel()
	id, err := newIdentity(nil)
	if err != nil {
		t.Fatal(err)
	}
	der := id.certificate.Certificate[0]
	good := fingerprintOf("sha-256", der)
	lower := Fingerprint{"SHA-256", strings.ToLower(good.Value)}
	wrong := Fingerprint{"sha-256", strings.Replace(good.Value, good.Value[:2], "00", 1)}
	if good.Value[:2] == "00" {
		wrong.Value = "01" + good.Value[2:]
	}
	for _, tt := range []struct {
		by []Fingerprint
		ok bool
	}{
		{[]Fingerprint{good}, true},
		{[]Fingerprint{lower}, true},
		{[]Fingerprint{fingerprintOf("sha-384", der)}, true},
		{[]Fingerprint{fingerprintOf("sha-512", der)}, true},
		{[]Fingerprint{wrong, good}, true},
		{[]Fingerprint{wrong}, false},
		{nil, false},
		{[]Fingerprint{{"sha-1", "00"}}, false},
		{[]Fingerprint{{"sha-1", "00"}, good}, true},
		{[]Fingerprint{{"sha-512", "00"}, good}, false}, // the strongest counts
		{[]Fingerprint{{"md5", good.Value}, {"sha-256", ""}}, false},
	} {
		if vouched(der, tt.by) != tt.ok {
			t.Errorf("%v: %v", tt.by, !tt.ok)
		}
	}
}

// TestOtherCertificate: the peer of another certificate is not heard, whether it was described before its handshake or after.
func TestOtherCertificate(t *testing.T) {
	t.Parallel()
	for _, before := range []bool{true, false} {
		n := newEther(t)
		c := n.newClient("203.0.113.5:5000", true)
		agreed := c.agreement()
		agreed.Fingerprints = n.newClient("203.0.113.6:5000", true).agreement().Fingerprints
		if before {
			c.s.Apply(agreed)
		}
		c.check(nominate{})
		if err := c.shake(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		if !before {
			c.s.Apply(agreed)
		}
		time.Sleep(50 * ms)
		c.say('1')
		if c.s.Stats().In.Packets != 0 || c.s.Stats().Dropped["early"] != 1 {
			t.Errorf("described before: %v: %+v", before, c.s.Stats())
		}
	}
}

// TestNewAssociation: another certificate in a later description is another handshake, and the old keys are good until it is through.
func TestNewAssociation(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	a, b := n.newClient("203.0.113.5:5000", true).connect(), n.newClient("198.51.100.7:5000", true).connect()
	a.with(b)
	a.say('1')
	id, err := newIdentity(nil)
	if err != nil {
		t.Fatal(err)
	}
	a.id = id
	a.s.Apply(a.agreement())
	a.say('2')
	b.say('1')
	if got := b.got() + a.got(); got != "121" {
		t.Errorf("between: %q", got)
	}
	was := a.s.guards.opener
	a.opener = nil
	if err := a.shake(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	a.await(func() bool { n.e.mu.Lock(); defer n.e.mu.Unlock(); return a.s.guards.opener != was })
	a.say('3')
	b.say('2')
	if got := b.got() + a.got(); got != "32" {
		t.Errorf("with the new keys: %q", got)
	}
}

// TestAlertsEndNothing: neither the peer's close_notify nor ours ends a call, and no goroutine is left of a handshake that is done.
func TestAlertsEndNothing(t *testing.T) {
	t.Parallel()
	for _, active := range []bool{true, false} {
		n := newEther(t)
		c := n.newClient("203.0.113.5:5000", active)
		var alerts, after int
		done := false
		n.meddle(func(_, _ netip.AddrPort, b []byte, up bool) bool {
			if !up && len(b) > 0 && b[0] == recordAlert {
				alerts++
			}
			if !up && done && ofDTLS(b) {
				after++
			}
			return false
		})
		c.s.Apply(c.agreement())
		c.check(nominate{})
		conn, err := c.dtls()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := conn.HandshakeContext(ctx); err != nil {
			t.Fatal(err)
		}
		made, err := secretsOf(conn, active)
		if err != nil {
			t.Fatal(err)
		}
		k, _ := newInbound(made.in)
		c.opener = &opener{cur: k}
		if c.sealer, err = newSealer(made.out); err != nil {
			t.Fatal(err)
		}
		c.await(func() bool { n.e.mu.Lock(); defer n.e.mu.Unlock(); return c.s.guards.opener != nil })
		c.say('1')
		c.await(func() bool {
			c.s.ice.dtls.mu.Lock()
			defer c.s.ice.dtls.mu.Unlock()
			return len(c.s.ice.dtls.tries) == 0
		})
		done = true
		conn.Close() // says close_notify
		c.say('2')
		if c.s.Stats().In.Packets != 2 || alerts != 0 || after != 0 {
			t.Errorf("the peer is the client: %v: %d alerts, %d packets afterwards, %+v", active, alerts, after, c.s.Stats())
		}
	}
}

// TestClientGivesUp: after ten seconds without a handshake we do not begin another, until something new is agreed on.
func TestClientGivesUp(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	c := n.newClient("203.0.113.5:5000", false)
	c.s.Apply(c.agreement())
	begun := time.Now()
	c.check(nominate{})
	d := &c.s.ice.dtls
	tries := func() int { d.mu.Lock(); defer d.mu.Unlock(); return len(d.tries) }
	if tries() != 1 {
		t.Fatal("no handshake was begun")
	}
	for end := time.Now().Add(60 * time.Second); tries() > 0 && time.Now().Before(end); time.Sleep(50 * ms) {
	}
	if took := time.Since(begun); tries() > 0 || took < handshakeTime {
		t.Fatalf("it was tried for %v", took)
	}
	c.check(nominate{})
	if tries() != 0 {
		t.Error("a check begins it again")
	}
	for len(c.records) > 0 {
		<-c.records
	}
	id, err := newIdentity(nil)
	if err != nil {
		t.Fatal(err)
	}
	c.id = id
	c.connect()
}

// TestTryLimit: many ClientHellos of one address have few handshakes at once.
func TestTryLimit(t *testing.T) {
	t.Parallel()
	hello := foreignHello(t, true)
	n := newEther(t)
	c := n.newClient("203.0.113.5:5000", true)
	c.s.Apply(c.agreement())
	c.check(nominate{})
	before := runtime.NumGoroutine()
	for i := range 300 {
		binary.BigEndian.PutUint32(hello[helloRandomPos:], uint32(i))
		n.arrive(hello, c.address(), c.s.Endpoint())
	}
	d := &c.s.ice.dtls
	d.mu.Lock()
	tries := len(d.tries)
	d.mu.Unlock()
	if tries != maxTries {
		t.Errorf("%d tries", tries)
	}
	c.s.Close()
	c.await(func() bool { return runtime.NumGoroutine() <= before+20 })
}

// TestVersionFloors (S21): no pion/dtls that repeats a nonce of GCM.
func TestVersionFloors(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	floors := map[string][3]int{"github.com/pion/dtls/v3": {3, 1, 15}, "github.com/pion/srtp/v3": {3, 1, 3}, "github.com/pion/stun/v3": {3, 1, 7}}
	for line := range strings.Lines(string(b)) {
		var path string
		var v [3]int
		if n, _ := fmt.Sscanf(line, "\t%s v%d.%d.%d", &path, &v[0], &v[1], &v[2]); n != 4 {
			continue
		}
		if floor, known := floors[path]; known && slices.Compare(v[:], floor[:]) < 0 {
			t.Errorf("%s %v is older than %v", path, v, floor)
		}
		delete(floors, path)
	}
	if len(floors) > 0 {
		t.Errorf("not required: %v", floors)
	}
}

// FuzzShared throws packets at the shared port: from a stranger, from a validated pair, and as what a TCP connection carries.
func FuzzShared(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	f.Add(record(22, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 7))
	f.Add(append(record(20, 0, 1), record(22, 1, 5, 6, 7)...))
	f.Add(append([]byte{0x80, 0, 0, 1}, make([]byte, 40)...))
	f.Add(append([]byte{0x80, 200, 0, 6}, make([]byte, 40)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := newEther(t)
		c := n.newClient("203.0.113.5:5000", false)
		n.arrive(b, netip.MustParseAddrPort("198.51.100.66:666"), c.s.Endpoint())
		if len(*n.e.shared.pairs.Load()) != 0 {
			t.Fatal("a pair that nobody has checked")
		}
		c.s.Apply(c.agreement())
		c.check(nominate{})
		n.arrive(b, c.address(), c.s.Endpoint())
		conn := &tcpConn{shared: n.e.shared}
		if len(b) > 0 && len(b) <= maxPacket && conn.take(b) {
			t.Fatal("a connection whose first packet was no check")
		}
		for r := range records(b) {
			ofHandshake(r)
		}
		if c.s.Stats().In.Packets != 0 || c.s.ice.dest() != c.address() {
			t.Fatalf("%+v", c.s.Stats())
		}
	})
}
