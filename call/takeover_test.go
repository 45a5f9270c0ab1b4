package call_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/journal"
	"baton/test/phone"
)

// another opens another node on the store of this one, at an address of its own.
func (r *rig) another(name string, tune func(*config.Config)) *rig {
	r.t.Helper()
	at := addressOfOne()
	next := openNode(r.t, r, name, r.dir, at+":0", at1(at, tune))
	next.pass = r.pass
	return next
}

// claims has a node claim all calls of another and go on with them.
func (r *rig) claims(dead *rig) {
	r.t.Helper()
	stored, err := dead.store.Calls()
	must(r.t, err)
	var mine []call.Stored
	for _, s := range stored {
		if s.Owner != dead.name {
			continue
		}
		c, err := r.store.Claim(s.ID, s.Epoch, r.name)
		must(r.t, err)
		mine = append(mine, c)
	}
	if n := r.b.TakeOver(dead.name, mine...); n != len(mine) {
		r.t.Errorf("%d of %d calls are taken over", n, len(mine))
	}
}

// from lists the addresses that a phone's sound has come from since then.
func from(c *phone.Call, since time.Time) (all []string) {
	for _, p := range c.Media().Heard() {
		if at := p.From.Addr().String(); p.At.After(since) && !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	return all
}

// versions are the o= versions of the SDP that a phone was sent, in order.
func versions(t *testing.T, p *phone.Phone) (all []string) {
	t.Helper()
	for _, m := range p.Received(time.Time{}) {
		for _, line := range strings.Split(string(m.Body), "\r\n") {
			if f := strings.Fields(line); strings.HasPrefix(line, "o=") && len(f) > 2 {
				all = append(all, f[1]+" "+f[2])
			}
		}
	}
	return all
}

// TestTakeOverTalking kills a node with a call over UDP that another goes on with, at another address: both hear each other again, from there
// alone; each side can hold, and hang up, and the log has one call with its whole length.
func TestTakeOverTalking(t *testing.T) {
	t.Parallel()
	for _, ends := range []string{"caller", "callee", "operator"} {
		t.Run(ends, func(t *testing.T) {
			t.Parallel()
			r, alice, bob := lonely(t, nil)
			b := r.another("b", nil)
			out, in := r.connect(alice, bob)
			before := r.written("both sources", latchedBoth)
			r.die()
			since := time.Now()
			b.claims(r)
			b.hears(out, in)
			settled := time.Now()
			b.hears(out, in)
			here := b.server.Addr().String()
			for _, c := range []*phone.Call{out, in} {
				p := c.Phone()
				if at := from(c, settled); len(at) != 1 || at[0] != here {
					t.Errorf("%s hears %v, not %s alone", p.Config().User, at, here)
				}
				told := slices.DeleteFunc(p.Received(since), func(m phone.Logged) bool { return m.Method != "INVITE" })
				if len(told) != 1 || !strings.Contains(told[0].Get("Contact"), b.server.String()) || !strings.Contains(string(told[0].Body), "c=IN IP4 "+here) {
					t.Errorf("%s was told %v", p.Config().User, told)
				}
				v := versions(t, p)
				if was, now := strings.Fields(v[len(v)-2]), strings.Fields(v[len(v)-1]); was[0] != now[0] || was[1] != "1" || now[1] != "2" {
					t.Errorf("%s was sent o= with %v", p.Config().User, v)
				}
				above(t, p, since)
				heard := c.Media().Heard()
				if heard[0].SSRC == heard[len(heard)-1].SSRC {
					t.Errorf("%s hears the SSRC of the dead node", p.Config().User)
				}
			}
			for _, c := range []*phone.Call{in, out} {
				must(t, c.Hold(phone.HoldSendonly))
				must(t, c.Resume())
			}
			b.hears(out, in)
			calls := b.b.Calls("")
			if len(calls) != 1 || calls[0].ID != before.ID || !calls[0].Started.Equal(before.Started) || calls[0].Up == nil || !calls[0].Up.Equal(before.Up) {
				t.Errorf("calls: %+v, was %s up %v", calls, before.ID, before.Up)
			}
			if rec := b.written("its owner's epoch", func(rec call.Record) bool { return rec.Epoch == before.Epoch+1 && latchedBoth(rec) }); rec.Epoch != before.Epoch+1 {
				t.Errorf("epoch %d after %d", rec.Epoch, before.Epoch)
			}
			switch ends {
			case "caller":
				must(t, out.Hangup())
			case "callee":
				must(t, in.Hangup())
			default:
				must(t, b.b.End(t.Context(), before.ID, "test"))
			}
			must(t, out.AwaitEnd(3*time.Second))
			must(t, in.AwaitEnd(3*time.Second))
			b.nothingLeft()
			ended := b.entries(journal.CallEnded)
			if len(ended) != 1 || ended[0].Duration < time.Since(before.Up)-3*time.Second || ended[0].Call != before.ID || strings.Contains(ended[0].Text, "lost") {
				t.Errorf("the log: %+v", ended)
			}
		})
	}
}

// TestTakeOverKinds kills a node with a call to a phone whose connection dies with it. The other side hears the tone until it has registered at
// the other node; then both hear each other, with new keys.
func TestTakeOverKinds(t *testing.T) {
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
				b := r.another("b", listensTLS)
				bob := r.phone("bob", 2, r.over(k.transport), func(c *phone.Config) {
					if c.SRTP = k.srtp; k.transport == "tcp" {
						c.Server = r.tcp
					}
				})
				var out, in *phone.Call // alice's and bob's
				if calls == "it is called" {
					bob.Behave(phone.AutoAnswer)
					out = mustDial(t, alice, "102*2")
					got, err := bob.Ringing(5 * time.Second)
					must(t, err)
					in = got
					must(t, out.Await(5*time.Second))
				} else {
					in, out = r.connect(bob, alice)
				}
				r.hears(out, in)
				r.written("the legs as they are", func(rec call.Record) bool {
					return rec.State == call.StateUp && len(rec.Seats[0].Legs) == 1 && rec.Seats[0].Legs[0].State == "up" && rec.Seats[1].Legs[0].State == "up"
				})
				r.die()
				b.claims(r)
				if !out.HearsTone(3 * time.Second) {
					t.Error("alice hears nothing while bob's phone is away")
				}
				to := map[string]phone.Relocation{"tcp": {Server: b.tcp}, "tls": {Server: b.tls}, "wss": {}}[k.transport]
				if k.transport == "wss" {
					to.Server = b.website()
				}
				since := time.Now()
				must(t, bob.Relocate(to))
				_, err := bob.Register(10 * time.Minute)
				must(t, err)
				b.hears(out, in)
				above(t, bob, since)
				must(t, in.Hold(phone.HoldSendonly))
				must(t, in.Resume())
				b.hears(out, in)
				if k.srtp == phone.OSRTP || k.srtp == phone.SAVP {
					was, now := ourKeys(bob, time.Time{}, since), ourKeys(bob, since, time.Now())
					if len(was) == 0 || len(now) == 0 || slices.ContainsFunc(now, func(key string) bool { return slices.Contains(was, key) }) {
						t.Errorf("the dead node sent with the keys %v, this one with %v", was, now)
					}
				}
				if k.srtp != phone.Plain && in.Media().Secure() == "" {
					t.Error("the sound is in the clear")
				}
				must(t, out.Hangup())
				must(t, in.AwaitEnd(3*time.Second))
				b.nothingLeft()
				if n := len(b.entries(journal.CallLost)); n != 1 {
					t.Errorf("%d losses in the log", n)
				}
			})
		}
	}
}

// ourKeys are the keys that a phone was told of between two moments.
func ourKeys(p *phone.Phone, since, until time.Time) (all []string) {
	for _, m := range p.Received(since) {
		for _, line := range strings.Split(string(m.Body), "\r\n") {
			if _, key, ok := strings.Cut(line, "inline:"); ok && m.At.Before(until) {
				all = append(all, key)
			}
		}
	}
	return all
}

// TestTakeOverMidMove takes a call over while it is being moved: who held the seat goes on, and what rang rings no more.
func TestTakeOverMidMove(t *testing.T) {
	t.Parallel()
	for _, transfer := range []bool{false, true} {
		t.Run(map[bool]string{false: "a move", true: "a transfer"}[transfer], func(t *testing.T) {
			t.Parallel()
			r, alice, bob := lonely(t, ringsLong)
			desk := r.phone("alice", 2)
			if transfer {
				r.user("carol", "103")
				desk = r.phone("carol", 1)
			}
			b := r.another("b", nil)
			desk.Behave(phone.Behaviour{})
			out, in := r.connect(alice, bob)
			var ref *phone.Referral
			if transfer {
				var err error
				ref, err = out.Refer("103")
				must(t, err)
			} else {
				r.moveTo("2")
			}
			ring, err := desk.Ringing(3 * time.Second)
			must(t, err)
			r.written("the INVITE", func(rec call.Record) bool {
				return latchedBoth(call.Record{Seats: rec.Seats[:2]}) && slices.ContainsFunc(rec.Seats, func(s call.SeatRecord) bool {
					return slices.ContainsFunc(s.Legs, func(l call.LegRecord) bool { return l.State == "ringing" && l.Invite != nil })
				})
			})
			r.die()
			b.claims(r)
			must(t, ring.AwaitEnd(3*time.Second))
			b.hears(out, in)
			if ref != nil {
				if code, err := ref.Wait(3 * time.Second); err != nil || code != 503 {
					t.Errorf("the phone was told %d of its transfer, %v", code, err)
				}
			}
			must(t, out.Hangup())
			must(t, in.AwaitEnd(3*time.Second))
			b.nothingLeft()
		})
	}
}

// TestTakeOverSetup takes a call over that nobody has answered: the phone rings no more, by a CANCEL that has the Via of the INVITE, and the log
// has the end of the call.
func TestTakeOverSetup(t *testing.T) {
	t.Parallel()
	r, alice, bob := lonely(t, ringsLong)
	b := r.another("b", nil)
	bob.Behave(phone.Behaviour{})
	out := mustDial(t, alice, "102")
	in, err := bob.Ringing(3 * time.Second)
	must(t, err)
	r.written("the INVITE", func(rec call.Record) bool {
		return len(rec.Seats) == 2 && len(rec.Seats[1].Legs) == 1 && rec.Seats[1].Legs[0].State == "ringing" && rec.Seats[1].Legs[0].Invite != nil
	})
	r.die()
	b.claims(r)
	must(t, in.AwaitEnd(3*time.Second))
	var via []string
	for _, m := range bob.Received(time.Time{}) {
		if m.Method == "INVITE" || m.Method == "CANCEL" {
			via = append(via, m.Get("Via"))
		}
	}
	if len(via) != 2 || via[0] != via[1] {
		t.Errorf("INVITE and CANCEL have the Via %q", via)
	}
	b.nothingLeft()
	ended := b.entries(journal.CallEnded)
	if len(ended) != 1 || ended[0].Duration != 0 || !strings.Contains(ended[0].Text, "node test was lost before it was answered") {
		t.Errorf("the log: %+v", ended)
	}
	out.Vanish() // its INVITE went down with the node: nobody answers it any more
}

// TestTakeOverEnding takes a call over whose phone has not heard of its BYE.
func TestTakeOverEnding(t *testing.T) {
	t.Parallel()
	r, alice, bob := lonely(t, nil)
	b := r.another("b", nil)
	out, in := r.connect(alice, bob)
	bob.Unplug(true)
	must(t, out.Hangup())
	r.written("the BYE", func(rec call.Record) bool { return rec.State == call.StateEnding && len(rec.Closing) == 1 })
	r.die()
	b.claims(r)
	bob.Unplug(false)
	must(t, in.AwaitEnd(3*time.Second))
	b.nothingLeft()
	if ended := b.entries(journal.CallEnded); len(ended) != 1 || !strings.Contains(ended[0].Text, "ended by alice") {
		t.Errorf("the log: %+v", ended)
	}
}

// TestTakeOverHeld takes a call over that one side holds: the other hears so, until it is resumed.
func TestTakeOverHeld(t *testing.T) {
	t.Parallel()
	r, alice, bob := lonely(t, nil)
	b := r.another("b", nil)
	out, in := r.connect(alice, bob)
	must(t, in.Hold(phone.HoldSendonly))
	r.written("the hold", func(rec call.Record) bool { return latchedBoth(rec) && rec.Seats[1].Legs[0].Held })
	r.die()
	since := time.Now()
	b.claims(r)
	if !hearsFrom(out, b, since, 0) {
		t.Error("alice does not hear that she is held")
	}
	if out.Hears(in, 300*time.Millisecond) {
		t.Error("alice hears bob, who holds")
	}
	must(t, in.Resume())
	b.hears(out, in)
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	b.nothingLeft()
}

// hearsFrom waits until a phone hears a source from a node's address, 0 = a tone.
func hearsFrom(c *phone.Call, r *rig, since time.Time, source uint16) bool {
	_, ok := c.Media().Await(since, 3*time.Second, func(p phone.Packet) bool {
		return p.Source == source && p.From.Addr() == r.server.Addr()
	})
	return ok
}

// TestTakeOverAbsence takes a call over that one has left: he is waited for, and comes back at the other node.
func TestTakeOverAbsence(t *testing.T) {
	t.Parallel()
	r, alice, bob := lonely(t, nil)
	desk := r.phone("alice", 2)
	b := r.another("b", nil)
	out, in := r.connect(alice, bob)
	must(t, r.b.Leave(t.Context(), call.MoveRequest{User: "alice", How: "api", Who: "test"}))
	must(t, out.AwaitEnd(2*time.Second))
	rec := r.written("the absence", func(rec call.Record) bool { return !rec.Seats[0].Left.IsZero() && len(rec.Closing) == 0 })
	r.die()
	since := time.Now()
	b.claims(r)
	if !hearsFrom(in, b, since, 0) {
		t.Error("bob does not hear that he waits")
	}
	if now := b.written("the same absence", func(rec call.Record) bool { return rec.Epoch == 1 }); !now.Seats[0].Left.Equal(rec.Seats[0].Left) {
		t.Errorf("he is waited for since %v, not %v", now.Seats[0].Left, rec.Seats[0].Left)
	}
	must(t, desk.Relocate(phone.Relocation{Server: b.server}))
	_, err := desk.Register(time.Minute)
	must(t, err)
	again := mustDial(t, desk, "*40")
	must(t, again.Await(3*time.Second))
	b.hears(again, in)
	must(t, again.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	b.nothingLeft()
}

// TestTakeOverNobody takes a call over whose one phone says nothing, or knows nothing of the call: the other hears the tone and is not hung up, and
// the phone that answers late has its seat again.
func TestTakeOverNobody(t *testing.T) {
	t.Parallel()
	for _, k := range []string{"it says nothing", "it knows nothing", "it refuses once"} {
		t.Run(k, func(t *testing.T) {
			t.Parallel()
			r, alice, bob := lonely(t, nil)
			b := r.another("b", nil)
			out, in := r.connect(alice, bob)
			r.written("both sources", latchedBoth)
			r.die()
			switch k {
			case "it says nothing":
				bob.Unplug(true)
			case "it refuses once":
				bob.Behave(phone.Behaviour{Refuse: 491})
			default:
				in.Vanish()
			}
			since := time.Now()
			b.claims(r)
			if k == "it refuses once" {
				time.Sleep(300 * time.Millisecond)
				bob.Behave(phone.Behaviour{})
				if !out.Hears(in, 6*time.Second) || !in.Hears(out, 6*time.Second) {
					t.Error("they do not hear each other after the refusal")
				}
			} else if !hearsFrom(out, b, since, 0) {
				t.Error("alice does not hear that bob is gone")
			}
			if k == "it says nothing" {
				bob.Unplug(false)
				b.hears(out, in)
			}
			if out.State() != phone.Up {
				t.Errorf("alice's call is %v", out.State())
			}
			must(t, out.Hangup())
			if k != "it knows nothing" {
				must(t, in.AwaitEnd(3*time.Second))
			}
			b.nothingLeft()
		})
	}
}

// TestTakeOverCompanion takes a call over with a device that listens: it does again.
func TestTakeOverCompanion(t *testing.T) {
	t.Parallel()
	r, alice, bob := lonely(t, nil)
	desk := r.phone("alice", 2)
	b := r.another("b", nil)
	out, in := r.connect(alice, bob)
	third := r.beside("code", desk)
	r.written("three legs", func(rec call.Record) bool {
		return latchedBoth(rec) && len(rec.Seats[0].Legs) == 2 && rec.Seats[0].Legs[1].Listens && rec.Seats[0].Legs[1].State == "up"
	})
	r.die()
	b.claims(r)
	b.hears(out, in)
	if !hearsMix(third, out, in) {
		t.Error("the third device does not hear both")
	}
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	must(t, third.AwaitEnd(3*time.Second))
	b.nothingLeft()
}

// TestTakeOverJustAnswered takes a call over that was answered a moment ago.
func TestTakeOverJustAnswered(t *testing.T) {
	t.Parallel()
	r, alice, bob := lonely(t, nil)
	b := r.another("b", nil)
	bob.Behave(phone.AutoAnswer)
	out := mustDial(t, alice, "102")
	in, err := bob.Ringing(3 * time.Second)
	must(t, err)
	must(t, out.Await(3*time.Second))
	r.die()
	b.claims(r)
	b.hears(out, in)
	must(t, in.Hangup())
	must(t, out.AwaitEnd(3*time.Second))
	b.nothingLeft()
}

// TestTakeOverTwice claims a call that a third node has claimed before: it is not the second's, and one that stops takes nothing up.
func TestTakeOverTwice(t *testing.T) {
	t.Parallel()
	r, alice, bob := lonely(t, nil)
	b, c := r.another("b", nil), r.another("c", nil)
	out, in := r.connect(alice, bob)
	r.written("both sources", latchedBoth)
	stored, err := r.store.Calls()
	must(t, err)
	r.die()
	b.claims(r)
	if _, err := c.store.Claim(stored[0].ID, stored[0].Epoch, c.name); err == nil {
		t.Error("a call was claimed twice")
	}
	b.hears(out, in)
	c.drain()
	if n := c.b.TakeOver("test", stored[0]); n != 0 {
		t.Error("a node that stops has taken a call up")
	}
	if n := b.b.TakeOver("test", stored[0]); n != 0 {
		t.Error("a node has taken up twice what it had")
	}
	b.hears(out, in)
	must(t, in.Hangup())
	must(t, out.AwaitEnd(3*time.Second))
	b.nothingLeft()
}

// TestTakeOverStale takes a call over whose node lives: at its next write that falls silent.
func TestTakeOverStale(t *testing.T) {
	t.Parallel()
	r, alice, bob := lonely(t, nil)
	b := r.another("b", nil)
	out, in := r.connect(alice, bob)
	r.written("both sources", latchedBoth)
	b.claims(r)
	b.hears(out, in)
	r.eventually("the first node lets go of the call", 9*time.Second, func() bool { return len(r.b.Calls("")) == 0 && r.engine.OpenStreams() == 0 })
	time.Sleep(100 * time.Millisecond) // what it has sent until then has arrived
	settled := time.Now()
	time.Sleep(time.Second)
	for _, c := range []*phone.Call{out, in} {
		if at := from(c, settled); len(at) != 1 || at[0] != b.server.Addr().String() {
			t.Errorf("%s hears %v", c.Phone().Config().User, at)
		}
		for _, m := range c.Phone().Received(settled) {
			if m.Peer == r.server {
				t.Errorf("%s was sent %s", c.Phone().Config().User, m.Line())
			}
		}
	}
	b.hears(out, in)
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	b.nothingLeft()
}

// TestYieldRinging has a node yield a call that rings, and one that is up: it sends no CANCEL and no answer, and does not answer what its phones
// still send there.
func TestYieldRinging(t *testing.T) {
	t.Parallel()
	r, alice, bob := lonely(t, nil)
	out, in := r.connect(alice, bob)
	bob.Behave(phone.Behaviour{})
	r.user("carol", "103")
	carol := r.phone("carol", 1)
	ring := mustDial(t, carol, "102")
	rung, err := bob.Ringing(3 * time.Second)
	must(t, err)
	r.eventually("carol hears that it rings", 3*time.Second, func() bool { return slices.Contains(ring.Progress(), 180) })
	var ids []string
	for id := range r.b.Owned() {
		ids = append(ids, id)
	}
	since := time.Now()
	r.b.Yield(ids)
	if n, streams := len(r.b.Calls("")), r.engine.OpenStreams(); n != 0 || streams != 0 {
		t.Errorf("%d calls and %d streams are left", n, streams)
	}
	for _, c := range []*phone.Call{out, in} {
		go c.Request("OPTIONS", nil)
	}
	go ring.Cancel()
	late := r.phone("bob", 2)           // which would ring with the other
	time.Sleep(1500 * time.Millisecond) // an answer, and what is repeated, would have come
	for _, p := range []*phone.Phone{alice, bob, carol} {
		for _, m := range p.Received(since) {
			t.Errorf("%s was sent %s", p.Config().User, m.Line())
		}
	}
	if made := late.Made(); len(made) > 0 {
		t.Error("the yielded call rings a device that has registered since")
	}
	if rung.State() != phone.Alerting {
		t.Errorf("bob's phone is %v", rung.State())
	}
	for _, c := range []*phone.Call{out, in, ring, rung} {
		c.Vanish()
	}
}
