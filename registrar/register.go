package registrar

import (
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"baton/sip"
)

const (
	// fresh is how lately a device must have been heard not to be asked whether it still lives.
	fresh = 10 * time.Second
	// doubtFor is how long an answer waits for a device that may have restarted (its client repeats until 32 s).
	doubtFor = time.Second
	// maxWaiting is how many REGISTERs may wait for the store before more are sent away: some seconds' worth, for who
	// waits longer asks again.
	maxWaiting = 5000
)

// Register answers a REGISTER. It does not wait: the answer is given when the store has what it asks for.
func (r *Registrar) Register(x *sip.Exchange) {
	r.register(x.Request, x.User(), x.Flow(), func(reply sip.Reply) {
		if err := x.Respond(reply); err != nil {
			r.log.Warn("REGISTER is not answered", "user", x.User(), "from", x.Source(), "err", err)
		}
		if !r.registersBy(x.Login(), x.Flow()) {
			r.signOut(x.User(), []sip.Flow{x.Flow()})
		}
	})
}

func (r *Registrar) register(req *sip.Request, user string, flow sip.Flow, respond func(sip.Reply)) {
	a, err := r.addressed(req.To().URI, user)
	if err != nil {
		respond(r.failure(user, err))
		return
	}
	o, err := readOrder(req, flow)
	if err == nil {
		err = r.checkContacts(o)
	}
	if err == nil && len(o.path) > 0 && !r.o.Agent.Proxy(flow.Remote.Addr()) { // RFC 3327 §6: anybody could write one
		err = refuse(403, "Path Of No Proxy Of Ours", sip.Header{Name: "Warning", Value: `399 baton "a Path is taken from the networks of the setting proxies"`})
	}
	if err == nil && r.waiting.Load() >= maxWaiting {
		err = refuse(503, "Too Busy", sip.RetryAfter(2, 8))
	}
	if err != nil {
		respond(r.failure(user, err))
		return
	}
	o.user = user
	o.aor, o.gruus = r.grantGRUU(req)
	for i := range o.wishes {
		o.wishes[i].expires = r.o.Grant(o.wishes[i].expires)
	}
	r.waiting.Add(1)
	r.submit(a, func(a *account) {
		r.serve(a, o, func(reply sip.Reply) {
			r.waiting.Add(-1)
			respond(reply)
		})
	})
}

// spread is 90 to 100 percent of a time, in whole seconds, and no less than the shortest: RFC 3261 §10.3 step 8 lets a
// registrar shorten what was asked, and the device is told. 0, which unbinds, stays.
func spread(asked time.Duration) time.Duration {
	if asked <= minExpires {
		return asked
	}
	least := max(asked*9/10, minExpires).Truncate(time.Second)
	return least + rand.N((asked-least)/time.Second+1)*time.Second
}

// addressed finds the account of a REGISTER's To, which must be the authenticated user's (RFC 3261 §10.3 steps 4, 5).
func (r *Registrar) addressed(to sip.URI, user string) (*account, error) {
	ours := r.o.Domain == "" || strings.EqualFold(to.Host, r.o.Domain) || r.o.Agent.Own(to.Host)
	a, known := r.directory.Load().logins[strings.ToLower(to.User)]
	switch {
	case to.Scheme != "sip" && to.Scheme != "sips" || !ours || !known:
		return nil, refuse(404, "Not Found")
	case a.name != user:
		return nil, refuse(403, "Not Your Address")
	}
	return a, nil
}

func (r *Registrar) checkContacts(o order) error {
	for _, w := range o.wishes {
		if w.expires == 0 {
			continue
		}
		if err := checkContact(w.uri, o.flow, r.o.Agent); err != nil {
			return err
		}
	}
	return nil
}

// serve carries out an order; devices that its sender may be, after a restart nobody told of, are asked first.
func (r *Registrar) serve(a *account, o order, respond func(sip.Reply)) {
	before := a.list()
	var ask []Device
	for _, w := range o.wishes {
		if w.expires == 0 {
			continue
		}
		for _, d := range doubts(before, w.visitor) {
			if r.now().Sub(a.heard(d.Key)) > fresh && byKey(ask, d.Key) < 0 {
				ask = append(ask, d)
			}
		}
	}
	if len(ask) == 0 {
		r.place(a, o, before, nil, respond)
		return
	}
	a.busy = true
	r.askAll(ask, doubtFor, func(silent map[string]bool) {
		a.busy = false
		r.place(a, o, a.list(), silent, respond)
		if !a.busy {
			r.proceed(a)
		}
	})
}

// place carries out an order on the devices as they are.
func (r *Registrar) place(a *account, o order, before []Device, silent map[string]bool, respond func(sip.Reply)) {
	if a.gone {
		respond(r.failure(o.user, refuse(404, "Not Found")))
		return
	}
	lives := func(d Device) bool { return !silent[d.Key] }
	after, own, err := o.apply(before, lives, r.now(), r.o.Node)
	if err != nil {
		respond(r.failure(o.user, err))
		return
	}
	r.hear(a, own)
	r.commit(a, before, after, func(err error) {
		if err != nil {
			r.log.Error("registration is not stored", "user", o.user, "err", err)
			respond(r.failure(o.user, refuse(503, "Not Stored", sip.RetryAfter(5, 15))))
			return
		}
		respond(o.answer(after, own, r.now()))
		r.mindClosed(a, o.flow)
	})
}

// mindClosed looks whether the flow has closed while its REGISTER was being written: nobody tells of it again.
func (r *Registrar) mindClosed(a *account, f sip.Flow) {
	if stream(f) && r.dead(f) {
		r.submit(a, func(a *account) { r.flowClosed(a, f) })
	}
}

func (r *Registrar) failure(user string, err error) sip.Reply {
	var no *refusal
	if !errors.As(err, &no) {
		no = &refusal{code: 500}
	}
	r.log.Info("REGISTER refused", "user", user, "err", err)
	return sip.Reply{Code: no.code, Reason: no.reason, Headers: no.headers}
}
