package main

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCertificate wants one certificate for ever, a private key nobody else can read, and a handshake to work.
func TestCertificate(t *testing.T) {
	dir := t.TempDir()
	first, err := certificate(dir, "example.org")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, keyName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key has mode %v, error %v", info.Mode(), err)
	}
	second, err := certificate(dir, "example.org")
	if err != nil || string(second.Certificates[0].Certificate[0]) != string(first.Certificates[0].Certificate[0]) {
		t.Errorf("the second start has another certificate (error %v)", err)
	}
	if err := first.Certificates[0].Leaf.VerifyHostname("example.org"); err != nil {
		t.Error(err)
	}
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	done := make(chan error, 1)
	go func() { done <- tls.Server(ours, first).Handshake() }()
	if err := tls.Client(theirs, &tls.Config{InsecureSkipVerify: true}).Handshake(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.crt.*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestCertificateBroken(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, certName), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := certificate(dir, ""); err == nil || !strings.Contains(err.Error(), "remove both") {
		t.Errorf("a broken certificate: %v", err)
	}
}
