package store_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"baton/config"
	"baton/store"
	"baton/store/storetest"
	"baton/test/redis"
)

// certificate writes one for 127.0.0.1 that is its own authority, and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	good(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	good(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	good(t, err)
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(t.TempDir(), name)
		good(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600))
		return path
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", pkcs8)
}

// rights are those that docs/cluster.md gives a user of Redis for baton.
var rights = []string{"on", ">geheim", "~office:*", "resetchannels", "-@all", "+@read", "+@write", "+@connection", "+@scripting", "+info", "+wait"}

// TestRedisTLS has a node reach a server by TLS with the password of a user who may do no more than it needs, from a file; and tell
// what is wrong without any of the three.
func TestRedisTLS(t *testing.T) {
	cert, key := certificate(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	good(t, err)
	port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	good(t, l.Close())
	args := append([]string{
		"--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no", "--user", "baton",
	}, rights...)
	redis.Start(t, redis.Options{Args: args})
	o := redisOptions("rediss://baton@127.0.0.1:"+port+"/0", "n1")
	o.CA, o.Prefix = cert, "office:"
	o.PasswordFile = filepath.Join(t.TempDir(), "password")
	good(t, os.WriteFile(o.PasswordFile, []byte("geheim\n"), 0o600))
	s, _ := startRedis(t, o)
	storetestRound(t, s)

	for what, change := range map[string]func(*store.RedisOptions){
		"certificate signed by unknown authority": func(o *store.RedisOptions) { o.CA = "" },
		"WRONGPASS": func(o *store.RedisOptions) {
			o.PasswordFile, o.Redis = "", config.RedisURL("rediss://baton:falsch@127.0.0.1:"+port)
		},
		"NOPERM":                          func(o *store.RedisOptions) { o.Prefix = "other:" },
		"store.password_file: open /none": func(o *store.RedisOptions) { o.PasswordFile = "/none" },
		"store.ca: " + o.PasswordFile:     func(o *store.RedisOptions) { o.CA = o.PasswordFile },
	} {
		wrong := o
		change(&wrong)
		begun := time.Now()
		s, err := store.OpenRedis(wrong)
		if err == nil {
			t.Errorf("%s: it opens", what)
			_ = s.Close()
			continue
		}
		if !strings.Contains(err.Error(), what) || strings.Contains(err.Error(), "falsch") || time.Since(begun) > 10*time.Second {
			t.Errorf("after %v: %v, want %q", time.Since(begun), err, what)
		}
	}
}

// storetestRound uses a bit of everything.
func storetestRound(t *testing.T, s *store.Redis) {
	t.Helper()
	good(t, s.PutUser(storetest.User("alice", "101")))
	good(t, s.PutToken(storetest.Token("t1", "alice")))
	good(t, storetest.Wait(t, func(done func(error)) { s.End("none", 1, done) }))
	if users, err := s.Users(); err != nil || len(users) != 1 {
		t.Errorf("users are %v, %v", users, err)
	}
	if calls, err := s.Calls(); err != nil || len(calls) != 0 {
		t.Errorf("calls are %v, %v", calls, err)
	}
	if _, err := s.Entries(time.Time{}, time.Time{}, 0); err != nil {
		t.Error(err)
	}
	if err := s.Healthy(); err != nil {
		t.Error(err)
	}
}
