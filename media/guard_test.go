package media

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	mrand "math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// safe is a phone with SRTP of its own: pion's contexts, set up from RFC 4568's keys without anything of guard.go.
type safe struct {
	*dev
	key Crypto // the phone's
	tx  *srtp.Context
	rx  *srtp.Context
}

var profiles = map[string]srtp.ProtectionProfile{
	"AES_CM_128_HMAC_SHA1_80": srtp.ProtectionProfileAes128CmHmacSha1_80,
	"AES_CM_128_HMAC_SHA1_32": srtp.ProtectionProfileAes128CmHmacSha1_32,
	"AEAD_AES_128_GCM":        srtp.ProtectionProfileAeadAes128Gcm,
	"AEAD_AES_256_GCM":        srtp.ProtectionProfileAeadAes256Gcm,
}

func contextOf(t testing.TB, c Crypto) *srtp.Context {
	t.Helper()
	n := map[string]int{"AEAD_AES_256_GCM": 32}[c.Suite]
	if n == 0 {
		n = 16
	}
	var o []srtp.ContextOption
	if len(c.MKI) > 0 {
		o = append(o, srtp.MasterKeyIndicator(c.MKI))
	}
	ctx, err := srtp.CreateContext(c.Key[:n], c.Key[n:], profiles[c.Suite], o...)
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}

// keyFor draws a key of a suite.
func keyFor(suite string) Crypto {
	n := map[string]int{"AEAD_AES_128_GCM": 28, "AEAD_AES_256_GCM": 44}[suite]
	if n == 0 {
		n = 30
	}
	k := make([]byte, n)
	_, _ = rand.Read(k)
	return Crypto{Tag: 1, Suite: suite, Key: k}
}

func (r *room) safe(suite, ip string, codecs ...Codec) *safe {
	p := &safe{dev: r.phone(ip, codecs...)}
	p.hdr.SequenceNumber &= 0x7fff
	p.agree(keyFor(suite), p.ours(suite))
	return p
}

// ours is the stream's own key of a suite, as its descriptions have it.
func (p *safe) ours(suite string) Crypto {
	for _, c := range p.s.Crypto() {
		if c.Suite == suite {
			return c
		}
	}
	p.r.t.Fatalf("the stream has no key of %s", suite)
	return Crypto{}
}

// agree gives both sides these keys, as an offer and its answer do.
func (p *safe) agree(theirs, ours Crypto) {
	p.key = theirs
	p.tx, p.rx = contextOf(p.r.t, theirs), contextOf(p.r.t, ours)
	p.s.Apply(p.agreement(theirs, ours))
}

func (p *safe) agreement(theirs, ours Crypto) Agreement {
	a := agreed(p.at, p.codec, dtmf)
	a.Security, a.In, a.Out = SDES, theirs, ours
	return a
}

// sealed is the phone's next packet.
func (p *safe) sealed() []byte {
	b, err := (&rtp.Packet{Header: p.hdr, Payload: p.body}).Marshal()
	if err != nil {
		p.r.t.Fatal(err)
	}
	p.hdr.SequenceNumber++
	p.hdr.Timestamp += p.frame
	out, err := p.tx.EncryptRTP(nil, b, nil)
	if err != nil {
		p.r.t.Fatal(err)
	}
	return out
}

// say sends the phone's next packet, and says whether it was taken.
func (p *safe) say() bool { return p.arrives(p.sealed(), p.at) }

func (p *safe) arrives(b []byte, from netip.AddrPort) bool {
	before := p.s.ear.reception.packets.Load()
	p.r.now += 20 * ms
	p.s.receive(append([]byte(nil), b...), from, p.r.now, nil)
	return p.s.ear.reception.packets.Load() > before
}

// opened are the RTP packets that the phone got, decrypted.
func (p *safe) opened() (out [][]byte) {
	p.r.t.Helper()
	for _, m := range p.r.got(p.dev) {
		if isRTCP(m.b) {
			continue
		}
		b, err := p.rx.DecryptRTP(nil, m.b, nil)
		if err != nil {
			p.r.t.Fatalf("packet %d of what the phone got: %v", len(out), err)
		}
		out = append(out, b)
	}
	p.r.forget(p.dev)
	return out
}

// TestGuardSuites: every suite at either side, with and without MKI, converted and not: what one phone says the other hears.
func TestGuardSuites(t *testing.T) {
	for in := range profiles {
		for out := range profiles {
			for _, mki := range []string{"", "\x01", "\x00\x00\x00\x07"} {
				for _, codec := range []Codec{pcmu, pcma} {
					r := newRoom(t)
					a, b := r.safe(in, "203.0.113.5", pcmu), r.safe(out, "198.51.100.7", codec)
					ka, kb := keyFor(in), b.ours(out)
					ka.MKI, kb.MKI = Secret(mki), Secret(mki)
					a.agree(ka, a.ours(in))
					b.agree(b.key, kb)
					bridge(a.dev, b.dev)
					a.body = bytes.Repeat([]byte{0x55}, 160)
					want := a.body
					if codec.Is(pcma) {
						want = bytes.Repeat([]byte{muToA[0x55]}, 160)
					}
					for range 5 {
						if !a.say() {
							t.Fatalf("%s → %s, MKI %q: dropped: %v", in, out, mki, a.s.Stats().Dropped)
						}
					}
					got := b.opened()
					if len(got) != 5 || !bytes.Equal(got[4][12:], want) {
						t.Fatalf("%s → %s, MKI %q: %d packets, %x", in, out, mki, len(got), got)
					}
				}
			}
		}
	}
}

// TestGuardNoAllocations: the whole way of a packet, opened and sealed, allocates nothing.
func TestGuardNoAllocations(t *testing.T) {
	for suite := range profiles {
		r := newRoom(t)
		a, b := r.safe(suite, "203.0.113.5", pcmu), r.safe(suite, "198.51.100.7", pcma)
		bridge(a.dev, b.dev)
		b.s.rtp = &null{}
		packets := make([][]byte, 1100)
		for i := range packets {
			packets[i] = a.sealed()
		}
		i := 0
		next := func() {
			r.now += 20 * ms
			a.s.receive(packets[i], a.at, r.now, nil)
			i++
		}
		for range 20 {
			next()
		}
		most := 0.0
		if raced && strings.HasPrefix(suite, "AES_CM") {
			most = 2 // one at each side
		}
		if n := testing.AllocsPerRun(1000, next); n > most {
			t.Errorf("%s: %v allocations a packet", suite, n)
		}
		if n := b.s.line.sent.Load(); n != uint64(i) {
			t.Errorf("%s: %d of %d packets sent", suite, n, i)
		}
		report, err := rtcp.Marshal(a.s.account(r.now))
		if err != nil {
			t.Fatal(err)
		}
		in, out := make([]byte, 0, 256), make([]byte, 0, 256)
		peer, err := newInbound(b.s.guards.sealer.crypto)
		if err != nil {
			t.Fatal(err)
		}
		control := func() {
			sealed, ok := b.s.guards.sealer.sealRTCP(out, report)
			if !ok {
				t.Fatal("not sealed")
			}
			if _, ok := peer.openRTCP(in, sealed); !ok {
				t.Fatal("not opened")
			}
		}
		control()
		if n := testing.AllocsPerRun(1000, control); n > most {
			t.Errorf("%s: %v allocations for SRTCP", suite, n)
		}
	}
}

// standing is all that a forged packet must not change.
func (p *safe) standing() string {
	e, l := &p.s.ear, &p.s.ear.latch
	return fmt.Sprint(p.s.Standing(), p.s.dest(p.s.terms), l.from, l.rank, l.last, l.alien, l.proof, e.reception.packets.Load(), e.reception.highest.Load(),
		e.reception.received.Load(), e.reception.jitter.Load(), e.source.last.Load(), e.source.first.Load(), p.heard, p.s.Stats().In)
}

// forgeries are packets made of a good one by somebody without the key.
func forgeries(t testing.TB, good, old []byte, suite string) map[string][]byte {
	t.Helper()
	edit := func(f func(b []byte) []byte) []byte { return f(append([]byte(nil), good...)) }
	other, err := contextOf(t, keyFor(suite)).EncryptRTP(nil, good[:172], nil)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"payload":       edit(func(b []byte) []byte { b[20] ^= 1; return b }),
		"tag":           edit(func(b []byte) []byte { b[len(b)-1] ^= 1; return b }),
		"sequence":      edit(func(b []byte) []byte { b[3]++; return b }),
		"far sequence":  edit(func(b []byte) []byte { b[2] ^= 0x80; return b }),
		"timestamp":     edit(func(b []byte) []byte { b[7]++; return b }),
		"SSRC":          edit(func(b []byte) []byte { b[9]++; return b }),
		"payload type":  edit(func(b []byte) []byte { b[1] ^= 1; return b }),
		"marker":        edit(func(b []byte) []byte { b[1] ^= 0x80; return b }),
		"padding":       edit(func(b []byte) []byte { b[0] |= 0x20; return b }),
		"extension":     edit(func(b []byte) []byte { b[0] |= 0x10; return b }),
		"cryptex":       edit(func(b []byte) []byte { b[0] |= 0x10; b[12], b[13], b[14], b[15] = 0xc0, 0xde, 0, 1; return b }),
		"CSRCs":         edit(func(b []byte) []byte { b[0] |= 15; return b }),
		"cut":           edit(func(b []byte) []byte { return b[:len(b)-1] }),
		"longer":        edit(func(b []byte) []byte { return append(b, 0) }),
		"header alone":  edit(func(b []byte) []byte { return b[:12] }),
		"short":         edit(func(b []byte) []byte { return b[:20] }),
		"plain":         edit(func(b []byte) []byte { return b[:172] }),
		"another's key": other,
		"replay":        append([]byte(nil), old...),
		"again":         append([]byte(nil), good...), // sent after the good one
	}
}

// TestForged (S2): what has no right tag, or came before, changes nothing but the count of what was dropped, wherever it comes from, before
// the first good packet and after.
func TestForged(t *testing.T) {
	for suite := range profiles {
		r := newRoom(t)
		a, b := r.safe(suite, "203.0.113.5", pcmu), r.safe(suite, "198.51.100.7", pcmu)
		bridge(a.dev, b.dev)
		attacker := netip.MustParseAddrPort("203.0.113.66:9999")
		dropped := uint64(0)
		throw := func(all map[string][]byte) {
			t.Helper()
			for name, f := range all {
				for _, from := range []netip.AddrPort{attacker, a.at, netip.AddrPortFrom(a.at.Addr(), 9)} {
					before := a.standing()
					for range 100 {
						a.s.receive(append([]byte(nil), f...), from, r.now, nil)
					}
					if dropped += 100; a.standing() != before {
						t.Fatalf("%s: %s from %v changed\n%s to\n%s", suite, name, from, before, a.standing())
					}
				}
			}
			if got := a.s.Stats().Dropped; got["forged"] != dropped || len(got) != 1 {
				t.Fatalf("%s: dropped %v, want %d forged", suite, got, dropped)
			}
		}
		first := forgeries(t, a.sealed(), nil, suite)
		delete(first, "again")
		delete(first, "replay")
		throw(first)
		if a.s.Stats().Latched {
			t.Fatalf("%s: a forged packet latched", suite)
		}
		old := a.sealed()
		if !a.arrives(old, a.at) {
			t.Fatalf("%s: the good packet after the forged ones was dropped", suite)
		}
		for range 3 {
			good := a.sealed()
			if !a.arrives(good, a.at) {
				t.Fatalf("%s: a good packet was dropped", suite)
			}
			throw(forgeries(t, good, old, suite))
		}
		if got := b.opened(); len(got) != 4 {
			t.Errorf("%s: the other side heard %d packets of 4", suite, len(got))
		}
	}
}

// TestForgedFlood (S4): 10,000 bad packets at 500 a second, of every kind and in the peer's own name: the call's sound goes on without a
// break, at both ends, and the stream is as open as before.
func TestForgedFlood(t *testing.T) {
	r := newRoom(t)
	a, b := r.safe("AEAD_AES_128_GCM", "203.0.113.5", pcmu), r.safe("AES_CM_128_HMAC_SHA1_80", "198.51.100.7", pcmu)
	bridge(a.dev, b.dev)
	said, thrown := 0, 0
	for thrown < 10_000 {
		good := a.sealed()
		a.arrives(good, a.at) // and 20 ms go by
		r.now -= 20 * ms
		b.say()
		said++
		for name, f := range forgeries(t, good, good, a.key.Suite) {
			if thrown%10 == 0 && name == "plain" {
				f[3]++
			}
			from := a.at
			if mrand.N(2) == 0 {
				from = netip.MustParseAddrPort("203.0.113.66:9999")
			}
			a.s.receive(f, from, r.now, nil)
			if thrown++; thrown%10 == 0 {
				break
			}
		}
	}
	for _, p := range []*safe{a, b} {
		k := r.track(p.dev, 8000)
		if k.packets != said || k.breaks != 0 || k.tsBreaks != 0 || k.ssrcs != 1 || k.gap != 20*ms {
			t.Errorf("of %d packets: %+v", said, k)
		}
		if n := len(p.opened()); n != said {
			t.Errorf("%d of %d packets could be opened", n, said)
		}
	}
	if s := a.s.Stats(); s.Dropped["forged"] != uint64(thrown) || s.In.Lost != 0 || r.e.OpenStreams() != 2 {
		t.Errorf("%d thrown: %+v", thrown, s)
	}
}

// TestVerifiedLatch (S1, S2): a verified tag latches from any address while nothing is latched, and after 400 ms of silence; without one
// nothing does.
func TestVerifiedLatch(t *testing.T) {
	const elsewhere = "203.0.113.77:7777"
	away := netip.MustParseAddrPort(elsewhere)
	r := newRoom(t)
	a, b := r.safe("AEAD_AES_128_GCM", "203.0.113.5", pcmu), r.safe("AEAD_AES_128_GCM", "198.51.100.7", pcmu)
	bridge(a.dev, b.dev)
	forged := append([]byte(nil), a.sealed()...)
	forged[30] ^= 1
	to := func() netip.AddrPort { return a.s.dest(a.s.terms) }
	if a.arrives(forged, away) || to() != a.at {
		t.Fatal("a forged packet latched")
	}
	if !a.arrives(a.sealed(), away) || to() != away {
		t.Fatalf("a verified packet from another address did not latch: %v", to())
	}
	if !a.say() || to() != a.at {
		t.Fatalf("the address of the SDP does not take the place of a stranger's: %v", to())
	}
	if r.now += 379 * ms; a.arrives(a.sealed(), away) || to() != a.at {
		t.Fatal("latched anew after 399 ms of silence")
	}
	if r.now += 20 * ms; a.arrives(forged, away) || to() != a.at {
		t.Fatal("a forged packet latched after silence")
	}
	if !a.arrives(a.sealed(), away) || to() != away {
		t.Fatalf("a verified packet after 400 ms of silence did not latch: %v", to())
	}
	third := netip.MustParseAddrPort("203.0.113.88:8888")
	moved := a.agreement(a.key, a.ours(a.key.Suite))
	moved.Remote = netip.MustParseAddrPort("10.0.0.9:4000")
	a.s.Apply(moved)
	if a.arrives(a.sealed(), away) || to() != moved.Remote {
		t.Error("what was on its way from the address before the change latched")
	}
	if !a.arrives(a.sealed(), third) || to() != third {
		t.Errorf("a verified packet did not latch at once after a change of address: %v", to())
	}
	plain := r.phone("203.0.113.5", pcmu)
	plain.from("203.0.113.5:5")
	if r.now += time.Second; plain.from(elsewhere) {
		t.Error("another IP latched without a tag")
	}
}

// TestPlainWhereSealedWasAgreed: it is dropped and counted, RTP and RTCP.
func TestPlainWhereSealedWasAgreed(t *testing.T) {
	r := newRoom(t)
	a := r.safe("AES_CM_128_HMAC_SHA1_80", "203.0.113.5", pcmu)
	for range 5 {
		a.dev.send()
	}
	report, err := rtcp.Marshal([]rtcp.Packet{&rtcp.SenderReport{SSRC: a.hdr.SSRC}})
	if err != nil {
		t.Fatal(err)
	}
	a.s.receiveRTCP(report, next(a.at), r.now, nil)
	s := a.s.Stats()
	if s.Dropped["forged"] != 5 || s.Dropped["rtcp_forged"] != 1 || s.In.Packets != 0 || s.Latched || s.Secure != "sdes" || !a.s.LastHeard().IsZero() {
		t.Errorf("%+v", s)
	}
	early, err := r.e.Open(StreamOptions{Peer: a.at.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	early.receive(a.sealed(), a.at, r.now, nil)
	if d := early.Stats().Dropped; d["early"] != 1 {
		t.Errorf("before the answer: %v", d)
	}
}

// TestSources: a peer that changes its SSRC begins at rollover counter 0 again; several at a time are told apart; those that one key may
// have are bounded.
func TestSources(t *testing.T) {
	r := newRoom(t)
	a, b := r.safe("AEAD_AES_128_GCM", "203.0.113.5", pcmu), r.safe("AEAD_AES_128_GCM", "198.51.100.7", pcmu)
	bridge(a.dev, b.dev)
	a.hdr.SequenceNumber = 0xfffd
	for range 6 {
		if !a.say() {
			t.Fatal("dropped over the end of the numbers")
		}
	}
	was := a.hdr
	for i := range 5 {
		a.hdr.SSRC, a.hdr.SequenceNumber = was.SSRC+1+uint32(i), 0xfff0
		if !a.say() {
			t.Fatalf("SSRC %d was dropped", i)
		}
	}
	a.hdr = was
	if !a.say() {
		t.Error("the first SSRC was dropped when it came back, with rollover counter 1")
	}
	for i := range uint32(2 * maxSources) {
		a.hdr.SSRC = 5000 + i
		a.say()
	}
	if n := len(a.s.guards.opener.cur.known); n != maxSources {
		t.Errorf("%d sources are remembered", n)
	}
	a.hdr = was
	a.hdr.SequenceNumber++
	if !a.say() {
		t.Error("the first SSRC was dropped after too many others")
	}
}

// TestRollover: both directions go over the end of the numbers, twice.
func TestRollover(t *testing.T) {
	for suite := range profiles {
		r := newRoom(t)
		a, b := r.safe(suite, "203.0.113.5", pcmu), r.safe(suite, "198.51.100.7", pcmu)
		bridge(a.dev, b.dev)
		n := 140_000
		for range n {
			if !a.say() {
				t.Fatalf("%s: dropped at number %d", suite, a.hdr.SequenceNumber)
			}
			if len(r.wire[b.at]) >= 1000 {
				n -= len(b.opened())
			}
		}
		if n -= len(b.opened()); n != 0 {
			t.Errorf("%s: %d packets did not come out", suite, n)
		}
		if st := a.s.Standing(); len(st.In) != 1 || st.In[0].ROC != 2 || b.s.Standing().Out.ROC != 2 {
			t.Errorf("%s: %+v, %+v", suite, st, b.s.Standing())
		}
	}
}

// TestLateStart: a peer whose first packets were lost while it counted over is heard all the same.
func TestLateStart(t *testing.T) {
	r := newRoom(t)
	a := r.safe("AES_CM_128_HMAC_SHA1_80", "203.0.113.5", pcmu)
	a.hdr.SequenceNumber = 0xfffe
	a.sealed()
	a.sealed()
	forged := a.sealed()
	forged[40] ^= 1
	for range 50 {
		a.s.receive(append([]byte(nil), forged...), a.at, r.now, nil)
	}
	taken := 0
	for range 10 {
		if a.say() {
			taken++
		}
	}
	if taken < 9 {
		t.Errorf("%d packets of 10 were taken", taken)
	}
}

// TestRekey: the peer changes its key by an offer. What is on its way under the old one is heard for a second, and not longer; our own
// key, and the stream that the other side hears, go on.
func TestRekey(t *testing.T) {
	r := newRoom(t)
	a, b := r.safe("AEAD_AES_128_GCM", "203.0.113.5", pcmu), r.safe("AES_CM_128_HMAC_SHA1_80", "198.51.100.7", pcmu)
	bridge(a.dev, b.dev)
	a.hdr.SequenceNumber = 0xfff0
	for range 66_000 { // so that the new key meets a source that has counted over, twice
		a.say()
	}
	r.forget(b.dev)
	b.rx.SetROC(b.s.line.ssrc.Load(), b.s.Standing().Out.ROC)
	for range 40 {
		a.say()
		b.say()
	}
	old, fresh := a.tx, keyFor("AES_CM_128_HMAC_SHA1_32")
	a.s.Apply(a.agreement(fresh, a.s.guards.sealer.crypto))
	for i := range 5 {
		if !a.say() {
			t.Fatalf("packet %d under the old key was dropped", i)
		}
		b.say()
	}
	a.key, a.tx = fresh, contextOf(t, fresh)
	a.tx.SetROC(a.hdr.SSRC, 2) // as RFC 3711 §3.3.1 has it; others begin at 0
	for i := range 5 {
		if !a.say() {
			t.Fatalf("packet %d under the new key was dropped", i)
		}
		b.say()
	}
	r.now += time.Second
	fresh2 := a.tx
	a.tx = old
	if a.say() {
		t.Error("the old key was believed after more than a second")
	}
	a.tx = fresh2
	if !a.say() {
		t.Error("dropped after that")
	}
	if k := r.track(b.dev, 8000); k.ssrcs != 1 || k.breaks != 0 || k.packets != 51 {
		t.Errorf("the other side heard %+v", k)
	}
	if n := len(b.opened()); n != 51 {
		t.Errorf("%d packets opened", n)
	}
	if n := len(a.opened()); n != 50 {
		t.Errorf("the peer opened %d of 50 packets with the one key of ours", n)
	}
	begins := keyFor("AEAD_AES_256_GCM")
	a.agree(begins, a.ours("AEAD_AES_128_GCM"))
	if !a.say() {
		t.Error("a key whose counter begins at 0 again was not believed")
	}
}

// TestReplayOverRekey: a key that comes back remembers what was heard with it.
func TestReplayOverRekey(t *testing.T) {
	r := newRoom(t)
	a := r.safe("AEAD_AES_128_GCM", "203.0.113.5", pcmu)
	first, ours := a.key, a.ours("AEAD_AES_128_GCM")
	p := a.sealed()
	a.arrives(p, a.at)
	a.s.Apply(a.agreement(keyFor("AEAD_AES_128_GCM"), ours))
	a.s.Apply(agreed(a.at, pcmu, dtmf)) // and plain RTP for a while
	a.s.Apply(a.agreement(first, ours))
	if a.arrives(p, a.at) {
		t.Error("a packet was taken twice")
	}
	if !a.say() {
		t.Error("the next was not taken")
	}
}

// TestNoIndexTwice: whatever a peer and its agreements do, nothing is sealed twice with one key and index: not two packets of one
// number, not after another suite or plain RTP in between, not a key that the line plays itself.
func TestNoIndexTwice(t *testing.T) {
	r := newRoom(t)
	from, to := r.phone("203.0.113.5", pcmu, dtmf), r.safe("AEAD_AES_128_GCM", "198.51.100.7", pcmu)
	bridge(from, to.dev)
	peers := map[string]*srtp.Context{}
	used := map[string]map[uint64]bool{}
	indexOf := func(ctx *srtp.Context, b []byte) uint64 {
		roc, _ := ctx.ROC(binary.BigEndian.Uint32(b[8:]))
		return uint64(roc)<<16 | uint64(binary.BigEndian.Uint16(b[2:]))
	}
	opens := func(ctx *srtp.Context, b []byte) bool {
		_, err := ctx.DecryptRTP(nil, b, nil)
		for roc := uint32(0); err != nil && roc < 5; roc++ { // a tap may guess
			ctx.SetROC(binary.BigEndian.Uint32(b[8:]), roc)
			_, err = ctx.DecryptRTP(nil, b, nil)
		}
		return err == nil
	}
	check := func() (n int) {
		t.Helper()
		key := to.s.guards.sealer.crypto
		ctx, ok := peers[key.Suite]
		if !ok {
			ctx = contextOf(t, key)
			peers[key.Suite], used[key.Suite] = ctx, map[uint64]bool{}
		}
		for _, m := range r.got(to.dev) {
			if !opens(ctx, m.b) {
				t.Fatalf("%s: %x cannot be opened", key.Suite, m.b[:12])
			}
			i := indexOf(ctx, m.b)
			if used[key.Suite][i] {
				t.Fatalf("%s: index %x was sealed twice", key.Suite, i)
			}
			used[key.Suite][i] = true
			n++
		}
		r.forget(to.dev)
		return n
	}
	tick := func() { r.now += 20 * ms }
	for range 3 {
		tick()
		from.send()
	}
	if n := check(); n != 3 {
		t.Fatalf("%d packets", n)
	}
	for i := range 10 { // the number of the packet before, with other words
		from.hdr.SequenceNumber--
		from.body[0] = byte(i)
		from.send()
	}
	if n := check(); n != 0 {
		t.Fatalf("%d packets of a number that was used", n)
	}
	for _, suite := range []string{"AES_CM_128_HMAC_SHA1_80", "", "AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM"} {
		if suite == "" {
			to.s.Apply(agreed(to.at, pcmu, dtmf))
		} else {
			to.s.Apply(to.agreement(keyFor(suite), to.ours(suite)))
		}
		for range 40_000 { // more than half of the numbers: they seem to go backwards
			tick()
			from.send()
			if suite == "" {
				r.forget(to.dev)
			}
		}
		if suite == "" {
			continue
		}
		if n := check(); n != 40_000 {
			t.Fatalf("%s: %d packets came out", suite, n)
		}
	}
	done := make(chan struct{})
	if !to.s.Press(Key{Code: 5, Length: 60 * ms}, func() { close(done) }) {
		t.Fatal("no key was played")
	}
	to.s.line.mu.Lock()
	for range 3 {
		to.s.line.sendEvent(event{pt: 101, code: 5, duration: 800, ts: to.s.line.ts}, false, r.now)
	}
	to.s.line.mu.Unlock()
	if n := check(); n != 3 {
		t.Errorf("%d end packets", n)
	}
	to.s.Close()
	<-done
}

// TestIndex against a simple model: a set of what was sealed.
func TestIndex(t *testing.T) {
	for range 200 {
		var x index
		used := map[uint64]bool{}
		seq, top := uint16(mrand.N(1<<15)), uint64(0)
		for range 2000 {
			switch mrand.N(20) {
			case 0:
				x.jumps = true
				seq += uint16(mrand.N(1 << 16))
			case 1:
				seq -= uint16(mrand.N(80))
			case 2:
				seq += uint16(mrand.N(200))
			default:
				seq++
			}
			roc, ok := x.next(seq)
			i := uint64(roc)<<16 | uint64(seq)
			switch {
			case !ok:
				continue
			case used[i]:
				t.Fatalf("%x twice", i)
			case i+64 < top:
				t.Fatalf("%x after %x", i, top)
			}
			used[i], top = true, max(top, i)
		}
	}
}

// takeKeys gives a stream that has agreed on DTLS the keys of a handshake that there was not.
func (s *Stream) takeKeys(in, out Crypto) error {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	if err := s.useKeys(in, out); err != nil {
		return err
	}
	s.rekeyed()
	return nil
}

// TestLocked: a stream that has agreed to be protected and has no keys yet takes nothing and sends nothing, not even reports; with keys it
// does both.
func TestLocked(t *testing.T) {
	r := newRoom(t)
	a, b := r.phone("203.0.113.5", pcmu, dtmf), r.safe("AEAD_AES_128_GCM", "198.51.100.7", pcmu)
	bridge(a, b.dev)
	wait := agreed(a.at, pcmu, dtmf)
	wait.Security, wait.RemoteRTCP, wait.Mux = DTLS, a.at, true
	a.s.Apply(wait)
	r.run(r.now+100*ms, a)
	for range 5 {
		b.say()
	}
	r.now += time.Minute
	r.e.report(r.now)
	if n := len(r.got(a)); n != 0 {
		t.Fatalf("%d packets were sent in the clear", n)
	}
	s := a.s.Stats()
	if s.Dropped["early"] == 0 || s.In.Packets != 0 || s.Secure != "dtls" {
		t.Errorf("%+v", s)
	}
	in, out := keyFor("AES_CM_128_HMAC_SHA1_80"), keyFor("AES_CM_128_HMAC_SHA1_80")
	if err := a.s.takeKeys(in, out); err != nil {
		t.Fatal(err)
	}
	p := &safe{dev: a, tx: contextOf(t, in), rx: contextOf(t, out)}
	p.hdr.SequenceNumber &= 0x7fff
	b.say()
	if !p.say() || len(p.opened()) != 1 {
		t.Errorf("with keys: %+v", a.s.Stats())
	}
	a.s.Apply(wait) // another offer and answer: the keys of the handshake stay
	b.say()
	if !p.say() || len(p.opened()) != 1 {
		t.Errorf("after another answer: %+v", a.s.Stats())
	}
	bad := wait
	bad.Security, bad.In, bad.Out = SDES, in, Crypto{Suite: "AES_CM_128_HMAC_SHA1_80", Key: Secret("short")}
	a.s.Apply(bad)
	b.say()
	if p.say() || len(r.got(a)) != 0 {
		t.Error("with a key that cannot be used it talks all the same")
	}
}

// TestSRTCP: reports go out sealed, with the BYE, on their own port and muxed; what comes is opened, and only then believed.
func TestSRTCP(t *testing.T) {
	for _, mux := range []bool{false, true} {
		for suite := range profiles {
			r := newRoom(t)
			a, b := r.safe(suite, "203.0.113.5", pcmu), r.safe(suite, "198.51.100.7", pcmu)
			bridge(a.dev, b.dev)
			control := next(a.at)
			if mux {
				control = a.at
				g := a.agreement(a.key, a.ours(suite))
				g.Mux, g.RemoteRTCP = true, a.at
				a.s.Apply(g)
			}
			for range 10 {
				a.say()
				b.say()
			}
			r.forget(a.dev)
			read := func() (all []rtcp.Packet) {
				t.Helper()
				r.mu.Lock()
				defer r.mu.Unlock()
				for _, m := range r.wire[control] {
					if !isRTCP(m.b) {
						continue
					}
					if !mux && m.from != a.s.Endpoint().Port()+1 {
						t.Errorf("from port %d", m.from)
					}
					plain, err := a.rx.DecryptRTCP(nil, m.b, nil)
					if err != nil {
						t.Fatalf("%s: %v", suite, err)
					}
					packets, err := rtcp.Unmarshal(plain)
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, packets...)
				}
				delete(r.wire, control)
				return all
			}
			r.now += 10 * time.Second
			r.e.report(r.now)
			got := read()
			if len(got) != 2 {
				t.Fatalf("%s: %v", suite, got)
			}
			sr := got[0].(*rtcp.SenderReport)
			mine := &rtcp.SenderReport{SSRC: a.hdr.SSRC, NTPTime: ntp(r.e.wall(r.now)), Reports: []rtcp.ReceptionReport{
				{SSRC: sr.SSRC, Jitter: 80, TotalLost: 3, LastSenderReport: uint32(sr.NTPTime >> 16)},
			}}
			plain, err := rtcp.Marshal([]rtcp.Packet{mine})
			if err != nil {
				t.Fatal(err)
			}
			sealed, err := a.tx.EncryptRTCP(nil, plain, nil)
			if err != nil {
				t.Fatal(err)
			}
			deliver := func(b []byte, from netip.AddrPort) {
				b = append([]byte(nil), b...)
				if mux {
					a.s.receive(b, from, r.now, nil)
				} else {
					a.s.receiveRTCP(b, from, r.now, nil)
				}
			}
			forged := append([]byte(nil), sealed...)
			forged[12] ^= 1
			elsewhere := netip.MustParseAddrPort("203.0.113.77:7777")
			deliver(plain, control)
			deliver(forged, control)
			if s := a.s.Stats(); s.Reported || s.Dropped["rtcp_forged"] != 2 || s.Out.Lost != 0 {
				t.Fatalf("%s: a forged report was believed: %+v", suite, s)
			}
			deliver(sealed, elsewhere)
			if s := a.s.Stats(); !s.Reported || s.Out.Lost != 3 || s.Dropped["rtcp_foreign"] != 0 {
				t.Fatalf("%s: %+v", suite, s)
			}
			deliver(sealed, control)
			if s := a.s.Stats(); s.Dropped["rtcp_forged"] != 3 {
				t.Fatalf("%s: a replay was taken: %+v", suite, s)
			}
			if !mux {
				control = elsewhere // where its RTCP comes from
			}
			a.s.Close()
			got = read()
			if len(got) == 0 {
				t.Fatalf("%s: no BYE", suite)
			}
			if _, ok := got[len(got)-1].(*rtcp.Goodbye); !ok {
				t.Errorf("%s: ends with %v", suite, got)
			}
		}
	}
}

// TestStanding: another process that has the keys and the standing goes on hearing a peer that has counted over, also once more meanwhile.
func TestStanding(t *testing.T) {
	for _, more := range []int{10, 65_600} {
		r := newRoom(t)
		a := r.safe("AEAD_AES_128_GCM", "203.0.113.5", pcmu)
		a.hdr.SequenceNumber = 0xff00
		for range 70_000 {
			a.say()
		}
		at := *a.s.Standing()
		if at.In[0] != (Rollover{a.hdr.SSRC, 2}) || at.Out.SSRC != a.s.line.ssrc.Load() {
			t.Fatalf("%+v", at)
		}
		for range more {
			a.sealed()
		}
		fresh, err := r.e.Open(StreamOptions{Peer: a.at.Addr()})
		if err != nil {
			t.Fatal(err)
		}
		blank, err := r.e.Open(StreamOptions{Peer: a.at.Addr()})
		if err != nil {
			t.Fatal(err)
		}
		fresh.Resume(at)
		agreement := a.agreement(a.key, a.ours("AEAD_AES_128_GCM"))
		fresh.Apply(agreement)
		blank.Apply(agreement)
		p := a.sealed()
		for _, s := range []*Stream{fresh, blank} {
			s.receive(append([]byte(nil), p...), a.at, r.now, nil)
		}
		if fresh.Stats().In.Packets != 1 || blank.Stats().In.Packets != 0 {
			t.Errorf("%d later: %d packets heard, %d without the standing", more, fresh.Stats().In.Packets, blank.Stats().In.Packets)
		}
	}
}

// TestGuardTogether has everything at once: packets, reports and new agreements from goroutines of their own, for the race detector.
func TestGuardTogether(t *testing.T) {
	r := newRoom(t)
	a, b := r.safe("AEAD_AES_128_GCM", "203.0.113.5", pcmu), r.safe("AES_CM_128_HMAC_SHA1_80", "198.51.100.7", pcmu)
	bridge(a.dev, b.dev)
	var packets, reports [][]byte
	for range 300 {
		packets = append(packets, a.sealed())
		plain, err := rtcp.Marshal([]rtcp.Packet{&rtcp.SenderReport{SSRC: a.hdr.SSRC}})
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := a.tx.EncryptRTCP(nil, plain, nil)
		if err != nil {
			t.Fatal(err)
		}
		reports = append(reports, sealed)
	}
	ours, now, other := a.ours("AEAD_AES_128_GCM"), r.now, keyFor("AEAD_AES_256_GCM")
	var all sync.WaitGroup
	all.Go(func() {
		for i, p := range packets {
			a.s.receive(p, a.at, now+time.Duration(i)*ms, nil)
		}
	})
	all.Go(func() {
		for i, p := range reports {
			a.s.receiveRTCP(p, next(a.at), now+time.Duration(i)*ms, nil)
		}
	})
	all.Go(func() {
		for i := range 50 {
			b.s.report(now + time.Duration(i)*10*time.Second)
			b.s.Stats()
		}
	})
	all.Go(func() {
		for range 500 {
			a.s.Standing()
		}
	})
	all.Go(func() {
		for i := range 50 {
			k := a.key
			if i%2 == 0 {
				k = other
			}
			a.s.Apply(a.agreement(k, ours))
			a.s.Local()
			a.s.Crypto()
		}
	})
	all.Wait()
	if s := a.s.Stats(); s.In.Packets+s.Dropped["forged"] != 300 || s.In.Packets == 0 {
		t.Errorf("%+v", s)
	}
}

// FuzzGuard: any bytes as SRTP and SRTCP, good packets among them: nothing breaks, nothing is taken that the peer has not sealed, and what it
// has sealed is.
func FuzzGuard(f *testing.F) {
	seed := func(b ...byte) []byte { return append(b, make([]byte, 40)...) }
	f.Add(seed(0x80, 0, 0, 1), uint8(0))
	f.Add(seed(0xb0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7, 0xbe, 0xde, 0, 1), uint8(1))
	f.Add(seed(0xb1, 0x80, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0xc0, 0xde, 0, 1), uint8(2))
	f.Add(seed(0x81, 200, 0, 6, 0, 0, 0, 7, 0, 0, 0, 0, 0x80, 0, 0, 1), uint8(3))
	f.Add([]byte{0x80, 200, 0, 1, 0, 0, 0, 7}, uint8(7))
	f.Fuzz(func(t *testing.T, b []byte, kind uint8) {
		suite := preferred[kind%4]
		in, out := Crypto{Suite: suite, Key: bytes.Repeat([]byte{1}, suites[suite].key+suites[suite].salt)}, Crypto{}
		if kind&4 != 0 {
			in.MKI = Secret{0, 1}
		}
		out = in
		out.Key = bytes.Repeat([]byte{2}, len(in.Key))
		r := newRoom(t)
		a, far := r.phone("203.0.113.5", pcmu, dtmf), r.phone("198.51.100.7", pcmu, dtmf)
		bridge(a, far)
		p := &safe{dev: a}
		p.hdr = rtp.Header{Version: 2, SSRC: 7, SequenceNumber: 100}
		p.agree(in, out)
		if !p.say() {
			t.Fatal("a good packet was dropped")
		}
		for range 2 {
			a.s.receive(append([]byte(nil), b...), a.at, r.now, nil)
			a.s.receiveRTCP(append([]byte(nil), b...), next(a.at), r.now, nil)
			far.s.receive(append([]byte(nil), b...), far.at, r.now, nil) // as plain RTP, to be sealed
			r.now += 20 * ms
		}
		if a.s.Stats().In.Packets != 1 || a.s.ctrl.reported.Load() || a.s.ctrl.last.Load() != 0 {
			t.Fatalf("%x was taken", b)
		}
		if !p.say() {
			t.Fatalf("a good packet was dropped after %x", b)
		}
		for _, m := range r.got(a) {
			if _, err := p.rx.DecryptRTP(nil, m.b, nil); err != nil {
				t.Fatalf("%x went out as %x: %v", b, m.b, err)
			}
		}
	})
}

// BenchmarkGuard is the way of a packet that is opened, and sealed for the other side.
func BenchmarkGuard(b *testing.B) {
	for _, suite := range preferred {
		key := keyFor(suite)
		peer := contextOf(b, key)
		in, err := newInbound(key)
		if err != nil {
			b.Fatal(err)
		}
		out, err := newSealer(key)
		if err != nil {
			b.Fatal(err)
		}
		plain := make([]byte, 172)
		putHeader(plain, 0, false, 0, 0, 77)
		dst := make([]byte, 0, maxSealed)
		b.Run(suite+"/seal", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				binary.BigEndian.PutUint16(plain[2:], binary.BigEndian.Uint16(plain[2:])+1)
				if _, ok := out.seal(dst, plain); !ok {
					b.Fatal("not sealed")
				}
			}
		})
		b.Run(suite+"/open", func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 0, maxSealed)
			for b.Loop() {
				b.StopTimer()
				binary.BigEndian.PutUint16(plain[2:], binary.BigEndian.Uint16(plain[2:])+1)
				sealed, err := peer.EncryptRTP(buf[:0], plain, nil)
				b.StartTimer()
				if err != nil {
					b.Fatal(err)
				}
				if _, ok := in.open(sealed, 0); !ok {
					b.Fatal("not opened")
				}
			}
		})
	}
}
