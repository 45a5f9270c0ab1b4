package e2e

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"baton/test/phone"
)

// live is some calls that go on while something is done to the node.
type live struct {
	*world
	calls [][2]*phone.Call
	since time.Time
}

// talk sets calls up, one between two phones over UDP and one between two over TCP, of users who do nothing else.
func newLive(w *world) *live {
	w.t.Helper()
	l := &live{world: w}
	for i, transport := range []string{"udp", "tcp"} {
		from, to := []string{"alice", "carol"}[i], []string{"bob", "dave"}[i]
		out, in := w.connect(w.phone(from, "desk", over(transport)), to, w.phone(to, "far", over(transport)))
		l.calls = append(l.calls, [2]*phone.Call{out, in})
	}
	l.since = time.Now()
	return l
}

// unlimited lets a node be shot at: what it does with bad messages is tried, not how many it takes.
const unlimited = "limits:\n  stranger: 100000\n  strangers: 100000\n  source: 100000\n  user: 100000\n  calls: 100000\n  cpu: 0\n"

// liveUsers are those of newLive's calls with their numbers.
func liveUsers() map[string]string {
	return map[string]string{"alice": "101", "bob": "102", "carol": "103", "dave": "104"}
}

// unharmed checks that each call is up, that every frame since its beginning has reached the other side as it was sent and in its
// order, in one stream, and that no phone was sent a word.
func (l *live) unharmed() {
	l.t.Helper()
	pause(300 * time.Millisecond) // what is wrong may show a little later
	now := time.Now()
	for _, pair := range l.calls {
		for i, c := range pair {
			other := pair[1-i]
			name := fmt.Sprintf("the call of %s over %s", c.Phone().Config().User, c.Phone().Config().Transport)
			if c.State() != phone.Up {
				why, m := c.Why()
				l.t.Errorf("%s is %s: %s (%v)", name, c.State(), why, m)
			}
			r := phone.Analyse(c.Media().Heard(), 8000)
			if r.Missing != 0 || r.Reordered != 0 || r.Duplicates != 0 || len(r.SSRCs) != 1 || r.Changed != 0 || r.Tones != 0 || r.Events != 0 {
				l.t.Errorf("%s is broken: %s", name, r)
			}
			if lost := phone.Lost(other.Media(), l.since, now.Add(-100*time.Millisecond), c.Media()); len(lost) > 0 {
				l.t.Errorf("%s: %d frames of the other side were lost: %v", name, len(lost), lost)
			}
			for _, m := range c.Phone().Received(l.since) {
				if m.Method != "OPTIONS" { // is the phone there? that has nothing to do with the call
					l.t.Errorf("%s: its phone was sent %s (%s)", name, m.Line(), m.Get("CSeq"))
				}
			}
			l.t.Logf("%s heard %s", name, r)
		}
	}
}

// over hangs all calls up.
func (l *live) over() {
	l.t.Helper()
	for _, pair := range l.calls {
		l.must(pair[0].Hangup())
		l.ended(pair[1])
	}
}

// leaves counts the UDP packets that are sent to anywhere but the namespace's own addresses, from now to the end of the test. They are
// seen before the kernel looks whether there is a way.
func leaves(t *testing.T) func() int {
	t.Helper()
	const chain = "LEAVES"
	programs := map[string]string{"iptables": "127.0.0.0/8,10.77.0.0/27", "ip6tables": "::1/128,fd77::/64"}
	run := func(program string, args ...string) string {
		out, err := exec.Command(need(t, program, "iptables"), append([]string{"-w"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	for program, own := range programs {
		run(program, "-N", chain)
		for _, net := range strings.Split(own, ",") {
			run(program, "-A", chain, "-d", net, "-j", "RETURN")
		}
		run(program, "-A", chain, "-j", "ACCEPT")
		run(program, "-I", "OUTPUT", "-p", "udp", "-j", chain)
		t.Cleanup(func() {
			run(program, "-D", "OUTPUT", "-p", "udp", "-j", chain)
			run(program, "-F", chain)
			run(program, "-X", chain)
		})
	}
	return func() int {
		sum := 0
		for program := range programs {
			for _, line := range strings.Split(run(program, "-nvxL", chain), "\n") {
				if f := strings.Fields(line); len(f) > 2 && f[2] == "ACCEPT" {
					n, _ := strconv.Atoi(f[0])
					sum += n
				}
			}
		}
		return sum
	}
}
