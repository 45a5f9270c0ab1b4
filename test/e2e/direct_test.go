package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
	"baton/test/redis"
)

// directly is a node that sends sound straight where it can.
var directly = node.Options{Env: []string{"BATON_MEDIA_MODE=auto"}}

// reports is a phone that reports by RTCP as most do.
func reports(c *phone.Config) { c.RTCP = 5 * time.Second }

// mediaCall is what "baton calls --json" tells of the way of sound.
type mediaCall struct {
	ID       string
	Media    string
	MediaWhy string `json:"media_why"`
	Seats    []struct {
		User        string
		Lost, Empty bool

		Legs []struct {
			Stats struct {
				Local    string
				Remote   netip.AddrPort
				In, Out  struct{ Packets uint64 }
				Reported bool
			}
		}
	}
}

// theCall is the only one, asked for without a program of its own: that is done often.
func (w *world) theCall() (mediaCall, error) {
	var calls []mediaCall
	text, err := w.Get("/api/v1/calls")
	if err == nil {
		err = json.Unmarshal(text, &calls)
	}
	if err != nil {
		return mediaCall{}, err
	}
	if len(calls) != 1 {
		return mediaCall{}, fmt.Errorf("%d calls", len(calls))
	}
	return calls[0], nil
}

// goes waits until the sound of the only call goes a way, for a reason.
func (w *world) goes(way, why string, limit time.Duration) mediaCall {
	w.t.Helper()
	var c mediaCall
	began := time.Now()
	w.Eventually(limit, "media to be "+way, func() (err error) {
		if c, err = w.theCall(); err != nil {
			return err
		}
		if c.Media != way || !strings.Contains(c.MediaWhy, why) {
			return fmt.Errorf("it is %s (%s)", c.Media, c.MediaWhy)
		}
		return nil
	})
	for line := range strings.Lines(w.Output()) {
		if strings.Contains(line, "media path") || strings.Contains(line, "direct media") {
			w.t.Log(strings.TrimSpace(line))
		}
	}
	w.t.Logf("media is %s (%s) after %s", c.Media, c.MediaWhy, time.Since(began).Round(100*time.Millisecond))
	return c
}

// tables runs iptables in the namespace of the tests.
func (w *world) tables(command string) string {
	w.t.Helper()
	out, err := exec.Command("iptables", strings.Fields("-w "+command)...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("iptables %s: %v: %s", command, err, out)
	}
	return string(out)
}

// nothingPasses checks that for a while no packet of the call's sound comes to the node or leaves it: by its own count and the kernel's.
func (w *world) nothingPasses(c mediaCall, while time.Duration) {
	w.t.Helper()
	need(w.t, "iptables", "iptables")
	chain := "direct" + c.ID
	w.tables("-N " + chain)
	var rules []string
	for _, s := range c.Seats {
		_, port, _ := strings.Cut(s.Legs[0].Stats.Local, ":")
		rules = append(rules, "INPUT -p udp --dport "+port+" -j "+chain, "OUTPUT -p udp --sport "+port+" -j "+chain)
	}
	w.tables("-A " + chain + " -j RETURN")
	for _, r := range rules {
		w.tables("-A " + r)
	}
	defer func() {
		for _, r := range rules {
			w.tables("-D " + r)
		}
		w.tables("-F " + chain)
		w.tables("-X " + chain)
	}()
	before, err := w.theCall()
	w.must(err)
	pause(while)
	after, err := w.theCall()
	w.must(err)
	for i, s := range after.Seats {
		was, is := before.Seats[i].Legs[0].Stats, s.Legs[0].Stats
		if is.In.Packets != was.In.Packets || is.Out.Packets != was.Out.Packets || is.In.Packets == 0 {
			w.t.Errorf("media is direct, and the node counts %d in and %d out, then %d and %d", was.In.Packets, was.Out.Packets, is.In.Packets, is.Out.Packets)
		}
		if !is.Reported {
			w.t.Errorf("what is heard at seat %d is not measured", i)
		}
	}
	count := regexp.MustCompile(`(?m)^\s*(\d+)\s+\d+\s+RETURN`).FindStringSubmatch(w.tables("-L " + chain + " -v -x -n"))
	if n, err := strconv.Atoi(count[1]); err != nil || n > 0 {
		w.t.Errorf("media is direct, and the kernel has seen %d packets at the node's ports", n)
	}
}

// TestDirectClients: two real phones of one network talk straight, and the node has none of it.
func TestDirectClients(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for _, with := range []string{"baresip", "linphonec"} {
		atOnce(t, &all, with, func(t *testing.T) {
			w := newWorld(t, directly)
			b := w.startBaresip("alice", "udp", 440)
			var stop func()
			var found func()
			switch with {
			case "baresip":
				o := w.startBaresip("bob", "udp", 660)
				stop, found = o.quit, func() { o.found(440, 15*time.Second) }
			default:
				l := w.startLinphone("bob", 660)
				stop, found = l.quit, func() { l.found(440, 15*time.Second) }
			}
			b.dial("102")
			b.await("CALL_ESTABLISHED", 10*time.Second)
			w.nothingPasses(w.goes("direct", "", 60*time.Second), 3*time.Second)
			pause(6 * time.Second) // and stays so, by the next reports
			w.nothingPasses(w.goes("direct", "", time.Second), time.Second)
			b.do("hangup", "")
			b.await("CALL_CLOSED", 5*time.Second)
			quit(b.quit, stop)
			b.found(660, 15*time.Second)
			found()
		})
	}
	all.Wait()
}

// TestDirectFirewall: where a firewall stands between two real phones they hear each other by the node, all but two seconds of it.
func TestDirectFirewall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directly)
	need(t, "iptables", "iptables")
	a, b := w.startBaresip("alice", "udp", 440), w.startBaresip("bob", "udp", 660)
	for _, k := range [][2]*baresip{{a, b}, {b, a}} {
		rule := fmt.Sprintf("INPUT -p udp --sport %d:%d --dport %d:%d -j DROP", k[0].rtp, k[0].rtp+38, k[1].rtp, k[1].rtp+38)
		w.tables("-I " + rule)
		defer w.tables("-D " + rule)
	}
	a.dial("102")
	a.await("CALL_ESTABLISHED", 10*time.Second)
	began := time.Now()
	w.goes("relay", "hears nothing", 40*time.Second)
	pause(2 * time.Second)
	talked := time.Since(began)
	a.do("hangup", "")
	a.await("CALL_CLOSED", 5*time.Second)
	quit(a.quit, b.quit)
	a.found(660, talked-4*time.Second)
	b.found(440, talked-4*time.Second)
}

// TestDirectMoves: a direct call of a real phone is moved to another one and back to direct; who is on the other side hears no gap. Then the phone
// dies, the seat waits, and the call goes on with the first.
func TestDirectMoves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, directly)
	bob := w.phone("bob", "far", reports)
	bob.Behave(phone.AutoAnswer)
	a := w.startBaresip("alice", "udp", 440)
	a.dial("102")
	in := w.ringing(bob)
	w.must(in.Await(5 * time.Second))
	w.goes("direct", "", 60*time.Second)
	c := w.startBaresip("alice", "udp", 550)
	for _, to := range []string{"2", "1"} {
		began := time.Now()
		if out, err := w.CLI("move", "--user", "alice", to); err != nil {
			t.Fatalf("move to %s: %v\n%s", to, err, out)
		}
		w.goes("direct", "", 60*time.Second)
		gap, at := phone.LongestGap(phone.Between(in.Media().Heard(), began, time.Now()), began, time.Now().Add(-50*time.Millisecond))
		t.Logf("longest gap %s, %s after the move was asked for", gap.Round(time.Millisecond), at.Sub(began).Round(time.Millisecond))
		if gap > time.Second { // the limit of a quiet machine is the bench's: here everything may stand still
			t.Errorf("bob heard nothing for %s, %s after the move was asked for", gap, at.Sub(began))
		}
	}
	_ = c
	a.cmd.Process.Kill()
	w.Eventually(20*time.Second, "alice to be lost", func() error {
		if out, err := w.CLI("calls"); err != nil || !strings.Contains(out, "alice (lost)") {
			return fmt.Errorf("%v: %s", err, out)
		}
		return nil
	})
	if !in.HearsTone(5 * time.Second) {
		t.Error("bob hears no tone")
	}
	lost, err := w.theCall()
	w.must(err)
	if out, err := w.CLI("rejoin", lost.ID, "2"); err != nil {
		t.Fatalf("rejoin: %v\n%s", err, out)
	}
	w.goes("direct", "", 60*time.Second)
	w.must(in.Hangup())
}

// TestDirectNodeKilled kills one of two nodes with a direct call (R2): nothing of it is heard, and the call is hung up at the other node, which has it.
func TestDirectNodeKilled(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	url := "redis://" + server.Addr
	a, b, _ := newPairAt(t, url, url, directly.Env...)
	often := func(c *phone.Config) { c.RTCP = 500 * time.Millisecond }
	alice, bob := a.phone("alice", "desk", often), a.phone("bob", "far", often)
	out, in := a.connect(alice, "bob", bob)
	a.goes("direct", "", 30*time.Second)
	pause(3500 * time.Millisecond) // b has known its store for that long
	killed := time.Now()
	a.Kill()
	b.Eventually(10*time.Second, "the call at the other node", func() error {
		if !strings.Contains(b.Output(), "call goes on") {
			return fmt.Errorf("it is not there")
		}
		return nil
	})
	c := b.goes("direct", "", 10*time.Second)
	b.Eventually(10*time.Second, "both phones to report there", func() (err error) {
		if c, err = b.theCall(); err != nil {
			return err
		}
		for _, s := range c.Seats {
			if !s.Legs[0].Stats.Reported {
				return fmt.Errorf("one does not")
			}
		}
		return nil
	})
	pause(time.Second)
	for _, one := range []*phone.Call{out, in} {
		heard := one.Media().Heard()
		if r := phone.Analyse(heard, 8000); r.Missing > 0 || len(r.SSRCs) != 1 {
			t.Errorf("heard: %v", r)
		}
	}
	t.Logf("the longest pauses since the node was killed: %v", gapsSince([]*phone.Call{out, in}, killed))
	asked := time.Now()
	b.must(in.Hangup())
	took := time.Since(asked)
	b.ended(out)
	if t.Logf("the BYE took %s", took); took > time.Second {
		t.Errorf("the BYE took %s", took)
	}
}
