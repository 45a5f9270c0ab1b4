package sip

import (
	"errors"
	"fmt"
	"net/netip"
)

// Flow names the very connection or UDP 5-tuple that a message came over (RFC 5626 §3). It is a plain, comparable
// value; a stored flow of a connection that is gone (or of an earlier run of the node) is dead, never dialled.
type Flow struct {
	Transport string         `json:"transport"` // udp, tcp, tls, wss
	Local     netip.AddrPort `json:"local"`
	Remote    netip.AddrPort `json:"remote"`
	ID        uint64         `json:"id,omitempty"`   // connection number, unique over runs (random high half); 0 on UDP
	Node      string         `json:"node,omitempty"` // whose it is, "" = this node's
}

func (f Flow) String() string {
	if f.Node != "" {
		return f.Transport + ":" + f.Remote.String() + " at " + f.Node
	}
	return f.Transport + ":" + f.Remote.String()
}

// reliable reports whether the transport repeats what was lost, so that transactions need not.
func (f Flow) reliable() bool { return f.Transport != "udp" }

// uriTransport is the transport as a URI names it, "" where none need be: `ws` stands for both kinds of WebSocket (RFC 7118 §5.2).
func (f Flow) uriTransport() string {
	switch f.Transport {
	case "udp":
		return ""
	case "wss":
		return "ws"
	}
	return f.Transport
}

// Alive reports whether a request can be sent over the flow: its connection is open, or its UDP listener is ours.
// One of another node can as long as that node is linked and has not told of its end.
func (a *Agent) Alive(f Flow) bool {
	if f.Node != "" {
		return a.opt.Nodes != nil && a.opt.Nodes.Linked(f.Node) && !a.away.dead(f)
	}
	if !f.reliable() {
		return a.udp != nil && a.udp.has(f.Local) && f.Remote.IsValid()
	}
	return a.stream(f) != nil
}

// FlowTo is the flow over UDP from this node to an address, which may have spoken to another node until now; false: this node has
// no UDP.
func (a *Agent) FlowTo(remote netip.AddrPort) (Flow, bool) {
	if a.udp == nil || !remote.IsValid() {
		return Flow{}, false
	}
	f := Flow{Transport: "udp", Remote: remote}
	f.Local = a.udp.at(a.edge.towards(f))
	return f, true
}

// CloseFlow ends the connection of a flow whose user is no longer welcome. UDP has none to end.
func (a *Agent) CloseFlow(f Flow) {
	if f.Node != "" && a.opt.Nodes != nil {
		there := f
		there.Node = ""
		a.opt.Nodes.Close(f.Node, there)
		return
	}
	if s := a.stream(f); s != nil {
		s.close(endSignedOut)
	}
}

// send says something over a flow, unless it is another's to say. While the agent may not speak it is kept: whose it is will be known then. Nobody is told
// that it is not said yet, for that says nothing of the peer, and what goes over a connection is not repeated.
func (a *Agent) send(f Flow, data []byte) error {
	if taken, err := a.keep(f, data); taken {
		return err
	}
	if a.silence.yields(data) {
		return errSilent
	}
	return a.write(f, data)
}

// write writes one message over a flow. It does not block: a stream that does not drain is closed.
func (a *Agent) write(f Flow, data []byte) error {
	if f.Node != "" {
		return a.sendAway(f, data)
	}
	if !f.reliable() {
		return a.sendUDP(f, data)
	}
	s := a.stream(f)
	if s == nil {
		return fmt.Errorf("send over %s: %w", f, ErrFlowGone)
	}
	return s.send(data)
}

func (a *Agent) sendUDP(f Flow, data []byte) error {
	if !a.Alive(f) {
		return fmt.Errorf("send over %s: %w", f, ErrFlowGone)
	}
	if err := a.udp.send(f, data); err != nil {
		return fmt.Errorf("send over %s: %w", f, errors.Join(ErrFlowGone, err))
	}
	return nil
}

// stream finds the open connection of a flow, nil if it is gone.
func (a *Agent) stream(f Flow) *stream {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.streams[f.ID]
	if s == nil || s.flow != f {
		return nil
	}
	return s
}

// gone is a channel that closes with the flow's connection, or with the node that the flow is at; nil, which never does, for
// UDP here.
func (a *Agent) gone(f Flow) <-chan struct{} {
	if f.Node != "" {
		return a.away.use(f)
	}
	if s := a.stream(f); s != nil {
		return s.done
	}
	return nil
}
