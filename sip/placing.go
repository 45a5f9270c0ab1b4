package sip

import (
	"slices"
	"sync"
	"time"
)

// A new INVITE may be another node's to serve: that node has room, or has the call that is meant. It is challenged, counted and proved here, at the node
// whose nonce it has; then Options.Place says whose it is, and that node is given it together with whose it has proved to be. What belongs
// to the same transaction follows it there:
//
//	repeats, CANCEL        by Call-ID, tag and CSeq, as remembered here
//	ACK, PRACK, BYE …      by the To-tag, as all that is in a dialog (nodes.go)
//
// What was given to a node is served there, whatever that one has to do by then: nothing is passed on twice.

// Proof is whose a request has proved to be, and what it dials.
type Proof struct {
	User    string `json:"user"`
	Login   string `json:"login"`
	Dialled string `json:"dialled,omitempty"` // in place of the user part of the Request-URI, "" = as it was sent
}

// Place is where a new INVITE is served.
type Place struct {
	Node    string // "" = here
	Dialled string // Proof.Dialled
}

// maxPlacements is how many INVITEs are remembered that other nodes serve, or that it is found out of; what comes beyond is served here.
const maxPlacements = 8192

// placements are the new INVITEs that other nodes serve.
type placements struct {
	mu  sync.Mutex
	all map[mergeKey]*placement
}

type placement struct {
	node  string // "" = it is being found out
	until time.Time
	wait  []func() // what has come meanwhile, in order
}

// placementLimit is how long one is remembered: as long as its transaction may last, and be repeated.
func (t timing) placementLimit() time.Duration { return t.c + t.life() }

func (p *placements) open(key mergeKey, until time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil {
		p.all = make(map[mergeKey]*placement)
	}
	if p.all[key] != nil || len(p.all) >= maxPlacements {
		return false
	}
	p.all[key] = &placement{until: until}
	return true
}

// settle notes where an INVITE is served, "" = here, and gives what waits for that.
func (p *placements) settle(key mergeKey, node string) (wait []func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.all[key]
	if one == nil {
		return nil
	}
	wait, one.wait, one.node = one.wait, nil, node
	if node == "" {
		delete(p.all, key)
	}
	return wait
}

// of is the node that serves an INVITE; while that is found out then waits for it, if it is to.
func (p *placements) of(key mergeKey, then func()) (node string, known bool) {
	const most = 4 // a CANCEL, and its repeats
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.all[key]
	if one == nil {
		return "", false
	}
	if one.node == "" && then != nil && len(one.wait) < most {
		one.wait = append(one.wait, then)
	}
	return one.node, true
}

func (p *placements) tidy(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, one := range p.all {
		if now.After(one.until) {
			delete(p.all, key)
		}
	}
}

func mergeOf(r *Request) mergeKey { return mergeKey{r.callID, r.FromTag(), r.cseq} }

// placeable says that a message may begin a transaction that another node serves, or belong to one.
func (a *Agent) placeable(r *Request) bool {
	return a.opt.Place != nil && r != nil && r.flow.Node == "" && r.callID != "" && r.ToTag() == "" && (r.method == "INVITE" || r.method == "CANCEL")
}

// followed gives a repeat or a CANCEL to the node that serves its INVITE; true: nothing more is to be done with it. An INVITE that shows a
// password keeps its text, to be handed on with it.
func (a *Agent) followed(r *Request, data []byte) bool {
	if !a.placeable(r) {
		return false
	}
	var again func()
	if r.method == "CANCEL" {
		flow, kept := r.flow, slices.Clone(data)
		again = func() { a.read(kept, flow, false) }
	}
	node, known := a.placements.of(mergeOf(r), again)
	if !known {
		if r.method == "INVITE" && header(r.headers, "Authorization") != "" {
			r.text = slices.Clone(data)
		}
		return false
	}
	if node != "" {
		if err := a.opt.Nodes.Hand(node, r.flow, data); err != nil {
			a.log.Info("message is not handed to its node", "node", node, "err", err)
		}
	}
	return true
}

// place has it found out whose a new INVITE is that has proved its user; false: it is served here.
func (s *shard) place(r *Request) bool {
	a := s.agent
	if r.text == nil || !a.placeable(r) {
		return false
	}
	key := mergeOf(r)
	if !a.placements.open(key, time.Now().Add(a.timing.placementLimit())) {
		return false
	}
	if !a.opt.Place(r, func(p Place) { s.queue.Post(func() { s.placed(key, r, p) }) }) {
		a.placements.settle(key, "")
		return false
	}
	return true
}

// placed gives an INVITE to the node whose it is, or serves it.
func (s *shard) placed(key mergeKey, r *Request, p Place) {
	a := s.agent
	if p.Node != "" && p.Node != a.opt.Node {
		a.used(r.flow, p.Node)
		err := a.opt.Nodes.Begin(p.Node, r.flow, Proof{User: r.user, Login: r.login, Dialled: p.Dialled}, r.text)
		if err == nil {
			a.log.Debug("call is given to another node", "node", p.Node, "user", r.user, "call-id", r.callID)
			follow(a.placements.settle(key, p.Node))
			return
		}
		a.log.Info("call is not given to another node", "node", p.Node, "err", err)
	}
	if p.Dialled != "" {
		r.uri.User = p.Dialled
	}
	s.fresh(r)
	follow(a.placements.settle(key, ""))
}

func follow(wait []func()) {
	for _, fn := range wait {
		fn()
	}
}

// Begin takes a new INVITE that another node has read from a flow of its own and has proved to be a user's. data is the caller's again when it
// returns.
func (a *Agent) Begin(node string, f Flow, p Proof, data []byte) {
	defer a.survive()
	f.Node = node
	a.away.use(f)
	m, err := parse(data, f)
	r, ok := m.(*Request)
	if err != nil || !ok || r.method != "INVITE" || p.User == "" {
		a.log.Warn("new call of another node cannot be read", "node", node, "err", err)
		return
	}
	r.user, r.login = p.User, p.Login
	if p.Dialled != "" {
		r.uri.User = p.Dialled
	}
	s := a.shard(r.callID)
	a.enqueue(s, len(data), a.share(r), func() { s.request(r) })
}
