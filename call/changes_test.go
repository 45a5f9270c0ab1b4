package call_test

import (
	"fmt"
	"testing"
	"time"
)

// TestChanges: who watches the calls is told of a call's answer and end, once for what came together, and not when
// somebody only looks at them; for what has not changed nothing is allocated.
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
	n, err := r.b.PublishAllocates(r.b.Calls("")[0].ID)
	if must(t, err); n > 2 { // the race detector has a pool forget some
		t.Errorf("%v allocations for telling what has not changed", n)
	}
	must(t, out.Hangup())
	for state() != "none" {
		told("the end")
	}
	r.nothingLeft()
}

// TestChangesOf: who watches the calls of one user is told of those alone, of their end too.
func TestChangesOf(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for i, name := range []string{"alice", "bob", "carol"} {
		r.user(name, fmt.Sprint(101+i))
	}
	bobs, stopBob := r.b.ChangesOf("bob")
	defer stopBob()
	carols, stopCarol := r.b.ChangesOf("carol")
	defer stopCarol()
	a, b := r.phone("alice", 1), r.phone("bob", 1)
	out, _ := r.connect(a, b)
	r.eventually("bob is told", 5*time.Second, func() bool { return len(bobs) == 1 })
	<-bobs
	for _, s := range r.b.Calls("bob")[0].Seats {
		if l := s.Legs[0]; l.Secure != "none" || l.Via != "udp" {
			t.Errorf("plain RTP is shown as %q by %q", l.Secure, l.Via)
		}
	}
	must(t, out.Hangup())
	for len(r.b.Calls("bob")) > 0 {
		select {
		case <-bobs:
		case <-time.After(5 * time.Second):
			t.Fatal("bob is not told of the end")
		}
	}
	r.nothingLeft()
	if len(carols) != 0 {
		t.Error("carol is told of a call of others")
	}
}
