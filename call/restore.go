package call

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"baton/journal"
	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// A node that was stopped or killed takes its calls up again when it starts, from their records, under the next epoch (docs/failures.md): before
// it reads SIP, each call on its own, the streams first. Phones that talk RTP notice nothing but the gap.
//
//	up                      its legs go on: same ports, same dialogs, CSeqs of the new epoch
//	  … seat was left       is waited for as long as was left
//	  … a move was under way    the leg that held the seat stays; what rings is cancelled, what was answered is hung up
//	setup, an announcement  ends: what rings is cancelled
//	ending                  its BYEs are sent
//	not readable, too old   ends in the log with its last sign of life
//
// What another node goes on with becomes the same (takeover.go), but for its ports and connections.

// Restore takes up the calls that an earlier run has left. It is called once, before the agent reads: a phone's request would find no dialog.
func (b *B2BUA) Restore() error {
	if b.restored.Swap(true) {
		return nil
	}
	began := time.Now()
	stored, err := b.Store.Calls()
	if err != nil {
		return fmt.Errorf("read the records of earlier calls: %w", err)
	}
	stored = slices.DeleteFunc(stored, func(s Stored) bool { return !b.owns(s.Owner) })
	old := b.readAll(stored, "")
	oneOwner(old)
	b.reviveAll(old, func(l *leftover) uint64 { return max(l.Record.Epoch, l.Stored.Epoch) + 1 })
	if len(stored) > 0 {
		calls, _ := b.Debug()
		b.Log.Info("calls of an earlier run are taken up", "records", len(stored), "live", calls, "took", time.Since(began).Round(time.Millisecond).String())
	}
	return nil
}

// leftover is a record that an earlier run has left.
type leftover struct {
	Stored
	Record
	from  string // the node that had the call, "" = this one
	whole bool   // it could be read, keys too
	given bool   // a leg that held a seat of it is in a newer record: it was on its way to another call
	call  *Call
}

// readAll reads the records of a node, "" = this one; what cannot be read, or is too old to go on with, is closed in the log.
func (b *B2BUA) readAll(stored []Stored, from string) []*leftover {
	all := make([]*leftover, len(stored))
	for i, s := range stored {
		all[i] = &leftover{Stored: s, from: from}
	}
	inParallel(all, func(l *leftover) {
		var err error
		l.Record, err = b.vault.decode(l.Blob)
		switch {
		case err != nil && !errors.Is(err, ErrSealed):
			b.Log.Warn("record of an earlier call cannot be read", "call", l.Stored.ID, "err", err)
			b.deleteRecord(l.Stored.ID, l.Stored.Epoch, time.Second, func() {})
		case err != nil, l.Form < recordForm, time.Since(l.lastSign(b)) > b.Config.Wait:
			b.closeLeftover(l)
		default:
			l.whole = true
		}
	})
	return slices.DeleteFunc(all, func(l *leftover) bool { return !l.whole })
}

// inParallel runs f for each, on all processors.
func inParallel[T any](all []T, f func(T)) {
	var wg sync.WaitGroup
	next := make(chan T)
	for range min(len(all), 2*runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for v := range next {
				f(v)
			}
		})
	}
	for _, v := range all {
		next <- v
	}
	close(next)
	wg.Wait()
}

// oneOwner leaves each dialog to one call: a leg that was on its way from one to another (adopt.go) may stand in both records. The newer is right.
func oneOwner(all []*leftover) {
	byAge := slices.Clone(all)
	slices.SortFunc(byAge, func(a, b *leftover) int { return b.Saved.Compare(a.Saved) })
	seen := map[sip.DialogID]bool{}
	for _, l := range byAge {
		for i := range l.Seats {
			s := &l.Seats[i]
			s.Legs = slices.DeleteFunc(s.Legs, func(k LegRecord) bool {
				id := k.Dialog.ID()
				twice := seen[id]
				seen[id] = true
				l.given = l.given || twice && k.Holds
				return twice
			})
		}
	}
}

// lastSign is when the call was last known to live.
func (l *leftover) lastSign(b *B2BUA) time.Time {
	if l.from != "" { // what is known of this node says nothing of that
		return l.Saved
	}
	return l.lastUp(b.LastRun)
}

// closeLeftover writes the end of a call that died with its node and deletes its record.
func (b *B2BUA) closeLeftover(l *leftover) {
	if !l.Quiet {
		end := l.lastSign(b)
		e := journal.Entry{Time: end, Kind: journal.CallEnded, Call: l.Record.ID, Text: "the node was killed", Duration: l.lasted(end)}
		if len(l.Seats) > 0 {
			e.User = l.Seats[0].User
		}
		if len(l.Seats) > 1 {
			e.Peer = l.Seats[1].User
		}
		b.Journal.Append(e)
	}
	b.deleteRecord(l.Stored.ID, l.Stored.Epoch, time.Second, func() {})
}

// reviveAll makes calls of records, each under an epoch, and says how many. They are written when the sound of all is back.
func (b *B2BUA) reviveAll(all []*leftover, epoch func(*leftover) uint64) int {
	var taken atomic.Int64
	inParallel(all, func(l *leftover) {
		if b.revive(l, epoch(l)) {
			taken.Add(1)
		}
	})
	inParallel(all, func(l *leftover) {
		if c := l.call; c != nil {
			c.do(func() {
				c.store.version++
				c.write()
				c.finishIfEmpty()
			})
		}
	})
	return int(taken.Load())
}

// revive makes a call of a record, under an epoch; false: the node is stopping, or has it already.
func (b *B2BUA) revive(l *leftover, epoch uint64) bool {
	c := b.newCallAs(b.ctx, l.Stored.ID)
	c.epoch, c.predecessor = epoch, l.from
	c.store.version, c.store.stored = l.Version, l.Version
	c.started, c.up, c.by, c.quiet, c.why = l.Started, l.Up, l.By, l.Quiet, l.Why
	b.mu.Lock()
	takes := !b.draining && b.calls[c.id] == nil
	if takes {
		b.admit(c)
	}
	b.mu.Unlock()
	if !takes {
		return false
	}
	l.call = c
	return c.do(func() {
		if l.State == StateUp && !l.Quiet && !l.given {
			c.resume(l.Record)
		} else {
			c.wind(l)
		}
	})
}

// fate is what has become of the node that had the call.
func (c *Call) fate() string {
	if c.predecessor != "" {
		return "node " + c.predecessor + " was lost"
	}
	return "the node was restarted"
}

// wind ends a call that cannot go on: nobody had answered it, or it was ending.
func (c *Call) wind(l *leftover) {
	c.state = StateEnding
	c.died = l.lastSign(c.b)
	switch {
	case c.why != "":
	case l.State == StateSetup:
		c.why = c.fate() + " before it was answered"
	default:
		c.why = c.fate()
	}
	for _, sr := range l.Seats {
		s := c.restoreSeat(sr)
		if !sr.Into {
			c.seats = append(c.seats, s)
		}
		for _, lr := range sr.Legs {
			c.letGo(s, lr)
		}
	}
	c.closeRest(l.Record)
}

// resume goes on with a call that is up.
func (c *Call) resume(r Record) {
	c.state = StateUp
	for _, sr := range r.Seats {
		s := c.restoreSeat(sr)
		if sr.Into {
			c.letAllGo(s, sr.Legs)
			continue
		}
		c.seats = append(c.seats, s)
		c.restoreLegs(s, sr)
	}
	if a, b, ok := c.pair(); ok && a.straight && b.straight {
		c.path.state = pathDirect
	}
	c.wire()
	c.watchLegs()
	c.closeRest(r)
	if !slices.ContainsFunc(c.seats, func(s *Seat) bool { return s.holder != nil }) && !slices.ContainsFunc(r.Seats, func(s SeatRecord) bool { return !s.Left.IsZero() }) {
		c.end("nobody was left in it when " + c.fate())
		return
	}
	for _, s := range c.seats {
		for _, l := range s.watched() {
			c.settleIn(l)
		}
		if a := s.away; a != nil && a.leg.state == legLost {
			c.settleIn(a.leg)
		}
	}
	c.log.Info("call goes on", "user", r.Seats[0].User, "epoch", c.epoch)
}

func (c *Call) restoreSeat(r SeatRecord) *Seat {
	u, ok := c.b.Registrar.User(r.User)
	if !ok { // removed meanwhile; the call is his until it ends
		u = registrar.User{Name: r.User}
	}
	s := newSeat(u)
	s.number, s.name = r.Number, r.Name
	return s
}

// restoreLegs gives a seat its holder and its companions, or goes on waiting for a lost device whose seat nobody has taken; the legs of a move
// that was under way go.
func (c *Call) restoreLegs(s *Seat, r SeatRecord) {
	holder := holderOf(r)
	for i, lr := range r.Legs {
		switch {
		case i == holder:
			s.holder = c.restoreLeg(s, lr)
		case lr.Listens && lr.State == legUp:
			if l := c.restoreLeg(s, lr); l != nil {
				s.companions = append(s.companions, l)
			}
		case lr.State == legLost && holder < 0:
			c.restoreLost(s, r, lr)
		default:
			c.letGo(s, lr)
		}
	}
	if s.holder == nil && s.away == nil {
		c.restoreAbsence(s, r)
	}
}

// restoreLost goes on waiting for a device that was lost, and may come back with its dialog.
func (c *Call) restoreLost(s *Seat, r SeatRecord, lost LegRecord) {
	l := c.restoreLeg(s, lost)
	if l == nil {
		return
	}
	c.await(l)
	s.away = &absence{leg: l, from: r.Left, lost: true, mute: l.browser()}
	c.waitOn(s)
}

// holderOf is the leg that holds the seat; where none did, one that a move has brought and that was answered; -1 = none.
func holderOf(r SeatRecord) int {
	if i := slices.IndexFunc(r.Legs, func(l LegRecord) bool { return l.Holds }); i >= 0 {
		return i
	}
	return slices.IndexFunc(r.Legs, func(l LegRecord) bool { return !l.Listens && (l.State == legUp || l.State == legAnswered) })
}

// restoreAbsence waits for a user who has left, for as long as is left of call.wait; of one whose phone had hung up in a move that is over now,
// from now on.
func (c *Call) restoreAbsence(s *Seat, r SeatRecord) {
	from := r.Left
	if from.IsZero() {
		from = time.Now()
	}
	last := LegRecord{}
	if r.Last != nil {
		last = *r.Last
	} else if len(r.Legs) > 0 {
		last = *r.Legs[0].remembered()
	}
	l := c.blankLeg(s, last)
	l.state, l.stream = legClosed, c.b.Engine.Ended()
	s.away = &absence{leg: l, from: from, lost: r.Lost}
	c.waitOn(s)
}

// blankLeg is a leg as its record has it, without a stream.
func (c *Call) blankLeg(s *Seat, r LegRecord) *Leg {
	l := &Leg{
		id: cmp.Or(r.ID, newID()), seat: s, device: c.deviceOf(s, r), state: r.State, dialog: r.Dialog, origin: r.Local.Origin,
		local: r.Local, remote: r.Remote, agreed: r.Agreed, knows: r.Knows, held: r.Held, straight: r.Straight, incoming: r.Incoming, accepted: r.Incoming, acked: true,
		can: r.Can, session: r.Session, refer: r.Refer, answer: r.Answer, began: r.Began, asked: time.Now(),
		dialects: []media.Security{r.Offers}, secret: c.b.mustEncrypt(), unfollow: func() {},
	}
	if l.held {
		l.heldAt = time.Now()
	}
	l.dialog.Flow = c.overtaken(l.dialog.Flow)
	l.dialog.Advance(c.epoch)
	l.way = newWay(l.dialog.Flow)
	return l
}

// deviceOf is the leg's device as it is known now.
func (c *Call) deviceOf(s *Seat, r LegRecord) registrar.Device {
	for _, d := range c.b.Registrar.Devices(s.user.Name) {
		if d.Key == r.Device {
			return d
		}
	}
	return registrar.Device{User: s.user.Name, Key: r.Device, Name: cmp.Or(r.Called, "a device that is forgotten")}
}

// restoreLeg goes on with a leg: its stream first, at the port that it had. nil: it cannot be, and is hung up.
func (c *Call) restoreLeg(s *Seat, r LegRecord) *Leg {
	l := c.blankLeg(s, r)
	heard, pressed := c.heed(l)
	o := media.StreamOptions{Peer: l.dialog.Flow.Remote.Addr(), WebRTC: l.browser(), OnHeard: heard, OnKey: pressed}
	resumes := r.resumes() && c.predecessor == ""
	if resumes {
		o.Resume = &media.Resumption{Place: *r.Place, SRTP: r.SRTP, Key: r.Agreed.Out}
	}
	stream, err := c.b.Engine.Open(o)
	if err != nil {
		c.log.Error("leg cannot go on", "after", c.fate(), "leg", l.id, "device", l.device.Name, "err", err)
		c.letGo(s, r)
		return nil
	}
	l.stream, l.state = stream, legUp
	stream.Faithful(c.mediaMode(l) != "relay")
	if !l.session.Ours { // nobody was there to be told
		l.session.From = time.Now()
	}
	if resumes { // else it waits for what is agreed anew
		l.stream.Apply(l.agreed)
	}
	c.mind(l)
	c.legs = append(c.legs, l)
	c.attach(l)
	c.follow(l)
	if r.Invite != nil {
		l.acked, l.invite = false, &sip.Outgoing{Dialog: r.Dialog, Method: "INVITE", CSeq: r.Invite.CSeq}
		c.ack(l)
	}
	return l
}

// resumes says that the record has all that the stream needs to go on.
func (r LegRecord) resumes() bool {
	return r.Place != nil && r.Place.Fresh() && (r.Place.Browser == nil || r.SRTP != nil)
}

// settleIn tells a leg's phone what has become different, and looks whether it is elsewhere by now. The epoch is in the store before its CSeqs
// go out: a node that is killed meanwhile would use them once more.
func (c *Call) settleIn(l *Leg) {
	if r := l.refer; r != nil { // what it asked for has gone down with the node
		c.commit(func() { c.notifyRefer(l, r, 503, true) })
	}
	switch {
	case c.predecessor != "":
		c.takeUp(l)
	case l.displaced():
		l.local = l.versioned(l.placed())
		if c.b.Agent.Alive(l.dialog.Flow) {
			c.commit(func() { c.reinvite(l, l.local) })
		}
	}
	if d, ok := c.b.deviceHere(l.seat.user.Name, l.device.Key); ok && !c.b.Agent.Alive(l.dialog.Flow) {
		c.registered(l, d)
	}
}

// displaced says that the stream is not what the phone was told: its port is somebody else's by now, the machine has another address, or a
// browser's leg had no keys yet.
func (l *Leg) displaced() bool {
	line, _, ok := l.local.Audio()
	if l.straight {
		return ok && line.RTCP != l.stream.Control()
	}
	if !ok || line.Addr != l.stream.Endpoint() || !l.browser() {
		return ok && line.Addr != l.stream.Endpoint()
	}
	now := l.stream.Local()
	return line.ICE == nil || line.ICE.Ufrag != now.ICE.Ufrag || !slices.Equal(line.Fingerprints, now.Fingerprints)
}

func (c *Call) letAllGo(s *Seat, legs []LegRecord) {
	for _, r := range legs {
		c.letGo(s, r)
	}
}

// letGo ends a leg that does not go on. What rings is cancelled, what may have been answered is hung up; an INVITE of the phone's that was not
// answered died with the node.
func (c *Call) letGo(s *Seat, r LegRecord) {
	switch r.State {
	case legDialing, legRinging, legCancelled:
		if r.Invite == nil || r.Invite.Branch == "" {
			return
		}
		d, over := r.Dialog, c.overtaken(r.Dialog.Flow)
		if c.predecessor != "" {
			d.Flow = d.Flow.At(c.predecessor, c.b.Node)
		}
		out := sip.Outgoing{Dialog: d, Method: "INVITE", CSeq: r.Invite.CSeq, Branch: r.Invite.Branch}
		if err := c.b.Agent.Withdraw(out, over); err != nil {
			c.log.Warn("cancel what rings", "after", c.fate(), "user", s.user.Name, "device", r.Called, "err", err)
		}
	case legIncoming:
		if c.state == StateUp { // its 200 may have gone out
			c.closeDialog(s, r.Device, r.Dialog)
		}
	case legAnswered:
		r.Dialog.Flow = c.overtaken(r.Dialog.Flow)
		_ = c.b.Agent.Ack(r.Dialog, sip.Outgoing{CSeq: cseqOf(r)}, sip.Body{})
		c.closeDialog(s, r.Device, r.Dialog)
	case legUp, legLost:
		c.closeDialog(s, r.Device, r.Dialog)
	}
}

func cseqOf(r LegRecord) uint32 {
	if r.Invite != nil {
		return r.Invite.CSeq
	}
	return r.Dialog.LocalCSeq
}

// closeRest sends the BYEs that were still to come.
func (c *Call) closeRest(r Record) {
	for _, d := range r.Closing {
		i := slices.IndexFunc(c.seats, func(s *Seat) bool { return s.user.Name == d.User })
		s := c.restoreSeat(SeatRecord{User: d.User})
		if i >= 0 {
			s = c.seats[i]
		}
		c.closeDialog(s, d.Device, d.Dialog)
	}
}

// closeDialog hangs a phone up whose leg does not go on.
func (c *Call) closeDialog(s *Seat, device string, d sip.Dialog) {
	l := c.blankLeg(s, LegRecord{Device: device, State: legClosing, Dialog: d})
	l.stream = c.b.Engine.Ended()
	c.legs = append(c.legs, l)
	c.attach(l)
	c.follow(l)
	c.commit(func() { c.bye(l) })
}
