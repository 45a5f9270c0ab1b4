package call_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/test/phone"
)

// reporting is a phone that reports by RTCP so often that nobody has to wait.
func reporting(c *phone.Config) { c.RTCP = 200 * time.Millisecond }

// inFlight are packets that may be overtaken when the way changes on a machine that stalls.
const inFlight = 15

// stall is how long everything may stand still on a busy machine.
const stall = time.Second

// atNode says whether a packet comes from a node's port.
func atNode(from netip.AddrPort) bool { return from.Port() >= 20000 && from.Port() < 30000 }

func directRig(t *testing.T, tune ...func(*config.Config)) *rig {
	r := newRig(t, func(c *config.Config) {
		c.Media.Mode = "auto"
		for _, f := range tune {
			f(c)
		}
	})
	r.user("alice", "101")
	r.user("bob", "102")
	return r
}

// mediaOf is how the sound of the only call goes.
func (r *rig) mediaOf() (way, why string) {
	all := r.b.Calls("")
	if len(all) != 1 {
		return fmt.Sprintf("%d calls", len(all)), ""
	}
	return all[0].Media, all[0].MediaWhy
}

// becomes waits until the sound of the only call goes a way.
func (r *rig) becomes(way string, limit time.Duration) {
	r.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		is, why := r.mediaOf()
		if is == way {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("media is %s (%s), not %s, after %v", is, why, way, limit)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// straight waits until two phones hear each other, and neither the node.
func (r *rig) straight(a, b *phone.Call) {
	r.t.Helper()
	r.becomes("direct", 15*time.Second)
	since := time.Now().Add(50 * time.Millisecond)
	for _, k := range [][2]*phone.Call{{a, b}, {b, a}} {
		p, ok := k[0].Media().Await(since, 2*time.Second, func(p phone.Packet) bool { return p.Source == k[1].Media().Source() })
		if !ok || p.From != k[1].Media().Addr() {
			r.t.Fatalf("direct, and %d hears %d from %v (%v)", k[0].Media().Source(), k[1].Media().Source(), p.From, ok)
		}
	}
	for _, k := range []*phone.Call{a, b} {
		if p, ok := k.Media().Await(since, 300*time.Millisecond, func(p phone.Packet) bool { return atNode(p.From) }); ok {
			r.t.Fatalf("direct, and the node sends %+v", p)
		}
	}
}

// heardWhole checks that a phone has heard one unbroken stream.
func heardWhole(t *testing.T, what string, c *phone.Call, gap time.Duration) {
	t.Helper()
	rep := phone.Analyse(c.Media().Heard(), 8000)
	if rep.Missing > 0 || len(rep.SSRCs) != 1 || rep.Gap > gap || rep.Reordered > inFlight || rep.Drift > stall {
		t.Errorf("%s heard %v", what, rep)
	}
}

// forward checks that the numbers of each source that a phone heard only went up.
func forward(t *testing.T, what string, c *phone.Call) {
	t.Helper()
	by := map[uint32][]phone.Packet{}
	for _, p := range c.Media().Heard() {
		by[p.SSRC] = append(by[p.SSRC], p)
	}
	for ssrc, heard := range by {
		if rep := phone.Analyse(heard, 8000); rep.Reordered > inFlight || rep.Duplicates > 0 {
			t.Errorf("%s heard of %08x %v", what, ssrc, rep)
		}
	}
}

// TestDirect: two phones of one network talk past the node, which changes nothing of what either hears, and step in for a hold and out again.
func TestDirect(t *testing.T) {
	r := directRig(t)
	a, b := r.phone("alice", 1, reporting), r.phone("bob", 1, reporting)
	out, in := r.connect(a, b)
	r.straight(out, in)
	heardWhole(t, "alice", out, stall)
	heardWhole(t, "bob", in, stall)
	if d := in.Peer(); d.Addr != out.Media().Addr() || !atNode(d.Control) {
		t.Errorf("bob was told %+v", d)
	}
	if leg := r.b.Calls("")[0].Seats[0].Legs[0]; !leg.Stats.Reported || leg.Stats.Out.Lost != 0 {
		t.Errorf("what alice hears is not measured: %+v", leg.Stats)
	}
	must(t, out.Hold(phone.HoldSendonly))
	r.becomes("relay", 5*time.Second)
	if _, ok := in.Media().Await(time.Now(), 3*time.Second, func(p phone.Packet) bool { return p.Source == 0 && atNode(p.From) }); !ok {
		t.Error("bob hears no hold tone from the node")
	}
	must(t, out.Resume())
	r.straight(out, in)
	forward(t, "bob", in)
	forward(t, "alice", out)
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestDirectBlocked: where a phone hears nothing of the other straight, the call is back at the node within two seconds, says why, and tries once
// more. Then neither it nor the next one does.
func TestDirectBlocked(t *testing.T) {
	for _, blocked := range []string{"alice", "bob", "both"} {
		t.Run(blocked, func(t *testing.T) {
			t.Parallel()
			r := directRig(t)
			r.b.DoubtFor(time.Second)
			wall := func(name string) func(*phone.Config) {
				return func(c *phone.Config) {
					if reporting(c); blocked == name || blocked == "both" {
						c.Hears = atNode
					}
				}
			}
			a, b := r.phone("alice", 1, wall("alice")), r.phone("bob", 1, wall("bob"))
			out, in := r.connect(a, b)
			r.eventually("it has been tried twice", 20*time.Second, func() bool {
				_, why := r.mediaOf()
				return r.b.InVain() == 2 && strings.Contains(why, " straight")
			})
			if !out.Hears(in, 3*time.Second) || !in.Hears(out, 3*time.Second) {
				t.Error("they do not hear each other by the node")
			}
			for name, c := range map[string]*phone.Call{"alice": out, "bob": in} {
				if rep := phone.Analyse(c.Media().Heard(), 8000); rep.Gap > 3*time.Second {
					t.Errorf("%s heard %v", name, rep)
				}
			}
			n := invites(a) + invites(b)
			time.Sleep(2500 * time.Millisecond)
			if way, why := r.mediaOf(); way != "relay" || !strings.Contains(why, " straight") || invites(a)+invites(b) != n {
				t.Errorf("it is tried a third time: %s (%s)", way, why)
			}
			must(t, out.Hangup())
			r.nothingLeft()
			n = invites(b)
			out, _ = r.connect(a, b)
			time.Sleep(2500 * time.Millisecond)
			if way, why := r.mediaOf(); way != "relay" || !strings.Contains(why, " straight") || invites(b) != n+1 {
				t.Errorf("it is tried again: %s (%s)", way, why)
			}
			must(t, out.Hangup())
			r.nothingLeft()
		})
	}
}

// TestDirectDoubted: a phone that hears nothing of the other straight at one try, and does at the next, is in a direct call then, and what failed before
// is forgotten: it may fail once again.
func TestDirectDoubted(t *testing.T) {
	t.Parallel()
	r := directRig(t)
	r.b.DoubtFor(time.Second)
	var deaf atomic.Bool
	wall := func(c *phone.Config) {
		reporting(c)
		c.Hears = func(from netip.AddrPort) bool { return atNode(from) || !deaf.Load() }
	}
	deaf.Store(true)
	out, in := r.connect(r.phone("alice", 1, reporting), r.phone("bob", 1, wall))
	for range 2 {
		r.eventually("a try to fail", 15*time.Second, func() bool {
			way, why := r.mediaOf()
			return r.b.InVain() == 1 && way == "relay" && strings.Contains(why, "hears nothing")
		})
		deaf.Store(false)
		r.straight(out, in)
		if n := r.b.InVain(); n != 0 {
			t.Errorf("direct, and %d tries in vain are remembered", n)
		}
		must(t, out.Hold(phone.HoldSendonly))
		r.becomes("relay", 5*time.Second)
		deaf.Store(true)
		must(t, out.Resume())
	}
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestDirectMove: a direct call is moved without a gap and without a packet lost, and is direct with the new device.
func TestDirectMove(t *testing.T) {
	r := directRig(t)
	a, b, d := r.phone("alice", 1, reporting), r.phone("bob", 1, reporting), r.phone("alice", 2, reporting)
	d.Behave(phone.AutoAnswer)
	out, in := r.connect(a, b)
	r.straight(out, in)
	began := time.Now()
	_, err := r.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: "2", Who: "test", How: "cli"})
	must(t, err)
	moved, err := d.Ringing(time.Second)
	must(t, err)
	r.straight(moved, in)
	heard := in.Media().Heard()
	if gap, at := phone.LongestGap(heard, began, time.Now()); gap > stall {
		t.Errorf("gap of %v at +%v", gap, at.Sub(began))
		for _, p := range phone.Between(heard, at.Add(-300*time.Millisecond), at.Add(100*time.Millisecond)) {
			t.Logf("+%v from %v seq %d ssrc %x source %d", p.At.Sub(began), p.From, p.Seq, p.SSRC, p.Source)
		}
	}
	forward(t, "bob", in)
	if rep := phone.Analyse(in.Media().Heard(), 8000); len(rep.SSRCs) > 2 {
		t.Errorf("bob heard %v", rep)
	}
	must(t, moved.Hangup())
	r.nothingLeft()
}

// TestDirectNot: what needs the node stays there, and says why.
func TestDirectNot(t *testing.T) {
	for name, c := range map[string]struct {
		tune func(*config.Config)
		a, b func(*phone.Config)
		set  func(r *rig)
		why  string
	}{
		"mode":   {tune: func(c *config.Config) { c.Media.Mode = "relay" }, why: "media.mode is relay"},
		"device": {set: func(r *rig) { must(r.t, r.reg.Set("bob", "1", "media", "relay")) }, why: "media.mode is relay for"},
		"codec":  {b: func(c *phone.Config) { c.Codecs = []phone.Codec{phone.PCMA, phone.DTMF} }, a: func(c *phone.Config) { c.Codecs = []phone.Codec{phone.PCMU, phone.DTMF} }, why: "converted"},
		"keys":   {b: func(c *phone.Config) { c.Codecs, c.Allow = []phone.Codec{phone.PCMU}, "INVITE, ACK, CANCEL, BYE, INFO" }, why: "INFO"},
		"rtcp":   {b: func(c *phone.Config) { c.RTCP = 0 }, why: "no RTCP"},
		"types": {b: func(c *phone.Config) {
			c.OwnPT, c.Codecs = true, []phone.Codec{{Name: "opus", PT: 98, Rate: 48000, Channels: 2}}
		}, a: func(c *phone.Config) { c.Codecs = []phone.Codec{phone.OPUS} }, why: "payload types"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tune []func(*config.Config)
			if c.tune != nil {
				tune = append(tune, c.tune)
			}
			r := directRig(t, tune...)
			with := func(f func(*phone.Config)) func(*phone.Config) {
				return func(p *phone.Config) {
					if reporting(p); f != nil {
						f(p)
					}
				}
			}
			a, b := r.phone("alice", 1, with(c.a)), r.phone("bob", 1, with(c.b))
			if c.set != nil {
				c.set(r)
			}
			n := invites(b)
			out, _ := r.connect(a, b)
			time.Sleep(2 * time.Second)
			if way, why := r.mediaOf(); way != "relay" || !strings.Contains(why, c.why) || invites(b) > n+1 {
				t.Errorf("media is %s (%s), %d INVITEs", way, why, invites(b)-n)
			}
			must(t, out.Hangup())
			r.nothingLeft()
		})
	}
}

// invites counts the INVITEs that a phone was sent.
func invites(p *phone.Phone) (n int) {
	for _, m := range p.Received(time.Time{}) {
		if m.Method == "INVITE" {
			n++
		}
	}
	return n
}

// auto has a node send sound straight where it can, and ask soon for phones that say nothing.
func auto(c *config.Config) { c.Media.Mode, c.Call.Vanished = "auto", 2*time.Second }

// aloneDirect is a node at an address of its own with a direct call.
func aloneDirect(t *testing.T) (r *rig, out, in *phone.Call) {
	at := addressOfOne()
	r = openRig(t, t.TempDir(), at+":0", at1(at, auto))
	r.user("alice", "101")
	r.user("bob", "102")
	out, in = r.connect(r.phone("alice", 1, reporting), r.phone("bob", 1, reporting))
	r.straight(out, in)
	r.written("both straight", func(rec call.Record) bool {
		return len(rec.Seats) == 2 && len(rec.Seats[0].Legs) == 1 && rec.Seats[0].Legs[0].Straight && rec.Seats[1].Legs[0].Straight
	})
	return r, out, in
}

// unbroken checks that two phones have heard each other all the time since, straight and nothing else.
func unbroken(t *testing.T, since time.Time, out, in *phone.Call) {
	t.Helper()
	for _, k := range [][2]*phone.Call{{out, in}, {in, out}} {
		heard := phone.Between(k[0].Media().Heard(), since, time.Now())
		rep := phone.Analyse(heard, 8000)
		if rep.Missing > 0 || len(rep.SSRCs) != 1 || rep.Reordered > 0 || rep.Gap > stall || rep.Packets < 20 {
			t.Errorf("%s heard %v", k[0].Phone().Config().User, rep)
		}
		for _, p := range heard {
			if p.From != k[1].Media().Addr() {
				t.Fatalf("%s heard %+v", k[0].Phone().Config().User, p)
			}
		}
	}
}

// TestDirectRestart: a node that is killed and started anew has a direct call as it was: nobody is told anything, and what follows in its dialogs works.
func TestDirectRestart(t *testing.T) {
	t.Parallel()
	r, out, in := aloneDirect(t)
	since := time.Now()
	next := r.reborn(auto)
	next.becomes("direct", time.Second)
	time.Sleep(time.Second)
	unbroken(t, since, out, in)
	if n := len(in.Phone().Received(since)); n > 0 {
		t.Errorf("bob was sent %d messages", n)
	}
	must(t, out.Hold(phone.HoldSendonly))
	next.becomes("relay", 2*time.Second)
	if !in.HearsTone(3 * time.Second) {
		t.Error("bob hears no tone")
	}
	must(t, out.Resume())
	next.straight(out, in)
	forward(t, "bob", in)
	must(t, out.Hangup())
	next.nothingLeft()
}

// TestDirectTakeover: another node goes on with a direct call (R2): nobody hears anything of it, and both report to that node then.
func TestDirectTakeover(t *testing.T) {
	t.Parallel()
	r, out, in := aloneDirect(t)
	b := r.another("b", auto)
	r.die()
	since := time.Now()
	b.claims(r)
	b.becomes("direct", time.Second)
	b.eventually("both report there", 5*time.Second, func() bool {
		for _, s := range b.b.Calls("")[0].Seats {
			if !s.Legs[0].Stats.Reported {
				return false
			}
		}
		return true
	})
	time.Sleep(time.Second)
	unbroken(t, since, out, in)
	if d := in.Peer(); d.Control.Addr() != b.server.Addr() || d.Addr != out.Media().Addr() {
		t.Errorf("bob was told %+v", d)
	}
	began := time.Now()
	must(t, in.Hangup())
	must(t, out.AwaitEnd(time.Second))
	if took := time.Since(began); took > time.Second {
		t.Errorf("the hang-up took %v", took)
	}
	b.nothingLeft()
}

// TestDirectLeave: who leaves a direct call is waited for with a tone, takes it again elsewhere, and it is direct with that device.
func TestDirectLeave(t *testing.T) {
	t.Parallel()
	r := directRig(t)
	a, b, d := r.phone("alice", 1, reporting), r.phone("bob", 1, reporting), r.phone("alice", 2, reporting)
	out, in := r.connect(a, b)
	r.straight(out, in)
	must(t, r.b.Leave(t.Context(), call.MoveRequest{User: "alice", Who: "test", How: "cli"}))
	must(t, out.AwaitEnd(3*time.Second))
	if !in.HearsTone(3 * time.Second) {
		t.Error("bob hears no tone")
	}
	again := mustDial(t, d, "*40")
	must(t, again.Await(5*time.Second))
	r.straight(again, in)
	forward(t, "bob", in)
	must(t, again.Hangup())
	r.nothingLeft()
}

// TestDirectLost: the device of a direct call dies. By its RTCP, which has stopped, it is asked; the seat waits, and the call is pulled by another
// device and is direct again. One that comes back is told to send to the node before that.
func TestDirectLost(t *testing.T) {
	t.Parallel()
	for _, back := range []bool{false, true} {
		t.Run(fmt.Sprint("back ", back), func(t *testing.T) {
			t.Parallel()
			r := directRig(t, auto)
			a, b, d := r.phone("alice", 1, reporting), r.phone("bob", 1, reporting), r.phone("alice", 2, reporting)
			out, in := r.connect(a, b)
			r.straight(out, in)
			a.Unplug(true)
			r.eventually("the seat is empty", 20*time.Second, func() bool {
				all := r.b.Calls("")
				return len(all) == 1 && all[0].Seats[0].Lost
			})
			if !in.HearsTone(3 * time.Second) {
				t.Error("bob hears no tone")
			}
			if back {
				a.Unplug(false)
			} else {
				out = mustDial(t, d, "*40")
				must(t, out.Await(5*time.Second))
			}
			r.straight(out, in)
			must(t, in.Hangup())
			r.nothingLeft()
		})
	}
}

// TestDirectRefused: a phone that refuses to be told keeps the call as it is, and is not asked again.
func TestDirectRefused(t *testing.T) {
	t.Parallel()
	r := directRig(t)
	a, b := r.phone("alice", 1, reporting), r.phone("bob", 1, reporting)
	out, in := r.connect(a, b)
	a.Behave(phone.Behaviour{Refuse: 488})
	b.Behave(phone.Behaviour{Answer: true, Refuse: 488})
	r.eventually("it has been tried", 10*time.Second, func() bool {
		_, why := r.mediaOf()
		return strings.Contains(why, "did not take it")
	})
	time.Sleep(time.Second)
	heardWhole(t, "alice", out, stall)
	heardWhole(t, "bob", in, stall)
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestDirectForced: where it is forced no proof is waited for, and none is needed.
func TestDirectForced(t *testing.T) {
	t.Parallel()
	r := directRig(t, func(c *config.Config) { c.Media.Mode = "direct" })
	out, in := r.connect(r.phone("alice", 1), r.phone("bob", 1))
	r.straight(out, in)
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestDirectRefresh: a refresh of its session by a phone leaves a direct call as it is.
func TestDirectRefresh(t *testing.T) {
	t.Parallel()
	r := directRig(t)
	out, in := r.connect(r.phone("alice", 1, reporting), r.phone("bob", 1, reporting))
	r.straight(out, in)
	since := time.Now()
	if code, err := out.Reinvite(out.SDP()); err != nil || code != 200 {
		t.Fatalf("%d, %v", code, err)
	}
	time.Sleep(time.Second)
	unbroken(t, since, out, in)
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestDirectBreaks: a way that breaks in the middle of a direct call is found out by what the phones report, and the node steps in.
func TestDirectBreaks(t *testing.T) {
	t.Parallel()
	r := directRig(t)
	var broken atomic.Bool
	wall := func(c *phone.Config) {
		reporting(c)
		c.Hears = func(from netip.AddrPort) bool { return atNode(from) || !broken.Load() }
	}
	out, in := r.connect(r.phone("alice", 1, reporting), r.phone("bob", 1, wall))
	r.straight(out, in)
	broken.Store(true)
	r.becomes("relay", 10*time.Second)
	if _, why := r.mediaOf(); !strings.Contains(why, "any more") {
		t.Errorf("relayed because %q", why)
	}
	if !out.Hears(in, 3*time.Second) || !in.Hears(out, 3*time.Second) {
		t.Error("they do not hear each other by the node")
	}
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestDirectStubborn: the other side's phone refuses to send to the node again when a direct call is moved. It is told where the new device is when
// that has the call.
func TestDirectStubborn(t *testing.T) {
	t.Parallel()
	r := directRig(t)
	a, b, d := r.phone("alice", 1, reporting), r.phone("bob", 1, reporting), r.phone("alice", 2, reporting)
	d.Behave(phone.AutoAnswer)
	out, in := r.connect(a, b)
	r.straight(out, in)
	b.Behave(phone.Behaviour{Answer: true, Refuse: 488})
	moving := make(chan error, 1)
	go func() {
		_, err := r.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: "2", Who: "test", How: "cli"})
		moving <- err
	}()
	moved, err := d.Ringing(5 * time.Second)
	must(t, err)
	b.Behave(phone.AutoAnswer)
	must(t, <-moving)
	r.straight(moved, in)
	must(t, moved.Hangup())
	r.nothingLeft()
}
