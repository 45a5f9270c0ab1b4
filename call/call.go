package call

import (
	"context"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"baton/journal"
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

// Call connects seats. One goroutine (run) owns it; everybody else posts to its mailbox.
type Call struct {
	// set once
	b       *B2BUA
	id      string
	log     *slog.Logger
	mail    *mailbox
	ctx     context.Context // of the node, not of the call: BYEs go out after the call's end
	done    chan struct{}   // closed when run has returned
	started time.Time

	open   atomic.Int64            // exchanges and writes under way that will still post
	public atomic.Pointer[summary] // what others may know without asking

	// owned by run
	epoch     uint64
	state     State
	up        time.Time
	seats     []*Seat
	legs      []*Leg // every leg that is not closed, also ringing and closing ones
	dial      *dial  // of the callee, in setup
	early     *Leg   // whose early media the caller hears
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
	why       string // why it ended
	ended     func() // told when it has ended
}

func (b *B2BUA) newCall(ctx context.Context) *Call {
	id := newID()
	return &Call{
		b: b, id: id, log: b.Log.With("call", id), mail: newMailbox(), ctx: ctx, done: make(chan struct{}),
		started: time.Now(), state: StateSetup, timers: map[*time.Timer]struct{}{},
	}
}

func (c *Call) post(f func()) bool { return c.mail.post(f) }

// run is the call's agent: it returns when the call has ended and nothing is under way any more.
func (c *Call) run() {
	defer close(c.done)
	for {
		for _, f := range c.mail.take() {
			c.guard(f)
		}
		c.publish()
		if c.state == StateEnded && c.open.Load() == 0 && c.mail.close() {
			return
		}
		<-c.mail.wake
	}
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

// crash ends the call as well as it can still be ended.
func (c *Call) crash() {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("call agent panicked while ending", "err", p)
			c.finish()
		}
	}()
	if c.state == StateEnding {
		c.closeAll()
		return
	}
	c.end("internal error")
}

// closeAll lets go of every leg without waiting for its phone.
func (c *Call) closeAll() {
	for _, l := range slices.Clone(c.legs) {
		c.closeLeg(l)
	}
	c.finishIfEmpty()
}

// hold and release count what will still post to the mailbox.
func (c *Call) hold() { c.open.Add(1) }

func (c *Call) release() {
	c.post(func() { c.open.Add(-1) })
}

// exchange runs f, which waits for the network, in a goroutine of its own; f posts its result back.
func (c *Call) exchange(f func()) {
	c.hold()
	go func() {
		defer c.release()
		f()
	}()
}

// after runs f in the agent when d has passed, unless it was stopped or the call has ended.
func (c *Call) after(d time.Duration, f func()) *time.Timer {
	if c.state == StateEnded {
		return nil
	}
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		c.post(func() {
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
	}
}

// end hangs up everybody who is still there. The record says so before the first BYE leaves.
func (c *Call) end(why string) {
	if c.state == StateEnding || c.state == StateEnded {
		return
	}
	c.why = why
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
	for _, l := range slices.Clone(c.legs) {
		c.drop(l)
	}
	c.finishIfEmpty()
}

// finishIfEmpty deletes the record of an ending call once its last leg is closed.
func (c *Call) finishIfEmpty() {
	if c.state != StateEnding || len(c.legs) > 0 {
		return
	}
	c.hold()
	c.b.deleteRecord(c.id, c.epoch, time.Second, c.release)
	c.finish()
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
	c.runActs(c.store.version) // each looks at the state again
	c.b.forget(c)
	if c.ended != nil {
		c.ended()
	}
	if !c.abandoned {
		c.noteMissed()
		c.note(journal.CallEnded, journal.Entry{Text: c.why, Duration: c.talked()})
	}
}

// talked is how long the call has been up.
func (c *Call) talked() time.Duration {
	if c.up.IsZero() {
		return 0
	}
	return time.Since(c.up)
}

// note writes an entry about this call into the log of the node.
func (c *Call) note(kind journal.Kind, e journal.Entry) {
	if c.quiet {
		return
	}
	e.Time, e.Kind, e.Call = time.Now(), kind, c.id
	if e.User == "" && len(c.seats) > 0 {
		e.User = c.seats[0].user.Name
	}
	if e.Peer == "" && len(c.seats) > 1 {
		e.Peer = c.seats[1].user.Name
	}
	c.b.Journal.Append(e)
	c.log.Info(string(kind), "user", e.User, "peer", e.Peer, "device", e.Device, "why", e.Text)
}
