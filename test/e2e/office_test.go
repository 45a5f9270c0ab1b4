package e2e

import (
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// three are the users of an office.
var three = node.Options{Users: map[string]string{"alice": "101", "bob": "102", "carol": "103"}}

// entry is what baton log --json tells of one.
type entry struct{ Kind, User, Peer, From, Text string }

// TestForwardByCommand sets forwarding from the command line, is forwarded, and finds who missed what in the log.
func TestForwardByCommand(t *testing.T) {
	w := newWorld(t, three)
	alice, bob, carol := w.phone("alice", "one"), w.phone("bob", "one"), w.phone("carol", "one")
	out, err := w.CLI("user", "set", "bob", "--forward-no-answer", "103,1s", "--ring", "40s")
	if err != nil || !strings.Contains(out, "go to 103 after 1s without answer") {
		t.Fatalf("%v: %s", err, out)
	}
	carol.Behave(phone.AutoAnswer)
	call := w.dial(alice, "102")
	first := w.ringing(bob)
	w.must(call.Await(5 * time.Second))
	w.talk(call, w.ringing(carol))
	w.ended(first)
	w.must(call.Hangup())
	w.missedBy()
	if _, err := w.CLI("user", "set", "103", "--dnd", "on"); err != nil {
		t.Fatal(err)
	}
	w.status(w.dial(alice, "102"), 486)
	w.missedBy("bob", "carol")
	w.missedOf("103", "carol")
	if text, err := w.CLI("log", "--missed", "--user", "bob"); err != nil || !strings.Contains(text, "bob missed a call of alice") {
		t.Errorf("%v: %s", err, text)
	}
	if text, err := w.CLI("log"); err != nil || !strings.Contains(text, "bob") {
		t.Errorf("%v: %s", err, text)
	}
}

// missedBy wants baton log to name these users, and no others, as those who missed calls.
func (w *world) missedBy(users ...string) { w.t.Helper(); w.missedOf("", users...) }

func (w *world) missedOf(user string, users ...string) {
	w.t.Helper()
	args := []string{"log", "--missed", "--json"}
	if user != "" {
		args = append(args, "--user", user)
	}
	w.Eventually(5*time.Second, "the log to say who missed a call", func() error {
		var list []entry
		if err := w.JSON(&list, args...); err != nil {
			return err
		}
		var got []string
		for _, e := range list {
			got = append(got, e.Peer)
		}
		if strings.Join(got, " ") != strings.Join(users, " ") {
			return &mismatch{got, users}
		}
		return nil
	})
}

type mismatch struct{ got, want []string }

func (m *mismatch) Error() string {
	return "got " + strings.Join(m.got, " ") + ", want " + strings.Join(m.want, " ")
}

// TestSettingsSurviveARestart keeps what a phone has set by code.
func TestSettingsSurviveARestart(t *testing.T) {
	w := newWorld(t, three)
	bob := w.phone("bob", "one")
	w.must(w.dial(bob, "*21103").Await(5 * time.Second))
	w.Kill()
	w.Run()
	if text, err := w.CLI("user", "show", "102"); err != nil || !strings.Contains(text, "all go to 103") {
		t.Fatalf("%v: %s", err, text)
	}
	alice, carol := w.phone("alice", "one"), w.phone("carol", "one")
	carol.Behave(phone.AutoAnswer)
	out := w.dial(alice, "bob")
	w.must(out.Await(5 * time.Second))
	w.talk(out, w.ringing(carol))
	w.must(out.Hangup())
}

// TestBaresipDialsCodes sets forwarding and do-not-disturb from a real softphone, and is forwarded.
func TestBaresipDialsCodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, three)
	alice, bob, carol := w.startBaresip("alice", "udp", 440), w.startBaresip("bob", "tcp", 550), w.startBaresip("carol", "udp", 660)
	bob.dial("*21*103%23")
	bob.await("CALL_ESTABLISHED", 10*time.Second)
	bob.await("CALL_CLOSED", 10*time.Second)
	alice.dial("102")
	carol.await("CALL_ESTABLISHED", 10*time.Second)
	alice.await("CALL_ESTABLISHED", 10*time.Second)
	pause(2 * time.Second)
	alice.do("hangup", "")
	carol.await("CALL_CLOSED", 5*time.Second)
	alice.await("CALL_CLOSED", 5*time.Second)
	for _, code := range []string{"%2321%23", "*26"} {
		bob.dial(code)
		bob.await("CALL_ESTABLISHED", 10*time.Second)
		bob.await("CALL_CLOSED", 10*time.Second)
	}
	alice.dial("102")
	if e := alice.await("CALL_CLOSED", 10*time.Second); !strings.Contains(e.Param, "486") {
		t.Errorf("alice was told %q of bob, who is not to be disturbed", e.Param)
	}
	w.missedBy("bob")
	bob.dial("*27")
	bob.await("CALL_CLOSED", 10*time.Second)
	bob.quit()
	w.Eventually(5*time.Second, "bob's device to be away", func() error {
		if n := w.here("bob"); n > 0 {
			return &mismatch{[]string{"here"}, []string{"away"}}
		}
		return nil
	})
	alice.dial("102")
	if e := alice.await("CALL_CLOSED", 10*time.Second); !strings.Contains(e.Param, "480") {
		t.Errorf("alice was told %q of bob, who has no device here", e.Param)
	}
	for _, b := range []*baresip{alice, carol} {
		b.quit()
	}
	carol.found(440, 1500*time.Millisecond)
	alice.found(425, time.Second) // "nobody there", in the last call's early media
}
