package call_test

import (
	"strings"
	"testing"
	"time"

	"baton/config"
	"baton/registrar"
	"baton/test/phone"
)

// S10: a user has as many calls as call.per_user says, whoever carries them on; one more gets 403 and is told why. Being
// called and moving a call are no new calls of his.
func TestS10CallsPerUser(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Call.PerUser, c.Call.Announce = 2, false })
	for i, name := range []string{"alice", "bob", "carol"} {
		r.user(name, []string{"101", "102", "103"}[i])
	}
	alice, bob, carol := r.phone("alice", 1), r.phone("bob", 1), r.phone("carol", 1)
	desk := r.phone("alice", 2)
	first, _ := r.connect(alice, bob)
	second, _ := r.connect(alice, carol)
	res := r.refused(mustDial(t, alice, "102"), 403)
	if w := res.Get("Warning"); !strings.Contains(w, "alice has begun 2 calls") {
		t.Errorf("Warning: %s", w)
	}
	r.refused(mustDial(t, desk, "102"), 403) // from another device of hers
	desk.Behave(phone.AutoAnswer)
	ref, err := second.Refer("101*2")
	must(t, err)
	if code, err := ref.Wait(5 * time.Second); err != nil || code != 200 {
		t.Errorf("a move at the limit: %d %v", code, err)
	}
	ref, err = first.Refer("103") // bob's call goes on with carol; it is alice's all the same
	must(t, err)
	if code, err := ref.Wait(5 * time.Second); err != nil || code != 200 {
		t.Errorf("a transfer at the limit: %d %v", code, err)
	}
	must(t, first.AwaitEnd(3*time.Second))
	r.refused(mustDial(t, alice, "102"), 403)
	desk.Behave(phone.Behaviour{Reject: 486})
	in, _ := r.connect(bob, alice) // she is called
	must(t, in.Hangup())
	for _, c := range bob.Calls() {
		must(t, c.Hangup())
	}
	r.eventually("one of alice's calls is over", 3*time.Second, func() bool { return len(r.b.Calls("alice")) == 1 && len(r.b.Calls("")) == 1 })
	again, _ := r.connect(alice, bob)
	must(t, again.Hangup())
	for _, p := range []*phone.Phone{alice, desk, bob, carol} {
		for _, c := range p.Calls() {
			_ = c.Hangup()
		}
	}
	r.nothingLeft()
}

func mustDial(t *testing.T, p *phone.Phone, to string, o ...phone.DialOptions) *phone.Call {
	t.Helper()
	c, err := p.Dial(to, o...)
	must(t, err)
	return c
}

// away are places that no call may go to: other hosts, numbers that nobody has, and codes.
var away = []string{
	"sip:102@evil.example", "sip:+19005551234@evil.example:5060", "sip:+19005551234@192.0.2.9", "sips:102@evil.example",
	"tel:+19005551234", "sip:00493012345@127.0.0.1", "sip:nobody@127.0.0.1", "sip:*40@127.0.0.1", "sip:*402@127.0.0.1",
	"sip:*21*102%23@127.0.0.1", "sip:*22@127.0.0.1", "sip:102*9@127.0.0.1", "sip:102%40evil.example@127.0.0.1",
	"sip:102@127.0.0.1.evil.example", "sip:102;maddr=192.0.2.9@evil.example",
}

// S10, S11: nothing leaves the domain, whichever way it is asked for: dialled, transferred to, redirected to by a phone, or
// set as forwarding. The call that it is asked of goes on.
func TestS10NothingLeavesTheDomain(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	r.user("carol", "103")
	carol := r.phone("carol", 1)
	out, in := r.connect(alice, bob)
	for _, to := range away {
		if ref, err := out.Refer(to); err == nil {
			if code, err := ref.Wait(3 * time.Second); err != nil || code < 400 {
				t.Errorf("REFER to %s: %d, %v", to, code, err)
			}
		}
	}
	carol.Behave(phone.Behaviour{})
	for _, to := range away {
		c := mustDial(t, alice, "103")
		at, err := carol.Ringing(3 * time.Second)
		must(t, err)
		must(t, at.Redirect(to))
		must(t, c.AwaitEnd(8*time.Second))
		if res := c.Final(); res == nil || res.Code < 400 {
			t.Errorf("302 to %s: %v", to, res)
		}
	}
	for _, to := range away {
		if _, err := r.reg.Configure("carol", func(s *registrar.Settings) { s.Forward.Always = to }); err == nil {
			t.Errorf("calls can be forwarded to %s", to)
		}
	}
	if !in.Hears(out, time.Second) || !out.Hears(in, time.Second) {
		t.Error("the call is not as it was")
	}
	if n := len(methods(bob.Received(time.Time{}), "INVITE")); n != 1 {
		t.Errorf("bob's phone was called %d times", n)
	}
	must(t, out.Hangup())
	r.nothingLeft()
}

// S11: a Route to another host is not followed, nor is a Request-URI of another host: that is 404 when its sender has
// logged in, and 401 before.
func TestS11NoRelay(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Call.Announce = false })
	r.user("alice", "101")
	r.user("bob", "102")
	alice, bob := r.phone("alice", 1), r.phone("bob", 1)
	elsewhere := r.phone("bob", 2)
	victim := strings.TrimPrefix(elsewhere.Contact(), "sip:bob@")
	must(t, second(elsewhere.Unregister()))
	since := time.Now()
	bob.Behave(phone.AutoAnswer)
	for _, route := range []string{"<sip:" + victim + ";lr>", "<sip:" + victim + ">", "<sip:" + r.server.String() + ";lr>, <sip:" + victim + ";lr>"} {
		c := mustDial(t, alice, "102", phone.DialOptions{Headers: []phone.Header{{Name: "Route", Value: route}}})
		must(t, c.Await(3*time.Second)) // to bob, who is ours
		must(t, c.Hangup())
	}
	for _, uri := range []string{"sip:bob@" + victim, "sip:bob@evil.example", "sip:" + victim} {
		want := 404
		if strings.HasSuffix(uri, "@"+victim) || uri == "sip:"+victim {
			uri = strings.Replace(uri, "127.0.0.1", "192.0.2.9", 1) // 127.0.0.1 is ours
		}
		for _, method := range []string{"INVITE", "OPTIONS"} {
			res, err := alice.Send(method, uri, nil, phone.Header{Name: "Contact", Value: "<" + alice.Contact() + ">"},
				phone.Header{Name: "Route", Value: "<sip:" + victim + ";lr>"})
			if err != nil || res.Code != want {
				t.Errorf("%s %s: %v %v, want %d", method, uri, res, err, want)
			}
		}
	}
	if got := elsewhere.Received(since); len(got) != 0 {
		t.Errorf("an address that a Route named was sent %s", got[0].Line())
	}
	r.nothingLeft()
}

func second[T any](_ T, err error) error { return err }
