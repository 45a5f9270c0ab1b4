package bench

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
	"baton/test/redis"
)

// The limits of a takeover, DESIGN §10 and issue 7: the longest time without a packet at the far ends.
const (
	takeoverCalls  = 500
	takeovers      = 4
	takeoverMiddle = 400 * time.Millisecond // p50
	takeoverGap    = time.Second            // p99
	rollingCalls   = 200
	rollings       = 4
	rollingGap     = 300 * time.Millisecond // p99
)

// newCluster is two nodes on one Redis: the one that l's agents are registered at, and another.
func newCluster(t *testing.T, pairs int, g *generator) (l *loaded, other *node.Node) {
	t.Helper()
	server := redis.Start(t, redis.Options{})
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	file := filepath.Join(t.TempDir(), "cluster.key")
	must(t, os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600))
	config := func(name, ports, own, peer string) string {
		return fmt.Sprintf("media:\n  address: %s\n  ports: %s\n%sstore:\n  redis: redis://%s\ncluster:\n  name: %s\n  key_file: %s\n  listen: %q\n  peers: [%q]\n",
			node.IP(1), ports, unlimited+"  capacity: 100000\n", server.Addr, name, file, own, peer)
	}
	const first, second = "127.0.0.1:3001", "127.0.0.1:3002"
	l = newLoadedWith(t, config("n1", "10000-37999", first, second), pairs, g)
	other = node.Start(t, node.Options{Config: config("n2", "38000-65535", second, first), Users: map[string]string{}})
	return l, other
}

// live counts the calls that a node has.
func live(t *testing.T, n *node.Node) int {
	t.Helper()
	var calls []struct{ ID string }
	must(t, n.JSON(&calls, "calls", "--json"))
	return len(calls)
}

// TestTakeover kills the node with five hundred calls of phones over UDP, again and again, one of two and then the other: the one that lives goes on with all.
// Then it stops each in turn, with two hundred. The gap is that between the last packet before and the first after, as the kernel has stamped them, of
// both sides of each call.
func TestTakeover(t *testing.T) {
	g := newGenerator(t)
	l, other := newCluster(t, 20, g)
	up := l.calls(t, takeoverCalls)
	at, next := l.node, other
	rounds := func(what string, calls, n int, end func(*node.Node), middle, most time.Duration) {
		var all []time.Duration
		kept := calls
		for range n {
			time.Sleep(4 * time.Second) // the other has known its store for long enough, and the nodes have met
			w := newGaps()
			w.whole = true
			w.watch(g, func() {
				time.Sleep(2 * time.Second)
				end(at)
				time.Sleep(3 * time.Second)
			})
			legs := w.ofLegs()
			all = append(all, legs...)
			if silent := w.silentFor(time.Second); silent > 0 || len(legs) != 2*calls {
				t.Errorf("%s: %d of %d legs hear nothing after it", what, silent, len(legs))
			}
			kept = min(kept, live(t, next))
			at.Run()
			at, next = next, at
		}
		p50, p99, max := phone.Quantile(all, 0.5), phone.Quantile(all, 0.99), phone.Quantile(all, 1)
		lessMS(what+", gap p50", p50)
		lessMS(what+", gap p99", p99)
		verdict(t, kept == calls, "%s: %d of %d calls kept", what, kept, calls)
		verdict(t, p50 <= middle && p99 <= most, "%s, %d times with %d calls: gap p50 / p99 / max %s / %s / %s ms (limits of p50 / p99 %s / %s)",
			what, n, calls, ms(p50), ms(p99), ms(max), ms(middle), ms(most))
	}
	rounds("takeover after kill -9", takeoverCalls, takeovers, (*node.Node).Kill, takeoverMiddle, takeoverGap)
	for _, line := range strings.Split(l.node.Output()+other.Output(), "\n") {
		if strings.Contains(line, "taken over") {
			t.Log(line)
		}
	}
	for _, a := range append(l.callers, l.callees...) {
		a.server = at.UDP
	}
	hangUp := func(from, to int) {
		if failed := paced(t, to-from, 200, func(i int) error { return up[from+i].bye() }); failed > 0 {
			t.Errorf("%d calls could not be ended", failed)
		}
	}
	hangUp(rollingCalls, takeoverCalls)
	g.mu.Lock()
	g.legs = g.legs[:2*rollingCalls] // in the order in which they were made
	g.mu.Unlock()
	rounds("rolling restart", rollingCalls, rollings, func(n *node.Node) { n.Stop() }, rollingGap, rollingGap)
	for _, a := range append(l.callers, l.callees...) {
		a.server = at.UDP
	}
	hangUp(0, rollingCalls)
}
