package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
	"baton/test/redis"
)

// What a Redis does to live calls that is full or gone, or whose master changes (R6, R9, R10 of docs/failures.md).

// loggedAt is when a node has first said something, which is waited for.
func (w *world) loggedAt(msg string) (at time.Time) {
	w.t.Helper()
	said := regexp.MustCompile(`time=(\S+) level=\S+ msg="` + msg)
	w.Eventually(5*time.Second, msg, func() error {
		m := said.FindStringSubmatch(w.Output())
		if m == nil {
			return errors.New("the node has not said so")
		}
		var err error
		at, err = time.Parse(time.RFC3339, m[1])
		return err
	})
	return at
}

// TestRedisGone ends the Redis of two nodes for ten seconds: both go on with their calls, take new ones and end others. One of them is killed meanwhile: the other has its calls,
// but not before it has known Redis for three seconds.
func TestRedisGone(t *testing.T) {
	t.Parallel()
	stoodStill(time.Now())
	server := redis.Start(t, kept)
	url := "redis://" + server.Addr
	a, b, _ := newPairAt(t, url, url)
	out, in := a.talks(3)
	b.next = 9
	carol, dave := b.phone("carol", "here"), b.phone("alice", "too")
	here, there := b.connect(dave, "carol", carol)
	both := []*phone.Call{here, there}
	b.within(5*time.Second, server, "b")
	server.Kill()
	gone := time.Now()
	b.storeIs(false)
	erin := b.phone("bob", "new")
	ended, other := b.connect(erin, "carol", carol)
	b.must(ended.Hangup())
	b.ended(other)
	one, two := b.connect(dave, "carol", carol)
	a.all(out, in)
	a.Kill()
	pause(10*time.Second - time.Since(gone))
	server.Run()
	back := time.Now()
	b.Eventually(5*time.Second, "all calls of the node in Redis", func() error {
		n := 0
		for _, owner := range owned(t, server) {
			if owner == "b" {
				n++
			}
		}
		if n < 2 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	t.Logf("all is written %s after Redis was back", time.Since(back).Round(time.Millisecond))
	b.noGap(both, gone)
	b.Eventually(20*time.Second, "the calls of the node that was killed", func() error {
		if n := strings.Count(b.Output(), "call goes on"); n < len(out) {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	after := b.loggedAt("calls of a node are taken over").Sub(b.loggedAt("store is back"))
	t.Logf("its calls were taken over %s after Redis was back", after.Round(time.Millisecond))
	if after < 3*time.Second {
		t.Error("that is too soon: after a failover all look dead")
	}
	b.all(out, in)
	b.storeIs(true)
	b.hangUp(append(out, here, one), append(in, there, two))
}

// TestNodeAndMasterKilled kills a node and the master of Redis at once: when another server is the master the other node has its calls.
func TestNodeAndMasterKilled(t *testing.T) {
	t.Parallel()
	stoodStill(time.Now())
	set := redis.StartSet(t, time.Second)
	a, b, _ := newPairAt(t, set.URL(), set.URL())
	out, in := a.talks(5)
	master := set.Master()
	a.within(5*time.Second, master, "a")
	pause(3 * time.Second)
	killed := time.Now()
	master.Kill()
	a.Kill()
	b.Eventually(40*time.Second, "the calls at the other node", func() error {
		if n := strings.Count(b.Output(), "call goes on"); n < len(out) {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	b.all(out, in)
	pause(500 * time.Millisecond)
	gaps := gapsSince(slices.Concat(out, in), killed)
	t.Logf("5 calls: gap p50 %s, max %s; Redis was away for %s", phone.Quantile(gaps, 0.5), phone.Quantile(gaps, 1), b.loggedAt("store is back").Sub(b.loggedAt("store is out of reach")))
	if most := phone.Quantile(gaps, 1); most > 30*time.Second {
		t.Errorf("gap %s", most)
	}
	if now := set.Master(); now == nil || now == master || len(owned(t, now)) != len(out) {
		t.Error("the new master has not the calls")
	}
	b.hangUp(out, in)
}

// TestMasterApart cuts the master of a Sentinel set from all others but the node, which goes on writing to it while another server becomes the master: what was told to be safe is
// there when the node has found that one, what was not is written again.
func TestMasterApart(t *testing.T) {
	t.Parallel()
	stoodStill(time.Now())
	need(t, "iptables", "iptables")
	const there, others, ask = "127.0.0.2", "127.0.0.3", "127.0.0.4"
	set := redis.StartSetAt(t, time.Second, there, others, ask)
	w := newWorld(t, node.Options{Config: redisConfig(t, set.URL(), "n1")})
	for _, s := range slices.Concat(set.Servers[1:], set.Sentinels) {
		s.Addr = net.JoinHostPort(ask, s.Port) // from here on the test alone reaches them so
	}
	alice, bob, carol := w.phone("alice", "soft"), w.phone("bob", "far"), w.phone("carol", "far")
	out, in := w.connect(alice, "bob", bob)
	old := set.Master()
	w.within(5*time.Second, old, "n1")
	heal := node.Drop(t, fmt.Sprintf("-s %s -d %s", others, there), fmt.Sprintf("-s %s -d %s", there, others), "-s "+others+" -d 127.0.0.1", "-s 127.0.0.1 -d "+others)
	cut := time.Now()
	safe := map[string]bool{}
	look := func() {
		pause(300 * time.Millisecond) // by then every write was answered
		safe = w.listed("n1")
	}
	look()
	var live [][2]*phone.Call
	for range 5 {
		one, two := w.connect(alice, "carol", carol)
		live = append(live, [2]*phone.Call{one, two})
	}
	w.Eventually(30*time.Second, "another master", func() error {
		one, two := w.connect(alice, "carol", carol)
		w.must(one.Hangup())
		w.ended(two)
		if now := set.Master(); now == nil || now == old {
			return errors.New("it is the same")
		}
		return nil
	})
	look()
	now := set.Master()
	told, lost, known := 0, 0, owned(t, now)
	for id, is := range safe {
		if is {
			told++
			if known[id] == "" {
				lost++
			}
		}
	}
	t.Logf("%d calls, %d told to be safe, of which the new master lacks %d", len(safe), told, lost)
	if lost > 0 || told != 1 || len(safe) != 6 {
		t.Error("of six calls the first was safe when the master was cut off, and the others cannot be")
	}
	heal()
	healed := time.Now()
	w.within(20*time.Second, now, "n1")
	t.Logf("all is at the new master %s after the way was there again", time.Since(healed).Round(time.Millisecond))
	w.noGap([]*phone.Call{out, in}, cut)
	for _, c := range live {
		w.must(c[0].Hangup())
		w.ended(c[1])
	}
	w.hangUp([]*phone.Call{out}, []*phone.Call{in})
}

// tiny is a file system that is soon full, and fill takes all that is left of it until empty is called.
func tiny(t *testing.T) (dir string, fill, empty func()) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	name := filepath.Join(dir, "full")
	fill = func() {
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for size := 64 << 10; size > 0; {
			if _, err := f.Write(make([]byte, size)); err != nil {
				size /= 2
			}
		}
	}
	return dir, fill, func() { _ = os.Remove(name) }
}

// TestRedisDiskFull has the disk of Redis full: it refuses writes because it cannot append to its file, or because it could not save. Calls go on, begin, move and end; the node
// says what is wrong in all its ways, and all is as before when there is room again.
func TestRedisDiskFull(t *testing.T) {
	t.Parallel()
	stoodStill(time.Now())
	for n, c := range []struct {
		name string
		args []string
		says string
	}{
		{"append", []string{"--appendonly", "yes"}, "No space left on device"},
		{"save", []string{"--save", "1 1"}, "MISCONF Redis is configured to save RDB snapshots"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			stoodStill(time.Now())
			dir, fill, empty := tiny(t)
			server := redis.Start(t, redis.Options{Args: c.args, Dir: dir})
			metrics := fmt.Sprintf("127.0.0.1:%d", 3900+n)
			w := newWorld(t, node.Options{Config: redisConfig(t, "redis://"+server.Addr, "n1"), Env: []string{"BATON_LISTEN_METRICS=" + metrics}})
			alice, desk, bob, carol := w.phone("alice", "soft"), w.phone("alice", "desk"), w.phone("bob", "far"), w.phone("carol", "far")
			out, in := w.connect(alice, "bob", bob)
			w.within(5*time.Second, server, "n1")
			since := time.Now()
			fill()
			_, _ = server.Do("SET", "somebody:else", strings.Repeat("x", 8<<10)) // the file's last page has room for some records yet, but not for this
			w.storeIs(false)
			if text, _ := w.CLI("status"); !strings.Contains(text, "store is out of reach since") || !strings.Contains(text, c.says) {
				t.Errorf("baton status says %s", text)
			}
			if up := metric(t, metrics, "baton_store_up"); up != "0" {
				t.Errorf("baton_store_up is %s", up)
			}
			desk.Behave(phone.AutoAnswer)
			_, err := w.CLI("move", "--user", "alice", "desk")
			w.must(err)
			moved := w.ringing(desk)
			w.talk(moved, in)
			w.ended(out)
			one, two := w.connect(alice, "carol", carol)
			empty()
			room := time.Now()
			w.storeIs(true)
			w.within(5*time.Second, server, "n1")
			t.Logf("all is written %s after there was room", time.Since(room).Round(time.Millisecond))
			if up := metric(t, metrics, "baton_store_up"); up != "1" {
				t.Errorf("baton_store_up is %s", up)
			}
			w.noGap([]*phone.Call{in}, since)
			w.hangUp([]*phone.Call{moved, one}, []*phone.Call{in, two})
		})
	}
}

// metric is the value of one without labels.
func metric(t *testing.T, at, name string) string {
	t.Helper()
	res, err := http.Get("http://" + at + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(body), "\n"+name+" ")
	value, _, _ := strings.Cut(rest, "\n")
	return value
}
