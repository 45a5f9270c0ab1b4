package web

import (
	"context"
	"embed"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
)

//go:embed all:page/dist
var embedded embed.FS

// bodyWait is how long the body of a request may take to come.
const bodyWait = 10 * time.Second

// SiteOptions is what the HTTPS port serves besides the page. What is nil is not there: 404.
type SiteOptions struct {
	Phones  http.Handler // SIP over WebSocket, at /sip
	User    http.Handler // the API, at /api/v1/
	Metrics http.Handler // for those whom Admin lets in
	Admin   func(*http.Request) bool

	// CA is the PEM certificate of our own CA, which browsers and phones must trust; nil where there is none or another has signed.
	CA func() []byte
	// Public says whether the certificate that is shown to who asks for a name was signed by somebody else than our own CA.
	Public func(serverName string) bool
	// Healthy says what is wrong with the store.
	Healthy func() error

	// Others are the origins of the pages of other nodes; nil = there are none.
	Others func() []string

	Page fs.FS // the built page; nil = that of this program
	Log  *slog.Logger
}

// The states of a node, as /readyz tells them.
const (
	starting int32 = iota
	running
	stopping
)

var siteStates = [...]string{"starting", "running", "stopping"}

// Site is the handler of the HTTPS port: the page, the API, SIP over WebSocket, and what others ask to see whether the node is
// well. It sets the headers that keep a browser from doing anything but that.
type Site struct {
	opt      SiteOptions
	mux      *http.ServeMux
	bodyWait time.Duration
	state    atomic.Int32
}

// NewSite makes the handler. It is not ready until Ready is called.
func NewSite(o SiteOptions) *Site {
	s := &Site{opt: o, mux: http.NewServeMux(), bodyWait: bodyWait}
	if o.Page == nil {
		o.Page, _ = fs.Sub(embedded, "page/dist") // it is there: the compiler has put it in
	}
	s.mux.Handle("/sip", s.whileRunning(orMissing(o.Phones, "SIP over WebSocket is not served here")))
	s.mux.Handle("/api/v1/", s.whileRunning(orMissing(o.User, "there is no API here")))
	s.mux.Handle("GET /metrics", http.HandlerFunc(s.metrics))
	s.mux.HandleFunc("GET /ca.crt", s.ca)
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answerText(w, http.StatusOK, "ok") })
	s.mux.HandleFunc("GET /readyz", s.ready)
	s.mux.Handle("/", newPage(o.Page))
	return s
}

// Ready says that everything behind the site runs.
func (s *Site) Ready() { s.state.CompareAndSwap(starting, running) }

// Stopping says that the node ends: nothing new is begun.
func (s *Site) Stopping() { s.state.Store(stopping) }

// Run has the site ready until ctx ends.
func (s *Site) Run(ctx context.Context) error {
	s.Ready()
	<-ctx.Done()
	s.Stopping()
	return nil
}

// ServeHTTP answers one request.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.guard(w.Header(), r)
	if r.ContentLength != 0 { // net/http takes the deadline away where the body ends: what is done then may take longer
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.bodyWait)) // a connection without deadlines is a test's
	}
	s.mux.ServeHTTP(w, r)
}

// guard sets the headers of every answer. Scripts, styles and connections are the page's own; nobody may show it in a frame.
func (s *Site) guard(h http.Header, r *http.Request) {
	h.Set("Content-Security-Policy", "default-src 'self'; connect-src 'self'"+socketSource(r.Host)+s.othersSources()+
		"; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(self)")
	// With a certificate of our own CA a browser that has seen this header could never again be told to go on.
	if r.TLS != nil && s.opt.Public != nil && s.opt.Public(r.TLS.ServerName) {
		h.Set("Strict-Transport-Security", "max-age=15552000")
	}
}

var hostPort = regexp.MustCompile(`^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)

// socketSource is the site's own WebSocket, which not every browser takes 'self' for.
func socketSource(host string) string {
	if !hostPort.MatchString(host) {
		return ""
	}
	return " wss://" + host
}

// othersSources are the WebSockets of the other nodes.
func (s *Site) othersSources() (all string) {
	if s.opt.Others == nil {
		return ""
	}
	for _, origin := range s.opt.Others() {
		all += socketSource(strings.TrimPrefix(origin, "https://"))
	}
	return all
}

// whileRunning refuses what a node that starts or stops cannot do.
func (s *Site) whileRunning(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if state := s.state.Load(); state != running {
			w.Header().Set("Retry-After", "2")
			write(w, http.StatusServiceUnavailable, Failure{Error: "the node is " + siteStates[state]})
			return
		}
		h.ServeHTTP(w, r)
	})
}

// orMissing is h, or what says that it is not there.
func orMissing(h http.Handler, text string) http.Handler {
	if h != nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusNotFound, Failure{Error: text})
	})
}

// metrics are for administrators: they tell how many calls there are, and when.
func (s *Site) metrics(w http.ResponseWriter, r *http.Request) {
	switch {
	case s.opt.Metrics == nil:
		answerText(w, http.StatusNotFound, "there are no metrics here")
	case s.opt.Admin == nil || !s.opt.Admin(r):
		w.Header().Set("WWW-Authenticate", `Bearer realm="baton"`)
		answerText(w, http.StatusUnauthorized, "an administrator's token is needed: Authorization: Bearer TOKEN")
	default:
		s.opt.Metrics.ServeHTTP(w, r)
	}
}

// ca gives the certificate that must be trusted, never its key.
func (s *Site) ca(w http.ResponseWriter, _ *http.Request) {
	var pem []byte
	if s.opt.CA != nil {
		pem = s.opt.CA()
	}
	if pem == nil {
		answerText(w, http.StatusNotFound, "this node's certificate is signed by somebody else than baton's own CA: there is nothing of baton's to trust")
		return
	}
	w.Header().Set("Content-Type", "application/x-x509-ca-cert")
	w.Header().Set("Content-Disposition", `attachment; filename="baton-ca.crt"`)
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(pem) // the peer may have gone
}

// ready tells a load balancer whether calls may come.
func (s *Site) ready(w http.ResponseWriter, _ *http.Request) {
	if state := s.state.Load(); state != running {
		answerText(w, http.StatusServiceUnavailable, siteStates[state])
		return
	}
	if s.opt.Healthy != nil {
		if err := s.opt.Healthy(); err != nil {
			if s.opt.Log != nil {
				s.opt.Log.Debug("not ready", "err", err)
			}
			answerText(w, http.StatusServiceUnavailable, "the store fails") // why is in the log, not for everybody
			return
		}
	}
	answerText(w, http.StatusOK, "ready")
}

// answerText answers with a line of text.
func answerText(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, strings.TrimSpace(text)+"\n") // the peer may have gone
}
