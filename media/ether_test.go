package media

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"baton/config"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtp"
	"github.com/pion/stun/v3"
)

// ether is a network in memory under a real engine: what the engine sends goes to who listens at the address, else it is counted. Each
// packet may be looked at, lost or joined by others on its way.
type ether struct {
	t *testing.T
	e *Engine

	mu    sync.Mutex
	ports map[netip.AddrPort]receiver // the engine's
	peers map[netip.AddrPort]func([]byte)
	wires map[netip.AddrPort]func([]byte)                              // of those who speak by TCP
	stray map[netip.AddrPort][][]byte                                  // sent to where nobody listens
	pass  func(from, to netip.AddrPort, b []byte, up bool) (lost bool) // nil = all
}

type etherConn struct {
	n  *ether
	at netip.AddrPort
}

const etherPort = 8443

var etherHome = netip.MustParseAddr("192.0.2.1")

func newEther(t *testing.T) *ether {
	t.Helper()
	e, err := NewEngine(Options{Config: config.Media{Address: etherHome.String(), WebRTC: etherPort}, WebTCP: 443})
	if err != nil {
		t.Fatal(err)
	}
	n := &ether{t: t, e: e, ports: map[netip.AddrPort]receiver{}, peers: map[netip.AddrPort]func([]byte){}, wires: map[netip.AddrPort]func([]byte){}, stray: map[netip.AddrPort][][]byte{}}
	e.sockets = n
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return n
}

func (n *ether) listen(at netip.AddrPort, r receiver) (conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports[at] = r
	return &etherConn{n, at}, nil
}

// WriteToUDPAddrPort is what the engine sends.
func (c *etherConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	n := c.n
	n.mu.Lock()
	hear, pass := n.peers[to], n.pass
	if hear == nil {
		n.stray[to] = append(n.stray[to], append([]byte(nil), b...))
	}
	n.mu.Unlock()
	if hear != nil && (pass == nil || !pass(c.at, to, b, false)) {
		hear(append([]byte(nil), b...))
	}
	return len(b), nil
}

func (c *etherConn) Close() error { return nil }

// send is what a peer sends.
func (n *ether) send(b []byte, from, to netip.AddrPort) {
	n.mu.Lock()
	pass, wire := n.pass, n.wires[from]
	n.mu.Unlock()
	if wire != nil {
		wire(b)
		return
	}
	if pass == nil || !pass(from, to, b, true) {
		n.arrive(b, from, to)
	}
}

// arrive puts a packet before the engine, whoever sent it.
func (n *ether) arrive(b []byte, from, to netip.AddrPort) {
	n.mu.Lock()
	r := n.ports[to]
	n.mu.Unlock()
	if r != nil {
		r(append([]byte(nil), b...), from, n.e.clock(), nil)
	}
}

// meddle has f look at each packet.
func (n *ether) meddle(f func(from, to netip.AddrPort, b []byte, up bool) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pass = f
}

// strayed counts what was sent to an address where nobody is.
func (n *ether) strayed(to netip.AddrPort) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.stray[to])
}

// client is a browser cut down to its packets: it checks, nominates, shakes hands and talks from any address that it is told.
type client struct {
	n  *ether
	s  *Stream
	at netip.AddrPort

	ice    *ICE // ours, as the client knows it
	ufrag  string
	id     identity
	active bool // it begins the handshake

	mu      sync.Mutex
	answers []*stun.Message
	media   [][]byte // as they came
	records chan []byte
	expired chan struct{}
	closed  chan struct{}
	closing sync.Once

	in, out Crypto
	opener  *opener
	sealer  *sealer
	hdr     rtp.Header
	heard   chan time.Time
	lost    chan time.Time
}

// newClient opens a stream for one, which is not agreed on yet.
func (n *ether) newClient(at string, active bool) *client {
	n.t.Helper()
	id, err := newIdentity(nil)
	if err != nil {
		n.t.Fatal(err)
	}
	c := &client{
		n: n, id: id, active: active, ufrag: iceText(6), records: make(chan []byte, 64), expired: make(chan struct{}), closed: make(chan struct{}),
		hdr: rtp.Header{Version: 2, SSRC: 7, SequenceNumber: 100}, heard: make(chan time.Time, 8), lost: make(chan time.Time, 8),
	}
	c.s, err = n.e.Open(StreamOptions{
		Peer: netip.MustParseAddrPort(at).Addr(), WebRTC: true,
		OnHeard: func(at time.Time) { c.heard <- at }, OnConsentLost: func(at time.Time) { c.lost <- at },
	})
	if err != nil {
		n.t.Fatal(err)
	}
	c.ice = c.s.Local().ICE
	c.move(at)
	n.t.Cleanup(func() { c.Close(); c.s.Close() })
	return c
}

// move has it speak and listen at another address from now on; the one before still hears.
func (c *client) move(at string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = netip.MustParseAddrPort(at)
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	c.n.peers[c.at] = c.hear
}

func (c *client) address() netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *client) agreement() Agreement {
	return Agreement{
		Send: []Codec{pcmu}, Recv: []Codec{pcmu}, Security: DTLS, Mux: true, Active: !c.active,
		ICE: ICE{Ufrag: c.ufrag, Pwd: Secret(iceText(18))}, Fingerprints: []Fingerprint{c.id.fingerprint},
	}
}

func (c *client) hear(b []byte) {
	switch {
	case len(b) == 0:
	case b[0] < 4:
		m := &stun.Message{Raw: b}
		if m.Decode() == nil {
			c.mu.Lock()
			c.answers = append(c.answers, m)
			c.mu.Unlock()
		}
	case b[0] < 64:
		select {
		case c.records <- b:
		default:
		}
	default:
		c.mu.Lock()
		c.media = append(c.media, b)
		c.mu.Unlock()
	}
}

// check makes a check; the parts come before its MESSAGE-INTEGRITY.
func (c *client) request(parts ...stun.Setter) []byte {
	c.n.t.Helper()
	all := append([]stun.Setter{
		stun.TransactionID, stun.BindingRequest, stun.NewUsername(c.ice.Ufrag + ":" + c.ufrag), controlling(5), priority(100),
	}, parts...)
	m, err := stun.Build(append(all, stun.NewShortTermIntegrity(string(c.ice.Pwd)), stun.Fingerprint)...)
	if err != nil {
		c.n.t.Fatal(err)
	}
	return m.Raw
}

// check sends one from where it is, and returns the answer; nil if there is none.
func (c *client) check(parts ...stun.Setter) *stun.Message {
	c.n.t.Helper()
	return c.ask(c.request(parts...), c.address())
}

func (c *client) ask(b []byte, from netip.AddrPort) *stun.Message {
	c.mu.Lock()
	before := len(c.answers)
	c.mu.Unlock()
	c.n.send(b, from, c.s.Endpoint()) // answered before it returns, but for TCP
	for end := time.Now().Add(5 * time.Second); c.n.wires[from] != nil && time.Now().Before(end); time.Sleep(ms) {
		c.mu.Lock()
		more := len(c.answers) > before
		c.mu.Unlock()
		if more {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.answers) == before {
		return nil
	}
	return c.answers[len(c.answers)-1]
}

// attribute setters of RFC 8445 §16.1.
type (
	controlling uint64
	controlled  uint64
	priority    uint32
	nominate    struct{}
	attr        struct {
		t stun.AttrType
		v []byte
	}
)

func (v controlling) AddTo(m *stun.Message) error {
	m.Add(stun.AttrICEControlling, binary.BigEndian.AppendUint64(nil, uint64(v)))
	return nil
}

func (v controlled) AddTo(m *stun.Message) error {
	m.Add(stun.AttrICEControlled, binary.BigEndian.AppendUint64(nil, uint64(v)))
	return nil
}

func (v priority) AddTo(m *stun.Message) error {
	m.Add(stun.AttrPriority, binary.BigEndian.AppendUint32(nil, uint32(v)))
	return nil
}

func (nominate) AddTo(m *stun.Message) error { m.Add(stun.AttrUseCandidate, nil); return nil }

func (a attr) AddTo(m *stun.Message) error { m.Add(a.t, a.v); return nil }

// shake does the DTLS handshake, and takes its keys.
func (c *client) shake(within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	conn, err := c.dtls()
	if err != nil {
		return err
	}
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	made, err := secretsOf(conn, c.active)
	if err != nil {
		return err
	}
	c.in, c.out = made.in, made.out
	if c.opener == nil {
		k, err := newInbound(c.in)
		if err != nil {
			return err
		}
		c.opener = &opener{cur: k}
		c.sealer, err = newSealer(c.out)
		return err
	}
	return nil
}

func (c *client) dtls() (*dtls.Conn, error) {
	o := []dtls.Option{
		dtls.WithCertificates(c.id.certificate), dtls.WithSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM), dtls.WithInsecureSkipVerify(true),
		dtls.WithFlightInterval(50 * ms), dtls.WithLoggerFactory(silent), dtls.WithVerifyPeerCertificate(func(raw [][]byte, _ [][]*x509.Certificate) error {
			if !vouched(raw[0], c.s.Local().Fingerprints) {
				return errors.New("not the certificate that was described")
			}
			return nil
		}),
	}
	if c.active {
		var all []dtls.ClientOption
		for _, x := range o {
			all = append(all, x)
		}
		return dtls.ClientWithOptions(c, nowhere, all...)
	}
	all := []dtls.ServerOption{dtls.WithClientAuth(dtls.RequireAnyClientCert), dtls.WithInsecureSkipVerifyHello(true)}
	for _, x := range o {
		all = append(all, x)
	}
	return dtls.ServerWithOptions(c, nowhere, all...)
}

var nowhere = &net.UDPAddr{}

func (c *client) ReadFrom(b []byte) (int, net.Addr, error) {
	c.mu.Lock()
	expired, records := c.expired, c.records
	c.mu.Unlock()
	select {
	case p := <-records:
		return copy(b, p), nowhere, nil
	case <-expired:
		return 0, nil, os.ErrDeadlineExceeded
	case <-c.closed:
		return 0, nil, net.ErrClosed
	}
}

func (c *client) WriteTo(b []byte, _ net.Addr) (int, error) {
	c.n.send(b, c.address(), c.s.Endpoint())
	return len(b), nil
}

func (c *client) SetReadDeadline(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at.IsZero() {
		c.expired = make(chan struct{})
		return nil
	}
	select {
	case <-c.expired:
	default:
		close(c.expired)
	}
	return nil
}

func (c *client) SetWriteDeadline(time.Time) error { return nil }
func (c *client) SetDeadline(time.Time) error      { return nil }
func (c *client) LocalAddr() net.Addr              { return nowhere }

func (c *client) Close() error {
	c.closing.Do(func() { close(c.closed) })
	return nil
}

// connect checks, nominates and shakes hands: after it the client can talk.
func (c *client) connect() *client {
	c.n.t.Helper()
	c.s.Apply(c.agreement())
	if a := c.check(nominate{}); a == nil || a.Type != stun.BindingSuccess {
		c.n.t.Fatalf("the check got %v", a)
	}
	if err := c.shake(10 * time.Second); err != nil {
		c.n.t.Fatal(err)
	}
	c.await(func() bool { c.n.e.mu.Lock(); defer c.n.e.mu.Unlock(); return c.s.guards.opener != nil })
	return c
}

func (c *client) await(so func() bool) {
	c.n.t.Helper()
	for end := time.Now().Add(10 * time.Second); !so(); time.Sleep(ms) {
		if time.Now().After(end) {
			c.n.t.Fatal("not in time")
		}
	}
}

// packet seals the client's next packet of audio.
func (c *client) packet(mark byte) []byte {
	c.n.t.Helper()
	body := make([]byte, 160)
	for i := range body {
		body[i] = mark
	}
	b, err := (&rtp.Packet{Header: c.hdr, Payload: body}).Marshal()
	if err != nil {
		c.n.t.Fatal(err)
	}
	c.hdr.SequenceNumber++
	c.hdr.Timestamp += 160
	b, ok := c.sealer.seal(nil, b)
	if !ok {
		c.n.t.Fatal("not sealed")
	}
	return b
}

func (c *client) say(mark byte) { c.n.send(c.packet(mark), c.address(), c.s.Endpoint()) }

// got opens all audio that it has heard since it was last asked, and returns the marks.
func (c *client) got() string {
	c.n.t.Helper()
	c.mu.Lock()
	all := c.media
	c.media = nil
	c.mu.Unlock()
	var marks []byte
	for _, b := range all {
		if isRTCP(b) {
			continue
		}
		p, ok := c.opener.open(b, 0)
		if !ok {
			c.n.t.Error("a packet that is not sealed for the client")
			continue
		}
		marks = append(marks, payloadOf(p)[0])
	}
	return string(marks)
}
