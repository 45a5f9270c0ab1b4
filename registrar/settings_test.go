package registrar

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestConfigure(t *testing.T) {
	r, m := desklessOffice(t)
	for name, number := range map[string]string{"alice": "101", "bob": "102"} {
		if _, _, err := r.AddUser(UserSpec{Name: name, Numbers: []string{number}}); err != nil {
			t.Fatal(err)
		}
	}
	want := Settings{
		DoNotDisturb: true, BusyOnBusy: true, Ring: 20 * time.Second,
		Forward: Forwarding{Always: "102", Busy: "bob", NoAnswer: "102", NoAnswerAfter: 15 * time.Second, Away: "bob"},
	}
	u, err := r.Configure("alice", func(s *Settings) {
		*s = want
		s.Forward.Always, s.Forward.Away = " 102 ", "Bob"
	})
	if err != nil || u.Settings != want {
		t.Fatalf("%+v, %v; want %+v", u.Settings, err, want)
	}
	if got, _ := r.User("101"); got.Settings != want || got.Secrets["alice"].MD5 == "" {
		t.Errorf("the user is %+v", got)
	}
	again, err := New(Options{Store: m, Realm: "baton"})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := again.User("alice"); got.Settings != want {
		t.Errorf("read back: %+v", got.Settings)
	}
	u, err = r.Configure("alice", func(s *Settings) { s.Forward.NoAnswer = "" })
	if err != nil || u.Settings.Forward.NoAnswerAfter != 0 {
		t.Errorf("no forwarding at no answer, but after %s, %v", u.Settings.Forward.NoAnswerAfter, err)
	}
}

func TestConfigureRefuses(t *testing.T) {
	r, _ := desklessOffice(t)
	for name, number := range map[string]string{"alice": "101", "bob": "102"} {
		if _, _, err := r.AddUser(UserSpec{Name: name, Numbers: []string{number}}); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]struct {
		change func(*Settings)
		say    string
	}{
		"nobody's number":     {func(s *Settings) { s.Forward.Always = "999" }, "forward always"},
		"oneself":             {func(s *Settings) { s.Forward.Busy = "101" }, "that is alice"},
		"a device of oneself": {func(s *Settings) { s.Forward.Busy = "alice*2" }, "that is alice"},
		"a device not there":  {func(s *Settings) { s.Forward.Away = "102*4" }, "it has none"},
		"a code":              {func(s *Settings) { s.Forward.NoAnswer = "*40" }, "forward no answer"},
		"a URI":               {func(s *Settings) { s.Forward.Always = "sip:102@elsewhere" }, "number is taken"},
		"short":               {func(s *Settings) { s.Ring = time.Millisecond }, "1s to 1h"},
		"long": {func(s *Settings) {
			s.Forward.NoAnswer, s.Forward.NoAnswerAfter = "102", 2*time.Hour
		}, "forward no answer after"},
	}
	for name, tt := range tests {
		_, err := r.Configure("alice", tt.change)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.say) {
			t.Errorf("%s: %v, want %q", name, err, tt.say)
		}
	}
	if u, _ := r.User("alice"); u.Settings != (Settings{}) {
		t.Errorf("a refused change has left %+v", u.Settings)
	}
	if _, err := r.Configure("carol", func(*Settings) {}); !errors.Is(err, ErrNotFound) {
		t.Errorf("nobody was set: %v", err)
	}
}

// TestForwardedToTheRemoved leaves a forwarding whose user is gone: the rest can still be set.
func TestForwardedToTheRemoved(t *testing.T) {
	r, _ := desklessOffice(t)
	for name, number := range map[string]string{"alice": "101", "bob": "102"} {
		if _, _, err := r.AddUser(UserSpec{Name: name, Numbers: []string{number}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Configure("alice", func(s *Settings) { s.Forward.Busy = "102" }); err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveUser("bob"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Configure("alice", func(s *Settings) { s.DoNotDisturb = true }); err != nil {
		t.Error(err)
	}
}

// TestUserWithoutSettings reads a user as it was stored before there were settings, and shows none where none are.
func TestUserWithoutSettings(t *testing.T) {
	var u User
	err := json.Unmarshal([]byte(`{"name":"alice","numbers":["101"],"realm":"baton","created":"2025-01-02T03:04:05Z"}`), &u)
	if err != nil || u.Settings != (Settings{}) {
		t.Errorf("%+v, %v", u, err)
	}
	if b, err := json.Marshal(u); err != nil || strings.Contains(string(b), "settings") {
		t.Errorf("%s, %v", b, err)
	}
}
