package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/test/phone"
	"baton/web"
)

// house is a whole node in this process, with its users' API over TLS.
type house struct {
	t      *testing.T
	n      *node
	url    string
	client *http.Client
	ca     string // file
	logged output
	told   output // all answers of the API
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t}
	file := write(t, local)
	c, err := config.LoadEnv(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Data = shortDir(t)
	h.n, err = openNode(c, slog.New(slog.NewTextHandler(&h.logged, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var runs sync.WaitGroup
	ready := make(chan struct{})
	runs.Go(func() {
		if err := h.n.run(ctx, func() error { close(ready); return nil }); err != nil {
			t.Errorf("node: %v", err)
		}
	})
	<-ready
	srv := httptest.NewUnstartedServer(h.n.userAPI(h.n.api()))
	srv.Config.ErrorLog = slog.NewLogLogger(h.n.log.Handler(), slog.LevelDebug)
	srv.StartTLS()
	h.url, h.client = srv.URL, srv.Client()
	h.ca = filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(h.ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		cancel()
		runs.Wait()
		if t.Failed() {
			t.Logf("the node said\n%s", h.logged.String())
		}
	})
	return h
}

// ask sends a request of a page and reads its answer into v, if it is not nil.
func (h *house) ask(method, path, token string, body, v any) int {
	h.t.Helper()
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			h.t.Fatal(err)
		}
		in = bytes.NewReader(b)
	}
	r, err := http.NewRequest(method, h.url+"/api/v1/"+path, in)
	if err != nil {
		h.t.Fatal(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := h.client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	if path != "session" {
		fmt.Fprintf(&h.told, "%s\n", answer)
	}
	if v != nil && resp.StatusCode == 200 {
		if err := json.Unmarshal(answer, v); err != nil {
			h.t.Fatalf("%s %s: %s: %v", method, path, answer, err)
		}
	}
	return resp.StatusCode
}

func (h *house) signIn(user, password string) web.Session {
	h.t.Helper()
	var s web.Session
	if code := h.ask("POST", "session", "", web.SignIn{User: user, Password: password, Device: "test"}, &s); code != 200 {
		h.t.Fatalf("sign in %s: %d", user, code)
	}
	return s
}

// phone registers a phone that answers by itself, with a login and password.
func (h *house) phone(user, login, password, model, display string) *phone.Phone {
	h.t.Helper()
	ph, err := phone.New(phone.Config{
		User: user, Login: login, Password: password, Server: h.n.agent.Addrs()["tcp"], Transport: "tcp", Display: display,
		Addr: netip.MustParseAddr("127.0.0.1"), UserAgent: model, Instance: "urn:uuid:" + strings.ToLower(model),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(ph.Close)
	ph.Behave(phone.AutoAnswer)
	if m, err := ph.Register(time.Minute); err != nil {
		h.t.Fatalf("register %s: %v %v", model, m, err)
	}
	return ph
}

// TestUserAPI has a user sign in on a page whose phone logs in with the session, call, be called by a name that a browser or terminal
// would obey, move the call by the page and be shown nothing that is the other's; an operator looks on by the command line over HTTPS;
// and the session ends with the device. Nothing secret is in the log or in an answer.
func TestUserAPI(t *testing.T) {
	h := newHouse(t)
	for _, u := range []web.NewUser{{Name: "alice", Numbers: []string{"101"}, Display: "Alice", Password: "pw-of-alice"}, {Name: "bob", Numbers: []string{"102"}, Display: "Bob", Password: "pw-of-bob"}} {
		local, err := web.Dial(h.n.config.Data)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := local.AddUser(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		local.Close()
	}
	made, errs, code := run(t, "", "token", "create", "--admin", "--name", "test", "--data", h.n.config.Data)
	if code != 0 || !strings.Contains(errs, "shown this once") {
		t.Fatalf("token create: %d %s%s", code, made, errs)
	}
	admin := strings.TrimSpace(made)
	alice, bob := h.signIn("101", "pw-of-alice"), h.signIn("bob", "pw-of-bob")
	h.phone("alice", "", "pw-of-alice", "Desk", "")
	page := h.phone("alice", alice.SIP.Login, alice.SIP.Password, "Page", "")
	evil := `<img src=x onerror=alert(1)>` + "\u202e"
	bobs := h.phone("bob", bob.SIP.Login, bob.SIP.Password, "Secretphone", evil)

	var devices []web.Device
	if h.ask("GET", "me/devices", alice.Token, nil, &devices); len(devices) != 2 || !devices[0].Here || devices[1].Key != "urn:uuid:page" {
		t.Fatalf("devices %+v", devices)
	}
	out, err := bobs.Dial("101")
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Await(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	var calls []call.Info
	waitFor(t, "the call to be up", func() bool {
		h.ask("GET", "me/calls", alice.Token, nil, &calls)
		return len(calls) == 1 && calls[0].State == "up"
	})
	seats := calls[0].Seats
	if len(seats) != 2 || seats[0].User != "" || seats[0].Number != "102" || seats[1].User != "alice" || seats[1].Legs[0].Secure != "none" {
		t.Fatalf("alice is shown %+v", seats)
	}
	to := map[string]string{"desk": "2", "page": "1"}[seats[1].Legs[0].Device]
	var report call.MoveReport
	if code := h.ask("POST", "me/moves", alice.Token, web.MyMove{Device: to}, &report); code != 200 || report.Far.Lost != 0 {
		t.Fatalf("move: %d %+v", code, report)
	}
	h.ask("GET", "me/calls", alice.Token, nil, &calls)
	if m := calls[0].Moves; len(m) != 1 || m[0].How != "page" || m[0].Who != "alice" {
		t.Errorf("moves %+v", m)
	}
	h.byCommand(admin, calls[0].ID)
	if strings.Contains(h.told.String(), "secretphone") || strings.Contains(h.told.String(), "<img") {
		t.Errorf("alice was told %s", h.told.String())
	}
	if code := h.ask("POST", "me/moves", bob.Token, web.MyMove{Call: calls[0].ID, Device: "page"}, nil); code != 404 {
		t.Errorf("bob moves alice's seat to her device: %d", code)
	}

	if code := h.ask("POST", "me/calls/"+calls[0].ID+"/end", alice.Token, struct{}{}, nil); code != 204 {
		t.Errorf("end: %d", code)
	}
	for token, want := range map[string]string{alice.Token: "in 102 Bob", bob.Token: "out 101 Alice"} {
		var past []web.Past
		waitFor(t, "the history to have it", func() bool {
			h.ask("GET", "me/history", token, nil, &past)
			return len(past) == 1
		})
		if got := fmt.Sprint(past[0].Kind, " ", past[0].Peer, " ", past[0].Name); got != want || past[0].Duration <= 0 {
			t.Errorf("history %+v, want %s", past, want)
		}
	}
	h.signOut(alice, page)
	h.tellsNothing(admin, alice.Token, bob.Token, alice.SIP.Password, bob.SIP.Password, "pw-of-alice", "pw-of-bob")
}

// byCommand uses the command line over HTTPS.
func (h *house) byCommand(token, id string) {
	t := h.t
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	on := func(args ...string) []string {
		return append(args, "--server", h.url, "--token-file", file, "--ca", h.ca)
	}
	wants(t, 0, id+` +up`, on("calls")...)
	wants(t, 0, `(?s)"number": "102"`, on("calls", "--json")...)
	wants(t, 0, `(?m)^alice +1 +desk`, on("devices")...)
	wants(t, 0, `(?s)^user +carol\n.*shown this once`, on("user", "add", "carol")...)
	wants(t, 0, `(?m)^TOKEN +OF +NAME +MADE +USED +EXPIRES\n\S+ +\(administrator\) +test .*\n\S+ +alice +test `, on("token", "list")...)
	wants(t, 2, `on the node's own machine`, on("token", "create", "--admin")...)
	wants(t, 1, `--ca`, "calls", "--server", h.url, "--token-file", file, "--data", t.TempDir())
	wants(t, 1, `token is missing or not good`, "calls", "--server", h.url, "--token", "x", "--ca", h.ca)
	wants(t, 2, `wants a token`, "calls", "--server", h.url, "--ca", h.ca)
	wants(t, 2, `in clear`, "calls", "--server", "http://127.0.0.1:1", "--token", "x", "--ca", h.ca)
	wants(t, 3, `no node is running at https://127.0.0.1:1`, "calls", "--server", "https://127.0.0.1:1", "--token", "x", "--ca", h.ca)
	out, _, _ := run(t, "", on("call", "show", id)...)
	if strings.Contains(out, "\u202e") || !strings.Contains(out, "bob") {
		t.Errorf("call show: %q", out)
	}
	cmd := baton(t, "node")
	cmd.Args = []string{cmd.Path, "log", "-n", "1"}
	cmd.Env = append(cmd.Env, "BATON_SERVER="+h.url, "BATON_TOKEN="+token, "BATON_CA="+h.ca)
	if said, err := cmd.CombinedOutput(); err != nil || len(said) == 0 {
		t.Errorf("by variables: %v %s", err, said)
	}
}

// signOut ends a session, and with it what is registered by it.
func (h *house) signOut(s web.Session, page *phone.Phone) {
	t := h.t
	t.Helper()
	if code := h.ask("DELETE", "session", s.Token, nil, nil); code != 204 {
		t.Errorf("sign out: %d", code)
	}
	if code := h.ask("GET", "me", s.Token, nil, nil); code != 401 {
		t.Errorf("signed out, and still served: %d", code)
	}
	waitFor(t, "the page to be away", func() bool {
		d, err := h.n.registrar.Find("alice", "urn:uuid:page")
		return err == nil && !d.Here() && d.Reason == "signed out"
	})
	if m, err := page.Register(time.Minute); err == nil {
		t.Errorf("it registers again: %v", m)
	}
}

// tellsNothing greps the log and the answers for secrets (S20).
func (h *house) tellsNothing(secrets ...string) {
	users, err := h.n.store.Users()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, u := range users {
		for _, s := range u.Secrets {
			secrets = append(secrets, s.MD5, s.SHA256)
		}
	}
	for _, secret := range secrets {
		if secret != "" && strings.Contains(h.told.String(), secret) {
			h.t.Errorf("an answer tells %s", secret)
		}
		if secret != "" && strings.Contains(h.logged.String(), secret) {
			h.t.Errorf("the log tells %s", secret)
		}
	}
	if !regexp.MustCompile(`msg="signed in" user=alice`).MatchString(h.logged.String()) {
		h.t.Error("the log does not tell who signed in")
	}
}

func TestAhead(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"90d": "2027-02-24T12:00:00Z", "2w": "2026-12-10T12:00:00Z", "24h": "2026-11-27T12:00:00Z", "2027-01-31": "2027-01-31T00:00:00Z", "never": "0001-01-01T00:00:00Z",
		"": "", "0d": "", "-1d": "", "-5h": "", "2020-01-01": "", "soon": "", "99999999d": "", "d": "",
	} {
		at, err := ahead(text, now)
		if got := at.Format(time.RFC3339); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%q: %s, %v; want %q", text, got, err, want)
		}
	}
}

// TestTokenWithoutNode makes, lists and revokes tokens on the data directory of a node that does not run.
func TestTokenWithoutNode(t *testing.T) {
	dir := shortDir(t)
	wants(t, 0, `password`, "user", "add", "carol", "--data", dir)
	wants(t, 2, `say --admin`, "token", "create", "--data", dir)
	wants(t, 2, `no time to come`, "token", "create", "--admin", "--expires", "yesterday", "--data", dir)
	made := wants(t, 0, `^[\w-]{43}\ntoken \w{8}, good until it is revoked; it is shown this once\n$`, "token", "create", "--admin", "--expires", "never", "--data", dir)
	var all []web.Token
	if err := json.Unmarshal([]byte(wants(t, 0, `"kind": "admin"`, "token", "list", "--json", "--data", dir)), &all); err != nil || len(all) != 1 || all[0].Expires != nil {
		t.Fatalf("%+v, %v", all, err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, name := range files {
		if b, err := os.ReadFile(name); err == nil && bytes.Contains(b, []byte(strings.TrimSpace(made))) {
			t.Errorf("%s holds the token", name)
		}
	}
	wants(t, 2, `one token, or --user`, "token", "revoke", "--data", dir)
	wants(t, 0, `^0 tokens revoked\n$`, "token", "revoke", "--user", "carol", "--data", dir)
	wants(t, 4, `not found`, "token", "revoke", "zzzzzzzz", "--data", dir)
	wants(t, 0, `^$`, "token", "revoke", all[0].ID, "--data", dir)
	wants(t, 0, `^no tokens`, "token", "list", "--data", dir)
}
