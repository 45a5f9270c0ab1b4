package call

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"baton/journal"
	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// moveState is where a move is. commit A stands before the ACK (or our 200), commit B before the old leg's BYE.
//
//	dialing ──2xx──▶ answered ──commit A──▶ listening ──one packet heard──▶ switched ──figures──▶ reported
//	   │                │                       ├──other codec──▶ aligning ──▲ (align.go)
//	   └─refusal, timeout, hang-up──────────────┴───────────────────┴──▶ failed: the old leg is as it was
type moveState string

const (
	moveDialing   moveState = "dialing" // or waiting to be
	moveAnswered  moveState = "answered"
	moveListening moveState = "listening"
	moveAligning  moveState = "aligning"
	moveSwitched  moveState = "switched"
	moveReported  moveState = "reported"
	moveFailed    moveState = "failed"
)

// move replaces the leg that holds a seat (docs/moves.md). Make before break: the old leg talks until the new one has been
// answered and heard. Owned by its call's agent.
type move struct {
	// set once
	c     *Call
	seat  *Seat             // whose leg is replaced
	into  *Seat             // = seat, or another user's new seat: a transfer
	from  *Leg              // the old leg
	only  *registrar.Device // the one device wanted, nil = all
	how   string            // refer, attended, pull, replaces, code, cli, recall, loss, call
	who   string
	began time.Time
	hops  []hop  // of a transfer: who has forwarded it
	back  string // of a recall: what the display says beside who waits

	handover *handover // of an attended transfer
	waiting  *Call     // of a push by code: the second call of the phone
	referred bool      // a REFER asks for it: its phone is given time for its own BYE
	summons  bool      // it rings to fill an empty seat: not needed any more when the lost device is back
	except   string    // key of a device that must not ring for it

	rings    func()                        // told once, when the first device rings
	finished func(code int, why string)    // told once, at the switch or the failure
	reported func(r MoveReport, err error) // told once, with the figures

	state     moveState
	dial      *dial
	to        *Leg // the new leg, from its answer on
	device    string
	left      bool // the old phone has hung up meanwhile
	takenBack bool // the phone that asked for it wants it no more
	silence   *time.Timer
	promoted  bool // the new leg has listened until now
	apart     bool // the new leg and the far one cannot play each other yet
	align     alignment
	switched  time.Time
	rang      time.Duration
	heldFor   time.Duration
	overlap   time.Time
	far       *Leg   // on the other side; it may be replaced meanwhile: see farSide
	lost      uint64 // packets of far that had reached nobody before
}

// unheard is how long an answered device may stay silent before its signalling decides.
const unheard = time.Second

// unacked is how long the ACK of a device that pulled is waited for: our 200 is repeated after 0.5, 1.5, 3.5 and 7.5 s.
const unacked = 8 * time.Second

// spliced is when the far side has the new leg's packets for certain: until then the old phone must go on talking.
const spliced = 60 * time.Millisecond

// silent is how long a phone that talks does not say nothing.
const silent = 300 * time.Millisecond

// settled is when the figures of a switch are complete: 500 ms after it, and a little.
const settled = 650 * time.Millisecond

// set is the only place where a move's state changes.
func (m *move) set(to moveState) {
	m.c.log.Debug("move state", "user", m.seat.user.Name, "to", m.device, "from", m.state, "state", to)
	m.state = to
}

// pending says that the move has neither switched nor failed.
func (m *move) pending() bool {
	return m.state == moveDialing || m.state == moveAnswered || m.state == moveListening || m.state == moveAligning
}

// mayTalk says that the far side follows the new leg from its next packet on, which is the switch.
func (m *move) mayTalk() bool {
	return m.state == moveListening && !m.apart && !(m.promoted && m.to.held)
}

// farSide is the leg that holds the other side now, or the last one that did: it may have left.
func (m *move) farSide() *Leg {
	seat := m.seat
	if m.state == moveSwitched || m.state == moveReported { // m.seat may be no seat of the call any more
		seat = m.into
	}
	if o := m.c.other(seat); o != nil {
		if l := o.lastLeg(); l != nil && l != m.far {
			m.far, m.lost = l, l.stream.Lost()
		}
	}
	return m.far
}

// unlike says that the new leg and the far one cannot play each other. One that has left need not: a codec is found when its user is back.
func (m *move) unlike(far *Leg) bool { return far != nil && far.alive() && !fits(m.to, far) }

// exclude is the key of the device that must not ring: the one that asked.
func (m *move) exclude() string {
	if m.summons {
		return m.except
	}
	if m.how == "recall" || m.seat.away != nil || m.into.user.Name != m.seat.user.Name {
		return ""
	}
	return m.from.device.Key
}

// addMove makes m the move of its seat, or says why it cannot be.
func (c *Call) addMove(m *move) error {
	far := c.other(m.seat)
	switch {
	case c.state != StateUp:
		return refusal(480, "the call is not up")
	case c.over:
		return refusal(480, "the call has just ended")
	case c.moveOf(m.seat) != nil || c.lending != nil:
		return refusal(491, "a move of this seat is in progress")
	case m.from == nil || m.seat.away == nil && (m.from.state == legClosing || m.from.state == legClosed):
		return refusal(481, "the seat is not held by a device")
	case far == nil || far.lastLeg() == nil || far.holder == nil && m.into != m.seat:
		return refusal(480, "nobody is on the other side")
	}
	m.farSide()
	m.set(moveDialing)
	if m.only != nil {
		m.device = m.only.Name
	} else {
		m.device = "the devices of " + m.into.user.Name
	}
	c.moves = append(c.moves, m)
	return nil
}

// beginMove rings the new device or devices.
func (c *Call) beginMove(m *move) {
	if l := m.companionFor(); l != nil {
		c.promote(m, l)
		return
	}
	c.atNode(func() {
		if m.state == moveDialing && m.dial == nil {
			c.dialMove(m)
		}
	})
}

// dialMove rings them, when the sound of the call is where it can be switched.
func (c *Call) dialMove(m *move) {
	m.dial = &dial{
		c: c, seat: m.into, show: c.other(m.seat), codecs: offered(m.farSide()), exclude: m.exclude(), only: m.only, hops: m.hops, back: m.back,
		auto:     m.only != nil && m.into == m.seat && m.how != "recall", // nobody may be at a phone that is rung back
		ringing:  func(*Leg, *sip.Response) { m.tellRinging() },
		answered: func(l *Leg, r *sip.Response) { c.moveAnswered(m, l, r) },
		failed:   func(code int, why string) { c.failMove(m, m.refusedCodecs(why, code), code) },
	}
	if m.into != m.seat {
		m.dial.by = m.seat
	}
	c.wire()
	m.dial.begin()
}

// tellRinging says once that a new device rings.
func (m *move) tellRinging() {
	if m.rings != nil {
		m.rings()
		m.rings = nil
	}
}

// moveAnswered takes the new device's 2xx.
func (c *Call) moveAnswered(m *move, l *Leg, r *sip.Response) {
	m.device = l.device.Name
	answer, err := l.answerOf(r)
	if err == nil {
		if err = l.settle(l.local, answer); errors.Is(err, media.ErrNoCodec) {
			l.remote = answer
			err = noneShared(l, m.farSide())
		}
	}
	m.to = l
	if err != nil {
		c.failMove(m, fmt.Sprintf("%s: %v", l.device.Name, err), 488)
		return
	}
	if !l.rangAt.IsZero() {
		m.rang = l.answer.Sub(l.rangAt)
	}
	c.joinNew(m, l, func() error {
		c.ack(l)
		c.setState(l, legUp)
		return nil
	})
}

// joinNew connects the new leg beside the old one: it hears the far side at once and is waited for to be heard. The
// act answers it, after commit A.
func (c *Call) joinNew(m *move, l *Leg, act func() error) {
	c.atNode(func() {
		if m.pending() {
			c.joinHere(m, l, act)
		}
	})
}

// joinHere is joinNew when the sound of the call is at the node.
func (c *Call) joinHere(m *move, l *Leg, act func() error) {
	m.to, m.overlap = l, time.Now()
	m.apart = m.unlike(m.farSide())
	m.set(moveAnswered)
	c.wire()
	c.commit(func() {
		if !m.pending() {
			return
		}
		if err := act(); err != nil {
			c.failMove(m, fmt.Sprintf("%s is gone: %v", l.device.Name, err), 480)
			return
		}
		c.listenFor(m)
	})
}

// listenFor waits until the new leg is heard.
func (c *Call) listenFor(m *move) {
	m.set(moveListening)
	c.wire()
	m.silence = c.after(unheard, func() { c.onSilence(m) })
	c.trySwitch(m)
}

// onHeard takes the news that a leg's phone was heard for the first time since its offer and answer.
func (c *Call) onHeard(l *Leg) {
	l.heard, l.changed = true, false
	c.touch() // where it sends from stands in the record soon
	for _, m := range c.moves {
		if m.to == l {
			c.trySwitch(m)
			return
		}
	}
}

func (c *Call) trySwitch(m *move) {
	if m.state == moveListening && m.to.heard && !(m.promoted && m.to.held) {
		c.stop(m.silence)
		c.ready(m)
	}
}

// onSilence decides about a device that has answered but is not heard: with live signalling it is muted. One that pulled and
// has not acknowledged our 200 may not even have that yet, and is given time.
func (c *Call) onSilence(m *move) {
	if m.promoted && m.to.held { // it had put the listening call on hold to dial
		if time.Since(m.overlap) > c.b.Config.Ring {
			c.failMove(m, m.device+" did not take the call off hold", 480)
			return
		}
		m.silence = c.after(unheard, func() { c.onSilence(m) })
		return
	}
	if m.to.accepted && !m.to.acked && time.Since(m.to.answer) < unacked {
		m.silence = c.after(unheard, func() { c.onSilence(m) })
		return
	}
	c.ask(m.to, func(err error) {
		if m.state != moveListening {
			return
		}
		if err != nil {
			c.failMove(m, fmt.Sprintf("%s answered and was not heard: %v", m.device, err), 480)
			return
		}
		c.ready(m)
	})
}

// switchOver gives the seat to the new leg; the old one is released when that is committed.
func (c *Call) switchOver(m *move) {
	m.farSide()
	c.stop(m.silence)
	c.stop(m.align.overdue)
	if m.switched = time.Now(); !m.align.began.IsZero() {
		m.align.took = m.switched.Sub(m.align.began)
	}
	m.set(moveSwitched)
	c.removeMove(m)
	old := m.from
	if old.held {
		m.heldFor = m.switched.Sub(old.heldAt)
	}
	m.seat.holder, m.into.holder = nil, m.to
	for i, s := range c.seats {
		if s == m.seat {
			c.seats[i] = m.into
		}
	}
	c.keyGoesOn(old, m.to)
	if old.known() {
		old.moved = true
		old.stream.Leave()
		c.setState(old, legClosing)
	}
	c.hush(m)
	if m.into == m.seat {
		c.back(m.seat, m.device, m.how)
	} else if a := m.seat.away; a != nil {
		c.stop(a.wait)
	}
	c.dropCompanions(m)
	c.wire()
	c.commit(func() { c.releaseOld(m, old) })
	c.reports = append(c.reports, m)
	c.after(settled, func() { c.report(m) })
}

// hush ends the tone that the far side hears when the new leg's phone is muted: no packet of its would.
func (c *Call) hush(m *move) {
	far, tone := m.farSide(), m.from.held || m.left || m.seat.away != nil
	if far != nil && tone && time.Since(m.to.stream.LastHeard()) > silent {
		far.hears = source{}
		far.stream.Play(media.ToneNone)
	}
}

// releaseOld ends the old leg. A phone that has transferred sends its own BYE as a rule, and is given a second for it.
func (c *Call) releaseOld(m *move, old *Leg) {
	if m.finished != nil {
		m.finished(200, "")
	}
	c.introduce(m)
	if old.state != legClosing {
		return
	}
	patience := spliced
	if m.referred {
		patience = byeOfReferrer
	}
	c.after(patience, func() { c.bye(old) })
}

// introduce shows people who talk with others now whom they talk with.
func (c *Call) introduce(m *move) {
	far, adopted := m.farSide(), m.handover != nil && m.to.alive()
	if far != nil && m.into != m.seat {
		c.showOther(far)
	}
	if adopted {
		c.showOther(m.to)
	}
}

// failMove rolls back: the old leg goes on as if nothing had been. If its phone has hung up meanwhile it is rung back.
func (c *Call) failMove(m *move, why string, code int) {
	if !m.pending() {
		return
	}
	m.set(moveFailed)
	c.stop(m.silence)
	c.stopAligning(m)
	c.removeMove(m)
	if m.dial != nil {
		m.dial.stop(nil)
	}
	switch {
	case m.to != nil && m.promoted:
		c.demote(m)
	case m.to != nil && m.to.state != legClosed:
		c.drop(m.to)
	}
	m.to = nil
	if code < 400 {
		code = 480
	}
	c.log.Info("move failed", "user", m.seat.user.Name, "to", m.device, "how", m.how, "why", why)
	c.history = append(c.history, m.info(why, nil))
	data := m.asked()
	data["code"] = strconv.Itoa(code)
	c.note(journal.CallMoveFailed, journal.Entry{
		User: m.seat.user.Name, From: m.from.device.Name, Peer: m.into.user.Name, Device: m.device, Text: why, Data: data,
	})
	c.wire()
	if m.finished != nil {
		m.finished(code, why)
	}
	if m.reported != nil {
		m.reported(MoveReport{}, refusal(code, why))
	}
	switch a := m.seat.away; {
	case m.left && c.state == StateUp:
		c.recall(m, why)
	case a != nil && a.lost && c.state == StateUp && !c.over && m.dial != nil && !m.summons && code != 603: // it was lost meanwhile, and one device alone was rung
		c.ringOnLoss(m.seat, a.stillLost())
	}
}

// recall rings the phone that hung up while its call was to be moved and that nobody took.
func (c *Call) recall(m *move, why string) {
	if m.how == "recall" {
		c.farewell("nobody took the call: " + why)
		return
	}
	back := m.from.device
	r := &move{
		c: c, seat: m.seat, into: m.seat, from: m.from, only: &back, how: "recall", who: "baton", began: time.Now(), left: true,
		back: "back",
	}
	if m.into != m.seat {
		r.back = "back from " + m.into.shown()
	}
	r.far, r.device = m.farSide(), back.Name
	r.set(moveDialing)
	c.moves = append(c.moves, r)
	c.beginMove(r)
}

func (c *Call) removeMove(m *move) {
	for i, k := range c.moves {
		if k == m {
			c.moves = append(c.moves[:i], c.moves[i+1:]...)
			return
		}
	}
}

func (m *move) info(failure string, r *MoveReport) MoveInfo {
	return MoveInfo{
		At: m.began, User: m.seat.user.Name, From: m.from.device.Name, To: m.device, How: m.how, Who: m.who,
		Error: failure, Report: r,
	}
}
