package e2e

import (
	"testing"
	"time"

	"baton/test/phone"
)

// TestBaresipCallsThePhone proves the driver: no baton between them.
func TestBaresipCallsThePhone(t *testing.T) {
	w := newWorld(t)
	b := w.startBaresip("alice", "udp", 440)
	far := w.make("bob", "far", func(c *phone.Config) { c.Password = "" })
	far.Behave(phone.AutoAnswer)
	b.do("dial", far.Contact())
	in := w.ringing(far)
	b.await("CALL_ESTABLISHED", 5*time.Second)
	if !in.HearsTone(2 * time.Second) {
		t.Error("the phone does not hear baresip")
	}
	w.must(in.Hangup())
	b.await("CALL_CLOSED", 5*time.Second)
}

func TestBaresipCallsBaresip(t *testing.T) {
	for _, transport := range []string{"udp", "tcp", "tls"} {
		t.Run(transport, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.startBaresip("alice", transport, 440), w.startBaresip("bob", transport, 660)
			a.dial("102")
			b.await("CALL_ESTABLISHED", 10*time.Second)
			a.await("CALL_ESTABLISHED", 10*time.Second)
			pause(3 * time.Second)
			a.do("hangup", "")
			b.await("CALL_CLOSED", 10*time.Second)
			a.quit()
			b.quit()
			a.found(660, 2*time.Second)
			b.found(440, 2*time.Second)
		})
	}
}

func TestBaresipCallsLinphone(t *testing.T) {
	for _, first := range []string{"baresip", "linphonec"} {
		t.Run(first+" calls", func(t *testing.T) {
			w := newWorld(t)
			need(t, "linphonec", "linphone-cli")
			b, l := w.startBaresip("alice", "udp", 440), w.startLinphone("bob", 660)
			if first == "baresip" {
				b.dial("102")
			} else {
				l.do("call sip:101@" + w.UDP.String())
			}
			b.await("CALL_ESTABLISHED", 10*time.Second)
			pause(5 * time.Second)
			b.do("hangup", "")
			b.await("CALL_CLOSED", 5*time.Second)
			b.quit()
			l.quit()
			b.found(660, 3*time.Second)
			l.found(440, 3*time.Second)
		})
	}
}
