package call

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// legState is where a leg is in its life.
//
//	dialing ──180──▶ ringing ──2xx──▶ answered ──ACK──▶ up ──BYE──▶ closing ──▶ closed
//	   │                                                └─◀─▶─ lost ──BYE──▲ (loss.go)
//	   └────────cancel──┴────▶ cancelled ──final──────────────────────────────▶ closed
//	incoming ──our 2xx────────────────────────────────▶ up
//	   └──our refusal, their CANCEL───────────────────────────────────────────▶ closed
type legState string

const (
	legDialing   legState = "dialing"
	legRinging   legState = "ringing"
	legCancelled legState = "cancelled"
	legIncoming  legState = "incoming"
	legAnswered  legState = "answered"
	legUp        legState = "up"
	legLost      legState = "lost" // its phone is gone, and may come back with the dialog
	legClosing   legState = "closing"
	legClosed    legState = "closed"
)

// Leg is one SIP dialog with its media to one device. Owned by its call's agent.
type Leg struct {
	id       string
	seat     *Seat
	device   registrar.Device // as it was when the leg began
	state    legState
	dialog   sip.Dialog
	stream   *media.Stream
	origin   media.Origin
	local    media.Description // our last SDP
	remote   media.Description // the peer's last SDP
	agreed   media.Agreement
	dialects []media.Security // how it is offered audio: the first is, the others are tried where it refuses
	retried  bool             // it has refused one before
	secret   bool             // nothing of it may be in the clear
	knows    []media.Codec    // what the phone has said that it can play, in all its offers and answers
	sent     chan struct{}    // closed when our last request in the dialog is answered
	byes     bool             // our BYE is on its way
	way      *way             // of its requests
	stranded bool             // its BYE waits for its connection to come back

	can     ability // what the phone has said that it can
	session session

	// we called it
	invite   *sip.Outgoing   // until it is acknowledged
	inviting context.Context // ends with its INVITE or the leg
	forks    []*fork         // early dialogs, until one is the leg's
	answered *fork           // the early dialog that became it, nil = none was early
	cancel   context.CancelCauseFunc
	rangAt   time.Time // first 180
	answer   time.Time // 2xx, theirs or ours

	acked bool // the 2xx to its INVITE is acknowledged, by us or by it

	ringless bool      // it is asked to answer by itself
	talks    *fork     // where it has said that it knows NOTIFY talk
	coaxed   bool      // … and NOTIFY talk is on its mind
	nudged   time.Time // it was sent NOTIFY talk; zero: no, or it does not know that
	gone     func()    // done when its INVITE, which was cancelled for a new one, is over
	traits   traits    // what its phone was seen to do

	// it called us
	incoming bool
	exchange *sip.Exchange // its INVITE; nil once that is acknowledged, and after a restart of the node
	offering []sip.Header  // of our 2xx: the session timer
	told     int           // the provisional answer that it was given last
	accepted bool          // we have sent a 2xx to its INVITE
	byeLater bool          // a BYE waits for the ACK (RFC 3261 §15)

	astray bool // its phone was not told yet where its stream is now

	straight bool               // its phone sends past the node (direct.go)
	home     *media.Description // our SDP before that, nil = it never did
	stays    bool               // it has refused to send to the node again
	peers    bool               // its page can talk straight to another page (peer.go)

	held     bool // the phone does not want to hear us
	heldAt   time.Time
	moved    bool // a move has taken its seat: what its phone began to say before is still told
	pressing bool // a key is being played to it
	heard    bool // a packet came since the last offer/answer
	changed  bool // and that has another codec first
	hears    source
	feeds    []*Leg
	refer    *referral
	owes     bool               // its ACK or PRACK must bring the answer to our offer
	owing    *sip.Exchange      // whose ACK that is
	offered  bool               // our offer went out in a provisional answer, and none belongs into the 2xx
	refers   int                // REFERs taken in this dialog
	asking   bool               // an OPTIONS of ours is under way
	askedAt  time.Time          // when the last was sent
	offers   bool               // a re-INVITE of ours is under way
	offer    *sip.Outgoing      // while it is under way
	later    *media.Description // to be offered when what is under way has ended
	theirs   *sip.Exchange      // a re-INVITE of the phone's whose ACK is still to come
	agreedAt time.Time          // when an offer was last answered, theirs or ours
	unfollow func()             // ends the news of where its device is
	updating bool               // an UPDATE of ours is under way
	asked    time.Time          // last proof that its signalling is alive
	led      time.Time          // when its flow was changed to where its device has registered since
	twins    media.Twins        // keys that its phone told
	began    time.Time
	open     int   // requests of ours that are not answered, and what waits to be asked again
	heir     *heir // who has it since another call adopted it, nil = it is this call's
	shown    *view // what others see of it
	signed   *sign // of life, that was given last

	report *media.Report // what its device has told last of its audio
	last   *lastWay      // what the device heard last, once the call has ended
}

// newLeg opens what a leg needs that offers audio in the first of these dialects.
func (c *Call) newLeg(s *Seat, d registrar.Device, flow sip.Flow, dialects []media.Security) (*Leg, error) {
	if len(dialects) == 0 {
		return nil, errUnsafe
	}
	l := &Leg{id: newID(), seat: s, device: d, began: time.Now(), unfollow: func() {}, way: newWay(sip.Flow{})}
	l.dialects, l.secret = dialects, c.b.mustEncrypt()
	l.origin = media.Origin{User: "baton", ID: uint64(time.Now().UnixMilli()), Version: 1}
	heard, pressed := c.heed(l)
	stream, err := c.b.Engine.Open(media.StreamOptions{Peer: flow.Remote.Addr(), WebRTC: l.browser(), OnHeard: heard, OnKey: pressed})
	switch {
	case errors.Is(err, media.ErrNoWebRTC):
		return nil, refusal(488, err.Error())
	case err != nil:
		return nil, fmt.Errorf("open media for %s: %w", d.Name, err)
	}
	l.stream = stream
	stream.Faithful(c.mediaMode(l) != "relay")
	c.mind(l)
	c.legs = append(c.legs, l)
	return l, nil
}

// setState is the only place where a leg's state changes.
func (c *Call) setState(l *Leg, to legState) {
	c.log.Debug("leg state", "leg", l.id, "device", l.device.Name, "from", l.state, "to", to)
	l.state = to
}

// alive says that the leg has a dialog and is not on its way out.
func (l *Leg) alive() bool { return l.state == legUp || l.state == legAnswered }

// known says that the leg has a dialog that is not on its way out, whether or not its phone is there.
func (l *Leg) known() bool { return l.alive() || l.state == legLost }

// attach has the dialog's requests come to this leg, and lets an INVITE with Replaces find it.
func (c *Call) attach(l *Leg) {
	c.b.index(c, l, l.dialog.ID(), dialogConfirmed)
	c.serve(l)
}

// serve has the dialog's requests come to this leg: also those of one that is still early.
func (c *Call) serve(l *Leg) {
	c.b.Agent.Attach(l.dialog, l.seat.user.Name, func(x *sip.Exchange) {
		if !c.do(func() { c.serveLeg(l, x) }) {
			_ = x.Respond(sip.Reply{Code: 481})
		}
	})
}

// settle takes the result of an offer and answer into the leg and its stream.
func (l *Leg) settle(local, remote media.Description) error {
	agreed, err := media.Agree(local, remote)
	switch {
	case err != nil:
		return err
	case l.secret && agreed.Security == media.Clear:
		return media.ErrClear
	}
	was, _ := first(l.agreed.Send)
	if now, _ := first(agreed.Send); !now.Is(was) {
		l.changed = true
	}
	l.local, l.remote, l.agreed, l.knows = local, remote, agreed, media.Merge(codecsOf(remote), l.knows)
	l.heard, l.agreedAt, l.astray = false, time.Now(), false
	l.straight = l.pointsAway(local)
	l.setHeld(remote.Held())
	l.stream.Apply(agreed)
	return nil
}

func (l *Leg) setHeld(held bool) {
	if held && !l.held {
		l.heldAt = time.Now()
	}
	l.held = held
}

// drop is the one way to end a leg, whatever state it is in.
func (c *Call) drop(l *Leg) {
	switch l.state {
	case legDialing, legRinging:
		c.setState(l, legCancelled)
		l.cancel(nil)
	case legIncoming:
		_ = l.exchange.Respond(sip.Reply{Code: 480})
		c.closeLeg(l)
	case legAnswered, legUp, legLost:
		c.ack(l)
		c.hangUp(l)
	}
}

// ack acknowledges the 2xx of a device that we called, once.
func (c *Call) ack(l *Leg) {
	if l.incoming || l.acked {
		return
	}
	l.acked = true
	if err := c.b.Agent.Ack(l.dialog, *l.invite, sip.Body{}); err != nil {
		c.log.Warn("ack", "leg", l.id, "device", l.device.Name, "err", err)
	}
	l.invite = nil
}

// hangUp commits that the leg is closing and sends its BYE.
func (c *Call) hangUp(l *Leg) {
	c.setState(l, legClosing)
	if l.seat.holder == l {
		l.seat.holder = nil
	}
	c.commit(func() { c.bye(l) })
}

// bye sends BYE, after the ACK of our 2xx if that is still to come. Media runs until it is answered.
func (c *Call) bye(l *Leg) {
	if l.state != legClosing || l.byes {
		return
	}
	if l.accepted && !l.acked {
		l.byeLater = true
		return
	}
	l.byes = true
	c.repoint(l)
	c.sendBye(l)
}

// sendBye sends the BYE, and once more to where the phone is by now if nobody answers it.
func (c *Call) sendBye(l *Leg) {
	l.stranded = false
	c.requestUnder(c.ctx, l, l.dialog.NewRequest("BYE", sip.Body{}), requestPatience, func(resp *sip.Response, err error) {
		if err == nil {
			c.sumUp(l, resp.Header)
		}
		switch {
		case unanswered(err) && c.ctx.Err() == nil && l.state == legClosing && c.elsewhere(l):
			c.sendBye(l)
			return
		case errors.Is(err, sip.ErrFlowGone) && c.ctx.Err() == nil && l.state == legClosing:
			l.stranded = true
			c.after(comeBack, func() {
				if l.stranded {
					c.closeLeg(l)
				}
			})
			return
		}
		if err != nil {
			c.log.Debug("bye", "leg", l.id, "device", l.device.Name, "err", err)
		}
		c.closeLeg(l)
	})
}

// comeBack is how long a phone that is to be hung up and whose connection has broken is waited for: it may be changing its
// network, and would go on talking to nobody.
const comeBack = 4 * time.Second

// requestPatience bounds the wait for the answer to a BYE or NOTIFY: we go on without it either way.
const requestPatience = 8 * time.Second

// orderPatience is how long a request waits for the answer to the one before it in its dialog.
const orderPatience = 500 * time.Millisecond

// request sends a request of ours in the leg's dialog. They leave in the order of their CSeq, which the peer insists on
// (RFC 3261 §12.2.2): each waits a little for the answer to the one before.
func (c *Call) request(l *Leg, out sip.Outgoing, patience time.Duration, then func(error)) {
	c.requestUnder(c.ctx, l, out, patience, func(_ *sip.Response, err error) { then(err) })
}

// waitFor waits a little for what came before, if anything did.
func waitFor(before <-chan struct{}) {
	if before == nil {
		return
	}
	select {
	case <-before:
	case <-time.After(orderPatience):
	}
}

// requestUnder is request under a context that may end before the call does; then is also given the 2xx.
func (c *Call) requestUnder(ctx context.Context, l *Leg, out sip.Outgoing, patience time.Duration, then func(*sip.Response, error)) {
	before, done, way := l.sent, make(chan struct{}), l.way
	l.sent = done
	l.open++
	c.exchange(func() func() {
		waitFor(before)
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		resp, err := c.b.follow(ctx, way, out)
		close(done)
		return func() {
			c.withLeg(l, func(c *Call, l *Leg) {
				l.open--
				if err == nil && l.known() && l.dialog.Follow(resp) {
					c.attach(l)
				}
			})
			then(resp, err)
		}
	})
}

// closeLeg frees what the leg holds.
func (c *Call) closeLeg(l *Leg) {
	if l.state == legClosed {
		return
	}
	c.setState(l, legClosed)
	c.keepTraits(l)
	l.unfollow()
	c.b.Agent.Detach(l.dialog.ID())
	c.dropForks(l)
	c.b.retire(l)
	if l.cancel != nil {
		l.cancel(nil)
	}
	if l.seat.holder == l {
		l.seat.holder = nil
	}
	c.forgetCompanion(l)
	c.reportsOf(l)
	c.forgetLeg(l)
	c.wire()
	l.stream.Close()
	c.finishIfEmpty()
}

// forgetLeg takes a leg out of the list of those that are not closed.
func (c *Call) forgetLeg(l *Leg) {
	c.legs = slices.DeleteFunc(slices.Clone(c.legs), func(k *Leg) bool { return k == l })
}

// repoint sends a leg's next requests over the flow that its device has now, when the old one is gone.
func (c *Call) repoint(l *Leg) bool {
	return !c.b.Agent.Alive(l.dialog.Flow) && c.elsewhere(l)
}

// rebound says that a device has registered since then, and not from the end of this flow: its NAT has given it another port.
func (b *B2BUA) rebound(user, device string, flow sip.Flow, since time.Time) bool {
	d, ok := b.deviceHere(user, device)
	here := func(b registrar.Binding) bool { return b.Flow == flow }
	return ok && d.Binding.Flow.Transport == flow.Transport && d.Binding.Registered.After(since) &&
		!here(*d.Binding) && !slices.ContainsFunc(d.Spare, here)
}

// deviceHere is the user's device of that key as it is registered now; false if it is away.
func (b *B2BUA) deviceHere(user, key string) (registrar.Device, bool) {
	for _, d := range b.Registrar.Lookup(user) {
		if d.Key == key {
			return d, true
		}
	}
	return registrar.Device{}, false
}

// elsewhere is repoint for a flow over which nobody answers: false if the device has no other.
func (c *Call) elsewhere(l *Leg) bool {
	d, ok := c.b.deviceHere(l.seat.user.Name, l.device.Key)
	if !ok || d.Binding.Flow == l.dialog.Flow {
		return false
	}
	c.goTo(l, d.Binding.Flow)
	l.led = time.Now()
	return true
}

// connection is another binding of the leg's device, at the same address, over a connection that is open: the way for what is
// too long for UDP (RFC 3261 §18.1.1).
func (l *Leg) connection(agent *sip.Agent) (registrar.Binding, bool) {
	return connection(l.device, agent)
}

func connection(d registrar.Device, agent *sip.Agent) (registrar.Binding, bool) {
	for _, b := range d.Spare {
		if b.Flow.Transport != "udp" && b.Flow.Remote.Addr() == d.Binding.Flow.Remote.Addr() && agent.Alive(b.Flow) {
			return b, true
		}
	}
	return registrar.Binding{}, false
}
