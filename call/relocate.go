package call

import (
	"context"
	"slices"
	"time"

	"baton/registrar"
	"baton/sip"
)

// A device that changes its network is found again by what it proves to be its own: a REGISTER with its user's password, or
// a request in a dialog from a new address, which is challenged (docs/moves.md). All its dialogs go over its new flow from
// then on, and its sound is taken from and sent to the new address.

// follow has the agent told when the leg's device registers over another flow.
func (c *Call) follow(l *Leg) {
	key := l.device.Key
	l.unfollow = c.b.Registrar.Watch(l.seat.user.Name, func(d registrar.Device) {
		if d.Key == key {
			c.post(func() { c.withLeg(l, func(c *Call, l *Leg) { c.registered(l, d) }) })
		}
	})
}

// registered takes the news that the leg's device is reachable over a flow that it did not have. One that keeps several
// (RFC 5626) and is well on the leg's is left alone.
func (c *Call) registered(l *Leg, d registrar.Device) {
	old := l.dialog.Flow
	well := func(b registrar.Binding) bool { return b.Flow == old && !b.Silent && c.b.Agent.Alive(old) }
	if l.state == legClosed || !d.Here() || d.Binding.Flow == old || slices.ContainsFunc(d.Spare, well) {
		return
	}
	c.relocate(l, d.Binding.Flow)
}

// relocate goes on with a leg over another flow, and has both sides agree on the way of the sound.
func (c *Call) relocate(l *Leg, flow sip.Flow) {
	c.log.Info("device has changed its network", "leg", l.id, "device", l.device.Name, "from", l.dialog.Flow, "to", flow)
	l.led = time.Now()
	c.goTo(l, flow)
	switch {
	case l.stranded:
		c.sendBye(l)
	case (l.state == legUp || l.state == legLost) && !l.offers:
		since := time.Now()
		c.after(ownOffer, func() {
			if l.agreedAt.Before(since) && l.dialog.Flow == flow {
				c.reinvite(l, l.local)
			}
		})
	}
}

// ownOffer is how long a phone that has come back is left the first word: many send a re-INVITE of their own then, and two at
// once would refuse each other.
const ownOffer = 200 * time.Millisecond

// goTo has all that the leg's phone is sent go over a flow that it has proved to be its own, also what is under way.
func (c *Call) goTo(l *Leg, flow sip.Flow) {
	l.dialog.Flow = flow
	l.way = l.way.moved(flow)
	l.stream.SetPeer(flow.Remote.Addr())
	if speakable(l.local, flow) {
		c.reroute(l, flow)
	}
	for _, f := range l.forks {
		f.dialog.Flow = flow
		c.serveFork(l, f)
	}
	switch l.state {
	case legIncoming:
		c.serve(l)
	case legAnswered, legUp, legLost, legClosing:
		c.attach(l)
	}
}

// reroute sends what is under way with a description once more over another flow.
func (c *Call) reroute(l *Leg, flow sip.Flow) {
	switch {
	case l.invite != nil:
		c.b.Agent.Reroute(*l.invite, flow)
	case l.exchange != nil:
		l.exchange.Reroute(flow)
	}
	if l.offer != nil {
		c.b.Agent.Reroute(*l.offer, flow)
	}
	if l.theirs != nil {
		l.theirs.Reroute(flow)
	}
}

// way is where a leg's requests go, for those that wait for their answers: what follows the leg to its next flow.
type way struct {
	flow  sip.Flow
	ended chan struct{} // closed when next is set
	next  *way
}

func newWay(f sip.Flow) *way { return &way{flow: f, ended: make(chan struct{})} }

// moved ends the way and gives the next.
func (w *way) moved(f sip.Flow) *way {
	w.next = newWay(f)
	close(w.ended)
	return w.next
}

// follow sends a request in a dialog and waits for its answer. When the phone goes elsewhere meanwhile it is sent again there; one that
// it had had before it answers by a refusal, which is an answer too.
func (b *B2BUA) follow(ctx context.Context, w *way, out sip.Outgoing) (*sip.Response, error) {
	for {
		resp, moved, err := b.doUntil(ctx, w.ended, out)
		if !moved || ctx.Err() != nil {
			return resp, err
		}
		w = w.next
		out.Dialog.Flow = w.flow
	}
}

// doUntil is Agent.Do that is given up when the channel is closed; moved says that it was.
func (b *B2BUA) doUntil(ctx context.Context, ended <-chan struct{}, out sip.Outgoing) (resp *sip.Response, moved bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	resp, err = b.Agent.Do(ctx, out)
	cancel()
	<-done
	select {
	case <-ended:
		return resp, unanswered(err), err
	default:
		return resp, false, err
	}
}

// heardFrom takes a request in the leg's dialog that came over another flow than the ones before: the agent has challenged it
// if the address is another. The device's other dialogs go there too. What a phone sends over a connection because it is too
// long for UDP (RFC 3261 §18.1.1) moves nothing else.
func (c *Call) heardFrom(l *Leg, before sip.Flow) {
	flow := l.dialog.Flow
	if flow.Remote.Addr() == before.Remote.Addr() && flow.Transport != before.Transport && c.b.Agent.Alive(before) {
		c.serve(l)
		return
	}
	c.goTo(l, flow)
	c.b.alsoMoved(l, flow)
}

// alsoMoved tells the other legs of a leg's device that it has another flow.
func (b *B2BUA) alsoMoved(moved *Leg, flow sip.Flow) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, all := range b.dialogs.live {
		for _, o := range all {
			if o.leg == moved || o.user != moved.seat.user.Name || o.leg.device.Key != moved.device.Key {
				continue
			}
			o.call.post(func() {
				o.call.withLeg(o.leg, func(c *Call, l *Leg) {
					if l.state != legClosed && l.dialog.Flow != flow {
						c.relocate(l, flow)
					}
				})
			})
		}
	}
}
