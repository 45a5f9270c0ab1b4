package media

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/logging"
)

// The keys of a browser's leg come of a DTLS handshake on the validated pair (RFC 5764, RFC 8827). What one forged packet could do to it:
//
//	from another address            it never comes here (shared.go)
//	no record, an alert, data       left out: an alert that is not encrypted proves nothing, and nothing but a handshake is spoken here
//	other ClientHellos              tries of their own beside the first, which never gives way: the one whose peer goes on wins
//	a message that ends a try       the next ClientHello begins another, for ten seconds; as the client we begin it ourselves
//
// Alerts are not sent either: a try that failed must not end the peer's. When it is done, and the peer is heard, DTLS has no more to do: no
// goroutine and no buffer of it is left, and what comes of it is ignored. What ends a call is signalling.

const (
	handshakeTime = 10 * time.Second
	settling      = 30 * time.Second // for the peer to be heard, in which our last flight is repeated if asked for
	flightTime    = 200 * time.Millisecond
	handshakeMTU  = 1200
	maxTries      = 3
)

// identity is the certificate of an engine: a peer knows it by the fingerprint alone. It is made of the node's secret, so that it is the same after
// a restart: with another one a browser would begin a new association, and Firefox cannot.
type identity struct {
	certificate tls.Certificate
	fingerprint Fingerprint
}

func newIdentity(secret []byte) (identity, error) {
	key, err := identityKey(secret)
	if err != nil {
		return identity{}, fmt.Errorf("DTLS certificate: %w", err)
	}
	serial := sha256.Sum256(append([]byte("baton DTLS serial"), elliptic.MarshalCompressed(key.Curve, key.X, key.Y)...))
	c := x509.Certificate{ // Firefox refuses two of one issuer that have the same number
		SerialNumber: new(big.Int).SetBytes(serial[:8]), Subject: pkix.Name{CommonName: "baton"},
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(nil, &c, &c, key.Public(), evenSigner{key})
	if err != nil {
		return identity{}, fmt.Errorf("DTLS certificate: %w", err)
	}
	return identity{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, fingerprintOf("sha-256", der)}, nil
}

// identityKey is the key that belongs to a secret; without one it is drawn.
func identityKey(secret []byte) (*ecdsa.PrivateKey, error) {
	if len(secret) == 0 {
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	for i := range 16 { // a number that is no key of the curve comes once in 2^32
		scalar, err := hkdf.Key(sha256.New, secret, nil, fmt.Sprintf("baton DTLS identity %d", i), 32)
		if err != nil {
			return nil, err
		}
		if key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar); err == nil {
			return key, nil
		}
	}
	return nil, errors.New("no key comes of the node's secret")
}

// evenSigner signs the same with the same bytes (RFC 6979), whatever it is given to draw from.
type evenSigner struct{ *ecdsa.PrivateKey }

// Sign is crypto.Signer's.
func (s evenSigner) Sign(_ io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return s.PrivateKey.Sign(nil, digest, o)
}

// hashes are those that a fingerprint may have (RFC 8122 §5), the strongest first.
var hashes = []struct {
	name string
	sum  func([]byte) []byte
}{
	{"sha-512", func(b []byte) []byte { s := sha512.Sum512(b); return s[:] }},
	{"sha-384", func(b []byte) []byte { s := sha512.Sum384(b); return s[:] }},
	{"sha-256", func(b []byte) []byte { s := sha256.Sum256(b); return s[:] }},
}

func fingerprintOf(hash string, der []byte) Fingerprint {
	f := Fingerprint{Hash: hash}
	for _, h := range hashes {
		if h.name == hash {
			f.Value = strings.ReplaceAll(fmt.Sprintf("% X", h.sum(der)), " ", ":")
		}
	}
	return f
}

// vouched says whether a certificate is one of those described, by the strongest hash that any of them has (RFC 8122 §5). One that has none of
// the known hashes vouches for nothing.
func vouched(der []byte, by []Fingerprint) bool {
	for _, h := range hashes {
		own, any := fingerprintOf(h.name, der), false
		for _, f := range by {
			if !strings.EqualFold(f.Hash, h.name) {
				continue
			}
			if any = true; strings.EqualFold(f.Value, own.Value) {
				return true
			}
		}
		if any {
			return false
		}
	}
	return false
}

// association is a stream's DTLS.
type association struct {
	// set once
	agent  *agent
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex
	agreed bool
	active bool // we are the client
	want   []Fingerprint
	tries  []*try
	made   *secrets // of the try that came through; nil = none yet
	used   bool     // they are the stream's keys
	failed bool     // as the client, for ten seconds
	closed bool
}

// secrets are what a handshake came to.
type secrets struct {
	peer    []byte        // certificate
	as      []Fingerprint // of a peer that another process has seen: how that was described
	in, out Crypto
	at      time.Duration
}

// of says whether they were agreed on with whom a description means.
func (s *secrets) of(want []Fingerprint) bool {
	if s.peer != nil {
		return vouched(s.peer, want)
	}
	return slices.EqualFunc(s.as, want, func(a, b Fingerprint) bool {
		return strings.EqualFold(a.Hash, b.Hash) && strings.EqualFold(a.Value, b.Value)
	})
}

func (d *association) init(a *agent) {
	d.agent = a
	d.ctx, d.cancel = context.WithCancel(context.Background())
}

// resume has the keys of an association that another process has made.
func (d *association) resume(b *Browser) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.made = &secrets{in: b.In, out: b.Out, at: d.engine().clock()}
}

func (d *association) engine() *Engine { return d.agent.stream.engine }

// receive takes a datagram that came on a validated pair.
func (d *association) receive(b []byte) {
	b = handshakeRecords(b)
	if len(b) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	hello, random := clientHello(b)
	switch {
	case d.closed, hello && (d.active || d.made != nil):
		return
	case hello:
		d.tryOf(random).deliver(b)
		return
	}
	for _, t := range d.tries {
		t.deliver(b)
	}
}

// tryOf finds the try that answers a client, or begins it: each client is known by its random.
func (d *association) tryOf(random string) *try {
	if i := slices.IndexFunc(d.tries, func(t *try) bool { return t.random == random }); i >= 0 {
		return d.tries[i]
	}
	if last := len(d.tries) - 1; last == maxTries-1 { // the peer's own is likely the first: it began before anybody could know of the pair
		d.tries[last].stop()
		d.tries = d.tries[:last]
	}
	t := newTry(d, random)
	d.tries = append(d.tries, t)
	d.engine().readers.Go(func() { d.serve(t) })
	return t
}

// ready begins the handshake if that is ours to do and there is a way.
func (d *association) ready() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || !d.agreed || !d.active || d.made != nil || d.failed || len(d.tries) > 0 || d.agent.out.Load() == nil {
		return
	}
	t := newTry(d, "")
	d.tries = []*try{t}
	d.engine().readers.Go(func() { d.dial(t) })
}

// serve runs a try as the server.
func (d *association) serve(t *try) {
	defer d.engine().survive("DTLS handshake")
	defer d.leave(t)
	ctx, cancel := context.WithTimeout(t.ctx, handshakeTime)
	defer cancel()
	if err := d.shake(ctx, t, false); err != nil && t.ctx.Err() == nil {
		d.engine().log.Warn("DTLS handshake", "local", d.agent.stream.endpoint, "to", d.agent.dest(), "err", err)
	}
}

// dial runs tries as the client until one comes through, or ten seconds are over.
func (d *association) dial(t *try) {
	defer d.engine().survive("DTLS handshake")
	ctx, cancel := context.WithTimeout(d.ctx, handshakeTime)
	defer cancel()
	for {
		err := d.shake(ctx, t, true)
		if err == nil || t.ctx.Err() != nil { // done, or not wanted any more
			d.leave(t)
			return
		}
		select {
		case <-ctx.Done():
			d.fail()
			d.leave(t)
			d.engine().log.Warn("DTLS handshake", "local", d.agent.stream.endpoint, "to", d.agent.dest(), "err", err)
			return
		case <-time.After(flightTime):
		}
		if t = d.again(t); t == nil {
			return
		}
	}
}

func (d *association) fail() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed = true
}

// again puts a new try in the place of one that failed; nil if it is not wanted any more.
func (d *association) again(t *try) *try {
	d.mu.Lock()
	defer d.mu.Unlock()
	t.stop()
	i := slices.Index(d.tries, t)
	if i < 0 || d.closed {
		return nil
	}
	d.tries[i] = newTry(d, "")
	return d.tries[i]
}

func (d *association) leave(t *try) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t.stop()
	d.tries = slices.DeleteFunc(d.tries, func(o *try) bool { return o == t })
}

// shake runs one handshake, and stays until the peer has proved that it is done too.
func (d *association) shake(ctx context.Context, t *try, client bool) error {
	conn, err := t.open(&d.agent.shared.identity, client)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	made, err := secretsOf(conn, client)
	if err != nil {
		return err
	}
	made.at = d.engine().clock()
	d.done(t, made)
	if client {
		return nil // the server's last flight has come: nothing will be asked for again
	}
	select {
	case <-t.settled:
	case <-t.ctx.Done():
	case <-time.After(settling):
	}
	return nil
}

// done takes what a try came to; the others end.
func (d *association) done(t *try, made *secrets) {
	s := d.agent.stream
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.closed || !d.first(t, made) || !d.use() {
		return
	}
	s.rekeyed()
}

func (d *association) first(t *try, made *secrets) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.made != nil || !slices.Contains(d.tries, t) {
		return false
	}
	d.made, d.used = made, false
	for _, o := range d.tries {
		if o != t {
			o.stop()
		}
	}
	d.tries = []*try{t}
	return true
}

// agree takes what the peer's description says, and who begins; under engine.mu, before the stream's path is made anew. Another certificate
// is another association (RFC 8842 §4); the keys before are good until it has new ones.
func (d *association) agree(want []Fingerprint, active bool) {
	d.mu.Lock()
	d.failed = false // the peer may have been without a network for as long: its restart of ICE says nothing new to DTLS
	d.want = slices.Clone(want)
	if d.made != nil && d.made.peer == nil && d.made.as == nil {
		d.made.as = d.want
	}
	if active && !d.active && d.made == nil {
		d.abandon() // what was begun as the server
	}
	if d.used && !d.made.of(want) {
		d.made, d.used = nil, false
		d.abandon()
	}
	d.agreed, d.active = true, active
	d.mu.Unlock()
	d.use()
	d.ready()
}

func (d *association) abandon() {
	for _, t := range d.tries {
		t.stop()
	}
	d.tries = nil
}

// use makes the keys the stream's, once it is known whose they have to be; under engine.mu. True if they are in use since.
func (d *association) use() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.made == nil || d.used || !d.agreed {
		return false
	}
	log := d.engine().log.With("local", d.agent.stream.endpoint, "to", d.agent.dest())
	if !d.made.of(d.want) {
		log.Warn("DTLS certificate is not the one that was described")
		d.made = nil
		d.failed = true
		d.abandon()
		return false
	}
	if err := d.agent.stream.useKeys(d.made.in, d.made.out); err != nil {
		log.Error("SRTP keys", "err", err)
		return false
	}
	d.used = true
	return true
}

// tick ends what waits for the peer to be heard.
func (d *association) tick(time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.agent.stream
	if !d.used || len(d.tries) == 0 || max(s.ear.source.last.Load(), s.ctrl.last.Load()) < int64(d.made.at) {
		return
	}
	for _, t := range d.tries {
		t.settle()
	}
}

func (d *association) close() {
	d.cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.abandon()
}

// srtpProfiles are the SRTP protection srtpProfiles, the cheapest first (RFC 5764 §4.1.2, RFC 7714 §14.2).
var srtpProfiles = []dtls.SRTPProtectionProfile{dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80}

var srtpProfileNames = map[dtls.SRTPProtectionProfile]string{
	dtls.SRTP_AEAD_AES_128_GCM: "AEAD_AES_128_GCM", dtls.SRTP_AES128_CM_HMAC_SHA1_80: "AES_CM_128_HMAC_SHA1_80",
}

// secretsOf exports the SRTP keys of a handshake (RFC 5764 §4.2).
func secretsOf(conn *dtls.Conn, client bool) (*secrets, error) {
	profile, ok := conn.SelectedSRTPProtectionProfile()
	name := srtpProfileNames[profile]
	state, known := conn.ConnectionState()
	if !ok || name == "" || !known || len(state.PeerCertificates) == 0 {
		return nil, errors.New("no SRTP profile, or no certificate")
	}
	s := suites[name]
	b, err := state.ExportKeyingMaterial("EXTRACTOR-dtls_srtp", nil, 2*(s.key+s.salt))
	if err != nil {
		return nil, err
	}
	salts := b[2*s.key:]
	ofClient := Crypto{Suite: name, Key: Secret(slices.Concat(b[:s.key], salts[:s.salt]))}
	ofServer := Crypto{Suite: name, Key: Secret(slices.Concat(b[s.key:2*s.key], salts[s.salt:]))}
	out := &secrets{peer: state.PeerCertificates[0], in: ofClient, out: ofServer}
	if client {
		out.in, out.out = ofServer, ofClient
	}
	return out, nil
}

// try is one handshake, and the socket of it: what comes is delivered, what goes out takes the stream's present pair.
type try struct {
	// set once
	d       *association
	random  string // of the client that it serves
	ctx     context.Context
	stop    context.CancelFunc
	in      chan []byte
	settled chan struct{}
	settle  func()
	closed  chan struct{} // by its connection, which does so when the handshake has failed
	close   func()

	mu      sync.Mutex
	expired chan struct{} // closed when the read deadline is over
}

func newTry(d *association, random string) *try {
	t := &try{
		d: d, random: random, in: make(chan []byte, 16), settled: make(chan struct{}), closed: make(chan struct{}), expired: make(chan struct{}),
	}
	t.ctx, t.stop = context.WithCancel(d.ctx)
	t.settle = sync.OnceFunc(func() { close(t.settled) })
	t.close = sync.OnceFunc(func() { close(t.closed) })
	return t
}

var silent = &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled, ScopeLevels: map[string]logging.LogLevel{}}

// open makes the connection; it says and hears nothing yet. Who the peer is is checked after the handshake, by the fingerprint.
func (t *try) open(id *identity, client bool) (*dtls.Conn, error) {
	common := []dtls.Option{
		dtls.WithCertificates(id.certificate), dtls.WithSRTPProtectionProfiles(srtpProfiles...), dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
		dtls.WithMTU(handshakeMTU), dtls.WithFlightInterval(flightTime), dtls.WithInsecureSkipVerify(true), dtls.WithLoggerFactory(silent),
		dtls.WithCipherSuites(
			dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			dtls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, dtls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
			dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, dtls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		),
	}
	at := net.UDPAddrFromAddrPort(t.d.agent.stream.endpoint) // it only has to be some address
	if client {
		var all []dtls.ClientOption
		for _, o := range common {
			all = append(all, o)
		}
		return dtls.ClientWithOptions(t, at, all...)
	}
	// The check has shown that the address is the peer's, so that no cookie has to.
	all := []dtls.ServerOption{dtls.WithClientAuth(dtls.RequireAnyClientCert), dtls.WithInsecureSkipVerifyHello(true)}
	for _, o := range common {
		all = append(all, o)
	}
	return dtls.ServerWithOptions(t, at, all...)
}

// deliver gives it a datagram; what does not fit is sent again.
func (t *try) deliver(b []byte) {
	select {
	case t.in <- b:
	default:
	}
}

// ReadFrom waits for a datagram.
func (t *try) ReadFrom(b []byte) (int, net.Addr, error) {
	t.mu.Lock()
	expired := t.expired
	t.mu.Unlock()
	select {
	case p := <-t.in:
		return copy(b, p), t.LocalAddr(), nil
	case <-expired:
		return 0, nil, os.ErrDeadlineExceeded
	case <-t.closed:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo sends a datagram without its alerts.
func (t *try) WriteTo(b []byte, _ net.Addr) (int, error) {
	var out []byte
	for r := range records(b) {
		if r[0] != recordAlert {
			out = append(out, r...)
		}
	}
	if len(out) > 0 {
		_, _ = t.d.agent.WriteToUDPAddrPort(out, t.d.agent.dest()) // a lost flight is repeated
	}
	return len(b), nil
}

// SetReadDeadline ends a ReadFrom that waits, for any time but the zero one.
func (t *try) SetReadDeadline(at time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at.IsZero() {
		t.expired = make(chan struct{})
		return nil
	}
	select {
	case <-t.expired:
	default:
		close(t.expired)
	}
	return nil
}

// SetWriteDeadline does nothing: WriteTo never waits.
func (t *try) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline is SetReadDeadline.
func (t *try) SetDeadline(at time.Time) error { return t.SetReadDeadline(at) }

// Close ends it.
func (t *try) Close() error {
	t.close()
	return nil
}

// LocalAddr is some address.
func (t *try) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(t.d.agent.stream.endpoint) }

// Records of DTLS (RFC 6347 §4.1): type, version, epoch, sequence number, length.
const (
	recordHeader    = 13
	recordCipher    = 20
	recordAlert     = 21
	recordHandshake = 22

	messageHeader  = 12 // of the handshake: type, length, sequence, offset and length of the fragment (RFC 6347 §4.2.2)
	messageHello   = 1
	maxMessage     = 1 << 16
	helloRandom    = 32
	helloRandomPos = recordHeader + messageHeader + 2
)

// records goes through those of a datagram, as far as they are whole.
func records(b []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) >= recordHeader {
			n := recordHeader + int(binary.BigEndian.Uint16(b[11:]))
			if n > len(b) || !yield(b[:n:n]) {
				return
			}
			b = b[n:]
		}
	}
}

// handshakeRecords returns a copy of what can be part of a handshake.
func handshakeRecords(b []byte) []byte {
	var out []byte
	for r := range records(b) {
		if ofHandshake(r) {
			out = append(out, r...)
		}
	}
	return out
}

func ofHandshake(r []byte) bool {
	if r[1] != 0xfe || r[2] != 0xff && r[2] != 0xfd {
		return false
	}
	body := r[recordHeader:]
	switch epoch := binary.BigEndian.Uint16(r[3:]); {
	case r[0] == recordHandshake && epoch == 1:
		return len(body) > 0 // Finished, encrypted
	case r[0] == recordCipher:
		return epoch == 0 && len(body) == 1 && body[0] == 1
	}
	return r[0] == recordHandshake && binary.BigEndian.Uint16(r[3:]) == 0 && wholeFragments(body)
}

// wholeFragments says whether a record holds fragments of messages that could be.
func wholeFragments(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	for len(b) > 0 {
		if len(b) < messageHeader {
			return false
		}
		whole, offset, n := uint24(b[1:]), uint24(b[6:]), uint24(b[9:])
		if whole > maxMessage || offset+n > whole || messageHeader+n > len(b) || n == 0 && whole > 0 {
			return false
		}
		b = b[messageHeader+n:]
	}
	return true
}

func uint24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

// clientHello says whether a datagram begins with a ClientHello, and with which random.
func clientHello(b []byte) (bool, string) {
	if b[0] != recordHandshake || len(b) < helloRandomPos+helloRandom || b[recordHeader] != messageHello || binary.BigEndian.Uint16(b[3:]) != 0 {
		return false, ""
	}
	if uint24(b[recordHeader+6:]) != 0 {
		return false, "" // a later fragment of one
	}
	return true, string(b[helloRandomPos : helloRandomPos+helloRandom])
}
