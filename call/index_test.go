package call

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"baton/config"
	"baton/sip"
)

// TestDialogIndex: dialogs that share a Call-ID are told apart by their tags, and what could be several is none.
func TestDialogIndex(t *testing.T) {
	b := New(Options{Config: config.Default().Call})
	one, two, other := &Leg{}, &Leg{}, &Leg{}
	put := func(l *Leg, user, ours, theirs string, kind dialogKind) sip.DialogID {
		id := sip.DialogID{CallID: "cid", LocalTag: ours, RemoteTag: theirs}
		b.dialogs.put(dialogOwner{id: id, kind: kind, leg: l, user: user})
		return id
	}
	first := put(one, "alice", "a", "b", dialogConfirmed)
	put(one, "alice", "a", "b2", dialogRinging) // a fork of the same leg
	second := put(two, "alice", "b", "a", dialogConfirmed)
	put(other, "eve", "e", "f", dialogConfirmed)
	find := func(v string) (*Leg, int) {
		r, err := sip.ParseReplaces(v)
		if err != nil {
			t.Fatal(err)
		}
		o, err := b.replaced(r, "alice")
		var refused *Refusal
		if errors.As(err, &refused) {
			return nil, refused.Code
		}
		return o.leg, 0
	}
	check := func(v string, leg *Leg, code int) {
		t.Helper()
		if l, c := find(v); l != leg || c != code {
			t.Errorf("%s: %p, %d", v, l, c)
		}
	}
	check("cid;to-tag=a;from-tag=b", one, 0)
	check("cid;to-tag=b;from-tag=a", two, 0) // to the letter, though it is the first one's other way round
	check("cid;to-tag=b2;from-tag=a", one, 0)
	check("cid;from-tag=b2", one, 0)
	check("cid", nil, 481) // several
	check("cid;to-tag=e;from-tag=f", nil, 481)
	b.dialogs.drop(second, nil)
	check("cid;to-tag=b;from-tag=a", one, 0)
	check("cid", one, 0)
	b.dialogs.drop(first, nil)
	check("cid;to-tag=a;from-tag=b", nil, 603)
	for i := range b.dialogs.ended {
		b.dialogs.ended[i].at = time.Now().Add(-endedFor - time.Second)
	}
	check("cid;to-tag=a;from-tag=b", nil, 481)
	if n := b.dialogs.size(); n != 2 {
		t.Errorf("%d dialogs", n)
	}
	for i := range 2 * maxEnded {
		id := put(other, "eve", fmt.Sprint(i), "x", dialogConfirmed)
		b.dialogs.drop(id, nil)
	}
	if n := len(b.dialogs.ended); n > maxEnded {
		t.Errorf("%d ended dialogs are remembered", n)
	}
	if b.dialogs.drop(sip.DialogID{CallID: "cid", LocalTag: "x"}, nil); b.dialogs.size() != 2 {
		t.Error("a dialog that is not there was dropped")
	}
}
