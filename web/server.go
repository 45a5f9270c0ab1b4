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
	"net/http"
	"net/http/pprof"
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
	Log       *slog.Logger
}

// Server answers the API.
type Server struct {
	Options
	mux *http.ServeMux
}

// maxBody bounds what a request may carry.
const maxBody = 64 << 10

// NewServer makes the handler of the API.
func NewServer(o Options) *Server {
	s := &Server{Options: o, mux: http.NewServeMux()}
	s.handle("GET /api/v1/node", s.node)
	s.handle("GET /api/v1/config", s.config)
	s.handle("GET /api/v1/debug", s.debug)
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
	s.handle("GET /api/v1/log", s.entries)
	s.handle("/", func(*http.Request) (any, error) {
		return nil, refuse(http.StatusNotFound, "there is nothing here; the API begins at /api/v1/")
	})
	s.mux.HandleFunc("GET /api/v1/log/follow", s.follow)
	s.mux.HandleFunc("GET /api/v1/calls/follow", s.followCalls)
	if s.Metrics != nil {
		s.mux.Handle("GET /metrics", s.Metrics)
	}
	s.mux.HandleFunc("POST /api/v1/users/{user}/devices/{device}/test", s.tryDevice)
	s.profiles()
	return s
}

// profiles serves Go's profiles, at their usual place. They are for the control socket: nobody else may slow the node down by
// asking for one.
func (s *Server) profiles() {
	s.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	s.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	s.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	s.mux.ServeHTTP(w, r)
}

// handle routes a pattern to a function that gives what is to be shown. Nothing to show is 204; something new is 201.
func (s *Server) handle(pattern string, f func(*http.Request) (any, error)) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		shown, err := f(r)
		switch {
		case err != nil:
			s.fail(w, r, err)
		case shown == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			code := http.StatusOK
			if _, added := shown.(Added); added {
				code = http.StatusCreated
			}
			write(w, code, shown)
		}
	})
}

// fail answers with the status that belongs to err.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	code := statusOf(err)
	if code >= 500 && s.Log != nil && r.Context().Err() == nil { // not if the client has gone
		s.Log.Error("api request failed", "method", r.Method, "path", r.URL.Path, "err", err)
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
}

func (e *refusal) Error() string { return e.text }

func refuse(code int, format string, args ...any) error {
	return &refusal{code, fmt.Sprintf(format, args...)}
}
