package web

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"
)

// built is a page as Vite leaves it.
var built = fstest.MapFS{
	"index.html":                {Data: []byte("<!doctype html><title>baton</title>")},
	"assets/index-4f3a9c1b.js":  {Data: []byte("console.log(1)")},
	"assets/index-1b2c3d4e.css": {Data: []byte("a{}")},
	"icon.svg":                  {Data: []byte("<svg/>")},
	"app.webmanifest":           {Data: []byte("{}")},
	"placeholder.txt":           {Data: []byte("x")},
}

func askFor(h http.Handler, method, path string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "https://pbx.example.org:8443"+path, nil)
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func named(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
}

// TestSite goes through what stands where, with how long it may be kept.
func TestSite(t *testing.T) {
	s := NewSite(SiteOptions{Page: built, Phones: named("phones"), User: named("api"), Metrics: named("metrics"), Admin: func(r *http.Request) bool {
		return r.Header.Get("Authorization") == "Bearer right"
	}})
	s.Ready()
	const forever = "public, max-age=31536000, immutable"
	for _, c := range []struct {
		method, path string
		code         int
		kind, cache  string
		body         string
	}{
		{"GET", "/", 200, "text/html", "no-store", "<title>baton"},
		{"HEAD", "/", 200, "text/html", "no-store", ""},
		{"GET", "/index.html", 200, "text/html", "no-store", "<title>baton"},
		{"GET", "/calls/3f", 200, "text/html", "no-store", "<title>baton"},
		{"GET", "/assets/index-4f3a9c1b.js", 200, "text/javascript", forever, "console"},
		{"GET", "/assets/index-1b2c3d4e.css", 200, "text/css", forever, "a{}"},
		{"GET", "/assets/index-gone.js", 404, "text/plain", "no-store", "no such file"},
		{"GET", "/assets/gone", 404, "text/plain", "no-store", "no such file"},
		{"GET", "/icon.svg", 200, "image/svg+xml", "no-cache", "<svg/>"},
		{"GET", "/app.webmanifest", 200, "application/manifest+json", "no-cache", "{}"},
		{"GET", "/favicon.ico", 404, "text/plain", "no-store", ""},
		{"GET", "/etc/passwd.txt", 404, "text/plain", "no-store", ""},
		{"POST", "/", 405, "text/plain", "no-store", ""},
		{"GET", "/sip", 200, "", "", "phones"},
		{"POST", "/api/v1/session", 200, "", "", "api"},
		{"GET", "/healthz", 200, "text/plain", "no-store", "ok"},
		{"GET", "/readyz", 200, "text/plain", "no-store", "ready"},
		{"GET", "/metrics", 401, "text/plain", "no-store", "token"},
		{"GET", "/ca.crt", 404, "text/plain", "no-store", "signed by somebody else"},
		{"GET", "/debug/pprof/", 200, "text/html", "no-store", "<title>baton"}, // the page, and no profiles
	} {
		w := askFor(s, c.method, c.path)
		h := w.Header()
		if w.Code != c.code || !strings.HasPrefix(h.Get("Content-Type"), c.kind) || h.Get("Cache-Control") != c.cache || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s %s: %d %v %q", c.method, c.path, w.Code, h, w.Body)
		}
		if !strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'self'; connect-src 'self' wss://pbx.example.org:8443; object-src 'none'") ||
			!strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") || strings.Contains(h.Get("Content-Security-Policy"), "unsafe") {
			t.Errorf("%s %s: policy %q", c.method, c.path, h.Get("Content-Security-Policy"))
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("Strict-Transport-Security") != "" {
			t.Errorf("%s %s: headers %v", c.method, c.path, h)
		}
	}
	if w := askFor(s, "GET", "/metrics", func(r *http.Request) { r.Header.Set("Authorization", "Bearer right") }); w.Code != 200 || w.Body.String() != "metrics" {
		t.Errorf("metrics for an administrator: %d %s", w.Code, w.Body)
	}
	tag := askFor(s, "GET", "/icon.svg").Header().Get("ETag")
	if w := askFor(s, "GET", "/icon.svg", func(r *http.Request) { r.Header.Set("If-None-Match", tag) }); w.Code != http.StatusNotModified || w.Body.Len() != 0 {
		t.Errorf("what has not changed: %d", w.Code)
	}
	for _, host := range []string{"evil;script-src *", "a b", "x,y", "[::1", ""} {
		w := askFor(s, "GET", "/", func(r *http.Request) { r.Host = host })
		if p := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(p, "default-src 'self'; connect-src 'self'; ") {
			t.Errorf("host %q: policy %q", host, p)
		}
	}
	if w := askFor(s, "GET", "/", func(r *http.Request) { r.Host = "[fd00::1]:8443" }); !strings.Contains(w.Header().Get("Content-Security-Policy"), " wss://[fd00::1]:8443;") {
		t.Error("an IPv6 address has no WebSocket")
	}
}

// TestSiteEmpty has a program that the page was not built into, and a site behind which nothing is.
func TestSiteEmpty(t *testing.T) {
	s := NewSite(SiteOptions{Page: fstest.MapFS{"placeholder.txt": {Data: []byte("x")}}})
	s.Ready()
	for path, want := range map[string]struct {
		code int
		text string
	}{
		"/": {503, "make build"}, "/calls": {503, "make build"}, "/sip": {404, "not served"}, "/api/v1/me": {404, "no API"}, "/metrics": {404, "no metrics"}, "/ca.crt": {404, "somebody else"},
	} {
		if w := askFor(s, "GET", path); w.Code != want.code || !strings.Contains(w.Body.String(), want.text) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if w := askFor(NewSite(SiteOptions{}), "GET", "/placeholder.txt"); w.Code != 200 {
		t.Errorf("the page is not in the program: %d", w.Code)
	}
}

// TestSiteStates is what a load balancer sees, and who asks too early or too late.
func TestSiteStates(t *testing.T) {
	var failing error
	s := NewSite(SiteOptions{Page: built, User: named("api"), Phones: named("phones"), Healthy: func() error { return failing }})
	check := func(state string, ready, served int) {
		t.Helper()
		for path, want := range map[string]int{"/healthz": 200, "/readyz": ready, "/api/v1/me": served, "/sip": served, "/": 200} {
			if w := askFor(s, "GET", path); w.Code != want {
				t.Errorf("%s: %s gets %d, want %d", state, path, w.Code, want)
			}
		}
	}
	check("starting", 503, 503)
	s.Ready()
	check("running", 200, 200)
	failing = errors.New("input/output error on /secret/path")
	check("store failing", 503, 200)
	if w := askFor(s, "GET", "/readyz"); strings.Contains(w.Body.String(), "secret") {
		t.Errorf("everybody is told %s", w.Body)
	}
	failing = nil
	check("store well again", 200, 200)
	s.Stopping()
	s.Ready() // too late
	check("stopping", 503, 503)
}

// TestSiteCA gives the certificate and nothing else, as what browsers and phones take for one.
func TestSiteCA(t *testing.T) {
	cert := certificateFor(t, "x")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	s := NewSite(SiteOptions{Page: built, CA: func() []byte { return text }})
	w := askFor(s, "GET", "/ca.crt")
	block, rest := pem.Decode(w.Body.Bytes())
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/x-x509-ca-cert" || block == nil || block.Type != "CERTIFICATE" || len(rest) != 0 {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if strings.Contains(w.Body.String(), "KEY") {
		t.Error("there is a key in it")
	}
}

// TestSiteHSTS binds a browser to HTTPS only where it can trust the certificate for good.
func TestSiteHSTS(t *testing.T) {
	s := NewSite(SiteOptions{Page: built, Public: func(name string) bool { return name == "pbx.example.org" }})
	for name, want := range map[string]bool{"pbx.example.org": true, "10.0.0.1": false, "": false} {
		w := askFor(s, "GET", "/", func(r *http.Request) { r.TLS = &tls.ConnectionState{ServerName: name} })
		if got := w.Header().Get("Strict-Transport-Security"); (got != "") != want {
			t.Errorf("%q: %q", name, got)
		}
	}
	if w := askFor(s, "GET", "/", func(r *http.Request) { r.TLS = nil }); w.Header().Get("Strict-Transport-Security") != "" {
		t.Error("without TLS")
	}
}

// TestSiteSlowBody is S15 for bodies: one that does not come ends in time; what is done after one that has come may take longer.
func TestSiteSlowBody(t *testing.T) {
	defer goleak.VerifyNone(t)
	read, done := make(chan error, 1), make(chan error, 1)
	s := NewSite(SiteOptions{Page: built, User: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		if r.URL.Path == "/api/v1/never" {
			read <- err
			return
		}
		select {
		case <-r.Context().Done():
			done <- r.Context().Err()
		case <-time.After(3 * time.Second):
			done <- nil
		}
		w.WriteHeader(http.StatusNoContent)
	})})
	s.bodyWait = time.Second
	s.Ready()
	r := newPortRig(t, func(o *PortOptions) { o.HTTP = s })
	defer r.stop()
	never, long := r.dial(true, ""), r.dial(true, "")
	if _, err := io.WriteString(never, "POST /api/v1/never HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(long, "POST /api/v1/long HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]chan error{"never": read, "long": done} {
		select {
		case err := <-c:
			if (err != nil) != (what == "never") {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(30 * time.Second):
			t.Errorf("%s: nothing happens", what)
		}
	}
}
