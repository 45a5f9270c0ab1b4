package faults

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/redis"
)

var network = netip.MustParsePrefix("10.79.0.0/24")

// Where things are in the network.
const (
	atNodes  = 1
	atRedis  = 11
	atPhones = 100
)

// place is a machine of its own: a namespace on the switch.
type place struct {
	net  *node.Network
	addr netip.Addr
}

// cluster is three nodes on a Redis with two replicas and three sentinels, each on a machine of its own.
type cluster struct {
	t       *testing.T
	nodes   []*member
	set     *redis.Set
	redises []place
	hub     *node.Switch
	history *History
	dir     string

	mu  sync.Mutex
	bad []string // lines that a log may not have
}

// member is a node of it.
type member struct {
	*node.Node
	place
	c    *cluster
	name string
	base node.Debug
	fds  int
	udp  int
}

func newCluster(t *testing.T, users map[string]string) *cluster {
	t.Helper()
	c := &cluster{t: t, history: &History{}, dir: *keep}
	if c.dir == "" {
		dir, err := os.MkdirTemp("", "baton-faults-")
		if err != nil {
			t.Fatal(err)
		}
		c.dir = dir
		t.Cleanup(func() {
			if !t.Failed() {
				os.RemoveAll(dir)
			}
		})
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c.hub = node.NewSwitch(t, network, atPhones, atPhones+3**pairs)
	var at []redis.Options
	for i := range 3 {
		p := c.place(atRedis + i)
		c.redises = append(c.redises, p)
		at = append(at, redis.Options{Host: p.addr.String(), Network: p.net, Args: []string{"--min-replicas-to-write", "1", "--min-replicas-max-lag", "1"}})
	}
	c.set = redis.StartSet(t, time.Second, at...)
	c.replicas(0) // users are made before all is at rest
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	file := filepath.Join(t.TempDir(), "cluster.key")
	if err := os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		m := &member{place: c.place(atNodes + i), c: c, name: fmt.Sprintf("n%d", i+1)}
		config := fmt.Sprintf("domain: soak.test\nlog:\n  level: %s\nmedia:\n  address: %s\n%sstore:\n  redis: %s\ncluster:\n  name: %s\n  key_file: %s\n  listen: \"%s:4080\"\n",
			*level, m.addr, unlimited, c.set.URL(), m.name, file, m.addr)
		if i > 0 {
			users = map[string]string{}
		}
		c.history.Began(m.name, time.Now())
		m.Node = node.Start(t, node.Options{Config: config, Users: users, Host: m.addr.String(), Network: m.net, Addr: m.addr, Log: c.log(m.name)})
		c.nodes = append(c.nodes, m)
	}
	c.replicas(1)
	return c
}

// replicas sets how many must hear a master for it to take writes.
func (c *cluster) replicas(n int) {
	for _, s := range c.set.Servers {
		if _, err := s.Do("CONFIG", "SET", "min-replicas-to-write", fmt.Sprint(n)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// unlimited has the nodes take whatever one address sends.
const unlimited = "limits:\n  stranger: 0\n  strangers: 0\n  source: 0\n  user: 0\n  calls: 1000000\n  cpu: 0\ncall:\n  per_user: 1000\n"

func (c *cluster) place(n int) place {
	p := place{node.NewNetwork(c.t), node.Host(network, n)}
	c.hub.Plug(p.net, p.addr)
	return p
}

// lines takes a node's log: into a file, and line by line to the history.
type lines struct {
	c    *cluster
	name string
	file *os.File
	rest []byte
}

func (c *cluster) log(name string) *lines {
	f, err := os.Create(filepath.Join(c.dir, name+".log"))
	if err != nil {
		c.t.Fatal(err)
	}
	return &lines{c: c, name: name, file: f}
}

// Write is called with the node's lock held.
func (l *lines) Write(b []byte) (int, error) {
	_, _ = l.file.Write(b)
	l.rest = append(l.rest, b...)
	for {
		n := bytes.IndexByte(l.rest, '\n')
		if n < 0 {
			return len(b), nil
		}
		line := string(l.rest[:n])
		l.rest = l.rest[n+1:]
		l.c.history.Read(l.name, line)
		if scan(line) {
			l.c.mu.Lock()
			l.c.bad = append(l.c.bad, l.name+": "+line)
			l.c.mu.Unlock()
		}
	}
}

// badLines are those since it was asked last.
func (c *cluster) badLines() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	bad := c.bad
	c.bad = nil
	return bad
}

// said is what the nodes' logs have about a call, the last lines.
func (c *cluster) said(call string) string {
	if call == "" {
		return ""
	}
	var all []string
	for _, m := range c.nodes {
		b, _ := os.ReadFile(filepath.Join(c.dir, m.name+".log"))
		var own []string
		for _, line := range strings.Split(string(b), "\n") {
			if strings.Contains(line, call) {
				own = append(own, "    "+m.name+" "+line)
			}
		}
		all = append(all, own[max(0, len(own)-40):]...)
	}
	return strings.Join(all, "\n")
}

// kill ends a node by SIGKILL.
func (m *member) kill() {
	m.Kill()
	m.c.history.Ended(m.name, time.Now())
}

func (m *member) run() {
	m.c.history.Began(m.name, time.Now())
	m.Run()
}

// cut drops all between a place and others, without a word.
func (p place) cut(others ...place) {
	for _, o := range others {
		_, _ = p.net.Try("iptables", "-w", "-I", "INPUT", "-s", o.addr.String(), "-j", "DROP")
		_, _ = p.net.Try("iptables", "-w", "-I", "OUTPUT", "-d", o.addr.String(), "-j", "DROP")
	}
}

// alone drops all between a place and anybody.
func (p place) alone() {
	for _, chain := range []string{"INPUT ! -i lo", "OUTPUT ! -o lo"} {
		_, _ = p.net.Try("iptables", strings.Fields("-w -I "+chain+" -j DROP")...)
	}
}

// lossy drops some of what comes and goes.
func (p place) lossy(part float64) {
	for _, chain := range []string{"INPUT", "OUTPUT"} {
		_, _ = p.net.Try("iptables", strings.Fields(fmt.Sprintf("-w -I %s -p udp -m statistic --mode random --probability %.3f -j DROP", chain, part))...)
	}
}

// heal ends all of these.
func (p place) heal() { _, _ = p.net.Try("iptables", "-w", "-F") }

func (c *cluster) others(m *member) (all []place) {
	for _, o := range c.nodes {
		if o != m {
			all = append(all, o.place)
		}
	}
	return all
}

// master is the Redis server that is master now, and its place; nil where nobody knows.
func (c *cluster) master() (*redis.Server, place) {
	one := c.set.Master()
	for i, s := range c.set.Servers {
		if s == one {
			return s, c.redises[i]
		}
	}
	return nil, place{}
}

// well waits until all is as it should be: nodes that know each other, a master with two replicas, and long enough for a takeover.
func (c *cluster) well() error {
	var err error
	for end := time.Now().Add(2 * later); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if err = c.ill(); err == nil {
			time.Sleep(3500 * time.Millisecond)
			if err = c.ill(); err == nil {
				return nil
			}
		}
	}
	return fmt.Errorf("the cluster does not recover: %w", err)
}

func (c *cluster) ill() error {
	for _, m := range c.nodes {
		var known []struct{ ID, State string }
		if err := m.JSON(&known, "nodes", "--json"); err != nil {
			return err
		}
		alive := 0
		for _, k := range known {
			if k.State == "alive" {
				alive++
			}
		}
		if alive != len(c.nodes) {
			return fmt.Errorf("%s knows %+v", m.name, known)
		}
	}
	master, _ := c.master()
	if master == nil {
		return fmt.Errorf("the sentinels know no master")
	}
	text, err := master.Do("INFO", "replication")
	if err != nil || strings.Count(text, "state=online") != 2 {
		return fmt.Errorf("the master of Redis has not two replicas: %s, %w", text, err)
	}
	return nil
}
