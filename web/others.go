package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"baton/call"
)

// The calls of a cluster are shown and steered at any of its nodes: what is asked for here and is another node's, that node's own API
// is asked.

// NodeInfo is a node of the cluster as the one that is asked sees it. docs/cluster.md has the states.
type NodeInfo struct {
	Name     string    `json:"name"`
	Self     bool      `json:"self,omitempty"` // the node that was asked
	State    string    `json:"state"`          // alive, suspect, frozen, dead, left, unknown
	Why      string    `json:"why,omitempty"`  // what the state rests on
	Since    time.Time `json:"since"`          // of the state
	Address  string    `json:"address,omitempty"`
	Instance string    `json:"instance,omitempty"` // drawn at each start of the node
	Calls    int       `json:"calls"`
	Capacity int       `json:"capacity,omitempty"` // calls that it takes; 0 = no limit is set
	Draining bool      `json:"draining,omitempty"` // it takes no new calls
	RTT      float64   `json:"rtt_ms,omitempty"`
	Dropped  uint64    `json:"dropped,omitempty"` // messages to it that there was no room for
}

// Asked is a request of the API that is brought to another node.
type Asked struct {
	Method string `json:"method"`
	Path   string `json:"path"`           // with its query
	Who    string `json:"who"`            // asks, for the log
	User   string `json:"user,omitempty"` // whose request it is, of the users' API; "" = an administrator's
	Body   []byte `json:"body,omitempty"`
}

// Told is its answer.
type Told struct {
	Code int    `json:"code"`
	Body []byte `json:"body,omitempty"`
}

// Others are the other nodes of a cluster.
type Others interface {
	// Nodes are all that are known, the one that is asked first.
	Nodes() []NodeInfo
	// Names are those that can be asked now.
	Names() []string
	Ask(ctx context.Context, node string, q Asked) (Told, error)
	// WithCallsOf are those that have calls of a user, as they have said, and can be asked now.
	WithCallsOf(user string) []string
}

// othersPatience bounds the wait for another node where many are asked.
const othersPatience = 2 * time.Second

type aloneKey struct{}

// alone says that a request is for this node only.
func alone(ctx context.Context) bool { return ctx.Value(aloneKey{}) != nil }

// Answer answers what another node was asked: what may be had from elsewhere, and nothing else.
func (s *Server) Answer(ctx context.Context, q Asked) Told {
	ctx = context.WithValue(withWho(ctx, q.Who), aloneKey{}, true)
	if q.User != "" {
		if s.own == nil {
			return Told{Code: http.StatusServiceUnavailable}
		}
		return s.own.answer(ctx, q)
	}
	return servedBy(ctx, s.remote, q, "/api/v1/")
}

// servedBy has a handler answer what was asked below a path.
func servedBy(ctx context.Context, h http.Handler, q Asked, below string) Told {
	r, err := http.NewRequestWithContext(ctx, q.Method, "http://node"+q.Path, bytes.NewReader(q.Body))
	if err != nil || !strings.HasPrefix(q.Path, below) {
		return Told{Code: http.StatusBadRequest}
	}
	a := &answer{header: http.Header{}, code: http.StatusOK}
	h.ServeHTTP(a, r)
	return Told{a.code, a.body.Bytes()}
}

// nodes are those of the cluster.
func (s *Server) nodes(*http.Request) (any, error) {
	switch {
	case s.Others != nil:
		return s.Others.Nodes(), nil
	case s.Calls == nil:
		return nil, refuse(http.StatusServiceUnavailable, "no node is running")
	}
	return []NodeInfo{{Name: s.Options.Name, Self: true, State: "alive", Since: s.Node.Started, Calls: len(s.Calls.Calls(""))}}, nil
}

// names are the other nodes that a request may be brought to.
func (s *Server) names(r *http.Request) []string {
	if s.Others == nil || alone(r.Context()) {
		return nil
	}
	return s.Others.Names()
}

// each asks all other nodes at once, and takes the answers that are 200, in the order of names.
func (s *Server) each(r *http.Request, path string, take func(node string, body []byte)) {
	s.eachOf(r.Context(), s.names(r), path, take)
}

func (s *Server) eachOf(ctx context.Context, names []string, path string, take func(node string, body []byte)) {
	all, asked := make([]Told, len(names)), ctx
	ctx, cancel := context.WithTimeout(ctx, othersPatience)
	defer cancel()
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			told, err := s.Others.Ask(ctx, name, Asked{Method: "GET", Path: path, Who: Who(asked)})
			if err != nil && s.Log != nil && asked.Err() == nil {
				s.Log.Warn("node does not answer", "node", name, "err", err)
			}
			all[i] = told
		})
	}
	wg.Wait()
	for i, name := range names {
		if all[i].Code == http.StatusOK {
			take(name, all[i].Body)
		}
	}
}

// theirs are the calls of the other nodes.
func (s *Server) theirs(r *http.Request, user string) (all []call.Info) {
	path := "/api/v1/calls"
	if user != "" {
		path += "?" + url.Values{"user": {user}}.Encode()
	}
	s.each(r, path, func(node string, body []byte) {
		var list []call.Info
		if json.Unmarshal(body, &list) == nil {
			all = append(all, ownedBy(node, list)...)
		}
	})
	return all
}

// ownedBy notes whose calls these are.
func ownedBy(node string, list []call.Info) []call.Info {
	for i := range list {
		list[i].Node = node
	}
	return list
}

// owner is the one other node that has a call which was not found here: missing is the error of looking here.
func (s *Server) owner(r *http.Request, id string, missing error) (node string, err error) {
	if !errors.Is(missing, call.ErrNoCall) {
		return "", missing
	}
	var nodes []string
	s.each(r, "/api/v1/calls/"+url.PathEscape(id), func(node string, _ []byte) { nodes = append(nodes, node) })
	switch len(nodes) {
	case 0:
		return "", missing
	case 1:
		return nodes[0], nil
	}
	return "", refuse(http.StatusConflict, "%q is the beginning of calls at %s; give more of it", id, strings.Join(nodes, " and "))
}

// elsewhere is the other node that has the call of a request to move, "" = this node is to see to it.
func (s *Server) elsewhere(r *http.Request, id, user string) (string, error) {
	if len(s.names(r)) == 0 {
		return "", nil
	}
	if id != "" {
		if _, err := s.Calls.Call(id); errors.Is(err, call.ErrNoCall) {
			return s.owner(r, id, err)
		}
		return "", nil
	}
	if u, err := s.known(user); err != nil || len(s.Calls.Calls(u.Name)) > 0 {
		return "", nil // this node says what is wrong
	}
	for _, c := range s.theirs(r, user) {
		if slices.ContainsFunc(c.Seats, func(t call.SeatInfo) bool { return t.User != "" }) {
			return c.Node, nil
		}
	}
	return "", nil
}

// bring has another node answer, and gives what it has said. into is a pointer to what an answer holds; nil = nothing.
func (s *Server) bring(r *http.Request, node string, body, into any) error {
	return s.bringAs(r, node, "", body, into)
}

// bringAs is bring for a request of a user's own; "" = an administrator's.
func (s *Server) bringAs(r *http.Request, node, user string, body, into any) error {
	q := Asked{Method: r.Method, Path: r.URL.RequestURI(), Who: Who(r.Context()), User: user}
	if body != nil {
		var err error
		if q.Body, err = json.Marshal(body); err != nil {
			return err
		}
	}
	told, err := s.Others.Ask(r.Context(), node, q)
	if err != nil {
		return refuse(http.StatusBadGateway, "the call is at node %s, which does not answer: %v", node, err)
	}
	if told.Code/100 != 2 {
		var f Failure
		if json.Unmarshal(told.Body, &f) != nil || f.Error == "" {
			f.Error = fmt.Sprintf("node %s answers %d", node, told.Code)
		}
		return refuse(told.Code, "%s", f.Error)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(told.Body, into)
}
