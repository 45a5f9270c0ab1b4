package cluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
)

// Node is where a node of the cluster can be reached, and which run of it is meant.
type Node struct {
	ID       string `json:"id"`       // its name, "" = not known yet
	Instance string `json:"instance"` // drawn at each start, "" = not known
	Addr     string `json:"addr"`     // host:port, of the mesh's TCP and UDP
}

// Directory tells which nodes there are. It may be wrong or late: who a node is and whether it lives is found out with the
// node itself.
type Directory interface {
	// Nodes are all that are known, this one perhaps among them.
	Nodes(ctx context.Context) ([]Node, error)
	// Announce tells the others where this node is. It is called again and again while the node lives.
	Announce(ctx context.Context, self Node) error
}

// Static is the Directory that the configuration is: addresses, whose nodes are asked for their names. A node that is asked
// learns by that who asks, so that it is enough that one of two knows the other's address.
type Static []string

// Nodes are the addresses.
func (s Static) Nodes(context.Context) ([]Node, error) {
	all := make([]Node, 0, len(s))
	for _, addr := range s {
		all = append(all, Node{Addr: addr})
	}
	return all, nil
}

// Announce has nobody to tell.
func (s Static) Announce(context.Context, Node) error { return nil }

// Together is several directories as one. While one of them cannot be read, nothing new is known.
type Together []Directory

// Nodes are those of all.
func (t Together) Nodes(ctx context.Context) (all []Node, err error) {
	for _, d := range t {
		nodes, err2 := d.Nodes(ctx)
		all, err = append(all, nodes...), errors.Join(err, err2)
	}
	return all, err
}

// Announce tells all.
func (t Together) Announce(ctx context.Context, self Node) (err error) {
	for _, d := range t {
		err = errors.Join(err, d.Announce(ctx, self))
	}
	return err
}

// Memory is a Directory of nodes in one process.
type Memory struct {
	mu    sync.Mutex
	nodes map[string]Node
}

// Nodes are those that have announced themselves.
func (d *Memory) Nodes(context.Context) ([]Node, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []Node
	for _, n := range d.nodes {
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

// Announce keeps a node under its name.
func (d *Memory) Announce(_ context.Context, n Node) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.nodes == nil {
		d.nodes = make(map[string]Node)
	}
	d.nodes[n.ID] = n
	return nil
}
