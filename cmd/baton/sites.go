package main

import (
	"slices"
	"strings"
	"sync"

	"baton/cluster"
	"baton/config"
)

// kindSite is where browsers reach the sender's page.
const kindSite = "web.url"

// sites are the pages of the other nodes that are there, as origins: a page that has lost its node turns to theirs.
type sites struct {
	mu sync.Mutex
	of map[string]string // by node
}

// Others are the origins of the others' pages, always in the same order.
func (s *sites) Others() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, origin := range s.of {
		all = append(all, origin)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (s *sites) set(node, origin string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = map[string]string{}
	}
	if s.of[node] = origin; origin == "" {
		delete(s.of, node)
	}
}

// exchangeSites tells the nodes of each other's pages.
func (n *node) exchangeSites() {
	n.mesh.Handle(kindSite, func(from string, payload []byte) {
		origin, err := config.Origin(string(payload))
		if err != nil || !strings.HasPrefix(origin, "https://") {
			n.log.Warn("page of another node cannot be reached", "node", from, "url", string(payload))
			return
		}
		n.sites.set(from, origin)
	})
	n.mesh.Subscribe(func(e cluster.Event) {
		switch own := n.config.Web.URL; {
		case e.To.Ended():
			n.sites.set(e.Node.ID, "")
		case e.Why == cluster.Linked && own != "":
			if err := n.mesh.Send(e.Node.ID, kindSite, []byte(own)); err != nil {
				n.log.Info("node is not told", "node", e.Node.ID, "of", kindSite, "err", err)
			}
		}
	})
}
