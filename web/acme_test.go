package web

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"baton/config"
	"baton/test/pebble"
)

// acmeRig is a port that shows what an ACME has, and else a certificate of its own.
type acmeRig struct {
	*portRig
	acme  *ACME
	cache string
	log   *lockedBuffer
	again chan struct{}
}

func newACMERig(t *testing.T, valid time.Duration, names ...string) *acmeRig {
	t.Helper()
	r := &acmeRig{cache: filepath.Join(t.TempDir(), "acme"), log: &lockedBuffer{}, again: make(chan struct{})}
	own := certificateFor(t, "own")
	r.portRig = newPortRig(t, func(o *PortOptions) {
		o.TLS = &tls.Config{NextProtos: []string{alpnACME}, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c, err := r.acme.Certificate(h); c != nil || err != nil {
				return c, err
			}
			return &own, nil
		}}
	})
	a := pebble.New(t)
	a.Start(r.port.Addr().Port(), valid)
	r.acme = r.open(a.Directory, a.Client(), names)
	r.run(r.acme)
	return r
}

func (r *acmeRig) open(directory string, client *http.Client, names []string) *ACME {
	a := NewACME(ACMEOptions{
		Config: config.ACME{Names: names, Email: "admin@example.org", Directory: directory, Agree: true}, Cache: r.cache, Client: client,
		Log: slog.New(slog.NewTextHandler(r.log, nil)),
	})
	a.tend = 100 * time.Millisecond
	return a
}

func (r *acmeRig) run(a *ACME) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx, r.again) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
		if r.t.Failed() {
			r.t.Logf("it said\n%s", r.log)
		}
	})
}

// shows is what a client sees that asks for a name.
func (r *acmeRig) shows(name string, change func(*tls.Config)) *x509.Certificate {
	r.t.Helper()
	c := &tls.Config{InsecureSkipVerify: true, ServerName: name}
	if change != nil {
		change(c)
	}
	conn, err := tls.Dial("tcp", r.at, c)
	if err != nil {
		r.t.Fatalf("%s: %v", name, err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// rsaOnly is an old phone.
func rsaOnly(c *tls.Config) {
	c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
}

// TestACME gets certificates of both kinds from a real ACME server, keeps them where only their owner reads them, and has them again
// without the server.
func TestACME(t *testing.T) {
	t.Parallel()
	r := newACMERig(t, 90*24*time.Hour, "sip.example.org", "www.example.org")
	patiently(t, "the certificates", func() bool { return r.acme.Has("sip.example.org") && r.acme.Has("WWW.example.org.") })
	for _, name := range []string{"sip.example.org", "www.example.org"} {
		c := r.shows(name, nil)
		if _, ok := c.PublicKey.(*ecdsa.PublicKey); !ok || c.VerifyHostname(name) != nil || !strings.Contains(c.Issuer.CommonName, "Pebble") {
			t.Errorf("%s: %T of %v for %v", name, c.PublicKey, c.Issuer, c.DNSNames)
		}
		c = r.shows(name, rsaOnly)
		if _, ok := c.PublicKey.(*rsa.PublicKey); !ok || c.VerifyHostname(name) != nil {
			t.Errorf("%s: an old phone sees %T of %v", name, c.PublicKey, c.Issuer)
		}
	}
	for _, name := range []string{"own", "", "other.example.org"} {
		if c := r.shows(name, nil); c.DNSNames[0] != "own" {
			t.Errorf("%q: %v of %v", name, c.DNSNames, c.Issuer)
		}
	}
	err := filepath.WalkDir(r.cache, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if log := r.log.String(); strings.Contains(log, "PRIVATE") {
		t.Errorf("a key is in the log: %s", log)
	}
	before := r.shows("sip.example.org", nil)
	again := r.open("https://127.0.0.1:1/dir", nil, []string{"sip.example.org", "www.example.org"})
	if err := again.refresh(t.Context()); err != nil || !again.Has("www.example.org") {
		t.Errorf("after a restart without the server: %v", err)
	}
	if c := again.certs["sip.example.org"]; len(c) != 2 || !bytes.Equal(c[0].Certificate[0], before.Raw) {
		t.Errorf("after a restart %d certificates, and not the same", len(c))
	}
}

// TestACMERenews has certificates that end soon replaced without a restart.
func TestACMERenews(t *testing.T) {
	t.Parallel()
	r := newACMERig(t, 30*time.Second, "sip.example.org")
	patiently(t, "the certificate", func() bool { return r.acme.Has("sip.example.org") })
	first := r.shows("sip.example.org", nil)
	deadline := time.Now().Add(2 * time.Minute)
	for ; ; time.Sleep(100 * time.Millisecond) {
		if c := r.shows("sip.example.org", nil); c.NotAfter.Sub(first.NotAfter) > 5*time.Second && c.VerifyHostname("sip.example.org") == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it is not renewed")
		}
	}
}

// TestACMERefused has an authority that finds the name elsewhere: there is no certificate, everybody sees the other one at once, the log
// says why, and a signal tries again.
func TestACMERefused(t *testing.T) {
	t.Parallel()
	r := newACMERig(t, 24*time.Hour, "elsewhere.example.org", "here.example.org")
	patiently(t, "the error", func() bool { return strings.Count(r.log.String(), "no certificate by ACME") == 1 })
	if log := r.log.String(); !strings.Contains(log, "elsewhere.example.org (ECDSA)") || !strings.Contains(log, "again=5m0s") {
		t.Errorf("the log says %s", log)
	}
	if c := r.shows("elsewhere.example.org", nil); c.DNSNames[0] != "own" || r.acme.Has("elsewhere.example.org") {
		t.Errorf("%v is shown", c.DNSNames)
	}
	if c := r.shows("here.example.org", nil); c.VerifyHostname("here.example.org") != nil {
		t.Errorf("the other name suffers: %v", c.DNSNames)
	}
	r.again <- struct{}{}
	patiently(t, "another try", func() bool { return strings.Contains(r.log.String(), "again=10m0s") })
}

// patiently is wait for what other programs do.
func patiently(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !happened(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
