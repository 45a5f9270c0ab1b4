package bench

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// The devices of TestTakeoverReconnected: as many calls, each of one of them with a phone over UDP.
const (
	reconnectCalls = 100
	reconnectPeers = 10 // phones over UDP, each with a tenth of the calls
	reconnects     = 4  // nodes killed, in turn
	reconnectLimit = 15 * time.Second
)

// reconnectKinds are how the devices are connected, in turn.
var reconnectKinds = []string{"tls", "tls", "wss", "tls", "tls"}

// Devices look for the next server as soon as their connection breaks, not all in the same instant, and once more after a while.
const (
	reconnectDraw  = 200 * time.Millisecond
	reconnectAgain = 500 * time.Millisecond
)

// roamer is a device that is connected to one of two nodes and, when its connection breaks, connects to the other and registers there, as a phone does with the
// second address of a name, and a page with its list of nodes.
type roamer struct {
	*phone.Phone
	servers [2]netip.AddrPort
	at      int
	stop    chan struct{}
	done    chan struct{}

	mu   sync.Mutex
	back time.Time // when a server had it again
}

func (r *roamer) live() {
	defer close(r.done)
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		select {
		case <-r.stop:
			tick.Stop()
			return
		case <-tick.C:
		}
		if !r.Connected() {
			r.roam()
		}
	}
}

// roam tries one server after the other until one has the device.
func (r *roamer) roam() {
	for pause := rand.N(reconnectDraw); ; pause = reconnectAgain {
		select {
		case <-r.stop:
			return
		case <-time.After(pause):
		}
		r.at = 1 - r.at
		r.Rehome(r.servers[r.at])
		if _, err := r.Register(time.Hour); err == nil {
			r.mu.Lock()
			r.back = time.Now()
			r.mu.Unlock()
			return
		}
		r.Disconnect()
	}
}

func (r *roamer) backAt() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.back
}

// newRoamer is a user of a device of his own, which begins at the first node.
func newRoamer(t *testing.T, nodes [2]*node.Node, user, number, transport string) *roamer {
	t.Helper()
	nodes[0].AddUser(user, number)
	r := &roamer{stop: make(chan struct{}), done: make(chan struct{})}
	for i, n := range nodes {
		r.servers[i] = map[string]netip.AddrPort{"tls": n.TLS, "wss": n.Web}[transport]
	}
	r.Phone = newPhone(t, nodes[0], user, "roamer-"+transport, func(c *phone.Config) {
		c.Transport, c.Server, c.SRTP = transport, r.servers[0], map[string]string{"tls": phone.OSRTP, "wss": phone.DTLS}[transport]
	})
	go r.live()
	t.Cleanup(func() {
		close(r.stop)
		<-r.done
	})
	return r
}

// roaming is a call of a roamer with a phone over UDP.
type roaming struct {
	kind      string
	roamer    *roamer
	near, far *phone.Call
}

// talks says whether both hear each other's voice.
func (c *roaming) talks() bool {
	return c.near.Hears(c.far, reconnectLimit) && c.far.Hears(c.near, reconnectLimit)
}

// up says whether both ends have the call.
func (c *roaming) up() bool { return c.near.State() == phone.Up && c.far.State() == phone.Up }

// newRoaming has so many devices register and brings each into a call; every other one is called.
func newRoaming(t *testing.T, nodes [2]*node.Node, calls int) (all []*roaming) {
	t.Helper()
	var peers []*phone.Phone
	for i := range reconnectPeers {
		user := fmt.Sprintf("peer%d", i)
		nodes[0].AddUser(user, fmt.Sprint(800+i))
		peers = append(peers, newPhone(t, nodes[0], user, "peer", func(c *phone.Config) { c.Phase = time.Duration(2*i) * time.Millisecond }))
	}
	for i := range calls {
		c := &roaming{kind: reconnectKinds[i%len(reconnectKinds)]}
		c.roamer = newRoamer(t, nodes, fmt.Sprintf("roamer%d", i), fmt.Sprint(1000+i), c.kind)
		peer := peers[i/2%len(peers)]
		var err error
		if i%2 == 0 {
			c.near, c.far, err = tryConnect(c.roamer.Phone, peer.Config().User, peer)
		} else {
			c.far, c.near, err = tryConnect(peer, c.roamer.Config().User, c.roamer.Phone)
		}
		must(t, err)
		all = append(all, c)
	}
	return all
}

// pauses are the longest times since then without the other's voice, and without anything.
func pauses(c, other *phone.Call, since time.Time) (voice, any time.Duration) {
	var lastVoice, last time.Time
	for _, p := range c.Media().Heard() {
		spoken := p.Source == other.Media().Source()
		if p.At.After(since) {
			any = max(any, p.At.Sub(last))
		}
		if p.At.After(since) && spoken {
			voice = max(voice, p.At.Sub(lastVoice))
		}
		if last = p.At; spoken {
			lastVoice = p.At
		}
	}
	return voice, any
}

// reconnected is what the rounds have shown, by how a device is connected.
type reconnected struct {
	back, near, far, silent map[string][]time.Duration // registered again; without voice: the device, the phone it talks with; that one without anything
}

// round kills the node that all are connected to and waits until all of the calls go on; it gives how many do.
func (r *reconnected) round(t *testing.T, calls []*roaming, at *node.Node) (kept int) {
	t.Helper()
	killed := time.Now()
	at.Kill()
	var ends sync.WaitGroup
	talk := make([]bool, len(calls))
	for i, c := range calls {
		ends.Go(func() {
			for end := killed.Add(reconnectLimit); c.roamer.backAt().Before(killed) && time.Now().Before(end); {
				time.Sleep(20 * time.Millisecond)
			}
			talk[i] = c.talks()
		})
	}
	ends.Wait()
	time.Sleep(500 * time.Millisecond)
	for i, c := range calls {
		if !talk[i] || !c.up() {
			t.Logf("call %d (%s): the device is %s, back at a node after %s, the phone is %s; they talk: %t", i, c.kind, c.near.State(), c.roamer.backAt().Sub(killed), c.far.State(), talk[i])
			continue
		}
		kept++
		near, _ := pauses(c.near, c.far, killed)
		far, silent := pauses(c.far, c.near, killed)
		r.back[c.kind] = append(r.back[c.kind], c.roamer.backAt().Sub(killed))
		r.near[c.kind], r.far[c.kind], r.silent[c.kind] = append(r.near[c.kind], near), append(r.far[c.kind], far), append(r.silent[c.kind], silent)
	}
	return kept
}

// TestTakeoverReconnected kills the node to which a hundred devices in calls are connected by TLS and WSS, one of two and then the other: each finds its
// connection broken, connects to the node that lives, and its call goes on there.
func TestTakeoverReconnected(t *testing.T) {
	l, other := newCluster(t, 0, nil)
	calls := newRoaming(t, [2]*node.Node{l.node, other}, reconnectCalls)
	at, next := l.node, other
	r := &reconnected{map[string][]time.Duration{}, map[string][]time.Duration{}, map[string][]time.Duration{}, map[string][]time.Duration{}}
	kept, listed := len(calls), len(calls)
	halt := stands()
	for range reconnects {
		time.Sleep(4 * time.Second) // the other has known its store for long enough, and the nodes have met
		kept = min(kept, r.round(t, calls, at))
		listed = min(listed, live(t, next))
		at.Run()
		at, next = next, at
	}
	stood := halt()
	verdict(t, kept == len(calls) && listed == len(calls), "kill -9 of the node that %d devices are connected to, %d times: %d of %d calls kept, %d listed by the other node",
		len(calls), reconnects, kept, len(calls), listed)
	for _, kind := range []string{"tls", "wss"} {
		lessMS("takeover, gap of devices over "+kind+", p50", phone.Quantile(r.near[kind], 0.5))
		lessMS("takeover, gap of devices over "+kind+", p99", phone.Quantile(r.near[kind], 0.99))
		note("devices over %s, %d times: registered again after %s; without the other's voice %s; whom they talk with %s, of which without even a tone %s (p50 / p95 / max); this process stood still for up to %s ms",
			kind, len(r.near[kind]), three(r.back[kind]), three(r.near[kind]), three(r.far[kind]), three(r.silent[kind]), ms(stood))
	}
	for _, c := range calls {
		if err := c.near.Hangup(); err != nil && c.up() {
			t.Errorf("a call cannot be ended: %v", err)
		}
	}
}
