package sip

import "net/netip"

// Flow names the very connection or UDP 5-tuple that a message came over (RFC 5626 §3). It is a plain, comparable
// value; a stored flow of a connection that is gone (or of an earlier run of the node) is dead, never dialled.
type Flow struct {
	Transport string         `json:"transport"` // udp, tcp, tls
	Local     netip.AddrPort `json:"local"`
	Remote    netip.AddrPort `json:"remote"`
	ID        uint64         `json:"id,omitempty"` // connection number, unique over runs (random high half); 0 on UDP
}
