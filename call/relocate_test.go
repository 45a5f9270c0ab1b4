package call_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"baton/call"
	"baton/test/phone"
	"baton/test/wire"
)

// network is a way in which a device changes its network, and what it then tells first.
type network struct {
	name string
	from string // transport before
	to   phone.Relocation
}

// elsewhereIP is another address of this machine.
func elsewhereIP(n int) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, byte(2 + n%200)}) }

// networks are the changes that are promised; n makes addresses differ.
func networks(n int) []network {
	return []network{
		{"new port", "udp", phone.Relocation{}},
		{"new IP", "udp", phone.Relocation{Addr: elsewhereIP(n)}},
		{"new connection", "tcp", phone.Relocation{}},
		{"new connection, old one open", "tcp", phone.Relocation{Abrupt: true}},
		{"new connection from a new IP, old one open", "tcp", phone.Relocation{Addr: elsewhereIP(n), Abrupt: true}},
		{"new WebSocket", "wss", phone.Relocation{}},
		{"new WebSocket from a new IP, old one open", "wss", phone.Relocation{Addr: elsewhereIP(n), Abrupt: true}},
		{"UDP to TCP", "udp", phone.Relocation{Transport: "tcp"}},
		{"TCP to UDP", "tcp", phone.Relocation{Transport: "udp", Addr: elsewhereIP(n), Abrupt: true}},
	}
}

// announce is how a device that has changed its network is heard of: by REGISTER, by a re-INVITE, by both at once as many
// clients do, or by UPDATE.
var announce = map[string]func(*phone.Call) error{
	"REGISTER": func(c *phone.Call) error {
		_, err := c.Phone().Register(10 * time.Minute)
		return err
	},
	"re-INVITE": (*phone.Call).Resume,
	"UPDATE":    func(c *phone.Call) error { return c.Update([]phone.Codec{phone.PCMU, phone.DTMF}) },
	"REGISTER and re-INVITE": func(c *phone.Call) error {
		done := make(chan error, 1)
		go func() {
			_, err := c.Phone().Register(10 * time.Minute)
			done <- err
		}()
		err := c.Resume()
		if e := <-done; e != nil {
			return e
		}
		return err
	},
}

// again is how long a change of network may cost. A second is promised; under the race detector, with all tests at once, up to 0.43 s were seen.
var again = func() time.Duration {
	if raced {
		return 2500 * time.Millisecond
	}
	return time.Second
}()

// hearAgain waits until both hear each other, by the time promised since the first packet of the change, and says how long it took.
func hearAgain(t *testing.T, since time.Time, a, b *phone.Call) time.Duration {
	t.Helper()
	if !a.Hears(b, again) || !b.Hears(a, again-time.Since(since)) || time.Since(since) > again {
		t.Fatalf("%v after the first packet from there: %s hears %v, %s hears %v", time.Since(since),
			a.Phone().Config().User, a.Hears(b, time.Second), b.Phone().Config().User, b.Hears(a, time.Second))
	}
	return time.Since(since)
}

// undisturbed checks that a phone was sent one stream, with no longer pause than a change may cost (what its peer said into the old network is
// missing in it), and of SIP nothing but what the set-up needs.
func undisturbed(t *testing.T, c *phone.Call) {
	t.Helper()
	if rep := phone.Analyse(c.Media().Heard(), 8000); len(rep.SSRCs) != 1 || rep.Duplicates != 0 || rep.Gap > again {
		t.Errorf("%s was sent %v", c.Phone().Config().User, rep)
	}
	for _, m := range c.Phone().Received(c.Times().Answered) {
		if m.Method != "" && m.Method != "ACK" && m.Method != "BYE" && m.Method != "OPTIONS" {
			t.Errorf("%s was sent %s", c.Phone().Config().User, m.Line())
		}
	}
}

// TestNetworkChange has a device change its network in mid-call, twenty times in each way and with each kind of announcement:
// both hear each other within a second of its first packet from there, and the other side has one stream and hears nothing of it by SIP.
func TestNetworkChange(t *testing.T) {
	t.Parallel()
	changes := 20
	if testing.Short() {
		changes = 2
	}
	for _, n := range networks(0) {
		for how, tell := range announce {
			t.Run(n.name+", "+how, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, nil)
				r.user("alice", "101")
				r.user("bob", "102")
				alice, bob := r.phone("alice", 1, r.over(n.from)), r.phone("bob", 1)
				out, in := r.connect(alice, bob)
				longest := time.Duration(0)
				for i := range changes {
					to := n.to
					if to.Addr.IsValid() {
						to.Addr = elsewhereIP(i)
					}
					if i%2 == 1 && to.Transport != "" {
						to.Transport = n.from // and back
					}
					since := time.Now()
					must(t, alice.Relocate(to))
					must(t, tell(out))
					longest = max(longest, hearAgain(t, since, out, in))
				}
				t.Logf("%d changes, audio both ways after %v at most", changes, longest)
				undisturbed(t, in)
				must(t, in.Hangup())
				must(t, out.AwaitEnd(3*time.Second))
				r.nothingLeft()
			})
		}
	}
}

// TestNetworkChangeBehindNAT has the NAT of a device get other ports, and another address: the device registers anew and knows
// no more than that.
func TestNetworkChangeBehindNAT(t *testing.T) {
	t.Parallel()
	for what, changed := range map[string]func(*wire.Path, int){
		"new port": func(p *wire.Path, _ int) { p.Rebind() },
		"new IP":   func(p *wire.Path, i int) { p.RebindAt(elsewhereIP(i)) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			r.user("alice", "101")
			r.user("bob", "102")
			alice, path := r.behindNAT("alice", 1)
			out, in := r.connect(alice, r.phone("bob", 1))
			for i := range 20 {
				changed(path, i)
				since := time.Now()
				must(t, second(alice.Register(10*time.Minute)))
				hearAgain(t, since, out, in)
			}
			undisturbed(t, in)
			must(t, in.Hangup())
			must(t, out.AwaitEnd(3*time.Second))
			r.nothingLeft()
		})
	}
}

// TestNetworkChangeWithoutAnswer has a phone register from another address and refuse every re-INVITE, or sit behind a NAT whose address
// it does not know: its sound alone says where it is.
func TestNetworkChangeWithoutAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	alice := r.phone("alice", 1)
	out, in := r.connect(alice, r.phone("bob", 1))
	alice.Behave(phone.Behaviour{Refuse: 488})
	for i := range 5 {
		since := time.Now()
		must(t, alice.Relocate(phone.Relocation{Addr: elsewhereIP(i)}))
		must(t, second(alice.Register(10*time.Minute)))
		hearAgain(t, since, out, in)
		time.Sleep(300 * time.Millisecond) // our re-INVITE, which it refuses
	}
	undisturbed(t, in)
	must(t, in.Hangup())
	must(t, out.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestNetworkChangeInEveryState changes the network of a device while its call is in some other state than talking.
func TestNetworkChangeInEveryState(t *testing.T) {
	t.Parallel()
	for what, play := range map[string]func(*rig, *phone.Phone, *phone.Phone, func()){
		"held by it":             changeWhileHeld,
		"held by the other":      changeWhileHeldByOther,
		"it rings":               changeWhileRinging,
		"it rings, cancelled":    changeWhileRingingCancelled,
		"it calls":               changeWhileCalling,
		"it calls, and gives up": changeWhileCallingGivesUp,
		"it has two calls":       changeWithTwoCalls,
		"hung up meanwhile":      changeWhileHungUp,
		"its move is pending":    changeWhileMoving,
		"it is the new device":   changeOfTheNewDevice,
		"it pulls, ACK to come":  changeOfThePuller,
	} {
		for _, n := range networks(7) {
			if n.name == "new port" || n.from == "udp" && n.to.Transport != "" || n.name == "new connection, old one open" {
				continue // as the others, for what is asked here
			}
			t.Run(what+", "+n.name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, nil)
				r.user("alice", "101")
				r.user("bob", "102")
				alice, bob := r.phone("alice", 1, r.over(n.from)), r.phone("bob", 1)
				play(r, alice, bob, func() {
					must(t, alice.Relocate(n.to))
					must(t, second(alice.Register(10*time.Minute)))
				})
				r.nothingLeft()
			})
		}
	}
}

func changeWhileHeld(r *rig, alice, bob *phone.Phone, change func()) {
	out, in := r.connect(alice, bob)
	must(r.t, out.Hold(phone.HoldSendonly))
	change()
	if !in.HearsTone(time.Second) {
		r.t.Error("bob does not hear the hold tone")
	}
	time.Sleep(2 * 200 * time.Millisecond) // the re-INVITE
	if !r.b.Calls("")[0].Seats[0].Legs[0].Held {
		r.t.Error("the hold was lost")
	}
	since := time.Now()
	r.eventually("the call is resumed", 3*time.Second, func() bool { // glare with the node's re-INVITE
		since = time.Now()
		return out.Resume() == nil
	})
	hearAgain(r.t, since, out, in)
	must(r.t, in.Hangup())
	must(r.t, out.AwaitEnd(3*time.Second))
}

func changeWhileHeldByOther(r *rig, alice, bob *phone.Phone, change func()) {
	out, in := r.connect(alice, bob)
	must(r.t, in.Hold(phone.HoldInactive))
	change()
	if !out.HearsTone(time.Second) {
		r.t.Error("alice does not hear the hold tone")
	}
	since := time.Now()
	must(r.t, in.Resume())
	hearAgain(r.t, since, out, in)
	must(r.t, out.Hangup())
	must(r.t, in.AwaitEnd(3*time.Second))
}

func changeWhileRinging(r *rig, alice, bob *phone.Phone, change func()) {
	alice.Behave(phone.Behaviour{})
	in, err := bob.Dial("101")
	must(r.t, err)
	out, err := alice.Ringing(3 * time.Second)
	must(r.t, err)
	change()
	if again, err := alice.Ringing(100 * time.Millisecond); err == nil { // its connection was closed: it is a new call to it
		out = again
	}
	since := time.Now()
	must(r.t, out.Answer())
	must(r.t, in.Await(3*time.Second))
	hearAgain(r.t, since, out, in)
	must(r.t, in.Hangup())
	must(r.t, out.AwaitEnd(3*time.Second))
}

func changeWhileRingingCancelled(r *rig, alice, bob *phone.Phone, change func()) {
	alice.Behave(phone.Behaviour{})
	in, err := bob.Dial("101")
	must(r.t, err)
	must(r.t, second(alice.Ringing(3*time.Second)))
	change()
	must(r.t, in.Hangup())
	r.eventually("alice rings no more", 3*time.Second, func() bool { return len(alice.Calls()) == 0 || alice.Calls()[0].State() != phone.Alerting })
	for _, c := range alice.Calls() { // of a connection that was closed the phone knows by itself that nobody calls any more
		_ = c.Hangup()
	}
}

func changeWhileCalling(r *rig, alice, bob *phone.Phone, change func()) {
	bob.Behave(phone.Behaviour{})
	out, err := alice.Dial("102")
	must(r.t, err)
	in, err := bob.Ringing(3 * time.Second)
	must(r.t, err)
	change()
	since := time.Now()
	must(r.t, in.Answer())
	must(r.t, out.Await(3*time.Second))
	hearAgain(r.t, since, out, in)
	must(r.t, in.Hangup())
	must(r.t, out.AwaitEnd(3*time.Second))
}

func changeWhileCallingGivesUp(r *rig, alice, bob *phone.Phone, change func()) {
	bob.Behave(phone.Behaviour{})
	out, err := alice.Dial("102")
	must(r.t, err)
	in, err := bob.Ringing(3 * time.Second)
	must(r.t, err)
	remote := func() string {
		if calls := r.b.Calls("alice"); len(calls) == 1 && len(calls[0].Seats[0].Legs) == 1 {
			return calls[0].Seats[0].Legs[0].Remote
		}
		return ""
	}
	r.eventually("the call is shown as hers", time.Second, func() bool { return remote() != "" }) // bob may ring a moment earlier
	before := remote()
	change()
	// The call is told by a post, perhaps after the 200 to her REGISTER.
	r.eventually("the call knows where she is", time.Second, func() bool { return remote() != before })
	must(r.t, out.Hangup())
	must(r.t, in.AwaitEnd(3*time.Second))
}

func changeWithTwoCalls(r *rig, alice, bob *phone.Phone, change func()) {
	r.user("carol", "103")
	out, in := r.connect(alice, bob)
	out2, in2 := r.connect(alice, r.phone("carol", 1))
	since := time.Now()
	change()
	hearAgain(r.t, since, out, in)
	hearAgain(r.t, since, out2, in2)
	must(r.t, in.Hangup())
	must(r.t, in2.Hangup())
	must(r.t, out.AwaitEnd(3*time.Second))
	must(r.t, out2.AwaitEnd(3*time.Second))
}

// changeWhileHungUp has the other side hang up while the device is on its way: it is told as soon as it is there.
func changeWhileHungUp(r *rig, alice, bob *phone.Phone, change func()) {
	out, in := r.connect(alice, bob)
	must(r.t, in.Hangup())
	if out.State() != phone.Ended {
		change()
	}
	must(r.t, out.AwaitEnd(3*time.Second))
}

func changeWhileMoving(r *rig, alice, bob *phone.Phone, change func()) {
	desk := r.phone("alice", 2)
	out, in := r.connect(alice, bob)
	desk.Behave(phone.Behaviour{})
	moved := r.moveLater("2")
	ringing, err := desk.Ringing(3 * time.Second)
	must(r.t, err)
	since := time.Now()
	change()
	hearAgain(r.t, since, out, in)
	must(r.t, ringing.Answer())
	must(r.t, <-moved)
	hearAgain(r.t, time.Now(), ringing, in)
	must(r.t, out.AwaitEnd(3*time.Second))
	must(r.t, in.Hangup())
	must(r.t, ringing.AwaitEnd(3*time.Second))
}

func changeOfTheNewDevice(r *rig, alice, bob *phone.Phone, change func()) {
	desk := r.phone("alice", 2)
	out, in := r.connect(desk, bob)
	alice.Behave(phone.Behaviour{})
	moved := r.moveLater("1")
	ringing, err := alice.Ringing(3 * time.Second)
	must(r.t, err)
	change()
	if again, err := alice.Ringing(100 * time.Millisecond); err == nil {
		ringing = again
	}
	must(r.t, ringing.Answer())
	must(r.t, <-moved)
	hearAgain(r.t, time.Now(), ringing, in)
	must(r.t, out.AwaitEnd(3*time.Second))
	must(r.t, in.Hangup())
	must(r.t, ringing.AwaitEnd(3*time.Second))
}

// changeOfThePuller has the device that pulls change its network before it has got our 200.
func changeOfThePuller(r *rig, alice, bob *phone.Phone, change func()) {
	desk := r.phone("alice", 2)
	out, in := r.connect(desk, bob)
	pull, err := alice.Dial("*40", phone.DialOptions{NoACK: true})
	must(r.t, err)
	pull.Media().Mute(true)
	must(r.t, pull.Await(3*time.Second))
	change()
	if !in.Hears(out, time.Second) {
		r.t.Error("the old device is not heard any more")
	}
	must(r.t, pull.Acknowledge())
	pull.Media().Mute(false)
	hearAgain(r.t, time.Now(), pull, in)
	must(r.t, out.AwaitEnd(3*time.Second))
	must(r.t, in.Hangup())
	must(r.t, pull.AwaitEnd(3*time.Second))
}

// moveLater asks for a move of alice's call and gives what comes of it.
func (r *rig) moveLater(device string) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := r.b.Move(context.Background(), call.MoveRequest{User: "alice", Device: device, Who: "test", How: "api"})
		done <- err
	}()
	return done
}

// TestReinviteMovesAllDialogs has a device with two calls say in one of them that it is elsewhere.
func TestReinviteMovesAllDialogs(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	r.user("carol", "103")
	alice := r.phone("alice", 1)
	out, in := r.connect(alice, r.phone("bob", 1))
	out2, in2 := r.connect(alice, r.phone("carol", 1))
	for i := range 5 {
		since := time.Now()
		must(t, alice.Relocate(phone.Relocation{Addr: elsewhereIP(i)}))
		must(t, out2.Resume())
		hearAgain(t, since, out2, in2)
		hearAgain(t, since, out, in)
	}
	must(t, in.Hangup())
	must(t, in2.Hangup())
	must(t, out.AwaitEnd(3*time.Second))
	must(t, out2.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestHealthyFlowIsKept has a phone register over a second flow (RFC 5626) in mid-call: nothing is done to its call.
func TestHealthyFlowIsKept(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	alice := r.phone("alice", 1, func(c *phone.Config) { c.RegID = 1 })
	out, in := r.connect(alice, r.phone("bob", 1))
	second := r.phone("alice", 1, func(c *phone.Config) { c.RegID = 2 })
	since := time.Now()
	time.Sleep(600 * time.Millisecond)
	if n := len(requestsTo(second, "INVITE")) + len(requestsTo(second, "OPTIONS")); n > 0 {
		t.Errorf("%d requests over the second flow", n)
	}
	for _, m := range alice.Received(since) {
		if m.Method == "INVITE" {
			t.Errorf("%s in a call whose flow is well", m.Line())
		}
	}
	hearEachOther(t, out, in)
	must(t, in.Hangup())
	must(t, out.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestNobodyElseMovesACall has somebody who knows all of a call but the password try to have its sound: by RTP, by REGISTER and by
// requests in the dialog from another address. Nothing of it changes where the sound goes or comes from.
func TestNobodyElseMovesACall(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	alice := r.phone("alice", 1)
	out, in := r.connect(alice, r.phone("bob", 1))
	thief, err := phone.New(phone.Config{
		User: "alice", Password: "wrong", Server: r.server, Addr: netip.MustParseAddr("127.0.0.66"),
		UserAgent: "phonea/1.0", Instance: alice.Config().Instance,
	})
	must(t, err)
	t.Cleanup(thief.Close)
	stolen := out.As(thief)
	t.Cleanup(stolen.Vanish)
	for _, try := range []func() error{
		func() error { return second(thief.Register(10 * time.Minute)) },
		stolen.Resume,
		func() error { return second(stolen.Request("UPDATE", nil)) },
		func() error { return second(stolen.Request("OPTIONS", nil)) },
	} {
		if err := try(); err == nil {
			t.Error("the thief was believed")
		}
		stolen.Speak()
		since := time.Now()
		for time.Since(since) < 600*time.Millisecond {
			if in.Hears(stolen, 20*time.Millisecond) {
				t.Fatal("bob hears the thief")
			}
		}
		if n := len(stolen.Media().Heard()); n > 0 {
			t.Fatalf("the thief was sent %d packets", n)
		}
		hearEachOther(t, out, in)
	}
	must(t, in.Hangup())
	must(t, out.AwaitEnd(3*time.Second))
	r.nothingLeft()
}
