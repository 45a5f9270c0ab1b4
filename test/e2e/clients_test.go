package e2e

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"baton/test/e2e/node"
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
	t.Parallel()
	for _, transport := range []string{"udp", "tcp", "tls"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
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
	t.Parallel()
	for _, first := range []string{"baresip", "linphonec"} {
		t.Run(first+" calls", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			need(t, "linphonec", "linphone-cli")
			b, l := w.startBaresip("alice", "udp", 440), w.startLinphone("bob", 660)
			hearEachOther(b, l, first, w.UDP)
		})
	}
}

// hearEachOther has alice's baresip, which plays 440 Hz, and bob's linphonec, which plays 660, call each other by the node at
// an address, the first named the other, and listens to what they have recorded.
func hearEachOther(b *baresip, l *linphone, first string, at netip.AddrPort) {
	b.t.Helper()
	if first == "baresip" {
		b.dial("102")
	} else {
		l.do("call sip:101@" + at.String())
	}
	b.await("CALL_ESTABLISHED", 10*time.Second)
	pause(5 * time.Second)
	b.do("hangup", "")
	b.await("CALL_CLOSED", 5*time.Second)
	b.quit()
	l.quit()
	b.found(660, 3*time.Second)
	l.found(440, 3*time.Second)
}

// TestMovesOfBaresips moves a call twenty times between two baresips of alice and compares what bob's baresip has
// recorded with a call beside it that is not moved.
func TestMovesOfBaresips(t *testing.T) {
	const moves, perMove = 20, 10 * time.Millisecond
	w := newWorld(t, node.Options{Users: map[string]string{"alice": "101", "bob": "102", "carol": "103", "dave": "104"}})
	bob := w.startBaresip("bob", "udp", 660)
	dave := w.startBaresip("dave", "udp", 660)
	carol := w.startBaresip("carol", "udp", 440)
	alice := []*baresip{w.startBaresip("alice", "udp", 440), w.startBaresip("alice", "tcp", 440)}
	index := map[bool]int{}
	for _, d := range w.devices("alice") {
		index[d.Transport == "tcp"] = d.Index
	}
	carol.dial("104")
	alice[0].dial("102")
	up, controlUp := bob.await("CALL_ESTABLISHED", 10*time.Second).at, dave.await("CALL_ESTABLISHED", 10*time.Second).at
	pause(time.Second)
	for i := range moves {
		to := 1 - i%2
		var r report
		asked := time.Now()
		if err := w.JSON(&r, "move", "--user", "alice", fmt.Sprint(index[to == 1]), "--json"); err != nil {
			t.Fatalf("move %d: %v", i+1, err)
		}
		// what the node says of it, to tell a gap of the node's from one of a softphone that fell silent
		t.Logf("move %d took %s: far gap %.0f ms, %d lost, switch %.0f ms, answer to media %.0f ms", i+1,
			time.Since(asked).Round(time.Millisecond), r.Far.GapMS, r.Far.Lost, r.SwitchMS, r.AnswerToMedia)
		alice[1-to].await("CALL_CLOSED", 5*time.Second)
		pause(700 * time.Millisecond)
	}
	alice[0].do("hangup", "")
	carol.do("hangup", "")
	down, controlDown := bob.await("CALL_CLOSED", 5*time.Second).at, dave.await("CALL_CLOSED", 5*time.Second).at
	for _, b := range append(alice, bob, carol, dave) {
		b.quit()
	}
	moved, control := missing(t, bob, down.Sub(up)), missing(t, dave, controlDown.Sub(controlUp))
	each := (moved - control) / moves
	t.Logf("%d moves: %s of sound missing, %s in the call beside: %s per move", moves, moved, control, each)
	if each > perMove {
		t.Errorf("%s of sound missing per move, limit %s", each, perMove)
	}
	bob.found(440, down.Sub(up)-time.Second)
	for i, b := range alice {
		if n := len(b.recordings()); n != moves/2+1-i {
			t.Errorf("alice's baresip %d has had the call %d times", i, n)
		}
		b.found(660, 300*time.Millisecond)
	}
}

// missing is the time of a call that its recording lacks: at the ends, and as silence within.
func missing(t *testing.T, b *baresip, long time.Duration) time.Duration {
	t.Helper()
	samples := b.heard()
	silent, sounding := silence(samples)
	t.Logf("baresip %d: call of %s, %s recorded, %s from first to last sound, %s silent within", b.port,
		long.Round(time.Millisecond), time.Duration(len(samples))*time.Second/rate, sounding, silent)
	return long - sounding + silent
}

// TestBaresipTransfersToItsSister moves a call by the transfer key of a real softphone.
func TestBaresipTransfersToItsSister(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.startBaresip("bob", "udp", 660)
	one, two := w.startBaresip("alice", "udp", 440), w.startBaresip("alice", "tcp", 500)
	one.dial("102")
	bob.await("CALL_ESTABLISHED", 10*time.Second)
	one.await("CALL_ESTABLISHED", 10*time.Second)
	pause(2 * time.Second)
	index := 0
	for _, d := range w.devices("alice") {
		if d.Transport == "tcp" {
			index = d.Index
		}
	}
	one.do("transfer", fmt.Sprintf("sip:101*%d%s", index, one.server))
	two.await("CALL_ESTABLISHED", 10*time.Second)
	one.await("CALL_CLOSED", 5*time.Second)
	pause(2 * time.Second)
	two.do("hangup", "")
	bob.await("CALL_CLOSED", 5*time.Second)
	for _, b := range []*baresip{bob, one, two} {
		b.quit()
	}
	bob.found(440, 1500*time.Millisecond)
	bob.found(500, 1500*time.Millisecond)
	two.found(660, 1500*time.Millisecond)
}
