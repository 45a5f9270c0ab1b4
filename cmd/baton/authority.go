package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"baton/config"
)

// The files in the data directory: the certificate that the node shows, one's own may be put there, and the CA that
// signs it.
const (
	certName   = "tls.crt"
	keyName    = "tls.key"
	caName     = "ca.crt"
	caKeyName  = "ca.key"
	acmeName   = "acme" // a directory
	caYears    = 10
	certDays   = 365
	renewDays  = 30
	clockSlack = 24 * time.Hour // phones' clocks are often behind
)

// authority is the data directory's own CA: phones trust it once, and take every certificate that it signs.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// ownAuthority opens the CA of a data directory and makes one at first start. There is none, and nil, where a
// certificate was put or made without one.
func ownAuthority(dir string) (*authority, error) {
	certFile, keyFile := filepath.Join(dir, caName), filepath.Join(dir, caKeyName)
	_, caErr := os.Stat(certFile)
	_, certErr := os.Stat(filepath.Join(dir, certName))
	switch {
	case caErr == nil:
		return openAuthority(certFile, keyFile)
	case !errors.Is(caErr, os.ErrNotExist):
		return nil, caErr
	case certErr == nil:
		return nil, nil
	}
	return makeAuthority(certFile, keyFile)
}

func openAuthority(certFile, keyFile string) (*authority, error) {
	cert, err := readCertificate(certFile)
	if err != nil {
		return nil, fmt.Errorf("read the CA %s: %w", certFile, err)
	}
	key, err := readKey(keyFile)
	if err != nil {
		return nil, fmt.Errorf("read the CA's key: %w (without it, remove %s and %s too: a new CA is made, and phones must be told to trust it)", err, caName, certName)
	}
	if public, ok := key.Public().(*rsa.PublicKey); !ok || !public.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("the CA %s and its key %s do not belong together", certFile, keyFile)
	}
	return &authority{cert, key}, nil
}

// makeAuthority makes a CA that may sign servers and no other CA. Its certificate is written last: where it is, the key
// is whole.
func makeAuthority(certFile, keyFile string) (*authority, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: fmt.Sprintf("baton CA %08x", serial.Bytes()[:4])},
		NotBefore:    now.Add(-clockSlack),
		NotAfter:     now.AddDate(caYears, 0, 0),
		KeyUsage:     x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:         true, MaxPathLenZero: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	if err := writePair(certFile, keyFile, der, key); err != nil {
		return nil, fmt.Errorf("write the CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{cert, key}, err
}

// signed tells this CA's certificates from others.
func (a *authority) signed(c *x509.Certificate) bool { return c.CheckSignatureFrom(a.cert) == nil }

// issue signs a certificate for these names. Its key is that of the last one, or a new one: RSA, because older desk
// phones know nothing else.
func (a *authority) issue(certFile, keyFile string, n names, now time.Time) error {
	if now.After(a.cert.NotAfter) {
		return fmt.Errorf("the CA has expired on %s; remove %s, %s and %s to have a new one made, and tell the phones to trust it",
			a.cert.NotAfter.Format(time.DateOnly), caName, caKeyName, certName)
	}
	key, err := keyFor(keyFile)
	if err != nil {
		return err
	}
	serial, err := serialNumber()
	if err != nil {
		return err
	}
	until := now.AddDate(0, 0, certDays)
	if a.cert.NotAfter.Before(until) {
		until = a.cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: n.common()},
		NotBefore:    now.Add(-clockSlack),
		NotAfter:     until,
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     n.hosts, IPAddresses: n.ips(),
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return err
	}
	return writePair(certFile, keyFile, der, key)
}

// keyFor is the RSA key of a file, or a new one.
func keyFor(file string) (crypto.Signer, error) {
	if key, err := readKey(file); err == nil {
		if _, ok := key.(*rsa.PrivateKey); ok {
			return key, nil
		}
	}
	return rsa.GenerateKey(rand.Reader, 2048)
}

func serialNumber() (*big.Int, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, err
	}
	b[0] = b[0]&0x7f | 0x40 // positive, and 16 bytes long
	return new(big.Int).SetBytes(b[:]), nil
}

// names are what a certificate must be good for.
type names struct {
	hosts []string
	ips   func() []net.IP // of the configuration and the machine, now
}

// namesOf are the names and addresses under which phones know this machine.
func namesOf(c config.Config) names {
	n := names{hosts: []string{"localhost"}}
	var fixed []net.IP
	add := func(host string) {
		if ip := net.ParseIP(host); ip != nil {
			fixed = append(fixed, ip)
		} else if host != "" && !slices.Contains(n.hosts, host) {
			n.hosts = append(n.hosts, host)
		}
	}
	if name, err := os.Hostname(); err == nil && plainName(name) {
		add(name)
	}
	add(c.Domain)
	add(c.Advertise.SIP)
	n.ips = func() []net.IP {
		all := slices.Clone(fixed)
		for _, a := range machineAddresses() {
			all = append(all, a.IP.AsSlice())
		}
		return all
	}
	return n
}

// plainName tells a host name that a certificate can hold; a machine may be called anything.
func plainName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && r != '.' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// common is the one name that phones compare which know no others: the last one that was configured. It may have 64
// characters (RFC 5280 A.1).
func (n names) common() string {
	if last := n.hosts[len(n.hosts)-1]; len(last) <= 64 {
		return last
	}
	return "baton"
}

// missing says why a certificate (nil = none) does not serve any more, "" if it does. A name too many is no harm.
func (n names) missing(c *x509.Certificate, now time.Time) string {
	if c == nil {
		return "there was none"
	}
	if now.After(c.NotAfter.AddDate(0, 0, -renewDays)) {
		return "the last one ends on " + c.NotAfter.Format(time.DateOnly)
	}
	for _, host := range n.hosts {
		if !slices.ContainsFunc(c.DNSNames, func(s string) bool { return strings.EqualFold(s, host) }) {
			return "new name " + host
		}
	}
	for _, ip := range n.ips() {
		if !slices.ContainsFunc(c.IPAddresses, ip.Equal) {
			return "new address " + ip.String()
		}
	}
	return ""
}

// writePair writes a key and then its certificate.
func writePair(certFile, keyFile string, der []byte, key crypto.Signer) error {
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writeWhole(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600); err != nil {
		return err
	}
	return writeWhole(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// readKey reads a PKCS #8 key, as writePair writes it.
func readKey(name string) (crypto.Signer, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	der, err := firstBlock(name, data, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s cannot sign", name)
	}
	return s, nil
}

// firstBlock finds the first PEM block of a kind.
func firstBlock(name string, data []byte, kind string) ([]byte, error) {
	for {
		block, rest := pem.Decode(data)
		switch {
		case block == nil:
			return nil, fmt.Errorf("%s has no %s in PEM", name, kind)
		case block.Type == kind:
			return block.Bytes, nil
		}
		data = rest
	}
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
