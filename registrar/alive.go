package registrar

import (
	"context"
	"errors"
	"hash/maphash"
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
	at := nanos(now)
	asks := r.o.KeepAlive > 0 && r.o.Agent != nil
	for _, a := range r.directory.Load().accounts {
		late := false
		for i := range a.pulse {
			s := &a.pulse[i]
			late = late || s.expires <= at || r.forsaken(s, at)
			if asks && !s.asking && r.asking < maxAsking && s.next <= at {
				r.keepAlive(a, s)
			}
		}
		if late && !a.busy {
			before := a.list()
			r.note(a, before, r.withoutForsaken(a, expired(before, now), at))
		}
	}
}

// forsaken says that a binding has answered nothing for so long that it ends. One that is only not used is asked, and answers.
func (r *Registrar) forsaken(s *pulse, at int64) bool {
	return r.o.Unreachable > 0 && s.silent && !s.asking && s.heard+int64(r.o.Unreachable) <= at
}

// withoutForsaken takes the forsaken bindings of an account away, but for those of apps, which sleep until a push service wakes them.
func (r *Registrar) withoutForsaken(a *account, devices []Device, at int64) []Device {
	after := slices.Clone(devices)
	for i, d := range after {
		kept := slices.DeleteFunc(d.bindings(), func(b Binding) bool {
			s := a.pulseOf(place{d.Key, b.RegID})
			if s == nil || !r.forsaken(s, at) {
				return false
			}
			if sleeps(b) {
				s.heard = at // it is not looked at again before long
				return false
			}
			return true
		})
		if len(kept) < len(d.bindings()) {
			r.log.Info("registration has ended", "user", d.User, "device", d.Name, "why", "nothing was heard of it for "+r.o.Unreachable.String())
			after[i] = d.settle(kept, reasonUnreachable, r.now())
		}
	}
	return after
}

// sleeps says whether a binding is an app's that has a push service.
func sleeps(b Binding) bool {
	u, err := sip.ParseURI(b.Contact)
	return err == nil && pushed(u)
}

// keepAlive asks one binding by OPTIONS (RFC 3261 §11). Any answer means that the device is there.
func (r *Registrar) keepAlive(a *account, s *pulse) {
	p, b, ok := find(a.list(), s)
	if !ok {
		return
	}
	s.asking = true
	flow := s.flow
	from := r.now()
	r.asking++
	r.asks.Go(func() {
		err := r.ask(b, r.askTimeout, askTries)
		r.mail.Do(func() {
			if s := a.pulseOf(p); s != nil && s.flow == flow {
				s.asking = false
			}
			r.asking--
			r.asked(a, p, b, from, err)
		})
	})
}

// asked takes the outcome of a keep-alive.
func (r *Registrar) asked(a *account, p place, b Binding, from time.Time, err error) {
	s := a.pulseOf(p)
	if s == nil || r.ctx.Err() != nil || s.heard >= nanos(from) {
		return // it has ended, or spoken meanwhile
	}
	switch {
	case err == nil:
		now := r.now()
		s.heard, s.next = nanos(now), nanos(r.nextAsk(now))
		if b.Silent {
			r.event(a, func(d []Device) []Device { return answered(d, p.key, b.samePlace, r.now()) })
		}
	case errors.Is(err, sip.ErrFlowGone) && r.dead(b.Flow):
		r.flowClosed(a, b.Flow)
	default:
		s.next = nanos(r.nextAsk(r.now()))
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
	for i := range a.pulse {
		s := &a.pulse[i]
		if slices.ContainsFunc(keys, s.of) && !s.elsewhere() {
			if s.heard, s.next = nanos(now), nanos(r.nextAsk(now)); s.silent {
				s.next = nanos(now) // so that it is soon back
			}
		}
	}
}

func (r *Registrar) hearKey(user, key string) {
	if a, ok := r.directory.Load().accounts[user]; ok {
		r.hear(a, []string{key})
	}
}

// track follows the bindings of an account: whose connection is whose, and when to ask each.
func (r *Registrar) track(a *account, before, after []Device) {
	for _, d := range before {
		for b := range d.all {
			r.unfollow(a, b.Flow)
		}
	}
	bindings := 0
	for _, d := range after {
		for range d.all {
			bindings++
		}
	}
	next := make([]pulse, 0, bindings)
	for _, d := range after {
		for b := range d.all {
			if !r.foreign(*b) {
				r.follow(a, b.Flow)
			}
			next = append(next, r.pulse(a, d.Key, b))
		}
	}
	a.pulse = next
}

// follow remembers whose a connection is; UDP knows no end.
func (r *Registrar) follow(a *account, f sip.Flow) {
	if !stream(f) {
		return
	}
	if r.flows[f] == nil {
		r.flows[f] = make(map[*account]bool)
	}
	r.flows[f][a] = true
}

func (r *Registrar) unfollow(a *account, f sip.Flow) {
	if !stream(f) {
		return
	}
	if delete(r.flows[f], a); len(r.flows[f]) == 0 {
		delete(r.flows, f)
	}
}

// pulse is that of a binding: the one before, or of a new flow a new one.
func (r *Registrar) pulse(a *account, key string, b *Binding) pulse {
	flow := maphash.Comparable(seed, b.Flow)
	s := pulse{device: maphash.String(seed, key), flow: flow, regID: int32(b.RegID)}
	if was := a.pulseOf(place{key, b.RegID}); was != nil && was.flow == flow && !was.elsewhere() {
		s = *was
	} else {
		s.heard, s.next = nanos(b.Registered), nanos(r.nextAsk(b.Registered))
		if now := r.now(); s.next < nanos(now) { // of an earlier run: soon, but not all at once
			s.next = nanos(now.Add(time.Duration(rand.Float64() * float64(r.o.KeepAlive))))
		}
		if b.Silent { // of an earlier run too: it may have been heard since
			s.heard = nanos(r.now())
		}
	}
	s.expires, s.silent = nanos(b.Expires), b.Silent
	if r.foreign(*b) {
		return s.minded()
	}
	return s
}

// find is the binding that a pulse is of, and its place, as they are now.
func find(devices []Device, s *pulse) (place, Binding, bool) {
	for _, d := range devices {
		if !s.of(d.Key) {
			continue
		}
		for b := range d.all {
			if b.RegID == int(s.regID) {
				return place{d.Key, b.RegID}, *b, true
			}
		}
	}
	return place{}, Binding{}, false
}
