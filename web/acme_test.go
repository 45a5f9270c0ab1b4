package web

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"baton/config"
)

// authority is Let's Encrypt's own test server, Pebble: it gives a certificate only when it has seen on the port of tls-alpn-01
// that the name is ours. Its DNS says that every name is at 127.0.0.1, but those that begin with "elsewhere".
type authority struct {
	client    *http.Client
	directory string
	log       *lockedBuffer
}

func newAuthority(t *testing.T, tlsPort uint16, valid time.Duration) *authority {
	t.Helper()
	dir := t.TempDir()
	pebble := filepath.Join(dir, "pebble")
	build := exec.CommandContext(t.Context(), "go", "build", "-modfile=../tools.mod", "-o", pebble, "github.com/letsencrypt/pebble/v2/cmd/pebble")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build pebble: %v\n%s", err, out)
	}
	host := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), 1+rand.IntN(250), 1+rand.IntN(250)) // no other test's
	cert := certificateFor(t, host)
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	settings, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": host + ":14000", "managementListenAddress": host + ":15000", "httpPort": 1, "tlsPort": tlsPort,
		"certificate":  write("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})),
		"privateKey":   write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
		"retryAfter":   map[string]int{"authz": 1, "order": 1},
		"keyAlgorithm": "ecdsa",
		"profiles":     map[string]any{"default": map[string]any{"description": "x", "validityPeriod": int(valid.Seconds())}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{
		directory: "https://" + host + ":14000/dir", log: &lockedBuffer{},
		client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: 20 * time.Second},
	}
	cmd := exec.CommandContext(t.Context(), pebble, "-config", write("pebble.json", settings), "-dnsserver", nameServer(t), "-strict")
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
	cmd.Stdout, cmd.Stderr = a.log, a.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		a.client.CloseIdleConnections()
		if t.Failed() {
			t.Logf("pebble said\n%s", a.log)
		}
	})
	patiently(t, "pebble", func() bool {
		resp, err := a.client.Get(a.directory)
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	return a
}

// nameServer answers for every name, over TCP as Pebble asks.
func nameServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeA {
			at := "127.0.0.1"
			if strings.HasPrefix(q.Question[0].Name, "elsewhere") {
				at = "127.0.0.2"
			}
			m.Answer = append(m.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.ParseIP(at),
			})
		}
		_ = w.WriteMsg(m)
	})}
	var done sync.WaitGroup
	done.Go(func() { _ = s.ActivateAndServe() })
	t.Cleanup(func() {
		_ = s.Shutdown()
		_ = l.Close()
		done.Wait()
	})
	return l.Addr().String()
}

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
	a := newAuthority(t, r.port.Addr().Port(), valid)
	r.acme = r.open(a.directory, a.client, names)
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
		if c := r.shows("sip.example.org", nil); c.SerialNumber.Cmp(first.SerialNumber) != 0 && c.VerifyHostname("sip.example.org") == nil {
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
