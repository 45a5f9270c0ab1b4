package call

import (
	"errors"
	"strings"
	"time"

	"baton/registrar"
	"baton/sip"
)

// maxContacts bounds how many contacts of one redirection are looked at.
const maxContacts = 9

// redirected follows a 3xx to other devices of the same user, and nowhere else: what a phone was set to by whoever held
// it must not take calls out of the house. False: it rings nothing new.
func (d *dial) redirected(err error) bool {
	var status *sip.StatusError
	if !errors.As(err, &status) || status.Response == nil {
		return false
	}
	before := len(d.legs)
	contacts := status.Response.Headers("Contact")
	for _, v := range contacts[:min(len(contacts), maxContacts)] {
		n, err := sip.ParseNameAddr(v)
		if err != nil {
			continue
		}
		if dev, ok := d.own(n.URI); ok {
			d.redirect(dev)
		}
	}
	if len(d.legs) == before {
		d.c.log.Info("redirection is not followed", "user", d.seat.user.Name, "to", contacts)
	}
	return len(d.legs) > before
}

// redirect rings one more device, which its user has not named: it is not asked to answer by itself.
func (d *dial) redirect(dev registrar.Device) {
	if d.only != nil {
		d.only = &dev
	}
	d.auto = false
	d.join(dev)
}

// own is the device of the dialled user that a URI means: its contact, or the user's number with its index as in 101*2.
func (d *dial) own(u sip.URI) (registrar.Device, bool) {
	b, ref := d.c.b, u.String()
	if b.Agent.Own(u.Host) {
		name, index, one := strings.Cut(u.User, "*")
		user, ok := b.Registrar.User(name)
		if one && ok && user.Name == d.seat.user.Name {
			ref = index
		}
	}
	dev, err := b.Registrar.Find(d.seat.user.Name, ref)
	return dev, err == nil
}

// patience is how long the dialled user's devices ring: as the user has chosen, else as the node is set.
func (d *dial) patience() time.Duration {
	s := d.c.b.settings(d.seat.user.Name)
	switch {
	case d == d.c.dial && s.Forward.NoAnswer != "" && s.Forward.NoAnswerAfter > 0:
		return s.Forward.NoAnswerAfter
	case s.Ring > 0:
		return s.Ring
	}
	return d.c.b.Config.Ring
}
