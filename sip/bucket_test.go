package sip

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

const second = int64(time.Second)

// TestRate wants ten seconds' worth at once, then so many a second, and nothing gained by waiting longer.
func TestRate(t *testing.T) {
	r := perSecond(5)
	var debt, now int64
	taken := func() (n int) {
		for n < 1000 {
			next, ok := r.take(debt, now)
			if !ok {
				break
			}
			debt = next
			n++
		}
		return n
	}
	for _, c := range []struct {
		after int64
		want  int
	}{{0, 50}, {0, 0}, {second, 5}, {second / 10, 0}, {second / 10, 1}, {100 * second, 50}} {
		now += c.after
		if got := taken(); got != c.want {
			t.Errorf("at %v: %d fit, want %d", time.Duration(now), got, c.want)
		}
	}
	if _, ok := perSecond(0).take(now+1e15, now); !ok {
		t.Error("no limit refuses")
	}
}

func TestOwe(t *testing.T) {
	table, r := newTable(64), oneEach(30*time.Second, 3)
	var firsts []int
	for i := range 6 {
		if table.spent(7, r, 0) != (i >= 3) {
			t.Errorf("after %d: spent is %v", i, i < 3)
		}
		if table.owe(7, r, 0) {
			firsts = append(firsts, i)
		}
	}
	if len(firsts) != 1 || firsts[0] != 2 {
		t.Errorf("first spent with %v, want with the third", firsts)
	}
	for after, spent := range map[int64]bool{29: true, 59: true, 60: false} { // the fourth is owed beyond the bucket
		if table.spent(7, r, after*second) != spent {
			t.Errorf("%d s later: spent is not %v", after, spent)
		}
	}
}

// TestTableIsBounded has a million sources come by. The table stays as it is, and who had spent all has still spent all.
func TestTableIsBounded(t *testing.T) {
	table, r := newTable(sourcesHeld), perSecond(100)
	held := sourceKey(Flow{Remote: netip.MustParseAddrPort("192.0.2.1:5060")}).hash()
	for range 2000 {
		table.take(held, r, 0)
	}
	before := heap()
	for range 1_000_000 {
		if !table.take(rand.Uint64(), r, 0) {
			t.Fatal("a source that was never seen is held back")
		}
	}
	if grown := int64(heap()) - int64(before); grown > 64<<10 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	if table.take(held, r, 0) {
		t.Error("who had spent all has new tokens")
	}
}

func TestSourcesOfOneSubscriberAreOne(t *testing.T) {
	key := func(addr string) uint64 { return sourceKey(Flow{Remote: netip.MustParseAddrPort(addr)}).hash() }
	if key("[2001:db8:1:2::1]:1") != key("[2001:db8:1:2:ffff::9]:2") || key("192.0.2.1:1") != key("192.0.2.1:2") {
		t.Error("one source is two")
	}
	if key("[2001:db8:1:2::1]:1") == key("[2001:db8:1:3::1]:1") || key("192.0.2.1:1") == key("192.0.2.2:1") {
		t.Error("two sources are one")
	}
}

// TestProvenIsForgotten wants a key to be known for at least one life after its last proof and at most two, and the
// number of keys to have a limit.
func TestProvenIsForgotten(t *testing.T) {
	const life = int64(time.Hour)
	for _, begin := range []int64{0, life / 2, life - 1} {
		p := newProven(time.Hour)
		p.learn(1, 0) // begins a generation
		p.learn(2, begin)
		p.take(2, perSecond(1), begin)
		if !p.has(2, begin+life) || p.has(2, begin+2*life) {
			t.Errorf("learnt at %v: after one life %v, after two %v", time.Duration(begin), p.has(2, begin+life), p.has(2, begin+2*life))
		}
		if p.has(3, begin) {
			t.Error("a key that was never learnt is known")
		}
	}
	p := newProven(time.Hour)
	for i := range 3 * uint64(maxProven*len(p.shards)) {
		p.learn(i, 0)
	}
	if n := p.len(); n != maxProven*len(p.shards) {
		t.Errorf("%d are known", n)
	}
}

// TestProvenKeepsItsDebt wants a flow that is learnt again, or grows old, not to have new tokens by that.
func TestProvenKeepsItsDebt(t *testing.T) {
	p, r := newProven(time.Minute), perSecond(1)
	p.learn(1, 0)
	now := 60*second - 1
	for range 10 {
		p.take(1, r, now)
	}
	for range 2 { // the second time it is of the earlier generation
		p.learn(1, now)
		if _, ok := p.take(1, r, now); ok {
			t.Errorf("learning gives tokens at %v", time.Duration(now))
		}
		now++
	}
}

// BenchmarkJudge is what a message of a flood costs before it is dropped.
func BenchmarkJudge(b *testing.B) {
	l := newLimits(unlimited, nil)
	l.stranger = perSecond(1)
	f := Flow{Transport: "udp", Remote: netip.MustParseAddrPort("192.0.2.1:5060")}
	b.ReportAllocs()
	for b.Loop() {
		l.judge(benchInvite, f, l.now())
	}
}
