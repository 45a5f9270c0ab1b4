package call_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/test/phone"
)

// A trial plays random events against one call: moves by every trigger, to devices that answer, refuse, ring for ever,
// hang up at once or say nothing, while people hang up, hold and resume. The model knows only what people did.
type trial struct {
	*rig
	rand  *rand.Rand
	mine  []*phone.Phone // alice's devices
	bob   *phone.Phone
	far   *phone.Call
	story []string

	mu      sync.Mutex
	pending sync.WaitGroup
	refers  map[*phone.Call]*phone.Referral
}

func (tr *trial) tell(format string, a ...any) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.story = append(tr.story, fmt.Sprintf(format, a...))
}

// behaviours are what a device may do when it is rung.
var behaviours = []phone.Behaviour{
	{Answer: true},
	{Answer: true, After: 60 * time.Millisecond},
	{Answer: true, HangUp: true},
	{Reject: 486},
	{Reject: 603, After: 30 * time.Millisecond},
	{},
	{Silent: true},
}

// talking is the device of alice that is in a call now, nil when none or several are.
func (tr *trial) talking() *phone.Call {
	var up *phone.Call
	for _, p := range tr.mine {
		for _, c := range p.Calls() {
			if c.State() == phone.Up {
				if up != nil {
					return nil
				}
				up = c
			}
		}
	}
	return up
}

func (tr *trial) step() {
	devices := len(tr.mine)
	p := tr.mine[tr.rand.IntN(devices)]
	p.Behave(behaviours[tr.rand.IntN(len(behaviours))])
	switch op := tr.rand.IntN(12); {
	case op < 4:
		tr.moveByAPI(1 + tr.rand.IntN(devices))
	case op < 6:
		tr.refer()
	case op < 8:
		tr.pull(p)
	case op < 10:
		tr.hold()
	case op == 10:
		tr.leave()
	default:
		tr.hangUpFar()
	}
	time.Sleep(time.Duration(tr.rand.IntN(120)) * time.Millisecond)
}

func (tr *trial) moveByAPI(index int) {
	tr.tell("move to %d", index)
	tr.pending.Add(1)
	go func() {
		defer tr.pending.Done()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_, err := tr.b.Move(ctx, call.MoveRequest{User: "alice", Device: fmt.Sprint(index), Who: "test", How: "api"})
		tr.tell("move to %d: %v", index, err)
		if ctx.Err() != nil {
			tr.t.Errorf("a move was never answered")
		}
	}()
}

func (tr *trial) refer() {
	c := tr.talking()
	if c == nil || tr.refers[c] != nil {
		return
	}
	tr.tell("refer by %s", c.Phone().Config().UserAgent)
	ref, err := c.Refer("101")
	if err != nil {
		tr.tell("refer: %v", err)
		return
	}
	tr.refers[c] = ref
}

func (tr *trial) pull(p *phone.Phone) {
	tr.tell("pull by %s", p.Config().UserAgent)
	c, err := p.Dial("101")
	if err != nil {
		tr.tell("pull: %v", err)
		return
	}
	tr.pending.Add(1)
	go func() {
		defer tr.pending.Done()
		tr.tell("pull by %s: %v", p.Config().UserAgent, c.Await(8*time.Second))
	}()
}

func (tr *trial) hold() {
	if c := tr.talking(); c != nil {
		tr.tell("hold by %s: %v", c.Phone().Config().UserAgent, c.Hold(phone.HoldSendonly))
		if c.State() == phone.Up {
			tr.tell("resume: %v", c.Resume())
		}
	}
}

// leave hangs up at the talking device. In mid-move that is no end of the call.
func (tr *trial) leave() {
	if c := tr.talking(); c != nil {
		tr.tell("hang up %s: %v", c.Phone().Config().UserAgent, c.Hangup())
	}
}

func (tr *trial) hangUpFar() {
	tr.tell("bob hangs up: %v", tr.far.Hangup())
}

// check compares what the phones see with what people did.
func (tr *trial) check() {
	tr.pending.Wait()
	tr.eventually("moves settle", 20*time.Second, tr.stays)
	calls := tr.b.Calls("")
	mine := tr.talking()
	switch {
	case len(calls) == 0 && tr.far.State() == phone.Up:
		tr.t.Errorf("the call is gone and bob was not told")
	case len(calls) == 0 && !tr.somebodyHungUp():
		why, _ := tr.far.Why()
		tr.t.Errorf("nobody hung up, yet the call has ended (bob: %s)", why)
	case len(calls) == 1 && calls[0].State == "up":
		tr.checkUp(calls[0], mine)
	}
	for _, m := range tr.bob.Received(tr.far.Times().Answered) {
		if m.Method != "" && m.Method != "ACK" && m.Method != "BYE" && m.Method != "OPTIONS" {
			tr.t.Errorf("bob was sent %s", m.Line())
		}
	}
	for c, ref := range tr.refers {
		if _, err := ref.Wait(time.Second); err != nil && c.State() == phone.Up {
			tr.t.Errorf("a REFER has no final NOTIFY: %v", err)
		}
	}
}

// somebodyHungUp says that a phone has sent BYE: by a person, or one that hangs up as it answers.
func (tr *trial) somebodyHungUp() bool {
	for _, p := range append([]*phone.Phone{tr.bob}, tr.mine...) {
		for _, m := range p.Log() {
			if m.Out && m.Method == "BYE" {
				return true
			}
		}
	}
	return false
}

// stays says that things have settled and are so a moment later too: a device that hangs up as it answers has done so.
func (tr *trial) stays() bool {
	if !tr.settledDown() {
		return false
	}
	time.Sleep(300 * time.Millisecond)
	return tr.settledDown()
}

// settledDown says that no leg is half-way and each side has at most one call.
func (tr *trial) settledDown() bool {
	calls := tr.b.Calls("")
	for _, c := range calls {
		if c.State == "ending" || c.State == "setup" {
			return false
		}
		for _, s := range c.Seats {
			if len(s.Legs) != 1 || s.Legs[0].State != "up" {
				return false
			}
		}
	}
	up := 0
	for _, p := range tr.mine {
		for _, c := range p.Calls() {
			if c.State() != phone.Ended {
				up++
			}
		}
	}
	return up == len(calls)
}

func (tr *trial) checkUp(info call.Info, mine *phone.Call) {
	if mine == nil || tr.far.State() != phone.Up {
		tr.t.Fatalf("the call is up at baton, alice %v, bob %v", mine != nil, tr.far.State())
	}
	if !mine.Hears(tr.far, 3*time.Second) {
		tr.t.Errorf("alice's device does not hear bob")
	}
	if !tr.far.Hears(mine, 3*time.Second) {
		tr.t.Errorf("bob does not hear alice's device")
	}
	if r := phone.Analyse(tr.far.Media().Heard(), 8000); len(r.SSRCs) != 1 || r.Missing != 0 {
		tr.t.Errorf("bob's stream is broken: %v", r)
	}
	if n := len(info.Seats); n != 2 {
		tr.t.Errorf("%d seats", n)
	}
}

func TestMovesInAnyOrder(t *testing.T) {
	trials := 24
	if testing.Short() {
		trials = 6
	}
	seed := uint64(time.Now().UnixNano())
	for i := range trials {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			playTrial(t, seed+uint64(i))
		})
	}
}

func playTrial(t *testing.T, seed uint64) {
	r := newRig(t, func(c *config.Config) { c.Call.Ring = 700 * time.Millisecond })
	tr := &trial{rig: r, rand: rand.New(rand.NewPCG(seed, 1)), refers: map[*phone.Call]*phone.Referral{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d:\n%s", seed, strings.Join(tr.story, "\n"))
		}
	})
	r.user("alice", "101")
	r.user("bob", "102")
	for n := 1; n <= 3; n++ {
		tr.mine = append(tr.mine, r.phone("alice", n))
	}
	tr.bob = r.phone("bob", 1)
	_, tr.far = r.connect(tr.mine[0], tr.bob)
	for range 8 {
		if tr.far.State() != phone.Up {
			break
		}
		tr.step()
	}
	tr.check()
	for _, p := range tr.mine {
		for _, c := range p.Calls() {
			_ = c.Hangup()
		}
	}
	_ = tr.far.Hangup()
	r.nothingLeft()
}
