package call

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"baton/config"
	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// order is what a star code changes in the caller's settings.
type order struct {
	words  string // for the log
	change func(*registrar.Settings)
	wrong  error // it was not dialled in full
}

// officeCode reads the codes for forwarding and do-not-disturb. A phone may send the final # of *21*102# or leave it out.
func (b *B2BUA) officeCode(u sip.URI) (order, bool) {
	if u.Scheme != "tel" && !b.Agent.Own(u.Host) {
		return order{}, false
	}
	return readCode(b.Codes, u.User)
}

// readCode reads what was dialled; false where it is no code of these.
func readCode(codes config.Codes, dialled string) (order, bool) {
	dialled = strings.TrimSuffix(dialled, "#")
	if o, ok := simpleCode(codes, dialled); ok {
		return o, true
	}
	for _, f := range forwardings(codes) {
		if dialled == config.Ending(f.code) && dialled != "" {
			return order{words: "forward " + f.words + " off", change: func(s *registrar.Settings) { f.set(&s.Forward, "", 0) }}, true
		}
		if rest, ok := strings.CutPrefix(dialled, f.code); ok && f.code != "" {
			return f.order(strings.TrimPrefix(rest, "*")), true
		}
	}
	return order{}, false
}

// simpleCode reads the codes that take no number.
func simpleCode(codes config.Codes, dialled string) (order, bool) {
	switch dialled {
	case "":
		return order{}, false
	case codes.DoNotDisturb:
		return order{words: "do not disturb", change: func(s *registrar.Settings) { s.DoNotDisturb = true }}, true
	case codes.DoNotDisturbOff, config.Ending(codes.DoNotDisturb):
		return order{words: "do not disturb off", change: func(s *registrar.Settings) { s.DoNotDisturb = false }}, true
	case codes.ForwardOff, config.Ending(codes.ForwardOff):
		return order{words: "all forwarding off", change: func(s *registrar.Settings) { s.Forward = registrar.Forwarding{} }}, true
	}
	return order{}, false
}

// forwarding is one kind of forwarding with its code.
type forwarding struct {
	code  string
	words string
	timed bool // **SECONDS may stand behind the number
	set   func(f *registrar.Forwarding, to string, after time.Duration)
}

func forwardings(codes config.Codes) []forwarding {
	return []forwarding{
		{codes.ForwardAlways, "always", false, func(f *registrar.Forwarding, to string, _ time.Duration) { f.Always = to }},
		{codes.ForwardBusy, "when busy", false, func(f *registrar.Forwarding, to string, _ time.Duration) { f.Busy = to }},
		{codes.ForwardNoAnswer, "at no answer", true, func(f *registrar.Forwarding, to string, after time.Duration) {
			f.NoAnswer, f.NoAnswerAfter = to, after
		}},
		{codes.ForwardAway, "when away", false, func(f *registrar.Forwarding, to string, _ time.Duration) { f.Away = to }},
	}
}

// order reads the number behind the code: 102, 101*2, and 102**20 where it is timed.
func (f forwarding) order(rest string) order {
	to, seconds, timed := strings.Cut(rest, "**")
	var after time.Duration
	if timed {
		n, err := strconv.ParseUint(seconds, 10, 16)
		if err != nil || !f.timed {
			return order{wrong: fmt.Errorf("%q cannot stand behind the number", "**"+seconds)}
		}
		after = time.Duration(n) * time.Second
	}
	if to == "" {
		return order{wrong: fmt.Errorf("a number is missing behind %s", f.code)}
	}
	return order{words: "forward " + f.words + " to " + to, change: func(s *registrar.Settings) { f.set(&s.Forward, to, after) }}
}

// office carries out an order of the caller about his own calls and confirms it by a tone: in an answered call when it is
// stored, else the one for an unknown number before the refusal.
func (b *B2BUA) office(x *sip.Exchange, caller registrar.User, offer *media.Description, o order) error {
	if o.wrong != nil {
		return b.announce(x, caller, offer, notice{tone: media.ToneUnknown, code: 484, why: o.wrong.Error()})
	}
	if !b.join() {
		return refusal(503, "baton is stopping")
	}
	go func() { // the store is waited for
		defer b.running.Done()
		b.guard(x.Respond, func() {
			if err := b.announce(x, caller, offer, b.carryOut(caller, o)); err != nil {
				_ = x.Respond(b.reply(err))
			}
		})
	}()
	return nil
}

// guard runs what a request asks for outside any call's agent. If it panics, the request is answered all the same.
func (b *B2BUA) guard(respond func(sip.Reply) error, f func()) {
	defer func() {
		if p := recover(); p != nil {
			b.Log.Error("request panicked", "err", p, "stack", string(debug.Stack()))
			_ = respond(sip.Reply{Code: 500})
		}
	}()
	f()
}

// join keeps the node from stopping until running.Done; false while it is draining.
func (b *B2BUA) join() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.draining {
		return false
	}
	b.running.Add(1)
	return true
}

// carryOut changes the settings and says what the caller is told.
func (b *B2BUA) carryOut(caller registrar.User, o order) notice {
	_, err := b.Registrar.Configure(caller.Name, o.change)
	switch {
	case errors.Is(err, registrar.ErrInvalid):
		return notice{tone: media.ToneUnknown, code: 404, why: err.Error()}
	case err != nil:
		b.Log.Error("settings are not stored", "user", caller.Name, "err", err)
		return notice{tone: media.ToneUnknown, code: 500, why: "the setting could not be stored"}
	}
	b.Log.Info("user has set", "user", caller.Name, "what", o.words)
	return notice{tone: media.ToneDone, code: 200, why: o.words, show: o.words}
}

// unknown tells a caller by tone that there is no such number.
func (b *B2BUA) unknown(x *sip.Exchange, caller registrar.User, offer *media.Description, err error) error {
	var r *Refusal
	if errors.As(err, &r) && r.Code == 404 {
		b.Log.Info("unknown number dialled", "user", caller.Name, "to", x.RequestURI().User, "err", err)
		return b.announce(x, caller, offer, notice{tone: media.ToneUnknown, code: 404, why: r.Why})
	}
	return err
}
