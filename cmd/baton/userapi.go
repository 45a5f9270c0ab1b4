package main

import "baton/web"

// userAPI is what the HTTPS port answers under /api/v1/: users their own, administrators what the control socket does.
func (n *node) userAPI(whole *web.Server) *web.UserAPI {
	o := web.UserOptions{
		Registrar: n.registrar, Calls: n.calls, Entries: n.store, Tail: n.tail, Version: version(), Domain: n.config.Domain,
		Realm: n.store.Realm(), Codes: n.config.Codes, Server: whole, Others: n.sites.Others, Log: n.log,
	}
	if n.turn != nil {
		o.ICE = n.turn
	}
	return web.NewUserAPI(o)
}
