package call_test

import (
	"testing"
	"time"
)

// TestChanges: who watches the calls is told of a call's answer and end, once for what came together, and not when
// somebody only looks at them.
func TestChanges(t *testing.T) {
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	changed, stop := r.b.Changes()
	defer stop()
	told := func(what string) {
		t.Helper()
		select {
		case <-changed:
		case <-time.After(5 * time.Second):
			t.Fatalf("not told of %s", what)
		}
	}
	state := func() string {
		all := r.b.Calls("")
		if len(all) == 0 {
			return "none"
		}
		return all[0].State
	}
	a, b := r.phone("alice", 1), r.phone("bob", 1)
	out, _ := r.connect(a, b)
	for state() != "up" {
		told("the answer")
	}
	r.eventually("nothing changes any more, however often it is looked at", 5*time.Second, func() bool {
		select {
		case <-changed:
			return false
		case <-time.After(100 * time.Millisecond):
		}
		for range 20 {
			state()
		}
		return len(changed) == 0
	})
	must(t, out.Hangup())
	for state() != "none" {
		told("the end")
	}
	r.nothingLeft()
}
