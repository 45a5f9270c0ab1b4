package sip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Hop is one place where a request for a URI can be sent.
type Hop struct {
	Transport string // udp, tcp, tls
	Addr      netip.AddrPort
}

func (h Hop) String() string { return h.Transport + ":" + h.Addr.String() }

// Resolver finds where the host of a URI is (RFC 3263 §4). All methods may be called from any goroutine.
type Resolver struct{ dns *lookups }

// NewResolver asks the name servers given as host:port; none = those of the system.
func NewResolver(servers ...string) *Resolver { return &Resolver{newLookups(servers)} }

// ErrNoHost says that a name exists nowhere, or has no address.
var ErrNoHost = errors.New("no such host")

// transports holds the NAPTR services and SRV names of each transport, in the order in which they are tried where the
// domain does not say which it prefers.
var transports = []struct{ name, service, srv string }{
	{"tls", "SIPS+D2T", "_sips._tcp."},
	{"udp", "SIP+D2U", "_sip._udp."},
	{"tcp", "SIP+D2T", "_sip._tcp."},
}

// maxHops bounds what one name can make us try.
const maxHops = 16

// Resolve gives the places of a URI in the order in which they are to be tried. An error is ErrNoHost where the name
// has no address, else that of the name servers; what was found before it is given as well.
func (r *Resolver) Resolve(ctx context.Context, u URI) ([]Hop, error) {
	transport, port, host := requested(u), u.Port, u.Host
	if maddr, ok := u.Params.Get("maddr"); ok {
		host = maddr
	}
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		t := cmp.Or(transport, usualTransport(u))
		return []Hop{{t, netip.AddrPortFrom(ip.Unmap(), portOf(t, port))}}, nil
	}
	hops, err := r.named(ctx, u, strings.TrimSuffix(strings.ToLower(host), "."), transport, uint16(port))
	switch {
	case len(hops) > 0:
		return hops[:min(len(hops), maxHops)], nil
	case err == nil:
		err = ErrNoHost
	}
	return nil, fmt.Errorf("resolve %s: %w", host, err)
}

// named is Resolve for a name: a port leads to its addresses alone (§4.2), else SRV does, of the transport that is given
// or that NAPTR prefers (§4.1).
func (r *Resolver) named(ctx context.Context, u URI, host, transport string, port uint16) ([]Hop, error) {
	fallback := cmp.Or(transport, usualTransport(u))
	if port != 0 {
		return r.hosts(ctx, host, fallback, port)
	}
	services, err := r.services(ctx, u, host, transport)
	var hops []Hop
	none := true // no SRV record at all: what they name is final, reachable or not
	for _, s := range services {
		found, e := r.service(ctx, s)
		none = none && errors.Is(e, errNoRecord)
		hops, err = append(hops, found...), errors.Join(err, plain(e))
	}
	if !none {
		return hops, err
	}
	found, e := r.hosts(ctx, host, fallback, portOf(fallback, 0))
	if e == nil {
		return found, nil
	}
	return nil, errors.Join(err, e)
}

// plain leaves away that a record does not exist: that is no error of the name servers.
func plain(err error) error {
	if errors.Is(err, errNoRecord) {
		return nil
	}
	return err
}

// service is a name with SRV records, and the transport that they are for.
type service struct{ name, transport string }

// services are the names to look for SRV at: where NAPTR points, the preferred first, else those of each transport.
func (r *Resolver) services(ctx context.Context, u URI, host, transport string) ([]service, error) {
	var all []service
	if transport == "" {
		records, err := r.dns.find(ctx, host, dns.TypeNAPTR)
		if err != nil && !errors.Is(err, errNoRecord) {
			return nil, err
		}
		if all = preferred(records, u.Scheme == "sips"); len(all) > 0 {
			return all, nil
		}
	}
	for _, t := range transports {
		switch {
		case transport != "" && t.name != transport, u.Scheme == "sips" && t.name != "tls", transport == "" && u.Scheme == "sip" && t.name == "tls":
		default:
			all = append(all, service{t.srv + host, t.name})
		}
	}
	return all, nil
}

// preferred reads NAPTR records by order and preference (RFC 3403 §4.1): those of services that we speak, TLS alone for a
// sips URI.
func preferred(records []dns.RR, secure bool) []service {
	var found []*dns.NAPTR
	for _, rr := range records {
		if n, ok := rr.(*dns.NAPTR); ok && strings.EqualFold(n.Flags, "s") {
			found = append(found, n)
		}
	}
	slices.SortStableFunc(found, func(a, b *dns.NAPTR) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Preference, b.Preference))
	})
	var all []service
	for _, n := range found {
		for _, t := range transports {
			if strings.EqualFold(n.Service, t.service) && (!secure || t.name == "tls") {
				all = append(all, service{strings.ToLower(strings.TrimSuffix(n.Replacement, ".")), t.name})
			}
		}
	}
	return all
}

// service gives the places of one SRV name, in the order of RFC 2782. A target without address is passed over.
func (r *Resolver) service(ctx context.Context, s service) ([]Hop, error) {
	records, err := r.dns.find(ctx, s.name, dns.TypeSRV)
	if err != nil {
		return nil, err
	}
	var targets []*dns.SRV
	for _, rr := range records {
		if t, ok := rr.(*dns.SRV); ok && t.Target != "." && t.Port != 0 {
			targets = append(targets, t)
		}
	}
	if len(targets) == 0 {
		return nil, ErrNoHost // "." says that the service is not there
	}
	var hops []Hop
	for _, t := range byWeight(targets) {
		found, e := r.hosts(ctx, strings.ToLower(strings.TrimSuffix(t.Target, ".")), s.transport, t.Port)
		hops, err = append(hops, found...), errors.Join(err, e)
		if len(hops) >= maxHops {
			break
		}
	}
	return hops, err
}

// byWeight orders SRV records by priority, and within one at random, so that each comes first as often as its weight
// says (RFC 2782).
func byWeight(all []*dns.SRV) []*dns.SRV {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b *dns.SRV) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Weight, b.Weight))
	})
	var out []*dns.SRV
	for len(all) > 0 {
		n, sum := 0, 0
		for n < len(all) && all[n].Priority == all[0].Priority {
			sum += int(all[n].Weight)
			n++
		}
		at, running, draw := 0, int(all[0].Weight), rand.IntN(sum+1)
		for running < draw {
			at++
			running += int(all[at].Weight)
		}
		out = append(out, all[at])
		all = slices.Delete(all, at, at+1)
	}
	return out
}

// hosts gives the addresses of a host, IPv6 and IPv4 in turn, so that a family that does not work costs one try (RFC
// 7984 §4.2, RFC 8305 §4).
func (r *Resolver) hosts(ctx context.Context, host, transport string, port uint16) ([]Hop, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []Hop{{transport, netip.AddrPortFrom(ip.Unmap(), port)}}, nil
	}
	six, err6 := r.dns.find(ctx, host, dns.TypeAAAA)
	four, err4 := r.dns.find(ctx, host, dns.TypeA)
	var hops []Hop
	for i := range max(len(six), len(four)) {
		for _, records := range [][]dns.RR{six, four} {
			if i < len(records) {
				if ip, ok := addressOf(records[i]); ok {
					hops = append(hops, Hop{transport, netip.AddrPortFrom(ip, port)})
				}
			}
		}
	}
	if len(hops) > 0 {
		return hops, nil
	}
	if err := errors.Join(plain(err6), plain(err4)); err != nil {
		return nil, err
	}
	return nil, ErrNoHost
}

func addressOf(rr dns.RR) (netip.Addr, bool) {
	switch rr := rr.(type) {
	case *dns.A:
		return netip.AddrFromSlice(rr.A.To4())
	case *dns.AAAA:
		return netip.AddrFromSlice(rr.AAAA.To16())
	}
	return netip.Addr{}, false
}

// requested is the transport that a URI names, "" if none; for sips that of its TLS.
func requested(u URI) string {
	t, _ := u.Params.Get("transport")
	if t = strings.ToLower(t); t == "tcp" && u.Scheme == "sips" {
		return "tls"
	}
	return t
}

// usualTransport is that of a URI that names none and whose domain does not either (§4.1).
func usualTransport(u URI) string {
	if u.Scheme == "sips" {
		return "tls"
	}
	return "udp"
}

// portOf is the port given, else the transport's (RFC 3261 §19.1.2).
func portOf(transport string, given int) uint16 {
	switch {
	case given != 0:
		return uint16(given)
	case transport == "tls":
		return 5061
	}
	return 5060
}
