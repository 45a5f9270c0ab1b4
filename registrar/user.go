package registrar

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"baton/sip"
)

// User is an address-of-record with its numbers and credentials. It is a plain value and never changed, only replaced.
type User struct {
	Name    string                `json:"name"`
	Display string                `json:"display,omitempty"`
	Numbers []string              `json:"numbers"`
	Realm   string                `json:"realm"`
	Secrets map[string]sip.Secret `json:"-"` // by login: the name and each number
	Created time.Time             `json:"created"`

	Settings Settings `json:"settings,omitzero"` // what the user has chosen for incoming calls
}

// UserSpec is what it takes to make a user.
type UserSpec struct {
	Name     string   // [a-z0-9._-]
	Display  string   // shown to the others; "" = the name
	Numbers  []string // digits; they log in and are called like the name
	Password string   // "" = one is made
}

const (
	maxDisplay  = 64 // characters
	maxPassword = 128
	maxNumbers  = 16

	// passwordAlphabet leaves out what is mistaken for something else on paper or is hard to find on a phone's keys.
	passwordAlphabet = "abcdefghjkmnpqrstuvwxyz23456789"
	passwordLength   = 16 // 79 bits
)

var (
	userName   = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	userNumber = regexp.MustCompile(`^[0-9]{1,20}$`)
)

// logins are all that the user logs in with and is called by.
func (u User) logins() []string { return append([]string{u.Name}, u.Numbers...) }

func (s UserSpec) validate() error {
	var errs []error
	if !userName.MatchString(s.Name) {
		errs = append(errs, fmt.Errorf("name %q: %w: lower-case letters, digits, . _ - are taken, a letter or digit first", s.Name, ErrInvalid))
	}
	if len(s.Numbers) > maxNumbers {
		errs = append(errs, fmt.Errorf("%d numbers: %w: at most %d are taken", len(s.Numbers), ErrInvalid, maxNumbers))
	}
	for i, n := range s.Numbers {
		switch {
		case !userNumber.MatchString(n):
			errs = append(errs, fmt.Errorf("number %q: %w: up to 20 digits are taken", n, ErrInvalid))
		case slices.Contains(s.Numbers[:i], n) || n == s.Name:
			errs = append(errs, fmt.Errorf("number %s: %w: it is given twice", n, ErrInvalid))
		}
	}
	if !printable(s.Display, maxDisplay) {
		errs = append(errs, fmt.Errorf("display name %q: %w: up to %d printable characters are taken", s.Display, ErrInvalid, maxDisplay))
	}
	if s.Password != "" && !printable(s.Password, maxPassword) {
		errs = append(errs, fmt.Errorf("password: %w: up to %d printable characters are taken", ErrInvalid, maxPassword))
	}
	return errors.Join(errs...)
}

func printable(s string, most int) bool {
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= most &&
		!strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
}

// secrets makes the HA1s of a password for every login. The password itself is kept nowhere.
func secrets(u User, password string) map[string]sip.Secret {
	out := make(map[string]sip.Secret)
	for _, login := range u.logins() {
		s := ha1(login, u.Realm, password)
		s.User, s.Identities = u.Name, u.logins()
		out[login] = s
	}
	return out
}

func newPassword() string {
	b := make([]byte, 0, passwordLength)
	for range passwordLength {
		b = append(b, letter())
	}
	return string(b)
}

// AddUser makes a user and returns it with its password, which is shown once and never kept.
func (r *Registrar) AddUser(s UserSpec) (User, string, error) {
	if err := s.validate(); err != nil {
		return User{}, "", fmt.Errorf("add user: %w", err)
	}
	r.users.Lock()
	defer r.users.Unlock()
	u := User{
		Name: s.Name, Display: s.Display, Numbers: slices.Clone(s.Numbers),
		Realm: r.o.Realm, Created: r.now(),
	}
	for _, login := range u.logins() {
		if other, taken := r.directory.Load().logins[login]; taken {
			return User{}, "", fmt.Errorf("add user %s: %s is %w by user %s", s.Name, login, ErrTaken, other.name)
		}
	}
	password := s.Password
	if password == "" {
		password = newPassword()
	}
	u.Secrets = secrets(u, password)
	if err := r.o.Store.PutUser(u); err != nil {
		return User{}, "", fmt.Errorf("add user %s: %w", s.Name, err)
	}
	r.directory.Store(r.directory.Load().with(newAccount(u, r.own())))
	return u, password, nil
}

// SetPassword gives a user another password ("" = one is made) and returns it. Who was signed in with the old one is signed out.
func (r *Registrar) SetPassword(name, password string) (string, error) {
	if !printable(password, maxPassword) {
		return "", fmt.Errorf("set password: %w: up to %d printable characters are taken", ErrInvalid, maxPassword)
	}
	r.users.Lock()
	defer r.users.Unlock()
	a, ok := r.directory.Load().accounts[name]
	if !ok {
		return "", fmt.Errorf("set password: user %q: %w", name, ErrNotFound)
	}
	if password == "" {
		password = newPassword()
	}
	u := *a.user.Load()
	u.Secrets = secrets(u, password)
	if err := r.revoke(ids(r.tokens.list(ofUser(name))), "the password was changed"); err != nil {
		return "", fmt.Errorf("set password of %s: %w", name, err)
	}
	if err := r.o.Store.PutUser(u); err != nil {
		return "", fmt.Errorf("set password of %s: %w", name, err)
	}
	a.user.Store(&u)
	return password, nil
}

// RemoveUser takes a user and its devices away. Calls that are up go on.
func (r *Registrar) RemoveUser(name string) error {
	r.users.Lock()
	defer r.users.Unlock()
	a, ok := r.directory.Load().accounts[name]
	if !ok {
		return fmt.Errorf("remove user %q: %w", name, ErrNotFound)
	}
	if err := r.revoke(ids(r.tokens.list(ofUser(name))), "the user was removed"); err != nil {
		return fmt.Errorf("remove user %s: %w", name, err)
	}
	if err := r.o.Store.RemoveUser(name); err != nil {
		return fmt.Errorf("remove user %s: %w", name, err)
	}
	r.directory.Store(r.directory.Load().without(a))
	r.mail.Post(func() { r.turn(a, r.removed) }) // not here: users is held
	return nil
}

// User finds a user by name or number.
func (r *Registrar) User(nameOrNumber string) (User, bool) {
	a, ok := r.directory.Load().logins[strings.ToLower(nameOrNumber)]
	if !ok {
		return User{}, false
	}
	return *a.user.Load(), true
}

// Users are all users by name.
func (r *Registrar) Users() []User {
	all := r.directory.Load().accounts
	out := make([]User, 0, len(all))
	for _, a := range all {
		out = append(out, *a.user.Load())
	}
	slices.SortFunc(out, func(a, b User) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Secret finds what digest needs of a login, a user's or a session's, from memory (sip.Credentials).
func (r *Registrar) Secret(login string) (sip.Secret, bool) {
	a, ok := r.directory.Load().logins[login]
	if !ok {
		return r.sessionSecret(login)
	}
	s, ok := a.user.Load().Secrets[login]
	return s, ok
}
