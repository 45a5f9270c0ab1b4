package main

import (
	"fmt"

	"baton/cluster"
)

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
		ID: nameOf(n.config.Config), Listen: c.Listen, Key: key, Directory: cluster.Static(c.Peers), Load: n.carries, Log: n.log,
	})
	return err
}

// carries is what the node tells the others of its load.
func (n *node) carries() cluster.Load {
	calls, _ := n.calls.Debug()
	return cluster.Load{Calls: calls, Draining: n.draining.Load()}
}
