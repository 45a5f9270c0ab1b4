package faults

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"baton/test/phone"
)

// The states in which a fault finds a call.
const (
	talking = "talking"
	held    = "held"
	ringing = "ringing"
	moving  = "in mid-move"
	leftIt  = "left"
	waiting = "waiting for a lost device"
	busy    = "held and resumed again and again"
)

// pair is two users with one call: alice's two devices, and bob's one.
type pair struct {
	c          *cluster
	n          int
	transports [2]string
	a          [2]*device
	b          *device

	state string
	at    int         // which of alice's devices has the call
	near  *phone.Call // nil = no call
	far   *phone.Call
	id    string // baton's
	moved chan error
	idle  chan struct{} // closed: no more hold and resume
	quiet chan struct{} // closed when the last of them has come to an end
	since time.Time     // when the state was reached
}

func (p *pair) name() string { return fmt.Sprintf("a%d-b%d", p.n, p.n) }

// openAll makes the pair's devices; no two have the same node and transport.
func (p *pair) openAll() (err error) {
	kinds := [][2]string{{"udp", "udp"}, {"tcp", "udp"}, {"udp", "tls"}}
	p.transports = kinds[p.n%len(kinds)]
	for i := range p.a {
		if p.a[i], err = p.openA(i); err != nil {
			return err
		}
	}
	p.b, err = p.c.open(fmt.Sprintf("b%d", p.n), fmt.Sprintf("b%d", p.n), p.transports[1], 3*p.n+2, p.n/3+1)
	if err == nil {
		p.b.Behave(phone.AutoAnswer)
	}
	return err
}

func (p *pair) openA(i int) (*device, error) {
	transport := p.transports[0]
	if i == 1 {
		transport = "udp"
	}
	d, err := p.c.open(fmt.Sprintf("a%d", p.n), fmt.Sprintf("a%d%c", p.n, 'x'+i), transport, 3*p.n+i, p.n/3+p.n)
	if err == nil {
		d.Behave(phone.Behaviour{Answer: true, After: 200 * time.Millisecond})
	}
	return d, err
}

// drain takes calls out of a phone that have reached it, so that the next is the one that is meant.
func drain(d *device) {
	for {
		select {
		case <-d.Incoming():
		default:
			return
		}
	}
}

// begin calls bob, and has the phone ring or the call up.
func (p *pair) begin(state string) error {
	p.state, p.near, p.far, p.id, p.at = talking, nil, nil, "", 0
	drain(p.b)
	p.b.Behave(phone.AutoAnswer)
	if state == ringing {
		p.state = ringing
		p.b.Behave(phone.Behaviour{})
	}
	near, err := p.a[0].Dial(p.b.Config().User)
	if err != nil {
		return err
	}
	if state != ringing {
		if err := near.Await(soon); err != nil {
			_ = near.Hangup()
			return fmt.Errorf("%s is not set up: %w", p.name(), err)
		}
	}
	far, err := p.b.Ringing(soon)
	if err != nil {
		_ = near.Hangup()
		return err
	}
	p.near, p.far, p.since = near, far, time.Now()
	p.id = p.find()
	if state != ringing && !p.talks(soon) {
		return fmt.Errorf("%s: they do not hear each other", p.name())
	}
	return nil
}

// find asks for baton's name of the call.
func (p *pair) find() string {
	var calls []struct {
		ID    string
		Seats []struct{ User string }
	}
	for _, m := range p.c.nodes {
		if m.JSON(&calls, "calls", "--json") != nil {
			continue
		}
		for _, c := range calls {
			for _, s := range c.Seats {
				if s.User == p.b.Config().User {
					return c.ID
				}
			}
		}
	}
	return ""
}

// talks waits until both hear each other.
func (p *pair) talks(limit time.Duration) bool {
	end := time.Now().Add(limit)
	return p.near.Hears(p.far, limit) && p.far.Hears(p.near, max(time.Until(end), 200*time.Millisecond))
}

// become brings a call that is up into another state.
func (p *pair) become(state string) error {
	switch state {
	case held:
		if err := again(func() error { return p.near.Hold(phone.HoldSendonly) }); err != nil {
			return fmt.Errorf("%s: hold: %w", p.name(), err)
		}
	case leftIt:
		var r *phone.Referral
		err := again(func() (err error) {
			r, err = p.near.Refer("*42")
			return err
		})
		code := 0
		if err == nil {
			code, err = r.Wait(soon)
		}
		if err != nil || code != 200 {
			return fmt.Errorf("%s: leave: %d, %w", p.name(), code, err)
		}
		_ = p.near.Hangup() // as phones do that have transferred their call
	case waiting:
		p.a[p.at].gone(p.a[p.at].Vanish)
		if !p.far.HearsTone(later) {
			return fmt.Errorf("%s: bob hears no tone when alice's device is gone", p.name())
		}
	}
	p.state, p.since = state, time.Now()
	return nil
}

// again does what may be refused for a moment, as by a 491 or a 500 with Retry-After.
func again(do func() error) (err error) {
	for range 4 {
		var refused *phone.Status
		if err = do(); !errors.As(err, &refused) || refused.Code != 491 && refused.Code != 500 {
			return err
		}
		time.Sleep(1200 * time.Millisecond)
	}
	return err
}

// startMove has the call go to alice's other device just now.
func (p *pair) startMove() {
	p.state = moving
	moved := make(chan error, 1)
	p.moved = moved
	near, to := p.near, 1-p.at
	drain(p.a[to])
	go func() {
		r, err := near.Refer(fmt.Sprintf("a%d*%d", p.n, to+1))
		if err == nil {
			_, err = r.Wait(soon)
		}
		moved <- err
		close(moved)
	}()
}

// startHolding has alice hold and resume through the fault, whatever she is told.
func (p *pair) startHolding() {
	p.idle, p.quiet = make(chan struct{}), make(chan struct{})
	near, idle, quiet := p.near, p.idle, p.quiet
	go func() {
		defer close(quiet)
		for do := near.Hold; ; {
			_ = do(phone.HoldSendonly)
			if near.Holding() {
				do = func(phone.HoldDialect) error { return near.Resume() }
			} else {
				do = near.Hold
			}
			select {
			case <-idle:
				return
			case <-time.After(150 * time.Millisecond):
			}
		}
	}()
}

// settle waits until a call is again what it should be, whatever the fault was, and says what it is not.
func (p *pair) settle(fault string, end time.Time) (f Fate) {
	f = Fate{Call: p.name(), State: p.state, Fault: fault}
	left := func() time.Duration { return max(time.Until(end), 500*time.Millisecond) }
	ended := func(leg string, c *phone.Call) bool {
		if c.State() != phone.Ended {
			return false
		}
		why, last := c.Why()
		text := ""
		if last != nil {
			text = " " + last.Line() + " " + last.Get("Reason")
		}
		f.Ended = append(f.Ended, leg+": "+why+text+" at "+clock(c.Times().Ended))
		return true
	}
	switch p.state {
	case talking:
		if ended("alice", p.near) || ended("bob", p.far) {
			return f
		}
		p.hear(&f, left)
		ended("alice", p.near)
	case held:
		if ended("alice", p.near) || ended("bob", p.far) {
			return f
		}
		if err := p.until(end, p.near.Resume); err != nil {
			f.Silent = append(f.Silent, fmt.Sprintf("alice cannot resume: %v", err))
			return f
		}
		p.state = talking
		p.hear(&f, left)
	case busy:
		p.state = held
		close(p.idle)
		select {
		case <-p.quiet: // a request that nobody has answered goes on for 32 s
		case <-time.After(later):
		}
		end = time.Now().Add(soon)
		if ended("alice", p.near) || ended("bob", p.far) {
			return f
		}
		if err := p.until(end, p.near.Resume); err != nil {
			f.Silent = append(f.Silent, fmt.Sprintf("alice cannot resume: %v", err))
			return f
		}
		p.state = talking
		p.hear(&f, left)
	case leftIt, waiting:
		if ended("bob", p.far) {
			return f
		}
		p.comeBack(&f, end, left)
	case moving:
		p.settleMove(&f, end, left)
	}
	ended("bob", p.far)
	return f
}

// until does something until it succeeds or the time is over.
func (p *pair) until(end time.Time, do func() error) (err error) {
	for {
		if err = do(); err == nil || time.Now().After(end) {
			return err
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func (p *pair) hear(f *Fate, left func() time.Duration) {
	if !p.near.Hears(p.far, left()) {
		f.Silent = append(f.Silent, "alice does not hear bob")
	}
	if !p.far.Hears(p.near, left()) {
		f.Silent = append(f.Silent, "bob does not hear alice")
	}
}

// comeBack has alice pull the call on her other device.
func (p *pair) comeBack(f *Fate, end time.Time, left func() time.Duration) {
	to := 1 - p.at
	err := p.until(end, func() error {
		leg, err := p.a[to].Dial("*40")
		if err == nil {
			err = leg.Await(soon)
		}
		var refused *phone.Status
		if errors.As(err, &refused) && refused.Code == 404 { // it may have asked a node that does not know of the call
			p.a[to].turnTo(p.c.history.Owner(p.id))
		}
		if err != nil {
			return err
		}
		p.near, p.at = leg, to
		return nil
	})
	if err != nil {
		f.Silent = append(f.Silent, fmt.Sprintf("alice cannot come back by *40: %v", err))
		return
	}
	p.state = talking
	p.hear(f, left)
}

// settleMove finds out where a call is that was in mid-move: on one of alice's devices, or, if the one that had it has hung up already, on none; then
// she pulls it back.
func (p *pair) settleMove(f *Fate, end time.Time, left func() time.Duration) {
	select {
	case <-p.moved:
	case <-time.After(left()):
	}
	for {
		var live []*phone.Call
		for i, d := range p.a {
			for _, c := range d.Calls() {
				if c.State() == phone.Up {
					live = append(live, c)
					p.at = i
				}
			}
		}
		switch {
		case p.far.State() == phone.Ended:
			return
		case len(live) == 1 && live[0].Hears(p.far, time.Second) && p.far.Hears(live[0], time.Second):
			p.near, p.state = live[0], talking
			return
		case time.Now().After(end):
			if len(live) == 0 {
				p.comeBack(f, time.Now().Add(soon), func() time.Duration { return soon })
				return
			}
			f.Silent = append(f.Silent, fmt.Sprintf("alice's devices have %d calls, and none of them is heard", len(live)))
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// finishRinging answers bob's phone if it still rings. One that was not answered may be lost with its node, or be one of a node that was cut off and has lost
// it to another without knowing: then bob's phone must stop to ring, and alice gives up.
func (p *pair) finishRinging() error {
	near, far := p.near, p.far
	p.near, p.far = nil, nil
	if far.State() == phone.Alerting {
		_ = far.Answer()
		if near.Await(soon) == nil && near.Hears(far, soon) && far.Hears(near, soon) && again(near.Hangup) == nil && far.AwaitEnd(soon) == nil {
			return nil
		}
	}
	if near.State() == phone.Up { // nobody knows of it
		near.Vanish()
		far.Vanish()
		return nil
	}
	_ = near.Hangup()
	if err := far.AwaitEnd(later); err != nil {
		return fmt.Errorf("%s: a call that rang: %w", p.name(), err)
	}
	return nil
}

// hangUp ends the call, by either, and sees that the other side is told.
func (p *pair) hangUp(byBob bool) error {
	first, second := p.near, p.far
	if byBob {
		first, second = p.far, p.near
	}
	err := again(first.Hangup)
	if err == nil {
		err = second.AwaitEnd(soon)
	}
	p.near, p.far = nil, nil
	if err != nil {
		return fmt.Errorf("%s (call %s) cannot be hung up: %w", p.name(), p.id, err)
	}
	return nil
}

// reset lets go of what is left of a call that was lost, and makes devices that are gone anew.
func (p *pair) reset() error {
	for _, d := range []*device{p.a[0], p.a[1], p.b} {
		for _, c := range d.Calls() {
			c := c
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = c.Hangup()
			}()
			select {
			case <-done:
			case <-time.After(soon):
				c.Vanish()
			}
		}
		d.Forget()
		drain(d)
	}
	p.near, p.far = nil, nil
	return p.revive()
}

// revive makes devices anew that are gone.
func (p *pair) revive() error {
	for i, d := range p.a {
		select {
		case <-d.stop:
			fresh, err := p.openA(i)
			if err != nil {
				return err
			}
			p.a[i] = fresh
		default:
		}
	}
	return nil
}

// speakers tells of phones that were sent the sound of two nodes at once for longer than a second.
func (p *pair) speakers(since time.Time) (all []string) {
	for leg, c := range map[string]*phone.Call{"alice": p.near, "bob": p.far} {
		if c == nil {
			continue
		}
		heard := phone.Between(c.Media().Heard(), since, time.Now())
		if long, until := TwoSpeakers(heard); long > time.Second {
			var from []string
			for _, k := range heard {
				from = append(from, k.From.String())
			}
			slices.Sort(from)
			all = append(all, fmt.Sprintf("%s of %s (call %s) was sent sound from two places for %s until %s: %s", leg, p.name(), p.id, long.Round(time.Millisecond), clock(until),
				strings.Join(slices.Compact(from), ", ")))
		}
	}
	return all
}

// gaps are the longest times in which each of the two heard nothing of the other.
func (p *pair) gaps(from, to time.Time) (all []time.Duration) {
	for _, c := range [][2]*phone.Call{{p.near, p.far}, {p.far, p.near}} {
		gap, _ := phone.LongestGap(phone.Of(c[0].Media().Heard(), c[1].Media().Source()), from, to)
		all = append(all, gap)
	}
	return all
}
