package journal

import (
	"testing"
	"time"
)

func TestMatches(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	e := Entry{Time: at, Kind: CallStarted, User: "alice", Peer: "bob", Call: "k3f9aaaa"}
	tests := []struct {
		name string
		q    Query
		want bool
	}{
		{"everything", Query{}, true},
		{"since then", Query{Since: at}, true},
		{"since later", Query{Since: at.Add(1)}, false},
		{"until then", Query{Until: at}, false},
		{"until later", Query{Until: at.Add(1)}, true},
		{"of the caller", Query{User: "alice"}, true},
		{"of the called", Query{User: "bob"}, true},
		{"called", Query{Peer: "bob"}, true},
		{"not called", Query{Peer: "alice"}, false},
		{"of another", Query{User: "al"}, false},
		{"of the call", Query{Call: "k3f9aaaa"}, true},
		{"abbreviated", Query{Call: "k3"}, true},
		{"of another call", Query{Call: "k4"}, false},
		{"of the kind", Query{Kinds: []Kind{CallEnded, CallStarted}}, true},
		{"of another kind", Query{Kinds: []Kind{CallEnded}}, false},
		{"all at once", Query{Since: at, User: "bob", Call: "k3", Kinds: []Kind{CallStarted}}, true},
		{"all but one", Query{Since: at, User: "bob", Call: "k3", Kinds: []Kind{CallMoved}}, false},
	}
	for _, tt := range tests {
		if got := tt.q.Matches(e); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	if (Query{Call: "k"}).Matches(Entry{Time: at, Kind: DeviceAway, User: "alice"}) {
		t.Error("a device's entry is of no call")
	}
	if !(Query{User: "bob"}).Matches(Entry{Kind: CallPickedUp, User: "carol", Peer: "alice", From: "bob"}) {
		t.Error("the pick-up of one's own call is not found")
	}
	if !(Query{User: "carol"}).Matches(Entry{Kind: CallForwarded, User: "alice", Peer: "bob", From: "carol"}) {
		t.Error("who has calls forwarded is not told")
	}
	if !(Query{User: "carol"}).Matches(Entry{Kind: CallMoved, User: "alice", Peer: "bob", Data: map[string]string{Into: "carol"}}) {
		t.Error("who was given a call is not told")
	}
	if (Query{User: "desk"}).Matches(Entry{Kind: CallMoved, User: "alice", From: "desk"}) {
		t.Error("a device is taken for a user")
	}
}
