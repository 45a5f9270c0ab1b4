package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

func TestRingAllDevices(t *testing.T) {
	w := newWorld(t)
	bob := w.phone("bob", "far", func(c *phone.Config) { c.Display = "Bobby" })
	devices := []*phone.Phone{w.phone("alice", "desk"), w.phone("alice", "soft", over("tcp")), w.phone("alice", "cell", over("tls"))}
	out := w.dial(bob, "101")
	var in []*phone.Call
	for _, d := range devices {
		in = append(in, w.ringing(d))
	}
	first := in[1]
	w.must(first.Answer())
	w.must(out.Await(2 * time.Second))
	w.talk(out, first)
	for i, c := range in {
		if c == first {
			continue
		}
		w.ended(c)
		why, cancel := c.Why()
		if why != "cancelled" {
			t.Fatalf("device %d: %s", i, why)
		}
		if r := cancel.Get("Reason"); !strings.Contains(r, "cause=200") || !strings.Contains(r, `text="Call completed elsewhere"`) || !strings.HasPrefix(r, "SIP") {
			t.Errorf("device %d was cancelled with Reason: %q", i, r)
		}
	}
	from := first.Invite().Get("From")
	if phone.UserPart(phone.AddrURI(from)) != "102" || phone.DisplayName(from) == "" {
		t.Errorf("the called display shows %s", from)
	}
	w.must(first.Hangup())
	w.ended(out)
}

func TestCalledByNameAndNumber(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.phone("alice", "desk"), w.phone("bob", "far")
	for _, to := range []string{"bob", "102"} {
		out, in := w.connect(alice, to, bob)
		w.must(out.Hangup())
		w.ended(in)
	}
}

func TestEveryTransportCallsEveryOther(t *testing.T) {
	w := newWorld(t)
	for _, a := range []string{"udp", "tcp", "tls"} {
		for _, b := range []string{"udp", "tcp", "tls"} {
			alice, bob := w.phone("alice", "desk-"+a+b, over(a)), w.phone("bob", "far-"+a+b, over(b))
			out, in := w.connect(alice, "bob", bob)
			w.must(in.Hangup())
			w.ended(out)
			alice.Unregister()
			bob.Unregister()
		}
	}
}

func TestCallerCancels(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.phone("alice", "desk"), w.phone("bob", "far")
	out := w.dial(alice, "bob")
	in := w.ringing(bob)
	w.must(out.Cancel())
	w.status(out, 487)
	w.ended(in)
	if why, cancel := in.Why(); why != "cancelled" || strings.Contains(cancel.Get("Reason"), "elsewhere") {
		t.Errorf("%s, Reason: %q", why, cancel.Get("Reason"))
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, node.Options{Config: "call:\n  ring: 2s\n"})
	alice, bob := w.phone("alice", "desk"), w.phone("bob", "far")
	for _, c := range []struct {
		name string
		b    phone.Behaviour
		to   string
		want int
	}{
		{"busy", phone.Behaviour{Reject: 486}, "bob", 486},
		{"declined", phone.Behaviour{Reject: 603}, "bob", 603},
		{"rings and nobody answers", phone.Behaviour{}, "bob", 480},
		{"unknown", phone.Behaviour{}, "nobody", 404},
		{"unknown number", phone.Behaviour{}, "999", 404},
		{"nobody registered", phone.Behaviour{}, "carol", 480},
	} {
		bob.Behave(c.b)
		start := time.Now()
		res := w.status(w.dial(alice, c.to), c.want)
		t.Logf("%s: %s after %s", c.name, res.Line(), time.Since(start).Round(time.Millisecond))
	}
	bob.Behave(phone.Behaviour{Silent: true})
	w.status(w.dial(alice, "bob"), 480)
}

func TestOneBusyDeviceDoesNotStopTheOthers(t *testing.T) {
	w := newWorld(t)
	bob := w.phone("bob", "far")
	busy, free := w.phone("alice", "desk"), w.phone("alice", "soft")
	busy.Behave(phone.Behaviour{Reject: 486})
	out := w.dial(bob, "alice")
	in := w.ringing(free)
	w.must(in.Answer())
	w.must(out.Await(2 * time.Second))
	w.talk(out, in)
	w.must(out.Hangup())

	busy.Behave(phone.Behaviour{Reject: 603, After: 200 * time.Millisecond}) // decline stops all
	out = w.dial(bob, "alice")
	in = w.ringing(free)
	w.status(out, 603)
	w.ended(in)
}

func TestDeviceThatRegistersMeanwhileRingsToo(t *testing.T) {
	w := newWorld(t)
	bob := w.phone("bob", "far")
	w.phone("alice", "desk")
	out := w.dial(bob, "alice")
	w.Eventually(3*time.Second, "ringing", func() error {
		if out.Times().Ringing.IsZero() {
			return fmt.Errorf("got %v", out.Progress())
		}
		return nil
	})
	late := w.phone("alice", "soft")
	in := w.ringing(late)
	w.must(in.Answer())
	w.must(out.Await(2 * time.Second))
	w.talk(out, in)
	w.must(out.Hangup())
}

func TestEarlyMedia(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.phone("alice", "desk"), w.phone("bob", "far")
	bob.Behave(phone.Behaviour{Early: true})
	out := w.dial(alice, "bob")
	in := w.ringing(bob)
	if !out.Hears(in, 2*time.Second) {
		t.Errorf("no early media; progress %v", out.Progress())
	}
	w.must(in.Answer())
	w.must(out.Await(2 * time.Second))
	w.talk(out, in)
	if r := phone.Analyse(out.Media().Heard(), 8000); len(r.SSRCs) != 1 || r.Missing != 0 {
		t.Errorf("across the answer: %s", r)
	}
	w.must(out.Hangup())
}

func TestTwoCallsAtOnce(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.phone("alice", "desk"), w.phone("bob", "far"), w.phone("carol", "far2")
	out1, in1 := w.connect(alice, "bob", bob)
	out2, in2 := w.connect(carol, "alice", alice)
	w.talk(out1, in1)
	w.talk(out2, in2)
	w.must(out2.Hangup())
	w.ended(in2)
	w.talk(out1, in1)
	w.must(in1.Hangup())
	w.ended(out1)
}

func TestHoldIsAnsweredByBaton(t *testing.T) {
	w := newWorld(t)
	for _, how := range []phone.HoldDialect{phone.HoldSendonly, phone.HoldInactive, phone.HoldRecvonly, phone.HoldNullAddr, phone.HoldPort9} {
		t.Run(string(how), func(t *testing.T) {
			alice, bob := w.phone("alice", "desk"), w.phone("bob", "far")
			out, in := w.connect(alice, "bob", bob)
			since := time.Now()
			w.must(out.Hold(how))
			if !in.HearsTone(3 * time.Second) {
				t.Error("the far side hears no hold tone")
			}
			if peer := out.Peer(); how == phone.HoldSendonly && peer.Direction != "recvonly" {
				t.Errorf("answered %s", peer.Direction)
			}
			w.must(out.Resume())
			w.talk(out, in)
			if got := bob.Received(since); len(got) != 0 {
				t.Errorf("bob's phone was sent %s", got[0].Line())
			}
			if r := phone.Analyse(in.Media().Heard(), 8000); len(r.SSRCs) != 1 || r.Missing != 0 || r.Reordered != 0 || r.Drift > 25*time.Millisecond {
				t.Errorf("bob heard %s", r)
			}
			w.must(out.Hangup())
			w.ended(in)
			alice.Close()
			bob.Close()
		})
	}
}

func TestHoldBySides(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.phone("alice", "desk"), w.phone("bob", "far")
	out, in := w.connect(alice, "bob", bob)
	w.must(out.Hold(phone.HoldSendonly))
	w.must(in.Hold(phone.HoldSendonly))
	w.must(out.Resume())
	w.must(in.Resume())
	w.talk(out, in)
	w.must(in.Hangup())
	w.ended(out)
}

func TestBlindTransferToAnotherUser(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.phone("alice", "desk"), w.phone("bob", "far"), w.phone("carol", "third")
	out, in := w.connect(alice, "bob", bob)
	carol.Behave(phone.Behaviour{Answer: true, After: 500 * time.Millisecond})
	r, err := out.Refer("103")
	w.must(err)
	code, err := r.Wait(5 * time.Second)
	w.must(err)
	if code != 200 {
		t.Errorf("the transferor was told %d", code)
	}
	third := w.ringing(carol)
	w.talk(in, third)
	w.ended(out)
	if rep := phone.Analyse(in.Media().Heard(), 8000); len(rep.SSRCs) != 1 || rep.Missing != 0 || rep.Drift > 25*time.Millisecond {
		t.Errorf("bob heard %s", rep)
	}
	w.must(in.Hangup())
	w.ended(third)
}

func TestFailedTransferLeavesTheCall(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.phone("alice", "desk"), w.phone("bob", "far"), w.phone("carol", "third")
	out, in := w.connect(alice, "bob", bob)
	carol.Behave(phone.Behaviour{Reject: 486})
	r, err := out.Refer("103")
	w.must(err)
	code, err := r.Wait(5 * time.Second)
	w.must(err)
	if code != 486 {
		t.Errorf("the transferor was told %d, want 486", code)
	}
	w.talk(out, in)
	if _, err := out.Refer("nobody"); err == nil {
		t.Error("REFER to nobody was accepted")
	}
	w.talk(out, in)
	w.must(out.Hangup())
	w.ended(in)
}

func TestKeysThroughTheBridge(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.phone("alice", "desk"), w.phone("bob", "far")
	out, in := w.connect(alice, "bob", bob)
	for _, k := range []byte("15#*") {
		out.Media().Press(k, 100*time.Millisecond)
	}
	in.Hears(out, time.Second)
	if got := phone.Keys(in.Media().Heard()); got != "15#*" {
		t.Errorf("bob's phone took the keys %q", got)
	}
	if r := phone.Analyse(in.Media().Heard(), 8000); r.Missing != 0 || len(r.SSRCs) != 1 {
		t.Errorf("bob heard %s", r)
	}
	w.must(out.Hangup())
}

func TestVanishedPhoneEndsTheCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, node.Options{Config: "call:\n  wait: 2s\n"})
	alice, bob := w.phone("alice", "desk"), w.phone("bob", "far")
	_, in := w.connect(alice, "bob", bob)
	pause(1200 * time.Millisecond) // until its sound has gone on for a second
	alice.Vanish()
	start := time.Now()
	w.must(in.AwaitEnd(60 * time.Second))
	t.Logf("bob's call ended %s after alice's plug was pulled", time.Since(start).Round(time.Millisecond))
	if why, _ := in.Why(); why != "remote" {
		t.Errorf("bob's call: %s", why)
	}
}

func TestMutedPhoneIsNotGone(t *testing.T) {
	w := newWorld(t, node.Options{Config: "call:\n  vanished: 1s\n"})
	alice, bob := w.phone("alice", "desk"), w.phone("bob", "far")
	out, in := w.connect(alice, "bob", bob)
	out.Media().Mute(true)
	pause(4 * time.Second)
	out.Media().Mute(false)
	w.talk(out, in)
	w.must(out.Hangup())
}

func TestCodecsAreConverted(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.phone("alice", "desk", with(phone.PCMU)), w.phone("bob", "far", with(phone.PCMA))
	out, in := w.connect(alice, "bob", bob)
	pause(300 * time.Millisecond)
	for _, c := range []*phone.Call{out, in} {
		r := phone.Analyse(c.Media().Heard(), 8000)
		if r.Missing != 0 || r.Tones != 0 || r.Changed != r.Packets {
			t.Errorf("%s heard %s, %d converted", c.Phone().Config().UserAgent, r, r.Changed)
		}
	}
	w.must(out.Hangup())
}

func TestCodecsArePassedThrough(t *testing.T) {
	w := newWorld(t)
	for _, codec := range []phone.Codec{phone.OPUS, phone.G722, phone.PCMA} {
		t.Run(codec.Name, func(t *testing.T) {
			other := codec
			if codec.PT > 95 {
				other.PT = 96
			}
			alice, bob := w.phone("alice", "desk", with(codec, phone.PCMU)), w.phone("bob", "far", with(other, phone.PCMU))
			out, in := w.connect(alice, "bob", bob)
			pause(200 * time.Millisecond)
			r := phone.Analyse(in.Media().Heard(), codec.Rate)
			if r.Changed != 0 || r.Tones != 0 || r.Missing != 0 || r.Drift > 25*time.Millisecond {
				t.Errorf("bob heard %s", r)
			}
			if heard := in.Media().Heard(); len(heard) == 0 || heard[0].PT == 0 {
				t.Errorf("bob heard PCMU, not %s", codec.Name)
			}
			w.must(out.Hangup())
			w.ended(in)
			alice.Close()
			bob.Close()
		})
	}
}

func TestNoCommonCodec(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.phone("alice", "desk", with(phone.G722)), w.phone("bob", "far", with(phone.OPUS))
	bob.Behave(phone.AutoAnswer)
	w.status(w.dial(alice, "bob"), 488)
}

func TestInviteWithoutOffer(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.phone("alice", "desk"), w.phone("bob", "far")
	bob.Behave(phone.AutoAnswer)
	out := w.dial(alice, "bob", phone.DialOptions{NoSDP: true})
	w.must(out.Await(5 * time.Second))
	in := w.ringing(bob)
	w.talk(out, in)
	w.must(in.Hangup())
	w.ended(out)
}

func TestIPv6AndBoth(t *testing.T) {
	w := newWorld(t)
	six := func(n int) func(*phone.Config) {
		return func(c *phone.Config) { c.Server, c.Addr = w.UDP6, node.IP6(n) }
	}
	alice, bob, carol := w.phone("alice", "six", six(3)), w.phone("bob", "six2", six(4)), w.phone("carol", "four")
	out, in := w.connect(alice, "bob", bob)
	w.must(out.Hangup())
	w.ended(in)
	out, in = w.connect(alice, "carol", carol)
	w.must(in.Hangup())
	w.ended(out)
}

func TestKeysOverUDP(t *testing.T) { // AVP with keys is answered as plain AVP, SAVP alone is refused (S20)
	w := newWorld(t)
	alice, bob := w.phone("alice", "desk"), w.phone("bob", "far")
	bob.Behave(phone.AutoAnswer)
	sdp := func(profile string) []byte {
		return []byte("v=0\r\no=- 1 1 IN IP4 10.77.0.3\r\ns=-\r\nc=IN IP4 10.77.0.3\r\nt=0 0\r\nm=audio 30000 " + profile + " 0\r\n" +
			"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\na=sendrecv\r\n")
	}
	out := w.dial(alice, "bob", phone.DialOptions{SDP: sdp("RTP/AVP")})
	w.must(out.Await(5 * time.Second))
	if body := string(out.Final().Body); !strings.Contains(body, "RTP/AVP ") || strings.Contains(body, "crypto") {
		t.Errorf("answered\n%s", body)
	}
	w.must(out.Hangup())
	res := w.status(w.dial(alice, "bob", phone.DialOptions{SDP: sdp("RTP/SAVP")}), 488)
	if res.Get("Warning") == "" {
		t.Error("488 without a Warning")
	}
}

func TestNothingUnknownPasses(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.phone("alice", "desk"), w.phone("bob", "far")
	bob.Behave(phone.AutoAnswer)
	out := w.dial(alice, "bob", phone.DialOptions{Headers: []phone.Header{
		{Name: "Call-Info", Value: "<sip:x>;answer-after=0"},
		{Name: "Alert-Info", Value: "<http://x>;info=alert-autoanswer"},
		{Name: "Answer-Mode", Value: "Auto"},
		{Name: "X-Secret", Value: "1"},
		{Name: "P-Asserted-Identity", Value: "<sip:boss@x>"},
	}})
	w.must(out.Await(5 * time.Second))
	in := w.ringing(bob)
	for _, name := range []string{"Call-Info", "Alert-Info", "Answer-Mode", "X-Secret"} {
		if v := in.Invite().Get(name); v != "" {
			t.Errorf("%s: %s went through", name, v)
		}
	}
	if v := in.Invite().Get("P-Asserted-Identity"); strings.Contains(v, "boss") {
		t.Errorf("P-Asserted-Identity: %s went through", v)
	}
	w.must(out.Hangup())
}

func TestEndByCommand(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.phone("alice", "desk"), w.phone("bob", "far")
	out, in := w.connect(alice, "bob", bob)
	var calls []struct{ ID string }
	w.must(w.JSON(&calls, "calls", "--user", "alice", "--json"))
	if len(calls) != 1 {
		t.Fatalf("baton calls: %v", calls)
	}
	if text, err := w.CLI("call", "show", calls[0].ID); err != nil || !strings.Contains(text, "PCMU") || !strings.Contains(text, "alice") {
		t.Errorf("baton call show: %v\n%s", err, text)
	}
	if _, err := w.CLI("end", calls[0].ID[:4]); err != nil {
		t.Error(err)
	}
	w.ended(out, in)
	if _, err := w.CLI("end", calls[0].ID); node.ExitStatus(err) != 4 {
		t.Errorf("ending a call twice: %v", err)
	}
}
