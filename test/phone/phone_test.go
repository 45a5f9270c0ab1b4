package phone_test

import (
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"baton/test/phone"
)

var loopback = netip.MustParseAddr("127.0.0.1")

func newPhone(t *testing.T, cfg phone.Config) *phone.Phone {
	t.Helper()
	if !cfg.Addr.IsValid() {
		cfg.Addr = loopback
	}
	p, err := phone.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// pair is two phones that call each other directly, the second picked up at once.
func pair(t *testing.T, transport string) (alice, bob *phone.Phone) {
	t.Helper()
	cfg := phone.Config{Transport: transport, Listen: transport != "udp"}
	cfg.User = "alice"
	alice = newPhone(t, cfg)
	cfg.User, cfg.Phase = "bob", 7*time.Millisecond
	bob = newPhone(t, cfg)
	bob.Behave(phone.AutoAnswer)
	return alice, bob
}

// ring has bob's phone ring for alice.
func ring(t *testing.T, alice, bob *phone.Phone, o ...phone.DialOptions) (out, in *phone.Call) {
	t.Helper()
	out, err := alice.Dial(bob.Contact(), o...)
	if err != nil {
		t.Fatal(err)
	}
	if in, err = bob.Ringing(time.Second); err != nil {
		t.Fatal(err)
	}
	return out, in
}

func talk(t *testing.T, alice, bob *phone.Phone) (out, in *phone.Call) {
	t.Helper()
	out, err := alice.Dial(bob.Contact())
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Await(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	in, err = bob.Ringing(time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if !out.Hears(in, 2*time.Second) || !in.Hears(out, 2*time.Second) {
		t.Fatal("the phones do not hear each other")
	}
	return out, in
}

func TestTwoPhones(t *testing.T) {
	for _, transport := range []string{"udp", "tcp", "tls"} {
		t.Run(transport, func(t *testing.T) {
			alice, bob := pair(t, transport)
			out, in := talk(t, alice, bob)
			in.Media().Await(time.Now(), 600*time.Millisecond, func(phone.Packet) bool { return false })
			r := phone.Analyse(in.Media().Heard(), 8000)
			if r.Missing != 0 || r.Reordered != 0 || r.Duplicates != 0 || len(r.SSRCs) != 1 || r.Markers != 1 || r.Changed != 0 || r.Tones != 0 {
				t.Error(r)
			}
			if r.Drift > 15*time.Millisecond {
				t.Errorf("timestamps are %s off", r.Drift)
			}
			if err := out.Hangup(); err != nil {
				t.Fatal(err)
			}
			if err := in.AwaitEnd(time.Second); err != nil {
				t.Fatal(err)
			}
			if why, bye := in.Why(); why != "remote" || bye.Method != "BYE" {
				t.Errorf("ended by %s %v", why, bye)
			}
		})
	}
}

func TestFramesKeepTheirPhase(t *testing.T) {
	alice, bob := pair(t, "udp")
	out, in := talk(t, alice, bob)
	time.Sleep(400 * time.Millisecond) // lets frames pile up; nothing is awaited by it
	var shifts []time.Duration
	for _, p := range phone.Of(out.Media().Heard(), in.Media().Source()) {
		for _, q := range phone.Of(in.Media().Heard(), out.Media().Source()) {
			if d := p.Sent.Sub(q.Sent); d > 0 && d < phone.Frame {
				shifts = append(shifts, d)
			}
		}
	}
	if mid := phone.Quantile(shifts, 0.5); (mid - 7*time.Millisecond).Abs() > 2*time.Millisecond {
		t.Errorf("bob sends %s after alice, want 7ms", mid)
	}
}

func TestHoldAndResume(t *testing.T) {
	for _, how := range []phone.HoldDialect{phone.HoldSendonly, phone.HoldInactive, phone.HoldRecvonly, phone.HoldNullAddr, phone.HoldPort9} {
		t.Run(string(how), func(t *testing.T) {
			alice, bob := pair(t, "udp")
			out, in := talk(t, alice, bob)
			if err := out.Hold(how); err != nil {
				t.Fatal(err)
			}
			from := time.Now()
			if _, heard := in.Media().Await(from.Add(25*time.Millisecond), 200*time.Millisecond, func(phone.Packet) bool { return true }); heard {
				t.Error("bob hears alice, who holds")
			}
			if err := out.Resume(); err != nil {
				t.Fatal(err)
			}
			if !in.Hears(out, time.Second) || !out.Hears(in, time.Second) {
				t.Error("no sound after the resume")
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for _, code := range []int{486, 603, 480} {
		alice, bob := pair(t, "udp")
		bob.Behave(phone.Behaviour{Reject: code})
		out, err := alice.Dial(bob.Contact())
		if err != nil {
			t.Fatal(err)
		}
		var status *phone.Status
		if err := out.Await(2 * time.Second); !errors.As(err, &status) || status.Code != code {
			t.Errorf("got %v, want %d", err, code)
		}
	}
}

// TestOneFinalAnswer: of an answer and a refusal at the same moment one is too late, and the caller gets the other.
func TestOneFinalAnswer(t *testing.T) {
	alice := newPhone(t, phone.Config{User: "alice"})
	bob := newPhone(t, phone.Config{User: "bob"})
	for round := range 300 {
		out, in := ring(t, alice, bob)
		var answered, refused error
		var both sync.WaitGroup
		both.Go(func() { answered = in.Answer() })
		both.Go(func() { refused = in.Reject(486) })
		both.Wait()
		if (answered == nil) == (refused == nil) {
			t.Fatalf("round %d: answer: %v, refusal: %v", round, answered, refused)
		}
		err := out.Await(5 * time.Second)
		var status *phone.Status
		switch {
		case answered == nil && (err != nil || in.State() != phone.Up):
			t.Fatalf("round %d: answered: the caller has %v, the phone is %s", round, err, in.State())
		case refused == nil && (!errors.As(err, &status) || status.Code != 486 || in.State() != phone.Ended):
			t.Fatalf("round %d: refused: the caller has %v, the phone is %s", round, err, in.State())
		}
		_ = out.Hangup()
		if err := in.AwaitEnd(3 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNoByeBeforeTheAck: who was called hangs up when his answer is acknowledged (RFC 3261 §15).
func TestNoByeBeforeTheAck(t *testing.T) {
	alice := newPhone(t, phone.Config{User: "alice"})
	bob := newPhone(t, phone.Config{User: "bob"})
	out, in := ring(t, alice, bob, phone.DialOptions{NoACK: true})
	if err := in.Answer(); err != nil {
		t.Fatal(err)
	}
	if err := out.Await(time.Second); err != nil {
		t.Fatal(err)
	}
	hungUp := make(chan error, 1)
	go func() { hungUp <- in.Hangup() }()
	time.Sleep(300 * time.Millisecond)
	if s := out.State(); s != phone.Up {
		t.Errorf("the caller's call is %s before he has acknowledged the answer", s)
	}
	out.Acknowledge()
	if err := <-hungUp; err != nil {
		t.Error(err)
	}
	if why, _ := out.Why(); why != "remote" {
		t.Errorf("the caller's call ended by %q", why)
	}
}

func TestCancel(t *testing.T) {
	alice, bob := pair(t, "udp")
	bob.Behave(phone.Behaviour{})
	out, in := ring(t, alice, bob)
	if err := out.Hangup(); err != nil {
		t.Fatal(err)
	}
	if err := in.AwaitEnd(time.Second); err != nil {
		t.Fatal(err)
	}
	if why, _ := in.Why(); why != "cancelled" || out.Final().Code != 487 {
		t.Errorf("ended by %q, the caller got %s", why, out.Final().Line())
	}
}

func TestEarlyMediaAndOfferless(t *testing.T) {
	alice, bob := pair(t, "udp")
	bob.Behave(phone.Behaviour{Early: true, Answer: true, After: 300 * time.Millisecond})
	out, err := alice.Dial(bob.Contact())
	if err != nil {
		t.Fatal(err)
	}
	in, err := bob.Ringing(time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if !out.Hears(in, 250*time.Millisecond) {
		t.Error("no early media")
	}
	if err := out.Await(2 * time.Second); err != nil {
		t.Fatal(err)
	}
	out.Hangup()

	bob.Behave(phone.AutoAnswer)
	late, err := alice.Dial(bob.Contact(), phone.DialOptions{NoSDP: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := late.Await(2 * time.Second); err != nil {
		t.Fatal(err)
	}
	in, _ = bob.Ringing(time.Second)
	if !late.Hears(in, time.Second) || !in.Hears(late, time.Second) {
		t.Error("no sound after an INVITE without offer")
	}
}

func TestKeys(t *testing.T) {
	alice, bob := pair(t, "udp")
	out, in := talk(t, alice, bob)
	for _, k := range []byte("1*#") {
		out.Media().Press(k, 100*time.Millisecond)
	}
	in.Hears(out, time.Second)
	if got := phone.Keys(in.Media().Heard()); got != "1*#" {
		t.Errorf("keys %q", got)
	}
}

// TestPortsInTurn: what a server still sends to a phone that is gone does not come to the next one that is made.
func TestPortsInTurn(t *testing.T) {
	had := map[string]bool{}
	for range 1000 {
		p := newPhone(t, phone.Config{User: "alice", Transport: "udp"})
		at := p.Contact()
		p.Vanish()
		if had[at] {
			t.Fatalf("%s for the second time", at)
		}
		had[at] = true
	}
}
