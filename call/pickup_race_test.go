package call_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/test/phone"
)

// slow has the store take its time, so that what crosses a pick-up comes between its decision and its answer.
func (g *group) slow() { g.faults.fault(40*time.Millisecond, nil) }

// taken waits until the node is about to answer a picker, whose seat is the last of so many.
func (g *group) taken(seats int) {
	g.t.Helper()
	g.eventually("the picker's INVITE is taken", 3*time.Second, func() bool {
		calls := g.b.Calls("")
		return len(calls) == 1 && len(calls[0].Seats) == seats
	})
}

func quick(c *config.Config) { c.Call.Announce = false }

// TestPickUpCrossesAnAnswer: a phone answers while the picker's record is being written. The phone has it, the picker is told.
func TestPickUpCrossesAnAnswer(t *testing.T) {
	t.Parallel()
	g := newGroup(t, quick)
	out, first, second := g.ring()
	release := g.hold()
	picked := mustDial(t, g.carol, "*8")
	g.taken(3)
	must(t, first.Answer())
	g.eventually("the node has the answer", 3*time.Second, func() bool {
		return slices.ContainsFunc(g.b.Calls("")[0].Seats[1].Legs, func(l call.LegInfo) bool { return l.State == "up" })
	})
	release()
	g.refused(picked, 480)
	g.talk(out, first)
	g.elsewhere(second)
	must(t, out.Hangup())
	g.nothingLeft()
}

// TestTwoPickUpsAtOnce: exactly one of two colleagues has the call, and the other is told.
func TestTwoPickUpsAtOnce(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"*8", "Replaces"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, quick)
			out, first, second := g.ring()
			dial, o, code := how, phone.DialOptions{}, 404
			if how == "Replaces" {
				dial, o, code = "102", replacing(first.Replaces()), 603
			}
			g.slow()
			one, two := mustDial(t, g.carol, dial, o), mustDial(t, g.dave, dial, o)
			g.eventually("one has the call, one is refused", 5*time.Second, func() bool {
				return (one.State() == phone.Up && two.State() == phone.Ended) || (two.State() == phone.Up && one.State() == phone.Ended)
			})
			winner, loser := one, two
			if two.State() == phone.Up {
				winner, loser = two, one
			}
			g.refused(loser, code)
			g.talk(out, winner)
			g.elsewhere(first, second)
			must(t, out.Hangup())
			g.nothingLeft()
		})
	}
}

// TestCallerCancelsPickUp: the caller gives up while the picker's record is being written.
func TestCallerCancelsPickUp(t *testing.T) {
	t.Parallel()
	g := newGroup(t, quick)
	out, first, second := g.ring()
	release := g.hold()
	picked := mustDial(t, g.carol, "*8")
	g.taken(3)
	must(t, out.Cancel())
	must(t, first.AwaitEnd(3*time.Second))
	must(t, second.AwaitEnd(3*time.Second))
	release()
	g.refused(picked, 480)
	g.nothingLeft()
}

// TestPickerCancels: the picker gives up while its record is being written: the phones ring on, and another picks the call up.
func TestPickerCancels(t *testing.T) {
	t.Parallel()
	g := newGroup(t, quick)
	out, first, second := g.ring()
	release := g.hold()
	picked := mustDial(t, g.carol, "*8")
	g.taken(3)
	must(t, picked.Cancel())
	g.refused(picked, 487)
	release()
	if first.State() != phone.Alerting || second.State() != phone.Alerting {
		t.Fatalf("bob's phones: %s, %s", first.State(), second.State())
	}
	again := mustDial(t, g.dave, "*8")
	g.talk(out, again)
	g.elsewhere(first, second)
	must(t, out.Hangup())
	g.nothingLeft()
}

// TestPickUpsAtRandom lets two phones answer, two colleagues pick up and the caller hang up at any moment round each other:
// whatever comes first, at most one pair talks, everybody else is told, and nothing is left.
func TestPickUpsAtRandom(t *testing.T) {
	t.Parallel()
	g := newGroup(t, quick)
	seed := time.Now().UnixNano()
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	for i := range 60 {
		out, first, second := g.ring()
		delay := time.Duration(0)
		if rng.IntN(2) == 0 {
			delay = time.Duration(rng.IntN(8)) * time.Millisecond
		}
		g.faults.fault(delay, nil)
		var mu sync.Mutex
		var pickers []*phone.Call
		pick := func(p *phone.Phone, to string) func() {
			return func() {
				c, err := p.Dial(to)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				pickers = append(pickers, c)
				mu.Unlock()
			}
		}
		acts := []struct {
			name string
			do   func()
		}{
			{"first answers", func() { _ = first.Answer() }},
			{"second answers", func() { _ = second.Answer() }},
			{"second refuses", func() { _ = second.Reject(486) }},
			{"cancelled", func() { _ = out.Cancel() }},
			{"carol *8", pick(g.carol, "*8")},
			{"dave **102", pick(g.dave, "**102")},
		}
		rng.Shuffle(len(acts), func(i, j int) { acts[i], acts[j] = acts[j], acts[i] })
		n := 2 + rng.IntN(3)
		story := fmt.Sprintf("seed %d, round %d, writes of %v", seed, i, delay)
		var wg sync.WaitGroup
		for _, act := range acts[:n] {
			at := time.Duration(rng.IntN(6000)) * time.Microsecond
			story += fmt.Sprintf(", %s after %v", act.name, at)
			wg.Go(func() {
				time.Sleep(at)
				act.do()
			})
		}
		wg.Wait()
		g.settled(story, out, append(pickers, first, second))
	}
}

// settled waits until at most one of the others talks with the caller and nobody is in between, and hangs up.
func (g *group) settled(what string, out *phone.Call, others []*phone.Call) {
	g.t.Helper()
	g.eventually(what+": everybody is somewhere", 12*time.Second, func() bool {
		up, waiting := 0, 0
		for _, c := range others {
			switch c.State() {
			case phone.Up:
				up++
			case phone.Calling:
				waiting++
			}
		}
		switch out.State() {
		case phone.Up:
			return up == 1 && waiting == 0
		case phone.Ended:
			return up == 0 && waiting == 0
		}
		return up == 0 && waiting == 0
	})
	for _, c := range others {
		if out.State() == phone.Up && c.State() == phone.Up && (!c.Hears(out, 3*time.Second) || !out.Hears(c, 3*time.Second)) &&
			out.AwaitEnd(time.Second) != nil { // a CANCEL that came too late is followed by a BYE
			g.t.Errorf("%s: the two do not hear each other", what)
		}
	}
	var refused *phone.Status
	if err := out.Hangup(); err != nil && !errors.As(err, &refused) {
		g.t.Errorf("%s: hang up: %v", what, err)
	}
	for _, c := range others {
		if err := c.AwaitEnd(8 * time.Second); err != nil {
			g.t.Errorf("%s: %v", what, err)
		}
	}
	g.nothingLeft()
}

// TestOwnAnswerCrossesPull: one's phone answers while one dials *40 on another device, which then has the call all the same.
func TestOwnAnswerCrossesPull(t *testing.T) {
	t.Parallel()
	g := newGroup(t, quick)
	third := g.phoneThatRingsNot("bob", 3)
	for i := range 30 {
		out, first, second := g.ring()
		if i < 3 {
			g.slow()
			pulled := mustDial(t, third, "*40")
			g.eventually("the INVITE is taken", 3*time.Second, func() bool {
				s := g.b.Calls("bob")[0].Seats
				return slices.ContainsFunc(s[1].Legs, func(l call.LegInfo) bool { return l.State == "incoming" })
			})
			must(t, first.Answer())
			g.faults.fault(0, nil)
			g.talk(out, pulled)
			must(t, first.AwaitEnd(3*time.Second))
			g.elsewhere(second)
			must(t, out.Hangup())
			g.nothingLeft()
			continue
		}
		c := make(chan *phone.Call, 1)
		go func() {
			time.Sleep(time.Duration(i%10) * 500 * time.Microsecond)
			c <- mustDial(t, third, "*40")
		}()
		time.Sleep(time.Duration(i%7) * 500 * time.Microsecond)
		_ = first.Answer() // or it is too late
		pulled := <-c
		must(t, pulled.Await(5*time.Second))
		if !pulled.Hears(out, 3*time.Second) || !out.Hears(pulled, 3*time.Second) {
			t.Fatalf("round %d: the call is not on the device that has dialled", i)
		}
		must(t, first.AwaitEnd(3*time.Second))
		must(t, second.AwaitEnd(3*time.Second))
		must(t, out.Hangup())
		must(t, pulled.AwaitEnd(3*time.Second))
		g.nothingLeft()
	}
}
