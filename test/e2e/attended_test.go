package e2e

import (
	"fmt"
	"net/url"
	"testing"
	"time"
)

// consultation is a real softphone whose user calls a second one before handing the first over.
type consultation struct {
	call    func(number string)
	consult func(number string)
	join    func() // hands the first call over to the one of the second
	closed  func() // waits for the end of both
	quit    func()
}

// consultants are the softphones that transfer after a consultation, as alice's, playing 440 Hz.
var consultants = map[string]func(*world) consultation{
	"baresip": func(w *world) consultation {
		b := w.startWitness("alice", 440)
		c := consultation{call: b.dial, quit: b.quit, closed: func() {
			b.await("CALL_CLOSED", 5*time.Second)
			b.await("CALL_CLOSED", 5*time.Second)
		}}
		if b.old() { // it has no command for it: what newer ones do, by hand
			to := ""
			c.consult = func(number string) { to = number; b.do("hold", ""); pause(300 * time.Millisecond); b.dial(number) }
			c.join = func() {
				all := b.dialogs()
				b.do("hold", "")
				b.do("line", "1")
				b.do("transfer", "<sip:"+to+b.server+"?Replaces="+url.QueryEscape(all[len(all)-1])+">")
			}
			return c
		}
		c.consult = func(number string) { b.do("atransferstart", "sip:"+number+b.server) }
		c.join = func() { b.do("atransferexec", "") }
		return c
	},
	"linphonec": func(w *world) consultation {
		l := w.startLinphone("alice", 440)
		uri := func(number string) string { return "sip:" + number + "@" + w.UDP.String() }
		return consultation{
			call:    func(number string) { l.do("call " + uri(number)) },
			consult: func(number string) { l.do("pause"); pause(300 * time.Millisecond); l.do("call " + uri(number)) },
			join:    func() { l.do("transfer 1 --to-call 2") },
			closed: func() {
				for id := 1; id <= 2; id++ {
					l.await(fmt.Sprintf("Call %d with %s ended", id, uri([]string{"102", "103"}[id-1])), 5*time.Second)
				}
			},
			quit: l.quit,
		}
	},
}

// TestAttendedTransfer has real softphones hand a call over after a consultation, to another user and to another device of their
// own: the two who are left hear each other, each in the one stream that he had, and the one who transferred is out of both calls.
func TestAttendedTransfer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ phone, name, to, taker string }{
		{"baresip", "another user", "103", "carol"},
		{"baresip", "own device", "101*%d", "alice"},
		{"linphonec", "another user", "103", "carol"},
	} {
		t.Run(c.phone+", "+c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			bob, taker := w.startWitness("bob", 660), w.startWitness(c.taker, 550)
			to := c.to
			if c.taker == "alice" {
				to = fmt.Sprintf(to, w.devices("alice")[0].Index)
			}
			alice := consultants[c.phone](w)
			alice.call("102")
			bob.await("CALL_ESTABLISHED", 10*time.Second)
			bobs := time.Now()
			pause(time.Second)
			alice.consult(to)
			taker.await("CALL_ESTABLISHED", 10*time.Second)
			takers := time.Now()
			pause(time.Second)
			asked := time.Now()
			alice.join()
			alice.closed()
			t.Logf("transferred and closed in %s", time.Since(asked).Round(time.Millisecond))
			pause(1500 * time.Millisecond)
			bob.undisturbed(bobs, "UPDATE")
			taker.undisturbed(takers, "UPDATE")
			bob.do("hangup", "")
			taker.await("CALL_CLOSED", 5*time.Second)
			quit(bob.quit, taker.quit, alice.quit)
			bob.found(440, 800*time.Millisecond)
			bob.found(550, 1200*time.Millisecond)
			taker.found(440, 800*time.Millisecond)
			taker.found(660, 1200*time.Millisecond)
		})
	}
}
