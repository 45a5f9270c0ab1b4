package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/test/phone"
)

// key is a real softphone whose user presses its transfer key.
type key struct {
	call     func(number string)
	transfer func(number string)
	closed   func()
	found    func(hz float64, least time.Duration)
	quit     func()
}

// transferrers are the softphones that transfer, as alice's, playing 440 Hz over UDP.
var transferrers = map[string]func(*world) key{
	"baresip": func(w *world) key {
		b := w.startBaresip("alice", "udp", 440)
		return key{
			call:     b.dial,
			transfer: func(number string) { b.do("transfer", "sip:"+number+b.server) },
			closed:   func() { b.await("CALL_CLOSED", 5*time.Second) },
			found:    b.found, quit: b.quit,
		}
	},
	"linphonec": func(w *world) key {
		l := w.startLinphone("alice", 440)
		uri := func(number string) string { return "sip:" + number + "@" + w.UDP.String() }
		return key{
			call:     func(number string) { l.do("call " + uri(number)) },
			transfer: func(number string) { l.do("transfer " + uri(number)) },
			closed:   func() { l.await(" ended (", 5*time.Second) },
			found:    l.found, quit: l.quit,
		}
	},
}

// TestTransferKey has real softphones transfer a call by their transfer key, to their user's other devices, to one of them and to
// somebody else. What the far side hears and is sent is the judge.
func TestTransferKey(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ phone, name, to, taker string }{
		{"baresip", "own number", "101", "alice"},
		{"baresip", "one own device", "101*%d", "alice"},
		{"baresip", "push code", "*41", "alice"},
		{"baresip", "another user", "103", "carol"},
		{"linphonec", "own number", "101", "alice"},
		{"linphonec", "another user", "103", "carol"},
	} {
		t.Run(c.phone+", "+c.name, func(t *testing.T) {
			w := newWorld(t)
			bob := w.startWitness("bob", 660)
			alice := transferrers[c.phone](w)
			taker := w.startBaresip(c.taker, "tcp", 500)
			to := c.to
			if strings.Contains(to, "%d") {
				to = fmt.Sprintf(to, w.deviceOver("alice", "tcp"))
			}
			alice.call("102")
			bob.await("CALL_ESTABLISHED", 10*time.Second)
			since := time.Now()
			pause(1200 * time.Millisecond)
			asked := time.Now()
			alice.transfer(to)
			taker.await("CALL_ESTABLISHED", 5*time.Second)
			alice.closed()
			t.Logf("transferred and closed in %s", time.Since(asked).Round(time.Millisecond))
			pause(1200 * time.Millisecond)
			if c.taker == "alice" {
				bob.undisturbed(since)
			} else {
				bob.undisturbed(since, "UPDATE") // it is carol now
			}
			bob.do("hangup", "")
			taker.await("CALL_CLOSED", 5*time.Second)
			quit(alice.quit, taker.quit, bob.quit)
			bob.found(440, 900*time.Millisecond)
			bob.found(500, 900*time.Millisecond)
			alice.found(660, 900*time.Millisecond)
			taker.found(660, 900*time.Millisecond)
		})
	}
}

// quit ends programs, all at once: each takes its time.
func quit(all ...func()) {
	var wg sync.WaitGroup
	for _, one := range all {
		wg.Go(one)
	}
	wg.Wait()
}

// TestTransferKeyOnHold transfers as most phones do: the call is put on hold first. The far side hears the hold tone until the new
// phone has the call, and then that.
func TestTransferKeyOnHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.startWitness("bob", 660)
	one, two := w.startBaresip("alice", "udp", 440), w.startBaresip("alice", "tcp", 500)
	one.dial("102")
	bob.await("CALL_ESTABLISHED", 10*time.Second)
	since := time.Now()
	pause(time.Second)
	one.do("hold", "")
	pause(time.Second)
	one.do("transfer", "sip:101"+one.server)
	two.await("CALL_ESTABLISHED", 5*time.Second)
	one.await("CALL_CLOSED", 5*time.Second)
	pause(1500 * time.Millisecond)
	bob.undisturbed(since)
	bob.do("hangup", "")
	two.await("CALL_CLOSED", 5*time.Second)
	quit(bob.quit, one.quit, two.quit)
	bob.found(440, 800*time.Millisecond)
	bob.found(500, 1200*time.Millisecond)
	two.found(660, 1200*time.Millisecond)
}

// TestTransferKeyThatFails transfers to one who has no phone here and to one who declines: the call stays where it is, and goes on.
func TestTransferKeyThatFails(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"baresip", "linphonec"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			bob := w.startWitness("bob", 660)
			if name == "baresip" && bob.old() {
				t.Skip("baresip 1.0.0 hangs up by itself when a transfer fails")
			}
			alice := transferrers[name](w)
			alice.call("102")
			bob.await("CALL_ESTABLISHED", 10*time.Second)
			since := time.Now()
			pause(500 * time.Millisecond)
			alice.transfer("103") // carol is away
			pause(500 * time.Millisecond)
			carol := w.phone("carol", "desk")
			carol.Behave(phone.Behaviour{Reject: 603, After: 300 * time.Millisecond})
			alice.transfer("103")
			w.ended(w.ringing(carol))
			pause(time.Second)
			bob.undisturbed(since)
			talked := time.Since(since) - 250*time.Millisecond
			bob.do("hangup", "")
			alice.closed()
			bob.await("CALL_CLOSED", 5*time.Second)
			quit(alice.quit, bob.quit)
			if name == "baresip" { // it holds until it knows, and begins another recording after that
				bob.found(440, talked-600*time.Millisecond)
				alice.found(660, 600*time.Millisecond)
				return
			}
			bob.found(440, talked)
			alice.found(660, talked)
		})
	}
}

// TestKeysAcrossAMoveOfBaresips presses keys on one baresip before its call is moved, and on the other one after that: each comes
// once to the far side, which hears one stream.
func TestKeysAcrossAMoveOfBaresips(t *testing.T) {
	w := newWorld(t)
	bob := w.startWitness("bob", 660)
	one, two := w.startBaresip("alice", "udp", 440), w.startBaresip("alice", "tcp", 500)
	press := func(b *baresip, keys string) {
		for _, k := range keys {
			b.do("sndcode", string(k))
			pause(300 * time.Millisecond)
		}
	}
	one.dial("102")
	bob.await("CALL_ESTABLISHED", 10*time.Second)
	one.await("CALL_ESTABLISHED", 10*time.Second)
	since := time.Now()
	pause(500 * time.Millisecond)
	press(one, "12*")
	one.do("transfer", fmt.Sprintf("sip:101*%d%s", w.deviceOver("alice", "tcp"), one.server))
	two.await("CALL_ESTABLISHED", 5*time.Second)
	one.await("CALL_CLOSED", 5*time.Second)
	press(two, "2#9")
	bob.heardKeys("12*2#9")
	two.do("transfer", fmt.Sprintf("sip:101*%d%s", w.deviceOver("alice", "udp"), two.server))
	one.await("CALL_ESTABLISHED", 5*time.Second)
	two.await("CALL_CLOSED", 5*time.Second)
	press(one, "0")
	bob.heardKeys("12*2#90")
	bob.undisturbed(since)
	bob.do("hangup", "")
	one.await("CALL_CLOSED", 5*time.Second)
}
