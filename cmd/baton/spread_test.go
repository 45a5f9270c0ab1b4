package main

import (
	"bufio"
	"encoding/json"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"baton/call"
	"baton/cluster"
	"baton/test/phone"
	"baton/test/redis"
)

// twoOffices are n1, with users, and n2, which know each other. more is for both configurations.
func twoOffices(t *testing.T, more string, users ...string) (n1, n2 *office) {
	t.Helper()
	key := filepath.Join(t.TempDir(), "cluster.key")
	wants(t, 0, `^$`, "cluster", "key", key)
	store := redis.Start(t, redis.Options{}).Addr
	n1 = newOffice(t, "n1", more+clustered("n1", key, "127.0.0.1:0", store), users...)
	n2 = newOffice(t, "n2", more+clustered("n2", key, "127.0.0.1:0", store))
	n1.meets("n2")
	n2.meets("n1")
	return n1, n2
}

// up has a phone call a user and waits for the answer.
func up(t *testing.T, from *phone.Phone, user string) *phone.Call {
	t.Helper()
	out, err := from.Dial(user)
	if err == nil {
		err = out.Await(10 * time.Second)
	}
	if err != nil {
		t.Fatalf("call to %s: %v", user, err)
	}
	return out
}

// TestMyCallsAtAnotherNode: the page of n2 shows a user his call at n1 as it changes, moves, leaves and ends it, and shows nobody else's.
func TestMyCallsAtAnotherNode(t *testing.T) {
	n1, n2 := twoOffices(t, "", "alice", "bob", "carol")
	alice := n1.phone("alice", "udp", "desk", phone.AutoAnswer)
	n1.phone("alice", "udp", "hall", phone.AutoAnswer)
	n1.phone("bob", "udp", "far", phone.AutoAnswer)
	n2.sees(`(?m)^alice .* hall .* here `)
	auth := []string{"Authorization", "Bearer " + n2.signIn("alice"), "Content-Type", "application/json"}
	stranger := []string{"Authorization", "Bearer " + n2.signIn("carol"), "Content-Type", "application/json"}
	events := n2.open("GET", "/api/v1/me/events", "", auth[:2]...)
	defer events.Body.Close()
	lists := make(chan []call.Info, 256)
	go func() {
		defer close(lists)
		in := bufio.NewScanner(events.Body)
		in.Buffer(nil, 1<<20)
		for calls := false; in.Scan(); {
			var list []call.Info
			if text, ok := strings.CutPrefix(in.Text(), "data: "); ok && calls && json.Unmarshal([]byte(text), &list) == nil {
				lists <- list
			}
			if name, ok := strings.CutPrefix(in.Text(), "event: "); ok {
				calls = name == "calls"
			}
		}
	}()
	shown := func(what string, ok func([]call.Info) bool) []call.Info {
		t.Helper()
		began, limit := time.Now(), time.After(30*time.Second)
		for {
			select {
			case list := <-lists:
				if ok(list) {
					t.Logf("%s is shown after %v", what, time.Since(began).Round(time.Millisecond))
					return list
				}
			case <-limit:
				t.Fatalf("n2's page is not shown %s", what)
			}
		}
	}
	out := up(t, alice, "bob")
	list := shown("the call", func(l []call.Info) bool { return len(l) == 1 && l[0].State == "up" })
	id := list[0].ID
	do := func(header []string, path, body string, code int, want string) {
		t.Helper()
		if got, _, said := n2.browse("POST", "/api/v1/me/"+path, body, header...); got != code || !strings.Contains(said, want) {
			t.Errorf("%s: %d %s, want %d %s", path, got, said, code, want)
		}
	}
	if code, _, said := n2.browse("GET", "/api/v1/me/calls", "", auth...); code != 200 || !strings.Contains(said, id) || strings.Contains(said, "far") {
		t.Errorf("alice's calls: %d %s", code, said)
	}
	if _, _, said := n2.browse("GET", "/api/v1/me/calls", "", stranger...); strings.TrimSpace(said) != "[]" {
		t.Errorf("carol is shown %s", said)
	}
	do(stranger, "calls/"+id+"/end", "", 404, id)
	do(stranger, "calls/"+id+"/leave", "", 404, id)
	do(auth, "calls/zzzz/end", "", 404, "zzzz")
	do(auth, "moves", `{"call":"`+id[:5]+`","device":"hall"}`, 200, `"to":"hall"`)
	if err := out.AwaitEnd(5 * time.Second); err != nil {
		t.Error(err)
	}
	shown("the move", func(l []call.Info) bool { return len(l) == 1 && len(l[0].Moves) == 1 })
	do(auth, "moves", `{"device":"desk"}`, 200, `"to":"desk"`)
	do(auth, "calls/"+id+"/leave", "", 204, "")
	shown("that alice has left", func(l []call.Info) bool {
		return len(l) == 1 && len(l[0].Seats) == 2 && (l[0].Seats[0].Empty || l[0].Seats[1].Empty)
	})
	do(auth, "calls/"+id+"/rejoin", `{"device":"hall"}`, 200, `"to":"hall"`)
	do(auth, "calls/"+id+"/end", "", 204, "")
	shown("the end", func(l []call.Info) bool { return len(l) == 0 })
	wants(t, 0, `^no live calls\n$`, "calls", "--data", n1.dir)
}

// TestCodesAtAnotherNode: the codes of a device at n2 bring, push, and leave the call at n1, and a call of n1 is counted with those of n2.
func TestCodesAtAnotherNode(t *testing.T) {
	n1, n2 := twoOffices(t, "", "alice", "bob")
	desk := n1.phone("alice", "udp", "desk", phone.AutoAnswer)
	bob := n1.phone("bob", "udp", "far", phone.AutoAnswer)
	tablet := n2.phone("alice", "udp", "tablet", phone.AutoAnswer)
	n1.sees(`(?m)^alice .* tablet .* here `)
	n2.sees(`(?m)^alice .* desk .* here `)
	first := up(t, desk, "bob")
	n2.knows(t, "alice")
	hears := func(what string, in *phone.Call) {
		t.Helper()
		far := bob.Calls()[0]
		if !in.Hears(far, 5*time.Second) || !far.Hears(in, 5*time.Second) {
			t.Fatalf("%s: they do not hear each other", what)
		}
	}
	pulled := up(t, tablet, "*40")
	if err := first.AwaitEnd(5 * time.Second); err != nil {
		t.Error(err)
	}
	hears("pulled", pulled)
	if err := pulled.Hold(phone.HoldSendonly); err != nil {
		t.Fatal(err)
	}
	if _, err := tablet.Dial("*411"); err != nil { // to the desk
		t.Fatal(err)
	}
	if err := pulled.AwaitEnd(10 * time.Second); err != nil {
		t.Fatalf("pushed: %v", err)
	}
	wants(t, 0, `(?m) alice \(desk\) +bob \(far\) .* n1$`, "calls", "--data", n2.dir)
	pulled = up(t, tablet, "*401") // the first of all
	hears("pulled by number", pulled)
	if _, err := tablet.Dial("*42"); err != nil {
		t.Fatal(err)
	}
	if err := pulled.AwaitEnd(10 * time.Second); err != nil {
		t.Fatalf("left: %v", err)
	}
	back := up(t, tablet, "bob") // who calls him again means the call that waits
	hears("called again", back)
	wants(t, 0, `(?m)^\S+ .* n1\n$`, "calls", "--data", n2.dir)
}

// knows waits until the node has heard that a user is in a call at another.
func (o *office) knows(t *testing.T, user string) {
	t.Helper()
	waitFor(t, o.name+" to hear of a call of "+user, func() bool {
		said, _, _ := run(t, "", "calls", "--user", user, "--data", o.dir)
		return strings.Contains(said, "up")
	})
	time.Sleep(2 * tellEvery)
}

// TestPlacedByLoad: a node that is full gives new calls to one with room, and refuses only when none has any.
func TestPlacedByLoad(t *testing.T) {
	n1, n2 := twoOffices(t, "call: {capacity: 2}\n", "alice", "bob", "carol")
	alice := n1.phone("alice", "udp", "desk", phone.AutoAnswer)
	n1.phone("bob", "udp", "far", phone.AutoAnswer)
	carol := n1.phone("carol", "udp", "near", phone.AutoAnswer)
	n2.sees(`(?m)^bob .* far .* here `)
	n2.sees(`(?m)^carol .* near .* here `)
	for range 3 {
		up(t, alice, "bob")
	}
	last := up(t, alice, "carol")
	in := carol.Calls()[0]
	if !last.Hears(in, 10*time.Second) || !in.Hears(last, 10*time.Second) {
		t.Error("alice and carol do not hear each other in a call that was given away")
	}
	for _, node := range []string{"n1", "n2"} {
		said := wants(t, 0, ` `+node+`\n`, "calls", "--data", n1.dir)
		if got := strings.Count(said, " "+node+"\n"); got != 2 {
			t.Errorf("%s has %d calls, want 2:\n%s", node, got, said)
		}
	}
	waitFor(t, "the nodes to be full", func() bool {
		said, _, _ := run(t, "", "nodes", "--data", n1.dir)
		return strings.Count(said, " 2 of 2 ") == 2
	})
	out, err := alice.Dial("bob")
	if err == nil {
		err = out.Await(5 * time.Second)
	}
	if err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("a fifth call: %v, want 503", err)
	}
	if err := last.Hangup(); err != nil { // its BYE finds n2
		t.Error(err)
	}
	waitFor(t, "n2 to have room", func() bool {
		said, _, _ := run(t, "", "nodes", "--data", n1.dir)
		return strings.Count(said, " 1 of 2 ") == 1
	})
	up(t, alice, "bob")
}

// TestRoomiest: who has room keeps its calls, and two nodes never give each other calls.
func TestRoomiest(t *testing.T) {
	load := func(calls, capacity int) cluster.Load { return cluster.Load{Calls: calls, Capacity: capacity} }
	for _, c := range []struct {
		own    cluster.Load
		others map[string]cluster.Load
		want   string
	}{
		{load(0, 0), nil, ""},
		{load(9000, 0), nil, ""},
		{load(100, 0), map[string]cluster.Load{"b": load(0, 0)}, ""},
		{load(102, 0), map[string]cluster.Load{"b": load(0, 0)}, "b"},
		{load(102, 0), map[string]cluster.Load{"b": load(0, 0), "a": load(0, 0)}, "a"},
		{load(10, 100), map[string]cluster.Load{"b": load(0, 100), "c": load(1, 100)}, ""},
		{load(12, 100), map[string]cluster.Load{"b": load(0, 100), "c": load(1, 100)}, "b"},
		{load(2, 2), map[string]cluster.Load{"b": load(1, 2)}, "b"},
		{load(2, 2), map[string]cluster.Load{"b": load(2, 2)}, ""},
		{load(2, 2), map[string]cluster.Load{"b": {Draining: true}, "c": {Busy: true}}, ""},
		{load(50, 100), map[string]cluster.Load{"b": load(100, 1000)}, "b"},
	} {
		if got := roomiest(c.own, c.others); got != c.want {
			t.Errorf("%+v beside %+v gives its call to %q, want %q", c.own, c.others, got, c.want)
		}
	}
	g, now, full := &given{}, time.Now(), load(12, 100)
	others := func() map[string]cluster.Load { return map[string]cluster.Load{"b": load(0, 100)} }
	if to := g.choose(full, others(), now); to != "b" {
		t.Errorf("the first of a rush goes to %q", to)
	}
	if to := g.choose(full, others(), now.Add(unseen/2)); to != "" {
		t.Errorf("so does the second, before b has told of the first: %q", to)
	}
	if to := g.choose(full, others(), now.Add(2*unseen)); to != "b" {
		t.Errorf("later %q", to)
	}
}

// TestSubscriptionsOfADeadNode: a phone that watched at n1 is told by n2 how things stand, once n1 has been killed.
func TestSubscriptionsOfADeadNode(t *testing.T) {
	n1, n2 := twoOffices(t, "watch: {alice: [bob]}\n", "alice", "bob", "carol")
	alice := n1.phone("alice", "udp", "desk", phone.Behaviour{})
	bob := n2.phone("bob", "udp", "far", phone.AutoAnswer)
	n2.phone("carol", "udp", "near", phone.AutoAnswer)
	n2.sees(`(?m)^alice .* desk .* here `)
	s, res, err := alice.Subscribe("bob", 10*time.Minute)
	if err != nil {
		t.Fatal(err, res)
	}
	if _, err := s.Await(5*time.Second, func(phone.Notice) bool { return true }); err != nil {
		t.Fatal(err)
	}
	before := len(s.Told())
	n1.stop(t, syscall.SIGKILL)
	waitFor(t, "a NOTIFY of n2", func() bool { return len(s.Told()) > before })
	if state := s.Last().Get("Subscription-State"); !strings.HasPrefix(state, "active;") {
		t.Errorf("the subscription is %s", state)
	}
	out := up(t, bob, "carol")
	busy := func(want int) func(phone.Notice) bool {
		return func(n phone.Notice) bool { return strings.Count(string(n.Body), "<state>confirmed</state>") == want }
	}
	if _, err := s.Await(5*time.Second, busy(1)); err != nil {
		t.Error(err)
	}
	if err := out.Hangup(); err != nil {
		t.Error(err)
	}
	if _, err := s.Await(5*time.Second, busy(0)); err != nil {
		t.Error(err)
	}
}
