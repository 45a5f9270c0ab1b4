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
	ID        uint64         `json:"id,omitempty"` // connection number, unique over runs (random high half); 0 on UDP
}

func (f Flow) String() string { return f.Transport + ":" + f.Remote.String() }

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
func (a *Agent) Alive(f Flow) bool {
	if !f.reliable() {
		return a.udp != nil && a.udp.has(f.Local) && f.Remote.IsValid()
	}
	return a.stream(f) != nil
}

// CloseFlow ends the connection of a flow whose user is no longer welcome. UDP has none to end.
func (a *Agent) CloseFlow(f Flow) {
	if s := a.stream(f); s != nil {
		s.close(endSignedOut)
	}
}

// send writes one message over a flow. It does not block: a stream that does not drain is closed.
func (a *Agent) send(f Flow, data []byte) error {
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

// gone is a channel that closes with the flow's connection; nil, which never does, for UDP.
func (a *Agent) gone(f Flow) <-chan struct{} {
	if s := a.stream(f); s != nil {
		return s.done
	}
	return nil
}
