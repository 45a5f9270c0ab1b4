package main

import (
	"bufio"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"baton/call"
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
		err = out.Await(5 * time.Second)
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
		began, limit := time.Now(), time.After(5*time.Second)
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
