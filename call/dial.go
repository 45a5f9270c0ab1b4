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

// dial rings a growing set of devices of one user: a device that registers meanwhile joins, the first 2xx wins and the
// others are told that the call was completed elsewhere. Owned by its call's agent.
type dial struct {
	// set once
	c       *Call
	seat    *Seat
	show    *Seat // whose name and number the devices are shown
	codecs  []media.Codec
	exclude string            // key of the device that asked
	only    *registrar.Device // the one device to ring, nil = all of the user's
	auto    bool              // ask each for a ring-less answer
	hops    []hop             // who has forwarded the call
	by      *Seat             // who has transferred it, nil = nobody
	back    string            // what the display says of it beside who is shown

	ringing  func(*Leg, *sip.Response)  // each provisional response
	answered func(*Leg, *sip.Response)  // the first 2xx
	failed   func(code int, why string) // nobody is left to ring

	began   time.Time
	legs    []*Leg
	asked   []*asking       // devices that the user wants the call on
	rung    map[string]bool // device keys that were tried
	best    failure
	over    bool
	unwatch func()
	timer   *time.Timer
}

// failure is the answer that tells most about why nobody took the call.
type failure struct {
	code int
	why  string
}

// begin rings who is there. It reports through failed when nobody can be rung.
func (d *dial) begin() {
	d.rung, d.began = map[string]bool{}, time.Now()
	d.best = failure{480, d.nobody()}
	d.unwatch = d.c.b.Registrar.Watch(d.seat.user.Name, func(dev registrar.Device) {
		d.c.post(func() { d.join(dev) })
	})
	d.timer = d.c.after(d.patience(), func() { d.giveUp(failure{480, "no answer"}) })
	d.joinAll()
	d.check()
}

// joinAll rings every device of the user that is here and was not rung yet.
func (d *dial) joinAll() {
	for _, dev := range d.c.b.Registrar.Lookup(d.seat.user.Name) {
		d.join(dev)
	}
}

// nobody says why nothing rings.
func (d *dial) nobody() string {
	if d.only != nil && !d.only.Here() {
		return away(*d.only)
	}
	return fmt.Sprintf("no device of %s is here", d.seat.user.Name)
}

// join rings one more device.
func (d *dial) join(dev registrar.Device) {
	if d.over || !dev.Here() || dev.Key == d.exclude || d.rung[dev.Key] || (d.only != nil && d.only.Key != dev.Key) {
		return
	}
	if _, err := d.ring(dev, d.auto); err != nil {
		d.best = failure{statusOf(err, 503), err.Error()}
	}
}

// ring calls a device, with auto so that it answers by itself if it is not set to do otherwise.
func (d *dial) ring(dev registrar.Device, auto bool) (*Leg, error) {
	return d.ringIn(dev, auto, d.c.b.dialects(dev, dev.Binding.Flow))
}

// ringIn is ring with an offer of audio in the first of these dialects.
func (d *dial) ringIn(dev registrar.Device, auto bool, dialects []media.Security) (*Leg, error) {
	d.rung[dev.Key] = true
	l, err := d.c.newLeg(d.seat, dev, dev.Binding.Flow, dialects)
	if err != nil {
		d.c.log.Error("ring", "device", dev.Name, "err", err)
		return nil, err
	}
	l.ringless = auto && d.c.mayAnswerItself(l)
	d.legs = append(d.legs, l)
	d.c.follow(l)
	d.c.setState(l, legDialing)
	d.send(l)
	return l, nil
}

// send starts the INVITE to the leg's device.
func (d *dial) send(l *Leg) {
	headers := d.compose(l, *l.device.Binding)
	if l.traits.long = d.c.b.Agent.TooLong(d.request(l, headers)); l.traits.long {
		if way, ok := l.connection(d.c.b.Agent); ok {
			headers = d.compose(l, way)
		}
	}
	d.invite(l, headers)
}

// request is the leg's INVITE.
func (d *dial) request(l *Leg, headers []sip.Header) sip.Outgoing {
	all := append(headers[:len(headers):len(headers)], d.c.askSession(l)...)
	return l.dialog.NewRequest("INVITE", sdpBody(l.local), all...)
}

// invite sends the leg's INVITE, once more if the phone wants a longer session.
func (d *dial) invite(l *Leg, headers []sip.Header) {
	c := d.c
	out := d.request(l, headers)
	out.Branch = c.b.Agent.NewBranch()
	l.invite = &out
	c.touch() // it can be withdrawn after a restart
	ctx, cancel := context.WithCancelCause(c.ctx)
	l.cancel, l.inviting = cancel, ctx
	c.exchange(func() func() {
		resp, err := c.b.Agent.Invite(ctx, out, func(r *sip.Response) {
			c.do(func() { d.provisional(l, r) })
		})
		return func() {
			if !d.over && l.state != legCancelled && l.tooShort(err) {
				cancel(nil) // of the INVITE that is over
				d.invite(l, headers)
				return
			}
			d.final(l, resp, err)
		}
	})
}

// compose begins the leg's dialog, by the way of one of the device's bindings, and gives what the INVITE says beside its offer.
func (d *dial) compose(l *Leg, way registrar.Binding) []sip.Header {
	c, flow := d.c, way.Flow
	us, them := c.identity(d.show, flow), c.identity(d.seat, flow)
	if d.back != "" {
		us.Name += " (" + d.back + ")"
	}
	l.dialog = c.b.Agent.NewDialog(us, them, way.Target(), way.Path, flow, c.epoch)
	l.local = l.newOffer(d.codecs, media.SendRecv)
	headers := append(identityHeaders(us), c.diverted(d.hops, d.seat, flow)...)
	if d.by != nil { // RFC 3892: our own word, whatever the phone said
		headers = append(headers, sip.Header{Name: "Referred-By", Value: c.identity(d.by, flow).String()})
	}
	if l.ringless {
		headers = append(headers, ringless(us.URI)...)
	}
	return headers
}

func (d *dial) provisional(l *Leg, r *sip.Response) {
	if l.state != legDialing && l.state != legRinging || r.Code() == 100 {
		return
	}
	l.learn(r)
	f := d.c.fork(l, r)
	if f != nil && r.RSeq() != 0 {
		d.c.prack(l, f, r)
	}
	if l.state == legDialing {
		d.c.setState(l, legRinging)
		l.rangAt = time.Now()
	}
	if d.over {
		return
	}
	if f != nil && allowsTalk(r) {
		l.talks = f
	}
	if l.ringless {
		d.coax(l, f, r)
	}
	d.ringing(l, r)
}

// final takes the end of one device's INVITE.
func (d *dial) final(l *Leg, resp *sip.Response, err error) {
	c := d.c
	if err == nil {
		c.settleFork(l, resp)
		l.learn(resp)
		l.tookSession(resp)
		l.answer = time.Now()
		c.learnAnswer(l)
		if d.over || l.state == legCancelled && l.gone == nil { // it crossed our CANCEL
			c.setState(l, legAnswered)
			c.drop(l)
			return
		}
		d.win(l, resp)
		return
	}
	wasCancelled := l.state == legCancelled
	c.closeLeg(l)
	switch {
	case l.gone != nil && !d.over:
		l.gone()
		d.check()
	case !d.over && !wasCancelled && !d.inAnotherDialect(l, err):
		d.lose(l, err)
	}
}

// inAnotherDialect calls a device anew that may have refused the way in which audio was offered; false: it did not, or there is no other.
func (d *dial) inAnotherDialect(l *Leg, err error) bool {
	if !otherDialect(failureOf(err).code) || len(l.dialects) < 2 {
		return false
	}
	k, failed := d.ringIn(l.device, l.ringless, l.dialects[1:])
	if failed != nil {
		return false
	}
	k.retried = true
	d.c.log.Info("audio is offered in another way", "leg", k.id, "device", k.device.Name, "from", l.dialect(), "to", k.dialect(), "err", err)
	if a := d.askedAt(l); a != nil {
		a.leg = k
	}
	return true
}

// win stops the others and hands the leg over.
func (d *dial) win(l *Leg, resp *sip.Response) {
	d.c.setState(l, legAnswered)
	d.c.attach(l)
	for _, a := range slices.Clone(d.asked) {
		if a.device.Key == l.device.Key {
			d.settle(a, l, 200, "")
		}
	}
	d.stop(elsewhere)
	d.answered(l, resp)
}

// lose weighs one device's refusal: 600 and 603 stop all, the others only that device (docs/protocol.md).
func (d *dial) lose(l *Leg, err error) {
	f := failureOf(err)
	a := d.askedAt(l)
	if a != nil {
		d.settle(a, nil, max(f.code, 400), f.why)
	}
	d.c.log.Info("device did not take the call", "leg", l.id, "user", d.seat.user.Name, "device", l.device.Name, "err", err)
	switch {
	case errors.Is(err, sip.ErrFlowGone):
		d.flowGone(l)
	case (f.code == 600 || f.code == 603) && a == nil: // of one that was chosen it means: not here
		d.giveUp(f)
		return
	case f.code/100 == 3 && d.redirected(err):
		d.check()
		return
	}
	if rank(f.code) >= rank(d.best.code) {
		d.best = f
	}
	d.check()
}

// flowGone lets a device ring again over the flow that it has by now, or will have.
func (d *dial) flowGone(l *Leg) {
	delete(d.rung, l.device.Key)
	tried := l.dialog.Flow
	if !speakable(l.local, tried) { // its INVITE had keys and did not follow it there
		tried = l.invite.Dialog.Flow
	}
	if dev, ok := d.c.b.deviceHere(d.seat.user.Name, l.device.Key); ok && dev.Binding.Flow != tried {
		d.join(dev)
		return
	}
	d.c.b.Registrar.Unreachable(d.seat.user.Name, l.device.Key, "its connection is gone")
}

// check gives up when nobody rings any more.
func (d *dial) check() {
	if !d.over && !d.rings() {
		d.giveUp(d.best)
	}
}

// rings says that somebody may still answer.
func (d *dial) rings() bool {
	return !d.over && slices.ContainsFunc(d.legs, func(l *Leg) bool {
		return l.state == legDialing || l.state == legRinging || l.state == legCancelled && l.gone != nil
	})
}

func (d *dial) giveUp(f failure) {
	if d.over {
		return
	}
	for _, a := range slices.Clone(d.asked) {
		d.settle(a, nil, max(f.code, 400), f.why)
	}
	d.stop(nil)
	d.failed(f.code, f.why)
}

// stop cancels what still rings; why goes to the phones as Reason.
func (d *dial) stop(why *sip.CancelReason) {
	if d.over {
		return
	}
	d.over = true
	d.unwatch()
	d.c.stop(d.timer)
	for _, a := range slices.Clone(d.asked) {
		if why != nil {
			d.settle(a, nil, 480, "another device has taken the call")
		} else {
			d.settle(a, nil, 487, "the call rings no more")
		}
	}
	for _, l := range d.legs {
		if l.state == legDialing || l.state == legRinging {
			d.c.setState(l, legCancelled)
			if why != nil {
				l.cancel(why)
			} else {
				l.cancel(nil)
			}
		}
	}
}

// failureOf reads what became of an INVITE.
func failureOf(err error) failure {
	var status *sip.StatusError
	if errors.As(err, &status) {
		return failure{status.Code, fmt.Sprintf("%d %s", status.Code, sip.StatusText(status.Code))} // not the phone's own words
	}
	if errors.Is(err, sip.ErrTimeout) {
		return failure{408, "the device did not answer its INVITE"}
	}
	return failure{480, err.Error()}
}

// rank orders failures by what a caller wants to know of several devices.
func rank(code int) int {
	switch {
	case code == 486:
		return 3
	case code == 488 || code == 606:
		return 2
	case code == 503:
		return 1
	}
	return 0
}
