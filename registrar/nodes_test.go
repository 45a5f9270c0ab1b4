package registrar

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"baton/journal"
	"baton/sip"
)

// halfStore is one node's side of a store that two share: the other is told of what this one writes.
type halfStore struct {
	sharedStore
	other *halfStore
	bound atomic.Int32
}

func (s *halfStore) Bind(user string, put []Device, drop []string, done func(error)) {
	s.bound.Add(1)
	s.memory.Bind(user, put, drop, func(err error) {
		done(err)
		if err == nil {
			s.other.changes <- Change{Devices: []string{user}}
		}
	})
}

// newCluster are n1 and n2 on one store.
func newCluster(t *testing.T, users ...string) (one, two *office) {
	t.Helper()
	one, two = newOffice(t, users...), newOffice(t)
	first := &halfStore{sharedStore: sharedStore{memory: one.store, changes: make(chan Change, 64)}}
	second := &halfStore{sharedStore: sharedStore{memory: one.store, changes: make(chan Change, 64)}, other: first}
	first.other = second
	one.node, two.node = "n1", "n2"
	one.shared, two.shared = first, second
	one.restart()
	two.restart()
	t.Cleanup(func() { one.stop(); two.stop() })
	return one, two
}

// writes counts those of this node's devices.
func (o *office) writes() int { return int(o.shared.(*halfStore).bound.Load()) }

// sees waits until a node has read what the other has written.
func (o *office) sees(user, want string) {
	o.t.Helper()
	synctest.Wait()
	time.Sleep(readAgain)
	synctest.Wait()
	o.want(user, want)
}

func (o *office) flowOf(user string) (f sip.Flow) {
	for _, d := range o.Lookup(user) {
		f = d.Binding.Flow
	}
	return f
}

// TestTwoNodes: what registers at n1 is seen at n2 with n1's flow, looked after at n1 alone, and moves with the device.
func TestTwoNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, two := newCluster(t, "alice")
		waiting := make(chan Device, 8)
		defer two.Watch("alice", func(d Device) { waiting <- d })()
		p := app("alice", "Desk/1.0", "urn:uuid:1", tcp("192.0.2.7:4000", 7))
		one.expect(200, p, "600")
		two.sees("alice", "1 desk here")
		want := p.flow
		want.Node = "n1"
		if got := two.flowOf("alice"); got != want || one.flowOf("alice") != p.flow {
			t.Errorf("n2 names the flow %+v, n1 %+v", got, one.flowOf("alice"))
		}
		if d := <-waiting; d.Binding.Flow != want {
			t.Errorf("who waits is told of %+v", d.Binding.Flow)
		}
		if two.writes() != 0 || len(two.journal.kinds(journal.DeviceRegistered)) != 0 {
			t.Errorf("n2 has written %d times, logged %v", two.writes(), two.journal.kinds(journal.DeviceRegistered))
		}
		time.Sleep(2 * time.Minute)
		if one.agent.count(p.contact) == 0 || two.agent.count(p.contact) != 0 {
			t.Errorf("n1 has asked it %d times, n2 %d", one.agent.count(p.contact), two.agent.count(p.contact))
		}
		two.FlowClosed(want) // n2's agent was told, its registrar hears of it from n1's
		two.FlowClosed(p.flow)
		two.sees("alice", "1 desk here")
		one.FlowClosed(p.flow)
		one.want("alice", "1 desk away")
		two.sees("alice", "1 desk away")

		moved := app("alice", "Desk/1.0", "urn:uuid:1", tcp("192.0.2.7:4001", 9))
		moved.cseq = 5
		two.expect(200, moved, "600")
		one.sees("alice", "1 desk here")
		if got := one.flowOf("alice"); got.Node != "n2" || got.ID != 9 {
			t.Errorf("n1 names the flow %+v", got)
		}
		if err := one.Rename("alice", "1", "kitchen"); err != nil { // any node may write
			t.Fatal(err)
		}
		two.sees("alice", "1 kitchen here")
		if got := two.flowOf("alice"); got.Node != "" {
			t.Errorf("n2's own flow is %+v", got)
		}
		one.restart()
		if got := one.flowOf("alice"); got.Node != "n2" {
			t.Errorf("n1 names the flow %+v when it has started again", got)
		}
		two.restart() // what was stored of its own is its own
		two.want("alice", "1 kitchen here")
		if got := two.flowOf("alice"); got.Node != "" {
			t.Errorf("n2's own flow is %+v when it has started again", got)
		}
	})
}

// TestNodeGone: connections end with their node, once in the log, but not those of who is back at another; UDP does not.
func TestNodeGone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, two := newCluster(t, "alice", "bob", "carol")
		two.expect(200, app("alice", "Desk/1.0", "urn:uuid:1", tcp("192.0.2.7:4000", 7)), "600")
		two.expect(200, app("bob", "Desk/1.0", "urn:uuid:2", udp("192.0.2.8:4000")), "600")
		two.expect(200, app("carol", "Desk/1.0", "urn:uuid:3", tcp("192.0.2.9:4000", 8)), "600")
		for _, user := range []string{"alice", "bob", "carol"} {
			one.sees(user, "1 desk here")
		}
		two.stop()
		_, back, err := one.shared.(Feed).ReadUser("carol") // at a third node, of which n1 has not read yet
		if err != nil {
			t.Fatal(err)
		}
		elsewhere := *back[0].Binding
		elsewhere.Node, elsewhere.Flow = "n3", tcp("192.0.2.9:4001", 2)
		back[0].Binding = &elsewhere
		one.store.Bind("carol", back, nil, func(error) {})
		one.NodeGone("n2")
		synctest.Wait()
		time.Sleep(time.Second)
		one.want("alice", "1 desk away")
		one.want("bob", "1 desk here")
		one.want("carol", "1 desk here")
		if w := one.writes(); w != 1 {
			t.Errorf("it has written %d times", w)
		}
		if away := one.journal.kinds(journal.DeviceAway); len(away) != 1 || !strings.Contains(away[0].Text, "node n2") {
			t.Errorf("log: %+v", away)
		}
		time.Sleep(605 * time.Second) // what no node ends is ended all the same
		one.want("bob", "1 desk here")
		time.Sleep(overdue)
		one.want("bob", "1 desk away")
	})
}
