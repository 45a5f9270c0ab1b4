package sip

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// edge knows how this node is called from outside: its names and addresses, and which of them a peer can reach.
type edge struct {
	// set once
	advertise string
	literal   netip.Addr // advertise, if it is an address
	port      int        // of advertise, 0 = the listener's
	local     []netip.Prefix
	domain    string
	bound     map[string]netip.AddrPort

	// guarded by mu
	mu       sync.Mutex
	routes   map[netip.Addr]netip.Addr // peer → our address on the way to it
	machine  map[netip.Addr]bool       // all addresses of the machine
	lookedAt time.Time
}

// edgeFor is how long routes and addresses are taken for granted; a laptop changes its network.
const edgeFor = 10 * time.Second

func newEdge(a *Agent) *edge {
	e := &edge{local: a.opt.Advertise.Local, domain: a.opt.Domain, bound: a.Addrs()}
	if host, port, err := parseHostPort(bracketed(a.opt.Advertise.SIP)); err == nil {
		e.advertise, e.port = host, port
		e.literal, _ = netip.ParseAddr(strings.Trim(host, "[]"))
	}
	return e
}

// bracketed puts a bare IPv6 address into the brackets that a host needs.
func bracketed(s string) string {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Is6() {
		return "[" + s + "]"
	}
	return s
}

// Own reports whether a host means this node: its domain, its advertised name, an address it listens on or that the
// machine has, or such of another node of its cluster.
func (a *Agent) Own(host string) bool {
	e := a.edge
	host = strings.Trim(host, "[]")
	if host == "" {
		return false
	}
	if strings.EqualFold(host, e.domain) || strings.EqualFold(host, e.advertise) || strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if ip = ip.Unmap(); err == nil && (ip.IsLoopback() || e.isMachine(ip)) {
		return true
	}
	return a.opt.Nodes != nil && a.opt.Nodes.Own(host)
}

// Hosts are the names and addresses that mean this node and no other but those of its cluster: see Own.
func (a *Agent) Hosts() []string {
	e := a.edge
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refresh()
	var all []string
	if e.advertise != "" {
		all = append(all, strings.Trim(e.advertise, "[]"))
	}
	for ip := range e.machine {
		if !ip.IsLoopback() {
			all = append(all, ip.String())
		}
	}
	return all
}

func (e *edge) isMachine(ip netip.Addr) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refresh()
	return e.machine[ip]
}

// refresh looks at the machine's addresses again when that is due. mu is held.
func (e *edge) refresh() {
	if time.Since(e.lookedAt) < edgeFor && e.machine != nil {
		return
	}
	e.lookedAt = time.Now()
	e.machine, e.routes = make(map[netip.Addr]bool), make(map[netip.Addr]netip.Addr)
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			e.machine[p.Addr().Unmap()] = true
		}
	}
	for _, b := range e.bound {
		if !b.Addr().IsUnspecified() {
			e.machine[b.Addr()] = true
		}
	}
}

// ContactURI is what stands in Contact and Via towards a flow: what is advertised for peers outside the local
// networks, else the address the peer is reached from; the listener's port and transport.
func (a *Agent) ContactURI(f Flow, user string) URI {
	e := a.edge
	u := URI{Scheme: "sip", User: user, Port: e.portOf(f)}
	if e.advertisedTo(f.Remote.Addr()) {
		u.Host = e.advertise
		if e.port != 0 && f.Transport != "wss" {
			u.Port = e.port
		}
	} else {
		u.Host = e.towards(f).String()
	}
	if t := f.uriTransport(); t != "" {
		u.Params = Params{{"transport", t}}
	}
	return u
}

// contact is the Contact towards a flow. In a cluster its URI tells the node, so that requests in the dialog find it whichever
// node they come to.
func (a *Agent) contact(f Flow, user string) string {
	u := a.ContactURI(f, user)
	if a.mark != "" {
		u.Params = append(u.Params, Param{markParam, NodeTag(a.opt.Node)})
	}
	return "<" + u.String() + ">"
}

// portOf is the port of the listener that a flow began at; a WebSocket's is not the agent's own.
func (e *edge) portOf(f Flow) int {
	if at, ok := e.bound[f.Transport]; ok && f.Node == "" {
		return int(at.Port())
	}
	return int(f.Local.Port())
}

// advertisedTo says whether a peer is told the advertised host: one outside, and of its family if it is an address.
func (e *edge) advertisedTo(peer netip.Addr) bool {
	return e.advertise != "" && !e.isLocal(peer) && (!e.literal.IsValid() || e.literal.Is4() == peer.Is4())
}

func (e *edge) isLocal(ip netip.Addr) bool {
	for _, p := range e.local {
		if p.Contains(ip) {
			return true
		}
	}
	return ip.IsLoopback() || ip.IsLinkLocalUnicast()
}

// towards is our address as the peer of a flow sees it, behind no NAT.
func (e *edge) towards(f Flow) netip.Addr {
	if ip := f.Local.Addr(); ip.IsValid() && !ip.IsUnspecified() {
		return ip.WithZone("")
	}
	peer := f.Remote.Addr()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refresh()
	if ip, ok := e.routes[peer]; ok {
		return ip
	}
	ip := routeTo(f.Remote)
	if len(e.routes) < maxRoutes {
		e.routes[peer] = ip
	}
	return ip
}

const maxRoutes = 10_000

// routeTo asks the kernel which address it would send from. Nothing is sent.
func routeTo(peer netip.AddrPort) netip.Addr {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(peer))
	if err != nil {
		return netip.IPv4Unspecified()
	}
	defer c.Close()
	return unmap(c.LocalAddr().(*net.UDPAddr).AddrPort()).Addr().WithZone("")
}
