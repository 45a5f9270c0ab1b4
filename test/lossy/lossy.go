// Package lossy has many pairs of users call each other over networks that lose, double and delay their SIP datagrams, and
// tells how many of the calls came about. It imports nothing of baton.
package lossy

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
	"baton/test/wire"
)

// Pairs are users that call each other, each with one phone behind a path of its own.
type Pairs struct {
	Node *node.Node
	t    testing.TB
	all  []*pair
}

type pair struct {
	node    *node.Node
	name    string
	from    *end
	to      *end
	another *end // of the caller's, for moves; nil = none
}

func (p *pair) ends() []*end {
	if p.another == nil {
		return []*end{p.from, p.to}
	}
	return []*end{p.from, p.to, p.another}
}

// end is one side of a pair.
type end struct {
	*phone.Phone
	path *wire.Path
}

// New starts a node, with so many pairs whose phones are registered and whose paths are good.
func New(t testing.TB, count int) *Pairs {
	t.Helper()
	users := map[string]string{}
	for i := range count {
		users[fmt.Sprintf("a%d", i)], users[fmt.Sprintf("b%d", i)] = fmt.Sprint(2000+i), fmt.Sprint(3000+i)
	}
	p := &Pairs{Node: node.Start(t, node.Options{Users: users}), t: t}
	for i := range count {
		name := fmt.Sprint(i)
		p.all = append(p.all, &pair{node: p.Node, name: name, from: p.open("a"+name, 3*i), to: p.open("b"+name, 3*i+1)})
	}
	return p
}

// open registers the k-th phone, behind its path.
func (p *Pairs) open(user string, k int) *end {
	p.t.Helper()
	at := node.IP(2 + k%18)
	path, err := wire.New(wire.Config{Phone: at, UDP: p.Node.UDP, TCP: p.Node.TCP, Seed: uint64(k + 1)})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(path.Close)
	f, err := phone.New(phone.Config{
		User: user, Password: node.Password(user), Server: path.Server(), Domain: p.Node.UDP.Addr().String(), Addr: at,
		UserAgent: user + "/1.0", Instance: fmt.Sprintf("urn:uuid:00000000-0000-4000-8000-%012d", k),
		Phase: time.Duration(k%20) * time.Millisecond,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(f.Close)
	if _, err := f.Register(time.Hour); err != nil {
		p.t.Fatal(err)
	}
	f.Behave(phone.Behaviour{Answer: true, After: 300 * time.Millisecond})
	return &end{f, path}
}

// Outcome is what a series of calls came to.
type Outcome struct {
	Calls   int
	SetUp   int             // answered, and both sides heard each other
	Took    []time.Duration // from the first INVITE to the answer, of those
	Failed  []string        // what became of the others
	Wrong   []string        // what no network excuses
	Dropped int             // SIP datagrams that did not arrive
	Doubled int             // that arrived twice
}

// String is for people.
func (o Outcome) String() string {
	return fmt.Sprintf("%d of %d calls set up (%.2f %%), in %s / %s / %s (p50, p95, max); %d datagrams lost, %d doubled", o.SetUp, o.Calls,
		100*float64(o.SetUp)/float64(o.Calls), round(phone.Quantile(o.Took, 0.5)), round(phone.Quantile(o.Took, 0.95)),
		round(phone.Quantile(o.Took, 1)), o.Dropped, o.Doubled)
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// Calls makes so many calls with SIP treated that way in each direction on both sides; the sound is not. Afterwards the paths are
// good again.
func (p *Pairs) Calls(count int, way wire.Way) Outcome {
	before := p.packets()
	p.treat(wire.Ways{SIP: way})
	o := Outcome{Calls: count}
	var mu sync.Mutex
	var left atomic.Int64
	left.Store(int64(count))
	var wg sync.WaitGroup
	for _, one := range p.all {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				r := one.call()
				mu.Lock()
				o.add(r)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	p.treat(wire.Ways{})
	after := p.packets()
	o.Dropped, o.Doubled = after[0]-before[0], after[1]-before[1]
	slices.Sort(o.Took)
	return o
}

// treat sets what all paths do, in both directions.
func (p *Pairs) treat(ways wire.Ways) {
	for _, one := range p.all {
		for _, e := range one.ends() {
			e.path.Set(ways, ways)
		}
	}
}

// packets counts the SIP datagrams that were dropped and those that came twice.
func (p *Pairs) packets() (n [2]int) {
	for _, one := range p.all {
		for _, e := range one.ends() {
			for _, k := range e.path.Packets() {
				switch {
				case k.Kind != wire.SIP:
				case k.Dropped:
					n[0]++
				case k.Twice:
					n[1]++
				}
			}
		}
	}
	return n
}

// result is one call's.
type result struct {
	took   time.Duration
	failed string
	wrong  string
}

func (o *Outcome) add(r result) {
	switch {
	case r.wrong != "":
		o.Wrong = append(o.Wrong, r.wrong)
	case r.failed != "":
		o.Failed = append(o.Failed, r.failed)
	default:
		o.SetUp++
		o.Took = append(o.Took, r.took)
	}
}

// What the timers of RFC 3261 give a call: three transactions may come one after the other, and the end of one that only one
// side knows of takes another.
const (
	answerIn = 100 * time.Second
	endIn    = 75 * time.Second
)

// call is one call: set up, heard by both, hung up.
func (p *pair) call() result {
	began := time.Now()
	out, err := p.from.Dial(p.to.Config().User)
	if err != nil {
		return result{wrong: err.Error()}
	}
	err = out.Await(answerIn)
	took := time.Since(began)
	r := result{took: took}
	if err != nil {
		r.failed = fmt.Sprintf("pair %s after %s: %v", p.name, round(took), err)
	} else {
		r.wrong = p.talk(out)
		_ = out.Hangup() // if it is never answered, the node ends the other side by itself
	}
	return p.settle(r)
}

// talk checks that the far phone has one call and that both are heard.
func (p *pair) talk(out *phone.Call) string {
	in, err := p.to.Ringing(time.Second)
	switch {
	case err != nil:
		return fmt.Sprintf("pair %s: answered, but %v", p.name, err)
	case !out.Hears(in, 5*time.Second) || !in.Hears(out, 5*time.Second):
		return fmt.Sprintf("pair %s: they do not hear each other", p.name)
	}
	out.Media().Mute(true) // the rest is signalling
	in.Media().Mute(true)
	return ""
}

// settle waits until neither phone has a call, and looks whether the far one was called again. After a call that failed for the caller
// the node must be rid of it too: it may not have reached the far phone yet, which would ring in the pair's next call.
func (p *pair) settle(r result) result {
	for deadline := time.Now().Add(endIn); p.busy() || r.failed != "" && p.listed(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.wrong = fmt.Sprintf("pair %s: a call is still up after %s", p.name, endIn)
			break
		}
	}
	p.from.path.Forget()
	p.to.path.Forget()
	for first := r.failed != ""; ; first = false {
		select {
		case <-p.to.Incoming():
			if !first { // a call that failed for the caller may have reached the far phone, once
				r.wrong = fmt.Sprintf("pair %s: the far phone rang twice for one call", p.name)
			}
		default:
			return r
		}
	}
}

// busy says whether one of the two phones has a call.
func (p *pair) busy() bool { return len(p.from.Calls())+len(p.to.Calls()) > 0 }

// listed says whether the node has a call of the pair's caller.
func (p *pair) listed() bool {
	list, err := p.node.Get("/api/v1/calls?user=" + p.from.Config().User)
	return err == nil && strings.TrimSpace(string(list)) != "[]"
}
