// Package pebble runs Let's Encrypt's own test server for ACME (RFC 8555): it gives a certificate only when it has seen, on the port of
// tls-alpn-01 (RFC 8737), that the name is its client's.
package pebble

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	crypto "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
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
)

// Server is one authority. Its DNS says that every name is at 127.0.0.1, but those that begin with "elsewhere".
type Server struct {
	Directory string // URL
	RootFile  string // PEM certificate that its HTTPS is trusted by

	t      testing.TB
	dir    string
	host   string
	client *http.Client

	mu  sync.Mutex
	log bytes.Buffer
}

// New chooses where the server will be.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, dir: t.TempDir(), host: fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), 1+rand.IntN(250), 1+rand.IntN(250))} // no other test's
	s.Directory = "https://" + s.host + ":14000/dir"
	key, err := ecdsa.GenerateKey(elliptic.P256(), crypto.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(s.host)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(crypto.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s.write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	s.RootFile = s.write("cert.pem", root)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: 20 * time.Second}
	return s
}

// Client trusts the server.
func (s *Server) Client() *http.Client { return s.client }

// Start starts the server until the test ends. Its certificates are valid for so long; it looks for names at tlsPort.
func (s *Server) Start(tlsPort uint16, valid time.Duration) {
	s.t.Helper()
	settings, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": s.host + ":14000", "managementListenAddress": s.host + ":15000", "httpPort": 1, "tlsPort": tlsPort,
		"certificate": s.RootFile, "privateKey": filepath.Join(s.dir, "key.pem"), "keyAlgorithm": "ecdsa",
		"retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles":   map[string]any{"default": map[string]any{"description": "the only one", "validityPeriod": int(valid.Seconds())}},
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.CommandContext(s.t.Context(), s.build(), "-config", s.write("pebble.json", settings), "-dnsserver", s.nameServer(), "-strict")
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
	cmd.Stdout, cmd.Stderr = s, s
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		s.client.CloseIdleConnections()
		if s.t.Failed() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.t.Logf("pebble said\n%s", s.log.String())
		}
	})
	s.await()
}

// build makes the program, of the version in tools.mod.
func (s *Server) build() string {
	s.t.Helper()
	root, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		s.t.Fatal(err)
	}
	program := filepath.Join(s.dir, "pebble")
	cmd := exec.CommandContext(s.t.Context(), "go", "build", "-modfile=tools.mod", "-o", program, "github.com/letsencrypt/pebble/v2/cmd/pebble")
	cmd.Dir = filepath.Dir(strings.TrimSpace(string(root)))
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("build pebble: %v\n%s", err, out)
	}
	return program
}

func (s *Server) await() {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		resp, err := s.client.Get(s.Directory)
		if err == nil {
			resp.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("waited in vain for pebble: %v", err)
		}
	}
}

// Write collects what the server says.
func (s *Server) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(b)
}

func (s *Server) write(name string, data []byte) string {
	s.t.Helper()
	name = filepath.Join(s.dir, name)
	if err := os.WriteFile(name, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return name
}

// nameServer answers for every name, over TCP as Pebble asks.
func (s *Server) nameServer() string {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	server := &dns.Server{Listener: l, Handler: dns.HandlerFunc(answer)}
	var done sync.WaitGroup
	done.Go(func() { _ = server.ActivateAndServe() })
	s.t.Cleanup(func() {
		_ = server.Shutdown()
		_ = l.Close()
		done.Wait()
	})
	return l.Addr().String()
}

func answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeA {
		name, at := q.Question[0].Name, "127.0.0.1"
		if strings.HasPrefix(name, "elsewhere") {
			at = "127.0.0.2"
		}
		m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.ParseIP(at)})
	}
	_ = w.WriteMsg(m)
}
