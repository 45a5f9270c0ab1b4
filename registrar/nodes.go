package registrar

import (
	"context"
	"slices"
)

// In a cluster the node that a device has registered at writes it, asks it, and says that it is away; the others read that from the
// store (foreign.go), show it, and call it over that node's flow. A Binding's Node says whose its flow is; the flow itself is named
// as this node names it, whatever was stored.

// name gives every binding's flow the node that it is at. own is this node's name, "" = it is alone.
func (d *Device) name(own string) {
	if own == "" {
		return
	}
	for b := range d.all {
		if b.Flow.Node = b.Node; b.Node == own {
			b.Flow.Node = ""
		}
	}
}

// own is this node's name in its cluster, "" = it is alone.
func (r *Registrar) own() string {
	if r.o.Clustered {
		return r.o.Node
	}
	return ""
}

// connectedTo says whether a device has a connection to a node.
func (d Device) connectedTo(node string) bool {
	return slices.ContainsFunc(d.bindings(), func(b Binding) bool { return b.Node == node && stream(b.Flow) })
}

// NodeGone is told that a node has ended, and with it its connections: who was registered over them is away. It is for one of the
// nodes that are left; the others read it. What is stored is read first, for a device that is back at another node is there.
func (r *Registrar) NodeGone(node string) {
	f := r.feed()
	if f == nil {
		return
	}
	r.mail.Do(func() {
		var all []string
		for name, a := range r.directory.Load().accounts {
			if slices.ContainsFunc(a.list(), func(d Device) bool { return d.connectedTo(node) }) {
				all = append(all, name)
			}
		}
		if len(all) > 0 {
			r.asks.Go(func() { r.leftBehind(r.ctx, f, all, node) })
		}
	})
}

// leftBehind ends the connections of users to a node that has ended.
func (r *Registrar) leftBehind(ctx context.Context, f Feed, users []string, node string) {
	gone := func(b Binding) bool { return b.Node == node && stream(b.Flow) }
	for _, name := range users {
		if err := r.readDevices(ctx, f, name); err != nil {
			r.log.Warn("devices of a node that has ended are as they were known here", "user", name, "node", node, "err", err)
		}
		r.change(name, func(before []Device) []Device {
			return reduce(before, "", "its connection ended with node "+node, r.now(), func(all []Binding) []Binding {
				return slices.DeleteFunc(all, gone)
			})
		})
	}
}
