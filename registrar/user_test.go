package registrar

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"baton/sip"
)

// desklessOffice is a registrar that does not run, as the command line has it while there is no node.
func desklessOffice(t *testing.T) (*Registrar, *memory) {
	t.Helper()
	m := newMemory()
	r, err := New(Options{Store: m, Realm: "baton"})
	if err != nil {
		t.Fatal(err)
	}
	return r, m
}

func TestAddUser(t *testing.T) {
	r, m := desklessOffice(t)
	u, password, err := r.AddUser(UserSpec{Name: "alice", Display: "Alice Ätna", Numbers: []string{"101", "4930101"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(password) != passwordLength || strings.Trim(password, passwordAlphabet) != "" {
		t.Errorf("password %q", password)
	}
	for _, login := range []string{"alice", "101", "4930101"} {
		s, ok := r.Secret(login)
		a1 := []byte(login + ":baton:" + password)
		want := sip.Secret{
			User: "alice", Identities: []string{"alice", "101", "4930101"},
			MD5: fmt.Sprintf("%x", md5.Sum(a1)), SHA256: fmt.Sprintf("%x", sha256.Sum256(a1)),
		}
		if !ok || s.User != want.User || !slices.Equal(s.Identities, want.Identities) || s.MD5 != want.MD5 || s.SHA256 != want.SHA256 {
			t.Errorf("secret of %s is %+v, want %+v", login, s, want)
		}
		if got, ok := r.User(login); !ok || got.Name != "alice" {
			t.Errorf("user %s is %+v", login, got)
		}
	}
	for _, login := range []string{"", "bob", "Alice", "102"} {
		if s, ok := r.Secret(login); ok {
			t.Errorf("login %q has secret %+v", login, s)
		}
	}
	if shown, _ := json.Marshal(u); strings.Contains(string(shown), u.Secrets["alice"].MD5) {
		t.Errorf("a user's secrets are shown: %s", shown)
	}
	for _, v := range m.users {
		if stored, _ := json.Marshal(v.Secrets); strings.Contains(string(stored), password) {
			t.Error("the password is stored")
		}
	}
	// Whoever opens the store next knows alice.
	again, err := New(Options{Store: m, Realm: "baton"})
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := again.Secret("101"); !ok || s.MD5 != u.Secrets["101"].MD5 {
		t.Errorf("after a restart: %+v", s)
	}
}

func TestAddUserRefused(t *testing.T) {
	r, m := desklessOffice(t)
	if _, _, err := r.AddUser(UserSpec{Name: "alice", Numbers: []string{"101"}}); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("a", 65)
	for _, c := range []struct {
		spec UserSpec
		want error
	}{
		{UserSpec{Name: ""}, ErrInvalid},
		{UserSpec{Name: "Bob"}, ErrInvalid},
		{UserSpec{Name: "bob smith"}, ErrInvalid},
		{UserSpec{Name: "bob@x"}, ErrInvalid},
		{UserSpec{Name: "101*2"}, ErrInvalid},
		{UserSpec{Name: ".bob"}, ErrInvalid},
		{UserSpec{Name: long}, ErrInvalid},
		{UserSpec{Name: "bob", Numbers: []string{"+49"}}, ErrInvalid},
		{UserSpec{Name: "bob", Numbers: []string{""}}, ErrInvalid},
		{UserSpec{Name: "bob", Numbers: []string{"102", "102"}}, ErrInvalid},
		{UserSpec{Name: "102", Numbers: []string{"102"}}, ErrInvalid},
		{UserSpec{Name: "bob", Display: "a\x1b[0m"}, ErrInvalid},
		{UserSpec{Name: "bob", Display: "\xff"}, ErrInvalid},
		{UserSpec{Name: "bob", Password: "a\r\nb"}, ErrInvalid},
		{UserSpec{Name: "alice"}, ErrTaken},
		{UserSpec{Name: "101"}, ErrTaken},
		{UserSpec{Name: "bob", Numbers: []string{"102", "101"}}, ErrTaken},
	} {
		if _, password, err := r.AddUser(c.spec); !errors.Is(err, c.want) || password != "" {
			t.Errorf("%+v: %v, want %v", c.spec, err, c.want)
		}
	}
	m.fail = errors.New("disk full")
	if _, _, err := r.AddUser(UserSpec{Name: "bob"}); err == nil {
		t.Error("a user that is not stored is added")
	}
	if _, ok := r.User("bob"); ok || len(r.Users()) != 1 {
		t.Errorf("users are %+v", r.Users())
	}
}

func TestSetPassword(t *testing.T) {
	r, m := desklessOffice(t)
	_, first, err := r.AddUser(UserSpec{Name: "alice", Numbers: []string{"101"}})
	if err != nil {
		t.Fatal(err)
	}
	was, _ := r.Secret("101")
	second, err := r.SetPassword("alice", "")
	if err != nil || second == first || len(second) != passwordLength {
		t.Fatalf("%q, %v", second, err)
	}
	if now, _ := r.Secret("101"); now.MD5 == was.MD5 || now.SHA256 == was.SHA256 {
		t.Error("the number's secret is the old one")
	}
	if third, err := r.SetPassword("alice", "correct horse"); err != nil || third != "correct horse" {
		t.Fatalf("%q, %v", third, err)
	}
	if now, _ := r.Secret("alice"); now.MD5 != fmt.Sprintf("%x", md5.Sum([]byte("alice:baton:correct horse"))) {
		t.Error("the password is another")
	}
	if _, err := r.SetPassword("bob", ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("password of nobody: %v", err)
	}
	was, _ = r.Secret("alice")
	m.fail = errors.New("disk full")
	if _, err := r.SetPassword("alice", "x"); err == nil {
		t.Error("a password that is not stored is set")
	}
	if now, _ := r.Secret("alice"); now.MD5 != was.MD5 {
		t.Error("a password that is not stored is valid")
	}
}

func TestRemoveUser(t *testing.T) {
	r, m := desklessOffice(t)
	for _, name := range []string{"alice", "bob"} {
		if _, _, err := r.AddUser(UserSpec{Name: name, Numbers: []string{map[string]string{"alice": "101", "bob": "102"}[name]}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.RemoveUser("alice"); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Secret("101"); ok || len(r.Users()) != 1 || len(m.users) != 1 {
		t.Error("alice is still there")
	}
	if err := r.RemoveUser("alice"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	if _, _, err := r.AddUser(UserSpec{Name: "carol", Numbers: []string{"101"}}); err != nil {
		t.Errorf("her number is not free: %v", err)
	}
}

func TestNewPassword(t *testing.T) {
	seen := map[string]bool{}
	letters := map[rune]int{}
	const n = 2000
	for range n {
		p := newPassword()
		if seen[p] {
			t.Fatalf("password %s is made twice", p)
		}
		seen[p] = true
		for _, c := range p {
			letters[c]++
		}
	}
	even := n * passwordLength / len(passwordAlphabet)
	for _, c := range passwordAlphabet {
		if letters[c] < even*7/10 || letters[c] > even*13/10 {
			t.Errorf("letter %c comes %d times, %d would be even", c, letters[c], even)
		}
	}
}
