package registrar

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"baton/sip"
)

// Kind is what sort of thing a device is; it is only shown, never decided upon.
type Kind string

// The kinds of devices.
const (
	DeskPhone Kind = "desk phone"
	Softphone Kind = "softphone"
	Browser   Kind = "browser"
)

// Device is one endpoint of a user. It is a plain value; what it points to is never changed, only replaced.
type Device struct {
	User      string            `json:"user"`
	Name      string            `json:"name"`               // unique among the user's devices
	Index     int               `json:"index,omitempty"`    // 1..9; 0 = known by name alone
	Key       string            `json:"key"`                // fixed at first sight: the +sip.instance URN, or derived
	Instance  string            `json:"instance,omitempty"` // the +sip.instance URN, without < >
	Kind      Kind              `json:"kind"`
	UserAgent string            `json:"user_agent,omitempty"`
	Profile   map[string]string `json:"profile,omitempty"` // what was said and learnt of it
	Binding   *Binding          `json:"binding,omitempty"` // where it is reachable; nil = away
	Spare     []Binding         `json:"spare,omitempty"`   // other flows of it, and such as stopped answering
	Since     time.Time         `json:"since"`             // here or away since
	Reason    string            `json:"reason,omitempty"`  // why it is away
	Trace     Trace             `json:"trace"`             // how it was last recognised
}

// Trace is what a device without +sip.instance is recognised by when it registers again.
type Trace struct {
	Product   string `json:"product"`           // product name without version
	User      string `json:"user"`              // contact user
	Host      string `json:"host"`              // contact host
	Port      int    `json:"port"`              // contact port, 0 = none given
	CallID    string `json:"call_id,omitempty"` // of its REGISTERs
	Transport string `json:"transport"`         // it came over
	Addr      string `json:"addr"`              // address its packets came from, without port
}

// Binding is where a device can be reached now (RFC 3261 §10, RFC 5626). It is a plain value.
type Binding struct {
	Contact    string     `json:"contact"`          // the contact URI as registered, with its parameters
	Params     sip.Params `json:"params,omitempty"` // of the Contact header, without expires
	Path       []string   `json:"path,omitempty"`   // RFC 3327
	Flow       sip.Flow   `json:"flow"`             // requests to the device go over this and nothing else
	CallID     string     `json:"call_id"`
	CSeq       uint32     `json:"cseq"`
	RegID      int        `json:"reg_id,omitempty"` // RFC 5626 §4.2, 0 = none given
	Expires    time.Time  `json:"expires"`
	Registered time.Time  `json:"registered"` // last REGISTER
	Node       string     `json:"node,omitempty"`
	Silent     bool       `json:"silent,omitempty"` // stopped answering; asked on until it expires
}

// Here says whether the device can be reached now.
func (d Device) Here() bool { return d.Binding != nil }

// Target is the Request-URI for requests to the binding: its contact URI.
func (b Binding) Target() string { return b.Contact }

// samePlace says whether other is the same registration of a device over the same flow.
func (b Binding) samePlace(other Binding) bool { return b.RegID == other.RegID && b.Flow == other.Flow }

// same says whether two devices are the same in everything.
func same(a, b Device) bool {
	return a.User == b.User && a.Name == b.Name && a.Index == b.Index && a.Key == b.Key && a.Instance == b.Instance &&
		a.Kind == b.Kind && a.UserAgent == b.UserAgent && maps.Equal(a.Profile, b.Profile) && a.Since.Equal(b.Since) &&
		a.Reason == b.Reason && a.Trace == b.Trace && a.Here() == b.Here() && (!a.Here() || sameBinding(*a.Binding, *b.Binding)) &&
		slices.EqualFunc(a.Spare, b.Spare, sameBinding)
}

func sameBinding(a, b Binding) bool {
	return a.Contact == b.Contact && slices.Equal(a.Params, b.Params) && slices.Equal(a.Path, b.Path) && a.Flow == b.Flow &&
		a.CallID == b.CallID && a.CSeq == b.CSeq && a.RegID == b.RegID && a.Expires.Equal(b.Expires) &&
		a.Registered.Equal(b.Registered) && a.Node == b.Node && a.Silent == b.Silent
}

// Label names the device for people: its name and, where it has one, its index.
func (d Device) Label() string {
	if d.Index == 0 {
		return d.Name
	}
	return fmt.Sprintf("%d %s", d.Index, d.Name)
}

// bindings are all of the device's, the one in use first.
func (d Device) bindings() []Binding {
	if d.Binding == nil {
		return slices.Clone(d.Spare)
	}
	return append([]Binding{*d.Binding}, d.Spare...)
}

// all yields the device's bindings, the one in use first.
func (d *Device) all(yield func(*Binding) bool) {
	if d.Binding != nil && !yield(d.Binding) {
		return
	}
	for i := range d.Spare {
		if !yield(&d.Spare[i]) {
			return
		}
	}
}

// settle gives the device these bindings: the newest that answers is the one in use. Without one the device is away
// because of reason; Since moves when the device comes or goes.
func (d Device) settle(all []Binding, reason string, now time.Time) Device {
	was := d.Here()
	d.Binding, d.Spare = nil, nil
	slices.SortStableFunc(all, func(a, b Binding) int { return b.Registered.Compare(a.Registered) })
	for i := range all {
		if d.Binding == nil && !all[i].Silent {
			b := all[i]
			d.Binding = &b
			continue
		}
		d.Spare = append(d.Spare, all[i])
	}
	if was != d.Here() {
		d.Since = now
	}
	switch {
	case d.Here():
		d.Reason = ""
	case was || reason == reasonUnregistered || reason == reasonUnreachable:
		d.Reason = reason
	}
	return d
}

// byPresence orders devices for people: those that are here first, then by index, those without index last.
func byPresence(a, b Device) int {
	if a.Here() != b.Here() {
		if a.Here() {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.rank(), b.rank()), strings.Compare(a.Name, b.Name))
}

func (d Device) rank() int {
	if d.Index == 0 {
		return maxIndex + 1
	}
	return d.Index
}
