package registrar

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"baton/sip"
)

const (
	maxIndex   = 9
	maxDevices = 100 // of one user, remembered
)

// visitor is what a REGISTER tells of the device behind one of its contacts.
type visitor struct {
	Trace
	instance string // URN without < >
	agent    string
	kind     Kind
	flow     sip.Flow
	proxied  bool // came by a proxy, whose flow may be that of several devices
}

// stream says whether the flow is a connection: its port means nothing, but its end does.
func stream(f sip.Flow) bool { return f.Transport != "udp" }

// instanceOf reads +sip.instance (RFC 5626 §4.1); URNs compare without case (RFC 8141 §3.1 for their uuid).
func instanceOf(p sip.Params) string {
	v, _ := p.Get("+sip.instance")
	return strings.ToLower(strings.Trim(strings.Trim(strings.TrimSpace(v), `"`), "<>"))
}

// contactUser drops what baresip appends when it cannot make a lasting contact: the address of a structure.
var startAddress = regexp.MustCompile(`-0x[0-9a-f]+$`)

func contactUser(user string) string {
	if !strings.Contains(user, "-0x") {
		return user
	}
	return startAddress.ReplaceAllString(user, "")
}

// recognise finds the visitor among the devices that are not claimed by another contact of the same REGISTER, -1 if it
// is new. A device without instance is known by its product, contact user and contact host:port (UDP) or Call-ID
// (connections). lives tells of a device that is thought to be here whether it is: one that is not may have restarted,
// and now comes with another port and Call-ID.
func recognise(devices []Device, v visitor, claimed map[place]bool, lives func(Device) bool) int {
	if v.instance != "" {
		return slices.IndexFunc(devices, func(d Device) bool { return d.Instance == v.instance })
	}
	best := -1
	for i, d := range devices {
		switch {
		case claimed[place{key: d.Key}]:
		case v.is(d):
			return i
		case !v.mayBe(d), d.Here() && (v.Product == unknownProduct || lives(d)):
		case best < 0 || v.likelier(d, devices[best]):
			best = i
		}
	}
	return best
}

// doubts are the devices here that the visitor may be, if they are gone without a word: they must be asked.
func doubts(devices []Device, v visitor) []Device {
	var out []Device
	if slices.ContainsFunc(devices, v.is) {
		return nil
	}
	recognise(devices, v, nil, func(d Device) bool {
		out = append(out, d)
		return true
	})
	return out
}

// is says whether the device is surely the visitor.
func (v visitor) is(d Device) bool {
	t := d.Trace
	if d.Instance != "" || t.Product != v.Product {
		return false
	}
	sameUser, sameCall := t.User == v.User, t.CallID == v.CallID
	sameFlow := d.Binding != nil && d.Binding.Flow == v.flow && !v.proxied
	if stream(v.flow) {
		return sameFlow && (sameUser || sameCall) || sameUser && sameCall
	}
	// A phone that has learnt its public address (RFC 3581) puts that into its next contact.
	return sameUser && (sameFlow && sameCall || t.Host == v.Host && t.Port == v.Port)
}

// mayBe says whether the device may be the visitor after a restart: the same product and contact user at the same
// host. A browser without instance makes up both at each start; there the address must do.
func (v visitor) mayBe(d Device) bool {
	t := d.Trace
	if d.Instance != "" || t.Product != v.Product {
		return false
	}
	if ownHost(v.Host) {
		return ownHost(t.Host) && t.Addr == v.Addr
	}
	return t.User == v.User && t.Host == v.Host
}

// likelier prefers, of two devices that the visitor may be, the one that came by the same transport, then the one
// that went away last.
func (v visitor) likelier(a, b Device) bool {
	if aSame, bSame := a.Trace.Transport == v.Transport, b.Trace.Transport == v.Transport; aSame != bSame {
		return aSame
	}
	return a.Since.After(b.Since)
}

// key makes the lasting name of a device that is seen for the first time.
func (v visitor) key(devices []Device) string {
	if v.instance != "" {
		return v.instance
	}
	base := fmt.Sprintf("%s/%s@%s", v.Product, v.User, hostPort(v.Host, v.Port))
	if stream(v.flow) {
		base = fmt.Sprintf("%s/%s#%s", v.Product, v.User, v.CallID)
	}
	return unique(base, "~", func(k string) bool {
		return slices.ContainsFunc(devices, func(d Device) bool { return d.Key == k })
	})
}

func hostPort(host string, port int) string {
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		host = "[" + host + "]"
	}
	if port == 0 {
		return host
	}
	return fmt.Sprintf("%s:%d", host, port)
}

// unique appends sep and 2, 3, … to base until nobody has it.
func unique(base, sep string, taken func(string) bool) string {
	name := base
	for n := 2; taken(name); n++ {
		name = fmt.Sprintf("%s%s%d", base, sep, n)
	}
	return name
}

// newDevice makes a device of a visitor that is not known, with the name and index that are free. A tenth takes the
// place of the longest-away device without instance; where there is none it is known by name alone.
func newDevice(devices []Device, user string, v visitor, now time.Time) ([]Device, Device, error) {
	index := freeIndex(devices)
	if full := len(devices) >= maxDevices; index == 0 || full {
		if i := longestAway(devices, !full); i >= 0 {
			devices = slices.Delete(slices.Clone(devices), i, i+1)
			index = freeIndex(devices)
		}
	}
	if len(devices) >= maxDevices {
		return nil, Device{}, refuse(403, "Too Many Devices")
	}
	return devices, Device{
		User: user, Key: v.key(devices), Instance: v.instance, Index: index, Since: now,
		Name: unique(v.Product, "-", func(name string) bool {
			return slices.ContainsFunc(devices, func(d Device) bool { return d.Name == name })
		}),
	}, nil
}

// freeIndex is the lowest index that no remembered device has, 0 if there is none.
func freeIndex(devices []Device) int {
	for i := 1; i <= maxIndex; i++ {
		if !slices.ContainsFunc(devices, func(d Device) bool { return d.Index == i }) {
			return i
		}
	}
	return 0
}

// longestAway finds the device that may be forgotten for a new one.
func longestAway(devices []Device, indexed bool) int {
	best := -1
	for i, d := range devices {
		if d.Here() || d.Instance != "" || indexed && d.Index == 0 {
			continue
		}
		if best < 0 || d.Since.Before(devices[best].Since) {
			best = i
		}
	}
	return best
}
