package call_test

import (
	"net/netip"
	"runtime"
	"testing"
	"time"

	"baton/config"
	"baton/test/phone"
	"baton/test/wire"
)

// hour is an hour of a call whose intervals are up to 900 times shorter than usual: a look every 10 ms, a phone on hold asked every
// 100 ms. Sockets know no simulated time, so the whole node runs on a faster clock instead.
const hour = 4 * time.Second

func hurried(c *config.Config) {
	c.Call.Vanished, c.Call.HoldPing = 30*time.Millisecond, 100*time.Millisecond
}

// behindNAT registers a phone behind a path of its own.
func (r *rig) behindNAT(user string, n int) (*phone.Phone, *wire.Path) {
	r.t.Helper()
	return r.behindNATAt(r.server.Addr(), user, n)
}

// behindNATAt is behindNAT with the phone and its path at an address of their own.
func (r *rig) behindNATAt(at netip.Addr, user string, n int) (*phone.Phone, *wire.Path) {
	r.t.Helper()
	path, err := wire.New(wire.Config{Phone: at, UDP: r.server, TCP: r.tcp})
	must(r.t, err)
	r.t.Cleanup(path.Close)
	return r.phone(user, n, func(c *phone.Config) { c.Server, c.Domain, c.Addr = path.Server(), r.server.Addr().String(), at }), path
}

// asked counts the requests in a call's dialog that a phone was sent since.
func asked(c *phone.Call, method string, since time.Time) int {
	n := 0
	for _, m := range c.Phone().Received(since) {
		if m.Method == method && m.Get("Call-ID") == c.ID() {
			n++
		}
	}
	return n
}

// TestLongCall lives through four such hours: talk, hold, silence and talk. Before the third both phones register
// from other ports of their NATs; the store, the goroutines and the phones must not be troubled more than is documented.
func TestLongCall(t *testing.T) {
	if testing.Short() {
		t.Skip("-short")
	}
	r := newRig(t, hurried)
	r.user("alice", "101")
	r.user("bob", "102")
	alice, aliceNAT := r.behindNAT("alice", 1)
	bob, bobNAT := r.behindNAT("bob", 1)
	out, in := r.connect(alice, bob)
	time.Sleep(hour / 6) // transactions of the set-up
	begin, goroutines := time.Now(), runtime.NumGoroutine()-aliceNAT.Sockets()-bobNAT.Sockets()
	r.faults.mu.Lock()
	puts := r.faults.puts
	r.faults.mu.Unlock()
	again := func() {
		aliceNAT.Rebind()
		bobNAT.Rebind()
		_, err := alice.Register(10 * time.Minute)
		must(t, err)
		_, err = bob.Register(10 * time.Minute)
		must(t, err)
	}

	time.Sleep(hour)
	must(t, out.Hold(phone.HoldSendonly))
	held := time.Now()
	time.Sleep(hour)
	if n, most := asked(out, "OPTIONS", held), int(hour/(100*time.Millisecond)); n < most/4 || n > most+1 {
		t.Errorf("the phone on hold was asked %d times in an hour, want at most %d", n, most)
	}

	in.Media().Mute(true)
	again()
	silent := time.Now()
	for _, c := range []*phone.Call{out, in} { // nobody answers at their old ports: they are looked for elsewhere
		r.eventually(c.Phone().Config().User+"'s phone is found at its new port", 20*time.Second, func() bool {
			return asked(c, "INVITE", silent) > 0 && asked(c, "OPTIONS", silent) > 5
		})
	}
	must(t, out.Resume())
	in.Media().Mute(false)
	hearEachOther(t, out, in)

	time.Sleep(hour)
	r.longLimits(begin, puts, goroutines+aliceNAT.Sockets()+bobNAT.Sockets())
	must(t, in.Hangup())
	must(t, out.AwaitEnd(10*time.Second))
	r.nothingLeft()
}

func hearEachOther(t *testing.T, a, b *phone.Call) {
	t.Helper()
	if !a.Hears(b, 3*time.Second) || !b.Hears(a, 3*time.Second) {
		t.Fatal("the phones do not hear each other")
	}
}

// longLimits compares the node with what it was when the call began.
func (r *rig) longLimits(begin time.Time, puts, goroutines int) {
	r.t.Helper()
	lasted := time.Since(begin)
	r.faults.mu.Lock()
	n := r.faults.puts - puts
	r.faults.mu.Unlock()
	now := runtime.NumGoroutine()
	r.t.Logf("%v, %d looks: %d writes, %d goroutines (%d at first)", lasted.Round(time.Second), lasted/(10*time.Millisecond), n, now, goroutines)
	if most := int(lasted/time.Second) + 12; n > most {
		r.t.Errorf("the record was written %d times in %v: once a second is enough, and once for each event", n, lasted)
	}
	if now > goroutines+12 { // transactions under way
		r.t.Errorf("%d goroutines, %d at first", now, goroutines)
	}
}

// TestByeFindsThePhone ends a call whose phone's NAT has changed ports meanwhile: the phone must be told all the same.
func TestByeFindsThePhone(t *testing.T) {
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	alice, nat := r.behindNAT("alice", 1)
	out, in := r.connect(alice, r.phone("bob", 1))
	out.Media().Mute(true)
	nat.Rebind()
	_, err := alice.Register(10 * time.Minute)
	must(t, err)
	must(t, in.Hangup())
	must(t, out.AwaitEnd(15*time.Second))
	r.nothingLeft()
}

// TestPullIsNotTakenBeforeItsACK has a device pull and stay silent without acknowledging the 200, as one that the 200 has
// not reached yet: the old device keeps the call.
func TestPullIsNotTakenBeforeItsACK(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("alice", 2)
	out, in := r.connect(alice, bob)
	pull, err := desk.Dial("101", phone.DialOptions{NoACK: true})
	must(t, err)
	pull.Media().Mute(true)
	must(t, pull.Await(3*time.Second))
	pull.Media().Mute(true)
	since := time.Now()
	for time.Since(since) < 3*time.Second {
		if out.State() != phone.Up || !in.Hears(out, time.Second) {
			t.Fatalf("after %v the old device has lost the call to one that may not have our 200 yet", time.Since(since))
		}
	}
	if n := asked(pull, "OPTIONS", since); n > 0 {
		t.Errorf("it was asked %d times by OPTIONS in a dialog that it may not know", n)
	}
	must(t, in.Hangup())
	must(t, out.AwaitEnd(3*time.Second))
	pull.Hangup()
	r.nothingLeft()
}
