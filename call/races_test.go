package call_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/test/phone"
	"baton/test/wire"
)

// race is a call of alice with bob, and two more devices of hers. Each row of the table in docs/moves.md has a test of its name below.
type race struct {
	*rig
	alice, desk, third *phone.Phone
	bob                *phone.Phone
	out, in            *phone.Call // alice's and bob's
	dark               int         // packets that were said into a network that was left
}

// races are the rows. What was said of nothing being left, and of bob's one stream, is checked after each.
var races = []struct {
	name string
	play func(*race)
	tune func(*config.Config)
}{
	{"new device refuses", func(r *race) { r.refuses(phone.Behaviour{Reject: 486}, 486) }, nil},
	{"new device does not answer", func(r *race) { r.refuses(phone.Behaviour{}, 480) }, shortRing},
	{"new device vanishes while it rings", (*race).vanishes, shortRing},
	{"new device hangs up unheard", func(r *race) { r.refuses(phone.Behaviour{Answer: true, HangUp: true}, 480) }, nil},
	{"new device is muted", (*race).muted, nil},
	{"new device is dead", (*race).dead, nil},
	{"no codec in common", (*race).noCodec, nil},
	{"two devices answer at once", (*race).twoAnswer, nil},
	{"two moves, api and pull", func(r *race) { r.twoMoves(r.api, r.pull) }, nil},
	{"two moves, refer and pull", func(r *race) { r.twoMoves(r.refer, r.pull) }, nil},
	{"two moves, api and refer", func(r *race) { r.twoMoves(r.api, r.refer) }, nil},
	{"two moves, refer and api", func(r *race) { r.twoMoves(r.refer, r.api) }, nil},
	{"two moves, api and api", func(r *race) { r.twoMoves(r.api, r.api) }, nil},
	{"two moves, pull and pull", (*race).twoPulls, nil},
	{"old device hangs up, new one takes the call", (*race).leftAndTaken, nil},
	{"old device hangs up, nobody takes the call", (*race).leftAndRecalled, shortRing},
	{"far side hangs up while the new device is asked", func(r *race) { r.farHangsUp(phone.Behaviour{Silent: true}, false) }, nil},
	{"far side hangs up while the new device rings", func(r *race) { r.farHangsUp(phone.Behaviour{}, true) }, nil},
	{"far side hangs up before the ACK", func(r *race) { r.slowStore(); r.farHangsUp(phone.AutoAnswer, true) }, nil},
	{"far side hangs up while the new device is listened to", (*race).farHangsUpListening, nil},
	{"far side hangs up before the BYE of the old device", (*race).farHangsUpSwitched, nil},
	{"old device hangs up before the ACK", (*race).oldHangsUpBeforeACK, nil},
	{"old device hangs up as it is let go", (*race).oldHangsUpSwitched, nil},
	{"new device offers before our ACK", (*race).newOffersBeforeACK, nil},
	{"new device hangs up as it has the call", (*race).newHangsUpSwitched, nil},
	{"hold, then transfer", (*race).holdThenRefer, nil},
	{"transferor sends no BYE", (*race).noBye, nil},
	{"hold while the new device rings", (*race).holdWhileRinging, nil},
	{"hold and resume while the new device rings", (*race).holdAndResume, nil},
	{"far side holds while the new device rings", (*race).farHolds, nil},
	{"pull given up before its 200", (*race).pullGivenUp, nil},
	{"pull given up too late", (*race).pullGivenUpLate, nil},
	{"pull by the device that has the call", (*race).pullHere, nil},
	{"re-INVITEs of both at once", (*race).glare, nil},
	{"phone answers 491", (*race).answers491, nil},
	{"session refresh of ours while the new device rings", func(r *race) { r.refresh("2;refresher=uas") }, shortSession},
	{"session refresh of the phone's while the new device rings", func(r *race) { r.refresh("2;refresher=uac") }, shortSession},
	{"re-INVITE of ours before the ACK of the phone's", (*race).oursBeforeACK, nil},
	{"REFER before the ACK of a re-INVITE", (*race).referBeforeACK, nil},
	{"REFER while a re-INVITE of ours is under way", (*race).referDuringOurs, nil},
}

func shortRing(c *config.Config) { c.Call.Ring = 700 * time.Millisecond }

func shortSession(c *config.Config) {
	c.Call.Session, c.Call.SessionMin, c.Call.Vanished = 2*time.Second, time.Second, 300*time.Millisecond
}

func TestRaces(t *testing.T) {
	t.Parallel()
	for _, row := range races {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := &race{rig: newRig(t, row.tune)}
			r.user("alice", "101")
			r.user("bob", "102")
			r.alice, r.desk, r.third, r.bob = r.phone("alice", 1), r.phone("alice", 2), r.phone("alice", 3), r.phone("bob", 1)
			r.out, r.in = r.connect(r.alice, r.bob)
			row.play(r)
			if rep := phone.Analyse(r.in.Media().Heard(), 8000); len(rep.SSRCs) != 1 || rep.Missing > 2+r.dark || rep.Duplicates > 0 {
				t.Errorf("bob was sent %v", rep) // a packet or two: what a phone says between its own hold and the answer
			}
			for _, p := range []*phone.Phone{r.alice, r.desk, r.third, r.bob} {
				for _, c := range p.Calls() {
					_ = c.Hangup()
				}
			}
			r.nothingLeft()
		})
	}
}

// talks checks that a device of alice's has the call, alone.
func (r *race) talks(c *phone.Call) {
	r.t.Helper()
	hearEachOther(r.t, c, r.in)
	r.eventually("alice has one leg", 3*time.Second, func() bool {
		calls := r.b.Calls("alice")
		return len(calls) == 1 && len(calls[0].Seats[0].Legs) == 1 && calls[0].Seats[0].Legs[0].State == "up"
	})
	for _, p := range []*phone.Phone{r.alice, r.desk, r.third} {
		for _, other := range p.Calls() {
			if other != c && other.State() == phone.Up && other.AwaitEnd(3*time.Second) != nil {
				r.t.Errorf("%s has a call too", p.Config().UserAgent)
			}
		}
	}
}

// over checks that the call has ended for everybody.
func (r *race) over() {
	r.t.Helper()
	r.eventually("everybody is told of the end", 5*time.Second, func() bool {
		n := 0
		for _, p := range []*phone.Phone{r.alice, r.desk, r.third, r.bob} {
			n += len(p.Calls())
		}
		return n == 0
	})
}

// told checks what came of a move.
func (r *race) told(err error, code int) {
	r.t.Helper()
	var no *call.Refusal
	if err == nil || !errors.As(err, &no) || no.Code != code {
		r.t.Errorf("the move was told %v, want %d", err, code)
	}
}

// api, refer and pull begin a move to the desk phone, and say how it is refused or that it was not.
func (r *race) api() error {
	done := r.moveLater("2")
	select {
	case err := <-done:
		return err
	case <-time.After(200 * time.Millisecond):
		return nil
	}
}

func (r *race) refer() error { return second(r.out.Refer("101*2")) }

func (r *race) pull() error {
	c, err := r.third.Dial("*40")
	must(r.t, err)
	return c.Await(3 * time.Second)
}

func (r *race) refuses(b phone.Behaviour, code int) {
	r.desk.Behave(b)
	_, err := r.b.Move(context.Background(), call.MoveRequest{User: "alice", Device: "2"})
	r.told(err, code)
	r.talks(r.out)
}

func (r *race) vanishes() {
	r.desk.Behave(phone.Behaviour{})
	moved := r.moveLater("2")
	must(r.t, second(r.desk.Ringing(3*time.Second)))
	r.desk.Vanish()
	r.told(<-moved, 480)
	hearEachOther(r.t, r.out, r.in) // the CANCEL goes on meanwhile
}

// ring has the desk phone ring for a move of the given kind.
func (r *race) ring(begin func() error) *phone.Call {
	r.t.Helper()
	r.desk.Behave(phone.Behaviour{})
	must(r.t, begin())
	ringing, err := r.desk.Ringing(3 * time.Second)
	must(r.t, err)
	return ringing
}

func (r *race) muted() {
	ringing := r.ring(r.api)
	ringing.Media().Mute(true)
	must(r.t, ringing.Answer())
	must(r.t, r.out.AwaitEnd(5*time.Second))
	ringing.Media().Mute(false)
	r.talks(ringing)
}

func (r *race) dead() {
	ringing := r.ring(r.api)
	ringing.Media().Mute(true)
	must(r.t, ringing.Answer())
	time.Sleep(50 * time.Millisecond)
	r.desk.Vanish()
	r.eventually("rolled back", 15*time.Second, func() bool { return len(r.b.Calls("alice")[0].Moves) == 1 })
	if r.b.Calls("alice")[0].Moves[0].Error == "" {
		r.t.Error("a dead phone has got the call")
	}
	r.talks(r.out)
}

func (r *race) noCodec() {
	c, err := r.desk.Dial("*40", phone.DialOptions{Codecs: []phone.Codec{{PT: 18, Name: "G729", Rate: 8000}}})
	must(r.t, err)
	must(r.t, c.AwaitEnd(3*time.Second))
	if c.Final().Code != 488 {
		r.t.Errorf("told %s", c.Final().Line())
	}
	r.talks(r.out)
}

func (r *race) twoAnswer() {
	r.desk.Behave(phone.AutoAnswer)
	r.third.Behave(phone.AutoAnswer)
	must(r.t, second(r.out.Refer("101")))
	must(r.t, r.out.AwaitEnd(5*time.Second))
	r.eventually("one is left", 3*time.Second, func() bool { return len(r.desk.Calls())+len(r.third.Calls()) == 1 })
	r.talks(append(r.desk.Calls(), r.third.Calls()...)[0])
}

// twoMoves begins a second move while the first one's device rings: it is refused, and the first goes on.
func (r *race) twoMoves(first, other func() error) {
	ringing := r.ring(first)
	if err := other(); err == nil || !strings.Contains(err.Error(), "491") && !strings.Contains(err.Error(), "in progress") {
		r.t.Errorf("the second move was told %v", err)
	}
	if r.out.State() != phone.Up || !r.in.Hears(r.out, time.Second) {
		r.t.Error("the call was disturbed")
	}
	must(r.t, ringing.Answer())
	must(r.t, r.out.AwaitEnd(5*time.Second))
	r.talks(ringing)
}

func (r *race) twoPulls() {
	first, err := r.desk.Dial("*40", phone.DialOptions{NoACK: true})
	must(r.t, err)
	first.Media().Mute(true)
	must(r.t, first.Await(3*time.Second))
	if err := r.pull(); err == nil || !strings.Contains(err.Error(), "491") {
		r.t.Errorf("the second pull was told %v", err)
	}
	must(r.t, first.Acknowledge())
	first.Media().Mute(false)
	must(r.t, r.out.AwaitEnd(5*time.Second))
	r.talks(first)
}

func (r *race) leftAndTaken() {
	ringing := r.ring(r.refer)
	must(r.t, r.out.Hangup())
	if !r.in.HearsTone(time.Second) {
		r.t.Error("bob hears nothing while the new device rings")
	}
	must(r.t, ringing.Answer())
	r.talks(ringing)
}

func (r *race) leftAndRecalled() {
	r.ring(r.refer)
	r.alice.Behave(phone.Behaviour{})
	must(r.t, r.out.Hangup())
	back, err := r.alice.Ringing(3 * time.Second)
	must(r.t, err)
	must(r.t, back.Answer())
	r.talks(back)
}

// farHangsUp has bob hang up while the new device is at some step.
func (r *race) farHangsUp(b phone.Behaviour, rings bool) {
	r.desk.Behave(b)
	moved := r.moveLater("2")
	if rings {
		must(r.t, second(r.desk.Ringing(3*time.Second)))
	} else {
		r.eventually("the desk phone is asked", 3*time.Second, func() bool { return len(requestsTo(r.desk, "INVITE")) > 0 })
	}
	must(r.t, r.in.Hangup())
	if err := <-moved; err == nil && !b.Answer {
		r.t.Error("the move was told that it came about")
	}
	r.over()
}

// slowStore has each write take as long as it is waited for, so that something may come between an answer and its ACK.
func (r *race) slowStore() {
	r.faults.fault(40*time.Millisecond, nil)
}

func (r *race) farHangsUpListening() {
	ringing := r.ring(r.api)
	ringing.Media().Mute(true)
	must(r.t, ringing.Answer())
	time.Sleep(100 * time.Millisecond)
	must(r.t, r.in.Hangup())
	r.over()
}

func (r *race) farHangsUpSwitched() {
	ringing := r.ring(r.api)
	must(r.t, ringing.Answer())
	if !r.in.Hears(ringing, 3*time.Second) {
		r.t.Error("bob does not hear the new device")
	}
	must(r.t, r.in.Hangup())
	r.over()
}

func (r *race) oldHangsUpBeforeACK() {
	r.slowStore()
	ringing := r.ring(r.refer)
	must(r.t, ringing.Answer())
	must(r.t, r.out.Hangup())
	r.talks(ringing)
}

func (r *race) oldHangsUpSwitched() {
	ringing := r.ring(r.api)
	must(r.t, ringing.Answer())
	if !r.in.Hears(ringing, 3*time.Second) {
		r.t.Error("bob does not hear the new device")
	}
	_ = r.out.Hangup() // its BYE and ours cross
	r.talks(ringing)
}

// newOffersBeforeACK has the new device answer and change its session at once: its own ACK is not taken for ours.
func (r *race) newOffersBeforeACK() {
	r.slowStore()
	ringing := r.ring(r.api)
	must(r.t, ringing.Answer())
	if err := ringing.Resume(); err != nil && !strings.Contains(err.Error(), "491") { // it comes beside its answer
		r.t.Errorf("its offer was told %v", err)
	}
	_ = ringing.Resume()
	first, _ := ringing.Invite().CSeq()
	r.eventually("its answer is acknowledged", 3*time.Second, func() bool {
		return slices.ContainsFunc(methods(r.desk.Received(time.Time{}), "ACK"), func(m phone.Logged) bool {
			n, _ := m.CSeq()
			return n == first
		})
	})
	must(r.t, r.out.AwaitEnd(5*time.Second))
	r.talks(ringing)
}

func (r *race) newHangsUpSwitched() {
	ringing := r.ring(r.api)
	must(r.t, ringing.Answer())
	if !r.in.Hears(ringing, 3*time.Second) {
		r.t.Error("bob does not hear the new device")
	}
	must(r.t, ringing.Hangup())
	r.over()
}

func (r *race) holdThenRefer() {
	must(r.t, r.out.Hold(phone.HoldSendonly))
	time.Sleep(100 * time.Millisecond)
	ringing := r.ring(r.refer)
	if !r.in.HearsTone(time.Second) {
		r.t.Error("bob hears no hold tone")
	}
	must(r.t, ringing.Answer())
	must(r.t, r.out.AwaitEnd(5*time.Second))
	r.talks(ringing)
	r.eventually("held_ms is told", 3*time.Second, func() bool {
		m := r.b.Calls("alice")[0].Moves
		return len(m) == 1 && m[0].Report != nil && m[0].Report.HeldMS >= 100
	})
}

func (r *race) noBye() {
	ringing := r.ring(r.refer)
	began := time.Now()
	must(r.t, ringing.Answer())
	must(r.t, r.out.AwaitEnd(5*time.Second))
	if d := time.Since(began); d < 900*time.Millisecond {
		r.t.Errorf("it was hung up after %v, and not left the time for its own BYE", d)
	}
	r.talks(ringing)
}

func (r *race) holdWhileRinging() {
	ringing := r.ring(r.refer)
	must(r.t, r.out.Hold(phone.HoldInactive))
	if !r.in.HearsTone(time.Second) {
		r.t.Error("bob hears no hold tone")
	}
	must(r.t, ringing.Answer())
	must(r.t, r.out.AwaitEnd(5*time.Second))
	r.talks(ringing)
}

func (r *race) holdAndResume() {
	ringing := r.ring(r.api)
	must(r.t, r.out.Hold(phone.HoldSendonly))
	must(r.t, r.out.Resume())
	hearEachOther(r.t, r.out, r.in)
	must(r.t, ringing.Answer())
	must(r.t, r.out.AwaitEnd(5*time.Second))
	r.talks(ringing)
}

func (r *race) farHolds() {
	ringing := r.ring(r.api)
	must(r.t, r.in.Hold(phone.HoldSendonly))
	must(r.t, ringing.Answer())
	must(r.t, r.out.AwaitEnd(5*time.Second))
	if !ringing.HearsTone(time.Second) {
		r.t.Error("the new device does not hear that bob holds")
	}
	must(r.t, r.in.Resume())
	r.talks(ringing)
}

func (r *race) pullGivenUp() {
	r.slowStore()
	c, err := r.desk.Dial("*40")
	must(r.t, err)
	_ = c.Cancel()
	if c.State() == phone.Up { // the 200 came before it was sent
		_ = c.Hangup()
	}
	r.eventually("the desk phone has no call", 5*time.Second, func() bool { return len(r.desk.Calls()) == 0 })
	if c.Final() != nil && c.Final().Code == 487 {
		r.talks(r.out)
		return
	}
	// The 200 came first, and the phone has hung up: what it had then is over, or, when nothing had been heard of it yet, with the old phone.
	if r.in.AwaitEnd(2*time.Second) == nil {
		r.over()
		return
	}
	r.talks(r.out)
}

// pullGivenUpLate sends the CANCEL when the 200 has left: the call has been taken, and the phone hangs up by BYE (RFC 3261 §9.1, §15).
func (r *race) pullGivenUpLate() {
	c, err := r.desk.Dial("*40")
	must(r.t, err)
	must(r.t, c.Await(3*time.Second))
	_ = c.Cancel()
	must(r.t, c.Hangup())
	r.eventually("the call is on one device or over", 5*time.Second, func() bool {
		return len(r.desk.Calls()) == 0 && len(r.alice.Calls()) == len(r.bob.Calls())
	})
}

func (r *race) pullHere() {
	c, err := r.alice.Dial("*40")
	must(r.t, err)
	must(r.t, c.Await(3*time.Second))
	must(r.t, c.AwaitEnd(5*time.Second))
	r.talks(r.out)
}

// behindDelay sets the call up anew with alice's SIP delayed, so that what both send at once crosses.
func (r *race) behindDelay() *wire.Path {
	must(r.t, r.out.Hangup())
	must(r.t, r.in.AwaitEnd(3*time.Second))
	far, path := r.behindNAT("alice", 1)
	r.alice = far
	r.out, r.in = r.connect(r.alice, r.bob)
	slow := wire.Ways{SIP: wire.Way{Delay: 150 * time.Millisecond}}
	path.Set(slow, slow)
	return path
}

// offerOfOurs has the node send alice a re-INVITE: she comes from another port of her NAT.
func (r *race) offerOfOurs(path *wire.Path) {
	r.dark = 50
	path.Rebind()
	must(r.t, second(r.alice.Register(10*time.Minute)))
	r.eventually("our re-INVITE is under way", 3*time.Second, func() bool {
		return slices.ContainsFunc(path.Packets(), func(k wire.Packet) bool {
			return !k.Up && k.Kind == wire.SIP && strings.HasPrefix(string(k.Data), "INVITE ") && strings.Contains(string(k.Data), r.out.ID())
		})
	})
}

// glare has both offer at once: each refuses the other's with 491 and comes back later (RFC 3261 §14.1).
func (r *race) glare() {
	path := r.behindDelay()
	r.offerOfOurs(path)
	if err := r.out.Hold(phone.HoldSendonly); err == nil || !strings.Contains(err.Error(), "491") {
		r.t.Errorf("its re-INVITE was told %v", err)
	}
	refused := time.Now()
	r.eventually("its re-INVITE is taken", 6*time.Second, func() bool { return r.out.Hold(phone.HoldSendonly) == nil })
	r.eventually("and the next", 6*time.Second, func() bool { return r.out.Resume() == nil })
	r.eventually("ours has come again", 8*time.Second, func() bool { return len(requestsTo(r.alice, "INVITE")) >= 2 })
	if d := time.Since(refused); d > 6*time.Second {
		r.t.Errorf("ours came again after %v", d)
	}
	r.talks(r.out)
}

// answers491 has a phone that we called refuse our re-INVITE with 491: it comes again after 2.1 to 4 s, for the Call-ID is ours.
func (r *race) answers491() {
	r.dark = 50
	r.bob.Behave(phone.Behaviour{Answer: true, Refuse: 491})
	must(r.t, r.bob.Relocate(phone.Relocation{}))
	must(r.t, second(r.bob.Register(10*time.Minute)))
	r.eventually("a re-INVITE", 3*time.Second, func() bool { return len(requestsTo(r.bob, "INVITE")) >= 2 })
	refused := time.Now()
	r.bob.Behave(phone.AutoAnswer)
	r.eventually("another one", 8*time.Second, func() bool { return len(requestsTo(r.bob, "INVITE")) >= 3 })
	if d := time.Since(refused); d < 2*time.Second || d > 6*time.Second {
		r.t.Errorf("it came again after %v", d)
	}
	hearEachOther(r.t, r.out, r.in)
}

// refresh lets sessions of two seconds be refreshed while a move rings for three.
func (r *race) refresh(expires string) {
	must(r.t, r.out.Hangup())
	must(r.t, r.in.AwaitEnd(3*time.Second))
	out, err := r.alice.Dial("102", timed(header("Session-Expires", expires)))
	must(r.t, err)
	must(r.t, out.Await(3*time.Second))
	in, err := r.bob.Ringing(3 * time.Second)
	must(r.t, err)
	r.out, r.in = out, in
	ringing := r.ring(r.api)
	for range 5 {
		time.Sleep(600 * time.Millisecond)
		if strings.HasSuffix(expires, "uac") {
			must(r.t, second(out.Request("UPDATE", nil, header("Session-Expires", expires), header("Supported", "timer"))))
		}
	}
	must(r.t, ringing.Answer())
	must(r.t, r.out.AwaitEnd(5*time.Second))
	r.talks(ringing)
}

// oursBeforeACK has a re-INVITE of ours be due while the ACK of the phone's own is still to come: it waits for that (RFC 3261 §14.1).
func (r *race) oursBeforeACK() {
	r.dark = 50
	res, err := r.out.Request("INVITE", r.out.SDP())
	must(r.t, err)
	must(r.t, r.alice.Relocate(phone.Relocation{}))
	must(r.t, second(r.alice.Register(10*time.Minute)))
	time.Sleep(600 * time.Millisecond)
	if n := len(requestsTo(r.alice, "INVITE")); n > 0 {
		r.t.Errorf("%d re-INVITEs of ours before the ACK", n)
	}
	r.out.ACK(res)
	r.eventually("our re-INVITE", 3*time.Second, func() bool { return len(requestsTo(r.alice, "INVITE")) == 1 })
	r.talks(r.out)
}

func (r *race) referBeforeACK() {
	res, err := r.out.Request("INVITE", r.out.SDP())
	must(r.t, err)
	ringing := r.ring(r.refer)
	must(r.t, ringing.Answer())
	r.out.ACK(res)
	must(r.t, r.out.AwaitEnd(5*time.Second))
	r.talks(ringing)
}

func (r *race) referDuringOurs() {
	path := r.behindDelay()
	r.offerOfOurs(path)
	ringing := r.ring(r.refer)
	must(r.t, ringing.Answer())
	must(r.t, r.out.AwaitEnd(5*time.Second))
	r.talks(ringing)
}

// TestACKBehindTheNextOffer has the news of an ACK come behind the re-INVITE without offer that the phone has sent after it: it is not
// taken for the ACK that must bring the answer, which would end the call. (TestInterleavings has found it.)
func TestACKBehindTheNextOffer(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	out, in := r.connect(alice, bob)
	must(t, r.b.In(r.b.Calls("")[0].ID, (*call.Call).LateACK))
	hearEachOther(t, out, in)
	must(t, second(out.AskOffer()))
	must(t, in.Hangup())
	r.nothingLeft()
}
