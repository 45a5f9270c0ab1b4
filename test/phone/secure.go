package phone

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/srtp/v3"
)

// The ways in which a phone can be set to protect its sound: how it offers SRTP, and what it takes of others.
const (
	Plain   = ""         // RTP alone
	OSRTP   = "osrtp"    // offers RTP/AVP with keys (RFC 8643), takes anything
	TwoFold = "savp+avp" // offers a line of each, takes anything
	SAVP    = "savp"     // "compulsory": offers RTP/SAVP, takes nothing without keys
	DTLS    = "dtls"     // a browser
)

// takes says whether a phone that is set so can do anything with a line of this profile.
func (c Config) takes(profile string, keyed bool) bool {
	browser := strings.HasPrefix(profile, "UDP/TLS/")
	switch {
	case c.Takes != nil && keyed:
		return slices.Contains(c.Takes, profile+"+")
	case c.Takes != nil:
		return slices.Contains(c.Takes, profile)
	case c.SRTP == DTLS || browser:
		return c.SRTP == DTLS && browser
	case c.SRTP == Plain:
		return !strings.Contains(profile, "SAVP")
	case c.SRTP == SAVP:
		return keyed
	}
	return keyed || !strings.Contains(profile, "SAVP")
}

// suites are those of the phone, the preferred first.
func (c Config) suites() []string {
	if c.Suites == nil {
		return []string{"AES_CM_128_HMAC_SHA1_80"}
	}
	return c.Suites
}

var profiles = map[string]struct {
	profile   srtp.ProtectionProfile
	key, salt int
}{
	"AES_CM_128_HMAC_SHA1_80": {srtp.ProtectionProfileAes128CmHmacSha1_80, 16, 14},
	"AES_CM_128_HMAC_SHA1_32": {srtp.ProtectionProfileAes128CmHmacSha1_32, 16, 14},
	"AEAD_AES_128_GCM":        {srtp.ProtectionProfileAeadAes128Gcm, 16, 12},
	"AEAD_AES_256_GCM":        {srtp.ProtectionProfileAeadAes256Gcm, 32, 12},
}

// Crypto is one a=crypto line (RFC 4568).
type Crypto struct {
	Tag   int
	Suite string
	Key   []byte
}

// parseCrypto reads the value of a=crypto. It insists on padding, as there are phones that do.
func parseCrypto(v string) (Crypto, bool) {
	f := strings.Fields(v)
	if len(f) != 3 {
		return Crypto{}, false
	}
	tag, err := strconv.Atoi(f[0])
	text, inline := strings.CutPrefix(f[2], "inline:")
	key, bad := base64.StdEncoding.DecodeString(text)
	p, known := profiles[f[1]]
	return Crypto{tag, f[1], key}, err == nil && bad == nil && inline && known && len(key) == p.key+p.salt
}

func (c Crypto) String() string {
	return fmt.Sprintf("%d %s inline:%s", c.Tag, c.Suite, base64.StdEncoding.EncodeToString(c.Key))
}

// keysOf makes a phone's keys for a call.
func keysOf(suites []string) []Crypto {
	var keys []Crypto
	for i, s := range suites {
		k := Crypto{i + 1, s, make([]byte, profiles[s].key+profiles[s].salt)}
		rand.Read(k.Key)
		keys = append(keys, k)
	}
	return keys
}

// settle finds the two keys of a call. Of an offer it is the first suite that is ours too; an answer has the tag of ours.
func settle(ours, theirs []Crypto, isOffer bool) (out, in Crypto, ok bool) {
	for _, t := range theirs {
		for _, o := range ours {
			if o.Suite == t.Suite && (isOffer || o.Tag == t.Tag) {
				o.Tag = t.Tag
				return o, t, true
			}
		}
	}
	return out, in, false
}

// guard is what a phone encrypts and opens with.
type guard struct {
	suite   string
	inKey   string
	in, out *srtp.Context
}

// protect has the sound go encrypted with these keys from now on; a zero suite is in the clear. The same keys count on.
func (m *Media) protect(out, in Crypto) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case out.Suite == "":
		m.guard = nil
		return nil
	case m.guard != nil && m.guard.suite == out.Suite && m.guard.inKey == string(in.Key):
		return nil
	}
	p := profiles[out.Suite]
	g := &guard{suite: out.Suite, inKey: string(in.Key)}
	var err error
	if g.out, err = srtp.CreateContext(out.Key[:p.key], out.Key[p.key:], p.profile); err != nil {
		return err
	}
	if m.guard != nil && m.guard.suite == out.Suite { // the peer has another key, ours is the same
		g.out = m.guard.out
	}
	g.in, err = srtp.CreateContext(in.Key[:p.key], in.Key[p.key:], p.profile, srtp.SRTPReplayProtection(64), srtp.SRTCPReplayProtection(64))
	if err == nil {
		m.guard = g
	}
	return err
}

// Secure names what the sound is protected by: "", a suite of SDES, or "dtls".
func (m *Media) Secure() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.web != nil:
		return DTLS
	case m.guard != nil:
		return m.guard.suite
	}
	return ""
}

// Forged counts the packets that could not be opened.
func (m *Media) Forged() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.forged
}

// seal and open are the way of each packet; m.mu is held.
func (m *Media) seal(b []byte) []byte {
	if m.guard == nil {
		return b
	}
	sealed, err := m.guard.out.EncryptRTP(nil, b, nil)
	if err != nil {
		return nil
	}
	return sealed
}

func (m *Media) open(b []byte, control bool) ([]byte, bool) {
	if m.guard == nil {
		return b, true
	}
	var err error
	if control {
		b, err = m.guard.in.DecryptRTCP(nil, b, nil)
	} else {
		b, err = m.guard.in.DecryptRTP(nil, b, nil)
	}
	if err != nil {
		m.forged++
	}
	return b, err == nil
}

// transmit sends an RTP packet; m.mu is held.
func (m *Media) transmit(b []byte) {
	if m.web != nil {
		m.web.write(b)
		return
	}
	m.conn.WriteToUDPAddrPort(m.seal(b), m.remote)
}
