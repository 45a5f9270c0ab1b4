package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestPrecedence wants a variable to win over the file and the file over the default, each with its place.
func TestPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "b.yaml")
	if err := os.WriteFile(file, []byte("domain: file.example\nlisten:\n  udp: :5070\n  tcp: :5071\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := LoadEnv(file, []string{
		"BATON_LISTEN_UDP=:5080", "BATON_MEDIA_PORTS=30000-30099", "BATON_CALL_RING=45s", "BATON_CODES_PULL=*50",
		"BATON_ADVERTISE_LOCAL=10.0.0.0/8, fd00::/8", "BATON_LOG_LEVEL=", "PATH=/bin", "BATON_TEST_OTHER=x",
	})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ field, value, from string }{
		{"domain", "file.example", file + ":1"},
		{"listen.udp", ":5080", "BATON_LISTEN_UDP"},
		{"listen.tcp", ":5071", file + ":4"},
		{"listen.tls", ":5061", "default"},
		{"media.ports", "30000-30099", "BATON_MEDIA_PORTS"},
		{"call.ring", "45s", "BATON_CALL_RING"},
		{"codes.pull", "*50", "BATON_CODES_PULL"},
		{"advertise.local", "10.0.0.0/8,fd00::/8", "BATON_ADVERTISE_LOCAL"},
		{"log.level", "info", "default"},
		{"call.vanished", "15s", "default"},
	}
	for _, tt := range tests {
		i := slices.IndexFunc(l.Settings(), func(s Setting) bool { return s.Field == tt.field })
		if i < 0 {
			t.Errorf("%s is not listed", tt.field)
			continue
		}
		s := l.Settings()[i]
		if got := strings.Join(s.Values, ","); got != tt.value || s.From.String() != tt.from {
			t.Errorf("%s: %q from %s, want %q from %s", tt.field, got, s.From, tt.value, tt.from)
		}
	}
	back, err := FromSettings(l.Settings())
	if err != nil || !reflect.DeepEqual(back, l.Config) {
		t.Errorf("the settings read back: error %v\n%+v\nwant\n%+v", err, back, l.Config)
	}
}

// TestEveryVariable wants each field to be listed, and to be set by its own variable to what it says.
func TestEveryVariable(t *testing.T) {
	all, err := LoadEnv("", nil)
	if err != nil || all.File != "" {
		t.Fatalf("file %q, error %v", all.File, err)
	}
	listed := map[string]Setting{}
	for _, s := range all.Settings() {
		listed[s.Field] = s
	}
	if len(listed) != len(fields) {
		t.Errorf("%d fields are listed, %d can be set", len(listed), len(fields))
	}
	var environ []string
	want := map[string]string{}
	for name := range fields {
		value := strings.Join(listed[name].Values, ",")
		if value == "" {
			value = "192.0.2.7" // a host, a name and an address
		}
		switch name {
		case "proxies":
			value = "192.0.2.7/32"
		case "media.local_networks":
			value = "10.1.0.0/16"
		case "web.origins":
			value = "https://phone.example.org"
		case "web.url":
			value = "https://node1.example.org:8443"
		case "tls.acme.names":
			value = "sip.example.org,www.example.org"
		case "tls.acme.email":
			value = "admin@example.org"
		case "cluster.listen":
			value = "10.0.0.1:5080"
		case "cluster.peers":
			value = "10.0.0.2:5080,node3:5080"
		case "tls.acme.agree":
			value = "true"
		case "store.redis":
			value = "redis://192.0.2.7:6379"
		}
		want[name] = value
		environ = append(environ, Variable(name)+"="+value)
	}
	l, err := LoadEnv("", environ)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range l.Settings() {
		if got := strings.Join(s.Values, ","); got != want[s.Field] || s.From.String() != Variable(s.Field) {
			t.Errorf("%s: %q from %s, want %q from %s", s.Field, got, s.From, want[s.Field], Variable(s.Field))
		}
	}
}

// TestVariableErrors wants an error to name the variable, also where only fields side by side are wrong.
func TestVariableErrors(t *testing.T) {
	tests := []struct {
		doc  string
		env  []string
		want []string // beginning of each line
	}{
		{"", []string{"BATON_LISTEN_UDP=5060"}, []string{`BATON_LISTEN_UDP: listen.udp: "5060" is no host:port; want host:port`}},
		{"", []string{"BATON_LOG_LEVEL=loud", "BATON_CALL_RING=30"}, []string{`BATON_CALL_RING: call.ring: "30" is no duration`, `BATON_LOG_LEVEL: log.level: "loud" is not known`}},
		{"x: 1\n", []string{"BATON_MEDIA_PORTS=1-2"}, []string{`b.yaml:1: x: unknown`, `BATON_MEDIA_PORTS: media.ports: "1-2" begins below`}},
		{"listen:\n  tls: :5060\n", []string{"BATON_LISTEN_TCP=:5060"}, []string{`BATON_LISTEN_TCP: listen.tls: ":5060" is also listen.tcp`}},
		{"listen:\n  tls: :5060\n", nil, []string{`b.yaml:2: listen.tls: ":5060" is also listen.tcp`}},
		{"", []string{"BATON_ADVERTISE_LOCAL=10.0.0.1"}, []string{`BATON_ADVERTISE_LOCAL: advertise.local: "10.0.0.1" is no network`}},
	}
	for _, tt := range tests {
		t.Chdir(t.TempDir())
		if err := os.WriteFile("b.yaml", []byte(tt.doc), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadEnv("b.yaml", tt.env)
		var errs Errors
		if !errors.As(err, &errs) || len(errs) != len(tt.want) {
			t.Errorf("%q %v: error %v, want %q", tt.doc, tt.env, err, tt.want)
			continue
		}
		for i, want := range tt.want {
			if !strings.HasPrefix(errs[i].Error(), want) {
				t.Errorf("%q %v: error %q, want %q…", tt.doc, tt.env, errs[i], want)
			}
		}
	}
}

func TestMisspelt(t *testing.T) {
	got := Misspelt([]string{"BATON_LISTEN_UPD=:1", "BATON_LISTEN_UDP=:1", "BATON_TEST_RACE=1", "BATON_DATA=x", "BATON_MEDIA_PORT=", "LISTEN_UPD=1", "BATON_CALL_RINGS=1s", "BATON_GROUPS_SALES=alice"})
	if want := []string{"BATON_CALL_RINGS", "BATON_GROUPS_SALES", "BATON_LISTEN_UPD"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// FuzzVariable sets a field by any variable: it is taken and told of with its place, or every error names it.
func FuzzVariable(f *testing.F) {
	f.Add(0, ":5060")
	f.Add(3, "10.0.0.0/8, fd00::/8")
	f.Add(7, "20000-29999")
	f.Add(11, "\x00")
	f.Fuzz(func(t *testing.T, field int, value string) {
		all := names()
		name := all[uint(field)%uint(len(all))]
		l, err := LoadEnv("", []string{Variable(name) + "=" + value})
		var errs Errors
		if err != nil && !errors.As(err, &errs) {
			t.Fatalf("%T is not Errors: %v", err, err)
		}
		for _, e := range errs {
			if e.Text == "" {
				t.Errorf("%s=%q: empty error %+v", name, value, e)
			}
		}
		if err == nil && value != "" && l.From[name].Kind != FromVariable {
			t.Errorf("%s=%q comes from %+v", name, value, l.From[name])
		}
	})
}

// TestListsAreListed has groups and rights shown as settings with their places, and read back from them.
func TestListsAreListed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "baton.yaml")
	if err := os.WriteFile(file, []byte("groups:\n  sales: [alice, bob]\nwatch:\n  bob:\n    - '*'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := LoadEnv(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]Setting{}
	for _, s := range l.Settings() {
		shown[s.Field] = s
	}
	for name, at := range map[string]int{"groups.sales": 2, "watch.bob": 4} {
		if s := shown[name]; s.From.Line != at || len(s.Values) == 0 {
			t.Errorf("%s is shown as %+v, want what stands on line %d", name, s, at)
		}
	}
	back, err := FromSettings(l.Settings())
	if err != nil || !reflect.DeepEqual(back.Groups, l.Groups) || !reflect.DeepEqual(back.Watch, l.Watch) {
		t.Errorf("read back: %v %v, %v", back.Groups, back.Watch, err)
	}
}
