package e2e

import (
	"bytes"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
	"baton/test/redis"
)

// redisConfig is the part of a node's file that has it keep its state in a Redis; each key is a new one.
func redisConfig(t *testing.T, url, name string) string {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	file := filepath.Join(t.TempDir(), "cluster.key")
	if err := os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("store:\n  redis: %s\ncluster:\n  name: %s\n  key_file: %s\n", url, name, file)
}

// dump is all that a server holds, as it lies there.
func dump(t *testing.T, s *redis.Server) []byte {
	t.Helper()
	if text, err := s.Do("SAVE"); err != nil || !strings.HasPrefix(text, "+OK") {
		t.Fatalf("SAVE: %q, %v", text, err)
	}
	b, err := os.ReadFile(filepath.Join(s.Dir(), "dump.rdb"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRedis has a node keep its state in a real Redis: phones with SRTP register and call, the call moves, the node restarts. Its record
// is there while it lasts, no secret is, and after the restart the phones are known and called without registering again.
func TestRedis(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{Args: []string{"--rdbcompression", "no", "--requirepass", "redis-secret"}})
	server.Password = "redis-secret"
	w := newWorld(t, node.Options{Config: "log:\n  level: debug\n" + redisConfig(t, "redis://:redis-secret@"+server.Addr, "n1")})
	sdes := func(c *phone.Config) { c.Transport, c.SRTP = "tls", phone.OSRTP }
	alice, desk, bob := w.phone("alice", "soft"), w.phone("alice", "desk", sdes), w.phone("bob", "far", sdes)
	desk.Behave(phone.AutoAnswer)
	out, in := w.connect(alice, "bob", bob)
	all := append(keysOf(t, "the node towards bob", in), secretText("the password of Redis", "redis-secret"))
	for _, user := range []string{"alice", "bob"} {
		sum := md5.Sum([]byte(user + ":baton:" + node.Password(user)))
		all = append(all, secretText(user+"'s password", node.Password(user)), secretText(user+"'s HA1", hex.EncodeToString(sum[:])))
	}
	_, err := w.CLI("move", "--user", "alice", "desk")
	w.must(err)
	moved := w.ringing(desk)
	all = append(all, keysOf(t, "the node towards alice's desk phone", moved)...)
	w.talk(moved, in)
	w.ended(out)

	held := dump(t, server)
	ids := regexp.MustCompile(`baton:call:\{[^}]+\}`).FindAll(held, -1)
	if len(ids) != 1 || !bytes.Contains(held, []byte("sip:alice")) {
		t.Fatalf("%d records of calls in Redis, want the one of the call", len(ids))
	}
	size, err := server.Do("HSTRLEN", string(ids[0]), "b")
	w.must(err)
	if n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(size, ":"))); err != nil || n == 0 || n > 8192 {
		t.Errorf("the record has %q bytes, want 8192 at most", size)
	} else {
		t.Logf("the record of a call of two legs with SRTP has %d bytes", n)
	}
	if found := foundIn(held, all); len(found) > 0 {
		t.Errorf("Redis has %q", found)
	}
	for _, args := range [][]string{{"config", "show"}, {"devices", "--json"}, {"status"}} {
		text, _ := w.CLI(args...)
		if found := foundIn([]byte(text), all); len(found) > 0 {
			t.Errorf("baton %s shows %q", args[0], found)
		}
	}
	w.must(moved.Hangup())
	w.ended(in)
	w.Eventually(5*time.Second, "the record to be gone", func() error {
		if text, err := server.Do("HEXISTS", string(ids[0]), "b"); err != nil || !strings.HasPrefix(text, ":0") {
			return fmt.Errorf("HEXISTS: %q, %v", text, err)
		}
		return nil
	})

	carol := w.phone("carol", "udp")
	w.Kill()
	w.Run()
	if d := w.deviceOf(carol); !d.Here {
		t.Errorf("after the restart carol's phone is %+v", d)
	}
	out, in = w.connect(alice, "carol", carol)
	w.must(out.Hangup())
	w.ended(in)
	var entries []struct{ Kind string }
	w.must(w.JSON(&entries, "log", "--json"))
	if len(entries) < 5 {
		t.Errorf("the log has %d entries after the restart", len(entries))
	}
	if found := foundIn([]byte(w.Output()), all); len(found) > 0 {
		t.Errorf("the log has %q", found)
	}
}
