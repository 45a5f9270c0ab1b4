package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/journal"
	"baton/media"
	"baton/registrar"
	"baton/sip"
	"baton/store"
	"baton/store/storetest"
)

// live are the calls of everybody, as a test sets them.
type live struct {
	calls
	mu       sync.Mutex
	of       map[string][]call.Info
	watchers map[string]chan struct{}
	told     []string
}

func (l *live) set(user string, infos ...call.Info) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of[user] = infos
	if w := l.watchers[user]; w != nil {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

func (l *live) Calls(user string) []call.Info {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of[user]
}

func (l *live) ChangesOf(user string) (<-chan struct{}, func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := make(chan struct{}, 1)
	l.watchers[user] = w
	return w, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.watchers[user] == w {
			delete(l.watchers, user)
		}
	}
}

func (l *live) Call(id string) (call.Info, error) {
	for _, all := range l.of {
		for _, c := range all {
			if strings.HasPrefix(c.ID, id) {
				return c, nil
			}
		}
	}
	return call.Info{}, fmt.Errorf("%w: %q", call.ErrNoCall, id)
}

func (l *live) Leave(_ context.Context, r call.MoveRequest) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = append(l.ended, r.Call+" left by "+r.Seat)
	return nil
}

func (l *live) Rejoin(ctx context.Context, r call.MoveRequest) (call.MoveReport, error) {
	return l.Move(ctx, r)
}

// Report takes what is of the dialog "cid" and alice's.
func (l *live) Report(user string, dialog sip.Replaces, r media.Report) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if user != "alice" || dialog.CallID != "cid" {
		return call.ErrNoReport
	}
	l.told = append(l.told, fmt.Sprintf("%s %s %s: %s %v", dialog.CallID, dialog.ToTag, dialog.FromTag, r.By, r.Hears.Buffer))
	return nil
}

func (l *live) End(_ context.Context, id, who string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = append(l.ended, id+" by "+who)
	return nil
}

// turnServer is an ICE.
type turnServer struct{}

func (turnServer) Credentials(user string) (string, string, time.Time) {
	return "1790000000:" + user, "ice-credential", time.Date(2026, 9, 21, 0, 0, 0, 0, time.UTC)
}

// portal is the API of the HTTPS port, over TLS, on a real registrar with a real store.
type portal struct {
	t      *testing.T
	reg    *registrar.Registrar
	store  *store.Bolt
	calls  *live
	tail   *Tail
	api    *UserAPI
	server *Server
	srv    *httptest.Server
	logged *safeBuffer
	told   *safeBuffer // all answers
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newPortal(t *testing.T) *portal {
	t.Helper()
	p := &portal{t: t, calls: &live{of: map[string][]call.Info{}, watchers: map[string]chan struct{}{}}, logged: &safeBuffer{}, told: &safeBuffer{}}
	p.calls.changes = make(chan struct{}, 1)
	log := slog.New(slog.NewTextHandler(p.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if p.store, err = store.Open(t.TempDir(), log); err != nil {
		t.Fatal(err)
	}
	bind := func(user string, devices ...registrar.Device) {
		done := make(chan error, 1)
		p.store.Bind(user, devices, nil, func(err error) { done <- err })
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("devices are not stored")
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var runs sync.WaitGroup
	runs.Go(func() { _ = p.store.Run(ctx) })
	for i, name := range []string{"alice", "bob"} {
		d := storetest.Device(name, "urn:uuid:"+name, 1)
		d.Name, d.Index, d.Binding.Expires = "desk-of-"+name, 1, time.Now().Add(time.Hour)
		d.Binding.Flow.Transport, d.Binding.Flow.ID = "udp", 0
		must(t, p.store.PutUser(storetest.User(name, fmt.Sprint(101+i))))
		bind(name, d)
	}
	p.reg, err = registrar.New(registrar.Options{Store: p.store, Journal: p.store, Log: log, Realm: "baton"})
	must(t, err)
	runs.Go(func() { _ = p.reg.Run(ctx) })
	_, err = p.reg.SetPassword("alice", "right")
	must(t, err)
	p.tail = NewTail(p.store)
	p.server = NewServer(Options{Node: Node{Version: "test", Listen: map[string]string{}}, Registrar: p.reg, Calls: p.calls, Entries: p.store, Tail: p.tail, Log: log})
	p.api = NewUserAPI(UserOptions{
		Registrar: p.reg, Calls: p.calls, Entries: p.store, Tail: p.tail, ICE: turnServer{}, Version: "test", Realm: "baton",
		Codes: config.Default().Codes, Server: p.server, Log: log,
	})
	p.srv = httptest.NewUnstartedServer(documented(t, p.api))
	p.srv.Config.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	p.srv.StartTLS()
	t.Cleanup(func() {
		p.srv.CloseClientConnections()
		p.srv.Close()
		cancel()
		runs.Wait()
		p.store.Close()
	})
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ask sends a request as a page would; header is "Name: value" each, and replaces what is usual.
func (p *portal) ask(method, path, token, body string, header ...string) (int, http.Header, string) {
	p.t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, p.srv.URL+path, in)
	must(p.t, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		if r.Header.Set(name, value); name == "Host" {
			r.Host = value
		}
	}
	resp, err := p.srv.Client().Do(r)
	must(p.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(p.t, err)
	fmt.Fprintf(p.told, "%v%s\n", resp.Header, b)
	return resp.StatusCode, resp.Header, string(b)
}

// signIn gives a session of alice.
func (p *portal) signIn() Session {
	p.t.Helper()
	code, _, body := p.ask("POST", "/api/v1/session", "", `{"user":"101","password":"right","device":"Firefox"}`)
	var s Session
	if err := json.Unmarshal([]byte(body), &s); code != 200 || err != nil {
		p.t.Fatalf("sign in: %d %s", code, body)
	}
	return s
}

func (p *portal) admin() string {
	p.t.Helper()
	_, text, err := p.reg.AddAdminToken("ops", time.Time{})
	must(p.t, err)
	return text
}

// talk is a call of alice with bob, as everything of it would be shown to an administrator.
func talk() call.Info {
	up := time.Now()
	leg := func(device string) []call.LegInfo {
		return []call.LegInfo{{
			ID: "leg-of-" + device, Device: device, Index: 1, State: "up", Remote: "udp:192.0.2.99:5060", Codecs: []string{"PCMU"}, Secure: "none", Via: "udp",
			Stats: media.Stats{Local: "192.0.2.99:4000", Remote: "192.0.2.99:4002"},
		}}
	}
	return call.Info{
		ID: "k3f9aaaa", State: "up", Started: up, Up: &up, Moves: []call.MoveInfo{{
			At: up, User: "alice", From: "old", To: "desk-of-alice", How: "pull", Who: "alice", Report: &call.MoveReport{Call: "k3f9aaaa", User: "alice", To: "desk-of-alice"},
		}},
		Seats: []call.SeatInfo{{User: "alice", Number: "101", Name: "ALICE", Legs: leg("desk-of-alice")}, {User: "bob", Number: "102", Name: "BOB", Legs: leg("desk-of-bob")}},
		Ways:  []call.Way{{From: "alice", To: "bob", Quality: media.Quality{MOS: 4.3}}},
	}
}

// TestUserRoutes asks each route as a page would.
func TestUserRoutes(t *testing.T) {
	p := newPortal(t)
	p.calls.set("alice", talk())
	token, admin := p.signIn().Token, p.admin()
	for _, tt := range []struct {
		method, path, token, body string
		code                      int
		want                      string
		header                    []string
	}{
		{method: "GET", path: "/api/v1/me", token: token, code: 200, header: []string{"Host: x"}, want: `"user":"alice","display":"ALICE","numbers":["101"],"domain":"127.0.0.1","realm":"baton","node":{"version":"test"},"nodes":["wss://x/sip"],"sip":{"uri":"sip:alice@127.0.0.1","ws":"/sip"},"codes":{"pull":"*40","push":"*41"}`},
		{method: "GET", path: "/api/v1/me", token: token, code: 200, header: []string{"Host: pbx.example.org:8443"}, want: `"domain":"127.0.0.1","realm":"baton","node":{"version":"test"},"nodes":["wss://pbx.example.org:8443/sip"]`},
		{method: "GET", path: "/api/v1/me", token: token, code: 200, header: []string{"Host: [::1]:8443"}, want: `"nodes":["wss://[::1]:8443/sip"],"sip":{"uri":"sip:alice@127.0.0.1"`},
		{method: "GET", path: "/api/v1/me", token: token, code: 200, header: []string{"Host: a;b=c"}, want: `"nodes":[]`},
		{method: "GET", path: "/api/v1/me/ice", token: token, code: 400, header: []string{"Host: a;b=c"}, want: `no host's name`},
		{method: "GET", path: "/api/v1/me/ice", token: token, code: 200, header: []string{"Host: pbx.example.org:8443"}, want: `{"ice_servers":[{"urls":["turns:pbx.example.org:8443?transport=tcp"],"username":"1790000000:alice","credential":"ice-credential"}],"until":"2026-09-21T00:00:00Z"}`},
		{method: "GET", path: "/api/v1/me/ice", token: token, code: 200, header: []string{"Host: pbx.example.org"}, want: `turns:pbx.example.org:443?transport=tcp`},
		{method: "GET", path: "/api/v1/me/devices", token: token, code: 200, want: `[{"user":"alice","index":1,"name":"desk-of-alice","kind":"desk phone","here":true`},
		{method: "GET", path: "/api/v1/me/calls", token: token, code: 200, want: `"id":"k3f9aaaa"`},
		{method: "POST", path: "/api/v1/me/moves", token: token, body: `{"call":"k3","device":"1"}`, code: 200, want: `"to":"1","switch_ms":23`},
		{method: "POST", path: "/api/v1/me/moves", token: token, body: `{"call":"","device":"1"}`, code: 200, want: `"to":"1"`},
		{method: "POST", path: "/api/v1/me/moves", token: token, body: `{"call":"k3"}`, code: 400, want: `name the device`},
		{method: "POST", path: "/api/v1/me/moves", token: token, body: `{"call":"zz","device":"1"}`, code: 404, want: `no such live call`},
		{method: "POST", path: "/api/v1/me/moves", token: token, body: `{"call":"k3","device":"1","user":"bob"}`, code: 400, want: `unknown field`},
		{method: "POST", path: "/api/v1/me/moves", token: token, body: `{"device":"busy"}`, code: 409, want: `Busy Here`},
		{method: "POST", path: "/api/v1/me/moves", token: token, body: `{"device":"racing"}`, code: 409, want: `in progress`},
		{method: "POST", path: "/api/v1/me/calls/k3/end", token: token, body: `{}`, code: 204},
		{method: "POST", path: "/api/v1/me/calls/k3/end", token: token, code: 204},
		{method: "POST", path: "/api/v1/me/calls/zz/end", token: token, code: 404, want: `no such live call`},
		{method: "POST", path: "/api/v1/me/calls/k3/leave", token: token, body: `{}`, code: 204},
		{method: "POST", path: "/api/v1/me/calls/k3/rejoin", token: token, body: `{"device":"1"}`, code: 200, want: `"to":"1"`},
		{method: "POST", path: "/api/v1/me/calls/k3/rejoin", token: token, code: 200, want: `"switch_ms":23`},
		{method: "POST", path: "/api/v1/me/calls/k3/rejoin", token: token, body: `{"device":"busy"}`, code: 409, want: `Busy Here`},
		{method: "POST", path: "/api/v1/me/calls/zz/leave", token: token, code: 404, want: `no such live call`},
		{method: "POST", path: "/api/v1/me/reports", token: token, body: `{"call_id":"cid","local_tag":"mine","remote_tag":"batons","rtt_ms":9,"hears":{"codec":"opus","loss_percent":1,"buffer_ms":61}}`, code: 204},
		{method: "POST", path: "/api/v1/me/reports", token: token, body: `{"call_id":"other","local_tag":"","remote_tag":"","hears":{}}`, code: 404, want: `no live call of yours`},
		{method: "POST", path: "/api/v1/me/reports", token: token, body: `{"call_id":"cid","hears":{"loss_percent":101}}`, code: 400, want: `out of its range`},
		{method: "POST", path: "/api/v1/me/reports", token: token, body: `{"call_id":"cid","hears":{},"says":{"jitter_ms":-1}}`, code: 400, want: `out of its range`},
		{method: "POST", path: "/api/v1/me/reports", token: token, body: `{"hears":{}}`, code: 400, want: `name the dialog`},
		{method: "POST", path: "/api/v1/me/reports", token: token, body: `{"call_id":"cid","hears":{},"user":"bob"}`, code: 400, want: `unknown field`},
		{method: "POST", path: "/api/v1/me/reports", body: `{"call_id":"cid","hears":{}}`, code: 401, want: `sign in`},
		{method: "GET", path: "/api/v1/me/history", token: token, code: 200, want: `[]`},
		{method: "GET", path: "/api/v1/me/history?n=0", token: token, code: 400, want: `not between`},
		{method: "GET", path: "/api/v1/me/history?before=today", token: token, code: 400, want: `no time`},
		{method: "GET", path: "/api/v1/me", code: 401, want: `sign in`},
		{method: "GET", path: "/api/v1/me", token: "x" + token, code: 401, want: `sign in`},
		{method: "GET", path: "/api/v1/me", token: "", header: []string{"Authorization: Basic YWxpY2U6cmlnaHQ="}, code: 401, want: `sign in`},
		{method: "GET", path: "/api/v1/me", token: "", header: []string{"Cookie: token=" + token}, code: 401, want: `sign in`},
		{method: "GET", path: "/api/v1/me", token: admin, code: 403, want: `administrator's token`},
		{method: "GET", path: "/api/v1/me/events", token: admin, code: 403, want: `administrator's token`},
		{method: "GET", path: "/api/v1/me/events", code: 401, want: `sign in`},
		{method: "GET", path: "/api/v1/me/nothing", token: token, code: 404, want: `nothing here`},
		{method: "DELETE", path: "/api/v1/me", token: token, code: 404, want: `nothing here`},
		{method: "GET", path: "/api/v1/session", token: token, code: 404, want: `nothing here`},
		{method: "OPTIONS", path: "/api/v1/me/moves", header: []string{"Origin: https://evil.example", "Access-Control-Request-Method: POST"}, code: 404},
		{method: "GET", path: "/api/v1/users", token: token, code: 403, want: `administrator's token is needed`},
		{method: "GET", path: "/api/v1/calls", token: token, code: 403, want: `administrator's token is needed`},
		{method: "GET", path: "/api/v1/log", token: token, code: 403, want: `administrator's token is needed`},
		{method: "GET", path: "/api/v1/users", code: 401, want: `sign in`},
		{method: "POST", path: "/api/v1/session", body: `{"user":"alice","password":"right","device":"\u001b]0;x"}`, code: 400, want: `not valid`},
		{method: "POST", path: "/api/v1/session", body: `{"user":"alice","password":"` + strings.Repeat("x", maxSignIn) + `"}`, code: 413, want: `larger`},
		{method: "POST", path: "/api/v1/session", body: `{"user":"alice"}{}`, code: 400, want: `behind the JSON`},
		{method: "DELETE", path: "/api/v1/session", token: token, code: 204},
		{method: "GET", path: "/api/v1/me", token: token, code: 401, want: `sign in`},
	} {
		code, h, body := p.ask(tt.method, tt.path, tt.token, tt.body, tt.header...)
		if code != tt.code || !strings.Contains(body, tt.want) {
			t.Errorf("%s %s %s: %d %s, want %d with %s", tt.method, tt.path, tt.body, code, body, tt.code, tt.want)
		}
		if code != 204 && (h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff") {
			t.Errorf("%s %s: may be kept or guessed at: %v", tt.method, tt.path, h)
		}
		for name := range h {
			if strings.HasPrefix(name, "Access-Control-") || name == "Set-Cookie" {
				t.Errorf("%s %s: %s", tt.method, tt.path, name)
			}
		}
		if want := code == 401; (h.Get("WWW-Authenticate") == `Bearer realm="baton"`) != want {
			t.Errorf("%s %s: %d with WWW-Authenticate %q", tt.method, tt.path, code, h.Get("WWW-Authenticate"))
		}
	}
	mine := call.MoveRequest{Call: "k3f9aaaa", Seat: "alice", Device: "1", Who: "alice", How: "page"}
	any := mine
	any.Call, any.User = "", "alice"
	if len(p.calls.asked) < 2 || p.calls.asked[0] != mine || p.calls.asked[1] != any {
		t.Errorf("asked for %+v", p.calls.asked)
	}
	if !slices.Equal(p.calls.ended, []string{"k3f9aaaa by alice", "k3f9aaaa by alice", "k3f9aaaa left by alice"}) {
		t.Errorf("ended %q", p.calls.ended)
	}
	p.ask("GET", "/api/v1/nothing", admin, "")
	p.ask("GET", "/api/v1/debug", admin, "")
	p.tellsNoSecret("right", token, admin)
}

// tellsNoSecret greps the log, and the answers but for what a sign-in gives its own user, for what must stand in neither (S20).
func (p *portal) tellsNoSecret(secrets ...string) {
	p.t.Helper()
	sessions := regexp.MustCompile(`\{"token":"[^"]*".*\n`)
	answers := sessions.ReplaceAllString(p.told.String(), "")
	users, err := p.store.Users()
	must(p.t, err)
	for _, u := range users {
		for _, s := range u.Secrets {
			secrets = append(secrets, s.MD5, s.SHA256)
		}
	}
	tokens, err := p.store.Tokens()
	must(p.t, err)
	for _, t := range tokens {
		secrets = append(secrets, t.Hash, t.MD5, t.SHA256)
	}
	for _, s := range regexp.MustCompile(`"password":"([^"]*)"`).FindAllStringSubmatch(p.told.String(), -1) {
		secrets = append(secrets, s[1])
	}
	n := 0
	for _, secret := range secrets {
		if secret == "" || secret == "right" {
			continue
		}
		n++
		if strings.Contains(answers, secret) {
			p.t.Errorf("an answer tells %s", secret)
		}
		if strings.Contains(p.logged.String(), secret) {
			p.t.Errorf("the log tells %s", secret)
		}
	}
	if n < 5 || !strings.Contains(p.logged.String(), "signed in") {
		p.t.Errorf("only %d secrets were looked for, in a log of %d bytes", n, len(p.logged.String()))
	}
	if strings.Contains(p.logged.String(), `password`) && strings.Contains(p.logged.String(), `right`) {
		p.t.Errorf("the log tells a password:\n%s", p.logged.String())
	}
}

// TestSignInSession: what a sign-in gives is enough to log in by SIP, lives on over a restart of the registrar, and ends with a
// sign-out, another password, or the user.
func TestSignInSession(t *testing.T) {
	p := newPortal(t)
	s := p.signIn()
	if s.User != "alice" || s.SIP.URI != "sip:alice@127.0.0.1" || !strings.HasPrefix(s.SIP.Login, "alice~") || time.Until(s.Expires).Round(time.Hour) != 30*24*time.Hour {
		t.Errorf("session %+v", s)
	}
	if secret, ok := p.reg.Secret(s.SIP.Login); !ok || secret.User != "alice" || !slices.Contains(secret.Identities, "101") {
		t.Errorf("SIP login: %+v, %v", secret, ok)
	}
	again, err := registrar.New(registrar.Options{Store: p.store, Journal: p.store, Realm: "baton"})
	must(t, err)
	if _, ok := again.Bear(s.Token); !ok {
		t.Error("the token is gone after a restart")
	}
	_, err = p.reg.SetPassword("alice", "right")
	must(t, err)
	if code, _, _ := p.ask("GET", "/api/v1/me", s.Token, ""); code != 401 {
		t.Errorf("with the token of another password: %d", code)
	}
	s = p.signIn()
	must(t, p.reg.RemoveUser("alice"))
	if code, _, _ := p.ask("GET", "/api/v1/me", s.Token, ""); code != 401 {
		t.Errorf("with the token of a user who is gone: %d", code)
	}
}

// TestSignInAlike: nobody finds out which users there are by signing in (S9): status, headers and body are the same.
func TestSignInAlike(t *testing.T) {
	p := newPortal(t)
	var first string
	for _, who := range []string{"alice", "zoe", "101", "999", "", "alice~k3f9wq2a", "Zoë", "a b"} {
		body, _ := json.Marshal(SignIn{User: who, Password: "wrong"})
		code, h, answer := p.ask("POST", "/api/v1/session", "", string(body))
		h.Del("Date")
		got := fmt.Sprint(code, h, answer)
		if first == "" {
			first = got
		}
		if code != 401 || got != first {
			t.Errorf("%q gets %s, alice %s", who, got, first)
		}
	}
}

// try signs in from an address and gives the status and Retry-After.
func (p *portal) try(from, user, password string) (int, string) {
	body, _ := json.Marshal(SignIn{User: user, Password: password})
	r := httptest.NewRequest("POST", "https://127.0.0.1/api/v1/session", bytes.NewReader(body))
	r.RemoteAddr = from
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	documented(p.t, p.api).ServeHTTP(w, r)
	return w.Code, w.Header().Get("Retry-After")
}

// TestSignInLimits: guesses are held up by source and user, by source, and by user, for a user that there is and one that there is
// not alike; who has signed in from somewhere gets in from there, and the time that is told is enough.
func TestSignInLimits(t *testing.T) {
	p := newPortal(t)
	now := time.Now()
	for _, m := range []*meter{p.api.guard.tries, p.api.guard.pair, p.api.guard.source, p.api.guard.user, p.api.guard.proven} {
		m.now = func() time.Time { return now }
	}
	want := func(what string, code int, from, user, password string) string {
		t.Helper()
		got, wait := p.try(from, user, password)
		if got != code || (wait != "") != (code == 429) {
			t.Errorf("%s: %d (Retry-After %q), want %d", what, got, wait, code)
		}
		return wait
	}
	want("the owner", 200, "192.0.2.50:1", "alice", "right")
	for _, user := range []string{"alice", "zoe"} {
		for i := range 5 {
			want(fmt.Sprint("guess ", i), 401, fmt.Sprintf("192.0.2.1:%d", 1000+i), user, "wrong")
		}
		if wait := want("the sixth guess", 429, "192.0.2.1:1", user, "wrong"); wait != "30" {
			t.Errorf("%s: wait %s", user, wait)
		}
	}
	want("a right one of who guesses", 429, "192.0.2.1:1", "101", "right")
	want("the same from elsewhere", 200, "192.0.2.2:1", "alice", "right")
	now = now.Add(30 * time.Second)
	want("after the time told", 200, "192.0.2.1:1", "alice", "right")
	for i := range 29 {
		want("one guess for each", 401, "192.0.2.3:1", fmt.Sprint("user", i), "wrong")
	}
	want("the thirtieth", 401, "[::ffff:192.0.2.3]:1", "user29", "wrong")
	want("one more", 429, "192.0.2.3:1", "user30", "wrong")
	now = now.Add(time.Hour)
	for i := range 60 {
		want("a guess of many sources", 401, fmt.Sprintf("[2001:db8:0:%x::1]:1", i), "alice", "wrong")
	}
	want("from yet another", 429, "[2001:db8:0:ff::1]:1", "alice", "right")
	want("the owner, from where he was", 200, "192.0.2.50:9", "alice", "right")
	want("another user, from yet another", 401, "[2001:db8:0:ff::1]:1", "bob", "wrong")
	for range 5 {
		p.try("[2001:db8:1:1::1]:1", "bob", "wrong")
	}
	want("the same household", 429, "[2001:db8:1:1:ffff::2]:1", "bob", "wrong")
	now = now.Add(time.Hour)
	for i := range 100 {
		if code, _ := p.try("192.0.2.9:1", "alice", "right"); code != 200 {
			t.Fatalf("sign-in %d of one source: %d", i, code)
		}
	}
	want("too many right ones", 429, "192.0.2.9:1", "alice", "right")
}

// TestGuessesAtOnce: a hundred guesses made at the same time are not more than one after the other.
func TestGuessesAtOnce(t *testing.T) {
	p := newPortal(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	codes := map[int]int{}
	for range 60 {
		wg.Go(func() {
			code, _ := p.try("192.0.2.1:1", "alice", "wrong")
			mu.Lock()
			defer mu.Unlock()
			codes[code]++
		})
	}
	wg.Wait()
	if codes[401] != 5 || codes[429] != 55 {
		t.Errorf("answers by status: %v", codes)
	}
}

// TestMeterForgets: a meter does not grow with those who have been idle, and what it cannot tell apart shares one bucket.
func TestMeterForgets(t *testing.T) {
	now := time.Now()
	m := newMeter(1, time.Second)
	m.now = func() time.Time { return now }
	for i := range maxMetered {
		m.take(fmt.Sprint(i))
	}
	if m.take("one more") != 0 || m.take("and another") == 0 || len(m.when) > maxMetered+1 {
		t.Errorf("%d are told apart", len(m.when))
	}
	now = now.Add(2 * time.Second)
	if m.take("later") != 0 || len(m.when) > 2 {
		t.Errorf("%d are remembered", len(m.when))
	}
}

// TestCrossSite: what a form or script of another site can have a browser send is refused (S25), though the browser holds a session.
func TestCrossSite(t *testing.T) {
	p := newPortal(t)
	p.calls.set("alice", talk())
	s := p.signIn()
	json := `{"device":"1"}`
	for _, tt := range []struct {
		name, token, kind string
		header            []string
		code              int
	}{
		{"a form that looks like JSON", "", "text/plain", nil, 415},
		{"a form", "", "application/x-www-form-urlencoded", nil, 415},
		{"a form with files", "", "multipart/form-data; boundary=x", nil, 415},
		{"no type", "", "", nil, 415},
		{"a script without the token", "", "application/json", []string{"Origin: https://evil.example"}, 403},
		{"a form with the right type", "", "application/json", []string{"Sec-Fetch-Site: cross-site"}, 403},
		{"even with a token", s.Token, "application/json", []string{"Sec-Fetch-Site: cross-site"}, 403},
		{"a site on the same machine", s.Token, "application/json", []string{"Sec-Fetch-Site: same-site"}, 403},
		{"the page's own script", s.Token, "application/json; charset=utf-8", []string{"Sec-Fetch-Site: same-origin", "Origin: " + p.srv.URL}, 200},
		{"a program", s.Token, "application/json", nil, 200},
	} {
		header := append([]string{"Content-Type: " + tt.kind}, tt.header...)
		if code, _, body := p.ask("POST", "/api/v1/me/moves", tt.token, json, header...); code != tt.code {
			t.Errorf("%s: %d %s, want %d", tt.name, code, body, tt.code)
		}
		if code, _, _ := p.ask("POST", "/api/v1/session", "", `{"user":"alice","password":"right"}`, header...); code != tt.code {
			t.Errorf("%s, to sign in: %d, want %d", tt.name, code, tt.code)
		}
	}
	if len(p.calls.asked) != 2 {
		t.Errorf("%d moves were asked for, want 2", len(p.calls.asked))
	}
}

// TestSeenBy: of others' seats, moves and devices nothing is shown but what is meant to. It fills every field there is.
func TestSeenBy(t *testing.T) {
	whole := talk()
	mark(reflect.ValueOf(&whole.Seats[1]).Elem(), "SECRET")
	whole.Seats[1].User, whole.Seats[1].Number, whole.Seats[1].Name, whole.Seats[1].Empty = "SECRETuser", "102", "Bob", false
	whole.Seats[1].Legs[0].Codecs, whole.Seats[1].Legs[0].Secure, whole.Seats[1].Legs[0].Via, whole.Seats[1].Legs[0].State = []string{"PCMU"}, "sdes", "tcp", "up"
	whole.Seats[1].Legs[0].Stats.In.Codec, whole.Seats[1].Legs[0].Stats.Out.Codec = "PCMU", "PCMU"
	whole.Seats[1].Legs = append(whole.Seats[1].Legs, call.LegInfo{Device: "SECRETsecond"})
	whole.Ways = []call.Way{{From: "alice", To: "SECRETuser", By: "device", Device: &media.Quality{MOS: 4}}, {From: "SECRETuser", To: "alice"}}
	theirs := call.MoveInfo{At: time.Now()}
	mark(reflect.ValueOf(&theirs).Elem(), "SECRET")
	given := call.MoveInfo{User: "alice", From: "desk", To: "SECRETdevice", Report: &call.MoveReport{User: "SECRETcarol", From: "desk", To: "SECRETdevice"}}
	refused := call.MoveInfo{User: "alice", From: "desk", To: "SECRETdevice", Error: "SECRETdevice: 486"}
	failed := call.MoveInfo{User: "alice", From: "desk", To: "mobile", Error: "mobile: 486 Busy Here"}
	whole.Moves = []call.MoveInfo{theirs, given, refused, failed}

	seen := seenBy(whole, "alice", []string{"desk", "mobile"})
	text, err := json.Marshal(seen)
	must(t, err)
	if strings.Contains(string(text), "SECRET") {
		t.Errorf("alice is shown %s", text)
	}
	if !reflect.DeepEqual(seen.Seats[0], whole.Seats[0]) {
		t.Errorf("her own seat is %+v", seen.Seats[0])
	}
	far := seen.Seats[1]
	if far.Number != "102" || far.Name != "Bob" || len(far.Legs) != 1 || far.Legs[0].Secure != "sdes" || far.Legs[0].Via != "tcp" || far.Legs[0].Out == nil || far.Legs[0].Stats.In.Lost == 0 || far.Legs[0].Stats.RTT == 0 || far.Legs[0].Report == nil || far.Legs[0].Report.Hears.Buffer == 0 {
		t.Errorf("bob's seat is %+v", far)
	}
	if w := seen.Ways; len(w) != 2 || w[0].From != "alice" || w[0].To != "102" || w[1].From != "102" || w[1].To != "alice" || w[0].By != "device" || w[0].Device == nil {
		t.Errorf("ways %+v", w)
	}
	if m := seen.Moves; len(m) != 3 || m[0].From != "desk" || m[1].Error != "nobody took it" || m[2] != failed {
		t.Errorf("moves %+v", m)
	}
	if whole.Moves[1].Report.To != "SECRETdevice" {
		t.Error("the call itself was changed")
	}
	whole.Seats[1].Empty = true // it rings: on how many devices is not told
	if far := seenBy(whole, "alice", nil).Seats[1]; len(far.Legs) != 0 || !far.Empty {
		t.Errorf("a seat that rings: %+v", far)
	}
	if fromBobs := seenBy(talk(), "bob", []string{"desk-of-bob"}); len(fromBobs.Moves) != 0 || fromBobs.Seats[0].User != "" || fromBobs.Seats[0].Legs[0].Device != "" || fromBobs.Seats[1].Legs[0].Device != "desk-of-bob" {
		t.Errorf("bob is shown %+v", fromBobs)
	}
}

// mark puts a word, or a number, into every field.
func mark(v reflect.Value, word string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(word)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(424242)
	case reflect.Float64:
		v.SetFloat(1.5)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		mark(v.Elem(), word)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		mark(v.Index(0), word)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		mark(k, word)
		mark(e, word)
		v.SetMapIndex(k, e)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				mark(v.Field(i), word)
			}
		}
	}
}

// TestOthersCalls: what is not one's own is not there, whether it is or not, and what only rings for one is not one's own to end.
func TestOthersCalls(t *testing.T) {
	p := newPortal(t)
	token := p.signIn().Token
	others := talk()
	others.ID, others.Seats[0].User = "x777", "carol"
	p.calls.set("bob", others)
	for _, path := range []string{"calls/x777/end", "calls/none/end", "calls/x777/leave", "calls/none/leave"} {
		code, _, body := p.ask("POST", "/api/v1/me/"+path, token, "{}")
		if id := strings.Split(path, "/")[1]; code != 404 || body != fmt.Sprintf("{\"error\":\"no such live call: \\\"%s\\\"\"}\n", id) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	one, two := talk(), talk()
	one.ID, two.ID = "ab11", "ab22"
	given := talk() // carol gives bob to her
	given.ID, given.Seats[0].User = "cc33", "carol"
	given.Seats = append(given.Seats, call.SeatInfo{User: "alice", Empty: true, Legs: []call.LegInfo{{State: "ringing"}}})
	rings := talk()
	rings.ID, rings.Up, rings.Seats[0].Empty = "dd44", nil, true
	p.calls.set("alice", one, two, given, rings)
	for id, want := range map[string]int{"ab": 404, "ab1": 204, "": 404, "cc33": 409, "dd": 204} {
		if code, _, body := p.ask("POST", "/api/v1/me/calls/"+id+"/end", token, "{}"); code != want {
			t.Errorf("end %q: %d %s, want %d", id, code, body, want)
		}
	}
	slices.Sort(p.calls.ended)
	if !slices.Equal(p.calls.ended, []string{"ab11 by alice", "dd44 by alice"}) {
		t.Errorf("ended %q", p.calls.ended)
	}
}

// TestAdministrator: the whole API with an operator's token over HTTPS but for what the control socket has to itself; who did it is in
// the log; and it ends at once when the token is revoked.
func TestAdministrator(t *testing.T) {
	p := newPortal(t)
	token := p.admin()
	for _, tt := range []struct {
		method, path, body string
		code               int
	}{
		{"GET", "/api/v1/node", "", 200},
		{"GET", "/api/v1/users", "", 200},
		{"GET", "/api/v1/calls", "", 200},
		{"GET", "/api/v1/log", "", 200},
		{"GET", "/api/v1/tokens", "", 200},
		{"POST", "/api/v1/moves", `{"call":"k3","device":"1"}`, 200},
		{"POST", "/api/v1/tokens", `{}`, 404},
		{"GET", "/api/v1/debug", "", 404},
		{"GET", "/metrics", "", 404},
		{"GET", "/debug/pprof/", "", 404},
		{"GET", "/api/v1/../../debug/pprof/heap", "", 404},
		{"GET", "/api/v1//../../debug/pprof/heap", "", 404},
		{"GET", "/api/v1/%2e%2e/%2e%2e/debug/pprof/heap", "", 404},
	} {
		if code, _, body := p.ask(tt.method, tt.path, token, tt.body); code != tt.code {
			t.Errorf("%s %s: %d %s, want %d", tt.method, tt.path, code, body, tt.code)
		}
	}
	if len(p.calls.asked) != 1 || p.calls.asked[0].Who != "token ops" || p.calls.asked[0].How != "api" {
		t.Errorf("asked for %+v", p.calls.asked)
	}
	r := httptest.NewRequest("GET", "/metrics", nil)
	if p.api.Admin(r) {
		t.Error("who shows nothing is an administrator")
	}
	r.Header.Set("Authorization", "bearer "+token)
	if !p.api.Admin(r) {
		t.Error("an administrator is none")
	}
	r.Header.Set("Authorization", "Bearer "+p.signIn().Token)
	if p.api.Admin(r) {
		t.Error("a user is an administrator")
	}
	p.tellsNoSecret(token)
}

// remote makes the command line's client of the portal.
func (p *portal) remote(token string) *Client {
	p.t.Helper()
	c, err := DialRemote(Remote{Server: p.srv.URL, Token: token, CA: p.srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
	must(p.t, err)
	p.t.Cleanup(c.Close)
	return c
}

// TestRemote goes through the command line's client over HTTPS, and what goes wrong there.
func TestRemote(t *testing.T) {
	p := newPortal(t)
	c, ctx := p.remote(p.admin()), t.Context()
	if n, err := c.Node(ctx); err != nil || n.Version != "test" {
		t.Errorf("node %+v, %v", n, err)
	}
	if u, err := c.AddUser(ctx, NewUser{Name: "carol"}); err != nil || u.Password == "" {
		t.Errorf("added %+v, %v", u, err)
	}
	session := p.signIn()
	all, err := c.Tokens(ctx)
	if err != nil || len(all) != 2 || all[1].User != "alice" || all[1].Name != "Firefox" || all[0].Expires != nil || all[1].Expires == nil {
		t.Errorf("tokens %+v, %v", all, err)
	}
	if n, err := c.RevokeTokens(ctx, "101"); err != nil || n.Revoked != 1 {
		t.Errorf("revoked %+v, %v", n, err)
	}
	if code, _, _ := p.ask("GET", "/api/v1/me", session.Token, ""); code != 401 {
		t.Errorf("with a revoked token: %d", code)
	}
	var failed *Error
	if _, err := c.AddToken(ctx, WantToken{}); !errors.As(err, &failed) || failed.Status != 404 {
		t.Errorf("a token made over the network: %v", err)
	}
	if err := c.RevokeToken(ctx, "nobody"); !errors.As(err, &failed) || failed.Status != 404 {
		t.Errorf("revoke what is not there: %v", err)
	}
	started := make(chan struct{})
	over := make(chan error, 1)
	go func() {
		over <- c.Follow(ctx, journal.Query{}, func() error { close(started); return nil }, func(Entry) error { return nil })
	}()
	<-started
	must(t, c.RevokeToken(ctx, all[0].ID)) // its own
	select {
	case <-over:
	case <-time.After(10 * time.Second):
		t.Error("a stream goes on after its token was revoked")
	}
	if _, err := c.Node(ctx); !errors.As(err, &failed) || failed.Status != 401 {
		t.Errorf("with a revoked token: %v", err)
	}

	untrusted, err := DialRemote(Remote{Server: p.srv.URL, Token: "x"})
	must(t, err)
	if _, err := untrusted.Node(ctx); err == nil || !strings.Contains(err.Error(), "--ca") {
		t.Errorf("with an unknown CA: %v", err)
	}
	p.srv.Listener.Close()
	p.srv.CloseClientConnections()
	if _, err := c.Node(ctx); !errors.Is(err, ErrNoNode) || strings.Contains(err.Error(), "serve --data") {
		t.Errorf("nobody there: %v", err)
	}
	for _, bad := range []Remote{
		{Server: "http://x", Token: "t"},
		{Server: "x:8443", Token: "t"},
		{Server: "https://x/api", Token: "t"},
		{Server: "https://x"},
		{Server: "https://u:p@x", Token: "t"},
		{Server: "https://x", Token: "a\r\nHost: y"},
		{Server: "", Token: "t"},
	} {
		if _, err := DialRemote(bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// TestTokenGoesNowhereElse: a server that redirects does not have the token sent on.
func TestTokenGoesNowhereElse(t *testing.T) {
	var got string
	other := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get("Authorization") + "x" }))
	defer other.Close()
	first := httptest.NewTLSServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer first.Close()
	c, err := DialRemote(Remote{Server: first.URL, Token: "t", CA: first.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
	must(t, err)
	defer c.Close()
	if _, err := c.Node(t.Context()); err == nil || got != "" {
		t.Errorf("%v; the other server got %q", err, got)
	}
}

// TestDisplayNames: a caller's name that a browser or terminal would obey arrives as text (S19).
func TestDisplayNames(t *testing.T) {
	p := newPortal(t)
	s := p.signIn()
	evil := "<img src=x onerror=alert(1)>\x1b]0;owned\x07\r\nX: y\u202e"
	c := talk()
	c.Seats[1].Name = evil
	p.calls.set("alice", c)
	_, h, body := p.ask("GET", "/api/v1/me/calls", s.Token, "")
	if strings.ContainsAny(body, "<>\x1b\x07\r") || h.Get("Content-Type") != "application/json" {
		t.Errorf("%v %q", h, body)
	}
	var got []call.Info
	if err := json.Unmarshal([]byte(body), &got); err != nil || got[0].Seats[1].Name != evil {
		t.Errorf("the name is %q, %v", got[0].Seats[1].Name, err)
	}
	var out bytes.Buffer
	event(&out, "calls", got)
	if strings.Count(out.String(), "\n") != 3 || strings.ContainsAny(out.String(), "<\x1b\r") {
		t.Errorf("an event is %q", out.String())
	}
	before := len(p.logged.String())
	p.ask("POST", "/api/v1/session", "", `{"user":"x\n time=now level=INFO msg=\"signed in\" user=root \u001b]0;x","password":"y"}`)
	line := p.logged.String()[before:]
	if strings.Count(line, "\n") != 1 || strings.Contains(line, "\x1b") {
		t.Errorf("the log says %q", line)
	}
	if err := refuse(400, "%v", sip.ErrFlowGone); strings.Contains(err.Error(), "\n") {
		t.Error(err)
	}
}
