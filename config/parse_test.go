package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestDefaults(t *testing.T) {
	for _, doc := range []string{"", "\n", "# only a comment\n", "---\n", "listen:\n", "media:\n  ports:\n"} {
		c, err := Parse("baton.yaml", []byte(doc))
		if err != nil {
			t.Errorf("%q: %v", doc, err)
		}
		if !reflect.DeepEqual(c, Default()) {
			t.Errorf("%q: %+v is not the default", doc, c)
		}
	}
}

func TestEveryField(t *testing.T) {
	c, err := Parse("baton.yaml", []byte(`
domain: example.org
data: /srv/baton
listen:
  udp: 10.0.0.1:5070
  tcp: "[::1]:5070"
  tls: off
  web: :443
  metrics: 127.0.0.1:9464
tls:
  certificate: /etc/ssl/baton.pem
  key: /etc/ssl/baton.key
  acme:
    names: [sip.example.org, Example.org]
    email: admin@example.org
    directory: https://ca.example.org/directory
    agree: true
connections: {per_source: 300, total: 2000}
limits: {stranger: 1, strangers: 0, source: 3, user: 4, calls: 5, cpu: 60, memory: 700}
advertise:
  sip: sip.example.org
  media: 203.0.113.7
  local: [10.0.0.0/8, fd00::/8]
media: {address: 10.0.0.1, ports: 30000-30999, webrtc: 9443, mode: relay, return_to_direct: false, fastpath: auto, local_networks: [10.1.0.0/16]}
web:
  origins: [https://phone.example.org:443, HTTP://localhost:5173]
  url: https://Node1.example.org:443
codes:
  pull: "*50"
  push: '*51'
  pickup: "*52"
  companion: "*53"
  leave: "*54"
  forward_always: "*71"
  forward_busy: "*72"
  forward_no_answer: "*73"
  forward_away: "*74"
  forward_off: "*75"
  dnd: "*76"
  dnd_off: "*77"
groups:
  sales: [alice, 102]
  "3": []
watch:
  bob: ["@sales", 104]
  "@sales": "*"
call:
  ring: 45s
  vanished: 20s
  hold_ping: 2m
  session: off
  session_min: 2m
  wait: 10m
  capacity: 400
  per_user: 7
  encryption: required
  on_stop: end
  announce: false
store:
  redis: rediss://baton:secret@redis.example.org/2
  password_file: /etc/baton/redis
  ca: /etc/baton/ca.pem
  prefix: "office:"
  degraded: refuse
cluster:
  name: node1
  listen: 10.0.0.1:5080
  peers: ["10.0.0.2:5080", "node3:5080"]
  key_file: /etc/baton/cluster.key
log:
  level: debug
  format: json
  keep: 30d
  max_entries: 5000
registrar:
  unreachable: 2h
`))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Domain: "example.org", Data: "/srv/baton",
		Listen: Listen{UDP: "10.0.0.1:5070", TCP: "[::1]:5070", TLS: "off", Web: ":443", Metrics: "127.0.0.1:9464"},
		TLS: TLS{
			Certificate: "/etc/ssl/baton.pem", Key: "/etc/ssl/baton.key",
			ACME: ACME{Names: []string{"sip.example.org", "example.org"}, Email: "admin@example.org", Directory: "https://ca.example.org/directory", Agree: true},
		},
		Connections: Connections{PerSource: 300, Total: 2000},
		Limits:      Limits{Stranger: 1, Source: 3, User: 4, Calls: 5, CPU: 60, Memory: 700},
		Advertise: Advertise{
			SIP: "sip.example.org", Media: "203.0.113.7",
			Local: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
		},
		Media: Media{Address: "10.0.0.1", Ports: PortRange{30000, 30999}, WebRTC: 9443, Mode: "relay", Fastpath: "auto", LocalNetworks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}},
		Web:   Web{Origins: []string{"https://phone.example.org", "http://localhost:5173"}, URL: "https://node1.example.org"},
		Codes: Codes{
			Pull: "*50", Push: "*51", Pickup: "*52", Companion: "*53", Leave: "*54", ForwardAlways: "*71", ForwardBusy: "*72", ForwardNoAnswer: "*73", ForwardAway: "*74", ForwardOff: "*75",
			DoNotDisturb: "*76", DoNotDisturbOff: "*77",
		},
		Groups: Lists{"sales": {"alice", "102"}, "3": {}},
		Watch:  Lists{"bob": {"@sales", "104"}, "@sales": {"*"}},
		Call:   Call{Ring: 45 * time.Second, Vanished: 20 * time.Second, HoldPing: 2 * time.Minute, SessionMin: 2 * time.Minute, Capacity: 400, PerUser: 7, Wait: 10 * time.Minute, Encryption: "required", OnStop: "end"},
		Store: Store{
			Redis: "rediss://baton:secret@redis.example.org/2", PasswordFile: "/etc/baton/redis", CA: "/etc/baton/ca.pem", Prefix: "office:", Degraded: "refuse",
		},
		Cluster: Cluster{
			Name: "node1", Listen: "10.0.0.1:5080", Peers: []string{"10.0.0.2:5080", "node3:5080"}, KeyFile: "/etc/baton/cluster.key",
		},
		Log: Log{Level: "debug", Format: "json", Keep: 30 * 24 * time.Hour, MaxEntries: 5000},

		Registrar: Registrar{Unreachable: 2 * time.Hour},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

// TestErrors wants each error at its line, with field and value.
func TestErrors(t *testing.T) {
	tests := []struct {
		doc  string
		want []string // beginning of each line
	}{
		{"domian: x\n", []string{`baton.yaml:1: domian: unknown field; here stand: advertise, call, cluster, codes, connections,`}},
		{"cluster:\n  name: a b\n", []string{`baton.yaml:2: cluster.name: "a b" is no name of a node`}},
		{"cluster:\n  peers: [10.0.0.2]\n", []string{`baton.yaml:2: cluster.peers: "10.0.0.2" is no host:port of a node; want addresses as in ["10.0.0.2:5080",`}},
		{"cluster:\n  listen: :5080\n", []string{`baton.yaml:2: store.redis: nodes of a cluster share users, devices and calls; give the Redis`, `baton.yaml:2: cluster.key_file: nodes trust each other by it alone; make one with "baton cluster key FILE"`}},
		{"cluster:\n  peers: [10.0.0.2:5080]\n", []string{`baton.yaml:2: cluster.peers: cluster.listen is off; give the port`}},
		{"cluster:\n  listen: :5060\n  key_file: k\nstore: {redis: redis://a}\n", []string{
			`baton.yaml:2: cluster.listen: ":5060" is also listen.tcp; give the nodes a port of their own`,
			`baton.yaml:2: cluster.listen: ":5060" is also listen.udp; give the nodes a port of their own`,
		}},
		{"groups:\n  Sales: [alice]\n", []string{`baton.yaml:2: groups.Sales: "Sales" is no name of a group`}},
		{"groups:\n  sales: [al ice]\n", []string{`baton.yaml:2: groups.sales: "al ice" is no user's name or number; want a list of users`}},
		{"groups:\n  sales: {a: b}\n", []string{`baton.yaml:2: groups.sales: "{a: b}" is not a list of users`}},
		{"groups: [alice]\n", []string{`baton.yaml:1: groups: "[alice]" is not a list of fields`}},
		{"groups:\n  sales: [alice]\nwatch:\n  bob: ['@sale']\n", []string{`baton.yaml:4: watch.bob: there is no group "sale"`}},
		{"listen:\n  upd: :5060\n", []string{`baton.yaml:2: listen.upd: unknown field; here stand: metrics, tcp, tls, udp, web`}},
		{"log:\n  keep: 90days\n", []string{`baton.yaml:2: log.keep: "90days" is no duration`}},
		{"log:\n  keep: -3d\n  max_entries: 10\n", []string{`baton.yaml:2: log.keep: "-3d" is no number of days or weeks; want as in 90d`, `baton.yaml:3: log.max_entries: `}},
		{"log:\n  keep: 20m\n", []string{`baton.yaml:2: log.keep: 20m is out of range`}},
		{"log:\n  level: loud\n  format: xml\n", []string{`baton.yaml:2: log.level: "loud" is not known; want debug,`, `baton.yaml:3: log.format: "xml" is not`}},
		{"media:\n  ports: 20000\n", []string{`baton.yaml:2: media.ports: "20000" is no range`}},
		{"media:\n  ports: 80-90\n", []string{`baton.yaml:2: media.ports: "80-90" begins below 1024`}},
		{"media:\n  ports: 30001-30002\n", []string{`baton.yaml:2: media.ports: "30001-30002" holds no pair`}},
		{"media:\n  ports: 30000-70000\n", []string{`baton.yaml:2: media.ports: "30000-70000" is no range`}},
		{"media:\n  webrtc: 70000\n", []string{`baton.yaml:2: media.webrtc: 70000 is out of range`}},
		{"media:\n  ports: [20000, 30000]\n", []string{`baton.yaml:2: media.ports: "[20000, 30000]" is not a range`}},
		{"media:\n  address: 0.0.0.0\n", []string{`baton.yaml:2: media.address: "0.0.0.0" is no address`}},
		{"web:\n  origins: [phone.example.org]\n", []string{`baton.yaml:2: web.origins: "phone.example.org" is no origin; want origins as in`}},
		{"web:\n  origins: [https://phone.example.org/]\n", []string{`baton.yaml:2: web.origins: "https://phone.example.org/" is no origin`}},
		{"web:\n  origins: [https://a@phone.example.org]\n", []string{`baton.yaml:2: web.origins: "https://a@phone.example.org" is no origin`}},
		{"web:\n  url: http://node1.example.org\n", []string{`baton.yaml:2: web.url: "http://node1.example.org" is no page by HTTPS`}},
		{"web:\n  origins: ['*']\n", []string{`baton.yaml:2: web.origins: "*" is no origin`}},
		{"web:\n  origins: ['null']\n", []string{`baton.yaml:2: web.origins: "null" is no origin`}},
		{"call:\n  ring: 30\n", []string{`baton.yaml:2: call.ring: "30" is no duration (30s, 2m); want 1s to 1h`}},
		{"call:\n  ring: 2h\n", []string{`baton.yaml:2: call.ring: 2h is out of range`}},
		{"call: 30s\n", []string{`baton.yaml:1: call: "30s" is not a list of fields`}},
		{"domain: {a: b}\n", []string{`baton.yaml:1: domain: "{a: b}" is not a host name`}},
		{"domain: under_score\n", []string{`baton.yaml:1: domain: "under_score" is no host`}},
		{"listen:\n  tcp: 5060\n", []string{`baton.yaml:2: listen.tcp: "5060" is no host:port`}},
		{"listen:\n  tcp: :70000\n", []string{`baton.yaml:2: listen.tcp: "70000" is no port`}},
		{"listen:\n  tcp: :5061\n", []string{`baton.yaml:2: listen.tls: ":5061" is also listen.tcp`}},
		{"listen:\n  web: :5060\n", []string{`baton.yaml:2: listen.web: ":5060" is also listen.tcp; give HTTPS a port of its own`}},
		{"listen:\n  tls: :8443\n", []string{`baton.yaml:2: listen.web: ":8443" is also listen.tls`}},
		{"tls:\n  acme: {names: [10.0.0.1]}\n", []string{`baton.yaml:2: tls.acme.names: "10.0.0.1" is no host name that others`}},
		{"tls:\n  acme: {names: ['*.example.org']}\n", []string{`baton.yaml:2: tls.acme.names: "*.example.org" is no host name`}},
		{"tls:\n  acme: {names: [baton], email: nobody, directory: 'http://x'}\n", []string{
			`baton.yaml:2: tls.acme.names: "baton" is no`, `baton.yaml:2: tls.acme.email: "nobody" is no mail`, `baton.yaml:2: tls.acme.directory: "http://x" is no https URL`,
		}},
		{"tls:\n  acme:\n    names: [a.example.org]\n", []string{`baton.yaml:3: tls.acme.agree: read the terms of service of https://`}},
		{"tls:\n  acme:\n    names: [a.example.org]\n    agree: true\nlisten:\n  web: off\n", []string{`baton.yaml:6: tls.acme.names: listen.web is off`}},
		{"listen: {udp: off, tcp: off, tls: off}\n", []string{`baton.yaml:1: listen: every listener is off`}},
		{"tls:\n  key: a.key\n", []string{`baton.yaml:2: tls: certificate and key belong together`}},
		{"connections:\n  per_source: 0\n  total: many\n", []string{`baton.yaml:2: connections.per_source: 0 is out of range`, `baton.yaml:3: connections.total: "many" is no number`}},
		{"advertise:\n  local: [10.0.0.1]\n", []string{`baton.yaml:2: advertise.local: "10.0.0.1" is no network`}},
		{"codes:\n  forward_busy: \"*211\"\n", []string{
			`baton.yaml:2: codes: forward_always "*21" and forward_busy "*211" begin alike`,
			`baton.yaml:2: codes: forward_always "#21" and forward_busy "#211" begin alike`,
		}},
		{"codes:\n  pull: \"#22\"\n", []string{`baton.yaml:2: codes: pull "#22" and forward_off "#22" begin alike`}},
		{"codes:\n  dnd_off: \"#67\"\n", []string{`baton.yaml:2: codes: dnd_off "#67" and forward_busy "#67" begin alike`}},
		{"call:\n  session: 60s\n", []string{`baton.yaml:2: call.session: 60s is out of range; want 90s to 24h, or off`}},
		{"call:\n  session_min: 30s\n", []string{`baton.yaml:2: call.session_min: 30s is out of range`}},
		{"call:\n  announce: sometimes\n", []string{`baton.yaml:2: call.announce: `}},
		{"call:\n  on_stop: hangup\n", []string{`baton.yaml:2: call.on_stop: "hangup" is not known; want keep or end`}},
		{"call:\n  encryption: true\n", []string{`baton.yaml:2: call.encryption: "true" is not known; want optional or required`}},
		{"codes:\n  pull: \"*4\"\n", []string{`baton.yaml:2: codes: pull "*4" and push "*41" begin alike`, `baton.yaml:2: codes: pull "*4" and companion "*43" begin alike`}},
		{"codes:\n  pickup: \"*401\"\n", []string{`baton.yaml:2: codes: pull "*40" and pickup "*401" begin alike`}},
		{"codes:\n  push: pull\n", []string{`baton.yaml:2: codes.push: "pull" cannot be dialled`}},
		{"domain: a\n\ndomain: b\n", []string{`baton.yaml:3: `}},
		{"domain: a\n---\ndomain: b\n", []string{`baton.yaml:3: a second YAML document`}},
		{"- a\n", []string{`baton.yaml:1: "- a" is not a list of fields`}},
		{"log:\n\tlevel: info\n", []string{`baton.yaml:2: `}},
		{"log: [\n", []string{`baton.yaml:1: `}},
		{"store:\n  redis: redis://localhost\n", []string{`baton.yaml:2: store.redis: needs cluster.key_file, with which secrets are sealed; make one with "baton cluster key FILE"`}},
		{"cluster: {key_file: k}\nstore:\n  redis: http://a:geheim@b\n  prefix: '{x}'\n  degraded: maybe\n", []string{
			`baton.yaml:3: store.redis: has no scheme redis://`, `baton.yaml:4: store.prefix: prefix is empty or`, `baton.yaml:5: store.degraded: "maybe" is not known; want serve, alone or refuse`,
		}},
		{"store:\n  ca: ca.pem\n", []string{`baton.yaml:2: store.ca: is of Redis, but store.redis is not set`}},
		{"cluster:\n  name: a b\n", []string{`baton.yaml:2: cluster.name: "a b" is no name of a node`}},
		// Several at once, in the order of the lines.
		{"x: 1\nmedia:\n  ports: no\ncall:\n  ring: never\n  huh: 1\n", []string{
			`baton.yaml:1: x: unknown`, `baton.yaml:3: media.ports: "no"`, `baton.yaml:5: call.ring: "never"`, `baton.yaml:6: call.huh: unknown`,
		}},
	}
	for _, tt := range tests {
		_, err := Parse("baton.yaml", []byte(tt.doc))
		var errs Errors
		if !errors.As(err, &errs) {
			t.Errorf("%q: error %v, want %q", tt.doc, err, tt.want)
			continue
		}
		lines := strings.Split(err.Error(), "\n")
		if len(lines) != len(tt.want) {
			t.Errorf("%q: %d errors, want %d:\n%v", tt.doc, len(lines), len(tt.want), err)
			continue
		}
		for i, want := range tt.want {
			if !strings.HasPrefix(lines[i], want) {
				t.Errorf("%q: error %q, want %q…", tt.doc, lines[i], want)
			}
		}
	}
}

// TestCodeThatEndsNothing takes a code that would end one which has no end.
func TestCodeThatEndsNothing(t *testing.T) {
	if _, err := Parse("baton.yaml", []byte("codes:\n  pull: \"#27\"\n")); err != nil {
		t.Error(err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(filepath.Join(dir, "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("a directory was read as a configuration")
	}
	name := filepath.Join(dir, "b.yaml")
	if err := os.WriteFile(name, []byte("log: {level: warn}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(name); err != nil || c.Log.Level != "warn" {
		t.Errorf("level %q, error %v", c.Log.Level, err)
	}
}

// FuzzParse wants no document to break the reading, and every error to have one line.
func FuzzParse(f *testing.F) {
	for _, doc := range []string{"", "a: b", "listen:\n  udp: :5060\n", "media: {ports: 1-2}", "&a b: *a", "? x\n: y", "domain: !!str x", "<<: {a: b}", "call: |\n  x\n"} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		_, err := Parse("f", doc)
		var errs Errors
		if err != nil && !errors.As(err, &errs) {
			t.Fatalf("%T is not Errors: %v", err, err)
		}
		for _, e := range errs {
			if e.Line < 0 || e.Text == "" {
				t.Fatalf("empty error %+v", e)
			}
		}
	})
}
