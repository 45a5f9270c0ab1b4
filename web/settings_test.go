package web

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"baton/registrar"
)

func (u *users) Configure(name string, change func(*registrar.Settings)) (registrar.User, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.users {
		if u.users[i].Name != name {
			continue
		}
		s := u.users[i].Settings
		if change(&s); s.Forward.Always == "999" {
			return registrar.User{}, fmt.Errorf("set user %s: %w", name, registrar.ErrInvalid)
		}
		u.users[i].Settings = s
		return u.users[i], nil
	}
	return registrar.User{}, fmt.Errorf("user %q: %w", name, registrar.ErrNotFound)
}

// TestChangeUser changes what is named and leaves the rest.
func TestChangeUser(t *testing.T) {
	r := newRig(t)
	type s = registrar.Settings
	type f = registrar.Forwarding
	yes, no, number, time20, none := true, false, "102", "20s", ""
	for _, step := range []struct {
		change ChangeSettings
		want   s
	}{
		{ChangeSettings{}, s{}},
		{ChangeSettings{DoNotDisturb: &yes}, s{DoNotDisturb: true}},
		{ChangeSettings{BusyOnBusy: &yes, Ring: &time20}, s{DoNotDisturb: true, BusyOnBusy: true, Ring: 20 * time.Second}},
		{
			ChangeSettings{DoNotDisturb: &no, BusyOnBusy: &no, Ring: &none, Forward: ChangeForwarding{NoAnswer: &number, NoAnswerAfter: &time20}},
			s{Forward: f{NoAnswer: "102", NoAnswerAfter: 20 * time.Second}},
		},
		{ChangeSettings{Forward: ChangeForwarding{Always: &number, Busy: &number, Away: &number}}, s{
			Forward: f{Always: "102", Busy: "102", Away: "102", NoAnswer: "102", NoAnswerAfter: 20 * time.Second},
		}},
		{ChangeSettings{Forward: ChangeForwarding{NoAnswer: &number, Always: &none}}, s{Forward: f{Busy: "102", Away: "102", NoAnswer: "102"}}},
		{ChangeSettings{OnLoss: new("ring"), OnBye: new("leave"), Forward: ChangeForwarding{NoAnswer: &none, Busy: &none, Away: &none}}, s{OnLoss: "ring", OnBye: "leave"}},
		{ChangeSettings{OnLoss: new("wait"), OnBye: new("end")}, s{}},
	} {
		u, err := r.client.ChangeUser(t.Context(), "101", ChangeUser{step.change})
		if err != nil || u.Settings != showSettings(step.want) {
			t.Fatalf("%+v, %v; want %+v", u.Settings, err, step.want)
		}
		if got, _ := r.users.User("alice"); got.Settings != step.want {
			t.Fatalf("%+v, want %+v", got.Settings, step.want)
		}
	}
	if bob, _ := r.users.User("bob"); bob.Settings != (s{}) {
		t.Errorf("bob has got %+v", bob.Settings)
	}
}

func TestChangeUserRefuses(t *testing.T) {
	r := newRig(t)
	bad, shown := "soon", "999"
	for name, tt := range map[string]struct {
		user   string
		change ChangeSettings
		code   int
		say    string
	}{
		"time":      {"alice", ChangeSettings{Ring: &bad}, 400, `settings.ring: "soon"`},
		"when":      {"alice", ChangeSettings{Forward: ChangeForwarding{NoAnswerAfter: &bad}}, 400, "settings.forward.no_answer_after"},
		"not valid": {"alice", ChangeSettings{Forward: ChangeForwarding{Always: &shown}}, 400, "not valid"},
		"nobody":    {"carol", ChangeSettings{}, 404, "there is no user"},
	} {
		var failed *Error
		_, err := r.client.ChangeUser(t.Context(), tt.user, ChangeUser{tt.change})
		if !errors.As(err, &failed) || failed.Status != tt.code || !strings.Contains(failed.Text, tt.say) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
