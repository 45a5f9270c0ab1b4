package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"baton/config"
)

// opened opens the certificate of a data directory; its log can be read.
func opened(t *testing.T, dir string, change ...func(*config.Config)) (*certificate, *bytes.Buffer) {
	t.Helper()
	c := config.Default()
	c.Data, c.Domain, c.Advertise.SIP = dir, "example.org", "sip.example.net"
	for _, f := range change {
		f(&c)
	}
	var log bytes.Buffer
	cert, err := openCertificate(c, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return cert, &log
}

// shake makes a handshake as a client that trusts roots (nil = anything), and gives both ends.
func shake(t *testing.T, c *certificate, name string, roots *x509.CertPool) (client, server *tls.Conn, err error) {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	server = tls.Server(theirs, c.config())
	go func() { _ = server.Handshake() }()
	client = tls.Client(ours, &tls.Config{ServerName: name, RootCAs: roots, InsecureSkipVerify: roots == nil})
	return client, server, client.Handshake()
}

// shown is the certificate that the next client sees.
func shown(t *testing.T, c *certificate) *x509.Certificate {
	t.Helper()
	client, _, err := shake(t, c, "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	return client.ConnectionState().PeerCertificates[0]
}

// later lets the next handshake look at the files again.
func later(c *certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked = time.Time{}
}

func rootsOf(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		t.Fatalf("no certificate in %s", file)
	}
	return pool
}

// selfSigned writes a certificate as somebody else would make it.
func selfSigned(t *testing.T, certFile, keyFile, name string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err == nil {
		err = writePair(certFile, keyFile, der, key)
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCertificateFirstStart wants a client that trusts only the CA to be content with every name and address of the
// machine, keys that nobody else can read, and the same certificate at the next start.
func TestCertificateFirstStart(t *testing.T) {
	dir := t.TempDir()
	c, _ := opened(t, dir)
	for _, name := range []string{keyName, caKeyName} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, error %v", name, info, err)
		}
	}
	roots := rootsOf(t, filepath.Join(dir, caName))
	wanted := []string{"localhost", "example.org", "sip.example.net"}
	for _, a := range machineAddresses() {
		wanted = append(wanted, a.IP.String())
	}
	for _, name := range wanted {
		if _, _, err := shake(t, c, name, roots); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := shake(t, c, "other.example.org", roots); err == nil {
		t.Error("it is good for another name too")
	}
	leaf := shown(t, c)
	if key, ok := leaf.PublicKey.(*rsa.PublicKey); !ok || key.N.BitLen() != 2048 || leaf.IsCA {
		t.Errorf("key %T, CA %v", leaf.PublicKey, leaf.IsCA)
	}
	again, _ := opened(t, dir)
	if !shown(t, again).Equal(leaf) {
		t.Error("the second start has another certificate")
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.*.*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestCertificateRenewed wants a new one from the same CA and with the same key when it is due: soon over, a new name, a
// new address. An address that is gone is no reason.
func TestCertificateRenewed(t *testing.T) {
	dir := t.TempDir()
	c, log := opened(t, dir)
	roots := rootsOf(t, filepath.Join(dir, caName))
	first := shown(t, c)
	machine := c.names.ips
	now := time.Now()
	steps := []struct {
		name   string
		do     func()
		at     time.Time
		renews bool
	}{
		{"nothing has changed", func() {}, now.AddDate(0, 0, certDays-renewDays-1), false},
		{"soon over", func() {}, now.AddDate(0, 0, certDays-renewDays+1), true},
		{"not again", func() {}, now.AddDate(0, 0, certDays-renewDays+1), false},
		{"new address", func() { c.names.ips = func() []net.IP { return append(machine(), net.ParseIP("203.0.113.7")) } }, now, true},
		{"address gone", func() { c.names.ips = machine }, now, false},
		{"new name", func() { c.names.hosts = append(c.names.hosts, "new.example.org") }, now, true},
		{"taken away", func() { _ = os.Remove(c.certFile) }, now, true},
	}
	before := first
	for _, s := range steps {
		s.do()
		c.tend(s.at)
		after := shown(t, c)
		if renewed := !after.Equal(before); renewed != s.renews {
			t.Errorf("%s: renewed %v, want %v\n%s", s.name, renewed, s.renews, log)
		}
		if !first.PublicKey.(*rsa.PublicKey).Equal(after.PublicKey) {
			t.Errorf("%s: another key", s.name)
		}
		verify := x509.VerifyOptions{Roots: roots, DNSName: "example.org", CurrentTime: s.at.Add(time.Hour)}
		if _, err := after.Verify(verify); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		before = after
	}
	if err := before.VerifyHostname("new.example.org"); err != nil {
		t.Error(err)
	}
	c.tend(now.AddDate(caYears, 0, 1))
	if !shown(t, c).Equal(before) || !strings.Contains(log.String(), "the CA has expired") {
		t.Errorf("after the CA's end: %s", log)
	}
}

// TestCertificateReload wants changed files to be in force from the next look on, broken ones to change nothing but the
// log, and a connection that is there to stay.
func TestCertificateReload(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "own.pem"), filepath.Join(dir, "own.key")
	selfSigned(t, certFile, keyFile, "one.example.org")
	data := t.TempDir()
	c, log := opened(t, data, func(c *config.Config) { c.TLS = config.TLS{Certificate: certFile, Key: keyFile} })
	client, server, err := shake(t, c, "one.example.org", rootsOf(t, certFile))
	if err != nil {
		t.Fatal(err)
	}
	if made, _ := filepath.Glob(filepath.Join(data, "*")); len(made) != 0 {
		t.Errorf("made beside the configured files: %v", made)
	}
	expect := func(what, name string) {
		t.Helper()
		if got := shown(t, c).Subject.CommonName; got != name {
			t.Errorf("%s: %s is shown, want %s\n%s", what, got, name, log)
		}
	}
	selfSigned(t, certFile, keyFile, "two.example.org")
	expect("at once", "one.example.org")
	later(c)
	expect("at the next look", "two.example.org")

	good, _ := os.ReadFile(certFile)
	for what, content := range map[string]string{"nonsense": "nonsense", "half": string(good[:len(good)/2]), "empty": ""} {
		if err := os.WriteFile(certFile, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		log.Reset()
		later(c)
		expect(what, "two.example.org")
		later(c)
		expect(what, "two.example.org")
		if n := strings.Count(log.String(), "is not taken"); n != 1 || !strings.Contains(log.String(), certFile) {
			t.Errorf("%s: told %d times:\n%s", what, n, log)
		}
		if err := c.Reload(); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	selfSigned(t, certFile, filepath.Join(dir, "other.key"), "three.example.org")
	later(c)
	expect("certificate without its key", "two.example.org")
	if err := os.Rename(filepath.Join(dir, "other.key"), keyFile); err != nil {
		t.Fatal(err)
	}
	if err := c.Reload(); err != nil {
		t.Error(err)
	}
	expect("told to reload", "three.example.org")

	go func() { _, _ = server.Write([]byte("hello")) }()
	buf := make([]byte, 5)
	if _, err := io.ReadFull(client, buf); err != nil || string(buf) != "hello" {
		t.Errorf("the first connection: %q, %v", buf, err)
	}
}

// TestCertificateOfOthers wants nothing to be made or changed where somebody else's certificate lies: one that was there
// before there were CAs, and one that was put in place of ours.
func TestCertificateOfOthers(t *testing.T) {
	for name, prepare := range map[string]func(dir string){
		"there first": func(string) {},
		"put later":   func(dir string) { opened(t, dir) },
	} {
		dir := t.TempDir()
		prepare(dir)
		before, _ := filepath.Glob(filepath.Join(dir, "ca.*"))
		own := selfSigned(t, filepath.Join(dir, certName), filepath.Join(dir, keyName), "old.example.org")
		c, log := opened(t, dir)
		c.tend(time.Now().AddDate(0, 0, 360))
		if !shown(t, c).Equal(own) {
			t.Errorf("%s: another one is shown", name)
		}
		if after, _ := filepath.Glob(filepath.Join(dir, "ca.*")); len(after) != len(before) {
			t.Errorf("%s: %v was made", name, after)
		}
		if !strings.Contains(log.String(), "ends soon") {
			t.Errorf("%s: no warning of its end", name)
		}
	}
}

func TestCertificateBroken(t *testing.T) {
	for what, c := range map[string]struct {
		spoil func(dir string)
		want  string
	}{
		"nonsense":  {func(dir string) { _ = os.WriteFile(filepath.Join(dir, certName), []byte("nonsense"), 0o600) }, "remove both"},
		"no key":    {func(dir string) { opened(t, dir); _ = os.Remove(filepath.Join(dir, keyName)) }, "remove both"},
		"no CA key": {func(dir string) { opened(t, dir); _ = os.Remove(filepath.Join(dir, caKeyName)) }, "phones must be told"},
		"CA of another": {func(dir string) {
			opened(t, dir)
			selfSigned(t, filepath.Join(dir, caName), filepath.Join(dir, "x"), "x")
		}, "do not belong together"},
	} {
		dir := t.TempDir()
		c.spoil(dir)
		set := config.Default()
		set.Data = dir
		if _, err := openCertificate(set, discard()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}

// slowSigner notes how many signatures are made at a time.
type slowSigner struct {
	crypto.Signer
	now, most atomic.Int32
}

// Sign takes a while and fails.
func (s *slowSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	n := s.now.Add(1)
	defer s.now.Add(-1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	time.Sleep(time.Millisecond)
	return nil, errors.New("no")
}

func TestSignaturesTakeTurns(t *testing.T) {
	slow := &slowSigner{}
	s := &signer{slow, make(chan struct{}, 2)}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { _, _ = s.Sign(nil, nil, nil) })
	}
	wg.Wait()
	if most := slow.most.Load(); most > 2 || most < 1 {
		t.Errorf("%d signatures at a time, want at most 2", most)
	}
}
