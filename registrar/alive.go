package registrar

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"baton/sip"
)

const (
	askTimeout = 4 * time.Second // of one OPTIONS: UDP sends it again after 0.5, 1.5 and 3.5 s
	askTries   = 3               // twelve datagrams: where three of ten are lost, one device of 3,000 is taken for silent and not one of 200
	maxAsking  = 200             // at the same time
)

// tick ends what has expired and asks those that were not heard for a while.
func (r *Registrar) tick() {
	now := r.now()
	for _, a := range r.directory.Load().accounts {
		late := false
		for p, s := range a.pulse {
			late = late || !s.expires.After(now)
			if r.o.KeepAlive > 0 && r.o.Agent != nil && !s.asking && r.asking < maxAsking && !s.next.After(now) {
				r.keepAlive(a, p, s)
			}
		}
		if late && !a.busy {
			before := *a.devices.Load()
			r.note(a, before, expired(before, now))
		}
	}
}

// keepAlive asks one binding by OPTIONS (RFC 3261 §11). Any answer means that the device is there.
func (r *Registrar) keepAlive(a *account, p place, s *pulse) {
	b, ok := find(*a.devices.Load(), p)
	if !ok {
		return
	}
	s.asking = true
	from := r.now()
	r.asking++
	r.asks.Go(func() {
		err := r.ask(b, r.askTimeout, askTries)
		r.mail.Do(func() {
			s.asking = false
			r.asking--
			r.asked(a, p, b, from, err)
		})
	})
}

// asked takes the outcome of a keep-alive.
func (r *Registrar) asked(a *account, p place, b Binding, from time.Time, err error) {
	s := a.pulse[p]
	if s == nil || r.ctx.Err() != nil || !s.heard.Before(from) {
		return // it has ended, or spoken meanwhile
	}
	switch {
	case err == nil:
		s.heard = r.now()
		s.next = r.nextAsk(s.heard)
		if b.Silent {
			r.event(a, func(d []Device) []Device { return answered(d, p.key, b.samePlace, r.now()) })
		}
	case errors.Is(err, sip.ErrFlowGone) && r.dead(b.Flow):
		r.flowClosed(a, b.Flow)
	default:
		s.next = r.nextAsk(r.now())
		if !b.Silent {
			r.event(a, func(d []Device) []Device { return silenced(d, p.key, b.samePlace, "does not answer OPTIONS", r.now()) })
		}
	}
}

// ask sends OPTIONS until it is answered; nil means that the device is there. A panic is a device that cannot be asked.
func (r *Registrar) ask(b Binding, timeout time.Duration, tries int) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("panic while a device was asked", "contact", b.Contact, "err", p, "stack", string(debug.Stack()))
			err = errors.New("it cannot be asked")
		}
	}()
	for range tries {
		if err = r.askOnce(b, timeout); err == nil || errors.Is(err, sip.ErrFlowGone) || r.ctx.Err() != nil {
			return err
		}
	}
	return err
}

func (r *Registrar) askOnce(b Binding, timeout time.Duration) error {
	target, err := sip.ParseURI(b.Target())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.ctx, timeout)
	defer cancel()
	us := sip.NameAddr{URI: r.o.Agent.ContactURI(b.Flow, "baton")}
	d := sip.NewDialog(us, sip.NameAddr{URI: target}, b.Target(), b.Path, b.Flow, 0)
	_, err = r.o.Agent.Do(ctx, d.NewRequest("OPTIONS", sip.Body{}))
	var status *sip.StatusError
	if errors.As(err, &status) && status.Response != nil {
		return nil
	}
	return err
}

// askAll asks several devices at once and tells the agent who was silent.
func (r *Registrar) askAll(devices []Device, timeout time.Duration, then func(silent map[string]bool)) {
	silent := make(map[string]bool)
	left := len(devices)
	for _, d := range devices {
		b := *d.Binding
		r.asks.Go(func() {
			err := r.ask(b, timeout, 1)
			r.mail.Do(func() {
				if silent[d.Key] = err != nil; err == nil {
					r.hearKey(d.User, d.Key)
				}
				if left--; left == 0 {
					then(silent)
				}
			})
		})
	}
}

// nextAsk spreads the devices over time, so that those that came together are not asked together for ever.
func (r *Registrar) nextAsk(from time.Time) time.Time {
	return from.Add(time.Duration(float64(r.o.KeepAlive) * (0.8 + 0.4*rand.Float64())))
}

// hear notes that devices have just spoken.
func (r *Registrar) hear(a *account, keys []string) {
	now := r.now()
	for p, s := range a.pulse {
		if slices.Contains(keys, p.key) {
			if s.heard, s.next = now, r.nextAsk(now); s.silent {
				s.next = now // so that it is soon back
			}
		}
	}
}

func (r *Registrar) hearKey(user, key string) {
	if a, ok := r.directory.Load().accounts[user]; ok {
		r.hear(a, []string{key})
	}
}

// track follows the bindings of an account: whose flow is whose, and when to ask each.
func (r *Registrar) track(a *account, before, after []Device) {
	for _, d := range before {
		for _, b := range d.bindings() {
			delete(r.flows[b.Flow], a)
			if len(r.flows[b.Flow]) == 0 {
				delete(r.flows, b.Flow)
			}
		}
	}
	now := r.now()
	next := make(map[place]*pulse)
	for _, d := range after {
		for _, b := range d.bindings() {
			if r.flows[b.Flow] == nil {
				r.flows[b.Flow] = make(map[*account]bool)
			}
			r.flows[b.Flow][a] = true
			p := place{d.Key, b.RegID}
			s := a.pulse[p]
			if s == nil || s.flow != b.Flow {
				s = &pulse{flow: b.Flow, heard: b.Registered, next: r.nextAsk(b.Registered)}
				if s.next.Before(now) { // of an earlier run: soon, but not all at once
					s.next = now.Add(time.Duration(rand.Float64() * float64(r.o.KeepAlive)))
				}
			}
			s.expires, s.silent = b.Expires, b.Silent
			next[p] = s
		}
	}
	a.pulse = next
}

// find is the binding at a place, as it is now.
func find(devices []Device, p place) (Binding, bool) {
	i := byKey(devices, p.key)
	if i < 0 {
		return Binding{}, false
	}
	for _, b := range devices[i].bindings() {
		if b.RegID == p.regID {
			return b, true
		}
	}
	return Binding{}, false
}
