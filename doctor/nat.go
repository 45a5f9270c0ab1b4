package doctor

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"baton/config"
)

// Device is what is known of where a registered device is.
type Device struct {
	User, Name string
	Contact    string         // the URI that it registered
	Remote     netip.AddrPort // where it was heard from
	Transport  string
}

// Devices compares where each device says it is with where it was heard from.
func Devices(c config.Config, devices []Device) []Finding {
	var all []Finding
	same := 0
	for _, d := range devices {
		f, differs := whereabouts(d)
		if differs {
			all = append(all, f)
		} else {
			same++
		}
		if outside(c.Advertise.Local, d.Remote.Addr()) && c.Advertise.Media == "" && c.Media.Address == "" {
			all = append(all, found(Note, "devices", label(d),
				fmt.Sprintf("is outside the local networks (%s); behind NAT it would get a private address for audio", d.Remote.Addr()),
				"if this machine is behind NAT: "+config.Variable("advertise.sip")+"=PUBLIC "+config.Variable("advertise.media")+"=PUBLIC"))
		}
	}
	switch {
	case len(devices) == 0:
		all = append(all, good("devices", "", "none is registered now"))
	case same > 0:
		all = append(all, good("devices", "", "%d of %d heard from where they say they are", same, len(devices)))
	}
	return all
}

func label(d Device) string { return d.User + "/" + d.Name }

func outside(local []netip.Prefix, ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsValid() && !ip.IsLoopback() && !slices.ContainsFunc(local, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// whereabouts says what a difference between Contact and source means.
func whereabouts(d Device) (Finding, bool) {
	claimed, ok := contactAddress(d.Contact)
	heard := netip.AddrPortFrom(d.Remote.Addr().Unmap(), d.Remote.Port())
	if !ok || claimed == heard || claimed.Addr() == heard.Addr() && d.Transport != "udp" {
		return Finding{}, false // a connection's source port is never that of the contact
	}
	text := fmt.Sprintf("heard from %s over %s, but says it is at %s: ", heard, strings.ToUpper(d.Transport), claimed)
	switch {
	case claimed.Addr().IsUnspecified() || claimed.Addr().IsLoopback():
		return found(Note, "devices", label(d), text+"it does not know its own address; baton answers to where it was heard",
			"in the phone: choose its network interface, or switch STUN off"), true
	case claimed.Addr() == heard.Addr():
		return found(Note, "devices", label(d), text+"a NAT changes its port; baton answers to where it was heard and keeps that open",
			"nothing to do; if calls do not reach it, register over TCP or every 60 s"), true
	}
	return found(Note, "devices", label(d), text+"it is behind NAT; baton answers to where it was heard, and sends audio to where the phone's comes from",
		"nothing to do; if calls do not reach it, register over TCP or every 60 s,", "and switch SIP ALG off in its router"), true
}

// contactAddress is the address of a SIP URI whose host is one (RFC 3261 §19.1).
func contactAddress(uri string) (netip.AddrPort, bool) {
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok {
		return netip.AddrPort{}, false
	}
	if i := strings.IndexAny(rest, ";?>"); i >= 0 {
		rest = rest[:i]
	}
	rest = rest[strings.LastIndex(rest, "@")+1:]
	usual := uint16(5060)
	if strings.EqualFold(scheme, "sips") {
		usual = 5061
	}
	if ap, err := netip.ParseAddrPort(rest); err == nil {
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), true
	}
	ip, err := netip.ParseAddr(strings.Trim(rest, "[]"))
	if err != nil {
		if host, _, err2 := net.SplitHostPort(rest); err2 == nil {
			ip, err = netip.ParseAddr(host)
		}
	}
	return netip.AddrPortFrom(ip.Unmap(), usual), err == nil
}
