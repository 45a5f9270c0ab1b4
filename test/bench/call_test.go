package bench

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

func TestSetUpTime(t *testing.T) {
	const calls = 500
	n := node.Start(t, node.Options{})
	alice, bob := newPhone(t, n, "alice", "desk", quiet), newPhone(t, n, "bob", "far", quiet)
	bob.Behave(phone.AutoAnswer)
	var took []time.Duration
	for i := range calls {
		out, err := alice.Dial("bob")
		must(t, err)
		must(t, out.Await(5*time.Second))
		in, err := bob.Ringing(time.Second)
		must(t, err)
		if i >= 20 { // the first ones warm up
			took = append(took, out.Times().Answered.Sub(out.Times().Sent))
		}
		time.Sleep(60 * time.Millisecond) // about ten calls a second
		must(t, out.Hangup())
		must(t, in.AwaitEnd(time.Second))
	}
	p50, p99 := phone.Quantile(took, 0.5), phone.Quantile(took, 0.99)
	lessMS("call set-up, authenticated INVITE → 200, p50", p50)
	lessMS("call set-up, authenticated INVITE → 200, p99", p99)
	verdict(t, p50 <= 3*time.Millisecond && p99 <= 10*time.Millisecond,
		"call set-up, authenticated INVITE → 200, %d calls: p50 %s, p99 %s, max %s ms (limit 3 / 10)", len(took), ms(p50), ms(p99), ms(phone.Quantile(took, 1)))
}

func TestLatencyAdded(t *testing.T) {
	n := node.Start(t, node.Options{})
	alice, bob := newPhone(t, n, "alice", "desk"), newPhone(t, n, "bob", "far")
	direct, err := phone.New(phone.Config{User: "direct", Addr: node.IP(15)})
	must(t, err)
	t.Cleanup(direct.Close)
	direct.Behave(phone.AutoAnswer)
	straight, err := phone.New(phone.Config{User: "straight", Addr: node.IP(16), Phase: 5 * time.Millisecond})
	must(t, err)
	t.Cleanup(straight.Close)
	plain, err := straight.Dial(direct.Contact())
	must(t, err)
	must(t, plain.Await(5*time.Second))
	for range 9 {
		connect(t, alice, "bob", bob)
	}
	_, in := connect(t, alice, "bob", bob)
	time.Sleep(10 * time.Second)
	relayed, base := delays(in), delays(plain)
	added := phone.Quantile(relayed, 0.99) - phone.Quantile(base, 0.99)
	lessMS("latency added to media with 10 calls, p99", added)
	verdict(t, added <= time.Millisecond, "latency added to media with 10 calls: p50 %.3f, p99 %.3f ms; without a relay %.3f / %.3f ms (limit p99 + 1 ms)",
		phone.Quantile(relayed, 0.5).Seconds()*1e3, phone.Quantile(relayed, 0.99).Seconds()*1e3,
		phone.Quantile(base, 0.5).Seconds()*1e3, phone.Quantile(base, 0.99).Seconds()*1e3)
}

// delays are the times of numbered frames on their way.
func delays(c *phone.Call) []time.Duration {
	var all []time.Duration
	for _, p := range c.Media().Heard() {
		if p.Source != 0 {
			all = append(all, p.At.Sub(p.Sent))
		}
	}
	return all
}

// pair is two users, the first with two devices, that call each other again and again.
type pair struct {
	name string
	a    [2]*phone.Phone
	b    *phone.Phone
}

func newPairs(t *testing.T, count int) (*node.Node, []*pair) {
	users := map[string]string{}
	for i := range count {
		users[fmt.Sprintf("a%d", i)], users[fmt.Sprintf("b%d", i)] = fmt.Sprint(200+i), fmt.Sprint(300+i)
	}
	n := node.Start(t, node.Options{Users: users, Config: "call:\n  per_user: 500\n"}) // many calls of few users
	var pairs []*pair
	for i := range count {
		p := &pair{name: fmt.Sprint(i)}
		p.a[0], p.a[1] = newPhone(t, n, "a"+p.name, "one", quiet), newPhone(t, n, "a"+p.name, "two", quiet)
		p.b = newPhone(t, n, "b"+p.name, "far", quiet)
		pairs = append(pairs, p)
	}
	return n, pairs
}

// turn is one call: set up, moved once by pull, torn down.
func (p *pair) turn() error {
	out, in, err := tryConnect(p.a[0], "b"+p.name, p.b)
	if err != nil {
		return err
	}
	leg, err := p.a[1].Dial("a" + p.name)
	if err != nil {
		return err
	}
	if err := leg.Await(5 * time.Second); err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	if !leg.Hears(in, 2*time.Second) || !in.Hears(leg, 2*time.Second) {
		return fmt.Errorf("no sound after the move")
	}
	if err := out.AwaitEnd(5 * time.Second); err != nil {
		return err
	}
	if err := in.Hangup(); err != nil {
		return err
	}
	return leg.AwaitEnd(5 * time.Second)
}

// turns makes so many calls, spread over the pairs.
func turns(t *testing.T, pairs []*pair, calls int) {
	t.Helper()
	work := make(chan int, calls)
	for i := range calls {
		work <- i
	}
	close(work)
	var wg sync.WaitGroup
	for _, p := range pairs {
		wg.Go(func() {
			for i := range work {
				if err := p.turn(); err != nil {
					t.Errorf("call %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
}

type state struct {
	node.Debug
	fds, ports int
}

func look(t *testing.T, n *node.Node) state {
	t.Helper()
	time.Sleep(45 * time.Second) // all transactions and rests of ports are over by then
	d, err := n.Debug()
	must(t, err)
	return state{d, n.FDs(), node.UDPPorts()}
}

func TestNothingLeaks(t *testing.T) {
	const warm, calls = 100, 1000
	n, pairs := newPairs(t, 8)
	turns(t, pairs, warm)
	was := look(t, n)
	start := time.Now()
	turns(t, pairs, calls)
	note("%d calls, each moved once, in %s", calls, time.Since(start).Round(time.Second))
	is := look(t, n)
	verdict(t, is.Goroutines <= was.Goroutines && is.fds <= was.fds && is.ports <= was.ports,
		"45 s after %d calls: goroutines %d (before %d), file descriptors %d (%d), UDP ports %d (%d)", calls,
		is.Goroutines, was.Goroutines, is.fds, was.fds, is.ports, was.ports)
	verdict(t, is.Calls+is.Streams+is.Dialogs+is.Records == 0 && is.Transactions <= was.Transactions,
		"45 s after %d calls: calls %d, streams %d, dialogs %d, records %d, transactions %d (before %d)", calls,
		is.Calls, is.Streams, is.Dialogs, is.Records, is.Transactions, was.Transactions)
	grown := int64(is.HeapBytes) - int64(was.HeapBytes)
	verdict(t, grown <= 2<<20, "45 s after %d calls: live heap %.2f MB, before %.2f MB (limit + 2 MB)", calls,
		float64(is.HeapBytes)/(1<<20), float64(was.HeapBytes)/(1<<20))
}

// What a call may hold, and how much of that a node gives back when the calls are over.
const (
	bytesPerCall = 30 << 10
	givenBack    = 0.9
)

func TestMemoryPerCall(t *testing.T) {
	const calls = 500
	n, pairs := newPairs(t, 10)
	turns(t, pairs, 20)
	was, rss := look(t, n), n.RSS()
	up := make([]*phone.Call, calls)
	for i := range up {
		p := pairs[i%len(pairs)]
		out, in := connect(t, p.a[0], "b"+p.name, p.b)
		out.Media().Mute(true)
		in.Media().Mute(true)
		up[i] = out
	}
	is, grown := look(t, n), n.RSS()-rss
	of(n).heldBy(t, "established calls")
	if is.Calls != calls {
		t.Errorf("%d calls are up, want %d", is.Calls, calls)
	}
	heap := int64(is.HeapBytes) - int64(was.HeapBytes)
	less("resident memory per established call", float64(grown)/calls/1024, "KB")
	less("live heap per established call", float64(heap)/calls/1024, "KB")
	each := float64(grown) / calls
	beside("memory per established call", "KB", "baton", each/1024)
	held("memory per established call", fmt.Sprintf("≤ %d KB", bytesPerCall>>10), each <= bytesPerCall)
	verdict(t, each <= bytesPerCall, "memory per established call: %.1f KB of RSS, %.1f KB of heap, %.1f goroutines, %.1f descriptors (limit %d KB)",
		each/1024, float64(heap)/calls/1024, float64(is.Goroutines-was.Goroutines)/calls, float64(is.fds-was.fds)/calls, bytesPerCall>>10)
	for _, c := range up {
		must(t, c.Hangup())
	}
	look(t, n)
	back := 1 - float64(n.RSS()-rss)/float64(max(grown, 1))
	more("resident memory of calls given back after hang-up", 100*back, "%")
	beside("memory of calls given back after hang-up", "%", "baton", 100*back)
	held("memory of calls given back after hang-up", fmt.Sprintf("≥ %.0f %%", 100*givenBack), back >= givenBack)
	verdict(t, back >= givenBack, "45 s after %d calls were hung up: %.0f %% of the %.1f MB that they held is given back (limit %.0f)",
		calls, 100*back, float64(grown)/(1<<20), 100*givenBack)
}
