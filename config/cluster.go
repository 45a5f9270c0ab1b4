package config

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Cluster is what makes a node one of several. Nothing set is a node alone, which opens nothing for others.
type Cluster struct {
	Name    string   `yaml:"name"`     // of this node, "" = the host's
	Listen  string   `yaml:"listen"`   // off: host:port of TCP and UDP, for the other nodes
	Peers   []string `yaml:"peers"`    // host:port of other nodes, besides those that are found in the store
	KeyFile string   `yaml:"key_file"` // the key that all nodes share: 32 bytes in base64
}

// nodeName is the name of a node: as that of a host, so that it can stand in logs and tables.
func nodeName(s string) (string, error) {
	if !hostName.MatchString(s) || len(s) > 63 {
		return "", fmt.Errorf("%q is no name of a node", s)
	}
	return s, nil
}

// setPeers replaces the addresses of other nodes.
func setPeers(c *Config, values []string) error {
	var all []string
	for _, v := range values {
		host, port, err := net.SplitHostPort(v)
		n, err2 := strconv.ParseUint(port, 10, 16)
		if err = errors.Join(err, err2); err != nil || n == 0 || host == "" {
			return fmt.Errorf("%q is no host:port of a node", v)
		}
		if _, err := listener(v); err != nil {
			return err
		}
		all = append(all, v)
	}
	c.Cluster.Peers = all
	return nil
}

// cluster checks what a node among others needs.
func (p *parse) cluster() {
	c := p.config.Cluster
	if c.Listen == "off" {
		if len(c.Peers) > 0 {
			p.fail(p.last("cluster.peers", "cluster.listen"), "cluster.peers", "cluster.listen is off; give the port that nodes speak on, as in 10.0.0.1:5080")
		}
		return
	}
	if p.config.Store.Redis == "" {
		p.fail(p.last("cluster.listen", "store.redis"), "store.redis", "nodes of a cluster share users, devices and calls; give the Redis where they are, as in redis://10.0.0.9:6379, or have no cluster.listen")
	}
	if c.KeyFile == "" {
		p.fail(p.last("cluster.listen", "cluster.key_file"), "cluster.key_file", "nodes trust each other by it alone; make one with \"baton cluster key FILE\" and bring it to all nodes")
	}
	if c.Listen == p.config.Listen.UDP && !strings.HasSuffix(c.Listen, ":0") {
		p.fail(p.last("cluster.listen", "listen.udp"), "cluster.listen", "%q is also listen.udp; give the nodes a port of their own", c.Listen)
	}
}
