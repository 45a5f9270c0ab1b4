package web

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"baton/registrar"
)

// Who guesses passwords is held up, and nobody else for long. Each try is taken from three buckets and given back to them if it was
// right, so that tries made at once count too:
//
//   - that of its source and user together,
//   - that of its source, for all users,
//   - that of its user, wherever from: unless he has signed in from there before.
//
// A user that there is not has buckets like any other, and who is held up is told so before the password is looked at.
type guard struct {
	tries, pair, source, user *meter
	proven                    *meter // not asked, only kept: pairs of which a password was right
	said                      *meter // lines of the log
}

func newGuard() *guard {
	return &guard{
		tries:  newMeter(100, time.Second), // right ones too: each is written to the disk
		pair:   newMeter(5, 30*time.Second),
		source: newMeter(30, 10*time.Second),
		user:   newMeter(60, 10*time.Second),
		proven: newMeter(1, 30*24*time.Hour),
		said:   newMeter(20, time.Second),
	}
}

// admit takes a try, or says that there were too many. right gives it back.
func (g *guard) admit(source, user string) (right func(), err error) {
	pair := source + " " + user
	type bucket struct {
		of  *meter
		key string
	}
	buckets := []bucket{{g.pair, pair}, {g.source, source}, {g.user, user}}
	if g.proven.holds(pair) {
		buckets = buckets[:2]
	}
	wait := g.tries.take(source)
	for i := 0; wait == 0 && i < len(buckets); i++ {
		if wait = buckets[i].of.take(buckets[i].key); wait > 0 {
			for _, b := range buckets[:i] {
				b.of.back(b.key)
			}
		}
	}
	if wait > 0 {
		return nil, &refusal{code: http.StatusTooManyRequests, text: "too many tries; wait a while", wait: wait}
	}
	return func() {
		for _, b := range buckets {
			b.of.back(b.key)
		}
		g.proven.take(pair)
	}, nil
}

// SignIn is what POST /session takes.
type SignIn struct {
	User     string `json:"user"` // name or number
	Password string `json:"password"`
	Device   string `json:"device,omitempty"` // as the list of tokens shall show it
}

// Session is what it gives: all that a page needs from then on. Token and SIP password are told this once.
type Session struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"` // unless it is used before
	User    string    `json:"user"`
	SIP     SIPLogin  `json:"sip"`
}

// SIPLogin is what a session's device logs in with by SIP.
type SIPLogin struct {
	URI      string `json:"uri"`
	Login    string `json:"login"`
	Password string `json:"password"`
}

// maxSignIn bounds the body of a sign-in, which anybody may send.
const maxSignIn = 4 << 10

func (a *UserAPI) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxSignIn)
	shown, err := a.newSession(r)
	if err != nil {
		failWith(w, r, a.Log, err)
		return
	}
	write(w, http.StatusOK, shown)
}

func (a *UserAPI) newSession(r *http.Request) (Session, error) {
	var want SignIn
	if err := read(r, &want); err != nil {
		return Session{}, err
	}
	right, err := a.guard.admit(askerOf(r), a.bucketOf(want.User))
	if err != nil {
		a.tellRefused("sign-in held up", want.User, r)
		return Session{}, err
	}
	s, err := a.Registrar.SignIn(want.User, want.Password, want.Device)
	switch {
	case errors.Is(err, registrar.ErrPassword):
		a.tellRefused("sign-in refused", want.User, r)
		return Session{}, refuse(http.StatusUnauthorized, "%v", err)
	case err != nil:
		return Session{}, err
	}
	right()
	a.Log.Info("signed in", "user", s.Token.User, "token", s.Token.ID, "name", s.Token.Label, "from", r.RemoteAddr)
	return Session{
		Token: s.Text, Expires: s.Token.Expires, User: s.Token.User,
		SIP: SIPLogin{URI: a.addressOf(r, s.Token.User), Login: s.Token.Login, Password: s.Password},
	}, nil
}

// tellRefused logs a sign-in that failed, some of many.
func (a *UserAPI) tellRefused(what, user string, r *http.Request) {
	if a.guard.said.take("") == 0 {
		a.Log.Info(what, "user", strconv.Quote(user[:min(len(user), longestLogin)]), "from", r.RemoteAddr)
	}
}

const longestLogin = 64

// bucketOf is one name for all that a user is called by.
func (a *UserAPI) bucketOf(nameOrNumber string) string {
	if u, ok := a.Registrar.User(nameOrNumber); ok {
		return u.Name
	}
	return strings.ToLower(nameOrNumber[:min(len(nameOrNumber), longestLogin)])
}

func (a *UserAPI) signOut(r *http.Request, me person) (any, error) {
	a.Log.Info("signed out", "user", me.Name, "token", me.bearer.Token.ID, "from", r.RemoteAddr)
	return nil, a.Registrar.RevokeToken(me.bearer.Token.ID)
}
