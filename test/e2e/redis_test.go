package e2e

import (
	"bytes"
	"crypto/md5"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
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

// kept is a server that keeps on its disk what it is told.
var kept = redis.Options{Args: []string{"--appendonly", "yes"}}

// readyz is what a load balancer is told.
func (w *world) readyz() int {
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	res, err := c.Get("https://" + w.Web.String() + "/readyz")
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	return res.StatusCode
}

// storeIs waits until the node says how its store is, in all the ways it has.
func (w *world) storeIs(healthy bool) {
	w.t.Helper()
	want := map[bool]int{true: 200, false: 503}[healthy]
	w.Eventually(10*time.Second, fmt.Sprint("a store that is healthy: ", healthy), func() error {
		var n struct{ Store struct{ Healthy bool } }
		if err := w.JSON(&n, "status", "--json"); err != nil {
			return err
		}
		_, err := w.CLI("status")
		if code := w.readyz(); n.Store.Healthy != healthy || code != want || (err == nil) != healthy {
			return fmt.Errorf("status %+v, %v, /readyz %d", n, err, code)
		}
		return nil
	})
}

// TestRedisAway takes the Redis from a node that has a call: frozen, and then ended. The call hears nothing of it, phones register,
// new calls and moves are made; the node says that its store is away, and writes everything when it is back.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, kept)
	w := newWorld(t, node.Options{Config: redisConfig(t, "redis://"+server.Addr, "n1")})
	alice, desk, bob, carol := w.phone("alice", "soft"), w.phone("alice", "desk"), w.phone("bob", "far"), w.phone("carol", "far")
	desk.Behave(phone.AutoAnswer)
	out, in := w.connect(alice, "bob", bob)
	w.storeIs(true)

	server.Freeze()
	w.storeIs(false)
	begun := time.Now()
	_, err := w.CLI("move", "--user", "alice", "desk")
	w.must(err)
	moved := w.ringing(desk)
	w.talk(moved, in)
	w.ended(out)
	t.Logf("a move with a frozen store took %v", time.Since(begun).Round(time.Millisecond))
	server.Thaw()
	w.storeIs(true)

	server.Kill()
	w.storeIs(false)
	begun = time.Now()
	if _, err := carol.Register(time.Hour); err != nil {
		t.Errorf("a phone cannot register: %v", err)
	}
	registered := time.Since(begun)
	begun = time.Now()
	out, other := w.connect(alice, "carol", carol)
	t.Logf("without a store a phone registers in %v, a call is up and heard in %v", registered.Round(time.Millisecond), time.Since(begun).Round(time.Millisecond))
	w.talk(moved, in)
	server.Run()
	w.storeIs(true)
	w.Eventually(5*time.Second, "both calls to be in Redis", func() error {
		if n := len(regexp.MustCompile(`baton:call:\{[^}]+\}`).FindAll(dump(t, server), -1)); n != 2 {
			return fmt.Errorf("%d records", n)
		}
		return nil
	})
	if gap, at := phone.LongestGap(in.Media().Heard(), in.Media().Heard()[0].At, time.Now()); gap > 200*time.Millisecond {
		t.Errorf("bob heard nothing for %v at %v", gap, at)
	}
	if r := phone.Analyse(in.Media().Heard(), 8000); r.Missing != 0 || len(r.SSRCs) != 1 {
		t.Errorf("bob's stream: %s", r)
	}
	w.must(out.Hangup())
	w.must(moved.Hangup())
	w.ended(in, other)
}

// diagnosis wants a line in what baton doctor says.
func (w *world) diagnosis(want string) {
	w.t.Helper()
	if text, _ := w.CLI("doctor"); !strings.Contains(text, want) || !strings.Contains(text, "redis://127.0.0.1") {
		w.t.Errorf("doctor does not say %q:\n%s", want, text)
	}
}

// TestRedisRefuse has new calls refused by policy while the store is away.
func TestRedisRefuse(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, kept)
	w := newWorld(t, node.Options{
		Config: redisConfig(t, "redis://"+server.Addr, "n1"), Env: []string{"BATON_STORE_DEGRADED=refuse"},
	})
	alice, bob := w.phone("alice", "soft"), w.phone("bob", "far")
	out, in := w.connect(alice, "bob", bob)
	w.diagnosis("the node writes to it")
	server.Kill()
	w.storeIs(false)
	w.diagnosis("store is out of reach since")
	w.status(w.dial(alice, "bob"), 503)
	w.talk(out, in)
	server.Run()
	w.storeIs(true)
	w.must(out.Hangup())
	w.ended(in)
	out, in = w.connect(alice, "bob", bob)
	w.must(out.Hangup())
	w.ended(in)
	w.Stop()
	w.diagnosis("Redis answers, its key fits")
	if text, err := w.CLI("user", "list"); err != nil || !strings.Contains(text, "alice") {
		t.Errorf("without a node the users are %s, %v", text, err)
	}
	server.Kill()
	w.diagnosis("connection refused")
	if _, err := w.CLI("user", "list"); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("without a node and Redis: %v", err)
	}
}

// TestRedisTwoNodes has two nodes on one Redis: users and phones of one are known at the other, neither ends the other's calls or
// bindings when it starts, and a node with another key does not start.
func TestRedisTwoNodes(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	shared := redisConfig(t, "redis://"+server.Addr, "n1")
	a := newWorld(t, node.Options{Config: shared})
	alice, bob := a.phone("alice", "soft", over("tcp")), a.phone("bob", "far")
	out, in := a.connect(alice, "bob", bob)
	b := newWorld(t, node.Options{Config: strings.Replace(shared, "name: n1", "name: n2", 1), Users: map[string]string{"dave": "104"}})
	b.next = a.next + 2
	for _, w := range []*world{a, b} {
		w.Eventually(5*time.Second, "all users at both nodes", func() error {
			var users []struct{ Name string }
			if err := w.JSON(&users, "user", "list", "--json"); err != nil || len(users) != 4 {
				return fmt.Errorf("%v, %v", users, err)
			}
			return nil
		})
	}
	if d := b.deviceOf(alice); !d.Here {
		t.Errorf("alice's phone is %+v at the other node", d)
	}
	carol := b.phone("carol", "soft") // with the password that the other node was given
	a.Eventually(5*time.Second, "carol's phone at the first node", func() error {
		if all := a.devices("carol"); len(all) != 1 || !all[0].Here {
			return fmt.Errorf("%v", all)
		}
		return nil
	})
	dave := b.phone("dave", "far")
	one, two := b.connect(carol, "dave", dave)
	b.Kill()
	b.Run()
	one.Hangup()
	two.Hangup()
	a.talk(out, in)
	if d := a.deviceOf(alice); !d.Here {
		t.Errorf("after the other node's start alice's phone is %+v", d)
	}
	var entries []struct{ Kind, User, Text string }
	b.must(b.JSON(&entries, "log", "--json"))
	for _, e := range entries {
		if e.Kind == "call-ended" && e.User == "alice" {
			t.Errorf("the other node has ended a call that is not its own: %+v", e)
		}
	}
	if len(entries) < 4 {
		t.Errorf("the log of both has %d entries", len(entries))
	}
	if text, err := server.Do("SCARD", "baton:own:n1"); err != nil || !strings.HasPrefix(text, ":1") {
		t.Errorf("the first node owns %q, %v", text, err)
	}
	a.must(out.Hangup())
	a.ended(in)
}
