package main

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"baton/config"
	"baton/web"
)

// How often the certificate is looked at: its files, when there are handshakes; its names and its end, when it is ours.
const (
	lookEvery  = 2 * time.Second
	tendEvery  = time.Minute
	soonSpaced = 24 * time.Hour // between warnings that it ends soon
	soonBefore = 14 * 24 * time.Hour
)

// certificate is what the node shows to TLS clients. It follows its files: a changed one is in force from the next
// handshake on, a broken one leaves the old one in force. One that is signed by the data directory's own CA is also
// renewed.
type certificate struct {
	// set once
	certFile, keyFile string
	given             bool // by the configuration
	names             names
	ca                *authority // nil = the files are somebody else's
	acme              *web.ACME  // for public names, nil = none are set
	log               *slog.Logger
	signing           chan struct{} // bounds the signatures that are made at a time

	// guarded by mu
	mu     sync.Mutex
	pair   *tls.Certificate
	stamp  stamp // of the files that were tried last
	failed bool  // they were no good
	looked time.Time
	warned time.Time // that it ends soon
}

// stamp tells a file from what it was.
type stamp struct{ cert, key fileStamp }

type fileStamp struct {
	changed time.Time
	size    int64
}

// openCertificate loads the configured certificate or the data directory's, which is made at first start.
func openCertificate(c config.Config, log *slog.Logger) (*certificate, error) {
	t := &certificate{
		certFile: c.TLS.Certificate, keyFile: c.TLS.Key, given: c.TLS.Certificate != "", names: namesOf(c), log: log,
		signing: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
	}
	if !t.given {
		t.certFile, t.keyFile = filepath.Join(c.Data, certName), filepath.Join(c.Data, keyName)
		ca, err := ownAuthority(c.Data)
		if err != nil {
			return nil, err
		}
		t.ca = ca
	}
	if err := t.renew(time.Now()); err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	if len(c.TLS.ACME.Names) > 0 {
		t.acme = web.NewACME(web.ACMEOptions{
			Config: c.TLS.ACME, Cache: filepath.Join(c.Data, acmeName), Log: log,
			Signer: func(key crypto.Signer) crypto.Signer { return &signer{key, t.signing} },
		})
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t, t.load(t.look())
}

// config is for listeners.
func (t *certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: t.current}
}

// webConfig is for the HTTPS port, where an ACME authority looks whether the names are ours.
func (t *certificate) webConfig() *tls.Config {
	c := t.config()
	if t.acme != nil {
		c.NextProtos = t.acme.Protocols()
	}
	return c
}

// trusted is the CA that browsers and phones must trust, in PEM; nil where somebody else has signed what they are shown.
func (t *certificate) trusted() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ca == nil || !t.ca.signed(t.pair.Leaf) {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: t.ca.cert.Raw})
}

// public says whether what is shown to who asks for a name was signed by somebody whom browsers may know.
func (t *certificate) public(name string) bool {
	if t.acme != nil && t.acme.Has(name) {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	leaf := t.pair.Leaf
	return (t.ca == nil || !t.ca.signed(leaf)) && leaf.CheckSignatureFrom(leaf) != nil
}

// current is the certificate for a handshake: that of a public name, if there is one, else the other. It looks at the files now
// and then.
func (t *certificate) current(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if t.acme != nil {
		if c, err := t.acme.Certificate(hello); c != nil || err != nil {
			return c, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.looked) >= lookEvery {
		_ = t.reload(false) // is in the log
	}
	return t.pair, nil
}

// Reload takes the files as they are now.
func (t *certificate) Reload() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reload(true)
}

// reload loads the files if they have changed, or in any case. What is in force stays when they are no good. mu is held.
func (t *certificate) reload(anyway bool) error {
	now := t.look()
	if now == t.stamp && !anyway {
		return nil
	}
	if err := t.load(now); err != nil {
		t.log.Error("the new certificate is not taken, the old one stays in force", "err", err)
		return err
	}
	t.log.Info("certificate loaded", "file", t.certFile, "subject", t.pair.Leaf.Subject.String(), "until", t.pair.Leaf.NotAfter.Format(time.DateOnly))
	return nil
}

// look reads the files' stamps. mu is held.
func (t *certificate) look() stamp {
	t.looked = time.Now()
	return stamp{stampOf(t.certFile), stampOf(t.keyFile)}
}

func stampOf(name string) fileStamp {
	info, err := os.Stat(name)
	if err != nil {
		return fileStamp{}
	}
	return fileStamp{info.ModTime(), info.Size()}
}

// load reads the pair and remembers which it was, also when it is no good. mu is held.
func (t *certificate) load(now stamp) error {
	t.stamp, t.failed = now, true
	pair, err := tls.LoadX509KeyPair(t.certFile, t.keyFile)
	if err != nil {
		return fmt.Errorf("load certificate %s with key %s: %w%s", t.certFile, t.keyFile, err, t.cure())
	}
	if until := pair.Leaf.NotAfter; time.Now().After(until) {
		t.log.Warn("the certificate has expired; phones that check it will not connect", "file", t.certFile, "until", until.Format(time.DateTime))
	}
	pair.PrivateKey = &signer{pair.PrivateKey.(crypto.Signer), t.signing}
	t.pair, t.failed = &pair, false
	return nil
}

// cure is what to do about files that cannot be loaded.
func (t *certificate) cure() string {
	if t.given {
		return " (tls.certificate and tls.key name PEM files that belong together)"
	}
	return " (remove both to have new ones made)"
}

// run renews what is ours in time, warns of the end of what is not, and reloads at each signal. Beside it public names get theirs.
func (t *certificate) run(ctx context.Context, reload <-chan struct{}) error {
	again := make(chan struct{}, 1)
	var acme sync.WaitGroup
	defer acme.Wait()
	if t.acme != nil {
		acme.Go(func() { _ = t.acme.Run(ctx, again) }) // ends with ctx
	}
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-reload:
			t.tend(time.Now())
			_ = t.Reload() // is in the log
			select {
			case again <- struct{}{}:
			default: // one is waiting already
			}
		case now := <-tick.C:
			t.tend(now)
		}
	}
}

// tend renews, or warns.
func (t *certificate) tend(now time.Time) {
	if err := t.renew(now); err != nil {
		t.log.Error("the certificate cannot be renewed, the old one stays in force", "err", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.reload(t.failed) // is in the log
	if until := t.pair.Leaf.NotAfter; now.After(until.Add(-soonBefore)) && now.Sub(t.warned) >= soonSpaced {
		t.warned = now
		t.log.Warn("the certificate ends soon; put a new one in its place", "file", t.certFile, "until", until.Format(time.DateTime))
	}
}

// renew makes a new certificate when there is none or ours does not serve any more.
func (t *certificate) renew(now time.Time) error {
	if t.ca == nil {
		return nil
	}
	old, err := readCertificate(t.certFile)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil // loading it says what is wrong
	case !t.ca.signed(old):
		return nil // somebody has put another one there
	}
	why := t.names.missing(old, now)
	if why == "" {
		return nil
	}
	if err := t.ca.issue(t.certFile, t.keyFile, t.names, now); err != nil {
		return err
	}
	if old != nil {
		t.log.Info("certificate renewed", "file", t.certFile, "why", why)
	}
	return nil
}

// signer makes only some signatures at a time: a burst of handshakes, each a millisecond of RSA, must leave processors
// for the audio of calls.
type signer struct {
	crypto.Signer
	turns chan struct{}
}

// Sign waits for its turn.
func (s *signer) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.turns <- struct{}{}
	defer func() { <-s.turns }()
	return s.Signer.Sign(rand, digest, opts)
}

// readCertificate reads the first certificate of a PEM file.
func readCertificate(name string) (*x509.Certificate, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	der, err := firstBlock(name, data, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
