// Package edge carries SIP messages between the nodes of a cluster: what a device sends to one node goes to the node that owns its
// call, and what that one answers goes out where the device is connected. It knows nothing of what the messages say.
package edge

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"baton/cluster"
	"baton/sip"
)

// The kinds of messages.
const (
	kindRead  = "sip.read"  // was read from a flow of the sender, for the receiver to handle
	kindBegin = "sip.begin" // a new INVITE that was read from a flow of the sender, and whose it is
	kindSend  = "sip.send"  // to be written to a flow of the receiver
	kindGone  = "sip.gone"  // a flow of the sender is no more
	kindClose = "sip.close" // a flow of the receiver, to be closed
	kindHold  = "sip.hold"  // the flows of the receiver that the sender uses
	kindFail  = "sip.fail"  // a login has failed over a flow of the sender; the user stands behind
	kindHosts = "sip.hosts" // what the sender is called
)

// Edge is what a sip.Agent needs of its cluster, over the mesh.
type Edge struct {
	// set once
	mesh   *cluster.Mesh
	owners *owners
	agent  *sip.Agent
	log    *slog.Logger

	gone map[string]string // by node: the run of it that is taken for dead. Of changed alone

	mu    sync.RWMutex
	tags  map[string]string   // the node by its tag
	hosts map[string][]string // by node
}

// New makes the edge of a mesh that does not run yet. find finds the node whose a dialog with a Call-ID is, "" = there is none; nil = it is
// never found.
func New(m *cluster.Mesh, find func(ctx context.Context, callID string) (string, error), log *slog.Logger) *Edge {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	self := m.Self().ID
	return &Edge{mesh: m, owners: newOwners(find), log: log, tags: map[string]string{sip.NodeTag(self): self}, hosts: map[string][]string{}, gone: map[string]string{}}
}

// Serve has an agent serve what other nodes bring. It is called once, before the mesh runs.
func (e *Edge) Serve(a *sip.Agent) {
	e.agent = a
	flows := map[string]func(node string, f sip.Flow, data []byte){
		kindRead:  a.Inject,
		kindSend:  a.Deliver,
		kindGone:  func(node string, f sip.Flow, _ []byte) { a.FlowGone(node, f) },
		kindFail:  func(_ string, f sip.Flow, user []byte) { a.Failed(f, string(user)) },
		kindClose: func(_ string, f sip.Flow, _ []byte) { a.CloseFlow(f) },
	}
	for kind, fn := range flows {
		e.mesh.Handle(kind, func(from string, payload []byte) {
			f, data, err := unpack(payload)
			if err != nil {
				e.log.Warn("message of another node cannot be read", "node", from, "err", err)
				return
			}
			fn(from, f, data)
		})
	}
	e.mesh.Handle(kindBegin, func(from string, payload []byte) {
		var b begun
		data, err := openPacked(payload, &b)
		if err != nil {
			e.log.Warn("message of another node cannot be read", "node", from, "err", err)
			return
		}
		a.Begin(from, b.Flow, b.Proof, data)
	})
	hear(e, kindHold, a.Hold)
	hear(e, kindHosts, e.called)
	e.mesh.Subscribe(e.changed)
}

// begun is what goes before a new INVITE.
type begun struct {
	Flow  sip.Flow  `json:"flow"`
	Proof sip.Proof `json:"proof"`
}

// pack puts a flow, or what else is to be known of it, before a message.
func pack(about any, data []byte) ([]byte, error) {
	head, err := json.Marshal(about)
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(head)+len(data)), uint16(len(head)))
	return append(append(b, head...), data...), nil
}

var errShort = errors.New("it is shorter than it says")

// unpack takes them apart; the flow is one of the node that it was sent to or by: it never names a third.
func unpack(b []byte) (f sip.Flow, data []byte, err error) {
	data, err = openPacked(b, &f)
	f.Node = ""
	return f, data, err
}

// openPacked reads what stands before a message.
func openPacked(b []byte, about any) (data []byte, err error) {
	if len(b) < 2 {
		return nil, errShort
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return nil, errShort
	}
	return b[2+n:], json.Unmarshal(b[2:2+n], about)
}

func (e *Edge) send(node, kind string, f sip.Flow, data []byte) error {
	f.Node = ""
	b, err := pack(f, data)
	if err != nil {
		return err
	}
	return e.mesh.Send(node, kind, b)
}

// Linked says whether a node can be given messages now.
func (e *Edge) Linked(node string) bool { return e.mesh.Linked(node) }

// Send has a node write a message to a flow of its own.
func (e *Edge) Send(node string, f sip.Flow, data []byte) error {
	return e.send(node, kindSend, f, data)
}

// Hand has a node handle a message that was read here.
func (e *Edge) Hand(node string, f sip.Flow, data []byte) error {
	return e.send(node, kindRead, f, data)
}

// Begin has a node serve a new INVITE that was read here.
func (e *Edge) Begin(node string, f sip.Flow, p sip.Proof, data []byte) error {
	f.Node = ""
	b, err := pack(begun{f, p}, data)
	if err != nil {
		return err
	}
	return e.mesh.Send(node, kindBegin, b)
}

// Gone tells a node that a flow of this one is no more. When it cannot be told it asks, once it is linked again.
func (e *Edge) Gone(node string, f sip.Flow) { _ = e.send(node, kindGone, f, nil) }

// Failed tells all nodes that a login has failed.
func (e *Edge) Failed(f sip.Flow, user string) {
	for _, p := range e.mesh.Peers() {
		if !p.Self && p.Linked {
			_ = e.send(p.ID, kindFail, f, []byte(user)) // one that is not told counts its own
		}
	}
}

// Close has a node close a flow of its own.
func (e *Edge) Close(node string, f sip.Flow) { _ = e.send(node, kindClose, f, nil) }

// Tagged is the node with a tag.
func (e *Edge) Tagged(tag string) string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.tags[tag]
}

// Own says whether a host is another node's.
func (e *Edge) Own(host string) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, hosts := range e.hosts {
		if slices.ContainsFunc(hosts, func(h string) bool { return strings.EqualFold(h, host) }) {
			return true
		}
	}
	return false
}

// changed follows the other nodes.
func (e *Edge) changed(ev cluster.Event) {
	node := ev.Node.ID
	switch {
	case node == e.mesh.Self().ID:
	case ev.To.Ended():
		e.owners.forget()
		e.gone[node] = ev.Node.Instance
		e.agent.NodeGone(node)
	case ev.Why == cluster.Linked:
		if instance, ok := e.gone[node]; ok {
			delete(e.gone, node)
			e.agent.NodeBack(node, instance == ev.Node.Instance)
		}
		e.met(node)
	}
}

// met tells a node that is linked (again) what this one is called, and which flows of it are used here: their end may have been
// missed meanwhile.
func (e *Edge) met(node string) {
	e.mu.Lock()
	e.tags[sip.NodeTag(node)] = node
	e.mu.Unlock()
	e.say(node, kindHosts, e.agent.Hosts())
	if flows := e.agent.Held(node); len(flows) > 0 {
		e.say(node, kindHold, flows)
	}
}

// say sends what is read by hear.
func (e *Edge) say(node, kind string, what any) {
	b, err := json.Marshal(what)
	if err == nil {
		err = e.mesh.Send(node, kind, b)
	}
	if err != nil {
		e.log.Info("node is not told", "node", node, "of", kind, "err", err)
	}
}

// hear takes a list of another node's.
func hear[T any](e *Edge, kind string, take func(node string, all []T)) {
	e.mesh.Handle(kind, func(from string, payload []byte) {
		var all []T
		if err := json.Unmarshal(payload, &all); err != nil {
			e.log.Warn("message of another node cannot be read", "node", from, "err", err)
			return
		}
		take(from, all)
	})
}

func (e *Edge) called(node string, hosts []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hosts[node] = hosts
}
