package call

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"baton/registrar"
	"baton/sip"
)

// code is what a star code asks for.
type code uint8

const (
	codeNone      code = iota
	codePull           // bring my live call here
	codePush           // send it to my other devices
	codePickup         // take a call that rings in my groups, or at one extension
	codeCompanion      // have this device listen to it
	codeLeave          // leave it; it waits
)

// Target is what a request URI means.
type Target struct {
	Code   code
	N      int               // of *40N to *43N, 0 = none
	At     string            // of *8EXT and **EXT: a user's name or number, "" = none
	User   registrar.User    // for Code none
	Device *registrar.Device // one device of User, nil = all
}

// route turns a request or Refer-To URI into a Target; nothing else does. The error is a *Refusal.
func (b *B2BUA) route(u sip.URI, caller registrar.User) (Target, error) {
	if u.Scheme != "tel" && !b.Agent.Own(u.Host) {
		return Target{}, refusal(404, "this server does not know the host "+strconv.Quote(u.Host))
	}
	if gr, there := u.Params.Get("gr"); there {
		return b.routeGRUU(u.User, gr)
	}
	dialled := u.User
	if t, ok := b.routeCode(dialled); ok {
		return t, nil
	}
	if t, ok := b.routePickup(dialled, caller); ok {
		return t, nil
	}
	if user, ok := b.Registrar.User(dialled); ok {
		return Target{User: user}, nil
	}
	if name, ref, ok := strings.Cut(dialled, "*"); ok && name != "" {
		return b.routeDevice(name, ref)
	}
	return Target{}, refusal(404, "there is no user "+strconv.Quote(dialled))
}

// routeCode reads *40 to *43, and *40N and so on.
func (b *B2BUA) routeCode(dialled string) (Target, bool) {
	for _, k := range []struct {
		code code
		text string
	}{{codePull, b.Codes.Pull}, {codePush, b.Codes.Push}, {codeCompanion, b.Codes.Companion}, {codeLeave, b.Codes.Leave}} {
		rest, ok := strings.CutPrefix(dialled, k.text)
		if !ok || k.text == "" {
			continue
		}
		if rest == "" {
			return Target{Code: k.code}, true
		}
		if n, err := strconv.ParseUint(rest, 10, 16); err == nil && rest[0] >= '1' && rest[0] <= '9' {
			return Target{Code: k.code, N: int(n)}, true
		}
	}
	return Target{}, false
}

// pickupAt is dialled before an extension by the keys of many phones; it is understood beside the code that is set.
const pickupAt = "**"

// routePickup reads *8, *8EXT and **EXT. ** and one's own extension is a pull: the key that watches one's own devices.
func (b *B2BUA) routePickup(dialled string, caller registrar.User) (Target, bool) {
	if at, ok := strings.CutPrefix(dialled, pickupAt); ok && at != "" {
		if u, known := b.Registrar.User(at); known && u.Name == caller.Name {
			return Target{Code: codePull}, true
		}
		return Target{Code: codePickup, At: at}, true
	}
	at, ok := strings.CutPrefix(dialled, b.Codes.Pickup)
	return Target{Code: codePickup, At: at}, ok && b.Codes.Pickup != ""
}

// routeDevice reads 101*2: one device of a user.
func (b *B2BUA) routeDevice(name, ref string) (Target, error) {
	user, ok := b.Registrar.User(name)
	if !ok {
		return Target{}, refusal(404, "there is no user "+strconv.Quote(name))
	}
	d, err := b.Registrar.Find(user.Name, ref)
	if err != nil {
		return Target{}, refusal(404, err.Error())
	}
	return Target{User: user, Device: &d}, nil
}

// routeGRUU reads a public GRUU (RFC 5627 §4.1): the one device of a user that has the instance. A gr without value is a
// temporary one, and of those none was given.
func (b *B2BUA) routeGRUU(name, instance string) (Target, error) {
	user, ok := b.Registrar.User(name)
	switch {
	case !ok:
		return Target{}, refusal(404, "there is no user "+strconv.Quote(name))
	case instance == "":
		return Target{}, refusal(404, "temporary GRUUs are not served")
	}
	d, err := b.Registrar.Instance(user.Name, instance)
	if err != nil {
		return Target{}, refusal(404, err.Error())
	}
	return Target{User: user, Device: &d}, nil
}

// refusal is an error with the status that a phone is told.
func refusal(code int, why string) error {
	return &Refusal{Code: code, Why: why}
}

// Refusal is an error with a SIP status and the words for people.
type Refusal struct {
	Code    int
	Why     string
	Headers []sip.Header // beyond the Warning
}

func (r *Refusal) Error() string { return r.Why }

// ErrCutOff is why nothing is begun in calls that another node may have by now.
var ErrCutOff = refusal(503, "this node reaches neither its store nor any other node, and one of those may have the call by now")

// mayBegin is nil unless the node is cut off.
func (b *B2BUA) mayBegin() error {
	if b.CutOff != nil && b.CutOff() {
		return ErrCutOff
	}
	return nil
}

// refusalOf is err as a refusal, with code where it is none.
func refusalOf(err error, code int) error { return refusal(statusOf(err, code), err.Error()) }

// statusOf is the status of a refusal, otherwise that of an error that is none.
func statusOf(err error, otherwise int) int {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return otherwise
}

// reply is the answer that says what was refused and why; a Warning carries the words (RFC 3261 §20.43).
func (b *B2BUA) reply(err error) sip.Reply {
	var r *Refusal
	if !errors.As(err, &r) {
		r = &Refusal{Code: 500, Why: "internal error"}
		b.Log.Error("request failed", "err", err)
	}
	rep := refused(r.Code, r.Why)
	rep.Headers = append(rep.Headers, r.Headers...)
	return rep
}

// TryAgain is when a phone that got 503 may call again: by then ports have rested, and a node has started anew.
const TryAgain = 10 * time.Second

// refused is a refusal with its reason in words; one that passes says when to try again (RFC 3261 §21.5.4).
func refused(code int, why string) sip.Reply {
	rep := sip.Reply{Code: code, Headers: []sip.Header{warning(why)}}
	if code == 503 {
		rep.Headers = append(rep.Headers, sip.Header{Name: "Retry-After", Value: strconv.Itoa(int(TryAgain.Seconds()))})
	}
	return rep
}

func warning(text string) sip.Header {
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, text)
	text = strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text)
	return sip.Header{Name: "Warning", Value: `399 baton "` + text + `"`}
}
