package e2e

import (
	"fmt"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
	"baton/test/wire"
)

// sippCalls has alice's sipp call bob's phone, and waits until bob hears what he says come back from it.
func (w *world) sippCalls(bob *phone.Phone, s scenario) (*sippRun, *phone.Call, time.Time) {
	w.t.Helper()
	bob.Behave(phone.AutoAnswer)
	s.user, s.to = "alice", "bob"
	r := w.sipp(s, w.sippPort())
	far := w.ringing(bob)
	w.echoed(far)
	w.must(far.AwaitACK(5 * time.Second))
	return r, far, time.Now()
}

// lenient has sipp let a message pass that comes while it is about to send one: it is repeated.
var lenient = []string{"-default_behaviors", "all,-abortunexp"}

// TestSippTransfers has phones transfer in all the ways that phones differ in: with and without a hold before, which may not be
// answered yet; hanging up at the 202, when they know the outcome, or never.
func TestSippTransfers(t *testing.T) {
	w := newWorld(t)
	bob, desk, carol := w.phone("bob", "far"), w.phone("alice", "desk"), w.phone("carol", "third")
	path, err := wire.New(wire.Config{
		Phone: node.IP(20), UDP: w.UDP, TCP: w.TCP, Down: wire.Ways{SIP: wire.Way{Delay: 30 * time.Millisecond}}, Seed: 1,
	})
	w.must(err)
	t.Cleanup(path.Close)
	byHand := phone.Behaviour{Answer: true, After: 300 * time.Millisecond}
	for _, c := range []struct {
		name  string
		refer string
		hold  bool
		bye   string // "" = the scenario with hold and REFER back to back
		taker *phone.Phone
		taken phone.Behaviour
	}{
		{"own number", "101", false, "NOTIFY", desk, byHand},
		{"one device, hold first", fmt.Sprintf("101*%d", w.deviceOf(desk).Index), true, "NOTIFY", desk, phone.AutoAnswer},
		{"hold and transfer back to back", "*41", true, "", desk, byHand},
		{"BYE at the 202", "101", false, "202", desk, phone.Behaviour{Answer: true, After: time.Second}},
		{"never a BYE", "101", false, "never", desk, phone.AutoAnswer},
		{"another user", "103", true, "NOTIFY", carol, byHand},
		{"another user, back to back", "103", true, "", carol, byHand},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{Node: w.Node, t: t}
			s := scenario{file: "uac_refer.xml", say: map[string]any{"Refer": c.refer, "Hold": c.hold, "Bye": c.bye, "Told": 200, "Talk": 500}, args: lenient}
			if c.bye == "" {
				s.file, s.path = "uac_hold_refer.xml", path
			}
			c.taker.Behave(c.taken)
			r, far, since := w.sippCalls(bob, s)
			leg := w.ringing(c.taker)
			w.must(leg.Await(5 * time.Second))
			w.talk(leg, far)
			r.wait()
			pause(300 * time.Millisecond)
			w.whole(far, since, 500*time.Millisecond, 100*time.Millisecond) // sipp sends when it is given the time to
			w.must(far.Hangup())
			w.ended(leg)
		})
	}
}

// TestSippTransfersInVain is told why a transfer came to nothing, and still has the call.
func TestSippTransfersInVain(t *testing.T) {
	w := newWorld(t)
	bob, carol := w.phone("bob", "far"), w.phone("carol", "third")
	carol.Behave(phone.Behaviour{Reject: 486, After: 200 * time.Millisecond})
	r, far, since := w.sippCalls(bob, scenario{file: "uac_refer.xml", say: map[string]any{
		"Refer": "103", "Hold": false, "Bye": "NOTIFY", "Told": 486, "Talk": 500,
	}, args: lenient})
	w.ended(w.ringing(carol))
	r.wait()
	w.ended(far)
	if why, last := far.Why(); why != "remote" || last.Method != "BYE" {
		t.Errorf("bob's call ended by %s (%s)", why, line(last))
	}
	if heard := phone.Between(far.Media().Heard(), since, time.Now()); len(heard) < 20 {
		t.Errorf("bob heard %d packets since the call was up", len(heard))
	}
}

// TestSippIsMovedTo moves a call to sipp, which answers by itself where it is asked to and only there.
func TestSippIsMovedTo(t *testing.T) {
	w := newWorld(t)
	bob, desk := w.phone("bob", "far"), w.phone("alice", "desk")
	port := w.sippPort()
	w.sippPhone("alice", false, port)
	index := 0
	for _, d := range w.devices("alice") {
		if d.Here && d.Index != w.deviceOf(desk).Index {
			index = d.Index
		}
	}
	for _, c := range []struct{ name, file string }{{"one named device", "uas_ringless.xml"}, {"all others", "uas_rung.xml"}} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{Node: w.Node, t: t}
			leg, far := w.connect(desk, "bob", bob)
			since := time.Now()
			r := w.sipp(scenario{file: c.file, user: "alice", say: map[string]any{"From": "102"}}, port).up(port)
			if c.file == "uas_ringless.xml" {
				var told report
				w.must(w.JSON(&told, "move", "--user", "alice", fmt.Sprint(index), "--json"))
				t.Logf("switch %.0f ms, ringing %.0f ms, far gap %.0f ms", told.SwitchMS, told.RingMS, told.Far.GapMS)
				if told.SwitchMS > 300 {
					t.Errorf("figures: %+v", told)
				}
			} else {
				sub, err := leg.Refer("101")
				w.must(err)
				if code, err := sub.Wait(5 * time.Second); code != 200 {
					t.Errorf("transfer to all others: %d, %v", code, err)
				}
			}
			w.ended(leg)
			w.echoed(far)
			pause(300 * time.Millisecond)
			w.whole(far, since, 500*time.Millisecond, 100*time.Millisecond) // sipp sends when it is given the time to
			w.must(far.Hangup())
			r.wait()
		})
	}
}

// TestSippDialsItsOwnNumber is a BLF key that simply dials the extension that it watches: one's own brings the call here.
func TestSippDialsItsOwnNumber(t *testing.T) {
	w := newWorld(t)
	bob, desk := w.phone("bob", "far"), w.phone("alice", "desk")
	leg, far := w.connect(desk, "bob", bob)
	since := time.Now()
	port := w.sippPort()
	w.sippPhone("alice", false, port)
	r := w.sipp(scenario{file: "uac.xml", user: "alice", to: "101", say: map[string]any{"Offer": "sendrecv", "Talk": 1500}}, port)
	w.ended(leg)
	w.echoed(far)
	pause(300 * time.Millisecond)
	w.whole(far, since, 500*time.Millisecond, 100*time.Millisecond) // sipp sends when it is given the time to
	r.wait()
	w.ended(far)
}

// TestSippGlare has re-INVITEs cross: sipp's and the node's, each refused with 491 and sent again.
func TestSippGlare(t *testing.T) {
	w := newWorld(t)
	bob := w.phone("bob", "far", with(phone.PCMU))
	port := w.sippPort()
	w.sippPhone("alice", false, port)
	r := w.sipp(scenario{file: "uas_glare.xml", user: "alice"}, port).up(port)
	out := w.dial(bob, "alice", phone.DialOptions{NoSDP: true}) // so the node learns too late that bob has no PCMA
	w.must(out.Await(5 * time.Second))
	w.echoed(out)
	since := time.Now()
	w.must(out.AwaitEnd(15 * time.Second)) // the node waits 2.1 to 4 s after a 491; sipp hangs up when it has come again
	r.wait()
	heard := phone.Analyse(out.Media().Heard(), 8000)
	if got := len(phone.Between(out.Media().Heard(), since, time.Now())); heard.Missing > 0 || len(heard.SSRCs) != 1 || got < 100 {
		t.Errorf("bob heard %s, %d packets of them while the re-INVITEs crossed", heard, got)
	}
	for _, m := range bob.Received(since) {
		if m.Method != "BYE" && m.Method != "OPTIONS" {
			t.Errorf("bob's phone was sent %s", m.Line())
		}
	}
}
