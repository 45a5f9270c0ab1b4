// Package web is the HTTP side of a node: the API under /api/v1 and its Go client. It shows and asks; what is asked
// for is done by the registrar and by call.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"baton/call"
	"baton/config"
	"baton/journal"
	"baton/registrar"
)

// Registrar is what the API needs of the users and their devices.
type Registrar interface {
	Users() []registrar.User
	User(nameOrNumber string) (registrar.User, bool)
	AddUser(spec registrar.UserSpec) (registrar.User, string, error)
	SetPassword(name, password string) (string, error)
	RemoveUser(name string) error
	Configure(name string, change func(*registrar.Settings)) (registrar.User, error)
	Devices(user string) []registrar.Device
	Find(user, ref string) (registrar.Device, error)
	Rename(user, ref, name string) error
	Set(user, ref, name, value string) error
	Forget(user, ref string) error
	GRUU(d registrar.Device) string
	Tokens() []registrar.Token
	AddAdminToken(name string, until time.Time) (registrar.Token, string, error)
	RevokeToken(id string) error
	RevokeTokens(user string) (int, error)
}

// Calls is what the API needs of the live calls. An id may be abbreviated.
type Calls interface {
	Calls(user string) []call.Info
	Changes() (changed <-chan struct{}, stop func())
	Call(id string) (call.Info, error)
	Move(ctx context.Context, r call.MoveRequest) (call.MoveReport, error)
	End(ctx context.Context, id, who string) error
	Trial(ctx context.Context, r call.TrialRequest, tell func(call.Finding)) (call.TrialReport, error)
	Companion(ctx context.Context, r call.MoveRequest, leave bool) (call.CompanionReport, error)
	Rejoin(ctx context.Context, r call.MoveRequest) (call.MoveReport, error)
	Delays() map[string]call.Delays
	Reports() map[[2]string]uint64
}

// Entries reads the log: what is wanted of it, in order.
type Entries interface {
	Select(q journal.Query) ([]journal.Entry, error)
}

// Options is what a Server shows.
type Options struct {
	Node      Node
	Registrar Registrar
	Calls     Calls                // nil when no node runs and the store was opened directly
	Entries   Entries              // of the store
	Metrics   *Metrics             // nil = none are shown
	Tail      *Tail                // nil = the log cannot be followed
	Settings  []config.Setting     // in force, with the places they came from
	Held      func() (Held, error) // counts what the node holds; nil as Calls
	Store     func() StoreHealth   // nil as Calls
	Log       *slog.Logger
	Name      string // of the node
	Others    Others // nodes of its cluster; nil = it is alone
}

// Server answers the API: all of it on the control socket, and what may be had from elsewhere to those who bear an
// administrator's token (UserAPI).
type Server struct {
	Options
	mux    *http.ServeMux
	remote *http.ServeMux
	own    *UserAPI // nil = there is none
	routes []string // patterns of the mux
}

// maxBody bounds what a request may carry.
const maxBody = 64 << 10

// NewServer makes the handler of the API.
func NewServer(o Options) *Server {
	s := &Server{Options: o, mux: http.NewServeMux(), remote: http.NewServeMux()}
	s.handle("GET /api/v1/node", s.node)
	s.handle("GET /api/v1/nodes", s.nodes)
	s.handle("GET /api/v1/config", s.config)
	s.handle("GET /api/v1/users", s.users)
	s.handle("POST /api/v1/users", s.addUser)
	s.handle("GET /api/v1/users/{user}", s.user)
	s.handle("PATCH /api/v1/users/{user}", s.changeUser)
	s.handle("DELETE /api/v1/users/{user}", s.removeUser)
	s.handle("PUT /api/v1/users/{user}/password", s.setPassword)
	s.handle("GET /api/v1/devices", s.devices)
	s.handle("GET /api/v1/users/{user}/devices/{device}", s.device)
	s.handle("PATCH /api/v1/users/{user}/devices/{device}", s.changeDevice)
	s.handle("DELETE /api/v1/users/{user}/devices/{device}", s.forgetDevice)
	s.handle("GET /api/v1/calls", s.calls)
	s.handle("GET /api/v1/calls/{call}", s.call)
	s.handle("DELETE /api/v1/calls/{call}", s.endCall)
	s.handle("POST /api/v1/moves", s.move)
	s.handle("POST /api/v1/companions", s.companion)
	s.handle("POST /api/v1/rejoins", s.rejoin)
	s.handle("GET /api/v1/log", s.entries)
	s.handle("GET /api/v1/tokens", s.tokens)
	s.handle("DELETE /api/v1/tokens/{token}", s.revokeToken)
	s.handle("DELETE /api/v1/users/{user}/tokens", s.revokeTokens)
	s.handle("/", func(*http.Request) (any, error) {
		return nil, refuse(http.StatusNotFound, "there is nothing here; the API begins at /api/v1/")
	})
	s.stream("GET /api/v1/log/follow", s.follow)
	s.stream("GET /api/v1/calls/follow", s.followCalls)
	s.stream("POST /api/v1/users/{user}/devices/{device}/test", s.tryDevice)
	s.private()
	return s
}

// private is what the control socket alone serves: what slows the node down, and the making of tokens, so that a stolen one
// cannot make others that outlive it.
func (s *Server) private() {
	s.local("GET /api/v1/debug", s.plain(s.debug))
	s.local("POST /api/v1/tokens", s.plain(s.addToken))
	s.local("GET /debug/pprof/", pprof.Index) // Go's profiles, at their usual place
	s.local("GET /debug/pprof/profile", pprof.Profile)
	s.local("GET /debug/pprof/trace", pprof.Trace)
	if s.Metrics != nil {
		s.local("GET /metrics", s.Metrics.ServeHTTP)
	}
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	s.mux.ServeHTTP(w, r)
}

// handle routes a pattern to a function that gives what is to be shown.
func (s *Server) handle(pattern string, f func(*http.Request) (any, error)) {
	s.stream(pattern, s.plain(f))
}

// stream routes a pattern to what writes its answer itself.
func (s *Server) stream(pattern string, h http.HandlerFunc) {
	s.local(pattern, h)
	s.remote.HandleFunc(pattern, h)
}

// local routes a pattern of the control socket alone.
func (s *Server) local(pattern string, h http.HandlerFunc) {
	s.routes = append(s.routes, pattern)
	s.mux.HandleFunc(pattern, h)
}

func (s *Server) plain(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		shown, err := f(r)
		answerWith(w, r, s.Log, shown, err)
	}
}

// answerWith answers with what is to be shown, or with the status that belongs to err. Nothing to show is 204; something new is 201.
func answerWith(w http.ResponseWriter, r *http.Request, log *slog.Logger, shown any, err error) {
	switch {
	case err != nil:
		failWith(w, r, log, err)
	case shown == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		code := http.StatusOK
		switch shown.(type) {
		case Added, NewToken:
			code = http.StatusCreated
		}
		write(w, code, shown)
	}
}

// fail answers with the status that belongs to err.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) { failWith(w, r, s.Log, err) }

func failWith(w http.ResponseWriter, r *http.Request, log *slog.Logger, err error) {
	code := statusOf(err)
	if code >= 500 && log != nil && r.Context().Err() == nil && !errors.Is(err, call.ErrCutOff) { // not if the client has gone
		log.Error("api request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	var later *refusal
	if errors.As(err, &later) && later.wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(later.wait.Seconds()))))
	}
	if errors.Is(err, call.ErrCutOff) {
		w.Header().Set("Retry-After", strconv.Itoa(int(call.TryAgain.Seconds())))
	}
	if code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="baton"`) // RFC 6750 §3
	}
	write(w, code, Failure{Error: err.Error()})
}

func write(w http.ResponseWriter, code int, shown any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(shown) // the peer may have gone; nobody is left to tell
}

// read takes the JSON body of a request strictly.
func read(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		var big *http.MaxBytesError
		switch {
		case errors.As(err, &big):
			return refuse(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", maxBody)
		case errors.Is(err, io.EOF):
			return refuse(http.StatusBadRequest, "the body is empty; JSON is wanted")
		}
		return refuse(http.StatusBadRequest, "read the body: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return refuse(http.StatusBadRequest, "there is something behind the JSON of the body")
	}
	return nil
}

// node tells of itself, and by how much its clock has been set since it started: Started carries the monotonic clock
// beside the other.
func (s *Server) node(*http.Request) (any, error) {
	shown := s.Node
	if now := time.Now(); !shown.Started.IsZero() {
		shown.ClockStep = (now.Round(0).Sub(shown.Started.Round(0)) - now.Sub(shown.Started)).Seconds()
	}
	if s.Store != nil {
		store := s.Store()
		shown.Store = &store
	}
	if s.Calls != nil {
		shown.MouthToEar = mouthToEar(s.Calls)
	}
	return shown, nil
}

func (s *Server) config(*http.Request) (any, error) {
	if s.Settings == nil {
		return nil, refuse(http.StatusNotFound, "no node runs")
	}
	return s.Settings, nil
}

// refusal is an error of the API itself, with its status.
type refusal struct {
	code int
	text string
	wait time.Duration // before it is asked again; 0 = nothing is said
}

func (e *refusal) Error() string { return e.text }

func refuse(code int, format string, args ...any) error {
	return &refusal{code: code, text: fmt.Sprintf(format, args...)}
}
