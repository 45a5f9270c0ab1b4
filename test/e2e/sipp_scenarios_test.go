package e2e

import (
	"sync"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// families runs a test over IPv4 and over IPv6.
func families(t *testing.T, try func(t *testing.T, six bool)) {
	t.Run("IPv4", func(t *testing.T) { try(t, false) })
	t.Run("IPv6", func(t *testing.T) { try(t, true) })
}

// echoed checks that the phone hears its own frames, which sipp sends back: both directions are good.
func (w *world) echoed(c *phone.Call) {
	w.t.Helper()
	if !c.Hears(c, 5*time.Second) {
		w.t.Error("the phone does not hear what sipp sends back")
	}
}

// TestSippCalls has sipp call a phone in the ways that phones have.
func TestSippCalls(t *testing.T) {
	t.Parallel()
	families(t, func(t *testing.T, six bool) {
		w := newWorld(t)
		bob := w.phone("bob", "far")
		for _, c := range []struct {
			name    string
			file    string
			say     map[string]any
			bob     phone.Behaviour
			talking bool
		}{
			{"call", "uac.xml", map[string]any{"Offer": "sendrecv", "Talk": 1500}, phone.AutoAnswer, true},
			{"no offer", "uac.xml", map[string]any{"Offer": "", "Talk": 1500}, phone.AutoAnswer, true},
			{"early media", "uac_early.xml", map[string]any{"Talk": 1500}, phone.Behaviour{Early: true, Answer: true, After: time.Second}, true},
			{"hold, resume and ask for an offer", "uac_changes.xml", map[string]any{"Talk": 1500}, phone.AutoAnswer, true},
			{"cancel", "uac_cancel.xml", nil, phone.Behaviour{}, false},
			{"busy", "uac_refused.xml", map[string]any{"Code": 486}, phone.Behaviour{Reject: 486}, false},
			{"declined", "uac_refused.xml", map[string]any{"Code": 603}, phone.Behaviour{Reject: 603, After: 200 * time.Millisecond}, false},
		} {
			t.Run(c.name, func(t *testing.T) {
				w := &world{Node: w.Node, t: t}
				bob.Behave(c.bob)
				r := w.sipp(scenario{file: c.file, user: "alice", to: "bob", say: c.say, six: six}, w.sippPort())
				in := w.ringing(bob)
				if c.talking {
					w.echoed(in)
				}
				r.wait()
				w.ended(in)
			})
		}
	})
}

// TestSippIsCalled has a phone call sipp.
func TestSippIsCalled(t *testing.T) {
	t.Parallel()
	families(t, func(t *testing.T, six bool) {
		w := newWorld(t)
		bob := w.phone("bob", "far")
		port := w.sippPort()
		for _, c := range []struct {
			name   string
			file   string
			say    map[string]any
			end    string // by whom the call ends: "bob", "sipp", "cancel", or a status
			status int
			after  time.Duration
		}{
			{"hung up", "uas.xml", map[string]any{"Early": false, "Bye": false}, "bob", 200, 500 * time.Millisecond},
			{"hangs up", "uas.xml", map[string]any{"Early": false, "Bye": true, "Talk": 2000}, "sipp", 200, 0},
			{"early media", "uas.xml", map[string]any{"Early": true, "Bye": true, "Talk": 2000}, "sipp", 200, 0},
			{"hold, resume and ask for an offer", "uas_changes.xml", map[string]any{"Talk": 1500}, "bob", 200, 4 * time.Second},
			{"cancelled", "uas_cancelled.xml", nil, "cancel", 487, time.Second},
			{"busy", "uas_refuses.xml", map[string]any{"Line": "486 Busy Here"}, "status", 486, 0},
			{"declines", "uas_refuses.xml", map[string]any{"Line": "603 Decline"}, "status", 603, 0},
		} {
			t.Run(c.name, func(t *testing.T) {
				w := &world{Node: w.Node, t: t}
				w.sippPhone("alice", six, port)
				r := w.sipp(scenario{file: c.file, user: "alice", say: c.say, six: six}, port)
				out := w.dial(bob, "alice")
				if c.status == 200 {
					w.must(out.Await(10 * time.Second))
					w.echoed(out)
				}
				pause(c.after)
				if c.end == "bob" || c.end == "cancel" {
					w.must(out.Hangup())
				}
				r.wait()
				w.must(out.AwaitEnd(5 * time.Second))
				if res := out.Final(); res.Code != c.status {
					t.Errorf("bob's phone got %s", res.Line())
				}
			})
		}
	})
}

// TestSippReliable has provisional answers acknowledged (RFC 3262), and sessions changed by UPDATE (RFC 3311), by one who calls and
// by one who is called.
func TestSippReliable(t *testing.T) {
	t.Parallel()
	families(t, func(t *testing.T, six bool) {
		w := newWorld(t)
		bob := w.phone("bob", "far")
		bob.Behave(phone.Behaviour{Early: true, Answer: true, After: 1500 * time.Millisecond})
		for _, says := range []string{"Require: 100rel", "Supported: 100rel"} {
			t.Run("calls, "+says, func(t *testing.T) {
				w := &world{Node: w.Node, t: t}
				r := w.sipp(scenario{file: "uac_prack.xml", user: "alice", to: "bob", say: map[string]any{"Says": says, "Talk": 1500}, six: six}, w.sippPort())
				in := w.ringing(bob)
				w.must(in.Await(5 * time.Second))
				w.echoed(in)
				r.wait()
				w.ended(in)
			})
		}
		for _, says := range []string{"Require", "Supported"} {
			t.Run("is called, "+says, func(t *testing.T) {
				w := &world{Node: w.Node, t: t}
				port := w.sippPort()
				w.sippPhone("alice", six, port)
				r := w.sipp(scenario{file: "uas_prack.xml", user: "alice", say: map[string]any{"Talk": 1500}, six: six}, port)
				out := w.dial(bob, "alice", phone.DialOptions{Headers: []phone.Header{{Name: says, Value: "100rel"}}})
				w.must(out.Await(5 * time.Second))
				w.echoed(out)
				r.wait()
				w.ended(out)
			})
		}
	})
}

// TestSippSessionTimers has sessions refreshed by each side, and some that were too short (RFC 4028).
func TestSippSessionTimers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, node.Options{Config: "call:\n  session: 90s\n", Users: map[string]string{
		"alice": "101", "bob": "102", "carol": "103", "dave": "104", "erin": "105", "frank": "106",
	}})
	bob := w.phone("bob", "far")
	bob.Behave(phone.AutoAnswer)
	var all sync.WaitGroup // each refresh of the node's takes 45 s to come
	for _, c := range []struct {
		name, file string
		say        map[string]any
	}{
		{"too short", "uac_short_session.xml", map[string]any{"Talk": 500}},
		{"the caller refreshes", "uac_session.xml", map[string]any{"Refresher": "uac", "Talk": 500}},
		{"the node refreshes", "uac_session.xml", map[string]any{"Refresher": "uas", "Talk": 500}},
	} {
		atOnce(t, &all, c.name, func(t *testing.T) {
			w := &world{Node: w.Node, t: t}
			w.sipp(scenario{file: c.file, user: "alice", to: "bob", say: c.say}, w.sippPort()).wait()
		})
	}
	for user, c := range map[string]struct {
		name string
		say  map[string]any
	}{
		"carol": {"the one called refreshes", map[string]any{"Longer": false, "Refresher": "uas", "Interval": 90, "Talk": 500}},
		"dave":  {"the node refreshes the one called", map[string]any{"Longer": false, "Refresher": "uac", "Interval": 90, "Talk": 500}},
		"erin":  {"the one called wants longer ones", map[string]any{"Longer": true, "Refresher": "uas", "Interval": 100, "Talk": 500}},
	} {
		atOnce(t, &all, c.name, func(t *testing.T) {
			w := &world{Node: w.Node, t: t}
			port := w.sippPort()
			w.sippPhone(user, false, port)
			r := w.sipp(scenario{file: "uas_session.xml", user: user, say: c.say}, port)
			out := w.dial(bob, user)
			w.must(out.Await(5 * time.Second))
			r.wait()
			w.ended(out)
		})
	}
	all.Wait()
}

// TestSippLosesPackets drops one of ten datagrams on sipp's side, both ways: all calls come about by repeats.
func TestSippLosesPackets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.phone("bob", "far")
	bob.Behave(phone.AutoAnswer)
	w.sipp(scenario{
		file: "uac.xml", user: "alice", to: "bob", say: map[string]any{"Offer": "sendrecv", "Talk": 200}, calls: 30,
		args: []string{"-lost", "10", "-r", "10", "-l", "10"},
	}, w.sippPort()).wait()
}
