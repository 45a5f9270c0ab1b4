package registrar

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"baton/sip"
)

// TokenKind says whose right a token is.
type TokenKind string

// The kinds of tokens.
const (
	UserToken  TokenKind = "user"  // of one user, got with the password
	AdminToken TokenKind = "admin" // of an operator, made on the node itself
)

// Token is the right of whoever bears it to use the API over HTTPS, as a user or as an administrator. It is a plain value: of
// the text that is borne nothing is kept but a hash, and of the SIP password that goes with a user's nothing but HA1s.
type Token struct {
	ID      string    `json:"id"`   // 8 letters and digits: names it and opens nothing
	Hash    string    `json:"hash"` // SHA-256 of its text, hex
	Kind    TokenKind `json:"kind"`
	User    string    `json:"user,omitempty"`  // whose, of a user's
	Label   string    `json:"label,omitempty"` // the device that a user signed in on, or what an operator calls it
	Created time.Time `json:"created"`
	Used    time.Time `json:"used"`             // last, to the hour
	Expires time.Time `json:"expires,omitzero"` // zero = never

	// What a user's device logs in with by SIP, as long as the token lives; HA1 as lower-case hex.
	Login  string `json:"login,omitempty"` // alice~k3f9wq2a
	MD5    string `json:"md5,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
}

const (
	tokenLife  = 30 * 24 * time.Hour // of a user's, from its last use
	usedEvery  = time.Hour           // how often the use of a token is written down
	maxTokens  = 50                  // of one user; another one takes the place of the one that was not used for longest
	maxAdmins  = 200                 // tokens of operators
	maxLabel   = 64                  // characters
	maxFlows   = 16                  // of one login that are remembered
	loginMark  = "~"                 // between name and id in the login of a session; no name has one
	tokenBytes = 32
)

// over says whether the token's time is up.
func (t Token) over(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

// bearer is a token in memory.
type bearer struct {
	life context.Context // ends with the token
	end  context.CancelFunc

	// guarded by tokens.mu
	token Token
	flows []sip.Flow // where its login has registered from last
}

// tokens are those that are good, by all that they are looked for by. What is stored is changed by who holds Registrar.users.
type tokens struct {
	mu      sync.RWMutex
	byID    map[string]*bearer
	byHash  map[string]*bearer
	byLogin map[string]*bearer
}

func newTokens() *tokens {
	return &tokens{byID: map[string]*bearer{}, byHash: map[string]*bearer{}, byLogin: map[string]*bearer{}}
}

func (t *tokens) add(one Token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := &bearer{token: one}
	b.life, b.end = context.WithCancel(context.Background())
	t.byID[one.ID], t.byHash[one.Hash] = b, b
	if one.Login != "" {
		t.byLogin[one.Login] = b
	}
}

// drop forgets tokens and gives those that there were: their ends are told, and their flows are the caller's to close.
func (t *tokens) drop(ids []string) []*bearer {
	t.mu.Lock()
	defer t.mu.Unlock()
	var dropped []*bearer
	for _, id := range ids {
		b, ok := t.byID[id]
		if !ok {
			continue
		}
		delete(t.byID, id)
		delete(t.byHash, b.token.Hash)
		delete(t.byLogin, b.token.Login)
		b.end()
		dropped = append(dropped, b)
	}
	return dropped
}

// list are the tokens that fit, the longest unused first.
func (t *tokens) list(fit func(Token) bool) []Token {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var all []Token
	for _, b := range t.byID {
		if fit(b.token) {
			all = append(all, b.token)
		}
	}
	slices.SortFunc(all, func(a, b Token) int {
		if c := a.Used.Compare(b.Used); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all
}

func ofUser(name string) func(Token) bool {
	return func(t Token) bool { return t.Kind == UserToken && t.User == name }
}

func ids(all []Token) []string {
	var out []string
	for _, t := range all {
		out = append(out, t.ID)
	}
	return out
}

// loadTokens takes in the stored tokens and deletes those that nobody can use any more.
func (r *Registrar) loadTokens(d *directory, all []Token) {
	var dead []string
	for _, t := range all {
		if _, known := d.accounts[t.User]; t.over(r.now()) || t.Kind == UserToken && !known {
			dead = append(dead, t.ID)
			continue
		}
		r.tokens.add(t)
	}
	if len(dead) == 0 {
		return
	}
	if err := r.o.Store.RemoveTokens(dead); err != nil {
		r.log.Error("tokens that are over are not deleted", "err", err)
	}
}

// newToken makes a token and the text to be borne.
func (r *Registrar) newToken(kind TokenKind, user, label string) (Token, string) {
	secret := make([]byte, tokenBytes)
	_, _ = rand.Read(secret)
	text, now := base64.RawURLEncoding.EncodeToString(secret), r.now()
	return Token{ID: r.tokens.freeID(), Hash: hashOf(text), Kind: kind, User: user, Label: label, Created: now, Used: now}, text
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func (t *tokens) freeID() string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for {
		id := make([]byte, 8)
		for i := range id {
			id[i] = letter()
		}
		if t.byID[string(id)] == nil {
			return string(id)
		}
	}
}

// AddAdminToken makes a token of an operator, good until then (zero = for ever), and returns it with its text, which is shown this
// once.
func (r *Registrar) AddAdminToken(label string, until time.Time) (Token, string, error) {
	if !printable(label, maxLabel) {
		return Token{}, "", fmt.Errorf("add token: name %q: %w: up to %d printable characters are taken", label, ErrInvalid, maxLabel)
	}
	if !until.IsZero() && !until.After(r.now()) {
		return Token{}, "", fmt.Errorf("add token: its end %s: %w: that is over", until.Format(time.RFC3339), ErrInvalid)
	}
	r.users.Lock()
	defer r.users.Unlock()
	if all := r.tokens.list(func(t Token) bool { return t.Kind == AdminToken }); len(all) >= maxAdmins {
		return Token{}, "", fmt.Errorf("add token: %w: there are %d already; revoke some", ErrInvalid, len(all))
	}
	t, text := r.newToken(AdminToken, "", label)
	t.Expires = until
	if err := r.o.Store.PutToken(t); err != nil {
		return Token{}, "", fmt.Errorf("add token: %w", err)
	}
	r.tokens.add(t)
	r.log.Info("token made", "token", t.ID, "kind", string(t.Kind), "name", label)
	return t, text, nil
}

// Tokens are all tokens that are good, by when they were made. Their hashes are left out.
func (r *Registrar) Tokens() []Token {
	now := r.now()
	all := r.tokens.list(func(t Token) bool { return !t.over(now) })
	for i := range all {
		all[i].Hash, all[i].MD5, all[i].SHA256 = "", "", ""
	}
	slices.SortStableFunc(all, func(a, b Token) int { return a.Created.Compare(b.Created) })
	return all
}

// RevokeToken ends a token at once: what was signed in with it is signed out, and its connections are closed.
func (r *Registrar) RevokeToken(id string) error {
	r.users.Lock()
	defer r.users.Unlock()
	if r.tokens.with(id) == nil {
		return fmt.Errorf("revoke token %q: %w", id, ErrNotFound)
	}
	return r.revoke([]string{id}, "revoked")
}

// RevokeTokens ends all tokens of a user and says how many.
func (r *Registrar) RevokeTokens(user string) (int, error) {
	r.users.Lock()
	defer r.users.Unlock()
	all := ids(r.tokens.list(ofUser(user)))
	return len(all), r.revoke(all, "revoked")
}

// revoke ends tokens in the store and then in memory. users is held.
func (r *Registrar) revoke(ids []string, why string) error {
	if len(ids) == 0 {
		return nil
	}
	if err := r.o.Store.RemoveTokens(ids); err != nil {
		return fmt.Errorf("revoke tokens: %w", err)
	}
	for _, b := range r.tokens.drop(ids) {
		r.log.Info("token is over", "token", b.token.ID, "user", b.token.User, "why", why)
		r.signOut(b.token.User, b.flows)
	}
	return nil
}

func (t *tokens) with(id string) *bearer {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byID[id]
}

// Bearer is who has shown a token that is good.
type Bearer struct {
	Token Token
	life  context.Context
}

// AsLong gives a context that ends with parent, or when the token is revoked.
func (b Bearer) AsLong(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	stop := context.AfterFunc(b.life, cancel)
	return ctx, func() { stop(); cancel() }
}

// Bear finds whose token a text is, false if it is none that is good; and counts as its use.
func (r *Registrar) Bear(text string) (Bearer, bool) {
	hash, now := hashOf(text), r.now()
	r.tokens.mu.RLock()
	b := r.tokens.byHash[hash]
	var t Token
	if b != nil {
		t = b.token
	}
	r.tokens.mu.RUnlock()
	if b == nil || t.over(now) {
		return Bearer{}, false
	}
	if now.Sub(t.Used) >= usedEvery {
		t = r.use(b, now)
	}
	t.Hash, t.MD5, t.SHA256 = "", "", ""
	return Bearer{t, b.life}, true
}

// Still says whether the token is good yet, and counts as its use: it is for streams, which go on.
func (r *Registrar) Still(b Bearer) bool {
	one := r.tokens.with(b.Token.ID)
	if one == nil || one.life != b.life {
		return false
	}
	r.tokens.mu.RLock()
	t := one.token
	r.tokens.mu.RUnlock()
	now := r.now()
	if t.over(now) {
		return false
	}
	if now.Sub(t.Used) >= usedEvery {
		r.use(one, now)
	}
	return true
}

// use writes down that a token was used. One that cannot be written is good all the same.
func (r *Registrar) use(b *bearer, now time.Time) Token {
	r.users.Lock()
	defer r.users.Unlock()
	r.tokens.mu.Lock()
	there := r.tokens.byID[b.token.ID] == b && now.Sub(b.token.Used) >= usedEvery // it may have been revoked or used meanwhile
	if there {
		b.token.Used = now
		if b.token.Kind == UserToken {
			b.token.Expires = now.Add(tokenLife)
		}
	}
	t := b.token
	r.tokens.mu.Unlock()
	if !there {
		return t
	}
	if err := r.o.Store.PutToken(t); err != nil {
		r.log.Error("the use of a token is not stored", "token", t.ID, "err", err)
	}
	return t
}

// ErrPassword is what a sign-in gets whose user or password is wrong: nobody learns which.
var ErrPassword = errors.New("unknown user or wrong password")
