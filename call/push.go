package call

import (
	"fmt"
	"strings"
	"time"

	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// toneAfterFailure is how long a phone that dialled the push code hears that its call stays where it is.
const toneAfterFailure = 2 * time.Second

// push serves the push code dialled as a second call, while the first is on hold (docs/moves.md): the phone hears a tone
// while the other devices ring. When one has taken the call both of the phone's dialogs end; else only this one does, and
// so it does take the move back when the phone hangs it up.
func (b *B2BUA) push(x *sip.Exchange, caller registrar.User, offer *media.Description, n int) error {
	here := b.device(x, caller.Name)
	held, err := b.choose(caller.Name, here.Key, 0)
	if err != nil {
		return b.announce(x, caller, offer, notice{
			tone: media.ToneUnknown, code: 404, why: "this device is in no call that could go to another",
		})
	}
	c := held.call
	only, err := b.ownDevice(caller.Name, n)
	if err != nil {
		return b.announce(x, caller, offer, notice{tone: media.ToneUnknown, code: 404, why: err.Error()})
	}
	waiting := b.newCall(b.ctx)
	m := &move{c: c, only: only, how: "code", who: caller.Name, began: time.Now(), waiting: waiting}
	waiting.pushing = m
	m.finished = func(code int, why string) { waiting.post(func() { waiting.pushed(code, why) }) }
	waiting.ended = func() { c.post(func() { c.takeBack(m) }) }
	err = b.play(waiting, x, caller, offer, notice{
		tone: media.ToneRing, code: 200, why: "the call goes to another device", show: b.goesTo(caller.Name, here.Key, only), stay: true,
	})
	if err != nil {
		return err
	}
	began := c.post(func() {
		if err := c.beginPush(m, held.seat, here.Key); err != nil {
			m.finished(480, err.Error())
		}
	})
	if !began {
		m.finished(404, "the call has just ended")
	}
	return nil
}

// ownDevice is the device N of *41N, nil for *41.
func (b *B2BUA) ownDevice(user string, n int) (*registrar.Device, error) {
	if n == 0 {
		return nil, nil
	}
	d, err := b.Registrar.Find(user, fmt.Sprint(n))
	if err != nil {
		return nil, err
	}
	return &d, nil
}

// goesTo is what the display of the phone that dialled the code says: indexes and names of the devices that ring.
func (b *B2BUA) goesTo(user, except string, only *registrar.Device) string {
	var names []string
	for _, d := range b.Registrar.Lookup(user) {
		if d.Key != except && (only == nil || only.Key == d.Key) {
			names = append(names, strings.TrimSpace(fmt.Sprintf("%s %s", indexOf(d), d.Name)))
		}
	}
	return strings.Join(names, ", ")
}

// indexOf is a device's number as it is dialled, "" for one that is known by name alone.
func indexOf(d registrar.Device) string {
	if d.Index == 0 {
		return ""
	}
	return fmt.Sprint(d.Index)
}

// beginPush moves the seat that the device of this key holds.
func (c *Call) beginPush(m *move, position int, key string) error {
	if m.takenBack {
		return refusal(487, "taken back")
	}
	if position >= len(c.seats) {
		return refusal(404, "the call has just ended")
	}
	m.seat, m.into = c.seats[position], c.seats[position]
	m.from = m.seat.holder
	if m.from == nil || m.from.device.Key != key {
		return refusal(404, "the call has just left this device")
	}
	if err := m.reachable(); err != nil {
		return err
	}
	if err := c.addMove(m); err != nil {
		return err
	}
	c.beginMove(m)
	return nil
}

// takeBack ends the move of a phone that has hung up its second call, perhaps before the move has begun.
func (c *Call) takeBack(m *move) {
	if m.referred {
		return // the transfer key ends the second call of some phones: that is no change of mind
	}
	m.takenBack = true
	c.failMove(m, "taken back", 487)
}

// pushed ends the phone's second call, which waited for the outcome.
func (c *Call) pushed(code int, why string) {
	c.ended = nil
	if l := c.seats[0].holder; l != nil && l.refer != nil {
		c.notifyRefer(l, l.refer, code, true)
		if code < 300 {
			c.after(byeOfReferrer, func() { c.end("the call has moved") })
			return
		}
	}
	if code < 300 {
		c.end("the call has moved")
		return
	}
	if l := c.seats[0].holder; l != nil {
		l.hear(source{tone: media.ToneUnknown})
	}
	c.after(toneAfterFailure, func() { c.end(why) })
}
