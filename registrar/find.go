package registrar

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"baton/sip"
)

var errStopped = errors.New("the node has stopped")

// Devices are a user's devices ("" = everybody's), those that are here first, then by index.
func (r *Registrar) Devices(user string) []Device {
	if user != "" {
		return r.devices(user, func(Device) bool { return true })
	}
	var out []Device
	for _, u := range r.Users() {
		out = append(out, r.Devices(u.Name)...)
	}
	return out
}

// Lookup are the user's devices that are here now.
func (r *Registrar) Lookup(user string) []Device { return r.devices(user, Device.Here) }

func (r *Registrar) devices(user string, want func(Device) bool) []Device {
	a, ok := r.directory.Load().accounts[user]
	if !ok {
		return nil
	}
	var out []Device
	for _, d := range a.list() {
		if want(d) {
			out = append(out, d)
		}
	}
	slices.SortStableFunc(out, byPresence)
	return out
}

// Registered says whether a device of a user, by name or number, is registered over a flow.
func (r *Registrar) Registered(login string, f sip.Flow) bool {
	a, ok := r.directory.Load().logins[login]
	if !ok {
		return false
	}
	over := func(b Binding) bool { return b.Flow == f }
	return slices.ContainsFunc(a.list(), func(d Device) bool {
		return d.Binding != nil && over(*d.Binding) || slices.ContainsFunc(d.Spare, over)
	})
}

// Find is the device of user that ref means: its index, name, +sip.instance URN, GRUU, contact URI or the user part of it.
func (r *Registrar) Find(user, ref string) (Device, error) {
	if _, ok := r.directory.Load().accounts[user]; !ok {
		return Device{}, fmt.Errorf("user %q: %w", user, ErrNotFound)
	}
	all := r.Devices(user)
	for _, means := range references {
		if i := slices.IndexFunc(all, func(d Device) bool { return means(d, ref) }); i >= 0 {
			return all[i], nil
		}
	}
	return Device{}, fmt.Errorf("device %q of %s: %w: %s", ref, user, ErrNotFound, inventory(all))
}

// references are the ways to name a device, the plainest first.
var references = []func(d Device, ref string) bool{
	func(d Device, ref string) bool { return d.Index != 0 && strconv.Itoa(d.Index) == ref },
	func(d Device, ref string) bool { return strings.EqualFold(d.Name, ref) },
	func(d Device, ref string) bool {
		return d.Key == ref || d.Instance != "" && strings.EqualFold(d.Instance, strings.Trim(ref, "<>"))
	},
	func(d Device, ref string) bool {
		u, err := sip.ParseURI(strings.Trim(ref, "<>"))
		gr, _ := u.Params.Get("gr")
		return err == nil && gr != "" && strings.EqualFold(d.Instance, gr)
	},
	func(d Device, ref string) bool {
		u, err := sip.ParseURI(strings.Trim(ref, "<>"))
		return err == nil && d.Here() && sameContact(d.Binding.Contact, u)
	},
	func(d Device, ref string) bool {
		if !d.Here() || ref == "" {
			return false
		}
		u, err := sip.ParseURI(d.Binding.Contact)
		return err == nil && u.User == ref
	},
}

func inventory(all []Device) string {
	if len(all) == 0 {
		return "it has none"
	}
	var names []string
	for _, d := range all {
		names = append(names, d.Label())
	}
	return "there are " + strings.Join(names, ", ")
}

// DeviceOf is the device that sent a request over a flow: by its +sip.instance, by the flow itself, or by its
// contact's host and port.
func (r *Registrar) DeviceOf(user string, f sip.Flow, contact sip.NameAddr) (Device, bool) {
	a, ok := r.directory.Load().accounts[user]
	if !ok {
		return Device{}, false
	}
	d, ok := sender(a.list(), f, contact)
	if ok {
		r.mail.Do(func() { r.hear(a, []string{d.Key}) })
	}
	return d, ok
}

func sender(devices []Device, f sip.Flow, contact sip.NameAddr) (Device, bool) {
	byInstance := func(d Device) bool {
		urn := instanceOf(contact.Params)
		if gr, there := contact.URI.Params.Get("gr"); urn == "" && there { // its Contact is its GRUU (RFC 5627 §4.4)
			urn = strings.ToLower(gr)
		}
		return urn != "" && d.Instance == urn
	}
	byFlow := func(d Device) bool {
		return slices.ContainsFunc(d.bindings(), func(b Binding) bool { return sameFlow(b.Flow, f) })
	}
	byContact := func(d Device) bool {
		return slices.ContainsFunc(d.bindings(), func(b Binding) bool { return sameHostPort(b.Contact, contact.URI) })
	}
	both := func(d Device) bool { return byFlow(d) && byContact(d) } // several devices behind one proxy
	for _, is := range []func(Device) bool{byInstance, both, byFlow, byContact} {
		if i := slices.IndexFunc(devices, is); i >= 0 {
			return devices[i], true
		}
	}
	return Device{}, false
}

// sameFlow compares the far ends of UDP flows (the listener may have been reached at several addresses), and
// connections by their number.
func sameFlow(a, b sip.Flow) bool {
	if a.Transport != b.Transport {
		return false
	}
	if stream(a) {
		return a.ID == b.ID
	}
	return unmap(a.Remote) == unmap(b.Remote)
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

func sameHostPort(contact string, u sip.URI) bool {
	c, err := sip.ParseURI(contact)
	return err == nil && u.Host != "" && strings.EqualFold(c.Host, u.Host) && c.Port == u.Port
}

// deviceName is what a person may call a device: never a number, so that it is no index.
var deviceName = regexp.MustCompile(`^[a-z0-9._-]*[a-z][a-z0-9._-]*$`)

// Rename gives a device another name. It needs Run.
func (r *Registrar) Rename(user, ref, name string) error {
	name = strings.ToLower(name)
	if !deviceName.MatchString(name) || len(name) > 64 {
		return fmt.Errorf("rename device: name %q: %w: letters, digits, . _ - are taken, a letter among them", name, ErrInvalid)
	}
	return r.edit(user, ref, func(all []Device, i int) ([]Device, error) {
		if j := slices.IndexFunc(all, func(d Device) bool { return d.Name == name }); j >= 0 && j != i {
			return nil, fmt.Errorf("rename device %s of %s: %s is %w by device %s", ref, user, name, ErrTaken, all[j].Label())
		}
		all[i].Name = name
		return all, nil
	})
}

// Set keeps something that its user says of a device, "" takes it back; it waits for the store. It needs Run.
func (r *Registrar) Set(user, ref, name, value string) error {
	return r.edit(user, ref, func(all []Device, i int) ([]Device, error) {
		return learnt(all, all[i].Key, map[string]string{name: value}), nil
	})
}

// Forget takes a device off the list, so that its index is free. A device that is here comes back when it registers
// again. It needs Run.
func (r *Registrar) Forget(user, ref string) error {
	return r.edit(user, ref, func(all []Device, i int) ([]Device, error) {
		return slices.Delete(all, i, i+1), nil
	})
}

// edit changes the device that ref means and waits until the store has it.
func (r *Registrar) edit(user, ref string, change func(all []Device, i int) ([]Device, error)) error {
	d, err := r.Find(user, ref)
	if err != nil {
		return err
	}
	a := r.directory.Load().accounts[user]
	if a == nil {
		return fmt.Errorf("user %q: %w", user, ErrNotFound)
	}
	done := make(chan error, 1)
	r.submit(a, func(a *account) {
		before := a.list()
		all := slices.Clone(before)
		i := byKey(all, d.Key)
		if i < 0 {
			done <- fmt.Errorf("device %s of %s: %w", ref, user, ErrNotFound)
			return
		}
		all, err := change(all, i)
		if err != nil {
			done <- err
			return
		}
		r.commit(a, before, all, func(err error) { done <- err })
	})
	select {
	case err := <-done:
		return err
	case <-r.stopped:
		return errStopped
	}
}
