package web

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"baton/config"
)

// How often the certificates are looked at, and how long it takes to try again what has failed: from the first to the last,
// doubled each time, so that an authority's own limit (Let's Encrypt: five failures an hour) is not met.
const (
	acmeTend  = time.Minute
	acmeFirst = 5 * time.Minute
	acmeLast  = time.Hour
)

// ACMEOptions is what an ACME needs.
type ACMEOptions struct {
	Config config.ACME
	Cache  string                            // directory for keys and certificates; made with mode 0700
	Signer func(crypto.Signer) crypto.Signer // bounds the signatures at a time; nil = not
	Client *http.Client                      // to the authority; nil = the usual one
	Log    *slog.Logger
}

// ACME has certificates for public names from an authority (RFC 8555), two for each: ECDSA, and RSA for old phones. It gets them
// when it runs, not during somebody's handshake, and shows the authority on the HTTPS port that a name is ours (tls-alpn-01, RFC
// 8737). What it has is in the cache and is renewed in time.
type ACME struct {
	// set once
	opt   ACMEOptions
	first time.Duration // as acmeFirst
	tend  time.Duration // as acmeTend

	mu       sync.Mutex
	certs    map[string][]*tls.Certificate  // by name, what is shown
	managers map[string][]*autocert.Manager // by name, one for each kind: one that has failed remembers it, and is replaced
}

// The two kinds of keys, as clients that ask for them.
var acmeKinds = []struct {
	name   string
	suites []uint16
}{
	{"ECDSA", []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}},
	{"RSA", []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}},
}

// NewACME starts nothing.
func NewACME(o ACMEOptions) *ACME {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	a := &ACME{opt: o, first: acmeFirst, tend: acmeTend, certs: map[string][]*tls.Certificate{}, managers: map[string][]*autocert.Manager{}}
	for _, name := range o.Config.Names {
		for range acmeKinds {
			a.managers[name] = append(a.managers[name], a.newManager(name))
		}
	}
	return a
}

func (a *ACME) newManager(name string) *autocert.Manager {
	c := a.opt.Config
	return &autocert.Manager{
		Prompt: func(string) bool { return c.Agree }, Cache: autocert.DirCache(a.opt.Cache), HostPolicy: autocert.HostWhitelist(name), Email: c.Email,
		Client: &acme.Client{DirectoryURL: c.Directory, HTTPClient: a.opt.Client, UserAgent: "baton"},
	}
}

// Protocols are what the HTTPS port must be ready to negotiate.
func (a *ACME) Protocols() []string { return []string{acme.ALPNProto} }

// Has says whether a name's certificate is there.
func (a *ACME) Has(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.certs[plain(name)]) > 0
}

// Certificate is what to show to a client that asks for one of the names, nil for others and while there is none. The authority is
// shown what it wants to see.
func (a *ACME) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if slices.Equal(hello.SupportedProtos, []string{acme.ALPNProto}) {
		return a.proof(hello)
	}
	a.mu.Lock()
	all := a.certs[plain(hello.ServerName)]
	a.mu.Unlock()
	for _, c := range all {
		if hello.SupportsCertificate(c) == nil && time.Now().Before(c.Leaf.NotAfter) {
			return c, nil
		}
	}
	return nil, nil
}

// proof is what an authority wants to see now.
func (a *ACME) proof(hello *tls.ClientHelloInfo) (c *tls.Certificate, err error) {
	a.mu.Lock()
	managers := slices.Clone(a.managers[plain(hello.ServerName)])
	a.mu.Unlock()
	err = fmt.Errorf("no certificate is asked for %q", hello.ServerName)
	for _, m := range managers {
		if c, err = m.GetCertificate(hello); err == nil {
			return c, nil
		}
	}
	return nil, err
}

// plain is a name as it is configured.
func plain(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// Run gets the certificates that are not there, takes over those that were renewed, and tries again at each signal.
func (a *ACME) Run(ctx context.Context, again <-chan struct{}) error {
	wait := a.first
	for {
		err := a.refresh(ctx)
		next := a.tend
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			next, wait = wait, min(2*wait, acmeLast)
			a.opt.Log.Error("no certificate by ACME; the other one is shown", "err", err, "again", next.String())
		default:
			wait = a.first
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again:
		case <-time.After(next):
		}
	}
}

// refresh asks for every certificate; those that are there cost nothing.
func (a *ACME) refresh(ctx context.Context) error {
	var errs []error
	for _, name := range a.opt.Config.Names {
		var all []*tls.Certificate
		for i, kind := range acmeKinds {
			c, err := a.get(ctx, a.managers[name][i], name, kind.suites)
			if err != nil {
				a.mu.Lock()
				a.managers[name][i] = a.newManager(name)
				a.mu.Unlock()
				errs = append(errs, fmt.Errorf("%s (%s): %w", name, kind.name, err))
				break
			}
			all = append(all, c)
		}
		a.show(name, all)
	}
	return errors.Join(errs...)
}

// get waits for a certificate, but not longer than ctx: it may take minutes, and cannot be interrupted.
func (a *ACME) get(ctx context.Context, m *autocert.Manager, name string, suites []uint16) (*tls.Certificate, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	type got struct {
		c   *tls.Certificate
		err error
	}
	done := make(chan got, 1)
	go func() {
		c, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: name, CipherSuites: suites})
		done <- got{c, err}
	}()
	select {
	case g := <-done:
		return g.c, g.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// show puts certificates in force. What was there stays when there is nothing new.
func (a *ACME) show(name string, all []*tls.Certificate) {
	if len(all) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.certs[name]
	for i, c := range all {
		if i < len(old) && old[i].Leaf.Equal(c.Leaf) {
			all[i] = old[i]
			continue
		}
		a.opt.Log.Info("certificate loaded", "from", "acme", "name", name, "until", c.Leaf.NotAfter.Format(time.DateOnly))
		own := *c
		if key, ok := c.PrivateKey.(crypto.Signer); ok && a.opt.Signer != nil {
			own.PrivateKey = a.opt.Signer(key)
		}
		all[i] = &own
	}
	if len(old) > len(all) {
		all = append(all, old[len(all):]...)
	}
	a.certs[name] = all
}
