package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"baton/config"
)

// Place is one where a phone looks for a domain.
type Place struct {
	Transport string // udp, tcp, tls
	Addr      netip.AddrPort
}

func (p Place) String() string { return p.Transport + " " + p.Addr.String() }

// Places finds where a phone that is given a domain alone looks for it, in order (RFC 3263); none = the domain has no
// records. The scheme is sip or sips.
type Places func(ctx context.Context, scheme, domain string) ([]Place, error)

// Service says whether the domain's NAPTR, SRV and address records lead to this node, and which records do.
func Service(ctx context.Context, find Places, c config.Config, machine []Address) []Finding {
	if _, err := netip.ParseAddr(c.Domain); err == nil || c.Domain == "" {
		return nil
	}
	all := []Finding{service(ctx, find, "sip", c, machine)}
	if c.Listen.TLS != "off" {
		all = append(all, service(ctx, find, "sips", c, machine))
	}
	return all
}

func service(ctx context.Context, find Places, scheme string, c config.Config, machine []Address) Finding {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	where := scheme + ":" + c.Domain
	places, err := find(ctx, scheme, c.Domain)
	switch {
	case err != nil:
		return found(Note, "records", where, "skipped: no name server answers", "try again with a network: baton doctor")
	case len(places) == 0:
		return found(Note, "records", where, "the domain has no record by which phones find its server; they must be given the server beside it",
			records(scheme, c)...)
	}
	var here, elsewhere []string
	for _, p := range places {
		if p.here(c, machine) {
			here = append(here, p.String())
		} else {
			elsewhere = append(elsewhere, p.String())
		}
	}
	switch {
	case len(elsewhere) == 0:
		return good("records", where, "lead here: %s", strings.Join(here, ", "))
	case len(here) == 0:
		return found(Warning, "records", where, "lead phones to "+strings.Join(elsewhere, ", ")+", where this node does not listen", records(scheme, c)...)
	}
	return found(Warning, "records", where,
		fmt.Sprintf("lead phones to %s, where this node does not listen, beside %s", strings.Join(elsewhere, ", "), strings.Join(here, ", ")), records(scheme, c)...)
}

// here says whether the node listens at a place: at an address of the machine, or one that it advertises.
func (p Place) here(c config.Config, machine []Address) bool {
	ip := p.Addr.Addr().Unmap()
	ours := ip.String() == c.Advertise.SIP || ip.String() == c.Advertise.Media || slices.ContainsFunc(machine, func(a Address) bool { return a.IP == ip })
	return ours && slices.ContainsFunc(Listeners(c.Listen), func(l Listener) bool {
		return l.Transport == p.Transport && l.Port == p.Addr.Port()
	})
}

// records are the lines for the domain's zone by which phones find the node, the best transport first.
func records(scheme string, c config.Config) []string {
	host := c.Domain
	if _, err := netip.ParseAddr(c.Advertise.SIP); err != nil && c.Advertise.SIP != "" {
		host = c.Advertise.SIP
	}
	lines := []string{"in the zone of " + c.Domain + ", for the transports that are listened on:"}
	names := map[string][2]string{"tls": {"_sips._tcp.", "SIPS+D2T"}, "tcp": {"_sip._tcp.", "SIP+D2T"}, "udp": {"_sip._udp.", "SIP+D2U"}}
	for i, transport := range []string{"tls", "tcp", "udp"} {
		for _, l := range Listeners(c.Listen) {
			if l.Transport != transport || l.Port == 0 || scheme == "sips" && transport != "tls" {
				continue
			}
			name := names[transport][0] + c.Domain + "."
			lines = append(lines,
				fmt.Sprintf(`%s. 3600 IN NAPTR %d 50 "s" "%s" "" %s`, c.Domain, 10*(i+1), names[transport][1], name),
				fmt.Sprintf("%s 3600 IN SRV 10 10 %d %s.", name, l.Port, host))
		}
	}
	return lines
}
