package cluster

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"os"
	"strings"
	"time"
)

// Key is the one secret that all nodes of a cluster share. Whoever has it is a node; nothing else is asked.
//
// What is said between nodes goes over TLS 1.3. Both sides show the same self-signed certificate, whose Ed25519 key is
// made of the cluster key by HKDF (RFC 5869), and take no other: the CertificateVerify of the handshake (RFC 8446
// §4.4.3) proves that the peer has the private key, which nobody has who does not have the cluster key. So there is no
// authority, no file per node, nothing that expires, and no cryptography of our own. The key itself is never sent and
// encrypts nothing, so that a recorded connection stays closed to who learns the key later.
type Key [32]byte

const keySize = len(Key{})

// NewKey draws a key.
func NewKey() Key {
	var k Key
	_, _ = rand.Read(k[:]) // it never fails
	return k
}

// Text is the key as it stands in a file: base64, one line.
func (k Key) Text() string { return base64.StdEncoding.EncodeToString(k[:]) }

// String keeps the key out of logs.
func (k Key) String() string { return "cluster key" }

// ParseKey reads the base64 of 32 bytes; white space round it does not count.
func ParseKey(text string) (Key, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(b) != keySize {
		return Key{}, errors.New("not a cluster key: 32 bytes in base64 are wanted; `baton cluster key` prints a new one")
	}
	return Key(b), nil
}

// ReadKey reads the file of the key. One that everybody on the machine can read is refused: it is all that keeps strangers out.
func ReadKey(file string) (Key, error) {
	info, err := os.Stat(file)
	if err != nil {
		return Key{}, fmt.Errorf("%w; copy it from another node or, for the first one, make it with `baton cluster key %s`", err, file)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o007 != 0 {
		return Key{}, fmt.Errorf("%s is open to everybody on this machine (mode %04o); chmod 600 it", file, info.Mode().Perm())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return Key{}, err
	}
	k, err := ParseKey(string(text))
	if err != nil {
		return Key{}, fmt.Errorf("%s: %w", file, err)
	}
	return k, nil
}

// protocol is the ALPN name: nodes that speak otherwise do not shake hands.
const protocol = "baton-mesh/1"

var errStranger = errors.New("the other side has another cluster key")

// identity makes the certificate that all nodes of the cluster have in common, and the settings of both ends of a connection.
func (k Key) identity() (*tls.Config, error) {
	secret, err := hkdf.Key(sha256.New, k[:], nil, "baton cluster: certificate of nodes", ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("cluster key: %w", err)
	}
	private := ed25519.NewKeyFromSeed(secret)
	public := private.Public().(ed25519.PublicKey)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "baton node"},
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		return nil, fmt.Errorf("certificate of the cluster: %w", err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{protocol}, SessionTicketsDisabled: true,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}},
		ClientAuth:   tls.RequireAnyClientCert, InsecureSkipVerify: true, // names and authorities say nothing here: VerifyConnection does
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) != 1 || s.NegotiatedProtocol != protocol || s.DidResume {
				return errStranger
			}
			if theirs, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey); !ok || !theirs.Equal(public) {
				return errStranger
			}
			return nil
		},
	}, nil
}
