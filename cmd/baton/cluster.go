package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"baton/cluster"
	"baton/cluster/edge"
	"baton/sip"
	"baton/web"
)

// kindAPI is a request of the API that is brought to the node it belongs to.
const kindAPI = "api"

// openMesh opens the port for the other nodes, if there is one.
func (n *node) openMesh() error {
	c := n.config.Cluster
	if c.Listen == "off" {
		return nil
	}
	key, err := cluster.ReadKey(c.KeyFile)
	if err != nil {
		return fmt.Errorf("cluster.key_file: %w", err)
	}
	n.mesh, err = cluster.New(cluster.Options{
		ID: nameOf(n.config.Config), Listen: c.Listen, Key: key, Directory: n.directory(), Load: n.carries, Log: n.log,
	})
	if err != nil {
		return err
	}
	if at := n.mesh.Twin(context.Background()); at != "" {
		return fmt.Errorf("cluster.name: a node named %q runs already, at %s; give each node a name of its own", nameOf(n.config.Config), at)
	}
	n.mesh.HandleCall(kindMeant, n.meant)
	n.edge = edge.New(n.mesh, n.ownerOf(), n.log)
	n.mesh.HandleCall(kindAPI, func(ctx context.Context, _ string, payload []byte) ([]byte, error) {
		var q web.Asked
		if err := json.Unmarshal(payload, &q); err != nil {
			return nil, err
		}
		return json.Marshal(n.whole.Answer(ctx, q))
	})
	return nil
}

// directory are the nodes that are configured, and those that announce themselves in the store that all share.
func (n *node) directory() cluster.Directory {
	all := cluster.Together{cluster.Static(n.config.Cluster.Peers)}
	if d, ok := n.store.(cluster.Directory); ok {
		all = append(all, d)
	}
	return all
}

// takeUpPause is how often a call is looked for that this node has claimed and not taken up yet.
const takeUpPause = 50 * time.Millisecond

// ownerOf finds the node whose a dialog is, in the store that all share. One of a call that this node has claimed is waited for until the
// call is taken up, or ctx ends.
func (n *node) ownerOf() func(context.Context, string) (string, error) {
	s, ok := n.store.(interface {
		OwnerOf(ctx context.Context, callID string) (id, node string, err error)
	})
	if !ok {
		return nil
	}
	return func(ctx context.Context, callID string) (string, error) {
		for {
			id, owner, err := s.OwnerOf(ctx, callID)
			switch {
			case ctx.Err() != nil:
				return sip.Untaken, nil
			case err != nil || owner != n.name() || n.calls.Has(id):
				return owner, err
			case !pause(ctx, takeUpPause):
				return sip.Untaken, nil
			}
		}
	}
}

// follow has the registrar know of nodes that have ended; all else of their devices it reads from the store.
func (n *node) follow() {
	n.mesh.Subscribe(func(e cluster.Event) {
		if e.To.Ended() && n.first() {
			for _, p := range n.mesh.Peers() { // one that was first, and is gone itself, may have left some to do
				if p.State.Ended() {
					n.registrar.NodeGone(p.ID)
				}
			}
		}
	})
}

// first says whether this node is the one of those that live that writes what happens to them all.
func (n *node) first() bool {
	for _, p := range n.mesh.Peers() {
		if !p.Self && p.State == cluster.Alive && p.ID < n.mesh.Self().ID {
			return false
		}
	}
	return true
}

// carries is what the node tells the others of its load.
func (n *node) carries() cluster.Load {
	calls, _ := n.calls.Debug()
	return cluster.Load{Calls: calls, Capacity: n.config.Call.Capacity, Draining: n.draining.Load(), Busy: n.busy()}
}

// join makes the agent one of several.
func (n *node) join(o *sip.Options) {
	if n.mesh != nil {
		o.Node, o.Nodes, o.Place = nameOf(n.config.Config), n.edge, n.place
	}
}

// others are the nodes that the API asks, nil for a node alone.
func (n *node) others() web.Others {
	if n.mesh == nil {
		return nil
	}
	return peers{n}
}

// peers are the other nodes' APIs, over the mesh.
type peers struct{ n *node }

// Nodes are all that are known.
func (p peers) Nodes() []web.NodeInfo {
	var all []web.NodeInfo
	for _, m := range p.n.mesh.Peers() {
		all = append(all, nodeInfo(m))
	}
	return all
}

// nodeInfo is what the API tells of a node. One that was stopped may have said before that it takes no new calls: it has ended now.
func nodeInfo(m cluster.Peer) web.NodeInfo {
	return web.NodeInfo{
		Name: m.ID, Self: m.Self, State: string(m.State), Why: string(m.Why), Since: m.Since, Address: m.Addr, Instance: m.Instance,
		Calls: m.Load.Calls, Capacity: m.Load.Capacity, Draining: m.Load.Draining && !m.State.Ended(),
		RTT: float64(m.RTT.Microseconds()) / 1000, Dropped: m.Dropped,
	}
}

// Names are those that are connected.
func (p peers) Names() []string {
	var all []string
	for _, m := range p.n.mesh.Peers() {
		if m.Linked && !m.Self {
			all = append(all, m.ID)
		}
	}
	return all
}

// WithCallsOf are those that have calls of a user and are connected.
func (p peers) WithCallsOf(user string) []string { return p.n.callers.with(user) }

// Ask has a node's API answer.
func (p peers) Ask(ctx context.Context, node string, q web.Asked) (told web.Told, err error) {
	payload, err := json.Marshal(q)
	if err != nil {
		return told, err
	}
	b, err := p.n.mesh.Call(ctx, node, kindAPI, payload)
	if err != nil {
		return told, err
	}
	return told, json.Unmarshal(b, &told)
}

func nodesCommand(f *flags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "nodes",
		Short: "List the nodes of the cluster",
		Long: `nodes lists the nodes of the cluster as the node sees them that is asked: who lives, for how long so, and how
many calls each has. A node is

  alive    its heartbeats come
  suspect  they do not; nothing is proved yet
  frozen   its machine takes connections, the node says nothing
  dead     there is proof
  left     it was stopped
  unknown  it was told of and never met`,
		Example: "  baton nodes\n  baton nodes --json",
		Args:    exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.ask(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				nodes, err := c.Nodes(ctx)
				if err != nil || asJSON {
					return orJSON(cmd, err, nodes)
				}
				var rows [][]string
				now := time.Now()
				for _, n := range nodes {
					rows = append(rows, []string{nodeLabel(n), nodeState(n), lasted(now.Sub(n.Since)), callsOf(n), orDash(n.Address), rtt(n)})
				}
				return table(cmd.OutOrStdout(), []string{"NODE", "STATE", "FOR", "CALLS", "ADDRESS", "RTT"}, rows)
			})
		},
	}
	withJSON(cmd, &asJSON)
	return cmd
}

func nodeLabel(n web.NodeInfo) string {
	if n.Self {
		return n.Name + " (this)"
	}
	return n.Name
}

// nodeState is the state, with what is to be known of it.
func nodeState(n web.NodeInfo) string {
	switch {
	case n.Draining:
		return n.State + " (draining)"
	case n.Why != "" && n.State != "alive":
		return n.State + " (" + n.Why + ")"
	}
	return n.State
}

// callsOf are its calls, of those that it may have.
func callsOf(n web.NodeInfo) string {
	if n.Capacity == 0 {
		return strconv.Itoa(n.Calls)
	}
	return fmt.Sprintf("%d of %d", n.Calls, n.Capacity)
}

func rtt(n web.NodeInfo) string {
	if n.RTT == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", n.RTT)
}

func clusterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "cluster",
		Short:   "Make the key of a cluster",
		Example: "  baton cluster key /etc/baton/cluster.key",
		Args:    exactly(0, "a command: key"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "key [FILE]",
		Short: "Make a new cluster key",
		Long: `key makes a key by which nodes trust each other, and prints it or writes it into a new file that its owner
alone can read. Bring it to every node of the cluster, over a way that nobody listens on, and name it there in
cluster.key_file. Whoever has it is a node.`,
		Example: "  baton cluster key /etc/baton/cluster.key\n  baton cluster key | ssh node2 'umask 077; cat > /etc/baton/cluster.key'",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text := cluster.NewKey().Text() + "\n"
			if len(args) == 0 {
				_, err := fmt.Fprint(cmd.OutOrStdout(), text)
				return err
			}
			return writeNewKey(args[0], text)
		},
	})
	return cmd
}

// writeNewKey writes the key into a file that was not there: nodes that run with another key would be shut out.
func writeNewKey(name, text string) error {
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already; a new key shuts out the nodes that have the old one. Remove it first if you mean that", name)
	}
	if err != nil {
		return fmt.Errorf("write the cluster key: %w", err)
	}
	_, err = out.WriteString(text)
	return errors.Join(err, out.Close())
}
