package call_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"baton/config"
	"baton/journal"
	"baton/registrar"
	"baton/test/phone"
)

// TestStarCodes dials each code as phones send it, one after the other.
func TestStarCodes(t *testing.T) {
	t.Parallel()
	r := newOffice(t, nil, "alice", "bob", "carol")
	alice := r.phone("alice", 1)
	r.phone("bob", 1)
	type settings = registrar.Settings
	type forward = registrar.Forwarding
	for _, step := range []struct {
		dial string
		want settings
	}{
		{"*21*102#", settings{Forward: forward{Always: "102"}}},
		{"#21#", settings{}},
		{"*21103", settings{Forward: forward{Always: "103"}}},
		{"%2321%23", settings{}},
		{"%2A21%2A102%23", settings{Forward: forward{Always: "102"}}},
		{"#21", settings{}},
		{"*67*102", settings{Forward: forward{Busy: "102"}}},
		{"*61*103**20#", settings{Forward: forward{Busy: "102", NoAnswer: "103", NoAnswerAfter: 20 * time.Second}}},
		{"*62*102*1#", settings{Forward: forward{Busy: "102", NoAnswer: "103", NoAnswerAfter: 20 * time.Second, Away: "102*1"}}},
		{"*61*103#", settings{Forward: forward{Busy: "102", NoAnswer: "103", Away: "102*1"}}},
		{"#62#", settings{Forward: forward{Busy: "102", NoAnswer: "103"}}},
		{"*26", settings{DoNotDisturb: true, Forward: forward{Busy: "102", NoAnswer: "103"}}},
		{"*22", settings{DoNotDisturb: true}},
		{"#26#", settings{}},
		{"*26#", settings{DoNotDisturb: true}},
		{"*27", settings{}},
	} {
		c, err := alice.Dial("sip:" + step.dial + "@127.0.0.1")
		must(t, err)
		must(t, c.Await(3*time.Second))
		if u, _ := r.reg.User("alice"); u.Settings != step.want {
			t.Fatalf("after %s: %+v, want %+v", step.dial, u.Settings, step.want)
		}
		if !c.HearsTone(2 * time.Second) {
			t.Errorf("%s: no tone", step.dial)
		}
		must(t, c.AwaitEnd(4*time.Second))
	}
	if u, _ := r.reg.User("bob"); u.Settings != (settings{}) {
		t.Errorf("bob has got %+v", u.Settings)
	}
	r.nothingLeft()
	if n := len(r.entries(journal.CallStarted, journal.CallMissed)); n > 0 {
		t.Errorf("%d entries of calls that were none", n)
	}
}

// TestWrongStarCodes changes nothing and says so by tone and status.
func TestWrongStarCodes(t *testing.T) {
	t.Parallel()
	r := newOffice(t, func(c *config.Config) { c.Call.Announce = false }, "alice", "bob")
	alice := r.phone("alice", 1)
	for dial, want := range map[string]int{
		"*21":          484, // no number
		"*21*#":        484,
		"*61*102**#":   484,
		"*61*102**x#":  484,
		"*21*102**20#": 484, // always has no time
		"*21*999#":     404,
		"*21*101#":     404, // oneself
		"*67*102*7#":   404, // no such device
		"*61*102**0#":  200, // as without
		"*2":           404,
		"##":           404,
		"*26102":       404,
	} {
		c, err := alice.Dial("sip:" + dial + "@127.0.0.1")
		must(t, err)
		if want == 200 {
			must(t, c.Await(3*time.Second))
			must(t, c.AwaitEnd(3*time.Second))
			continue
		}
		r.refused(c, want)
	}
	want := registrar.Settings{Forward: registrar.Forwarding{NoAnswer: "102"}}
	if u, _ := r.reg.User("alice"); u.Settings != want {
		t.Errorf("alice has got %+v", u.Settings)
	}
	r.nothingLeft()
}

// TestStarCodeWithoutOffer is answered with an offer of ours.
func TestStarCodeWithoutOffer(t *testing.T) {
	t.Parallel()
	r := newOffice(t, nil, "alice")
	alice := r.phone("alice", 1)
	c, err := alice.Dial("*26", phone.DialOptions{NoSDP: true})
	must(t, err)
	must(t, c.Await(3*time.Second))
	must(t, c.AwaitEnd(4*time.Second))
	if u, _ := r.reg.User("alice"); !u.Settings.DoNotDisturb {
		t.Error("it was not set")
	}
	r.nothingLeft()
}

// TestStarCodesCanBeChanged dials the codes of a configuration, and the usual ones, which mean nothing then.
func TestStarCodesCanBeChanged(t *testing.T) {
	t.Parallel()
	r := newOffice(t, func(c *config.Config) { c.Codes.DoNotDisturb, c.Call.Announce = "*78", false }, "alice")
	alice := r.phone("alice", 1)
	c, err := alice.Dial("*26")
	must(t, err)
	r.refused(c, 404)
	for dial, want := range map[string]bool{"*78": true, "#78#": false} {
		r.set("alice", func(s *registrar.Settings) { s.DoNotDisturb = !want })
		c, err := alice.Dial(dial)
		must(t, err)
		must(t, c.Await(3*time.Second))
		if u, _ := r.reg.User("alice"); u.Settings.DoNotDisturb != want {
			t.Errorf("%s: %+v", dial, u.Settings)
		}
		must(t, c.AwaitEnd(4*time.Second))
	}
	r.nothingLeft()
}

// TestDoNotDisturb has no device ring and the caller hear busy; what goes on when busy goes on.
func TestDoNotDisturb(t *testing.T) {
	r := newOffice(t, nil, "alice", "bob", "carol")
	alice, bob, carol := r.phone("alice", 1), r.phone("bob", 1), r.phone("carol", 1)
	r.set("bob", func(s *registrar.Settings) { s.DoNotDisturb = true })
	for _, to := range []string{"102", "102*1"} {
		out, err := alice.Dial(to)
		must(t, err)
		r.refused(out, 486)
	}
	r.missed("bob", "bob")
	r.set("bob", func(s *registrar.Settings) { s.Forward.Busy = "103" })
	carol.Behave(phone.AutoAnswer)
	out, err := alice.Dial("102")
	must(t, err)
	must(t, out.Await(3*time.Second))
	in, err := carol.Ringing(time.Second)
	must(t, err)
	toldWho(t, in.Invite(), "101", "102", "103", "do-not-disturb", "486")
	must(t, out.Hangup())
	r.silent(bob)
	r.nothingLeft()
}

// TestCallWaitingAndBusyOnBusy calls bob while he talks: his devices ring, unless he has chosen to be busy then.
func TestCallWaitingAndBusyOnBusy(t *testing.T) {
	r := newOffice(t, nil, "alice", "bob", "carol")
	alice, bob, carol := r.phone("alice", 1), r.phone("bob", 1), r.phone("carol", 1)
	first, _ := r.connect(alice, bob)
	bob.Behave(phone.Behaviour{})
	second, err := carol.Dial("102")
	must(t, err)
	waiting, err := bob.Ringing(3 * time.Second)
	must(t, err)
	must(t, waiting.Answer())
	must(t, second.Await(3*time.Second))
	must(t, second.Hangup())
	must(t, waiting.AwaitEnd(3*time.Second))
	r.set("bob", func(s *registrar.Settings) { s.BusyOnBusy = true })
	called := len(methods(bob.Received(time.Time{}), "INVITE"))
	third, err := carol.Dial("102")
	must(t, err)
	r.refused(third, 486)
	if n := len(methods(bob.Received(time.Time{}), "INVITE")); n != called {
		t.Error("bob's phone was called while he is busy")
	}
	r.missed("bob")
	must(t, first.Hangup())
	r.eventually("bob is free", 3*time.Second, func() bool { return len(r.b.Calls("bob")) == 0 })
	out, _ := r.connect(carol, bob)
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestBusyWhileDialling has bob be busy as soon as he dials, and not while he is only being called.
func TestBusyWhileDialling(t *testing.T) {
	r := newOffice(t, nil, "alice", "bob", "carol")
	alice, bob, carol := r.phone("alice", 1), r.phone("bob", 1), r.phone("carol", 1)
	r.set("bob", func(s *registrar.Settings) { s.BusyOnBusy = true })
	rings, err := alice.Dial("102")
	must(t, err)
	_, err = bob.Ringing(3 * time.Second)
	must(t, err)
	also, err := carol.Dial("102")
	must(t, err)
	_, err = bob.Ringing(3 * time.Second)
	must(t, err)
	must(t, also.Cancel())
	must(t, rings.Cancel())
	r.missed("bob", "bob")
	dials, err := bob.Dial("101")
	must(t, err)
	_, err = alice.Ringing(3 * time.Second)
	must(t, err)
	busy, err := carol.Dial("102")
	must(t, err)
	r.refused(busy, 486)
	must(t, dials.Cancel())
	r.nothingLeft()
}

// TestRingTime lets a user's devices ring as long as he has chosen, in calls and in moves.
func TestRingTime(t *testing.T) {
	t.Parallel()
	r := newOffice(t, nil, "alice", "bob")
	alice, bob := r.phone("alice", 1), r.phone("bob", 1)
	r.set("bob", func(s *registrar.Settings) { s.Ring = time.Second })
	out, err := alice.Dial("102")
	must(t, err)
	in, err := bob.Ringing(3 * time.Second)
	must(t, err)
	began := time.Now()
	r.refused(out, 480)
	if took := time.Since(began); took < 800*time.Millisecond || took > 4*time.Second {
		t.Errorf("it rang for %s, want 1s", took)
	}
	must(t, in.AwaitEnd(3*time.Second))
	r.missed("bob")
	r.nothingLeft()
}

// TestMissed tells which calls are: those that nobody of the user called has taken.
func TestMissed(t *testing.T) {
	t.Parallel()
	r := newOffice(t, func(c *config.Config) { c.Call.Ring, c.Call.Announce = time.Second, false }, "alice", "bob", "carol")
	alice, bob, desk := r.phone("alice", 1), r.phone("bob", 1), r.phone("bob", 2)
	_ = desk
	out, _ := r.connect(alice, bob) // answered elsewhere than on the desk
	must(t, out.Hangup())
	r.eventually("the call is over", 3*time.Second, func() bool { return len(r.entries(journal.CallEnded)) == 1 })
	r.missed()
	bob.Behave(phone.Behaviour{})
	for i, step := range []struct {
		to   string
		do   func(*phone.Call)
		user string
		why  string
	}{
		{"102", func(c *phone.Call) { must(t, c.Cancel()) }, "bob", "cancelled by alice"},
		{"102", func(*phone.Call) {}, "bob", "no answer"},
		{"103", func(*phone.Call) {}, "carol", "no device of carol is here"},
	} {
		c, err := alice.Dial(step.to)
		must(t, err)
		if step.user == "bob" {
			_, err = bob.Ringing(3 * time.Second)
			must(t, err)
		}
		step.do(c)
		must(t, c.AwaitEnd(5*time.Second))
		r.eventually("it is in the log", 3*time.Second, func() bool { return len(r.entries(journal.CallMissed)) == i+1 })
		if e := r.entries(journal.CallMissed)[i]; e.Peer != step.user || e.User != "alice" || e.Text != step.why || e.Call == "" {
			t.Errorf("%s: the log says %+v", step.why, e)
		}
	}
	r.nothingLeft()
}

// TestToneBeforeRefusal has unknown numbers and absent users be heard, where the phone can hear and it is not switched off.
func TestToneBeforeRefusal(t *testing.T) {
	t.Parallel()
	tests := []struct {
		dial     string
		announce bool
		noSDP    bool
		want     int
		tone     bool
	}{
		{"999", true, false, 404, true},
		{"102", true, false, 480, true},
		{"999", true, true, 404, false},
		{"102", true, true, 480, false},
		{"999", false, false, 404, false},
		{"102", false, false, 480, false},
		{"*40", false, false, 404, false},
	}
	for _, tt := range tests {
		t.Run(tt.dial, func(t *testing.T) {
			t.Parallel()
			r := newOffice(t, func(c *config.Config) { c.Call.Announce = tt.announce }, "alice", "bob")
			alice := r.phone("alice", 1)
			began := time.Now()
			c, err := alice.Dial(tt.dial, phone.DialOptions{NoSDP: tt.noSDP})
			must(t, err)
			if tt.tone && !c.HearsTone(3*time.Second) {
				t.Error("no tone")
			}
			res := r.refused(c, tt.want)
			took := time.Since(began)
			if early := containsCode(c.Progress(), 183); early != tt.tone {
				t.Errorf("183: %v", early)
			}
			if tt.tone != (took > 2500*time.Millisecond) {
				t.Errorf("refused after %s", took)
			}
			if !strings.Contains(res.Get("Warning"), "399 baton") {
				t.Errorf("Warning: %q", res.Get("Warning"))
			}
			r.nothingLeft()
		})
	}
}

func containsCode(codes []int, want int) bool {
	for _, c := range codes {
		if c == want {
			return true
		}
	}
	return false
}

// TestToneIsGivenUp hangs up while the tone is heard.
func TestToneIsGivenUp(t *testing.T) {
	r := newOffice(t, nil, "alice", "bob")
	alice := r.phone("alice", 1)
	for _, to := range []string{"999", "102"} {
		c, err := alice.Dial(to)
		must(t, err)
		if !c.HearsTone(3 * time.Second) {
			t.Error("no tone")
		}
		must(t, c.Cancel())
		r.refused(c, 487)
	}
	r.nothingLeft()
	r.missed("bob")
}

// TestRedirect follows a 302 to a device of the same user and to nobody else.
func TestRedirect(t *testing.T) {
	tests := map[string]struct {
		contact func(r *rig, second *phone.Phone) string
		follow  bool
	}{
		"own device by contact":      {func(_ *rig, p *phone.Phone) string { return p.Contact() }, true},
		"own device by number":       {func(*rig, *phone.Phone) string { return "sip:102*2@127.0.0.1" }, true},
		"own device by name":         {func(*rig, *phone.Phone) string { return "sip:bob*phoneb@127.0.0.1" }, true},
		"another user":               {func(*rig, *phone.Phone) string { return "sip:103@127.0.0.1" }, false},
		"another user's device":      {func(*rig, *phone.Phone) string { return "sip:103*1@127.0.0.1" }, false},
		"another house":              {func(*rig, *phone.Phone) string { return "sip:102*2@elsewhere.example" }, false},
		"a telephone number":         {func(*rig, *phone.Phone) string { return "tel:+49900123456" }, false},
		"itself":                     {func(*rig, *phone.Phone) string { return "sip:102*1@127.0.0.1" }, false},
		"a device that is not known": {func(*rig, *phone.Phone) string { return "sip:102*7@127.0.0.1" }, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newOffice(t, nil, "alice", "bob", "carol")
			alice, first, second, carol := r.phone("alice", 1), r.phone("bob", 1), r.phone("bob", 2), r.phone("carol", 1)
			second.Behave(phone.AutoAnswer)
			carol.Behave(phone.AutoAnswer)
			out, err := alice.Dial("102*1")
			must(t, err)
			in, err := first.Ringing(3 * time.Second)
			must(t, err)
			must(t, in.Redirect(tt.contact(r, second)))
			if !tt.follow {
				r.refused(out, 480)
				r.silent(second)
			} else {
				must(t, out.Await(3*time.Second))
				got, err := second.Ringing(time.Second)
				must(t, err)
				if !out.Hears(got, 3*time.Second) {
					t.Error("the device is not heard")
				}
				must(t, out.Hangup())
			}
			r.silent(carol)
			r.nothingLeft()
		})
	}
}

// TestSettingThatIsNotStored tells the caller that it is not.
func TestSettingThatIsNotStored(t *testing.T) {
	t.Parallel()
	r := newOffice(t, func(c *config.Config) { c.Call.Announce = false }, "alice")
	alice := r.phone("alice", 1)
	must(t, errors.Join(r.store.Close()))
	c, err := alice.Dial("*26")
	must(t, err)
	r.refused(c, 500)
}

// TestWhoWaitsHearsTheEnd has a transfer and the recall be taken by nobody: the other side hears a tone before it is hung up.
func TestWhoWaitsHearsTheEnd(t *testing.T) {
	t.Parallel()
	for _, announce := range []bool{true, false} {
		r := newOffice(t, func(c *config.Config) { c.Call.Announce = announce }, "alice", "bob")
		r.set("alice", func(s *registrar.Settings) { s.Ring = time.Second })
		alice, desk, bob := r.phone("alice", 1), r.phone("alice", 2), r.phone("bob", 1)
		out, in := r.connect(alice, bob)
		_, err := out.Refer("*41")
		must(t, err)
		_, err = desk.Ringing(3 * time.Second)
		must(t, err)
		must(t, out.Hangup())
		back, err := alice.Ringing(4 * time.Second)
		must(t, err)
		must(t, back.AwaitEnd(4*time.Second))
		began := time.Now()
		if announce && !in.HearsTone(time.Second) {
			t.Error("no tone")
		}
		must(t, in.AwaitEnd(9*time.Second))
		if took := time.Since(began); announce != (took > 2500*time.Millisecond) {
			t.Errorf("announce %v: hung up after %s", announce, took)
		}
		r.nothingLeft()
	}
}
