package registrar

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"baton/sip"
)

const (
	reasonUnregistered = "unregistered"
	reasonExpired      = "registration expired"
	reasonUnreachable  = "unreachable for too long"

	// repeatFor is how long an equal CSeq is a retransmission (64*T1). Later it comes from a client that never counts.
	repeatFor = 32 * time.Second
)

// apply carries the order out on the user's devices, all of it or nothing (RFC 3261 §10.3 steps 6 and 7). It returns
// the devices afterwards and the keys of those that the answer tells of. The slice given is left as it is.
func (o order) apply(devices []Device, lives func(Device) bool, now time.Time, node string) (after []Device, own []string, err error) {
	after = slices.Clone(devices)
	switch {
	case o.star:
		return o.clear(after, now)
	case len(o.wishes) == 0:
		return after, o.fetch(after), nil
	}
	claimed := make(map[place]bool)
	for _, w := range o.wishes {
		var key string
		if w.expires > 0 {
			after, key, err = o.bind(after, w, claimed, lives, now, node)
			claimed[place{key, w.regID}] = true
		} else {
			key, err = o.unbind(after, w, claimed, now)
		}
		if err != nil {
			return nil, nil, err
		}
		if key != "" && !slices.Contains(own, key) {
			own = append(own, key)
		}
	}
	return after, own, nil
}

// clear is Contact: * (RFC 3261 §10.2.2): all of the user's bindings end.
func (o order) clear(devices []Device, now time.Time) ([]Device, []string, error) {
	for i, d := range devices {
		if err := o.inOrder(d); err != nil {
			return nil, nil, err
		}
		if len(d.bindings()) > 0 {
			devices[i] = d.settle(nil, reasonUnregistered, now)
		}
	}
	return devices, nil, nil
}

// fetch finds whom a REGISTER without Contact asks about: the device that sent it, else all.
func (o order) fetch(devices []Device) []string {
	var own, all []string
	for _, d := range devices {
		all = append(all, d.Key)
		if slices.ContainsFunc(d.bindings(), func(b Binding) bool { return b.Flow == o.flow || b.CallID == o.callID }) {
			own = append(own, d.Key)
		}
	}
	if own == nil {
		return all
	}
	return own
}

// bind gives the device behind a contact its binding; the device is made if it is new.
func (o order) bind(devices []Device, w wish, claimed map[place]bool, lives func(Device) bool, now time.Time, node string) ([]Device, string, error) {
	i := recognise(devices, w.visitor, claimed, lives)
	if i < 0 {
		rest, d, err := newDevice(devices, o.user, w.visitor, now)
		if err != nil {
			return nil, "", err
		}
		devices, i = append(rest, d), len(rest)
	}
	d := devices[i]
	if err := o.inOrder(d); err != nil {
		return nil, "", err
	}
	if claimed[place{d.Key, w.regID}] || o.repeats(d, w, now) {
		return devices, d.Key, nil
	}
	if d.Index == 0 {
		d.Index = freeIndex(devices)
	}
	d.Trace, d.Kind = w.Trace, w.kind
	if w.agent != "" && w.agent != d.UserAgent {
		d.UserAgent, d.Profile = w.agent, unlearnt(d.Profile)
	}
	kept := slices.DeleteFunc(d.bindings(), func(b Binding) bool {
		return w.regID == 0 || b.RegID == 0 || b.RegID == w.regID
	})
	devices[i] = d.settle(append(kept, o.binding(w, now, node)), "", now)
	return devices, d.Key, nil
}

func (o order) binding(w wish, now time.Time, node string) Binding {
	return Binding{
		Contact: w.uri.String(), Params: w.params, Path: o.path, Flow: o.flow, CallID: o.callID, CSeq: o.cseq,
		RegID: w.regID, Registered: now, Expires: now.Add(w.expires), Node: node,
	}
}

// unbind ends the binding of a contact. It is known by its URI, or by its instance and reg-id (RFC 5626 §6); what the
// same REGISTER has just bound stays.
func (o order) unbind(devices []Device, w wish, claimed map[place]bool, now time.Time) (string, error) {
	for i, d := range devices {
		if w.instance != d.Instance || claimed[place{d.Key, w.regID}] {
			continue
		}
		meant := func(b Binding) bool {
			return b.RegID == w.regID && (w.instance != "" || sameContact(b.Contact, w.uri))
		}
		if !slices.ContainsFunc(d.bindings(), meant) {
			continue
		}
		if err := o.inOrder(d); err != nil {
			return "", err
		}
		devices[i] = d.settle(slices.DeleteFunc(d.bindings(), meant), reasonUnregistered, now)
		return d.Key, nil
	}
	return "", nil
}

// inOrder refuses a REGISTER that was overtaken by a later one of its Call-ID (RFC 3261 §10.3 step 7). Over another
// connection nothing is overtaken: that is a phone that has restarted and counts from the beginning.
func (o order) inOrder(d Device) error {
	for _, b := range d.bindings() {
		if b.CallID == o.callID && b.CSeq > o.cseq && b.Flow == o.flow {
			return refuse(500, "CSeq Is Out Of Order", sip.Header{Name: "Retry-After", Value: "1"})
		}
	}
	return nil
}

// repeats says whether the contact has been bound by this very REGISTER already.
func (o order) repeats(d Device, w wish, now time.Time) bool {
	return slices.ContainsFunc(d.bindings(), func(b Binding) bool {
		return b.CallID == o.callID && b.CSeq == o.cseq && b.Flow == o.flow && b.RegID == w.regID && !b.Silent &&
			sameContact(b.Contact, w.uri) && now.Sub(b.Registered) < repeatFor
	})
}

// sameContact compares what tells contacts apart (RFC 3261 §19.1.4 without the parameters, which apps change).
func sameContact(contact string, u sip.URI) bool {
	c, err := sip.ParseURI(contact)
	return err == nil && c.User == u.User && strings.EqualFold(c.Host, u.Host) && c.Port == u.Port
}

// answer is the 200 of an order: the bindings of the devices it was about, with what is left of each (§10.3 step 8).
func (o order) answer(devices []Device, own []string, now time.Time) sip.Reply {
	reply := sip.Reply{Code: 200}
	for _, d := range devices {
		if !slices.Contains(own, d.Key) {
			continue
		}
		for _, b := range d.bindings() {
			if left := b.Expires.Sub(now); left > 0 && !b.Silent {
				reply.Headers = append(reply.Headers, sip.Header{Name: "Contact", Value: b.header(left, o.tells(d)...)})
			}
		}
	}
	for _, p := range o.path {
		reply.Headers = append(reply.Headers, sip.Header{Name: "Path", Value: p}) // RFC 3327 §5.3
	}
	if o.flows {
		reply.Headers = append(reply.Headers, sip.Header{Name: "Require", Value: optionOutbound})
	}
	if o.gruus {
		reply.Headers = append(reply.Headers, sip.Header{Name: "Supported", Value: "path, " + optionGRUU})
	}
	const rfc1123GMT = "Mon, 02 Jan 2006 15:04:05 GMT" // RFC 3261 §20.17
	return sip.Reply{Code: 200, Headers: append(reply.Headers, sip.Header{Name: "Date", Value: now.UTC().Format(rfc1123GMT)})}
}

// tells is what the answer adds to the Contacts of a device: its public GRUU (RFC 5627 §5.3).
func (o order) tells(d Device) sip.Params {
	if !o.gruus || d.Instance == "" {
		return nil
	}
	return sip.Params{{Name: "pub-gruu", Value: gruu(o.aor, d.Instance)}}
}

// header writes the binding as a Contact value, with all that the device gave, the seconds left, and more.
func (b Binding) header(left time.Duration, more ...sip.Param) string {
	uri, err := sip.ParseURI(b.Contact)
	if err != nil {
		return "<" + b.Contact + ">"
	}
	seconds := strconv.Itoa(int(math.Ceil(left.Seconds())))
	return sip.NameAddr{URI: uri, Params: append(b.Params.With("expires", seconds), more...)}.String()
}

// The changes below are pure like apply: each returns the devices after an event, given those before it.

// reduce changes one device's bindings.
func reduce(devices []Device, key, reason string, now time.Time, change func([]Binding) []Binding) []Device {
	after := slices.Clone(devices)
	for i, d := range after {
		if key == "" || d.Key == key {
			after[i] = d.settle(change(d.bindings()), reason, now)
		}
	}
	return after
}

// closed takes away the bindings of flows that are gone.
func closed(devices []Device, gone func(sip.Flow) bool, reason string, now time.Time) []Device {
	return reduce(devices, "", reason, now, func(all []Binding) []Binding {
		return slices.DeleteFunc(all, func(b Binding) bool { return gone(b.Flow) })
	})
}

// expired takes away what was not registered again in time.
func expired(devices []Device, now time.Time) []Device { return lapsed(devices, now, now) }

// lapsed is expired for devices that went at another time than it was noticed.
func lapsed(devices []Device, now, went time.Time) []Device {
	return reduce(devices, "", reasonExpired, went, func(all []Binding) []Binding {
		return slices.DeleteFunc(all, func(b Binding) bool { return !b.Expires.After(now) })
	})
}

// silenced marks a binding that does not answer; it is asked on until it expires.
func silenced(devices []Device, key string, which func(Binding) bool, reason string, now time.Time) []Device {
	return marked(devices, key, which, true, reason, now)
}

// answered takes a binding back that had been silent.
func answered(devices []Device, key string, which func(Binding) bool, now time.Time) []Device {
	return marked(devices, key, which, false, "", now)
}

func marked(devices []Device, key string, which func(Binding) bool, silent bool, reason string, now time.Time) []Device {
	return reduce(devices, key, reason, now, func(all []Binding) []Binding {
		for i := range all {
			if which(all[i]) {
				all[i].Silent = silent
			}
		}
		return all
	})
}
