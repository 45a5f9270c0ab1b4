package call_test

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/journal"
	"baton/test/phone"
)

// lonely makes a node that is alone at its address, so that nobody takes its ports while it is down; alice and bob are its users.
func lonely(t *testing.T, tune func(*config.Config)) (*rig, *phone.Phone, *phone.Phone) {
	t.Helper()
	at := addressOfOne()
	r := openRig(t, t.TempDir(), at+":0", at1(at, tune))
	r.user("alice", "101")
	r.user("bob", "102")
	return r, r.phone("alice", 1), r.phone("bob", 1)
}

// ringsLong has phones ring for longer than it takes until the record of a call is surely written.
func ringsLong(c *config.Config) { c.Call.Ring = 30 * time.Second }

// at1 has a node's audio at one address.
func at1(at string, tune func(*config.Config)) func(*config.Config) {
	return func(c *config.Config) {
		c.Media.Address = at
		if tune != nil {
			tune(c)
		}
	}
}

// addressOfOne is one on loopback that nobody else in this process, or in another one of these tests, has.
func addressOfOne() string {
	n := os.Getpid()<<10 | int(addressesOfOne.Add(1))&1023
	return fmt.Sprintf("127.%d.%d.%d", 128+n>>16&127, n>>8&255, n&255)
}

var addressesOfOne atomic.Uint32

// die ends a node as kill -9 does: nothing leaves it any more, and its calls' records are as they were.
func (r *rig) die() {
	r.b.Die(r.agent.Close)
}

// reborn kills the node and starts it anew on its store, at its address.
func (r *rig) reborn(tune func(*config.Config)) *rig {
	r.t.Helper()
	r.die()
	return r.again(tune)
}

// again starts a node that has no calls any more anew.
func (r *rig) again(tune func(*config.Config)) *rig {
	r.t.Helper()
	tls, webrtc := r.tls, r.webrtc
	r.stop()
	next := openRig(r.t, r.dir, r.server.String(), at1(r.server.Addr().String(), func(c *config.Config) {
		if c.Media.WebRTC = webrtc; tls.IsValid() {
			c.Listen.TLS = tls.String()
		}
		if tune != nil {
			tune(c)
		}
	}))
	next.pass = r.pass
	if next.webAt = r.web; r.web.IsValid() {
		next.website()
	}
	return next
}

// hears waits until both hear each other.
func (r *rig) hears(a, b *phone.Call) {
	r.t.Helper()
	if !a.Hears(b, 3*time.Second) || !b.Hears(a, 3*time.Second) {
		r.t.Fatalf("%s and %s do not hear each other", a.Phone().Config().User, b.Phone().Config().User)
	}
	time.Sleep(200 * time.Millisecond)
}

// written waits until the record of the one call is as it should be.
func (r *rig) written(what string, holds func(call.Record) bool) call.Record {
	r.t.Helper()
	var rec call.Record
	r.eventually("the record has "+what, 9*time.Second, // longer than the calls' look at their legs
		func() bool {
			stored, err := r.store.Calls()
			if err != nil || len(stored) != 1 {
				return false
			}
			rec, err = call.DecodeRecord(r.store.Secret(), stored[0].Blob)
			return err == nil && holds(rec)
		})
	return rec
}

func latchedBoth(rec call.Record) bool {
	return !slices.ContainsFunc(rec.Seats, func(s call.SeatRecord) bool {
		return len(s.Legs) == 0 || s.Legs[0].Place == nil || !s.Legs[0].Place.Source.IsValid() || s.Legs[0].State != "up"
	})
}

// goesOn checks what a phone has heard over a restart: one SSRC, numbers forward by less than 2^12, timestamps by the clock.
func goesOn(t *testing.T, who string, heard []phone.Packet) {
	t.Helper()
	if len(heard) < 2 {
		t.Fatalf("%s has heard %d packets", who, len(heard))
	}
	jumps := 0
	for i, p := range heard[1:] {
		before := heard[i]
		switch step := p.Seq - before.Seq; {
		case p.SSRC != before.SSRC:
			t.Errorf("%s: SSRC %d after %d", who, p.SSRC, before.SSRC)
		case step == 0 || step > 1<<12:
			t.Errorf("%s: number %d after %d", who, p.Seq, before.Seq)
		case step > 50:
			jumps++
			if d := offClock(heard[i+1:], p) - offClock(heard[:i+1], p); d.Abs() > 900*time.Millisecond { // a record is a second old
				t.Errorf("%s: the timestamps after the restart are off those before it by %v", who, d)
			}
		}
	}
	if jumps != 1 {
		t.Errorf("%s: %d jumps for one restart", who, jumps)
	}
}

// offClock is by how much the most punctual of some packets came later than its timestamp, reckoned from a packet's: each of them may have come
// late, and what a browser heard is stamped when the test came to read it.
func offClock(heard []phone.Packet, from phone.Packet) time.Duration {
	least := time.Duration(math.MaxInt64)
	for _, p := range heard {
		stamped := time.Duration(int32(p.TS-from.TS)) * time.Second / 8000
		least = min(least, p.At.Sub(from.At)-stamped)
	}
	return least
}

// TestRestoreTalking restarts a node with a call over UDP. Both hear each other again on the same streams without a word of SIP; then each
// side can hold, and hang up, and the log has one call with its whole length.
func TestRestoreTalking(t *testing.T) {
	t.Parallel()
	for _, ends := range []string{"caller", "callee", "operator"} {
		t.Run(ends, func(t *testing.T) {
			t.Parallel()
			r, alice, bob := lonely(t, nil)
			out, in := r.connect(alice, bob)
			before := r.written("both sources", latchedBoth)
			time.Sleep(time.Second) // the record is that old
			r = r.reborn(nil)
			since := time.Now()
			r.hears(out, in)
			for _, p := range []*phone.Phone{alice, bob} {
				for _, m := range p.Received(since) {
					if m.Method != "" {
						t.Errorf("%s was sent %s", p.Config().User, m.Line())
					}
				}
			}
			goesOn(t, "alice", out.Media().Heard())
			goesOn(t, "bob", in.Media().Heard())
			for _, c := range []*phone.Call{in, out} {
				must(t, c.Hold(phone.HoldSendonly))
				must(t, c.Resume())
			}
			r.hears(out, in)
			calls := r.b.Calls("")
			if len(calls) != 1 || calls[0].ID != before.ID || !calls[0].Started.Equal(before.Started) || calls[0].Up == nil || !calls[0].Up.Equal(before.Up) {
				t.Errorf("calls: %+v, was %s up %v", calls, before.ID, before.Up)
			}
			switch ends {
			case "caller":
				must(t, out.Hangup())
			case "callee":
				must(t, in.Hangup())
			default:
				must(t, r.b.End(t.Context(), before.ID, "test"))
			}
			must(t, out.AwaitEnd(3*time.Second))
			must(t, in.AwaitEnd(3*time.Second))
			r.nothingLeft()
			ended := r.entries(journal.CallEnded)
			if len(ended) != 1 || ended[0].Duration < time.Since(before.Up)-3*time.Second || ended[0].Call != before.ID || strings.Contains(ended[0].Text, "killed") {
				t.Errorf("the log: %+v", ended)
			}
			if ends == "operator" {
				above(t, alice, since)
				above(t, bob, since)
			}
		})
	}
}

// above checks that what baton has sent a phone in its dialogs since the restart has CSeqs of the next epoch.
func above(t *testing.T, p *phone.Phone, since time.Time) {
	t.Helper()
	n := 0
	for _, m := range p.Received(since) {
		if m.Method == "BYE" || m.Method == "INVITE" || m.Method == "UPDATE" {
			n++
			if seq, _ := m.CSeq(); seq <= 100_000 {
				t.Errorf("%s was sent %s with CSeq %d after the restart", p.Config().User, m.Method, seq)
			}
		}
	}
	if n == 0 {
		t.Errorf("%s was sent nothing", p.Config().User)
	}
}

// TestRestoreKinds restarts a node with a call to a phone whose connection dies with it. The sound goes on at once, before the phone is back, that of
// browsers too; its dialog, when it has registered over another connection.
func TestRestoreKinds(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		name, transport, srtp string
	}{
		{"rtp over tcp", "tcp", phone.Plain},
		{"sdes over tls", "tls", phone.OSRTP},
		{"savp over tls", "tls", phone.SAVP},
		{"dtls over wss", "wss", phone.DTLS},
	} {
		for _, calls := range []string{"it calls", "it is called"} {
			t.Run(k.name+", "+calls, func(t *testing.T) {
				t.Parallel()
				r, alice, _ := lonely(t, listensTLS)
				bob := r.phone("bob", 2, r.over(k.transport), func(c *phone.Config) {
					if c.SRTP = k.srtp; k.transport == "tcp" {
						c.Server = r.tcp
					}
				})
				from, to := alice, bob
				if calls == "it calls" {
					from, to = bob, alice
				}
				var out, in *phone.Call
				if from == alice {
					to.Behave(phone.AutoAnswer)
					out = mustDial(t, from, "102*2")
					got, err := to.Ringing(5 * time.Second)
					must(t, err)
					in = got
					must(t, out.Await(5*time.Second))
				} else {
					out, in = r.connect(from, to)
				}
				r.hears(out, in)
				r.written("both sources", latchedBoth) // a browser's leg has no place without its keys
				if blob, err := r.store.Calls(); err != nil || len(blob) != 1 || len(blob[0].Blob) > 3<<10 {
					t.Errorf("the record has %d octets, %v", len(blob[0].Blob), err)
				} else {
					t.Logf("the record has %d octets", len(blob[0].Blob))
				}
				r = r.reborn(nil)
				a, b := out, in // alice's and bob's
				if from == bob {
					a, b = in, out
				}
				r.hears(a, b)
				goesOn(t, "alice", a.Media().Heard())
				if k.srtp == phone.DTLS { // one that is told of no other SSRC
					goesOn(t, "bob", b.Media().Heard())
				}
				since := time.Now()
				must(t, bob.Relocate(phone.Relocation{}))
				_, err := bob.Register(10 * time.Minute)
				must(t, err)
				r.eventually("bob is told of the sound once more", 3*time.Second, func() bool {
					return slices.ContainsFunc(bob.Received(since), func(m phone.Logged) bool { return m.Method == "INVITE" })
				})
				above(t, bob, since)
				r.hears(a, b)
				must(t, b.Hold(phone.HoldSendonly))
				must(t, b.Resume())
				r.hears(a, b)
				if n := b.Media().Forged(); n > 0 {
					t.Errorf("bob could not open %d packets", n)
				}
				if k.srtp != phone.Plain && b.Media().Secure() == "" {
					t.Error("the sound is in the clear")
				}
				must(t, a.Hangup())
				must(t, b.AwaitEnd(3*time.Second))
				r.nothingLeft()
			})
		}
	}
}

// TestRestoreWatched: a call that was taken up is watched as before: a device that is cut off then is lost in seconds.
func TestRestoreWatched(t *testing.T) {
	t.Parallel()
	quiet := func(c *config.Config) { c.Call.Announce, c.Call.Vanished = false, time.Minute }
	r, alice, bob := lonely(t, quiet)
	out, in := r.connect(alice, bob)
	r.written("both sources", latchedBoth)
	r = r.reborn(quiet)
	r.hears(out, in)
	lost := func() bool { return r.b.Calls("alice")[0].Seats[0].Lost }
	for range 5 { // a busy machine makes pauses in her sound: then she is not missed, and it goes on
		alice.Unplug(false)
		time.Sleep(1200 * time.Millisecond) // until it has gone on for a second
		alice.Unplug(true)
		for end := time.Now().Add(4 * time.Second); !lost() && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
		}
		if lost() {
			break
		}
	}
	if !lost() {
		t.Error("a device that is cut off is not missed")
	}
	alice.Unplug(false)
	r.hears(out, in)
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestRestoreSession: the time in which a phone was to refresh its session was over while the node was down: it has another.
func TestRestoreSession(t *testing.T) {
	t.Parallel()
	often := func(c *config.Config) { c.Call.HoldPing = 3 * time.Second }
	r, alice, bob := lonely(t, often)
	out, in := r.connect(alice, bob)
	r.written("both sources", latchedBoth)
	stored, err := r.store.Calls()
	must(t, err)
	r.die()
	plain := recordText(t, stored[0])
	blob := strings.ReplaceAll(plain, `"session":{}`, `"session":{"interval":120000000000,"from":"2020-01-01T00:00:00Z"}`)
	if blob == plain {
		t.Fatal("the record looks otherwise")
	}
	done := make(chan error, 1)
	r.store.Put(call.Stored{ID: stored[0].ID, Epoch: stored[0].Epoch, Version: stored[0].Version + 1, Owner: stored[0].Owner, Blob: []byte(blob)}, func(err error) { done <- err })
	must(t, <-done)
	r = r.again(often)
	r.hears(out, in)
	time.Sleep(2500 * time.Millisecond) // two looks at the legs
	r.hears(out, in)
	if n := len(r.entries(journal.CallLost)); n > 0 {
		t.Errorf("a phone was taken for lost %d times", n)
	}
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestRestoreLostTaken kills a node when another device has just answered to take the seat of a lost one: it has the seat, nobody is waited for
// any more, and the lost one is hung up.
func TestRestoreLostTaken(t *testing.T) {
	t.Parallel()
	soon := func(c *config.Config) {
		c.Call.Wait, c.Call.Announce = 6*time.Second, false
		noticed(c)
	}
	r, alice, bob := lonely(t, soon)
	desk := r.phone("alice", 2)
	desk.Behave(phone.Behaviour{})
	out, in := r.connect(alice, bob)
	r.written("both sources", latchedBoth)
	time.Sleep(1200 * time.Millisecond)
	alice.Unplug(true)
	r.written("a lost seat", func(rec call.Record) bool { return rec.Seats[0].Lost })
	lost := time.Now()
	r.moveTo("2")
	ring, err := desk.Ringing(3 * time.Second)
	must(t, err)
	ring.Media().Mute(true) // or it would have the seat at once
	must(t, ring.Answer())
	r.written("both devices", func(rec call.Record) bool {
		legs := rec.Seats[0].Legs
		return len(legs) == 2 && slices.ContainsFunc(legs, func(l call.LegRecord) bool { return l.State == "lost" }) &&
			slices.ContainsFunc(legs, func(l call.LegRecord) bool { return l.State == "up" || l.State == "answered" })
	})
	r = r.reborn(soon)
	ring.Media().Mute(false)
	r.hears(ring, in)
	if s := r.b.Calls("alice")[0].Seats[0]; s.Lost || s.Empty || s.Legs[0].Index != 2 {
		t.Errorf("after the restart the seat is %+v", s)
	}
	alice.Unplug(false)
	must(t, out.AwaitEnd(5*time.Second))
	time.Sleep(time.Until(lost.Add(7 * time.Second)))
	r.hears(ring, in)
	must(t, ring.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestRestoreLostElsewhere: while the node was down somebody has taken the port of a device that was lost. It is told of the new one when it is
// back, and of nothing before the store has the epoch that this is said under.
func TestRestoreLostElsewhere(t *testing.T) {
	t.Parallel()
	r, alice, bob := lonely(t, noticed)
	out, in := r.connect(alice, bob)
	r.written("both sources", latchedBoth)
	time.Sleep(1200 * time.Millisecond)
	alice.Unplug(true)
	rec := r.written("a lost seat", func(rec call.Record) bool { return rec.Seats[0].Lost && rec.Seats[0].Legs[0].Place != nil })
	r.die()
	r.stop()
	taken, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.server.Addr(), rec.Seats[0].Legs[0].Place.Port)))
	must(t, err)
	defer taken.Close()
	alice.Unplug(false)
	out.Media().Mute(true)
	since := time.Now()
	const late = 40 * time.Millisecond
	storeDelays.Store(r.dir, late)
	r = r.again(nil)
	r.eventually("alice is told", 3*time.Second, func() bool { return len(methods(alice.Received(since), "INVITE")) > 0 })
	told := methods(alice.Received(since), "INVITE")[0].At
	if first := r.faults.first(); told.Sub(first) < late*3/4 {
		t.Errorf("alice was sent an INVITE %v after the first write was begun, which took %v", told.Sub(first), late)
	}
	out.Media().Mute(false)
	r.hears(out, in)
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestRestoreAbsence restarts a node while a call waits for one who has left it: he is waited for until the same moment, and comes back.
func TestRestoreAbsence(t *testing.T) {
	t.Parallel()
	const wait = 4 * time.Second
	soon := func(c *config.Config) { c.Call.Wait, c.Call.Announce = wait, false }
	for _, comes := range []bool{true, false} {
		t.Run(fmt.Sprintf("he comes back %v", comes), func(t *testing.T) {
			t.Parallel()
			r, alice, bob := lonely(t, soon)
			desk := r.phone("alice", 2)
			out, in := r.connect(alice, bob)
			r.written("both sources", latchedBoth)
			must(t, r.b.Leave(t.Context(), call.MoveRequest{User: "alice", How: "api", Who: "test"}))
			left := time.Now()
			must(t, out.AwaitEnd(2*time.Second))
			if !in.HearsTone(2 * time.Second) {
				t.Error("bob hears nothing while he waits")
			}
			if !comes {
				time.Sleep(2 * time.Second)
			}
			r = r.reborn(soon)
			if !in.HearsTone(2 * time.Second) {
				t.Error("bob hears nothing after the restart")
			}
			if !comes {
				must(t, in.AwaitEnd(wait))
				if waited := time.Since(left); waited < wait-100*time.Millisecond || waited > wait+1500*time.Millisecond {
					t.Errorf("he was waited for %v", waited)
				}
				r.nothingLeft()
				return
			}
			again := mustDial(t, desk, "*40")
			must(t, again.Await(3*time.Second))
			r.hears(again, in)
			goesOn(t, "bob", in.Media().Heard())
			must(t, again.Hangup())
			must(t, in.AwaitEnd(3*time.Second))
			r.nothingLeft()
		})
	}
}

// TestRestoreLost restarts a node while a call waits for a device that was cut off: it comes back with its dialog, or another takes the seat.
func TestRestoreLost(t *testing.T) {
	t.Parallel()
	for _, itself := range []bool{true, false} {
		t.Run(fmt.Sprintf("by itself %v", itself), func(t *testing.T) {
			t.Parallel()
			quiet := func(c *config.Config) {
				c.Call.Announce = false
				noticed(c)
			}
			r, alice, bob := lonely(t, quiet)
			desk := r.phone("alice", 2)
			out, in := r.connect(alice, bob)
			r.written("both sources", latchedBoth)
			time.Sleep(1200 * time.Millisecond) // until its sound has gone on for a second
			alice.Unplug(true)
			r.written("a lost seat", func(rec call.Record) bool { return rec.Seats[0].Lost })
			r = r.reborn(quiet)
			if !in.HearsTone(2 * time.Second) {
				t.Error("bob hears nothing after the restart")
			}
			if s := r.b.Calls("alice")[0].Seats[0]; !s.Empty || !s.Lost {
				t.Errorf("after the restart the seat is %+v", s)
			}
			back := out
			if itself {
				alice.Unplug(false)
			} else {
				back = mustDial(t, desk, "*40")
				must(t, back.Await(3*time.Second))
			}
			r.hears(back, in)
			goesOn(t, "bob", in.Media().Heard())
			must(t, back.Hangup())
			must(t, in.AwaitEnd(3*time.Second))
			r.nothingLeft()
		})
	}
}

// TestRestoreMidMove restarts a node while a call is being moved: who held the seat goes on, the device that rang rings no more, one that has
// answered meanwhile is hung up.
func TestRestoreMidMove(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"it rings", "it is answered while nobody is there", "a transfer rings"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r, alice, bob := lonely(t, ringsLong)
			desk := r.phone("alice", 2)
			if what == "a transfer rings" {
				r.user("carol", "103")
				desk = r.phone("carol", 1)
			}
			desk.Behave(phone.Behaviour{})
			out, in := r.connect(alice, bob)
			var ref *phone.Referral
			if what == "a transfer rings" {
				var err error
				ref, err = out.Refer("103")
				must(t, err)
			} else {
				r.moveTo("2")
			}
			ring, err := desk.Ringing(3 * time.Second)
			must(t, err)
			rec := r.written("both sources and the INVITE", func(rec call.Record) bool {
				return latchedBoth(call.Record{Seats: rec.Seats[:2]}) && slices.ContainsFunc(rec.Seats, func(s call.SeatRecord) bool {
					return slices.ContainsFunc(s.Legs, func(l call.LegRecord) bool { return l.State == "ringing" && l.Invite != nil })
				})
			})
			if what == "it is answered while nobody is there" {
				r.die()
				r.stop()
				_ = ring.Answer()
				r = r.again(nil)
			} else {
				r = r.reborn(nil)
			}
			must(t, ring.AwaitEnd(3*time.Second))
			r.hears(out, in)
			if ref != nil {
				if code, err := ref.Wait(3 * time.Second); err != nil || code != 503 {
					t.Errorf("the phone was told %d of its transfer, %v", code, err)
				}
			}
			goesOn(t, "bob", in.Media().Heard())
			calls := r.b.Calls("")
			if len(calls) != 1 || len(calls[0].Seats) != 2 || len(calls[0].Seats[0].Legs) != 1 || calls[0].ID != rec.ID {
				t.Errorf("calls: %+v", calls)
			}
			desk.Behave(phone.AutoAnswer) // and the next move goes well
			if ref == nil {
				r.moved(r.moveTo("2"))
				must(t, out.AwaitEnd(3*time.Second))
				must(t, in.Hangup())
			} else {
				must(t, out.Hangup())
				must(t, in.AwaitEnd(3*time.Second))
			}
			r.nothingLeft()
		})
	}
}

// TestRestoreSetup restarts a node while a phone rings: it rings no more, and the log has the end of the call.
func TestRestoreSetup(t *testing.T) {
	t.Parallel()
	r, alice, bob := lonely(t, ringsLong)
	bob.Behave(phone.Behaviour{})
	out := mustDial(t, alice, "102")
	in, err := bob.Ringing(3 * time.Second)
	must(t, err)
	r.written("the INVITE", func(rec call.Record) bool {
		return len(rec.Seats) == 2 && len(rec.Seats[1].Legs) == 1 && rec.Seats[1].Legs[0].State == "ringing" && rec.Seats[1].Legs[0].Invite != nil
	})
	r = r.reborn(nil)
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
	ended := r.entries(journal.CallEnded)
	if len(ended) != 1 || ended[0].Duration != 0 || !strings.Contains(ended[0].Text, "restarted before it was answered") {
		t.Errorf("the log: %+v", ended)
	}
	out.Vanish() // its INVITE went down with the node: nobody answers it any more
}

// TestRestoreEnding restarts a node that has a BYE under way to a phone that is changing its network: it is sent when the phone is back.
func TestRestoreEnding(t *testing.T) {
	t.Parallel()
	r, alice, _ := lonely(t, nil)
	bob := r.phone("bob", 2, overTCP(r))
	bob.Behave(phone.AutoAnswer)
	out := mustDial(t, alice, "102*2")
	in, err := bob.Ringing(3 * time.Second)
	must(t, err)
	must(t, out.Await(3*time.Second))
	must(t, bob.Relocate(phone.Relocation{Abrupt: true}))
	must(t, out.Hangup())
	r.written("the BYE", func(rec call.Record) bool { return rec.State == call.StateEnding && len(rec.Closing) == 1 })
	r = r.reborn(nil)
	_, err = bob.Register(10 * time.Minute)
	must(t, err)
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
	ended := r.entries(journal.CallEnded)
	if len(ended) != 1 || !strings.Contains(ended[0].Text, "ended by alice") {
		t.Errorf("the log: %+v", ended)
	}
}

// TestRestoreCompanion restarts a node with a device that listens to a call: it does again.
func TestRestoreCompanion(t *testing.T) {
	t.Parallel()
	r, alice, bob := lonely(t, nil)
	desk := r.phone("alice", 2)
	out, in := r.connect(alice, bob)
	third := r.beside("code", desk)
	r.written("three legs", func(rec call.Record) bool {
		return latchedBoth(rec) && len(rec.Seats[0].Legs) == 2 && rec.Seats[0].Legs[1].Listens && rec.Seats[0].Legs[1].State == "up"
	})
	r = r.reborn(nil)
	r.hears(out, in)
	if !hearsMix(third, out, in) {
		t.Error("the third device does not hear both")
	}
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	must(t, third.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestKeepForRestart stops a node as SIGTERM does: what talks is kept without a word to its phones, new calls get 503 and what rings ends.
func TestKeepForRestart(t *testing.T) {
	t.Parallel()
	r, alice, bob := lonely(t, nil)
	r.user("carol", "103")
	carol, dave := r.phone("carol", 1), r.phone("bob", 2)
	dave.Behave(phone.Behaviour{})
	bob.Behave(phone.AutoAnswer)
	out := mustDial(t, alice, "102*1")
	in, err := bob.Ringing(3 * time.Second)
	must(t, err)
	must(t, out.Await(3*time.Second))
	r.hears(out, in)
	waiting := mustDial(t, carol, "102*2")
	ring, err := dave.Ringing(3 * time.Second)
	must(t, err)
	since := time.Now()
	r.b.Keep()
	r.drain()
	if took := time.Since(since); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	must(t, waiting.AwaitEnd(3*time.Second))
	must(t, ring.AwaitEnd(3*time.Second))
	late := mustDial(t, carol, "102*2")
	must(t, late.AwaitEnd(3*time.Second))
	if res := late.Final(); res == nil || res.Code != 503 {
		t.Errorf("a new call got %v", res)
	}
	r = r.again(nil)
	r.hears(out, in)
	for _, p := range []*phone.Phone{alice, bob} {
		for _, m := range p.Received(since) {
			if m.Method != "" {
				t.Errorf("%s was sent %s", p.Config().User, m.Line())
			}
		}
	}
	goesOn(t, "alice", out.Media().Heard())
	if n := len(r.entries(journal.CallEnded)); n != 1 {
		t.Errorf("%d calls ended in the log, one was refused", n)
	}
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestNotRestored: a record of before there was a restart, one that is too old, and one that cannot be read end in the log or are gone.
func TestNotRestored(t *testing.T) {
	t.Parallel()
	r, alice, bob := lonely(t, nil)
	out, in := r.connect(alice, bob)
	rec := r.written("both sources", latchedBoth)
	stored, err := r.store.Calls()
	must(t, err)
	r.die()
	plain := recordText(t, stored[0])
	old := strings.Replace(plain, `"form":1,`, "", 1)
	aged := strings.Replace(plain, rec.Saved.Format(time.RFC3339Nano), rec.Saved.Add(-time.Hour).Format(time.RFC3339Nano), 1)
	if old == plain || aged == plain {
		t.Fatal("the record looks otherwise")
	}
	done := make(chan error, 3)
	for id, blob := range map[string]string{rec.ID: old, "aged": aged, "torn": "{"} {
		r.store.Put(call.Stored{ID: id, Epoch: 9, Version: 1, Blob: []byte(blob)}, func(err error) { done <- err })
	}
	for range 3 {
		must(t, <-done)
	}
	r = r.again(nil)
	r.nothingLeft()
	ended := r.entries(journal.CallEnded)
	if len(ended) != 2 || ended[0].Text != "the node was killed" || ended[0].Time.Sub(rec.Saved).Abs() > time.Hour+time.Second {
		t.Errorf("the log: %+v", ended)
	}
	out.Vanish()
	in.Vanish()
}

// TestRestoreJustAnswered kills a node in the moment of the answer, when the record has no more than that: the call goes on.
func TestRestoreJustAnswered(t *testing.T) {
	t.Parallel()
	r, alice, bob := lonely(t, nil)
	bob.Behave(phone.AutoAnswer)
	out := mustDial(t, alice, "102")
	in, err := bob.Ringing(3 * time.Second)
	must(t, err)
	must(t, out.Await(3*time.Second))
	r = r.reborn(nil)
	r.hears(out, in)
	for who, c := range map[string]*phone.Call{"alice": out, "bob": in} {
		heard := c.Media().Heard()
		for i, p := range heard[1:] {
			if before := heard[i]; p.SSRC != before.SSRC || int16(p.Seq-before.Seq) <= 0 || int32(p.TS-before.TS) <= 0 {
				t.Errorf("%s: %d %d %d after %d %d %d", who, p.SSRC, p.Seq, p.TS, before.SSRC, before.Seq, before.TS)
			}
		}
	}
	must(t, in.Hangup())
	must(t, out.AwaitEnd(3*time.Second))
	r.nothingLeft()
}
