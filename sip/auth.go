package sip

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Secret is what digest needs of one login (RFC 7616; HA1 as lower-case hex).
type Secret struct {
	User       string   // the user's canonical name
	Identities []string // user parts the user may put into From: name and numbers
	MD5        string
	SHA256     string
}

// Credentials finds the secret of a login name (a user's name or number). It answers from memory.
type Credentials interface {
	Secret(login string) (Secret, bool)
}

// NonceStore remembers which nonce counts were used (a 64-entry window per nonce: UDP reorders).
type NonceStore interface {
	// Use reports whether nc is new for nonce, and marks it used.
	Use(nonce string, nc uint32) bool
}

// nonceLife is how long a nonce is good for.
const nonceLife = time.Minute

// authenticator challenges and verifies (RFC 3261 §22, RFC 7616).
type authenticator struct {
	realm       string
	secret      []byte
	credentials Credentials
	nonces      NonceStore
	guesses     *guesses
}

// verdict is what came of verifying a request: a user, or the challenge to send.
type verdict struct {
	user       string
	identities []string
	challenge  Reply
	tried      string // login of an attempt that failed, for the log
	why        error
	guessing   bool // with this attempt there were too many that failed
}

var (
	errPassword = errors.New("unknown user or wrong password")
	errReplay   = errors.New("nonce count was used before")
)

// verify holds the request's Authorization against the user's secret.
func (a *authenticator) verify(r *Request) verdict {
	c, ok := a.find(r)
	if !ok {
		return verdict{challenge: a.challenge(r, false)}
	}
	secret, known := a.lookup(c.username)
	right := a.matches(c, r, secret) && known
	fresh := a.fresh(c.nonce, r.flow.Remote.Addr(), time.Now())
	switch {
	case !a.guesses.counts(r.flow, secret.User, fresh):
		return verdict{challenge: a.challenge(r, false)}
	case !right:
		begins := a.guesses.failed(r.flow, secret.User, fresh)
		return verdict{challenge: a.challenge(r, false), tried: c.username, why: errPassword, guessing: begins}
	case !fresh:
		return verdict{challenge: a.challenge(r, true)}
	case !a.nonces.Use(c.nonce, c.count):
		return verdict{challenge: a.challenge(r, true), tried: c.username, why: errReplay}
	}
	return verdict{user: secret.User, identities: secret.Identities}
}

// lookup finds a login's secret; an unknown one gets a secret that takes the same time and never fits.
func (a *authenticator) lookup(login string) (Secret, bool) {
	nobody := a.mac("nobody", login)
	if a.credentials != nil {
		if s, ok := a.credentials.Secret(login); ok {
			return s, true
		}
	}
	return Secret{User: login, MD5: hex.EncodeToString(nobody[:16]), SHA256: hex.EncodeToString(nobody)}, false
}

// find takes the credentials for our realm out of the Authorization headers. Other schemes, realms and algorithms
// are passed over, as if they were not there.
func (a *authenticator) find(r *Request) (credential, bool) {
	for _, v := range r.Headers("Authorization") {
		if c, err := parseCredential(v); err == nil && c.realm == a.realm {
			return c, true
		}
	}
	return credential{}, false
}

// matches computes the response. The digest URI need not be the Request-URI byte for byte: phones put another host
// there, or none's user; but it must not name another user.
func (a *authenticator) matches(c credential, r *Request, s Secret) bool {
	h, ha1 := md5.New(), s.MD5
	if c.sha256 {
		h, ha1 = sha256.New(), s.SHA256
	}
	ha2 := digest(h, r.method, c.uri)
	want := digest(h, ha1, c.nonce, ha2)
	if c.qop != "" {
		want = digest(h, ha1, c.nonce, c.nc, c.cnonce, c.qop, ha2)
	}
	same := subtle.ConstantTimeCompare([]byte(want), []byte(strings.ToLower(c.response))) == 1
	u, err := ParseURI(c.uri)
	elsewhere := err != nil || u.User != r.uri.User && u.User != "" && r.uri.User != ""
	return same && ha1 != "" && !elsewhere
}

func digest(h hash.Hash, parts ...string) string {
	h.Reset()
	h.Write([]byte(strings.Join(parts, ":")))
	return hex.EncodeToString(h.Sum(nil))
}

// challenge is the one 401. Unknown user and wrong password get the same.
func (a *authenticator) challenge(r *Request, stale bool) Reply {
	v := fmt.Sprintf(`Digest realm=%s, nonce="%s", algorithm=MD5, qop="auth"`, quote(a.realm),
		a.nonce(r.flow.Remote.Addr(), time.Now()))
	if stale {
		v += ", stale=true"
	}
	return Reply{Code: 401, Headers: []Header{{"WWW-Authenticate", v}}}
}

// A nonce is its time, some random bytes, and a MAC over both and the address it was given to: nothing is stored for
// it until a password has proved good.
const (
	nonceHead = 12 // 8 bytes of time, 4 random
	nonceMAC  = 12
)

func (a *authenticator) nonce(ip netip.Addr, now time.Time) string {
	var b [nonceHead]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixMilli()))
	copy(b[8:], randomBytes(4))
	return base64.RawURLEncoding.EncodeToString(append(b[:], a.nonceMAC(b[:], ip)...))
}

func (a *authenticator) nonceMAC(head []byte, ip netip.Addr) []byte {
	return a.mac("nonce", string(head), ip.String())[:nonceMAC]
}

// fresh reports whether a nonce is ours, this address's and not too old.
func (a *authenticator) fresh(nonce string, ip netip.Addr, now time.Time) bool {
	b, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(b) != nonceHead+nonceMAC {
		return false
	}
	if !hmac.Equal(b[nonceHead:], a.nonceMAC(b[:nonceHead], ip)) {
		return false
	}
	age := now.Sub(time.UnixMilli(int64(binary.BigEndian.Uint64(b[:8]))))
	return age < nonceLife && age > -nonceLife
}

func (a *authenticator) mac(parts ...string) []byte {
	m := hmac.New(sha256.New, a.secret)
	for _, p := range parts {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(p)))
		m.Write(n[:])
		m.Write([]byte(p))
	}
	return m.Sum(nil)
}

// statelessTag is the To-tag of an answer that nothing is kept of: the same for every repeat of the request
// (RFC 3261 §8.2.7).
func (a *authenticator) statelessTag(r *Request) string {
	return hex.EncodeToString(a.mac("tag", r.callID, r.FromTag(), r.via.branch(), strconv.Itoa(int(r.cseq)))[:8])
}
