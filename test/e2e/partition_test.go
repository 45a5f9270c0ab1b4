package e2e

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
	"baton/test/redis"
)

// Partitions: who reaches whom no more, while all live (R7, R8 of docs/failures.md).

// noGap wants nobody to have heard nothing for longer than a busy machine makes it, since a moment: what this process itself stood still is taken off.
func (w *world) noGap(calls []*phone.Call, since time.Time) {
	w.t.Helper()
	limit := 300*time.Millisecond + stoodStill(since)
	for _, c := range calls {
		gap, at := phone.LongestGap(c.Media().Heard(), since, time.Now())
		if gap > limit {
			w.t.Errorf("%s heard nothing for %s (limit %s), until %s after it began", c.Phone().Config().UserAgent, gap, limit, at.Sub(since).Round(time.Millisecond))
		}
	}
}

// standstill is a time in which this process was not run.
type standstill struct {
	until  time.Time
	lasted time.Duration
}

var standstills struct {
	sync.Once
	sync.Mutex
	all []standstill
}

// stoodStill is the longest time since a moment in which this process was not run. It is watched from its first call on.
func stoodStill(since time.Time) (most time.Duration) {
	standstills.Do(func() {
		go func() {
			for last := time.Now(); ; last = time.Now() {
				time.Sleep(10 * time.Millisecond)
				if d := time.Since(last); d > 100*time.Millisecond {
					standstills.Lock()
					standstills.all = append(standstills.all, standstill{time.Now(), d})
					standstills.Unlock()
				}
			}
		}()
	})
	standstills.Lock()
	defer standstills.Unlock()
	for _, s := range standstills.all {
		if s.until.After(since) {
			most = max(most, s.lasted)
		}
	}
	return most
}

// owned are the calls that Redis has, with their owners.
func owned(t *testing.T, s *redis.Server) map[string]string {
	t.Helper()
	text, err := s.Do("EVAL", `local all = ''
for _, key in ipairs(redis.call('KEYS', 'baton:call:*')) do
  local c = redis.call('HMGET', key, 'o', 'b')
  if c[2] then all = all .. key .. '=' .. c[1] .. ' ' end
end
return all`, "0")
	if err != nil || !strings.HasPrefix(text, "$") {
		t.Fatalf("read the owners: %q, %v", text, err)
	}
	_, text, _ = strings.Cut(text, "\r\n")
	all := map[string]string{}
	for _, one := range strings.Fields(text) {
		key, owner, _ := strings.Cut(one, "=")
		all[strings.TrimSuffix(strings.TrimPrefix(key, "baton:call:{"), "}")] = owner
	}
	return all
}

// listed are the calls of a node, and whether each is safe in the store.
func (w *world) listed(node string) map[string]bool {
	w.t.Helper()
	var calls []struct {
		ID, Node string
		Unsafe   bool
	}
	w.must(w.JSON(&calls, "calls", "--json"))
	all := map[string]bool{}
	for _, c := range calls {
		if c.Node == "" || c.Node == node {
			all[c.ID] = !c.Unsafe
		}
	}
	return all
}

// within waits until the store has just the calls that a node lists, each as the node's own, and gives how long that took.
func (w *world) within(limit time.Duration, s *redis.Server, owner string) time.Duration {
	w.t.Helper()
	begun := time.Now()
	w.Eventually(limit, "all calls in the store", func() error {
		live, stored := w.listed(owner), owned(w.t, s)
		maps.DeleteFunc(stored, func(_, o string) bool { return o != owner })
		for id, safe := range live {
			if !safe || stored[id] == "" {
				return fmt.Errorf("call %s: safe %v, stored %v", id, safe, stored)
			}
		}
		if len(stored) != len(live) {
			return fmt.Errorf("the store has %v, the node %v", stored, live)
		}
		return nil
	})
	return time.Since(begun)
}

// TestPartitionFromRedis cuts the way between one node and Redis, which has a replica: what the node sends is lost, then what Redis sends, so that writes are made
// and not confirmed. The node keeps its calls, new ones come and old ones go, and nothing that was safe is lost. The other node loses its way too,
// and takes nothing.
func TestPartitionFromRedis(t *testing.T) {
	t.Parallel()
	need(t, "iptables", "iptables")
	stoodStill(time.Now())
	server := redis.Start(t, redis.Options{Args: []string{"--bind", "127.0.0.1", "127.0.0.2"}})
	redis.StartReplica(t, server)
	a, b, _ := newPairAt(t, "redis://127.0.0.2:"+server.Port, "redis://127.0.0.1:"+server.Port)
	out, in := a.talks(3)
	both := slices.Concat(out, in)
	from := sources(both)
	carol := a.phone("carol", "new")
	a.within(5*time.Second, server, "a")
	for what, rule := range map[string]string{
		"what the node sends": "-d 127.0.0.2 -p tcp --dport " + server.Port, "what Redis sends": "-s 127.0.0.2 -p tcp --sport " + server.Port,
		"the other node": "-d 127.0.0.1 -s 127.0.0.1 -p tcp --sport " + server.Port,
	} {
		cut, begun, hit := a, time.Now(), what != "the other node"
		if !hit {
			cut = b
		}
		heal := node.Drop(t, rule)
		cut.storeIs(false)
		o, i := a.connect(out[0].Phone(), "carol", carol)
		a.hangUp(out[2:], in[2:])
		pause(4*time.Second - time.Since(begun)) // a node that is not heard either would be taken for dead
		if n := strings.Count(b.Output(), "call goes on"); n > 0 {
			t.Fatalf("%s: the other node has taken over %d calls", what, n)
		}
		heal()
		healed := time.Now()
		cut.storeIs(true)
		a.within(5*time.Second, server, "a")
		t.Logf("%s is lost for %s: all is written %s after it is not", what, healed.Sub(begun).Round(time.Millisecond), time.Since(healed).Round(time.Millisecond))
		a.noGap(both[:2], begun)
		a.must(o.Hangup())
		a.ended(i)
		out[2], in[2] = a.connect(out[2].Phone(), "bob", in[2].Phone())
	}
	if n := heardFrom(both[:2], others(sources(both[:2]), from), time.Time{}); n > 0 {
		t.Errorf("%d packets came from elsewhere", n)
	}
	a.hangUp(out, in)
}

// others are those of all that are not among some.
func others(all, some map[netip.AddrPort]bool) map[netip.AddrPort]bool {
	left := map[netip.AddrPort]bool{}
	for at := range all {
		if !some[at] {
			left[at] = true
		}
	}
	return left
}

// TestNodesApart cuts the way between two nodes that both reach Redis: none takes calls of the other, also those between phones of both go on, and all is as before
// when the way is there again.
func TestNodesApart(t *testing.T) {
	t.Parallel()
	need(t, "iptables", "iptables")
	stoodStill(time.Now())
	url := "redis://" + redis.Start(t, redis.Options{}).Addr
	a, b, between := newPairAt(t, url, url)
	out, in := a.talks(2)
	b.next = 12
	far := b.phone("carol", "far")
	a.Eventually(5*time.Second, "the other node's phone", func() error {
		if all := a.devices("carol"); len(all) != 1 || !all[0].Here {
			return fmt.Errorf("%v", all)
		}
		return nil
	})
	over, there := a.connect(out[0].Phone(), "carol", far) // of node a, to a phone of node b
	both := slices.Concat(out, in, []*phone.Call{over, there})
	pause(3500 * time.Millisecond)
	cut := time.Now()
	heal := node.Drop(t, between...)
	pause(6500 * time.Millisecond) // by then a node that does not reach Redis either has lost its calls
	for _, w := range []*world{a, b} {
		if n := strings.Count(w.Output(), "call goes on"); n > 0 {
			t.Errorf("a node has taken over %d calls of one that lives", n)
		}
		if !strings.Contains(w.Output(), "to=dead") {
			t.Error("a node has not noticed that it reaches the other no more")
		}
	}
	a.noGap(both, cut)
	var status *phone.Status
	if _, err := there.Request("OPTIONS", nil); !errors.As(err, &status) || status.Code != 500 || status.Get("Retry-After") == "" {
		t.Errorf("a request in the call from the far phone: %v, want 500 with Retry-After", err)
	}
	a.must(out[1].Hangup()) // what one node alone has to do with
	a.ended(in[1])
	heal()
	a.Eventually(10*time.Second, "the nodes to know each other again", func() error {
		text, err := a.CLI("nodes")
		if err != nil || strings.Count(text, "alive") != 2 {
			return fmt.Errorf("%s %v", text, err)
		}
		return nil
	})
	a.talk(over, there)
	a.must(there.Hangup())
	a.ended(over)
	a.hangUp(out[:1], in[:1])
}

// TestNodeIsolated cuts a node from Redis and from the other node, not from its phones: the other has its calls, and no phone hears both for longer than a second. When
// the ways are there again the first lets go of them without a word.
func TestNodeIsolated(t *testing.T) {
	t.Parallel()
	need(t, "iptables", "iptables")
	stoodStill(time.Now())
	server := redis.Start(t, redis.Options{Args: []string{"--bind", "127.0.0.1", "127.0.0.2"}})
	a, b, between := newPairAt(t, "redis://127.0.0.2:"+server.Port, "redis://127.0.0.1:"+server.Port)
	out, in := a.talks(3)
	both := slices.Concat(out, in)
	tied := a.phone("carol", "tied", over("tls")) // its connection stays where it is
	speaks, hears := a.connect(tied, "bob", in[0].Phone())
	pause(3500 * time.Millisecond)
	old, cut := sources(append(both, hears)), time.Now()
	heal := node.Drop(t, append(between, "-d 127.0.0.2 -p tcp --dport "+server.Port)...)
	b.Eventually(20*time.Second, "the calls at the other node", func() error {
		if n := strings.Count(b.Output(), "call goes on"); n < len(out)+1 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	taken := time.Now()
	t.Logf("taken over %s after the cut", taken.Sub(cut).Round(time.Millisecond))
	b.all(out, in)
	refusal := a.status(a.dial(tied, "*40"), 503)
	if refusal.Get("Retry-After") == "" {
		t.Errorf("the cut off node does not say when to try again:\n%s", refusal.Line())
	}
	if text, err := a.CLI("status"); err == nil || !strings.Contains(text, "no other node is reached either") {
		t.Errorf("baton status says %v\n%s", err, text)
	}
	pause(4 * time.Second)
	if n := heardFrom(append(both, hears), old, taken.Add(time.Second)); n > 0 {
		t.Errorf("the cut off node has sent %d packets of sound for longer than a second", n)
	}
	heal()
	healed := time.Now()
	a.Eventually(5*time.Second, "the first node to let go of them", func() error {
		if d, err := a.Debug(); err != nil || d.Calls != 0 {
			return fmt.Errorf("%d calls, %v", d.Calls, err)
		}
		return nil
	})
	t.Logf("let go of %s after the ways were there again", time.Since(healed).Round(time.Millisecond))
	pause(time.Second)
	for _, p := range []*phone.Phone{out[0].Phone(), in[0].Phone()} {
		for _, m := range p.Received(taken.Add(time.Second)) {
			if m.Peer == a.UDP {
				t.Errorf("the node that has lost its calls has sent %s to %s", m.Line(), p.Config().User)
			}
		}
	}
	b.all(out, in)
	b.noGap(both, taken.Add(2*time.Second))
	if got := owned(t, server); len(got) != 4 {
		t.Errorf("the store has %v", got)
	}
	b.Eventually(15*time.Second, "the phone whose connection is at the first node to be in its call", func() error {
		if !speaks.Hears(hears, 200*time.Millisecond) || !hears.Hears(speaks, 200*time.Millisecond) {
			return errors.New("they do not hear each other")
		}
		return nil
	})
	b.hangUp(append(out, speaks), append(in, hears))
}
