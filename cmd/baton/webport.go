package main

import (
	"fmt"
	"maps"
	"net/netip"

	"baton/media"
	"baton/web"
)

// browsers is what an engine has that serves them: addresses for their media over UDP, and ICE-TCP.
type browsers interface {
	WebRTCAddrs() []netip.AddrPort
	web.Conns
}

// openWeb opens the HTTPS port, if it is not off, with all that stands behind it.
func (n *node) openWeb() (err error) {
	n.site = web.NewSite(web.SiteOptions{
		Metrics: n.metrics, CA: n.cert.trusted, Public: n.cert.public, Healthy: n.store.Healthy, Log: n.log,
	})
	at := n.config.Listen.Web
	if at == "off" {
		return nil
	}
	o := web.PortOptions{TLS: n.cert.webConfig(), HTTP: n.site, Connections: n.config.Connections, Log: n.log}
	if engine, ok := any(n.engine).(browsers); ok {
		n.turn, err = media.NewTURN(media.TURNOptions{Peers: engine.WebRTCAddrs, Realm: n.store.Realm(), Secret: n.store.Secret(), Log: n.log})
		if err != nil {
			return err
		}
		o.ICE, o.TURN = engine, n.turn
	}
	n.port, err = web.ListenPort(at, o)
	return err
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
