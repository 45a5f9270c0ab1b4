package main

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
)

// address is one address of this machine that a phone might reach.
type address struct {
	IP   netip.Addr
	On   string // interface
	Note string // what speaks against it, "" = nothing
	rank int    // low is likely
}

// virtual maps the beginnings of interface names to what is behind them.
var virtual = []struct{ prefix, note string }{
	{"docker", "containers"},
	{"br-", "containers"},
	{"veth", "containers"},
	{"cni", "containers"},
	{"flannel", "containers"},
	{"podman", "containers"},
	{"lxc", "containers"},
	{"lxd", "containers"},
	{"virbr", "virtual machines"},
	{"vmnet", "virtual machines"},
	{"vboxnet", "virtual machines"},
	{"tun", "VPN"},
	{"tap", "VPN"},
	{"wg", "VPN"},
	{"ppp", "VPN"},
	{"tailscale", "VPN"},
	{"zt", "VPN"},
	{"ipsec", "VPN"},
}

// machineAddresses are this machine's addresses, the one that phones most likely reach first: that of the default
// route, other IPv4, IPv6, then containers and VPNs, at last loopback. Link-local ones are left out: they need a zone,
// which a phone cannot be told.
func machineAddresses() []address {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var found []address
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		on, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range on {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				found = append(found, address{IP: prefix.Addr().Unmap(), On: i.Name})
			}
		}
	}
	return order(found, outbound())
}

// order ranks addresses, drops those that cannot be used, and notes what speaks against the others.
func order(found []address, route netip.Addr) []address {
	var usable []address
	for _, a := range found {
		if a.IP.IsLinkLocalUnicast() || a.IP.IsMulticast() {
			continue
		}
		a.Note = against(a)
		switch {
		case a.IP.IsLoopback():
			a.rank = 5
		case a.Note != "":
			a.rank = 3
		case a.IP == route:
			a.rank = 0
		default:
			a.rank = 1
		}
		if a.IP.Is6() && a.rank > 0 && a.rank < 5 {
			a.rank++
		}
		usable = append(usable, a)
	}
	slices.SortStableFunc(usable, func(x, y address) int { return x.rank - y.rank })
	return usable
}

// against says what speaks against an address.
func against(a address) string {
	if a.IP.IsLoopback() {
		return "this machine only"
	}
	for _, v := range virtual {
		if strings.HasPrefix(a.On, v.prefix) {
			return v.note
		}
	}
	if shared.Contains(a.IP) && underWSL() {
		return "WSL: reached from this Windows machine only"
	}
	return ""
}

// shared is the range from which WSL's own network takes the addresses of its virtual machine. With mirrored networking
// it has those of Windows instead.
var shared = netip.MustParsePrefix("172.16.0.0/12")

// underWSL says whether this is Linux within Windows, by the kernel's name.
var underWSL = sync.OnceValue(func() bool {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	return err == nil && strings.Contains(strings.ToLower(string(release)), "microsoft")
})

// outbound is the address that this machine uses towards the world. Nothing is sent: connecting a UDP socket only
// looks up the route.
func outbound() netip.Addr {
	c, err := net.Dial("udp4", "192.0.2.1:9") // RFC 5737: documentation only
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close()
	local, _ := netip.ParseAddrPort(c.LocalAddr().String())
	return local.Addr()
}
