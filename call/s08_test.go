package call_test

import (
	"testing"
	"time"

	"baton/config"
	"baton/test/phone"
)

// S8: a phone that answers our requests with a challenge, for our realm or another, is given no password: who calls it is
// told that it is not available, a call that is up goes on, and it can be hung up.
func TestS08PhonesGetNoPassword(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Call.HoldPing, c.Call.Vanished = time.Second, time.Second })
	r.user("alice", "101")
	r.user("bob", "102")
	alice, bob := r.phone("alice", 1), r.phone("bob", 1)
	for _, realm := range []string{r.store.Realm(), "trunk.example.net"} {
		for _, code := range []int{401, 407} {
			ask := phone.Behaviour{Answer: true, Ask: code, Realm: realm}
			bob.Behave(ask)
			r.refused(mustDial(t, alice, "102"), 480)
			out, in := r.connect(alice, bob)
			bob.Behave(ask)
			must(t, in.Hold(phone.HoldSendonly))
			r.eventually("bob's phone on hold is asked whether it is there", 5*time.Second, func() bool {
				return len(methods(bob.Received(in.Times().Answered), "OPTIONS")) > 0
			})
			must(t, in.Resume())
			if !out.Hears(in, 3*time.Second) {
				t.Errorf("challenged with %d by %s: the call is over", code, realm)
			}
			must(t, out.Hangup())
			r.eventually("BYE came", 3*time.Second, func() bool { return len(methods(bob.Received(in.Times().Answered), "BYE")) > 0 })
			r.nothingLeft()
			bob.Behave(phone.AutoAnswer)
			_ = in.Hangup()
		}
	}
	for _, m := range bob.Received(time.Time{}) {
		if m.Get("Authorization")+m.Get("Proxy-Authorization") != "" {
			t.Errorf("%s came with a password", m.Line())
		}
	}
}
