package sip

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// A node of a cluster is the edge of the devices that are connected to it, and the owner of some calls. What belongs to another
// node's call is handed to that node whole, after the edge's own limits have let it pass, and the owner handles it as if it had
// come in there: transaction, digest, dialog. What the owner sends goes out at the edge, over the flow that it names. The edge
// keeps nothing of it.
//
// Which node a message belongs to:
//
//	a response     the node whose tag stands in the branch of our Via
//	in a dialog    this one, if the dialog or a transaction of it is known here; else the dialog's owner as Nodes finds it; else
//	               the node whose tag stands in the Request-URI, which is the Contact that we gave, or else in our tag of the dialog
//	a new INVITE   the node that has room for it, or the call that it means (placing.go)
//	anything else  this one
//
// What was handed on once is never handed on again.

// Nodes is what an Agent needs of the other nodes of its cluster. None of its methods may block, or keep data.
type Nodes interface {
	// Linked says whether a node can be given messages now.
	Linked(node string) bool
	// Send has a node write a message to a flow of its own. An error says that the node was not asked.
	Send(node string, f Flow, data []byte) error
	// Hand has a node handle a message that this node has read from a flow of its own.
	Hand(node string, f Flow, data []byte) error
	// Begin has a node serve a new INVITE that this node has read from a flow of its own and that has proved whose it is.
	Begin(node string, f Flow, p Proof, data []byte) error
	// Failed tells all nodes of a login that has failed.
	Failed(f Flow, user string)
	// Gone tells a node that a flow of this node, which that one has used, is no more.
	Gone(node string, f Flow)
	// Close has a node close a flow of its own.
	Close(node string, f Flow)
	// Tagged is the node with a tag (NodeTag), this one too; "" = there is none.
	Tagged(tag string) string
	// Owner is the node that a dialog belongs to, this one too; "" = not known, Untaken = that of a call which its node has not taken up yet.
	Owner(d DialogID) string
	// Seek has then called, later and in order, when Owner can tell of a dialog; false: there is nothing to wait for.
	Seek(d DialogID, then func()) bool
	// Own says whether a host is another node's: any node takes any node's URI for its own.
	Own(host string) bool
}

// Untaken is no node: a dialog that it owns goes on soon, its node has only claimed the call so far. It is linked to nobody.
const Untaken = "\x00"

// tagDigits is how long a node's tag is.
const tagDigits = 8

// NodeTag is the short form of a node's name, for branches, tags and Contacts.
func NodeTag(node string) string {
	sum := sha256.Sum256([]byte(node))
	return hex.EncodeToString(sum[:])[:tagDigits]
}

// A mark is a node's tag between two letters that are no digits of what follows.
const (
	markBegin, markEnd = "n", "x"
	markParam          = "baton-node" // of a Contact's URI
)

// markOf is what this node's branches and tags begin with, "" without a cluster.
func markOf(o Options) string {
	if o.Nodes == nil {
		return ""
	}
	return markBegin + NodeTag(o.Node) + markEnd
}

// marked is the tag of the node that has made a branch or tag, "" if none can be read.
func marked(s string) string {
	s, ok := strings.CutPrefix(s, markBegin)
	if !ok || len(s) <= tagDigits || s[tagDigits:tagDigits+1] != markEnd {
		return ""
	}
	return s[:tagDigits]
}

// NewDialog is the function of this name, with a tag by which a request in the dialog that comes in at another node finds this one.
func (a *Agent) NewDialog(local, remote NameAddr, target string, route []string, flow Flow, epoch uint64) Dialog {
	d := NewDialog(local, remote, target, route, flow, epoch)
	d.LocalTag = a.mark + d.LocalTag
	return d
}

// At is the flow as another node names it: a node's own flows have no node.
func (f Flow) At(from, to string) Flow {
	if f.Node == "" {
		f.Node = from
	}
	if f.Node == to {
		f.Node = ""
	}
	return f
}

// elsewhere is the node that a message which was read here belongs to, "" = this one. away says that it belongs to another node
// that cannot be given it now.
func (a *Agent) elsewhere(m *message, r *Request) (node string, away bool) {
	n := a.opt.Nodes
	if n == nil {
		return "", false
	}
	if m.flow.Node != "" {
		return "", r != nil && a.strange(r) && n.Owner(dialogOf(r)) == Untaken
	}
	if r == nil {
		branch, _ := strings.CutPrefix(m.via.branch(), magic)
		if node = n.Tagged(marked(branch)); a.shard(m.callID).waits(m) { // as if this node had asked: it has taken the call over
			node = ""
		}
	} else if a.strange(r) {
		node = a.ownerOf(r)
	}
	if node == "" || node == a.opt.Node {
		return "", false
	}
	return node, !n.Linked(node)
}

// strange says that a request is in a dialog that this node does not know.
func (a *Agent) strange(r *Request) bool {
	return r.callID != "" && r.ToTag() != "" && r.method != "REGISTER" && !a.shard(r.callID).known(r)
}

func dialogOf(r *Request) DialogID { return DialogID{r.callID, r.ToTag(), r.FromTag()} }

// ownerOf is the node that a request in a dialog belongs to, "" = not known.
func (a *Agent) ownerOf(r *Request) string {
	n := a.opt.Nodes
	if node := n.Owner(dialogOf(r)); node != "" {
		return node
	}
	tag, _ := r.uri.Params.Get(markParam)
	if node := n.Tagged(tag); node != "" {
		return node
	}
	return n.Tagged(marked(r.ToTag()))
}

// known says whether a request in a dialog belongs to a dialog or transaction of this node.
func (s *shard) known(r *Request) bool {
	id, method := dialogOf(r), r.method
	if method == "ACK" || method == "CANCEL" {
		method = "INVITE"
	}
	key := serverKey(r, method)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dialogs[id] != nil || s.servers[key] != nil || s.acks[ackKey{id, r.cseq}] != nil || s.answers.find(serverKey(r, r.method)) != nil
}

// waits says whether a transaction of this node waits for a response.
func (s *shard) waits(m *message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clients[clientKey{m.via.branch(), m.method}] != nil
}

// sought says that a request waits until it is known whose it is: one in a dialog that this node does not know. Where that cannot be
// found out the request itself tells.
func (a *Agent) sought(r *Request, data []byte) bool {
	n := a.opt.Nodes
	if n == nil || !a.strange(r) {
		return false
	}
	flow := r.flow
	kept := slices.Clone(data)
	return n.Seek(dialogOf(r), func() { a.read(kept, flow, true) })
}

// handed hands a message to the node that it belongs to; true: nothing more is to be done with it.
func (a *Agent) handed(m *message, r *Request, data []byte) bool {
	node, away := a.elsewhere(m, r)
	switch {
	case node == "" && !away:
		return false
	case away && r != nil && r.method != "ACK": // the dialog may live on (RFC 5057 §5.1): its owner is soon back, or another
		a.stateless(r, Reply{Code: 500, Reason: "Node Not Reached", Headers: []Header{RetryAfter(1, 3)}})
	case away:
	default:
		a.used(m.flow, node)
		if err := a.opt.Nodes.Hand(node, m.flow, data); err != nil {
			a.log.Info("message is not handed to its node", "node", node, "err", err)
		}
	}
	return true
}

// used notes that a node uses a connection of this one, so that it is told of its end.
func (a *Agent) used(f Flow, node string) {
	if s := a.stream(f); s != nil {
		s.users.add(node)
	}
}

// users are the nodes that have used a connection.
type users struct {
	mu    sync.Mutex
	nodes map[string]bool
}

func (u *users) add(node string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.nodes == nil {
		u.nodes = make(map[string]bool)
	}
	u.nodes[node] = true
}

// tellGone tells those who have used a connection that it is no more.
func (a *Agent) tellGone(s *stream) {
	s.users.mu.Lock()
	nodes := maps.Clone(s.users.nodes)
	s.users.mu.Unlock()
	for node := range nodes {
		a.opt.Nodes.Gone(node, s.flow)
	}
}

// Inject takes a message that another node has read from a flow of its own and let pass. data is the caller's again when it
// returns.
func (a *Agent) Inject(node string, f Flow, data []byte) {
	f.Node = node
	a.away.use(f)
	a.receive(data, f)
}

// Deliver writes a message of another node to a flow of this one; that node is told if the flow is no more.
func (a *Agent) Deliver(node string, f Flow, data []byte) {
	f.Node = ""
	a.used(f, node)
	if err := a.write(f, data); err != nil {
		a.log.Debug("message of another node is not sent", "node", node, "err", err)
		a.opt.Nodes.Gone(node, f)
	}
}

// Hold notes that a node goes on using these flows of this one; it is told of those that are no more.
func (a *Agent) Hold(node string, flows []Flow) {
	for _, f := range flows {
		f.Node = ""
		a.used(f, node)
		if !a.Alive(f) {
			a.opt.Nodes.Gone(node, f)
		}
	}
}

// Held are the flows of another node that this one uses.
func (a *Agent) Held(node string) []Flow { return a.away.of(node) }

// FlowGone is told that a flow of another node is no more: what waits for it ends.
func (a *Agent) FlowGone(node string, f Flow) {
	f.Node = node
	if a.away.end(f) && a.opt.FlowClosed != nil {
		a.guard(func() { a.opt.FlowClosed(f) })
	}
}

// NodeGone is told that a node has ended, and with it all its flows.
func (a *Agent) NodeGone(node string) {
	for _, f := range a.away.endNode(node) {
		if a.opt.FlowClosed != nil {
			a.guard(func() { a.opt.FlowClosed(f) })
		}
	}
}

// NodeBack is told that a node which NodeGone was told of is there. lived: it had not ended, it could not be reached; its flows are what they were.
func (a *Agent) NodeBack(node string, lived bool) { a.away.back(node, lived) }

// sendAway has another node send a message over a flow of its own.
func (a *Agent) sendAway(f Flow, data []byte) error {
	if !a.Alive(f) {
		return fmt.Errorf("send over %s: %w", f, ErrFlowGone)
	}
	a.away.use(f)
	there := f
	there.Node = ""
	if err := a.opt.Nodes.Send(f.Node, there, data); err != nil {
		return fmt.Errorf("send over %s: %w: %w", f, ErrFlowGone, err)
	}
	return nil
}
