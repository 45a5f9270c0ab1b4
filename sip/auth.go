package sip

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Secret is what digest needs of one login (RFC 7616; HA1 as lower-case hex).
type Secret struct {
	User       string   // the user's canonical name
	Identities []string // user parts the user may put into From: name and numbers
	MD5        string
	SHA256     string
}

// Credentials finds the secret of a login name (a user's name or number, or that of a session). It answers from memory.
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
	node        string // nonces are good here alone, "" = there is no cluster
	secret      []byte
	credentials Credentials
	nonces      NonceStore
	guesses     *guesses
	macs        sync.Pool // of *keyed
}

// verdict is what came of verifying a request: a user, or the challenge to send.
type verdict struct {
	user       string
	identities []string
	login      string // that was used: a name, a number, or that of a session
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
	return verdict{user: secret.User, identities: secret.Identities, login: c.username}
}

// lookup finds a login's secret; an unknown one gets a secret that takes the same time and never fits.
func (a *authenticator) lookup(login string) (Secret, bool) {
	nobody := a.mac("nobody", login)
	if a.credentials != nil {
		if s, ok := a.credentials.Secret(login); ok {
			return s, true
		}
	}
	return Secret{User: login, MD5: hex.EncodeToString(nobody[:16]), SHA256: hex.EncodeToString(nobody[:])}, false
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
	hash, ha1 := hashMD5, s.MD5
	if c.sha256 {
		hash, ha1 = hashSHA256, s.SHA256
	}
	ha2 := digest(hash, r.method, c.uri)
	want := ""
	if c.qop != "" {
		want = digest(hash, ha1, c.nonce, c.nc, c.cnonce, c.qop, ha2)
	} else {
		want = digest(hash, ha1, c.nonce, ha2)
	}
	same := subtle.ConstantTimeCompare([]byte(want), []byte(strings.ToLower(c.response))) == 1
	u, err := ParseURI(c.uri)
	elsewhere := err != nil || u.User != r.uri.User && u.User != "" && r.uri.User != ""
	return same && ha1 != "" && !elsewhere
}

// digest is the hash of parts with colons between them, in hex.
func digest(hash func(dst, text []byte) []byte, parts ...string) string {
	text := make([]byte, 0, 256)
	for i, p := range parts {
		if i > 0 {
			text = append(text, ':')
		}
		text = append(text, p...)
	}
	return string(hash(text[:0], text))
}

func hashMD5(dst, text []byte) []byte {
	sum := md5.Sum(text)
	return hex.AppendEncode(dst, sum[:])
}

func hashSHA256(dst, text []byte) []byte {
	sum := sha256.Sum256(text)
	return hex.AppendEncode(dst, sum[:])
}

// challenge is the one 401. Unknown user and wrong password get the same.
func (a *authenticator) challenge(r *Request, stale bool) Reply {
	v := "Digest realm=" + quote(a.realm) + `, nonce="` + a.nonce(r.flow.Remote.Addr(), time.Now()) + `", algorithm=MD5, qop="auth"`
	if stale {
		v += ", stale=true"
	}
	return Reply{Code: 401, Headers: []Header{{"WWW-Authenticate", v}}}
}

// A nonce is its time, some random bytes, and a MAC over both and the address it was given to: nothing is stored for
// it until a password has proved good.
//
// In a cluster the MAC is also over the node's name, so that a nonce is good at the node alone that gave it, which counts how often
// it was used: what was recorded at one node cannot be replayed at another, and nodes need not ask each other. Another node
// answers with stale=true and a nonce of its own: the phone sends once more, nobody types a password.
const (
	nonceHead = 12 // 8 bytes of time, 4 random
	nonceMAC  = 12
)

func (a *authenticator) nonce(ip netip.Addr, now time.Time) string {
	var b [nonceHead + nonceMAC]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixMilli()))
	_, _ = rand.Read(b[8:nonceHead]) // it never fails
	mac := a.nonceMAC(b[:nonceHead], ip)
	copy(b[nonceHead:], mac[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func (a *authenticator) nonceMAC(head []byte, ip netip.Addr) [nonceMAC]byte {
	var text [64]byte
	sum := a.mac("nonce"+a.node, string(head), string(ip.AppendTo(text[:0])))
	return [nonceMAC]byte(sum[:nonceMAC])
}

// fresh reports whether a nonce is ours, this address's and not too old.
func (a *authenticator) fresh(nonce string, ip netip.Addr, now time.Time) bool {
	b, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(b) != nonceHead+nonceMAC {
		return false
	}
	if mac := a.nonceMAC(b[:nonceHead], ip); !hmac.Equal(b[nonceHead:], mac[:]) {
		return false
	}
	age := now.Sub(time.UnixMilli(int64(binary.BigEndian.Uint64(b[:8]))))
	return age < nonceLife && age > -nonceLife
}

// keyed is a MAC with the agent's secret, and room for what it is of. Making one takes longer than using it.
type keyed struct {
	hash.Hash
	text []byte
	sum  []byte
}

// mac is the MAC of parts, each with its length before it.
func (a *authenticator) mac(parts ...string) [sha256.Size]byte {
	m, _ := a.macs.Get().(*keyed)
	if m == nil {
		m = &keyed{Hash: hmac.New(sha256.New, a.secret)}
	}
	defer a.macs.Put(m)
	m.text = m.text[:0]
	for _, p := range parts {
		m.text = append(binary.BigEndian.AppendUint32(m.text, uint32(len(p))), p...)
	}
	m.Reset()
	m.Write(m.text)
	m.sum = m.Sum(m.sum[:0])
	return [sha256.Size]byte(m.sum)
}

// statelessTag is the To-tag of an answer that nothing is kept of: the same for every repeat of the request
// (RFC 3261 §8.2.7).
func (a *authenticator) statelessTag(r *Request) string {
	sum := a.mac("tag", r.callID, r.FromTag(), r.via.branch(), strconv.Itoa(int(r.cseq)))
	return hex.EncodeToString(sum[:8])
}
