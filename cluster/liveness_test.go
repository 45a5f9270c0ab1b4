package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"
)

// TestKillIsSeenAtOnce: the end of the connection and a refused new one prove a death long before five heartbeats are missed.
func TestKillIsSeenAtOnce(t *testing.T) {
	var took []time.Duration
	for i := range 10 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			key := NewKey()
			a := join(t, "a", key, nil)
			p := spawnNode(t, nodeOptions{ID: "b", Key: key.Text(), Peers: []string{a.Addr().String()}})
			eventually(t, 5*time.Second, a.linked("b"))
			dead := make(chan Event, 1)
			a.Subscribe(func(e Event) {
				if e.To.Gone() {
					dead <- e
				}
			})
			began := time.Now()
			p.signal(syscall.SIGKILL)
			select {
			case e := <-dead:
				took = append(took, e.At.Sub(began))
				if e.To != Dead || e.Why != Refused {
					t.Errorf("it is %s because %s", e.To, e.Why)
				}
			case <-time.After(3 * time.Second):
				t.Error("nobody sees it")
			}
		})
	}
	t.Logf("kill -9 was seen after %v", took)
	slices.Sort(took)
	if len(took) == 10 && took[7] > 400*time.Millisecond { // a busy machine may be late now and then
		t.Errorf("it took as long as missing heartbeats")
	}
}

// TestLastHeartbeat: one that was on its way when its sender died does not hold up the proof; those that come on after a death show
// that there was none.
func TestLastHeartbeat(t *testing.T) {
	t.Parallel()
	key := NewKey()
	a := join(t, "a", key, nil)
	p := spawnNode(t, nodeOptions{ID: "b", Key: key.Text(), Peers: []string{a.Addr().String()}})
	eventually(t, 5*time.Second, a.linked("b"))
	a.Mesh.mu.Lock()
	keys := a.peers["b"].beats
	theirs := &beats{session: keys.session, send: keys.take, sent: keys.seen + 1000}
	a.Mesh.mu.Unlock()
	p.kill()
	eventually(t, 5*time.Second, func() error {
		if b, _ := a.Peer("b"); b.State == Alive {
			return errors.New("b is alive")
		}
		return nil
	})
	a.hearBeat(theirs.next(Load{}), time.Now())
	if b, _ := a.Peer("b"); b.State == Alive {
		t.Error("a late heartbeat has brought b back")
	}
	eventually(t, 5*time.Second, a.is("b", Dead))
	time.Sleep(300 * time.Millisecond)
	a.hearBeat(theirs.next(Load{}), time.Now())
	if b, _ := a.Peer("b"); b.State != Suspect {
		t.Errorf("b is %s (%s), and is heard", b.State, b.Why)
	}
}

// TestKillNeedsNoTick: the look at a node whose connection has ended waits for no tick.
func TestKillNeedsNoTick(t *testing.T) {
	t.Parallel()
	key := NewKey()
	a := join(t, "z", key, nil, func(m *Mesh) { m.timing.beat = 3 * time.Second })
	p := spawnNode(t, nodeOptions{ID: "b", Key: key.Text(), Peers: []string{a.Addr().String()}})
	eventually(t, 10*time.Second, a.linked("b"))
	time.Sleep(time.Until(a.lastTick().Add(300 * time.Millisecond)))
	began := time.Now()
	p.kill()
	eventually(t, 10*time.Second, a.is("b", Dead))
	if took := a.firstGone(t, "b").At.Sub(began); took > 1500*time.Millisecond {
		t.Errorf("it took %v", took)
	}
}

func (b *member) lastTick() time.Time {
	b.Mesh.mu.Lock()
	defer b.Mesh.mu.Unlock()
	return b.ticked
}

// TestComingBack: a node that was killed and started again is another instance, and the old one is dead.
func TestComingBack(t *testing.T) {
	t.Parallel()
	key := NewKey()
	a := join(t, "a", key, nil)
	p := spawnNode(t, nodeOptions{ID: "b", Key: key.Text(), Peers: []string{a.Addr().String()}})
	eventually(t, 5*time.Second, a.linked("b"))
	first, _ := a.Peer("b")
	p.kill()
	spawnNode(t, nodeOptions{ID: "b", Key: key.Text(), Peers: []string{a.Addr().String()}})
	eventually(t, 5*time.Second, func() error {
		if second, _ := a.Peer("b"); second.Instance == first.Instance || second.State != Alive {
			return fmt.Errorf("b is %+v", second)
		}
		return nil
	})
	all := a.gone("b")
	if len(all) != 1 || all[0].Node.Instance != first.Instance {
		t.Errorf("the first instance dies once: %+v", all)
	}
	if state, why := a.Examine(first.Node); state != Dead {
		t.Errorf("the first instance is %s (%s)", state, why)
	}
}

// TestExamine proves what becomes of nodes that this one has never met.
func TestExamine(t *testing.T) {
	t.Parallel()
	key := NewKey()
	a := join(t, "a", key, nil)
	p := spawnNode(t, nodeOptions{ID: "b", Key: key.Text()})
	eventually(t, 5*time.Second, func() error {
		if state, why := a.Examine(Node{ID: "b", Instance: "an earlier one", Addr: p.addr}); state != Dead || why != Replaced {
			return fmt.Errorf("an earlier instance is %s (%s)", state, why)
		}
		return nil
	})
	eventually(t, 5*time.Second, a.linked("b"))
	b, _ := a.Peer("b")
	if state, why := a.Examine(b.Node); state != Alive {
		t.Errorf("it is %s (%s)", state, why)
	}
	p.kill()
	c := join(t, "c", key, nil)
	eventually(t, 5*time.Second, func() error {
		if state, why := c.Examine(b.Node); state != Dead || why != Refused {
			return fmt.Errorf("who is gone is %s (%s)", state, why)
		}
		return nil
	})
}

// TestShortStop: a node that stands still for 400 ms is not dead.
func TestShortStop(t *testing.T) {
	t.Parallel()
	key := NewKey()
	a := join(t, "a", key, nil)
	p := spawnNode(t, nodeOptions{ID: "b", Key: key.Text(), Peers: []string{a.Addr().String()}})
	eventually(t, 5*time.Second, a.linked("b"))
	for range 5 {
		p.signal(syscall.SIGSTOP)
		time.Sleep(400 * time.Millisecond)
		p.signal(syscall.SIGCONT)
		time.Sleep(300 * time.Millisecond)
	}
	eventually(t, 5*time.Second, a.linked("b"))
	if all := a.gone("b"); len(all) > 0 {
		t.Errorf("taken for gone: %+v", all)
	}
}

// TestLongStop: a node that stands still for 3 s is frozen, which is told apart from dead, and it is heard again afterwards.
func TestLongStop(t *testing.T) {
	t.Parallel()
	key := NewKey()
	a := join(t, "a", key, nil)
	p := spawnNode(t, nodeOptions{ID: "b", Key: key.Text(), Peers: []string{a.Addr().String()}})
	eventually(t, 5*time.Second, a.linked("b"))
	began := time.Now()
	p.signal(syscall.SIGSTOP)
	eventually(t, 3*time.Second, a.is("b", Frozen))
	seen := a.firstGone(t, "b").At.Sub(began)
	t.Logf("SIGSTOP was seen after %v", seen)
	if seen < 500*time.Millisecond {
		t.Errorf("it was taken for frozen after %v", seen)
	}
	time.Sleep(time.Until(began.Add(3 * time.Second)))
	if err := a.is("b", Frozen)(); err != nil {
		t.Error(err)
	}
	p.signal(syscall.SIGCONT)
	eventually(t, 5*time.Second, a.linked("b"))
	if _, err := a.Call(t.Context(), "b", "echo", nil); err != nil {
		t.Error(err)
	}
	for _, e := range a.happened("b") {
		if e.To == Dead {
			t.Errorf("it was taken for dead: %+v", e)
		}
	}
}

// TestOwnStall: a node that stood still itself takes nobody for dead, and says that it did.
func TestOwnStall(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.Mesh.mu.Lock() // nothing of a goes on: neither its ticks nor what it hears
	time.Sleep(2 * time.Second)
	a.Mesh.mu.Unlock()
	time.Sleep(time.Second)
	if all := a.gone("b"); len(all) > 0 {
		t.Errorf("taken for gone: %+v", all)
	}
	for _, e := range a.happened("b") {
		if e.To != Alive {
			t.Errorf("it suspects another: %+v", e)
		}
	}
	told := a.happened("a")
	if len(told) == 0 || told[0].Why != Stalled || told[0].Stall < time.Second {
		t.Errorf("it does not say that it stood still: %+v", told)
	}
	eventually(t, 5*time.Second, a.linked("b"))
	eventually(t, 5*time.Second, b.linked("a"))
}

// TestStoppedSelf is the same with the whole process: both of two nodes in it stand still, as does a third, and wake at once.
func TestStoppedSelf(t *testing.T) {
	t.Parallel()
	a, _ := pair(t)
	a.Mesh.mu.Lock()
	p := a.peers["b"]
	// a probe that was under way when the process stood still
	a.become(p, Suspect, Silent)
	stalls := a.stalls
	a.stalls++
	node := p.node
	p.probing = true
	a.Mesh.mu.Unlock()
	a.settle(p, node, time.Now().Add(time.Hour), stalls, verdict{Dead, Unreachable})
	time.Sleep(200 * time.Millisecond) // for events
	if all := a.gone("b"); len(all) > 0 {
		t.Errorf("a probe that this node slept through counts: %+v", all)
	}
}

// TestPartition runs in a network namespace of its own: what one direction of the network loses is no death as long as another
// node hears, and one that nobody hears is dead; when the network heals, all are as before.
func TestPartition(t *testing.T) {
	if os.Getenv(inSpace) == "" {
		runInSpace(t, "TestPartition")
		return
	}
	for i := 1; i <= 3; i++ {
		ip(t, "ip", "addr", "add", fmt.Sprintf("10.99.0.%d/32", i), "dev", "lo")
	}
	key := NewKey()
	var all []*member
	for i, id := range []string{"a", "b", "c"} {
		m, err := New(Options{ID: id, Listen: fmt.Sprintf("10.99.0.%d:7000", i+1), Key: key, Directory: Static{"10.99.0.1:7000", "10.99.0.2:7000", "10.99.0.3:7000"}, Log: testLog()})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, run(t, m))
	}
	a, b, c := all[0], all[1], all[2]
	whole := func() {
		for _, m := range all {
			for _, p := range all {
				if m != p {
					eventually(t, 15*time.Second, m.linked(p.self.ID))
				}
			}
		}
	}
	whole()
	t.Run("heartbeats alone are lost", func(t *testing.T) {
		table(t, "-A", "OUTPUT", "-p", "udp", "--dport", "7000", "-d", "10.99.0.1", "-j", "DROP")
		eventually(t, 3*time.Second, a.is("b", Suspect))
		time.Sleep(2 * time.Second)
		if p, _ := a.Peer("b"); p.State != Suspect || p.Why != Answers && p.Why != HeardOf {
			t.Errorf("b is %s (%s)", p.State, p.Why)
		}
		if err := b.linked("a")(); err != nil { // the other direction is well
			t.Error(err)
		}
		table(t, "-F")
		whole()
	})
	t.Run("one direction between two", func(t *testing.T) {
		drop(t, "b", "a")
		eventually(t, 4*time.Second, func() error {
			if p, _ := a.Peer("b"); p.State != Suspect || p.Why != HeardOf {
				return fmt.Errorf("b is %s (%s) to a", p.State, p.Why)
			}
			return nil
		})
		time.Sleep(2 * time.Second)
		if all := append(a.gone("b"), b.gone("a")...); len(all) > 0 {
			t.Errorf("taken for gone although c hears it: %+v", all)
		}
		if err := c.linked("b")(); err != nil {
			t.Error(err)
		}
		table(t, "-F")
		whole()
	})
	t.Run("a node that nobody reaches", func(t *testing.T) {
		began := time.Now()
		drop(t, "b", "a")
		drop(t, "b", "c")
		eventually(t, 5*time.Second, a.is("b", Dead))
		eventually(t, 5*time.Second, c.is("b", Dead))
		t.Logf("seen after %v", a.firstGone(t, "b").At.Sub(began))
		if why := a.firstGone(t, "b").Why; why != Unreachable {
			t.Errorf("because %s", why)
		}
		table(t, "-F")
		whole()
	})
}

var addresses = map[string]string{"a": "10.99.0.1", "b": "10.99.0.2", "c": "10.99.0.3"}

// drop loses all that one node sends to another; what the other sends arrives.
func drop(t *testing.T, from, to string) {
	t.Helper()
	table(t, "-A", "INPUT", "-s", addresses[from], "-d", addresses[to], "-j", "DROP")
}

func table(t *testing.T, args ...string) {
	t.Helper()
	ip(t, append([]string{"iptables", "-w"}, args...)...)
}

func ip(t *testing.T, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
}

// runInSpace runs a test again, in a network namespace that is gone with it.
func runInSpace(t *testing.T, name string) {
	t.Helper()
	for _, tool := range []string{"unshare", "ip", "iptables"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is missing", tool)
		}
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--net", "sh", "-c", `ip link set lo up && exec "$0" "$@"`, os.Args[0], "-test.run", "^"+name+"$", "-test.v", "-test.timeout", "100s")
	cmd.Env = append(os.Environ(), inSpace+"=yes")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && os.Geteuid() != 0 {
		t.Skipf("a network namespace cannot be made: %s", out)
	}
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}
