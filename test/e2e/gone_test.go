package e2e

import (
	"fmt"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// noticed is how soon a device over a connection must be found to have vanished without a word, and busy what a busy machine
// may add.
const (
	noticed = 30 * time.Second
	busy    = 5 * time.Second
)

// TestConnectionHalfOpen cuts the way to phones over TCP and TLS, and no packet says so: one is idle, two have just been sent
// an INVITE, one is in a call. All are found out within 30 s, and the users' other phones ring all the while.
func TestConnectionHalfOpen(t *testing.T) {
	t.Parallel()
	need(t, "iptables", "iptables")
	r := node.NewRouter(t, between, outside)
	r.Known(outside)
	w := newWorld(t, node.Options{Users: map[string]string{"alice": "101", "bob": "102", "carol": "103", "dave": "104"}})
	bob, dave := w.phone("bob", "far"), w.phone("dave", "far")
	idle := w.phone("bob", "soft", over("tcp"), beyond(r, outside, 5, r.Node))
	secure := w.phone("carol", "soft", over("tls"), beyond(r, outside, 2, r.Node))
	rung := w.phone("alice", "soft", over("tcp"), beyond(r, outside, 3, r.Node))
	talks := w.phone("alice", "talks", over("tcp"), beyond(r, outside, 4, r.Node))
	desks := []*phone.Phone{w.phone("alice", "desk"), w.phone("carol", "desk")}
	_, in := w.connect(talks, "dave", dave)

	r.Cut()
	cut := time.Now()
	for _, user := range []string{"alice", "carol"} {
		w.rings(bob, user, desks)
	}
	gone := map[*phone.Phone]time.Duration{}
	w.Eventually(noticed+busy, "the phones to be away", func() error {
		for _, p := range []*phone.Phone{idle, secure, rung, talks} {
			if d := w.deviceOf(p); gone[p] == 0 && !d.Here {
				gone[p] = time.Since(cut)
				t.Logf("%s: away after %s, %q", p.Config().UserAgent, gone[p].Round(time.Millisecond), d.Reason)
			}
		}
		if len(gone) < 4 {
			return fmt.Errorf("%d of 4 are away", len(gone))
		}
		return nil
	})
	for p, after := range gone {
		if after > noticed+busy/5 {
			t.Errorf("%s was found out after %s, limit %s", p.Config().UserAgent, after, noticed)
		}
	}
	for _, user := range []string{"alice", "carol"} {
		w.rings(bob, user, desks)
	}
	w.seatLost("alice")
	w.must(in.Hangup())
	talks.Vanish() // its BYE would not arrive either
}

// rings calls a user, has one of the phones ring, and cancels.
func (w *world) rings(from *phone.Phone, user string, phones []*phone.Phone) {
	w.t.Helper()
	call := w.dial(from, user)
	for _, p := range phones {
		if p.Config().User == user {
			in := w.ringing(p)
			w.must(call.Cancel())
			w.ended(in, call)
		}
	}
}
