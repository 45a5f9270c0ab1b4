package registrar

import (
	"crypto/md5" // what digest is made of, RFC 7616 §3.3
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"baton/sip"
)

// Session is what a user gets who signs in with name and password: all that the device needs from then on, so that it can
// forget the password. The secrets in it are told this once.
type Session struct {
	Token    Token
	Text     string // to be borne
	Password string // of Token.Login, by SIP
}

// SignIn makes a session for a user, by name or number, on a device that calls itself label. Unknown user and wrong password are
// the same ErrPassword, after the same time.
func (r *Registrar) SignIn(nameOrNumber, password, label string) (Session, error) {
	if !printable(label, maxLabel) {
		return Session{}, fmt.Errorf("sign in: device: %w: up to %d printable characters are taken", ErrInvalid, maxLabel)
	}
	u, right := r.proves(nameOrNumber, password)
	if !right {
		return Session{}, ErrPassword
	}
	r.users.Lock()
	defer r.users.Unlock()
	a, ok := r.directory.Load().accounts[u.Name]
	if !ok || a.user.Load().Secrets[u.Name].SHA256 != u.Secrets[u.Name].SHA256 { // removed or changed meanwhile
		return Session{}, ErrPassword
	}
	return r.begin(u, label)
}

// proves says whether a password is that of a user, and who that is. It takes as long for a user that there is not.
func (r *Registrar) proves(nameOrNumber, password string) (User, bool) {
	u := User{Name: strings.ToLower(nameOrNumber), Realm: r.o.Realm}
	want := hashOf(r.o.Realm)
	a, known := r.directory.Load().logins[u.Name]
	if known {
		u = *a.user.Load()
		want = u.Secrets[u.Name].SHA256
	}
	same := subtle.ConstantTimeCompare([]byte(ha1(u.Name, u.Realm, password).SHA256), []byte(want)) == 1
	return u, same && known
}

// begin makes the session and stores it. users is held.
func (r *Registrar) begin(u User, label string) (Session, error) {
	t, text := r.newToken(UserToken, u.Name, label)
	s := Session{Text: text, Password: newPassword() + newPassword()[:8]} // 118 bits
	t.Expires = t.Used.Add(tokenLife)
	t.Login = u.Name + loginMark + t.ID
	secret := ha1(t.Login, r.o.Realm, s.Password)
	t.MD5, t.SHA256 = secret.MD5, secret.SHA256
	now := r.now()
	over := ids(r.tokens.list(func(t Token) bool { return t.over(now) }))
	if all := r.tokens.list(ofUser(u.Name)); len(all) >= maxTokens {
		over = append(over, ids(all[:len(all)-maxTokens+1])...)
	}
	if err := r.revoke(over, "its time is up, or the user has too many"); err != nil {
		return Session{}, err
	}
	if err := r.o.Store.PutToken(t); err != nil {
		return Session{}, fmt.Errorf("sign in: %w", err)
	}
	r.tokens.add(t)
	s.Token = t
	s.Token.Hash, s.Token.MD5, s.Token.SHA256 = "", "", ""
	return s, nil
}

// ha1 is the secret of a login and its password (RFC 7616 §3.4.2).
func ha1(login, realm, password string) sip.Secret {
	a1 := []byte(login + ":" + realm + ":" + password)
	m, s := md5.Sum(a1), sha256.Sum256(a1)
	return sip.Secret{MD5: hex.EncodeToString(m[:]), SHA256: hex.EncodeToString(s[:])}
}

// sessionSecret is what digest needs of a session's login: it is its user's, as he is named now.
func (r *Registrar) sessionSecret(login string) (sip.Secret, bool) {
	r.tokens.mu.RLock()
	b := r.tokens.byLogin[login]
	var t Token
	if b != nil {
		t = b.token
	}
	r.tokens.mu.RUnlock()
	if b == nil || t.over(r.now()) {
		return sip.Secret{}, false
	}
	a, ok := r.directory.Load().accounts[t.User]
	if !ok {
		return sip.Secret{}, false
	}
	return sip.Secret{User: t.User, Identities: a.user.Load().logins(), MD5: t.MD5, SHA256: t.SHA256}, true
}

// registersBy notes from where a session's login registers, so that its end is also the end of that. false: it has ended already.
func (r *Registrar) registersBy(login string, f sip.Flow) bool {
	if !strings.Contains(login, loginMark) {
		return true
	}
	r.tokens.mu.Lock()
	defer r.tokens.mu.Unlock()
	b := r.tokens.byLogin[login]
	if b == nil {
		return false
	}
	if !slices.Contains(b.flows, f) {
		b.flows = append(slices.DeleteFunc(b.flows, r.dead), f)
		b.flows = b.flows[max(0, len(b.flows)-maxFlows):]
	}
	return true
}

// signOut takes away what is registered over flows of a session that has ended, and closes them. users may be held.
func (r *Registrar) signOut(user string, flows []sip.Flow) {
	a, known := r.directory.Load().accounts[user]
	for _, f := range flows {
		if known {
			r.mail.Post(func() {
				r.turn(a, func(a *account) {
					before := a.list()
					r.note(a, before, closed(before, func(g sip.Flow) bool { return g == f }, "signed out", r.now()))
				})
			})
		}
		if r.o.Agent != nil && stream(f) && !r.o.Agent.Proxy(f.Remote.Addr()) { // a proxy's is others' too
			r.o.Agent.CloseFlow(f)
		}
	}
}

// letter is one of the alphabet of passwords, each as likely as the others.
func letter() byte {
	var one [1]byte
	for {
		_, _ = rand.Read(one[:])
		// 248 is the largest multiple of 31 in a byte: above it a letter would be likelier than others.
		if one[0] < 248 {
			return passwordAlphabet[int(one[0])%len(passwordAlphabet)]
		}
	}
}
