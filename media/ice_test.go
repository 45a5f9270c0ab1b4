package media

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"
)

// with joins the streams of two clients.
func (c *client) with(d *client) *client {
	bridgeStreams(c.s, d.s)
	return c
}

// TestChecks sends one of each kind of check, well-formed and not.
func TestChecks(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	c := n.newClient("203.0.113.5:5000", true)
	c.s.Apply(c.agreement())
	code := func(m *stun.Message) stun.ErrorCode {
		var e stun.ErrorCodeAttribute
		if m == nil || e.GetFrom(m) != nil {
			return 0
		}
		return e.Code
	}
	own := c.ice
	as := func(ufrag, pwd string, b func() []byte) []byte {
		c.ice = &ICE{Ufrag: ufrag, Pwd: Secret(pwd)}
		defer func() { c.ice = own }()
		return b()
	}
	plain := func() []byte { return c.request() }
	unsigned, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername(own.Ufrag+":"+c.ufrag), priority(1), controlling(1), stun.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	noPrint, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername(own.Ufrag+":"+c.ufrag), stun.NewShortTermIntegrity(string(own.Pwd)))
	if err != nil {
		t.Fatal(err)
	}
	other := c.ufrag
	c.ufrag = "another"
	stale := c.request()
	c.ufrag = other
	short := c.request()
	short[3] -= 4
	for i, tt := range []struct {
		name string
		b    []byte
		kind stun.MessageType
		code stun.ErrorCode
	}{
		{"good", c.request(), stun.BindingSuccess, 0},
		{"nominating", c.request(nominate{}), stun.BindingSuccess, 0},
		{"with what need not be understood", c.request(attr{0xc057, []byte{0, 1, 0, 10}}), stun.BindingSuccess, 0},
		{"with what must be understood", c.request(attr{0x7fff, []byte{1, 2, 3, 4}}), stun.BindingError, 420},
		{"of one who takes itself for controlled", c.request(controlled(9)), stun.BindingError, 487},
		{"with another password", as(own.Ufrag, "another password that is long", plain), stun.BindingError, 401},
		{"for nobody", as("nobody12", string(own.Pwd), plain), stun.BindingError, 401},
		{"of another agent of the peer's", stale, stun.BindingError, 401},
		{"not signed", unsigned.Raw, stun.BindingError, 400},
		{"without FINGERPRINT", noPrint.Raw, stun.MessageType{}, 0},
		{"cut", short, stun.MessageType{}, 0},
		{"only a header", c.request()[:20], stun.MessageType{}, 0},
		{"nothing", []byte{0}, stun.MessageType{}, 0},
	} {
		from := netip.MustParseAddrPort(fmt.Sprintf("203.0.113.5:%d", 6000+i))
		n.mu.Lock()
		n.peers[from] = c.hear
		n.mu.Unlock()
		m := c.ask(tt.b, from)
		if tt.kind == (stun.MessageType{}) {
			if m != nil {
				t.Errorf("%s: answered %v", tt.name, m)
			}
			continue
		}
		if m == nil || m.Type != tt.kind || code(m) != tt.code || len(m.Raw) > len(tt.b) || stun.Fingerprint.Check(m) != nil {
			t.Errorf("%s: answer %v, code %d", tt.name, m, code(m))
			continue
		}
		signed := tt.code == 0 || tt.code == 420 || tt.code == 487
		if err := stun.NewShortTermIntegrity(string(own.Pwd)).Check(m); (err == nil) != signed {
			t.Errorf("%s: the answer is signed: %v", tt.name, err == nil)
		}
		var mapped stun.XORMappedAddress
		if tt.code == 0 && (mapped.GetFrom(m) != nil || mapped.Port != int(from.Port())) {
			t.Errorf("%s: seen at %v", tt.name, mapped)
		}
		known := (*n.e.shared.pairs.Load())[from] != nil
		if known != (tt.code == 0) {
			t.Errorf("%s: validated: %v", tt.name, known)
		}
	}
}

// TestUnauthenticatedAnswers: those who do not know the password are answered so often and no more.
func TestUnauthenticatedAnswers(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	c := n.newClient("203.0.113.5:5000", true)
	c.ice = &ICE{Ufrag: c.ice.Ufrag, Pwd: Secret("guessed, and wrongly so")}
	bytes, answered := 0, 0
	for range 1000 {
		b := c.request()
		bytes += len(b)
		if m := c.ask(b, c.address()); m != nil {
			bytes -= len(m.Raw)
			answered++
		}
	}
	if answered == 0 || answered > 4*unauthenticated || bytes < 0 {
		t.Errorf("%d of 1000 answered, %d bytes fewer than came", answered, bytes)
	}
	if d := n.e.WebRTCDropped(); d["stranger"] != 1000 {
		t.Errorf("dropped %v", d)
	}
}

// TestBehindTheSignature: what stands behind MESSAGE-INTEGRITY is anybody's, and counts for nothing.
func TestBehindTheSignature(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	c := n.newClient("203.0.113.5:5000", true)
	c.s.Apply(c.agreement())
	c.check(nominate{})
	c.move("203.0.113.5:5001")
	b := c.request()
	m := &stun.Message{Raw: b[:len(b)-8]}
	binary.BigEndian.PutUint16(m.Raw[2:], uint16(len(m.Raw)-20))
	if err := m.Decode(); err != nil {
		t.Fatal(err)
	}
	m.Add(stun.AttrUseCandidate, nil)
	if err := stun.Fingerprint.AddTo(m); err != nil {
		t.Fatal(err)
	}
	if a := c.ask(m.Raw, c.address()); a == nil || a.Type != stun.BindingSuccess {
		t.Fatalf("answer %v", a)
	}
	if to := c.s.ice.dest(); to.Port() != 5000 {
		t.Errorf("nominated by what was not signed: %v", to)
	}
}

// TestCopiedCheck: a check that was overheard and is sent again from elsewhere moves nothing.
func TestCopiedCheck(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	c := n.newClient("203.0.113.5:5000", true)
	c.s.Apply(c.agreement())
	b := c.request(nominate{})
	c.ask(b, c.address())
	thief := netip.MustParseAddrPort("198.51.100.66:666")
	n.send(b, thief, c.s.Endpoint())
	if to := c.s.ice.dest(); to != c.address() || n.strayed(thief) != 0 {
		t.Errorf("moved to %v, %d answers to the thief", to, n.strayed(thief))
	}
	if c.ask(b, c.address()) == nil {
		t.Error("a check that was sent again got no answer")
	}
}

// TestNomination: the stream moves with each nomination, at once and with all of its numbers.
func TestNomination(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	a, b := n.newClient("203.0.113.5:5000", true).connect(), n.newClient("198.51.100.7:5000", false).connect()
	a.with(b)
	a.say('1')
	b.say('1')
	b.say('2')
	first := a.address()
	a.move("203.0.113.99:7000")
	a.check()
	b.say('3')
	if a.got() != "123" || a.s.ice.dest() != first {
		t.Errorf("a check without nomination moved the stream to %v", a.s.ice.dest())
	}
	time.Sleep(aggressive) // a browser's network does not change within half a second of its call
	a.check(nominate{})
	n.mu.Lock()
	delete(n.peers, first)
	n.mu.Unlock()
	b.say('4')
	a.say('2')
	if got := a.got(); got != "4" || n.strayed(first) != 0 {
		t.Errorf("at the new address: %q, at the old one %d packets", got, n.strayed(first))
	}
	if got := b.got(); got != "12" {
		t.Errorf("the other one heard %q", got)
	}
}

// TestAggressiveNomination: of several pairs nominated at once the best is meant.
func TestAggressiveNomination(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	c := n.newClient("203.0.113.5:5000", true)
	c.s.Apply(c.agreement())
	c.check(nominate{}) // priority 100
	best := c.address()
	c.move("203.0.113.5:5001")
	low, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername(c.ice.Ufrag+":"+c.ufrag), priority(50), nominate{},
		stun.NewShortTermIntegrity(string(c.ice.Pwd)), stun.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	c.ask(low.Raw, c.address())
	if to := c.s.ice.dest(); to != best {
		t.Errorf("sends to %v", to)
	}
}

// TestAddressOfAnother: nobody can make himself the owner of the address that another's media comes from.
func TestAddressOfAnother(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	a, b := n.newClient("203.0.113.5:5000", true).connect(), n.newClient("198.51.100.7:5000", true).connect()
	a.with(b)
	thief := n.newClient("203.0.113.66:5000", true).connect()
	if m := thief.ask(thief.request(nominate{}), a.address()); m != nil {
		t.Errorf("answered %v", m)
	}
	a.say('1')
	if got := b.got(); got != "1" {
		t.Errorf("heard %q", got)
	}
	a.s.Close() // its browser uses the port again
	thief.move("203.0.113.5:5000")
	if thief.check(nominate{}) == nil || thief.s.ice.dest() != thief.address() {
		t.Error("the port of a stream that is over cannot be used again")
	}
}

// TestCandidatesAreNotDialled (S12): whatever a description names, nothing is sent to where no check came from.
func TestCandidatesAreNotDialled(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	c := n.newClient("203.0.113.5:5000", false)
	agreed := c.agreement()
	var named []netip.AddrPort
	for _, s := range []string{"127.0.0.1:6379", "192.0.2.1:8443", "169.254.169.254:80", "10.0.0.1:22", "224.0.0.1:5000", "255.255.255.255:9", "[::ffff:127.0.0.1]:80", "198.51.100.9:9000"} {
		at := netip.MustParseAddrPort(s)
		named = append(named, at)
		agreed.ICE.Candidates = append(agreed.ICE.Candidates, Candidate{Foundation: "1", Transport: "udp", Priority: 1 << 30, Addr: at, Type: "host"})
	}
	agreed.Remote, agreed.RemoteRTCP = named[7], named[7]
	c.s.Apply(agreed)
	c.s.Play(ToneRing)
	time.Sleep(200 * ms)
	c.s.report(n.e.clock() + time.Hour)
	n.mu.Lock()
	if len(n.stray) != 0 {
		t.Errorf("sent to %v", n.stray)
	}
	n.mu.Unlock()
	c.check(nominate{})
	if err := c.shake(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	heard := 0
	c.await(func() bool { heard += len(c.got()); return heard > 3 })
	for _, at := range named {
		if n.strayed(at) != 0 {
			t.Errorf("sent to %v", at)
		}
	}
}

// TestConsent: thirty seconds after the last check nothing is sent any more, and the call is told, once; a check brings it back.
func TestConsent(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	a, b := n.newClient("203.0.113.5:5000", true).connect(), n.newClient("198.51.100.7:5000", true).connect()
	a.with(b)
	b.say('1')
	now := time.Duration(a.s.ice.last.Load())
	a.s.ice.tick(now + consent - time.Second)
	b.say('2')
	if got := a.got(); got != "12" {
		t.Errorf("heard %q", got)
	}
	a.s.ice.tick(now + consent + 2*time.Second)
	a.s.ice.tick(now + consent + 3*time.Second)
	b.say('3')
	if got := a.got(); got != "" || len(a.lost) != 1 || a.s.Stats().Latched {
		t.Errorf("heard %q, told %d times, %+v", got, len(a.lost), a.s.Stats())
	}
	before := a.s.LastHeard()
	a.check(nominate{})
	b.say('4')
	if got := a.got(); got != "4" || !a.s.LastHeard().After(before) {
		t.Errorf("after its return it heard %q, and was last heard %v", got, a.s.LastHeard())
	}
	a.s.ice.tick(n.e.clock() + consent + 2*time.Second)
	if len(a.lost) != 2 {
		t.Errorf("told %d times", len(a.lost))
	}
}

// TestRestart restarts ICE by an offer: new credentials, the old pair until the new one is nominated, the same keys and numbers.
func TestRestart(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	a, b := n.newClient("203.0.113.5:5000", true).connect(), n.newClient("198.51.100.7:5000", true).connect()
	a.with(b)
	a.say('1')
	b.say('1')
	old, oldUfrag := a.ice, a.ufrag
	offer := func(ufrag string) Description {
		return Description{Lines: []Line{{Kind: "audio", Addr: netip.MustParseAddrPort("0.0.0.0:9"), ICE: &ICE{Ufrag: ufrag}}}}
	}
	if l := a.s.LocalFor(offer(a.ufrag)); l.ICE.Ufrag != old.Ufrag {
		t.Error("an offer that does not restart gets new credentials")
	}
	refused := a.s.LocalFor(offer("refused1"))
	a.s.Apply(a.agreement()) // the offer was refused
	if len(*n.e.shared.agents.Load()) != 2 || refused.ICE.Ufrag == old.Ufrag || a.s.Local().ICE.Ufrag != old.Ufrag {
		t.Error("a refused restart left its mark")
	}
	fresh := a.s.LocalFor(offer("fresh123")).ICE
	if again := a.s.LocalFor(offer("fresh123")).ICE; again.Ufrag != fresh.Ufrag || fresh.Ufrag == old.Ufrag || string(fresh.Pwd) == string(old.Pwd) {
		t.Errorf("answers to one offer differ, or have old credentials")
	}
	first := a.address()
	a.ufrag = "fresh123"
	a.s.Apply(a.agreement())
	if a.s.Local().ICE.Ufrag != fresh.Ufrag {
		t.Error("Local has the old credentials still")
	}
	b.say('2')
	a.ufrag = oldUfrag
	a.check(nominate{}) // by the old credentials, as before
	b.say('3')
	if got := a.got(); got != "123" {
		t.Errorf("until the new pair: %q", got)
	}
	a.ice, a.ufrag = fresh, "fresh123"
	a.move("203.0.113.99:7000")
	a.check()
	if a.s.ice.dest() != first {
		t.Error("moved before the nomination")
	}
	a.check(nominate{})
	b.say('4')
	a.say('2')
	if got := a.got() + "/" + b.got(); got != "4/12" || a.s.ice.dest() != a.address() {
		t.Errorf("on the new pair: %q", got)
	}
	a.ice, a.ufrag = old, oldUfrag
	if m := a.check(nominate{}); m == nil || m.Type != stun.BindingError {
		t.Errorf("the old credentials are good still: %v", m)
	}
	if len(*n.e.shared.agents.Load()) != 2 {
		t.Error("the old ufrag is known still")
	}
}

// TestRestartByApply: who does not ask LocalFor has new credentials after Apply.
func TestRestartByApply(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	a := n.newClient("203.0.113.5:5000", true).connect()
	old := a.ice.Ufrag
	a.ufrag = "fresh123"
	a.s.Apply(a.agreement())
	if a.ice = a.s.Local().ICE; a.ice.Ufrag == old {
		t.Fatal("no new credentials")
	}
	if m := a.check(nominate{}); m == nil || m.Type != stun.BindingSuccess {
		t.Errorf("answer %v", m)
	}
}

// TestSprayed (S1): who is not the peer is neither heard nor sent to, from before the answer on.
func TestSprayed(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	a, b := n.newClient("203.0.113.5:5000", true), n.newClient("198.51.100.7:5000", true)
	thief := netip.MustParseAddrPort("198.51.100.66:666")
	spray := func() {
		for i := range 100 {
			p := make([]byte, 172)
			p[0], p[3], p[11] = 0x80, byte(i), 7
			for j := range p[12:] {
				p[12+j] = 'x'
			}
			n.send(p, thief, a.s.Endpoint())
			n.send(p, netip.AddrPortFrom(a.address().Addr(), 666), a.s.Endpoint())
		}
	}
	spray()
	a.connect().with(b.connect())
	for i := range 20 {
		spray()
		a.say(byte('a' + i))
		b.say(byte('a' + i))
	}
	want := "abcdefghijklmnopqrst"
	if got := a.got() + " " + b.got(); got != want+" "+want {
		t.Errorf("heard %q", got)
	}
	if n.strayed(thief) != 0 {
		t.Errorf("%d packets to the thief", n.strayed(thief))
	}
	if d := n.e.WebRTCDropped()["foreign"]; d != 21*200 {
		t.Errorf("%d counted", d)
	}
}

// TestForgedPackets (S2, S4): packets from the peer's own address that are not sealed by it change nothing, and end nothing.
func TestForgedPackets(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	a, b := n.newClient("203.0.113.5:5000", true).connect(), n.newClient("198.51.100.7:5000", true).connect()
	a.with(b)
	a.say('1')
	for i := range 10000 {
		p := a.packet('x')
		a.hdr.SequenceNumber--
		a.sealer.index.recent = 0 // the same number once more
		p[len(p)-1] ^= byte(1 + i%255)
		binary.BigEndian.PutUint16(p[2:], uint16(i*7))
		if i%10 == 0 {
			p[1] = 200 // RTCP
		}
		n.send(p, a.address(), a.s.Endpoint())
	}
	a.say('2')
	if got := b.got(); got != "12" {
		t.Errorf("heard %q", got)
	}
	st := a.s.Stats()
	if st.Dropped["forged"]+st.Dropped["rtcp_forged"] != 10000 || st.In.Packets != 2 {
		t.Errorf("%+v", st)
	}
}

// TestNothingInTheClear: a WebRTC stream says nothing before it has keys, whatever was agreed.
func TestNothingInTheClear(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	c := n.newClient("203.0.113.5:5000", true)
	agreed := c.agreement()
	agreed.Security, agreed.Fingerprints = Clear, nil
	c.s.Apply(agreed)
	c.check(nominate{})
	c.s.Play(ToneRing)
	time.Sleep(200 * ms)
	c.s.report(n.e.clock() + time.Hour)
	n.send(make([]byte, 172), c.address(), c.s.Endpoint())
	plain := make([]byte, 172)
	plain[0] = 0x80
	n.send(plain, c.address(), c.s.Endpoint())
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.media) != 0 || len(c.heard) != 0 || c.s.Stats().In.Packets != 0 {
		t.Errorf("%d packets sent, %+v", len(c.media), c.s.Stats())
	}
}

// TestSharedPort: the port is opened once, and an engine without one says so.
func TestSharedPort(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	if _, err := r.e.Open(StreamOptions{Peer: netip.MustParseAddr("203.0.113.5"), WebRTC: true}); err == nil || !strings.Contains(err.Error(), "media.webrtc") {
		t.Errorf("error %v", err)
	}
	if r.e.WebRTCAddrs() != nil {
		t.Error("addresses of no port")
	}
	a := startWebRTC(t, false)
	s, err := a.Open(StreamOptions{Peer: netip.MustParseAddr("127.0.0.1"), WebRTC: true})
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, at := range a.WebRTCAddrs() {
		found = found || at == s.Endpoint()
	}
	if !found {
		t.Errorf("%v is not in %v", s.Endpoint(), a.WebRTCAddrs())
	}
	if l := s.Local(); !l.ICE.Lite || l.ICE.Candidates[0].Addr != l.Addr || len(l.ICE.Pwd) < 22 || l.Fingerprints[0].Hash != "sha-256" || len(l.Crypto) != 0 {
		t.Errorf("%+v", l)
	}
	// A browser on this machine asks from its other addresses, and finds them beside the loopback address that it has come to.
	told := map[netip.AddrPort]bool{}
	for _, c := range s.Local().ICE.Candidates {
		told[c.Addr] = true
	}
	for _, at := range a.WebRTCAddrs() {
		if at.Addr().IsGlobalUnicast() && !told[at] && len(told) < 5 {
			t.Errorf("%v is not told to a browser on this machine: %v", at, told)
		}
		if at.Addr().IsGlobalUnicast() {
			s, err := a.Open(StreamOptions{Peer: at.Addr(), WebRTC: true})
			if err != nil {
				t.Fatal(err)
			}
			if c := s.Local().ICE.Candidates; len(c) != 1 || c[0].Addr != s.Endpoint() {
				t.Errorf("a browser at %v is told %+v", at, c)
			}
		}
	}
	s6, err := a.Open(StreamOptions{Peer: netip.MustParseAddr("::1"), WebRTC: true})
	if err != nil {
		t.Skip(err)
	}
	if !s6.Endpoint().Addr().Is6() || s6.Endpoint().Port() != s.Endpoint().Port() {
		t.Errorf("endpoint %v", s6.Endpoint())
	}
}

// TestSharedAllocatesNothing has a packet come in from a browser and go out to another.
func TestSharedAllocatesNothing(t *testing.T) {
	n := newEther(t)
	a, b := n.newClient("203.0.113.5:5000", true).connect(), n.newClient("198.51.100.7:5000", false).connect()
	a.with(b)
	n.mu.Lock()
	door, to := n.ports[netip.AddrPortFrom(etherHome, etherPort)], a.address()
	n.peers[b.address()] = func([]byte) {} // it would copy
	n.mu.Unlock()
	b.s.rtp.(*agent).out.Load().conn = deaf{}
	packets := make([][]byte, 1200)
	for i := range packets {
		packets[i] = a.packet('1')
	}
	i := 0
	door(packets[i], to, n.e.clock(), nil)
	allocs := testing.AllocsPerRun(1000, func() {
		i++
		door(packets[i], to, n.e.clock(), nil)
	})
	if allocs != 0 {
		t.Errorf("%v allocations per packet", allocs)
	}
	if st := b.s.Stats(); st.Out.Packets < 1000 {
		t.Errorf("%+v", st)
	}
}

// deaf is a socket that takes everything and sends nothing.
type deaf struct{}

func (deaf) WriteToUDPAddrPort(b []byte, _ netip.AddrPort) (int, error) { return len(b), nil }
func (deaf) Close() error                                               { return nil }

// TestAddressBack: an address that another stream was given while its peer was silent is the peer's again when that one has gone.
func TestAddressBack(t *testing.T) {
	t.Parallel()
	n := newEther(t)
	a, b := n.newClient("203.0.113.5:5000", true).connect(), n.newClient("198.51.100.7:5000", false).connect()
	a.with(b)
	a.say('1')
	silent := func() {
		pair := (*n.e.shared.pairs.Load())[a.address()]
		pair.checked.Store(int64(n.e.clock() - portReuse))
	}
	silent()
	b.ask(b.request(), a.address())
	if got := (*n.e.shared.pairs.Load())[a.address()]; got.agent != b.s.ice {
		t.Fatal("an address where nobody has been was not given away")
	}
	if a.check(nominate{}) != nil {
		t.Error("a check from an address that is another's was answered")
	}
	silent()
	if m := a.check(nominate{}); m == nil || m.Type != stun.BindingSuccess {
		t.Errorf("back at its address it was answered %v", m)
	}
	a.say('2')
	if got := b.got(); got != "12" {
		t.Errorf("the other one heard %q", got)
	}
}
