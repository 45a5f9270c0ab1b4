package main

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"baton/cluster"
)

// Nodes tell each other whose calls have changed, and whether these users are in calls of theirs: what watches a user's calls at one node is
// woken by what happens at another, and who looks for a user's call asks only nodes that have one.

// kindCallers is the message with the users.
const kindCallers = "call.users"

// tellEvery is the pause between two messages, whatever happens meanwhile.
const tellEvery = 50 * time.Millisecond

// told is what a node says of its users' calls.
type told struct {
	All   bool            `json:"all,omitempty"` // of nobody else it has calls
	Users map[string]bool `json:"users"`         // whether each is in a call there
}

// callers are the users who are in calls of other nodes.
type callers struct {
	n    *node
	wake <-chan struct{}
	take func() map[string]bool

	mu sync.Mutex
	of map[string]map[string]bool // by node; only who is in a call there
	// behind are the nodes that are to be told of all: they are new, or there was no room for a message.
	behind map[string]bool
}

// exchangeCallers tells the nodes of each other's callers. The calls are there by now.
func (n *node) exchangeCallers() {
	c := &callers{n: n, of: map[string]map[string]bool{}, behind: map[string]bool{}}
	c.wake, c.take = n.calls.Touched()
	n.callers = c
	n.mesh.Handle(kindCallers, c.hear)
	n.mesh.Subscribe(func(e cluster.Event) {
		switch {
		case e.To.Ended():
			c.learn(e.Node.ID, told{All: true})
		case e.Why == cluster.Linked:
			c.mu.Lock()
			c.behind[e.Node.ID] = true
			c.mu.Unlock()
		}
	})
}

// run tells the others until ctx ends.
func (c *callers) run(ctx context.Context) error {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		select {
		case <-c.wake:
			c.tell(told{Users: c.take()})
		default:
			c.tell(told{})
		}
	}
}

// tell sends what is new to all who are linked, and everything to those who are behind.
func (c *callers) tell(news told) {
	c.mu.Lock()
	behind := c.behind
	c.behind = map[string]bool{}
	c.mu.Unlock()
	if len(behind) > 0 {
		all := told{All: true, Users: map[string]bool{}}
		for _, user := range c.n.calls.Callers() {
			all.Users[user] = true
		}
		for node := range behind {
			c.send(node, all)
		}
	}
	if len(news.Users) == 0 {
		return
	}
	for _, node := range (peers{c.n}).Names() {
		if !behind[node] {
			c.send(node, news)
		}
	}
}

func (c *callers) send(node string, t told) {
	b, err := json.Marshal(t)
	if err == nil {
		err = c.n.mesh.Send(node, kindCallers, b)
	}
	if err != nil && c.n.mesh.Linked(node) {
		c.mu.Lock()
		c.behind[node] = true
		c.mu.Unlock()
	}
}

func (c *callers) hear(from string, payload []byte) {
	var t told
	if err := json.Unmarshal(payload, &t); err != nil {
		c.n.log.Warn("message of another node cannot be read", "node", from, "err", err)
		return
	}
	c.learn(from, t)
}

// learn notes who is in a node's calls, and wakes those who watch the calls of users for whom that is news.
func (c *callers) learn(node string, t told) {
	news := map[string]bool{}
	c.mu.Lock()
	in := c.of[node]
	if in == nil || t.All {
		for user := range in {
			news[user] = true
		}
		in = map[string]bool{}
		c.of[node] = in
	}
	for user, there := range t.Users {
		news[user] = true
		if in[user] = true; !there {
			delete(in, user)
		}
	}
	c.mu.Unlock()
	c.n.calls.ChangedElsewhere(news)
}

// with are the nodes that a user is in calls of, in the order of their names.
func (c *callers) with(user string) (all []string) {
	c.mu.Lock()
	for node, in := range c.of {
		if in[user] {
			all = append(all, node)
		}
	}
	c.mu.Unlock()
	all = slices.DeleteFunc(all, func(node string) bool { return !c.n.mesh.Linked(node) })
	slices.Sort(all)
	return all
}
