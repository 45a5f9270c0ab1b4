package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// The certificate's files in the data directory; one's own may be put there.
const (
	certName = "tls.crt"
	keyName  = "tls.key"
)

// certificate loads the certificate of the data directory, and makes one at first start.
func certificate(dir, domain string) (*tls.Config, error) {
	certFile, keyFile := filepath.Join(dir, certName), filepath.Join(dir, keyName)
	if _, err := os.Stat(certFile); errors.Is(err, os.ErrNotExist) {
		if err := makeCertificate(certFile, keyFile, domain); err != nil {
			return nil, fmt.Errorf("make a certificate: %w", err)
		}
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("load certificate %s with key %s: %w (remove both to have new ones made)", certFile, keyFile, err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

// makeCertificate writes a self-signed certificate for all names and addresses of this machine. It is RSA, because
// older desk phones know nothing else. The certificate is written last: where it is, the key is whole.
func makeCertificate(certFile, keyFile, domain string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	template, err := selfSigned(domain)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writeWhole(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600); err != nil {
		return err
	}
	return writeWhole(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// selfSigned is the content of a certificate of this machine, valid for ten years.
func selfSigned(domain string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "baton"},
		NotBefore:             time.Now().Add(-24 * time.Hour), // phones' clocks are often behind
		NotAfter:              time.Now().AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		DNSNames:              []string{"localhost"},
	}
	if name, err := os.Hostname(); err == nil && name != "localhost" {
		c.DNSNames = append(c.DNSNames, name)
	}
	if ip := net.ParseIP(domain); ip != nil {
		c.IPAddresses = append(c.IPAddresses, ip)
	} else if domain != "" {
		c.DNSNames = append(c.DNSNames, domain)
	}
	for _, a := range machineAddresses() {
		c.IPAddresses = append(c.IPAddresses, a.IP.AsSlice())
	}
	return c, nil
}

// writeWhole writes a file that is there whole or not at all.
func writeWhole(name string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
