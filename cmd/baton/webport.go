package main

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"

	"baton/media"
	"baton/web"
)

// openWeb opens the HTTPS port, if it is not off, with all that stands behind it.
func (n *node) openWeb() (err error) {
	n.site = web.NewSite(web.SiteOptions{
		Phones:  web.Phones(n.agent, func() []string { return slices.Concat(n.config.Web.Origins, n.sites.Others()) }, n.log),
		User:    http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { n.user.ServeHTTP(w, r) }),
		Admin:   func(r *http.Request) bool { return n.user.Admin(r) },
		Metrics: n.metrics, CA: n.cert.trusted, Public: n.cert.public, Healthy: n.store.Healthy, Others: n.sites.Others, Log: n.log,
	})
	if at := n.config.Listen.Web; at != "off" {
		o := web.PortOptions{TLS: n.cert.webConfig(), HTTP: n.site, Connections: n.config.Connections, Log: n.log}
		if n.config.Media.WebRTC != 0 {
			n.turn, err = media.NewTURN(media.TURNOptions{Peers: n.engine.WebRTCAddrs, Realm: n.store.Realm(), Secret: n.store.Secret(), Log: n.log})
			if err != nil {
				return err
			}
			o.ICE, o.TURN = n.engine, n.turn
		}
		if n.port, err = web.ListenPort(at, o); err != nil {
			return err
		}
	}
	n.whole = n.api() // it tells of the port
	n.user = n.userAPI(n.whole)
	return nil
}

// webTCP is the port of listen.web, which browsers are told for ICE-TCP; 0 = there is none, or the machine chooses it.
func webTCP(listen string) uint16 {
	_, port, _ := net.SplitHostPort(listen)
	n, _ := strconv.ParseUint(port, 10, 16)
	return uint16(n)
}

// webParts are the parts of the HTTPS port.
func (n *node) webParts() (parts []part) {
	if n.turn != nil {
		parts = append(parts, part{"turn", n.turn.Run})
	}
	if n.port != nil {
		parts = append(parts, part{"web", n.port.Run})
	}
	return parts
}

// addrs are the listeners by transport, "web" for HTTPS.
func (n *node) addrs() map[string]netip.AddrPort {
	all := maps.Clone(n.agent.Addrs())
	if n.port != nil {
		all["web"] = n.port.Addr()
	}
	return all
}

// pageAt is the page's address for a browser at an address of this machine, "" without an HTTPS port.
func (n *node) pageAt(a address) string {
	if n.port == nil {
		return ""
	}
	if port := n.port.Addr().Port(); port != 443 {
		return fmt.Sprintf("https://%s:%d/", a.show(), port)
	}
	return "https://" + a.show() + "/"
}
