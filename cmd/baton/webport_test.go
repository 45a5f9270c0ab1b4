package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"baton/test/pebble"
	"baton/web"
)

// at is where a running node listens.
func at(t *testing.T, dir, transport string) string {
	t.Helper()
	client, err := web.Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	n, err := client.Node(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n.Listen[transport]
}

// browse asks a node's HTTPS port as somebody who trusts roots and sees the server under a name.
func browse(t *testing.T, address, name, path string, roots *x509.CertPool) (*http.Response, string) {
	t.Helper()
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: name, InsecureSkipVerify: roots == nil},
	}}
	resp, err := client.Get("https://" + address + path)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return resp, string(b)
}

// TestWebPort asks a node what a browser and a load balancer would, trusting the node's own CA alone.
func TestWebPort(t *testing.T) {
	dir := shortDir(t)
	p := serve(t, dir)
	web := at(t, dir, "web")
	roots := rootsOf(t, filepath.Join(dir, caName))
	for path, want := range map[string]struct {
		code int
		text string
	}{
		"/healthz": {200, "ok"}, "/readyz": {200, "ready"}, "/ca.crt": {200, "BEGIN CERTIFICATE"}, "/metrics": {401, "token"},
	} {
		resp, body := browse(t, web, "127.0.0.1", path, roots)
		if resp.StatusCode != want.code || !strings.Contains(body, want.text) || resp.Header.Get("Strict-Transport-Security") != "" {
			t.Errorf("%s: %s %v %s", path, resp.Status, resp.Header, body)
		}
	}
	_, downloaded := browse(t, web, "127.0.0.1", "/ca.crt", roots)
	if printed, _, _ := run(t, "", "ca", "--data", dir); printed != downloaded {
		t.Errorf("/ca.crt gives\n%sbaton ca prints\n%s", downloaded, printed)
	}
	noRedirects := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := noRedirects.Get("http://" + web + "/x")
	if err != nil || resp.Header.Get("Location") != "https://"+web+"/x" {
		t.Errorf("HTTP: %v, error %v", resp, err)
	}
	// Its own certificate by somebody else, put there while it runs.
	selfSigned(t, filepath.Join(dir, certName), filepath.Join(dir, keyName), "elsewhere")
	time.Sleep(lookEvery)
	resp, body := browse(t, web, "x", "/ca.crt", nil)
	if resp.StatusCode != 404 || resp.TLS.PeerCertificates[0].DNSNames[0] != "elsewhere" {
		t.Errorf("with another certificate: %s %s of %v", resp.Status, body, resp.TLS.PeerCertificates[0].DNSNames)
	}
	idle, err := tls.Dial("tcp", web, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	began := time.Now()
	if code := p.stop(t, syscall.SIGTERM); code != 0 || time.Since(began) > 10*time.Second {
		t.Errorf("status %d after %v", code, time.Since(began))
	}
}

// TestWebPortOff has no port where it is off, and tells of one that is taken.
func TestWebPortOff(t *testing.T) {
	dir := shortDir(t)
	serve(t, dir, "--config", write(t, strings.Replace(local, `web: "127.0.0.1:0"`, "web: off", 1)))
	if web := at(t, dir, "web"); web != "" {
		t.Errorf("it listens at %s", web)
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	taken := strings.Replace(local, `web: "127.0.0.1:0"`, fmt.Sprintf("web: %q", busy.Addr()), 1)
	wants(t, 1, fmt.Sprintf(`^baton: listen on web %s: .*in use: \S+ \(pid %d\) has web .*; to use another port: BATON_LISTEN_WEB=`, busy.Addr(), os.Getpid()),
		"serve", "--data", shortDir(t), "--config", write(t, taken))
}

// TestACMENode has a node get certificates from a real ACME server that it finds at a signal only, and show them on the HTTPS and the
// SIP port to who asks for the name; others go on seeing that of its own CA.
func TestACMENode(t *testing.T) {
	authority := pebble.New(t)
	t.Setenv("SSL_CERT_FILE", authority.RootFile)
	dir := shortDir(t)
	p := serve(t, dir, "--config", write(t, local+fmt.Sprintf("tls: {acme: {names: [sip.example.org], agree: true, directory: %q}}\n", authority.Directory)))
	waitFor(t, "the first try", func() bool { return strings.Contains(p.errs.String(), "no certificate by ACME") })
	secure := netip.MustParseAddrPort(at(t, dir, "web"))
	shows := func(address, name string) *x509.Certificate {
		c, err := tls.Dial("tcp", address, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0]
	}
	if c := shows(secure.String(), "sip.example.org"); !strings.HasPrefix(c.Issuer.CommonName, "baton CA") {
		t.Errorf("before there is one, %v is shown", c.Issuer)
	}
	authority.Start(secure.Port(), 24*time.Hour)
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "both certificates", func() bool { return strings.Count(p.errs.String(), "from=acme name=sip.example.org") == 2 })
	for _, transport := range []string{"web", "tls"} {
		address := at(t, dir, transport)
		if c := shows(address, "sip.example.org"); !strings.Contains(c.Issuer.CommonName, "Pebble") || c.VerifyHostname("sip.example.org") != nil {
			t.Errorf("%s: %v shows %v", transport, c.Issuer, c.DNSNames)
		}
		if c := shows(address, "127.0.0.1"); !strings.HasPrefix(c.Issuer.CommonName, "baton CA") {
			t.Errorf("%s, by its address: %v", transport, c.Issuer)
		}
	}
	if resp, _ := browse(t, secure.String(), "sip.example.org", "/healthz", nil); resp.Header.Get("Strict-Transport-Security") == "" {
		t.Error("no HSTS for a public name")
	}
	if resp, _ := browse(t, secure.String(), "127.0.0.1", "/healthz", nil); resp.Header.Get("Strict-Transport-Security") != "" {
		t.Error("HSTS with a certificate of our own CA")
	}
	if out, _, _ := run(t, "", "doctor", "--data", dir); !strings.Contains(out, "certificate: sip.example.org: expires on") {
		t.Errorf("doctor says\n%s", out)
	}
	if code := p.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("status %d", code)
	}
	if bytes.Contains([]byte(p.errs.String()), []byte("PRIVATE KEY")) {
		t.Error("a key is in the log")
	}
}
