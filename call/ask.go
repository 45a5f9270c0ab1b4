package call

import (
	"slices"
	"strconv"
	"time"

	"baton/journal"
	"baton/registrar"
)

// asking is the wish of a user who is called that one certain device of his takes the call that rings (docs/moves.md). The
// others go on ringing until it has answered. Owned by its call's agent.
type asking struct {
	d      *dial
	device registrar.Device
	leg    *Leg // that rings there, nil while the INVITE before is being cancelled
	added  bool // it rings because of this alone
	told   func(l *Leg, code int, why string)
}

// ask has a device of the dialled user's, beside those that ring, answer by itself if it can. One that rings already is asked
// by NOTIFY talk if it has said that it knows that, else it is called anew: headers cannot be added to an INVITE that is
// out. told is told once what has become of it, code 200 = the device has the call.
func (d *dial) ask(dev registrar.Device, told func(l *Leg, code int, why string)) *asking {
	a := &asking{d: d, device: dev, told: told}
	d.asked = append(d.asked, a)
	l := d.legAt(dev.Key)
	switch {
	case l == nil:
		a.added = true
		a.ring()
	case !d.c.mayAnswerItself(l):
		a.leg = l
	case l.talks != nil:
		a.leg, l.ringless, l.coaxed = l, true, true
		d.talk(l, l.talks)
	default:
		l.gone = func() { a.ring() }
		d.c.setState(l, legCancelled)
		l.cancel(elsewhere)
	}
	return a
}

// legAt is the leg that rings at a device, nil if none does.
func (d *dial) legAt(key string) *Leg {
	for _, l := range d.legs {
		if l.device.Key == key && (l.state == legDialing || l.state == legRinging) {
			return l
		}
	}
	return nil
}

// ring calls the device with the headers that ask it to answer by itself; one that was taken back meanwhile rings as before.
func (a *asking) ring() {
	if a.d.over || a.leg != nil {
		return
	}
	var err error
	if a.leg, err = a.d.ring(a.device, slices.Contains(a.d.asked, a)); err != nil {
		a.d.settle(a, nil, 503, err.Error())
	}
}

// settle ends the wish and tells what has become of it, once.
func (d *dial) settle(a *asking, l *Leg, code int, why string) {
	for i, k := range d.asked {
		if k == a {
			d.asked = append(d.asked[:i], d.asked[i+1:]...)
			a.told(l, code, why)
			return
		}
	}
}

// askedAt is the wish that a leg rings for, nil if none.
func (d *dial) askedAt(l *Leg) *asking {
	for _, a := range d.asked {
		if a.leg == l {
			return a
		}
	}
	return nil
}

// takeBack ends the wish: a device that rings because of it alone stops ringing.
func (a *asking) takeBack() {
	d := a.d
	if l := a.leg; a.added && l != nil && !d.over && (l.state == legDialing || l.state == legRinging) {
		d.c.setState(l, legCancelled)
		l.cancel(nil)
	}
	d.settle(a, nil, 487, "taken back")
	d.check()
}

// ringsAt is the dial that rings for a seat whose user has not answered yet, nil = none does.
func (c *Call) ringsAt(s *Seat) *dial {
	for _, d := range c.dials() {
		if d.seat == s && d.rings() {
			return d
		}
	}
	return nil
}

// moveRinging sends a call that rings to one device of the called user's, as a person or program asked for. It gives the way
// to take that back.
func (c *Call) moveRinging(d *dial, r MoveRequest, dev registrar.Device, tell func(MoveReport, error)) (undo func()) {
	switch {
	case !dev.Here():
		tell(MoveReport{}, refusal(480, away(dev)))
		return nil
	case dev.Key == d.exclude:
		tell(MoveReport{}, refusal(480, dev.Name+" is the device that calls"))
		return nil
	}
	for _, a := range d.asked {
		if a.device.Key == dev.Key {
			tell(MoveReport{}, refusal(491, dev.Name+" is being asked already"))
			return nil
		}
	}
	began := time.Now()
	return d.ask(dev, func(l *Leg, code int, why string) {
		m := MoveInfo{At: began, User: d.seat.user.Name, To: dev.Name, How: r.How, Who: r.Who}
		e := journal.Entry{User: m.User, Device: dev.Name, Peer: c.other(d.seat).user.Name}
		if code == 200 {
			rep := l.tookRinging(c.id, began)
			m.Report = &rep
			e.Kind, e.Text, e.Data = journal.CallMoved, r.How, rep.data()
		} else {
			m.Error = why
			e.Kind, e.Text, e.Data = journal.CallMoveFailed, why, map[string]string{"code": strconv.Itoa(code)}
		}
		e.Data["how"], e.Data["who"] = r.How, r.Who
		c.history = append(c.history, m)
		c.note(e.Kind, e)
		if m.Report != nil {
			tell(*m.Report, nil)
			return
		}
		tell(MoveReport{}, refusal(code, dev.Name+": "+why))
	}).takeBack
}

// tookRinging are the figures of a call that rang and was sent to the leg's device: there was no audio yet.
func (l *Leg) tookRinging(call string, asked time.Time) MoveReport {
	r := MoveReport{Call: call, User: l.seat.user.Name, To: l.device.Name, SwitchMS: ms(l.answer.Sub(asked))}
	if rang := l.rangAt; !rang.IsZero() {
		if rang.Before(asked) {
			rang = asked
		}
		r.RingMS = ms(l.answer.Sub(rang))
		r.SwitchMS -= r.RingMS
	}
	return r
}
