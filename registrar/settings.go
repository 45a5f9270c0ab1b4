package registrar

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Settings are what a user has chosen for the calls that come in. The zero value is nothing chosen. It is a plain value.
type Settings struct {
	DoNotDisturb bool          `json:"dnd,omitempty"`          // no device rings, the caller hears busy
	BusyOnBusy   bool          `json:"busy_on_busy,omitempty"` // a user in a call is busy; else call waiting
	Ring         time.Duration `json:"ring,omitempty"`         // how long the devices ring, 0 = call.ring
	Forward      Forwarding    `json:"forward,omitzero"`
	OnLoss       string        `json:"on_loss,omitempty"` // what is done when the device of a live call is lost: "" = its seat waits, or RingOnLoss
	OnBye        string        `json:"on_bye,omitempty"`  // what it means that a device hangs up: "" = the call ends, or LeaveOnBye
	Media        string        `json:"media,omitempty"`   // how the sound of his devices goes: auto, relay or direct; "" = as the node has it
}

// What a user may have chosen for his live calls.
const (
	RingOnLoss = "ring"  // all his other devices ring at once
	LeaveOnBye = "leave" // he has left the call, which waits for him
)

// MediaModes are the ways in which the sound of a user's or a device's calls can go.
var MediaModes = []string{"auto", "relay", "direct"}

// Forwarding is where a user's calls go instead: a user's name or number, or one device as in 101*2; "" = nowhere.
type Forwarding struct {
	Always        string        `json:"always,omitempty"` // at once, no device rings
	Busy          string        `json:"busy,omitempty"`
	NoAnswer      string        `json:"no_answer,omitempty"`
	NoAnswerAfter time.Duration `json:"no_answer_after,omitempty"` // of ringing, 0 = the ring time
	Away          string        `json:"away,omitempty"`            // no device is here
}

// Limits of the times that a user can set, as those of call.ring.
const (
	minRing = time.Second
	maxRing = time.Hour
)

var forwardTarget = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}(\*[a-z0-9._-]{1,64})?$`)

// places are where calls are forwarded to, each with the word for it.
func (f *Forwarding) places() []forwarded {
	return []forwarded{{"always", &f.Always}, {"busy", &f.Busy}, {"no answer", &f.NoAnswer}, {"away", &f.Away}}
}

type forwarded struct {
	when string
	to   *string
}

// Configure changes a user's settings: change is given those in force. It is on the disk when this returns.
func (r *Registrar) Configure(name string, change func(*Settings)) (User, error) {
	r.users.Lock()
	defer r.users.Unlock()
	a, ok := r.directory.Load().accounts[name]
	if !ok {
		return User{}, fmt.Errorf("set user %q: %w", name, ErrNotFound)
	}
	u := *a.user.Load()
	was := u.Settings
	change(&u.Settings)
	for _, f := range u.Settings.Forward.places() {
		*f.to = strings.ToLower(strings.TrimSpace(*f.to))
	}
	if u.Settings.Forward.NoAnswer == "" {
		u.Settings.Forward.NoAnswerAfter = 0
	}
	if err := r.validSettings(u, was); err != nil {
		return User{}, fmt.Errorf("set user %s: %w", name, err)
	}
	if u.Settings == was {
		return u, nil
	}
	if err := r.o.Store.PutUser(u); err != nil {
		return User{}, fmt.Errorf("set user %s: %w", name, err)
	}
	a.user.Store(&u)
	return u, nil
}

// validSettings checks what has changed: what was right once must not keep the rest from being set.
func (r *Registrar) validSettings(u User, was Settings) error {
	old := was.Forward.places()
	for i, f := range u.Settings.Forward.places() {
		if *f.to == "" || *f.to == *old[i].to {
			continue
		}
		if err := r.validTarget(u, *f.to); err != nil {
			return fmt.Errorf("forward %s: %w", f.when, err)
		}
	}
	for _, s := range []struct{ what, is, other, word string }{
		{"on_loss", u.Settings.OnLoss, RingOnLoss, "wait"}, {"on_bye", u.Settings.OnBye, LeaveOnBye, "end"},
	} {
		if s.is != "" && s.is != s.other {
			return fmt.Errorf("%s %q: %w: %s or %s is taken", s.what, s.is, ErrInvalid, s.word, s.other)
		}
	}
	if m := u.Settings.Media; m != "" && !slices.Contains(MediaModes, m) {
		return fmt.Errorf("media %q: %w: auto, relay or direct is taken", m, ErrInvalid)
	}
	if err := validTime("ring", u.Settings.Ring); err != nil {
		return err
	}
	return validTime("forward no answer after", u.Settings.Forward.NoAnswerAfter)
}

func validTime(what string, d time.Duration) error {
	if d != 0 && (d < minRing || d > maxRing) {
		return fmt.Errorf("%s %s: %w: 1s to 1h are taken", what, d, ErrInvalid)
	}
	return nil
}

// validTarget checks that calls of u can be forwarded to a place.
func (r *Registrar) validTarget(u User, to string) error {
	if !forwardTarget.MatchString(to) {
		return fmt.Errorf("%q: %w: a user's name or number is taken, or one device as in 101*2", to, ErrInvalid)
	}
	name, device, one := strings.Cut(to, "*")
	a, ok := r.directory.Load().logins[name]
	switch {
	case !ok:
		return fmt.Errorf("%q: %w: there is no user %s", to, ErrInvalid, name)
	case a.name == u.Name:
		return fmt.Errorf("%q: %w: that is %s", to, ErrInvalid, u.Name)
	case one:
		if _, err := r.Find(a.name, device); err != nil {
			return fmt.Errorf("%q: %w: %v", to, ErrInvalid, err)
		}
	}
	return nil
}
