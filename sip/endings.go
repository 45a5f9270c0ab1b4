package sip

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// ending is why a connection was closed or never taken.
type ending int

const (
	endByPeer ending = iota
	endStopped
	endSlowHandshake
	endBadHandshake
	endSlowFirst
	endSlowMessage
	endIdle
	endVanished
	endUnread
	endFraming
	endDisplaced
	endSignedOut
	refusedSource
	refusedTotal
	refusedStopped
	allEndings
)

// endings are the names under which each is counted.
var endings = [allEndings]string{
	endByPeer:        "by_peer",
	endStopped:       "node_stopped",
	endSlowHandshake: "slow_handshake", // TLS not done in time
	endBadHandshake:  "bad_handshake",  // no TLS, or none that both can
	endSlowFirst:     "slow_first",     // no whole message in time
	endSlowMessage:   "slow_message",   // a later message not whole in time
	endIdle:          "idle",
	endVanished:      "vanished", // the kernel's keep-alives or our data unanswered
	endUnread:        "unread",   // the peer does not read what it is sent
	endFraming:       "framing",  // not SIP, or a length that cannot be
	endDisplaced:     "displaced",
	endSignedOut:     "signed_out", // what its user had logged in with was revoked
	refusedSource:    "source",
	refusedTotal:     "total",
	refusedStopped:   "node_stopped",
}

func (e ending) String() string { return endings[e] }

// refused tells a connection that was never taken from one that was closed.
func (e ending) refused() bool { return e >= refusedSource }

// ours tells an end that the node brought about because of how the peer behaved.
func (e ending) ours() bool {
	switch e {
	case endByPeer, endStopped, endIdle, endVanished, endSignedOut:
		return false
	}
	return true
}

// tellClosed logs the end of a connection; one that may need a person's attention is told at the usual level, seldom.
func (a *Agent) tellClosed(s *stream, err error) {
	why, level, unsaid := s.reason(), slog.LevelDebug, 0
	if why.ours() {
		if n, ok := a.seldom.allow(why.String()); ok {
			level, unsaid = slog.LevelInfo, n
		}
	}
	a.log.Log(context.Background(), level, "connection closed", "transport", s.flow.Transport,
		"from", s.flow.Remote.String(), "why", why, "err", err, "unsaid", unsaid)
}

// endCounts counts connections by how they ended.
type endCounts [allEndings]atomic.Uint64

// Connections counts the TCP, TLS and WebSocket connections of a node: those open now, and since its start those closed and those
// not taken, by reason. docs/operate.md has the reasons.
type Connections struct {
	Open         int               `json:"open"`
	Devices      int               `json:"devices"` // of those open: somebody has logged in
	Closed       map[string]uint64 `json:"closed"`
	Refused      map[string]uint64 `json:"refused"`
	AcceptErrors uint64            `json:"accept_errors"`
}

// Connections counts at this moment. Reasons that never occurred are left out.
func (a *Agent) Connections() Connections {
	c := Connections{Closed: map[string]uint64{}, Refused: map[string]uint64{}, AcceptErrors: a.acceptErrors.Load()}
	for e := range allEndings {
		n := a.ended[e].Load()
		switch {
		case n == 0:
		case e.refused():
			c.Refused[e.String()] = n
		default:
			c.Closed[e.String()] = n
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	c.Open = len(a.streams)
	for _, s := range a.streams {
		if s.trusted.Load() {
			c.Devices++
		}
	}
	return c
}
