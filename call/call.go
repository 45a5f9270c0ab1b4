package call

import (
	"context"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"baton/journal"
	"baton/serial"
)

// State is where a call is in its life.
//
//	setup ──answer──▶ up ──hang-up──▶ ending ──last leg closed──▶ ended
//	  └──cancel, refusal, no answer─────▲
type State string

// The states of a call.
const (
	StateSetup  State = "setup"
	StateUp     State = "up"
	StateEnding State = "ending"
	StateEnded  State = "ended"
)

// Call connects seats. Its agent owns it: the closures of its mailbox, which run one at a time. Everybody else posts.
type Call struct {
	// set once
	b       *B2BUA
	id      string
	by      string // the user who began it
	log     *slog.Logger
	mail    serial.Queue
	ctx     context.Context // of the node, not of the call: BYEs go out after the call's end
	done    chan struct{}   // closed when the agent has nothing more to do
	started time.Time

	epoch       uint64 // set before it is one of the node's
	predecessor string // the node that it was taken over from, whose ports and connections are not this one's; "" = none

	public atomic.Pointer[summary] // what others may know without asking

	// guarded by the roster's mu
	entered  bool
	enlisted []string // users under whom it is found

	// owned by the agent
	open      int // exchanges and writes under way that will still post
	state     State
	up        time.Time
	seats     []*Seat
	legs      []*Leg // every leg that is not closed, also ringing and closing ones
	dial      *dial  // of the callee, in setup
	early     *Leg   // whose early media the caller hears
	picker    *Leg   // the last that picked the call up: see picking
	moves     []*move
	history   []MoveInfo
	store     committer
	timers    map[*time.Timer]struct{}
	reports   []*move // switched, figures still to come
	touched   bool
	hops      []hop  // who has forwarded the call, the first called first
	missedFor string // why the called user did not take it
	over      bool   // nobody comes back: who waits hears so
	quiet     bool   // an announcement: not shown, not logged
	abandoned bool
	kept      bool      // for the next run of the node: it has not ended for anybody
	died      time.Time // of one that ended with an earlier run of the node: when
	crashed   bool      // what is under way may never post
	why       string    // why it ended
	ended     func()    // told when it has ended
	lending   *handover // an attended transfer waits for its far side
	gave      bool      // its far side has gone to another call
	pushing   *move     // what this call waits for, as the second of a phone that dialled the push code
	path      path      // of its sound
	pledged   int       // legs on their way to another call or from one: it does not end before they have arrived
}

func (b *B2BUA) newCall(ctx context.Context) *Call { return b.newCallAs(ctx, newID()) }

func (b *B2BUA) newCallAs(ctx context.Context, id string) *Call {
	c := &Call{
		b: b, id: id, log: b.Log.With("call", id), ctx: ctx, done: make(chan struct{}),
		started: time.Now(), state: StateSetup, timers: map[*time.Timer]struct{}{},
	}
	c.mail.Guard, c.mail.Settled, c.mail.Ended = c.guard, c.settled, c.gone
	return c
}

// post has f run in the agent, later: the caller may hold locks, or be in a hurry. False: the call has gone.
func (c *Call) post(f func()) bool { return c.mail.Post(f) }

// do has f run in the agent, now if it is free: the caller holds no lock and is not on the way of audio.
func (c *Call) do(f func()) bool { return c.mail.Do(f) }

// settled is called when the agent has done all there was: what others see is renewed. It says whether the call has ended and
// nothing is under way any more.
func (c *Call) settled() bool {
	if !c.kept {
		c.publish()
	}
	return c.state == StateEnded && (c.open == 0 || c.crashed)
}

// gone is the end of the agent.
func (c *Call) gone() {
	close(c.done)
	c.b.running.Done()
}

// guard runs one event; a panic costs this call, never the node.
func (c *Call) guard(f func()) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("call agent panicked", "err", p, "stack", string(debug.Stack()))
			c.crash()
		}
	}()
	f()
}

// crashPatience is how long a call that has panicked waits for its legs to end in their usual way.
const crashPatience = requestPatience + time.Second

// crash ends the call as well as it can still be ended.
func (c *Call) crash() {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("call agent panicked while ending", "err", p, "stack", string(debug.Stack()))
			c.release()
		}
	}()
	if !c.crashed {
		c.crashed = true
		c.after(crashPatience, c.release)
	}
	c.end("internal error")
}

// release lets go of what the call holds, and nothing else: what more could be done has panicked.
func (c *Call) release() {
	for _, l := range c.legs {
		c.dropForks(l)
		l.unfollow()
		c.b.Agent.Detach(l.dialog.ID())
		c.b.unindex(l.dialog.ID())
		if l.cancel != nil {
			l.cancel(nil)
		}
		l.stream.Close()
	}
	c.legs, c.store.acts, c.state, c.pledged = nil, nil, StateEnding, 0
	c.finishIfEmpty()
}

// closeAll lets go of every leg without waiting for its phone.
func (c *Call) closeAll() {
	for _, l := range slices.Clone(c.legs) {
		c.closeLeg(l)
	}
	c.finishIfEmpty()
}

// hold keeps the agent until landed: something is under way.
func (c *Call) hold() { c.open++ }

// landed runs f, in the agent, as the end of what hold was called for.
func (c *Call) landed(f func()) {
	c.open--
	f()
}

// exchange runs f, which waits for the network, in a goroutine of its own; what f returns is then done in the agent.
func (c *Call) exchange(f func() func()) {
	c.hold()
	go func() {
		then := c.attempt(f)
		c.do(func() { c.landed(then) })
	}()
}

// attempt runs f outside the agent. If it panics, what is to be done then is the end of the call.
func (c *Call) attempt(f func() func()) (then func()) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("exchange panicked", "err", p, "stack", string(debug.Stack()))
			then = c.crash
		}
	}()
	return f()
}

// after runs f in the agent when d has passed, unless it was stopped or the call has ended.
func (c *Call) after(d time.Duration, f func()) *time.Timer {
	if c.state == StateEnded {
		return nil
	}
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		c.do(func() {
			if _, live := c.timers[t]; live {
				delete(c.timers, t)
				f()
			}
		})
	})
	c.timers[t] = struct{}{}
	return t
}

func (c *Call) stop(t *time.Timer) {
	if t != nil {
		t.Stop()
		delete(c.timers, t)
	}
}

// changeState is the only place where a call's state changes.
func (c *Call) changeState(to State) {
	c.log.Debug("call state", "from", c.state, "to", to)
	c.state = to
	if to == StateUp {
		c.up = time.Now()
		c.watchLegs()
		c.publish() // before any phone is told: it may ask for the call at once
	}
}

// end hangs up everybody who is still there. The record says so before the first BYE leaves.
func (c *Call) end(why string) { c.endWithout(nil, why) }

// endWithout is end when one leg is gone already. The others hear no tone for a seat that nobody comes back to.
func (c *Call) endWithout(gone *Leg, why string) {
	if c.state == StateEnding || c.state == StateEnded {
		return
	}
	c.why = why
	if c.state == StateUp && !c.quiet {
		c.lastWays()
	}
	c.keepOwn(481, "the call that Replaces names has ended: "+why)
	c.changeState(StateEnding)
	if c.dial != nil {
		c.dial.stop(nil)
	}
	for _, m := range slices.Clone(c.moves) {
		c.failMove(m, "the call has ended", 487)
	}
	for _, m := range slices.Clone(c.reports) {
		c.report(m)
	}
	for _, s := range c.seats {
		if s.joining != nil {
			c.failCompanion(s.joining, refusal(487, "the call has ended"))
		}
	}
	for _, l := range slices.Clone(c.legs) {
		if l == gone {
			c.closeLeg(l)
		} else {
			c.drop(l)
		}
	}
	c.finishIfEmpty()
}

// finishIfEmpty deletes the record of an ending call once its last leg is closed.
func (c *Call) finishIfEmpty() {
	if c.state != StateEnding || len(c.legs) > 0 || c.pledged > 0 {
		return
	}
	c.b.running.Add(1) // the node must not stop before the record is gone
	c.finish()         // the log has its end first: of a node that is killed in between, the next one finds the record
	c.b.deleteRecord(c.id, c.epoch, time.Second, c.b.running.Done)
}

// finish is the end of the call for this node.
func (c *Call) finish() {
	if c.state == StateEnded {
		return
	}
	c.changeState(StateEnded)
	for t := range c.timers {
		c.stop(t)
	}
	if !c.abandoned { // the log has it before anybody can see that it is gone
		c.noteMissed()
		c.note(journal.CallEnded, journal.Entry{Text: c.why, Duration: c.talked()})
	}
	c.b.forget(c)
	c.runActs(c.store.version) // each looks at the state again
	if c.ended != nil {
		c.ended()
	}
}

// talked is how long the call has been up.
func (c *Call) talked() time.Duration {
	if c.up.IsZero() {
		return 0
	}
	if !c.died.IsZero() {
		return c.died.Sub(c.up)
	}
	return time.Since(c.up)
}

// note writes an entry about this call into the log of the node.
func (c *Call) note(kind journal.Kind, e journal.Entry) {
	if c.quiet {
		return
	}
	e.Time, e.Kind, e.Call = time.Now(), kind, c.id
	if !c.died.IsZero() {
		e.Time = c.died
	}
	if e.User == "" && len(c.seats) > 0 {
		e.User = c.seats[0].user.Name
	}
	if e.Peer == "" && len(c.seats) > 1 {
		e.Peer = c.seats[1].user.Name
	}
	c.b.Journal.Append(e)
	c.log.Info(string(kind), "user", e.User, "peer", e.Peer, "device", e.Device, "why", e.Text)
}
