package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/journal"
	"baton/registrar"
	"baton/sip"
)

// users is a registrar in memory with the errors of the real one.
type users struct {
	Registrar
	mu      sync.Mutex
	users   []registrar.User
	devices []registrar.Device
}

func (u *users) Users() []registrar.User { return u.users }

func (u *users) User(name string) (registrar.User, bool) {
	for _, user := range u.users {
		if user.Name == name || len(user.Numbers) > 0 && user.Numbers[0] == name {
			return user, true
		}
	}
	return registrar.User{}, false
}

func (u *users) AddUser(s registrar.UserSpec) (registrar.User, string, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if s.Name == "no good" {
		return registrar.User{}, "", fmt.Errorf("user %q: %w", s.Name, registrar.ErrInvalid)
	}
	if _, there := u.User(s.Name); there {
		return registrar.User{}, "", fmt.Errorf("user %q: %w", s.Name, registrar.ErrTaken)
	}
	user := registrar.User{Name: s.Name, Numbers: s.Numbers, Display: s.Display, Realm: "r", Secrets: map[string]sip.Secret{s.Name: {MD5: "secret-ha1"}}}
	u.users = append(u.users, user)
	if s.Password == "" {
		s.Password = "generated"
	}
	return user, s.Password, nil
}

func (u *users) SetPassword(name, password string) (string, error) {
	if password == "" {
		return "generated", nil
	}
	return password, nil
}

func (u *users) RemoveUser(name string) error {
	for i, user := range u.users {
		if user.Name == name {
			u.users = append(u.users[:i:i], u.users[i+1:]...)
			return nil
		}
	}
	return registrar.ErrNotFound
}

func (u *users) Devices(user string) []registrar.Device {
	var found []registrar.Device
	for _, d := range u.devices {
		if user == "" || d.User == user {
			found = append(found, d)
		}
	}
	return found
}

func (u *users) Find(user, ref string) (registrar.Device, error) {
	for _, d := range u.Devices(user) {
		if d.Name == ref || d.Instance == ref {
			return d, nil
		}
	}
	return registrar.Device{}, fmt.Errorf("%s has no device %q: %w", user, ref, registrar.ErrNotFound)
}

var aliceToken = registrar.Token{
	ID: "k3f9wq2a", Hash: "secret-ha1", Kind: registrar.UserToken, User: "alice", Label: "Firefox", MD5: "secret-ha1", SHA256: "secret-ha1",
	Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Used: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Expires: time.Date(2026, 2, 2, 3, 4, 5, 0, time.UTC),
}

func (u *users) Tokens() []registrar.Token { return []registrar.Token{aliceToken} }

func (u *users) AddAdminToken(name string, until time.Time) (registrar.Token, string, error) {
	return registrar.Token{ID: "m5m5m5m5", Kind: registrar.AdminToken, Label: name, Expires: until}, "text-of-" + name, nil
}

func (u *users) RevokeToken(id string) error {
	if id != aliceToken.ID {
		return registrar.ErrNotFound
	}
	return nil
}

func (u *users) RevokeTokens(string) (int, error) { return 1, nil }

func (u *users) GRUU(d registrar.Device) string {
	if d.Instance == "" {
		return ""
	}
	return "sip:" + d.User + "@y;gr=" + d.Instance
}

func (u *users) Rename(user, ref, name string) error {
	for i, d := range u.devices {
		if d.User == user && d.Name == ref {
			u.devices[i].Name = name
		}
	}
	return nil
}

func (u *users) Forget(user, ref string) error {
	for i, d := range u.devices {
		if d.User == user && d.Name == ref {
			u.devices = append(u.devices[:i:i], u.devices[i+1:]...)
			return nil
		}
	}
	return nil
}

// calls is one live call, "k3f9aaaa" of alice.
type calls struct {
	mu      sync.Mutex
	asked   []call.MoveRequest
	ended   []string
	changes chan struct{}
}

func (c *calls) Calls(user string) []call.Info {
	if user == "bob" {
		return nil
	}
	return []call.Info{{ID: "k3f9aaaa", State: "up", Seats: []call.SeatInfo{}, Moves: []call.MoveInfo{}}}
}

func (c *calls) Delays() map[string]call.Delays {
	return map[string]call.Delays{call.ByNode: {Count: 4, Sum: 400, Buckets: []uint64{0, 0, 4, 4, 4, 4, 4, 4, 4, 4, 4}}}
}

func (c *calls) Reports() map[[2]string]uint64 { return map[[2]string]uint64{{"vq-rtcpxr", "late"}: 3} }

func (c *calls) Changes() (<-chan struct{}, func()) { return c.changes, func() {} }

func (c *calls) Call(id string) (call.Info, error) {
	if !strings.HasPrefix("k3f9aaaa", id) {
		return call.Info{}, fmt.Errorf("%w: %q", call.ErrNoCall, id)
	}
	return call.Info{ID: "k3f9aaaa", State: "up", Seats: []call.SeatInfo{}, Moves: []call.MoveInfo{}}, nil
}

func (c *calls) Companion(_ context.Context, r call.MoveRequest, leave bool) (call.CompanionReport, error) {
	if r.Device == "busy" {
		return call.CompanionReport{}, &sip.StatusError{Code: 486, Reason: "Busy Here"}
	}
	return call.CompanionReport{Call: "k3f9aaaa", User: fmt.Sprintf("%s %s %v", r.User, r.How, leave), Device: r.Device}, nil
}

func (c *calls) Rejoin(_ context.Context, r call.MoveRequest) (call.MoveReport, error) {
	if r.Device == "busy" {
		return call.MoveReport{}, &sip.StatusError{Code: 486, Reason: "Busy Here"}
	}
	return call.MoveReport{Call: "k3f9aaaa", User: r.Seat + " " + r.How, To: r.Device, SwitchMS: 23}, nil
}

func (c *calls) Move(ctx context.Context, r call.MoveRequest) (call.MoveReport, error) {
	c.mu.Lock()
	c.asked = append(c.asked, r)
	c.mu.Unlock()
	switch r.Device {
	case "busy":
		return call.MoveReport{}, &sip.StatusError{Code: 486, Reason: "Busy Here"}
	case "racing":
		return call.MoveReport{}, errors.New("a move is in progress")
	case "forever":
		<-ctx.Done()
		return call.MoveReport{}, context.Cause(ctx)
	}
	return call.MoveReport{Call: "k3f9aaaa", To: r.Device, SwitchMS: 23}, nil
}

// Trial finds two things out about a desk; an old one is away, and attic hangs up in between.
func (c *calls) Trial(_ context.Context, r call.TrialRequest, tell func(call.Finding)) (call.TrialReport, error) {
	if r.Device == "old" {
		return call.TrialReport{}, errors.New("old is away since 10:00")
	}
	report := call.TrialReport{User: r.User, Device: r.Device, Verdict: call.Note}
	for i, what := range []string{"answer", "hold"} {
		if i > 0 && r.Keys {
			return report, errors.New("the test was cut short")
		}
		f := call.Finding{What: what, Verdict: call.Note, Text: "as " + r.Who}
		tell(f)
		report.Findings = append(report.Findings, f)
	}
	return report, nil
}

func (c *calls) End(_ context.Context, id, who string) error {
	if _, err := c.Call(id); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = append(c.ended, id+" by "+who)
	return nil
}

// entries is a log in memory.
type entries struct {
	mu  sync.Mutex
	all []journal.Entry
}

func (e *entries) Append(n journal.Entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, n)
}

func (e *entries) Select(q journal.Query) ([]journal.Entry, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []journal.Entry
	for _, n := range e.all {
		if q.Matches(n) {
			found = append(found, n)
		}
	}
	return found[max(0, len(found)-q.Limit):], nil
}

// rig is a node's API on a real unix socket.
type rig struct {
	dir    string
	users  *users
	calls  *calls
	log    *entries
	tail   *Tail
	client *Client
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), calls: &calls{changes: make(chan struct{}, 1)}, log: &entries{}}
	r.users = &users{
		users: []registrar.User{{Name: "alice", Numbers: []string{"101"}}, {Name: "bob"}},
		devices: []registrar.Device{
			{User: "alice", Name: "desk", Index: 1, Instance: "urn:uuid:1/2", Kind: registrar.DeskPhone, Binding: &registrar.Binding{Contact: "sip:x@y"}, Profile: map[string]string{
				registrar.Ringless: "", registrar.LearntAnswer: "headers 3 1790000000 1", registrar.LearntHold: "inactive",
			}},
			{User: "alice", Name: "old", Index: 2, Kind: registrar.Softphone, Reason: "expired"},
		},
	}
	r.tail = NewTail(r.log)
	l, err := Listen(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	s := NewServer(Options{
		Node: Node{Version: "test", Listen: map[string]string{}}, Registrar: r.users, Calls: r.calls, Entries: r.log, Tail: r.tail, Metrics: NewMetrics(r.log),
		Held: func() (Held, error) {
			return Held{Connections: sip.Connections{Closed: map[string]uint64{}, Refused: map[string]uint64{}}, Traffic: sip.Traffic{Dropped: map[string]uint64{}, Refused: map[string]uint64{}}}, nil
		},
		Settings: []config.Setting{{Field: "domain", Values: []string{""}}},
	})
	go func() { done <- Serve(ctx, l, documented(t, s)) }()
	if r.client, err = Dial(r.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		r.client.Close()
	})
	return r
}

// TestRoutes asks each route over the socket, as any program would.
func TestRoutes(t *testing.T) {
	tests := []struct {
		method, path, body string
		code               int
		want               string // part of the answer
	}{
		{"GET", "/api/v1/node", "", 200, `"version":"test"`},
		{"GET", "/api/v1/users", "", 200, `"name":"alice","numbers":["101"]`},
		{"GET", "/api/v1/users", "", 200, `"name":"bob","numbers":[]`},
		{"GET", "/api/v1/users/101", "", 200, `"devices":2,"here":1`},
		{"GET", "/api/v1/users/carol", "", 404, `{"error":"there is no user \"carol\""}`},
		{"POST", "/api/v1/users", `{"name":"carol","numbers":["103"]}`, 201, `"password":"generated"`},
		{"POST", "/api/v1/users", `{"name":"dave","password":"mine"}`, 201, `"realm":"r"`},
		{"POST", "/api/v1/users", `{"name":"alice"}`, 409, `already in use`},
		{"POST", "/api/v1/users", `{"name":"no good"}`, 400, `not valid`},
		{"POST", "/api/v1/users", `{"nam":"x"}`, 400, `unknown field`},
		{"POST", "/api/v1/users", `{"name":"x"}{}`, 400, `behind the JSON`},
		{"POST", "/api/v1/users", ``, 400, `the body is empty`},
		{"POST", "/api/v1/users", `{"name":"` + strings.Repeat("x", maxBody) + `"}`, 413, `larger than`},
		{"PUT", "/api/v1/users/alice/password", `{}`, 200, `{"password":"generated"}`},
		{"PUT", "/api/v1/users/alice/password", `{"password":"mine"}`, 200, `{}`},
		{"PUT", "/api/v1/users/carol/password", `{}`, 404, `there is no user`},
		{"DELETE", "/api/v1/users/101", "", 204, ""},
		{"DELETE", "/api/v1/users/carol", "", 404, "there is no user"},
		{"GET", "/api/v1/devices", "", 200, `"name":"desk","kind":"desk phone","here":true`},
		{"GET", "/api/v1/devices?user=bob", "", 200, `[]`},
		{"GET", "/api/v1/devices?user=carol", "", 404, `there is no user`},
		{"GET", "/api/v1/users/alice/devices/urn:uuid:1%2F2", "", 200, `"name":"desk"`},
		{"GET", "/api/v1/users/alice/devices/desk", "", 200, `"gruu":"sip:alice@y;gr=urn:uuid:1/2","ringless":true,"answering":{"way":"headers","times":3,"last":`},
		{"GET", "/api/v1/users/alice/devices/desk", "", 200, `"misses":1},"learnt":{"hold":"inactive"}`},
		{"POST", "/api/v1/users/101/devices/desk/test", "", 200, `{"finding":{"what":"answer","verdict":"note","text":"as `},
		{"POST", "/api/v1/users/101/devices/desk/test", "{}", 200, `{"report":{"user":"alice","device":"desk","verdict":"note","findings":[{"what":"answer"`},
		{"POST", "/api/v1/users/101/devices/desk/test", `{"keys":true}`, 200, `{"error":"the test was cut short"}`},
		{"POST", "/api/v1/users/101/devices/desk/test", `{"key":true}`, 400, `unknown field`},
		{"POST", "/api/v1/users/101/devices/old/test", "", 409, `{"error":"old is away since 10:00"}`},
		{"POST", "/api/v1/users/101/devices/none/test", "", 404, `has no device`},
		{"PATCH", "/api/v1/users/alice/devices/old", `{"name":"attic"}`, 204, ""},
		{"PATCH", "/api/v1/users/alice/devices/none", `{"name":"attic"}`, 404, "has no device"},
		{"DELETE", "/api/v1/users/alice/devices/old", "", 204, ""},
		{"GET", "/api/v1/calls", "", 200, `"id":"k3f9aaaa"`},
		{"GET", "/api/v1/calls?user=bob", "", 200, `[]`},
		{"GET", "/api/v1/calls/k3", "", 200, `"id":"k3f9aaaa"`},
		{"GET", "/api/v1/calls/zz", "", 404, `no such live call`},
		{"DELETE", "/api/v1/calls/k3", "", 204, ""},
		{"DELETE", "/api/v1/calls/zz", "", 404, `no such live call`},
		{"POST", "/api/v1/moves", `{"call":"k3","device":"desk"}`, 200, `"switch_ms":23`},
		{"POST", "/api/v1/moves", `{"user":"101","device":"desk"}`, 200, `"to":"desk"`},
		{"POST", "/api/v1/moves", `{"user":"carol","device":"desk"}`, 404, `there is no user`},
		{"POST", "/api/v1/moves", `{"call":"k3","user":"alice","device":"desk"}`, 400, `either a call or a user`},
		{"POST", "/api/v1/moves", `{"device":"desk"}`, 400, `either a call or a user`},
		{"POST", "/api/v1/moves", `{"call":"k3"}`, 400, `name the device`},
		{"POST", "/api/v1/companions", `{"user":"101","device":"desk","how":"cli"}`, 200, `"user":"alice cli false","device":"desk"`},
		{"POST", "/api/v1/companions", `{"user":"101","device":"desk","leave":true}`, 200, `"user":"alice api true"`},
		{"POST", "/api/v1/companions", `{"user":"101","device":"busy"}`, 409, `Busy Here`},
		{"POST", "/api/v1/companions", `{"user":"101"}`, 400, `name the device`},
		{"POST", "/api/v1/companions", `{"device":"desk"}`, 400, `either a call or a user`},
		{"POST", "/api/v1/rejoins", `{"call":"k3","device":"desk","how":"cli"}`, 200, `"user":" cli"`},
		{"POST", "/api/v1/rejoins", `{"call":"k3","seat":"101"}`, 200, `"user":"alice api"`},
		{"POST", "/api/v1/rejoins", `{"call":"k3","device":"busy"}`, 409, `Busy Here`},
		{"POST", "/api/v1/rejoins", `{"call":"k3","seat":"carol"}`, 404, `carol`},
		{"POST", "/api/v1/rejoins", `{"device":"desk"}`, 400, `name the call`},
		{"POST", "/api/v1/moves", `{"call":"k3","device":"busy"}`, 409, `Busy Here`},
		{"POST", "/api/v1/moves", `{"call":"k3","device":"racing"}`, 409, `in progress`},
		{"GET", "/api/v1/log", "", 200, `[]`},
		{"GET", "/api/v1/log?n=0", "", 400, `n: \"0\" is not between`},
		{"GET", "/api/v1/log?since=today", "", 400, `since: \"today\" is no time`},
		{"GET", "/debug/pprof/goroutine?debug=1", "", 200, `goroutine profile`},
		{"GET", "/api/v1/config", "", 200, `"field":"domain"`},
		{"GET", "/api/v1/debug", "", 200, `"goroutines":`},
		{"GET", "/metrics", "", 200, `# HELP`},
		{"GET", "/api/v1/tokens", "", 200, `[{"id":"k3f9wq2a","kind":"user","user":"alice","name":"Firefox","created":"2026-01-02T03:04:05Z","used":"2026-01-02T03:04:05Z","expires":"2026-02-02T03:04:05Z"}]`},
		{"POST", "/api/v1/tokens", `{"name":"ops","expires":"2027-01-01T00:00:00Z"}`, 201, `"kind":"admin","name":"ops"`},
		{"POST", "/api/v1/tokens", `{}`, 201, `"token":"text-of-"`},
		{"POST", "/api/v1/tokens", `{"expires":"tomorrow"}`, 400, `read the body`},
		{"DELETE", "/api/v1/tokens/k3f9wq2a", "", 204, ""},
		{"DELETE", "/api/v1/tokens/none", "", 404, "not found"},
		{"DELETE", "/api/v1/users/101/tokens", "", 200, `{"revoked":1}`},
		{"DELETE", "/api/v1/users/zoe/tokens", "", 404, "there is no user"},
		{"PATCH", "/api/v1/users/alice", `{"settings":{"dnd":true}}`, 200, `"name":"alice"`},
		{"GET", "/api/v2/calls", "", 404, `nothing here`},
		{"PUT", "/api/v1/calls", "", 404, `nothing here`},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			r := newRig(t)
			req, err := http.NewRequest(tt.method, "http://node"+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := r.client.http.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tt.code || !strings.Contains(string(body), tt.want) {
				t.Errorf("%d %s, want %d with %s", resp.StatusCode, body, tt.code, tt.want)
			}
			if strings.Contains(string(body), "secret-ha1") {
				t.Errorf("the answer tells a secret: %s", body)
			}
			if resp.StatusCode >= 400 {
				var f Failure
				if err := json.Unmarshal(body, &f); err != nil || f.Error == "" {
					t.Errorf("failure %s: %v", body, err)
				}
			}
		})
	}
}

// TestClient goes once through what the tool uses, and checks what arrived.
func TestClient(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	if err := r.client.RenameDevice(ctx, "101", "urn:uuid:1/2", "hall"); err != nil {
		t.Fatal(err)
	}
	devices, err := r.client.Devices(ctx, "alice")
	if err != nil || len(devices) != 2 || devices[0].Name != "hall" {
		t.Errorf("devices %+v, error %v", devices, err)
	}
	var found []string
	each := func(f call.Finding) error {
		found = append(found, f.What)
		return nil
	}
	if report, err := r.client.TryDevice(ctx, "alice", "hall", Trial{}, each); err != nil || report.Device != "hall" || len(report.Findings) != 2 || strings.Join(found, " ") != "answer hold" {
		t.Errorf("try: %+v, %v, found %q", report, err, found)
	}
	var wrong *Error
	if _, err := r.client.TryDevice(ctx, "alice", "hall", Trial{Keys: true}, each); !errors.As(err, &wrong) || wrong.Status != 409 || err.Error() != "the test was cut short" {
		t.Errorf("try one that hangs up: %v", err)
	}
	if d, err := r.client.Device(ctx, "101", "hall"); err != nil || d.Learnt["hold"] != "inactive" || d.Answering == nil || d.Answering.Times != 3 {
		t.Errorf("device %+v, %v", d, err)
	}
	if err := r.client.ForgetDevice(ctx, "alice", "hall"); err != nil || len(r.users.devices) != 1 {
		t.Errorf("forget: %v, %d devices left", err, len(r.users.devices))
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Move(ctx, Move{User: "101", Device: "2", How: "cli"}); err != nil {
		t.Fatal(err)
	}
	want := call.MoveRequest{User: "alice", Device: "2", Who: me.Username, How: "cli"}
	if !reflect.DeepEqual(r.calls.asked, []call.MoveRequest{want}) {
		t.Errorf("asked for %+v, want %+v", r.calls.asked, want)
	}
	if err := r.client.EndCall(ctx, "k3"); err != nil || r.calls.ended[0] != "k3 by "+me.Username {
		t.Errorf("end: %v, %q", err, r.calls.ended)
	}
	var failed *Error
	if _, err := r.client.Call(ctx, "zz"); !errors.As(err, &failed) || failed.Status != 404 {
		t.Errorf("an unknown call: %v", err)
	}
}

// TestMoveLeft wants a handler to end when the one who asked for a move goes away.
func TestMoveLeft(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := r.client.Move(ctx, Move{Call: "k3", Device: "forever"})
		done <- err
	}()
	wait(t, "the move to begin", func() bool {
		r.calls.mu.Lock()
		defer r.calls.mu.Unlock()
		return len(r.calls.asked) == 1
	})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("move: %v", err)
	} // newRig's cleanup waits for the handler, which returns only when its context has ended
}

// TestFollowCalls wants a list at once and one for each change, but no more than four a second.
func TestFollowCalls(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got, began := 0, time.Now()
	err := r.client.FollowCalls(ctx, "101", func(list []call.Info) error {
		if len(list) != 1 || list[0].ID != "k3f9aaaa" {
			t.Errorf("list %+v", list)
		}
		if got++; got == 4 {
			cancel()
		}
		select {
		case r.calls.changes <- struct{}{}:
		default:
		}
		return nil
	})
	if took := time.Since(began); !errors.Is(err, context.Canceled) || got != 4 || took < 3*listPause {
		t.Errorf("%d lists in %v, %v", got, took, err)
	}
	var failed *Error
	if err := r.client.FollowCalls(t.Context(), "nobody", nil); !errors.As(err, &failed) || failed.Status != 404 {
		t.Errorf("calls of nobody: %v", err)
	}
}

// TestFollow wants each entry once and in order, and a follower that sleeps to be cut off rather than waited for.
func TestFollow(t *testing.T) {
	r := newRig(t)
	r.tail.Append(journal.Entry{Kind: journal.DeviceNew, User: "before"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	started := func() error {
		for i := range 20 {
			r.tail.Append(journal.Entry{Kind: journal.CallStarted, User: fmt.Sprint(i)})
		}
		return nil
	}
	err := r.client.Follow(ctx, journal.Query{}, started, func(e Entry) error {
		got = append(got, e.User)
		if len(got) == 20 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("follow: %v", err)
	}
	for i, user := range got {
		if user != fmt.Sprint(i) {
			t.Fatalf("entry %d is %q", i, user)
		}
	}
	all, err := r.client.Log(t.Context(), journal.Query{Limit: 3})
	if err != nil || len(all) != 3 || all[2].User != "19" || all[2].Time.IsZero() {
		t.Errorf("log %+v, error %v", all, err)
	}
}

// TestLogQuery wants everything that a query says to reach the node, in a listing and in what is followed.
func TestLogQuery(t *testing.T) {
	r := newRig(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	put := func(minute int, kind journal.Kind, user, peer, id string) {
		r.tail.Append(journal.Entry{Time: at.Add(time.Duration(minute) * time.Minute), Kind: kind, User: user, Peer: peer, Call: id, Text: fmt.Sprint(minute)})
	}
	fill := func() {
		put(0, journal.CallStarted, "alice", "bob", "k3f9")
		put(1, journal.CallEnded, "alice", "bob", "k3f9")
		put(2, journal.CallMissed, "bob", "alice", "m555")
		put(3, journal.DeviceAway, "alice", "", "")
		put(4, journal.CallStarted, "carol+x y", "bob", "n777")
	}
	fill()
	tests := []struct {
		q    journal.Query
		want string
	}{
		{journal.Query{}, "0 1 2 3 4"},
		{journal.Query{Limit: 2}, "3 4"},
		{journal.Query{Since: at.Add(time.Minute), Until: at.Add(3 * time.Minute)}, "1 2"},
		{journal.Query{User: "alice"}, "0 1 2 3"},
		{journal.Query{User: "101"}, "0 1 2 3"},
		{journal.Query{User: "carol+x y"}, "4"},
		{journal.Query{Peer: "alice", Kinds: []journal.Kind{journal.CallMissed}}, "2"},
		{journal.Query{Call: "k3"}, "0 1"},
		{journal.Query{Kinds: []journal.Kind{journal.CallStarted, journal.DeviceAway}}, "0 3 4"},
		{journal.Query{User: "nobody"}, ""},
	}
	for _, tt := range tests {
		all, err := r.client.Log(t.Context(), tt.q)
		var got []string
		for _, e := range all {
			got = append(got, e.Text)
		}
		if err != nil || strings.Join(got, " ") != tt.want {
			t.Errorf("%+v: %q, %v, want %q", tt.q, got, err, tt.want)
		}
		if tt.want == "" || tt.q.Limit > 0 {
			continue
		}
		got = nil
		err = r.client.Follow(t.Context(), tt.q, func() error { fill(); return nil }, func(e Entry) error {
			if got = append(got, e.Text); len(got) == len(strings.Fields(tt.want)) {
				return io.EOF
			}
			return nil
		})
		if err != io.EOF || strings.Join(got, " ") != tt.want {
			t.Errorf("%+v: followed %q, %v, want %q", tt.q, got, err, tt.want)
		}
		r.log.mu.Lock()
		r.log.all = r.log.all[:5]
		r.log.mu.Unlock()
	}
}

func TestTailCutsOff(t *testing.T) {
	tail := NewTail(&entries{})
	sleeping, stop := tail.Follow()
	defer stop()
	for range followBuffer + 1 {
		tail.Append(journal.Entry{Kind: journal.CallEnded})
	}
	n := 0
	for range sleeping { // ends: the channel was closed
		n++
	}
	if n != followBuffer {
		t.Errorf("the follower got %d entries, want %d", n, followBuffer)
	}
}

func TestSocket(t *testing.T) {
	t.Run("mode", func(t *testing.T) {
		r := newRig(t)
		info, err := os.Stat(filepath.Join(r.dir, socketName))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, error %v", info.Mode(), err)
		}
	})
	t.Run("a live node", func(t *testing.T) {
		r := newRig(t)
		if _, err := Listen(r.dir); err == nil || !strings.Contains(err.Error(), "already running on "+r.dir) {
			t.Errorf("a second node: %v", err)
		}
		if _, err := r.client.Node(t.Context()); err != nil {
			t.Errorf("the first node: %v", err)
		}
	})
	t.Run("a dead node", func(t *testing.T) {
		dir := t.TempDir()
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, socketName)})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
		if Running(dir) {
			t.Error("a dead node is running")
		}
		fresh, err := Listen(dir)
		if err != nil {
			t.Fatal(err)
		}
		fresh.Close()
	})
	t.Run("a long path", func(t *testing.T) {
		dir := "/" + strings.Repeat("x", maxPath-len(socketName)-1)
		if _, err := SocketPath(dir[:len(dir)-1]); err != nil {
			t.Errorf("%d bytes: %v", maxPath, err)
		}
		if _, err := SocketPath(dir); err == nil || !strings.Contains(err.Error(), "108 bytes long, 107 are possible") {
			t.Errorf("%d bytes: %v", maxPath+1, err)
		}
	})
	t.Run("no node", func(t *testing.T) {
		c, err := Dial(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Node(t.Context()); !errors.Is(err, ErrNoNode) || !strings.Contains(err.Error(), "baton serve --data "+c.where) {
			t.Errorf("no node: %v", err)
		}
	})
}

// TestDirect wants the API to work without a socket, and calls to be refused.
func TestDirect(t *testing.T) {
	c := Direct(NewServer(Options{Registrar: &users{}, Entries: &entries{}}))
	added, err := c.AddUser(t.Context(), NewUser{Name: "carol"})
	if err != nil || added.Password != "generated" {
		t.Errorf("added %+v, error %v", added, err)
	}
	var failed *Error
	if _, err := c.Calls(t.Context(), ""); !errors.As(err, &failed) || failed.Status != 503 {
		t.Errorf("calls: %v", err)
	}
}

// wait polls until what is awaited has happened.
func wait(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !happened(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
