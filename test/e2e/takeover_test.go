package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
	"baton/test/redis"
)

var meshPorts atomic.Uint32

// newPair runs two nodes of one cluster on one Redis.
func newPair(t *testing.T) (a, b *world) {
	t.Helper()
	url := "redis://" + redis.Start(t, redis.Options{}).Addr
	a, b, _ = newPairAt(t, url, url)
	return a, b
}

// newPairAt runs two nodes of one cluster, each of which has its own way to the Redis that they share. between are rules for node.Drop, of what goes from one to the
// other. env is for both.
func newPairAt(t *testing.T, urlOfA, urlOfB string, env ...string) (a, b *world, between []string) {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	file := filepath.Join(t.TempDir(), "cluster.key")
	if err := os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := meshPorts.Add(1)
	ports := []uint32{4000 + 2*n, 4001 + 2*n}
	config := func(name, url string, own, other uint32) string {
		return fmt.Sprintf("store:\n  redis: %s\ncluster:\n  name: %s\n  key_file: %s\n  listen: \"127.0.0.1:%d\"\n  peers: [\"127.0.0.1:%d\"]\n", url, name, file, own, other)
	}
	a = newWorld(t, node.Options{Config: config("a", urlOfA, ports[0], ports[1]), Env: env})
	b = newWorld(t, node.Options{Config: config("b", urlOfB, ports[1], ports[0]), Users: map[string]string{}, Env: env})
	b.next = 100 // its phones have addresses of their own
	b.Eventually(10*time.Second, "the nodes to know each other", func() error {
		if !strings.Contains(b.Output(), "connected to node") || !strings.Contains(a.Output(), "connected to node") {
			return fmt.Errorf("not connected")
		}
		return nil
	})
	for _, port := range ports {
		for _, what := range []string{"tcp --dport", "tcp --sport", "udp --dport"} {
			between = append(between, fmt.Sprintf("-p %s %d", what, port))
		}
	}
	return a, b, between
}

// talks has n calls up at a node, each of two phones over UDP.
func (w *world) talks(n int) (out, in []*phone.Call) {
	w.t.Helper()
	alice, bob := w.phone("alice", "desk"), w.phone("bob", "far")
	for range n {
		o, i := w.connect(alice, "bob", bob)
		out, in = append(out, o), append(in, i)
	}
	return out, in
}

// gapsSince are the longest pauses in what the phones hear, from a moment on.
func gapsSince(calls []*phone.Call, since time.Time) (all []time.Duration) {
	for _, c := range calls {
		most, last := time.Duration(0), time.Time{}
		for _, p := range c.Media().Heard() {
			if !last.IsZero() && p.At.After(since) {
				most = max(most, p.At.Sub(last))
			}
			last = p.At
		}
		all = append(all, max(most, time.Since(last)-time.Second))
	}
	return all
}

// heardFrom counts the packets that phones have heard from these ports since then.
func heardFrom(calls []*phone.Call, from map[netip.AddrPort]bool, since time.Time) (n int) {
	for _, c := range calls {
		for _, p := range c.Media().Heard() {
			if p.At.After(since) && from[p.From] {
				n++
			}
		}
	}
	return n
}

// sources are where the sound of the calls comes from.
func sources(calls []*phone.Call) map[netip.AddrPort]bool {
	all := map[netip.AddrPort]bool{}
	for _, c := range calls {
		for _, p := range c.Media().Heard() {
			all[p.From] = true
		}
	}
	return all
}

// all waits until both ends of each call hear each other.
func (w *world) all(out, in []*phone.Call) {
	w.t.Helper()
	for i := range out {
		w.talk(out[i], in[i])
	}
}

func (w *world) hangUp(out, in []*phone.Call) {
	w.t.Helper()
	for i := range out {
		w.must(out[i].Hangup())
		w.ended(in[i])
	}
}

// TestNodeKilled kills one of two nodes with twenty calls: the other has them all at once, and the one that is started again leaves them there.
func TestNodeKilled(t *testing.T) {
	t.Parallel()
	a, b := newPair(t)
	out, in := a.talks(20)
	pause(3500 * time.Millisecond) // b has known its store for that long
	killed := time.Now()
	a.Kill()
	b.all(out, in)
	pause(500 * time.Millisecond)
	both := slices.Concat(out, in)
	gaps := gapsSince(both, killed)
	p50, p99 := phone.Quantile(gaps, 0.5), phone.Quantile(gaps, 0.99)
	t.Logf("20 calls: gap p50 %s, p99 %s", p50, p99)
	if p50 > 2*time.Second || p99 > 5*time.Second {
		t.Errorf("gap p50 %s, p99 %s", p50, p99)
	}
	var calls []struct{ ID string }
	b.must(b.JSON(&calls, "calls", "--json"))
	if len(calls) != 20 {
		t.Errorf("%d calls at the other node", len(calls))
	}
	a.Run()
	pause(1500 * time.Millisecond)
	b.all(out, in)
	if strings.Count(a.Output(), "call goes on") > 0 {
		t.Error("the node that was started again has taken up calls of another")
	}
	b.hangUp(out, in)
}

// TestNodeKilledReconnected kills the node to which a phone over TLS and one like a browser's are connected: each registers at the other node as soon as
// its connection breaks, as phones do with the second address of a name and pages with their list of nodes, and its call goes on there.
func TestNodeKilledReconnected(t *testing.T) {
	t.Parallel()
	a, b := newPair(t)
	bob := a.phone("bob", "far")
	alice := a.phone("alice", "desk", over("tls"), func(c *phone.Config) { c.SRTP = phone.OSRTP })
	carol := a.phone("carol", "page", over("wss"), func(c *phone.Config) { c.Server, c.SRTP = a.Web, phone.DTLS })
	toAlice, ofAlice := a.connect(bob, "alice", alice)
	ofCarol, toCarol := a.connect(carol, "bob", bob)
	pause(3500 * time.Millisecond) // b has known its store for that long
	killed := time.Now()
	a.Kill()
	var back sync.WaitGroup
	for p, server := range map[*phone.Phone]netip.AddrPort{alice: b.TLS, carol: b.Web} {
		back.Go(func() {
			for end := killed.Add(10 * time.Second); p.Connected() && time.Now().Before(end); {
				pause(10 * time.Millisecond)
			}
			p.Rehome(server)
			if _, err := p.Register(10 * time.Minute); err != nil {
				t.Error(err)
			}
		})
	}
	back.Wait()
	here, there := []*phone.Call{ofAlice, ofCarol}, []*phone.Call{toAlice, toCarol}
	for i := range here {
		if !here[i].Hears(there[i], 10*time.Second) || !there[i].Hears(here[i], 10*time.Second) {
			t.Errorf("%s (%s) and %s (%s) do not hear each other", here[i].Phone().Config().User, here[i].State(), there[i].Phone().Config().User, there[i].State())
		}
	}
	t.Logf("they hear each other %s after it", time.Since(killed))
	if d, err := b.Debug(); err != nil || d.Calls != len(here) {
		t.Errorf("%d calls at the other node, %v", d.Calls, err)
	}
	b.hangUp(here, there)
}

// TestNodeStandsStill stops the process of one of two nodes for ten seconds: the other has its calls, and the one that goes on says nothing in them any more,
// by RTP or SIP, and lists none.
func TestNodeStandsStill(t *testing.T) {
	t.Parallel()
	a, b := newPair(t)
	out, in := a.talks(10)
	both := slices.Concat(out, in)
	pause(3500 * time.Millisecond)
	old := sources(both)
	stopped := time.Now()
	a.Freeze()
	b.Eventually(20*time.Second, "the calls at the other node", func() error {
		if n := strings.Count(b.Output(), "call goes on"); n < len(out) {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	t.Logf("taken over after %s", time.Since(stopped).Round(time.Millisecond))
	b.all(out, in)
	must := out[0].Phone()
	if _, err := out[0].Request("OPTIONS", nil); err != nil { // its flow is at the other node now
		t.Errorf("%s asks in its dialog: %v", must.Config().User, err)
	}
	pause(10*time.Second - time.Since(stopped))
	woken := time.Now()
	a.Thaw()
	pause(4 * time.Second)
	if n := heardFrom(both, old, woken); n > 0 {
		t.Errorf("the woken node has sent %d packets of sound", n)
	}
	for _, p := range []*phone.Phone{out[0].Phone(), in[0].Phone()} {
		for _, m := range p.Received(woken) {
			if m.Peer == a.UDP {
				t.Errorf("the woken node has sent %s to %s", m.Line(), p.Config().User)
			}
		}
	}
	b.all(out, in)
	for w, want := range map[*world]int{a: 0, b: len(out)} {
		d, err := w.Debug() // baton calls lists those of all nodes
		w.must(err)
		if d.Calls != want {
			t.Errorf("%d calls at a node, want %d", d.Calls, want)
		}
	}
	b.hangUp(out, in)
}

// TestRollingRestart restarts both nodes, one after the other, under twenty calls: each hands them to the other, and none is lost.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	a, b := newPair(t)
	out, in := a.talks(20)
	both := slices.Concat(out, in)
	pause(1500 * time.Millisecond)
	for _, w := range []*world{a, b} {
		since := time.Now()
		if took := w.Stop(); took > 5*time.Second {
			t.Errorf("SIGTERM took %s", took)
		}
		pause(500 * time.Millisecond)
		b.all(out, in)
		pause(300 * time.Millisecond)
		gaps := gapsSince(both, since)
		p99 := phone.Quantile(gaps, 0.99)
		t.Logf("gap p50 %s, p99 %s", phone.Quantile(gaps, 0.5), p99)
		if p99 > 1500*time.Millisecond {
			t.Errorf("gap p99 %s", p99)
		}
		w.Run()
		pause(1500 * time.Millisecond) // the nodes have met again
	}
	var calls []struct{ ID string }
	a.must(a.JSON(&calls, "calls", "--json"))
	if len(calls) != 20 {
		t.Errorf("%d calls at the first node", len(calls))
	}
	a.hangUp(out, in)
}

// TestNodeStandsStillBriefly stops the process of a node for times in which the others may not take it for dead: it keeps its calls, and they go on. After
// 0.4 s nobody has missed more than these.
func TestNodeStandsStillBriefly(t *testing.T) {
	a, b := newPair(t)
	out, in := a.talks(3)
	pause(3500 * time.Millisecond)
	both := slices.Concat(out, in)
	began := time.Now()
	stoodStill(began)
	frozen := a.standStill(400 * time.Millisecond)
	a.all(out, in)
	pause(600 * time.Millisecond)
	gaps, limit := gapsSince(both, began), frozen+250*time.Millisecond+stoodStill(began)
	t.Logf("%s: gap p50 %s, max %s", frozen, phone.Quantile(gaps, 0.5), phone.Quantile(gaps, 1))
	if most := phone.Quantile(gaps, 1); most > limit {
		t.Errorf("gap %s (limit %s)", most, limit)
	}
	a.standStill(2300 * time.Millisecond)
	a.Eventually(5*time.Second, "the node to have asked for its calls", func() error {
		if !strings.Contains(a.Output(), `msg="this node stood still" for=2.`) || !strings.Contains(a.Output(), "calls=3 lost=0") {
			return fmt.Errorf("it does not say so")
		}
		return nil
	})
	pause(4 * time.Second) // a takeover would have come
	a.all(out, in)
	if strings.Contains(b.Output(), "call goes on") {
		t.Error("the other node has taken calls of one that lives")
	}
	a.hangUp(out, in)
}

// standStill stops the node's process for a while, and gives how long that was.
func (w *world) standStill(d time.Duration) time.Duration {
	began := time.Now()
	w.Freeze()
	pause(d)
	w.Thaw()
	return time.Since(began)
}
