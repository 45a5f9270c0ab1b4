package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// Limits of a rejoin: the 300 ms of a quiet machine, and what a busy one is given.
const (
	rejoined     = 300 * time.Millisecond
	rejoinedBusy = 5 * rejoined
	unbroken     = 200 * time.Millisecond // of the other side's stream once the tone is there
)

// seatLost waits until the node knows that a user's device was lost, and for how long the other side has heard nothing then.
func (w *world) seatLost(user string) {
	w.t.Helper()
	w.Eventually(10*time.Second, user+" to be lost", func() error {
		var calls []struct {
			Seats []struct {
				User  string
				Lost  bool
				Empty bool
			}
		}
		w.must(w.JSON(&calls, "calls", "--json"))
		for _, c := range calls {
			for _, s := range c.Seats {
				if s.User == user && s.Lost && s.Empty {
					return nil
				}
			}
		}
		return fmt.Errorf("the calls are %+v", calls)
	})
}

// toneSince is when a phone that has heard nothing since a kill was played the first of the tone.
func (w *world) toneSince(c *phone.Call, killed time.Time) (at time.Time) {
	w.t.Helper()
	w.Eventually(10*time.Second, "who waits to hear a tone", func() error {
		heard := phone.Between(c.Media().Heard(), killed, time.Now())
		for i := 1; i < len(heard); i++ {
			if heard[i].At.Sub(heard[i-1].At) > unbroken {
				at = heard[i].At
				return nil
			}
		}
		return fmt.Errorf("%d packets since the kill", len(heard))
	})
	return at
}

// rejoinBy has alice pull her call on another device and checks what both hear of it: since the tone, bob's stream has no hole.
func (w *world) rejoinBy(desk *phone.Phone, far *phone.Call, killed time.Time) *phone.Call {
	w.t.Helper()
	w.seatLost("alice")
	tone := w.toneSince(far, killed)
	pulled := w.dial(desk, "*40")
	w.must(pulled.Await(5 * time.Second))
	there, ok := far.Media().Await(killed, 5*time.Second, func(p phone.Packet) bool { return p.Source == pulled.Media().Source() })
	here, also := pulled.Media().Await(killed, 5*time.Second, func(p phone.Packet) bool { return p.Source == far.Media().Source() })
	if !ok || !also {
		w.t.Fatal("no sound on the device that pulled")
	}
	last := there.At
	if here.At.After(last) {
		last = here.At
	}
	took := last.Sub(pulled.Times().Answered)
	w.t.Logf("the tone came %s after the kill, both heard each other %s after the answer (limit %s on a quiet machine)",
		tone.Sub(killed).Round(time.Millisecond), took.Round(time.Millisecond), rejoined)
	if took > rejoinedBusy {
		w.t.Errorf("both heard each other %s after the answer, limit %s", took, rejoinedBusy)
	}
	pause(500 * time.Millisecond)
	r := phone.Analyse(far.Media().Heard(), 8000)
	if len(r.SSRCs) != 1 || r.Missing != 0 || r.Reordered != 0 || r.Duplicates != 0 {
		w.t.Errorf("bob heard %s", r)
	}
	if gap, at := phone.LongestGap(phone.Between(far.Media().Heard(), tone, time.Now()), tone, time.Now().Add(-50*time.Millisecond)); gap > unbroken {
		w.t.Errorf("bob heard nothing for %s, %s after the tone began, limit %s", gap, at.Sub(tone), unbroken)
	}
	return pulled
}

// TestDeviceKilled kills a device in mid-call, without a word: bob waits on his live stream, and alice comes back on another device.
func TestDeviceKilled(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"udp", "tcp", "tls"} {
		t.Run(transport, func(t *testing.T) {
			w := newWorld(t)
			alice, desk, bob := w.phone("alice", "soft", over(transport)), w.phone("alice", "desk"), w.phone("bob", "far")
			_, in := w.connect(alice, "bob", bob)
			pause(1200 * time.Millisecond)
			killed := time.Now().Add(-phone.Frame)
			alice.Vanish()
			pulled := w.rejoinBy(desk, in, killed)
			w.must(pulled.Hangup())
			w.ended(in)
			out, err := w.CLI("log")
			w.must(err)
			for _, line := range []string{"alice is lost to the call on soft, bob waits", "alice is back in the call on desk", "alice moves from soft to desk"} {
				if !strings.Contains(out, line) {
					t.Errorf("the log has no %q:\n%s", line, out)
				}
			}
		})
	}
}

// TestBrowserTabKilled has the page that holds the call go, as a tab does that is closed or crashes.
func TestBrowserTabKilled(t *testing.T) {
	b := theBrowser(t, "chromium")
	w := newWorld(t, node.Options{Config: allowing(b)})
	bob := w.phone("bob", "far")
	bob.Behave(phone.AutoAnswer)
	alice := w.browserPhone(b, pageJsSIP, "alice")
	var id int
	alice.must(&id, "call", w.uri("bob"))
	alice.must(nil, "until", id, "up", 5000)
	in := w.ringing(bob)
	desk := w.phone("alice", "desk")
	pause(2 * time.Second)
	killed := time.Now().Add(-phone.Frame)
	w.must(b.do(nil, "goto", map[string]any{"page": alice.n, "url": "about:blank"}))
	pulled := w.rejoinBy(desk, in, killed)
	w.must(pulled.Hangup())
	w.ended(in)
}

// TestRejoinByCommand brings alice back by baton rejoin, on the device named and on whichever answers, and the figures are told.
func TestRejoinByCommand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, desk, bob := w.phone("alice", "soft", over("tls")), w.phone("alice", "desk"), w.phone("bob", "far")
	desk.Behave(phone.AutoAnswer)
	_, in := w.connect(alice, "bob", bob)
	pause(1200 * time.Millisecond)
	alice.Vanish()
	w.seatLost("alice")
	if out, err := w.CLI("rejoin"); err == nil {
		t.Errorf("baton rejoin without a call: %s", out)
	}
	back := w.broughtBack(desk, in, w.callID())
	if _, err := w.CLI("rejoin", w.callID()); err == nil {
		t.Error("somebody was brought back into a call that nobody is missing from")
	}
	pause(1200 * time.Millisecond)
	desk.Vanish()
	w.ended(back)
	w.seatLost("alice")
	kitchen := w.phone("alice", "kitchen")
	kitchen.Behave(phone.AutoAnswer)
	back = w.broughtBack(kitchen, in, w.callID(), w.deviceOf(kitchen).Name)
	w.must(back.Hangup())
	w.ended(in)
}

// broughtBack has baton rejoin bring a device into the call.
func (w *world) broughtBack(device *phone.Phone, far *phone.Call, args ...string) *phone.Call {
	w.t.Helper()
	var r report
	w.must(w.JSON(&r, append(append([]string{"rejoin"}, args...), "--json")...))
	if r.To != w.deviceOf(device).Name || r.SwitchMS <= 0 || r.Far.GapMS <= 0 {
		w.t.Errorf("figures: %+v", r)
	}
	back := w.ringing(device)
	w.talk(back, far)
	return back
}
