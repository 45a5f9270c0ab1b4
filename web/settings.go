package web

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"time"

	"baton/registrar"
)

// Settings is what a user has chosen for incoming calls, as the API shows it. Times are as in "20s".
type Settings struct {
	DoNotDisturb bool       `json:"dnd"`
	BusyOnBusy   bool       `json:"busy_on_busy"`
	Ring         string     `json:"ring"` // "" = call.ring
	Forward      Forwarding `json:"forward"`
	OnLoss       string     `json:"on_loss"` // wait or ring: when the device of a live call is lost
	OnBye        string     `json:"on_bye"`  // end or leave: when a device hangs up
	Media        string     `json:"media"`   // auto, relay or direct: how the sound of his devices goes; "" = media.mode
}

// Forwarding is where calls go instead: a user's name or number, or one device as in 101*2; "" = nowhere.
type Forwarding struct {
	Always        string `json:"always"`
	Busy          string `json:"busy"`
	NoAnswer      string `json:"no_answer"`
	NoAnswerAfter string `json:"no_answer_after"` // "" = the ring time
	Away          string `json:"away"`
}

// ChangeUser is what PATCH of a user takes; what is not in it stays as it is.
type ChangeUser struct {
	Settings ChangeSettings `json:"settings"`
}

// ChangeSettings changes those of Settings that it has; "" is none.
type ChangeSettings struct {
	DoNotDisturb *bool            `json:"dnd,omitempty"`
	BusyOnBusy   *bool            `json:"busy_on_busy,omitempty"`
	Ring         *string          `json:"ring,omitempty"`
	Forward      ChangeForwarding `json:"forward,omitzero"`
	OnLoss       *string          `json:"on_loss,omitempty"`
	OnBye        *string          `json:"on_bye,omitempty"`
	Media        *string          `json:"media,omitempty"`
}

// ChangeForwarding changes those of Forwarding that it has; "" is none. A new NoAnswer without a time has the ring time.
type ChangeForwarding struct {
	Always        *string `json:"always,omitempty"`
	Busy          *string `json:"busy,omitempty"`
	NoAnswer      *string `json:"no_answer,omitempty"`
	NoAnswerAfter *string `json:"no_answer_after,omitempty"`
	Away          *string `json:"away,omitempty"`
}

// ChangeUser changes what a user has chosen for incoming calls.
func (c *Client) ChangeUser(ctx context.Context, name string, change ChangeUser) (User, error) {
	return ask[User](ctx, c, "PATCH", "users/"+url.PathEscape(name), change)
}

func (s *Server) changeUser(r *http.Request) (any, error) {
	var want ChangeUser
	if err := read(r, &want); err != nil {
		return nil, err
	}
	u, err := s.known(r.PathValue("user"))
	if err != nil {
		return nil, err
	}
	change, err := want.Settings.change()
	if err != nil {
		return nil, err
	}
	if u, err = s.Registrar.Configure(u.Name, change); err != nil {
		return nil, err
	}
	return showUser(u, s.Registrar.Devices(u.Name)), nil
}

// change reads the times first, so that nothing is half done.
func (c ChangeSettings) change() (func(*registrar.Settings), error) {
	ring, err := duration("ring", c.Ring)
	if err != nil {
		return nil, err
	}
	after, err := duration("forward.no_answer_after", c.Forward.NoAnswerAfter)
	if err != nil {
		return nil, err
	}
	return func(s *registrar.Settings) {
		f := &s.Forward
		if c.Forward.NoAnswer != nil {
			f.NoAnswerAfter = 0
		}
		put(&s.DoNotDisturb, c.DoNotDisturb)
		put(&s.BusyOnBusy, c.BusyOnBusy)
		put(&s.Ring, ring)
		put(&s.OnLoss, notDefault(c.OnLoss, "wait"))
		put(&s.OnBye, notDefault(c.OnBye, "end"))
		put(&s.Media, notDefault(c.Media, "default"))
		put(&f.Always, c.Forward.Always)
		put(&f.Busy, c.Forward.Busy)
		put(&f.NoAnswer, c.Forward.NoAnswer)
		put(&f.NoAnswerAfter, after)
		put(&f.Away, c.Forward.Away)
	}, nil
}

// notDefault is the word for the default as it is stored: none.
func notDefault(word *string, normal string) *string {
	if word != nil && *word == normal {
		return new(string)
	}
	return word
}

// put changes what is to be changed.
func put[T any](to, v *T) {
	if v != nil {
		*to = *v
	}
}

// duration reads a time as in 20s; "" is 0.
func duration(field string, text *string) (*time.Duration, error) {
	if text == nil {
		return nil, nil
	}
	var d time.Duration
	if *text != "" {
		var err error
		if d, err = time.ParseDuration(*text); err != nil || d <= 0 {
			return nil, refuse(http.StatusBadRequest, "settings.%s: %q is no time as in 20s", field, *text)
		}
	}
	return &d, nil
}

func showSettings(s registrar.Settings) Settings {
	return Settings{
		DoNotDisturb: s.DoNotDisturb, BusyOnBusy: s.BusyOnBusy, Ring: showTime(s.Ring),
		OnLoss: cmp.Or(s.OnLoss, "wait"), OnBye: cmp.Or(s.OnBye, "end"), Media: s.Media,
		Forward: Forwarding{
			Always: s.Forward.Always, Busy: s.Forward.Busy, Away: s.Forward.Away,
			NoAnswer: s.Forward.NoAnswer, NoAnswerAfter: showTime(s.Forward.NoAnswerAfter),
		},
	}
}

func showTime(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}
