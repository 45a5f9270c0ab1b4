package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"baton/call"
	"baton/registrar"
)

// theNode is a node's calls: one, of carol.
type theNode struct {
	calls
	id    string
	owner string
}

func (n *theNode) info() call.Info {
	return call.Info{ID: n.id, State: "up", Seats: []call.SeatInfo{{User: n.owner, Legs: []call.LegInfo{}}}, Moves: []call.MoveInfo{}}
}

func (n *theNode) Calls(user string) []call.Info {
	if user != "" && user != n.owner {
		return nil
	}
	return []call.Info{n.info()}
}

func (n *theNode) Call(id string) (call.Info, error) {
	if !strings.HasPrefix(n.id, id) {
		return call.Info{}, call.ErrNoCall
	}
	return n.info(), nil
}

func (n *theNode) End(_ context.Context, id, who string) error {
	if _, err := n.Call(id); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = append(n.ended, id+" by "+who)
	return nil
}

// mesh brings requests from server to server, as they are.
type mesh struct {
	self    string
	servers map[string]*Server
	deaf    map[string]bool
}

func (m *mesh) Nodes() []NodeInfo { return []NodeInfo{{Name: m.self, Self: true, State: "alive"}} }

func (m *mesh) Names() (all []string) {
	for name := range m.servers {
		if name != m.self {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

func (m *mesh) WithCallsOf(string) []string { return m.Names() }

func (m *mesh) Ask(ctx context.Context, node string, q Asked) (Told, error) {
	if m.deaf[node] {
		return Told{}, errors.New("it does not answer")
	}
	return m.servers[node].Answer(ctx, q), nil
}

// TestOthers asks n1 for what is at n2 and n3.
func TestOthers(t *testing.T) {
	all := map[string]*theNode{"n1": {id: "aaaa1111", owner: "alice"}, "n2": {id: "bbbb2222", owner: "bob"}, "n3": {id: "bbcc3333", owner: "bob"}}
	servers, deaf := map[string]*Server{}, map[string]bool{}
	for name, n := range all {
		users := &users{}
		for _, u := range []string{"alice", "bob"} {
			_, _, _ = users.AddUser(registrar.UserSpec{Name: u})
		}
		servers[name] = NewServer(Options{Name: name, Registrar: users, Calls: n, Others: &mesh{name, servers, deaf}})
	}
	ask := func(method, path, body string, code int, want string) {
		t.Helper()
		w := httptest.NewRecorder()
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		documented(t, servers["n1"]).ServeHTTP(w, r.WithContext(withWho(r.Context(), "root")))
		if w.Code != code || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s %s: %d %s, want %d %s", method, path, w.Code, w.Body, code, want)
		}
	}
	var list []call.Info
	w := httptest.NewRecorder()
	servers["n1"].ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/calls", nil))
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list) != 3 || list[0].Node != "n1" || list[1].Node != "n2" || list[2].Node != "n3" {
		t.Errorf("calls: %s", w.Body)
	}
	ask("GET", "/api/v1/nodes", "", 200, `"name":"n1","self":true`)
	ask("GET", "/api/v1/calls?user=bob", "", 200, `"bbcc3333"`)
	ask("GET", "/api/v1/calls/aaaa", "", 200, `"node":"n1"`)
	ask("GET", "/api/v1/calls/bbbb", "", 200, `"node":"n2"`)
	ask("GET", "/api/v1/calls/zz", "", 404, `no such live call`)
	ask("GET", "/api/v1/calls/bb", "", 409, `calls at n2 and n3; give more of it`)
	ask("DELETE", "/api/v1/calls/bb", "", 409, `give more of it`)
	ask("DELETE", "/api/v1/calls/bbc", "", 204, "")
	if got := all["n3"].ended; len(got) != 1 || got[0] != "bbc by root" || len(all["n2"].ended)+len(all["n1"].ended) > 0 {
		t.Errorf("ended: %v", got)
	}
	ask("POST", "/api/v1/moves", `{"call":"bbbb","device":"desk"}`, 200, `"to":"desk"`)
	ask("POST", "/api/v1/moves", `{"call":"bbbb","device":"busy"}`, 409, `486 Busy Here`)
	ask("POST", "/api/v1/moves", `{"user":"bob","device":"desk"}`, 200, `"to":"desk"`)
	if got := all["n2"].asked; len(got) != 3 || got[0].Who != "root" || got[2].User != "bob" {
		t.Errorf("n2 was asked %+v", got)
	}
	ask("POST", "/api/v1/companions", `{"call":"bbcc","device":"desk"}`, 200, `"device":"desk"`)
	deaf["n2"] = true
	ask("GET", "/api/v1/calls", "", 200, `"bbcc3333"`)
	ask("GET", "/api/v1/calls/bbbb", "", 404, "")
	for _, q := range []Asked{{Method: "GET", Path: "/debug/pprof/"}, {Method: "POST", Path: "/api/v1/tokens", Body: []byte(`{}`)}, {Method: "GET", Path: "/api/v1/debug"}} {
		if told := servers["n2"].Answer(t.Context(), q); told.Code/100 != 4 {
			t.Errorf("a node serves another what is the control socket's alone: %s %s: %d", q.Method, q.Path, told.Code)
		}
	}
}
