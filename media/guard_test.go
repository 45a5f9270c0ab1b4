package media

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	mrand "math/rand/v2"
	"net/netip"
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
	for _, c := range p.s.Local().Crypto {
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
	p.s.receive(append([]byte(nil), b...), from, p.r.now)
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
			a.s.receive(packets[i], a.at, r.now)
			i++
		}
		for range 20 {
			next()
		}
		if n := testing.AllocsPerRun(1000, next); n != 0 {
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
		if n := testing.AllocsPerRun(1000, control); n != 0 {
			t.Errorf("%s: %v allocations for SRTCP", suite, n)
		}
	}
}

var (
	_ = binary.BigEndian
	_ = fmt.Sprint
	_ = mrand.N[int]
	_ sync.Mutex
	_ time.Duration
)
