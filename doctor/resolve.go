package doctor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"baton/config"
)

// resolveTimeout is short: doctor also runs where there is no network.
const resolveTimeout = 2 * time.Second

// Resolver looks a name up; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Names compares what the domain and the advertised name resolve to with the addresses of this machine.
func Names(ctx context.Context, r Resolver, c config.Config, machine []Address) []Finding {
	var all []Finding
	var done []string
	for _, set := range []struct{ field, name string }{{"domain", c.Domain}, {"advertise.sip", c.Advertise.SIP}} {
		if _, err := netip.ParseAddr(set.name); err == nil || set.name == "" || slices.Contains(done, set.name) {
			continue
		}
		done = append(done, set.name)
		all = append(all, name(ctx, r, set.field+" "+set.name, set.name, c, machine))
	}
	return all
}

func name(ctx context.Context, r Resolver, where, host string, c config.Config, machine []Address) Finding {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	ips, err := r.LookupNetIP(ctx, "ip", host)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return found(Note, "name", where, "does not resolve: phones must be given an address as their server", "add an A record for "+host+", or type the address into the phones")
	case err != nil:
		return found(Note, "name", where, "skipped: no name server answers", "try again with a network: baton doctor")
	}
	var told []string
	for _, ip := range ips {
		ip = ip.Unmap()
		if ip.String() == c.Advertise.SIP || ip.String() == c.Advertise.Media || slices.ContainsFunc(machine, func(a Address) bool { return a.IP == ip }) {
			return good("name", where, "resolves to %s", ip)
		}
		told = append(told, ip.String())
	}
	return found(Warning, "name", where, "resolves to "+strings.Join(told, ", ")+", which is not this machine",
		"correct the name's A record to an address of this machine",
		"or, behind NAT with that address: "+config.Variable("advertise.sip")+"="+told[0]+" "+config.Variable("advertise.media")+"="+told[0])
}
