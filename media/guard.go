package media

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// A leg's guard is its SRTP and SRTCP (RFC 3711, 7714): an opener for what the peer seals, and a sealer for what goes to it, each with its
// own key. What is not opened has changed nothing: no rollover counter, no replay window, no address. Neither allocates for a packet that is
// good. A key is bound to what has been opened or sealed with it for as long as the stream lives (protect.go).

// suite is a crypto suite (RFC 4568 §6.2, RFC 7714 §14.2).
type suite struct {
	profile   srtp.ProtectionProfile
	key, salt int // octets
}

var suites = map[string]suite{
	"AEAD_AES_128_GCM":        {srtp.ProtectionProfileAeadAes128Gcm, 16, 12},
	"AEAD_AES_256_GCM":        {srtp.ProtectionProfileAeadAes256Gcm, 32, 12},
	"AES_CM_128_HMAC_SHA1_80": {srtp.ProtectionProfileAes128CmHmacSha1_80, 16, 14},
	"AES_CM_128_HMAC_SHA1_32": {srtp.ProtectionProfileAes128CmHmacSha1_32, 16, 14},
}

const (
	replayWindow = 128  // packets, twice what RFC 3711 §3.3.2 asks for
	maxSources   = 256  // of one key, more than any phone has: each is remembered
	maxMKI       = 128  // octets, RFC 4568 §6.1
	maxSealed    = 1700 // maxPacket, tag and MKI
	guessEvery   = 20 * ms
)

// Usable says whether the key is one of a suite that is known, and of its length.
func (c Crypto) Usable() bool {
	s, ok := suites[c.Suite]
	return ok && len(c.Key) == s.key+s.salt && len(c.MKI) <= maxMKI
}

// same says whether both are one key, whatever its tag.
func (c Crypto) same(d Crypto) bool {
	return c.Suite == d.Suite && string(c.Key) == string(d.Key) && string(c.MKI) == string(d.MKI)
}

func (c Crypto) context() (*srtp.Context, error) {
	if !c.Usable() {
		return nil, fmt.Errorf("no key of %q", c.Suite)
	}
	s := suites[c.Suite]
	return srtp.CreateContext(c.Key[:s.key], c.Key[s.key:], s.profile, srtp.MasterKeyIndicator(c.MKI),
		srtp.SRTPReplayProtection(replayWindow), srtp.SRTCPReplayProtection(replayWindow))
}

// opener verifies and decrypts what comes.
type opener struct {
	// set once
	cur   *inbound
	old   *inbound      // the key before it: its packets may still be on their way; nil = none
	until time.Duration // for how long
}

// open returns the RTP packet in b, in a buffer that is the opener's until its next packet; false if it is not the peer's, or came before.
func (o *opener) open(b []byte, now time.Duration) ([]byte, bool) {
	if out, ok := o.cur.open(b, now); ok || o.old == nil || now > o.until {
		return out, ok
	}
	return o.old.open(b, now)
}

// openRTCP returns the RTCP packet in b, in dst if that has room for it.
func (o *opener) openRTCP(dst, b []byte, now time.Duration) ([]byte, bool) {
	if out, ok := o.cur.openRTCP(dst, b); ok || o.old == nil || now > o.until {
		return out, ok
	}
	return o.old.openRTCP(dst, b)
}

// inbound is one key of the peer's.
type inbound struct {
	crypto Crypto // set once

	mu         sync.Mutex // RTP and RTCP may come from two goroutines; they meet every few seconds
	ctx        *srtp.Context
	header     rtp.Header
	rtcpHeader rtcp.Header
	buf        []byte
	known      []uint32      // sources that were verified
	reporters  int           // sources of RTCP that were
	hints      []Rollover    // where sources may stand that were not verified yet
	guessed    time.Duration // when it was last tried to find out
}

func newInbound(c Crypto) (*inbound, error) {
	ctx, err := c.context()
	if err != nil {
		return nil, err
	}
	return &inbound{crypto: c, ctx: ctx, buf: make([]byte, maxPacket)}, nil
}

func (k *inbound) open(b []byte, now time.Duration) ([]byte, bool) {
	if len(b) < 12 || len(b) > maxPacket {
		return nil, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	ssrc := binary.BigEndian.Uint32(b[8:])
	_, known := k.ctx.ROC(ssrc)
	if !known && len(k.known) == maxSources {
		return nil, false
	}
	out, err := k.ctx.DecryptRTP(k.buf[:0], b, &k.header)
	if err != nil && !known && k.guess(ssrc, b, now) {
		out, err = k.ctx.DecryptRTP(k.buf[:0], b, &k.header)
	}
	if err != nil {
		return nil, false
	}
	if !known {
		k.known = append(k.known, ssrc)
	}
	return out, true
}

// guess finds the rollover counter of a source that is heard for the first time and does not count from 0: its first packets may have been
// lost, or opened by the key before this one, or by the node before this one. What it tries leaves no trace unless it is right.
func (k *inbound) guess(ssrc uint32, b []byte, now time.Duration) bool {
	if k.guessed != 0 && now-k.guessed < guessEvery {
		return false
	}
	k.guessed = now
	ctx, err := k.crypto.context()
	if err != nil {
		return false
	}
	for _, roc := range k.rollovers(ssrc) {
		ctx.SetROC(ssrc, roc)
		if _, err := ctx.DecryptRTP(k.buf[:0], b, &k.header); err == nil {
			k.ctx.SetROC(ssrc, roc)
			return true
		}
	}
	return false
}

// rollovers are the counters that a source may stand at.
func (k *inbound) rollovers(ssrc uint32) []uint32 {
	out := []uint32{1}
	for _, h := range k.hints {
		if h.SSRC == ssrc {
			out = append(out, h.ROC, h.ROC+1)
		}
	}
	return out
}

func (k *inbound) openRTCP(dst, b []byte) ([]byte, bool) {
	if len(b) < 8 || len(b) > maxPacket {
		return nil, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	_, known := k.ctx.Index(binary.BigEndian.Uint32(b[4:]))
	if !known && k.reporters == maxSources {
		return nil, false
	}
	out, err := k.ctx.DecryptRTCP(dst[:0], b, &k.rtcpHeader)
	if err != nil {
		return nil, false
	}
	if !known {
		k.reporters++
	}
	return out, true
}

// sealer encrypts and signs what goes out. No index is ever sealed twice with one key, whatever it is fed: with AES-GCM a second packet of the
// same index would give the key of the tags away (RFC 7714 §8.1).
type sealer struct {
	crypto Crypto // set once

	mu         sync.Mutex // as for inbound
	ctx        *srtp.Context
	header     rtp.Header
	rtcpHeader rtcp.Header
	index      index
}

func newSealer(c Crypto) (*sealer, error) {
	ctx, err := c.context()
	if err != nil {
		return nil, err
	}
	return &sealer{crypto: c, ctx: ctx}, nil
}

// seal returns the SRTP packet of b, in dst if that has room for it; b may be there too. False says that its number was sealed before, or
// is so old that it may have been.
func (s *sealer) seal(dst, b []byte) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	roc, ok := s.index.next(binary.BigEndian.Uint16(b[2:]))
	if !ok {
		return nil, false
	}
	s.ctx.SetROC(binary.BigEndian.Uint32(b[8:]), roc)
	out, err := s.ctx.EncryptRTP(dst[:0], b, &s.header)
	return out, err == nil
}

// sealRTCP returns the SRTCP packet of b, in dst if that has room for it.
func (s *sealer) sealRTCP(dst, b []byte) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, err := s.ctx.EncryptRTCP(dst[:0], b, &s.rtcpHeader)
	return out, err == nil
}

// index is that of RFC 3711 §3.3.1, of the packets that are sealed.
type index struct {
	any     bool
	jumps   bool   // numbers have gone by that this key has not seen
	highest uint64 // sequence number with the rollover counter before it
	recent  uint64 // bit n: highest-n was sealed
}

// next takes the index of a sequence number, and returns its rollover counter.
func (x *index) next(seq uint16) (roc uint32, ok bool) {
	if !x.any {
		*x = index{any: true, highest: uint64(seq), recent: 1}
		return 0, true
	}
	step := int64(int16(seq - uint16(x.highest)))
	if x.jumps && step <= 0 {
		step += 1 << 16
	}
	x.jumps = false
	if step > 0 {
		x.highest += uint64(step)
		x.recent = x.recent<<step | 1
		return uint32(x.highest >> 16), true
	}
	back := uint64(-step)
	if back >= 64 || back > x.highest || x.recent>>back&1 != 0 {
		return 0, false
	}
	x.recent |= 1 << back
	return uint32((x.highest - back) >> 16), true
}

// Rollover is where a source stands: which rollover counter (RFC 3711 §3.3.1) its newest packet had.
type Rollover struct {
	SSRC uint32 `json:"ssrc"`
	ROC  uint32 `json:"roc,omitempty"`
}

// rolled says where the sources stand that were verified, and where those stood that have said nothing since the node was restarted.
func (k *inbound) rolled() []Rollover {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []Rollover
	for _, ssrc := range k.known {
		roc, _ := k.ctx.ROC(ssrc)
		out = append(out, Rollover{SSRC: ssrc, ROC: roc})
	}
	for _, h := range k.hints {
		if !slices.Contains(k.known, h.SSRC) {
			out = append(out, h)
		}
	}
	return out
}

// expect tells where sources may stand.
func (k *inbound) expect(at []Rollover) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hints = slices.Clone(at)
}
