package main

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCA wants what baton ca prints to be what a client needs, and a running node to change its certificate when it is
// told to, while who is connected stays so.
func TestCA(t *testing.T) {
	dir := shortDir(t)
	wants(t, 4, `there is no certificate in .* yet`, "ca", "--data", dir)
	p := serve(t, dir)
	text, side, code := run(t, "", "ca", "--data", dir)
	block, _ := pem.Decode([]byte(text))
	if code != 0 || block == nil {
		t.Fatalf("status %d, %s%s", code, text, side)
	}
	sum := sha256.Sum256(block.Bytes)
	if want := strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":"); !strings.Contains(side, "SHA-256 "+want) || !strings.Contains(side, "CN=baton CA ") {
		t.Errorf("told %q", side)
	}
	if der, _, _ := run(t, "", "ca", "--der", "--data", dir); der != string(block.Bytes) {
		t.Error("--der is something else")
	}
	var told trust
	if err := json.Unmarshal([]byte(wants(t, 0, `"sha256"`, "ca", "--json", "--data", dir)), &told); err != nil || told.PEM != text {
		t.Errorf("%+v %v", told, err)
	}

	at := regexp.MustCompile(`tls (127\.0\.0\.1:\d+)`).FindStringSubmatch(p.errs.String())
	if at == nil {
		t.Fatalf("no TLS listener: %s", p.errs.String())
	}
	first := dialTLS(t, at[1], "127.0.0.1", text)
	selfSigned(t, filepath.Join(dir, certName), filepath.Join(dir, keyName), "own.example.org")
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the new certificate", func() bool { return strings.Contains(p.errs.String(), "certificate loaded") })
	own, err := os.ReadFile(filepath.Join(dir, certName))
	if err != nil {
		t.Fatal(err)
	}
	dialTLS(t, at[1], "own.example.org", string(own))
	if _, err := first.Write([]byte("\r\n\r\n")); err != nil {
		t.Error(err)
	}
	_ = first.SetReadDeadline(time.Now().Add(5 * time.Second))
	if pong, err := bufio.NewReader(first).ReadString('\n'); err != nil || pong != "\r\n" {
		t.Errorf("the first connection: %q, %v", pong, err)
	}
	wants(t, 0, `CN=own.example.org, until`, "ca", "--data", dir)
	if p.cmd.ProcessState != nil {
		t.Error("SIGHUP has ended the node")
	}
}

// dialTLS connects as a client that trusts these alone and expects this name.
func dialTLS(t *testing.T, at, name, roots string) *tls.Conn {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(roots))
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", at, &tls.Config{RootCAs: pool, ServerName: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
