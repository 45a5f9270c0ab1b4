package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"baton/config"
)

// Address is one address of this machine.
type Address struct {
	IP   netip.Addr
	On   string // interface
	Note string // what speaks against it, "" = nothing
}

// usual says whether phones can be expected to reach the address.
func (a Address) usual() bool { return a.Note == "" && !a.IP.IsLoopback() }

func (a Address) String() string {
	if a.Note == "" {
		return fmt.Sprintf("%s (%s)", a.IP, a.On)
	}
	return fmt.Sprintf("%s (%s: %s)", a.IP, a.On, a.Note)
}

// Addresses looks for one that phones can be given, and at those that are set.
func Addresses(c config.Config, machine []Address) []Finding {
	all := []Finding{candidates(machine)}
	if c.Media.Address != "" {
		all = append(all, mediaAddress(c.Media.Address, machine))
	}
	for _, set := range []struct{ field, value string }{{"advertise.sip", c.Advertise.SIP}, {"advertise.media", c.Advertise.Media}} {
		if ip, err := netip.ParseAddr(set.value); err == nil {
			all = append(all, advertised(set.field, ip.Unmap(), c.Advertise.Local, machine))
		}
	}
	if c.Advertise.SIP != "" && c.Advertise.Media == "" || c.Advertise.SIP == "" && c.Advertise.Media != "" {
		all = append(all, found(Note, "address", "advertise",
			"only one of advertise.sip and advertise.media is set; behind NAT, SIP and audio both need it",
			"set both advertise.sip and advertise.media"))
	}
	return all
}

// candidates shows what a phone can be told as its server.
func candidates(machine []Address) Finding {
	var usual, others []string
	for _, a := range machine {
		if a.usual() {
			usual = append(usual, a.String())
		} else if !a.IP.IsLoopback() {
			others = append(others, a.String())
		}
	}
	switch {
	case len(usual) == 0 && len(others) == 0:
		return found(Warning, "address", "", "this machine has no address but loopback: no other machine can reach it",
			"ip link   # is the network interface up?", "ip address")
	case len(usual) == 0:
		return found(Warning, "address", "", "all addresses are of containers, virtual machines or VPNs: "+strings.Join(others, ", "),
			"connect a network that the phones are on, or run baton where it is")
	}
	text := "phones reach this machine at " + strings.Join(usual, ", ")
	if len(others) > 0 {
		text += "; not for phones elsewhere: " + strings.Join(others, ", ")
	}
	return good("address", "", "%s", text)
}

// mediaAddress looks at the only address that audio is bound to.
func mediaAddress(value string, machine []Address) Finding {
	ip, err := netip.ParseAddr(value)
	i := slices.IndexFunc(machine, func(a Address) bool { return a.IP == ip.Unmap() })
	where := "media.address " + value
	switch {
	case err != nil || i < 0:
		return found(Error, "address", where, "this machine does not have this address: no call will have audio", instead(machine, "media.address")...)
	case ip.IsLoopback():
		return found(Warning, "address", where, "audio is heard on this machine alone", instead(machine, "media.address")...)
	case machine[i].Note != "":
		return found(Warning, "address", where, "the address is for "+machine[i].Note+" ("+machine[i].On+")", instead(machine, "media.address")...)
	}
	return good("address", where, "is on %s", machine[i].On)
}

// instead names the setting that is right.
func instead(machine []Address, field string) []string {
	cure := []string{"leave " + field + " unset: it is chosen for each phone"}
	for _, a := range machine {
		if a.usual() {
			return append(cure, "or "+config.Variable(field)+"="+a.IP.String())
		}
	}
	return cure
}

// advertised looks at an address that phones outside the local networks are told. One that this machine does not have
// is right if a router forwards it, and that router has a public one.
func advertised(field string, ip netip.Addr, local []netip.Prefix, machine []Address) Finding {
	where := field + " " + ip.String()
	if slices.ContainsFunc(machine, func(a Address) bool { return a.IP == ip }) && !ip.IsLoopback() {
		return good("address", where, "is an address of this machine")
	}
	if ip.IsLoopback() || slices.ContainsFunc(local, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		return found(Warning, "address", where,
			"a private address that this machine does not have: phones are sent where nobody listens",
			"set the router's public address: "+config.Variable(field)+"=ADDRESS",
			"or leave "+field+" unset if no phone is outside the local network")
	}
	return found(Note, "address", where, "not an address of this machine: right if a router with it forwards the ports to here",
		"forward on the router: the SIP ports and the audio ports")
}
