// Package journal is the log of what happened to devices and calls, for people to read; it knows only values.
package journal

import "time"

// Kind says what an Entry tells of.
type Kind string

// The kinds of entries, each with the fields it fills besides Time and Kind.
const (
	DeviceNew          Kind = "device-new"   // User, Device, Text (name and index in words)
	DeviceRegistered   Kind = "registered"   // User, Device; Duration = how long it had been away, if it had
	DeviceAway         Kind = "away"         // User, Device, Text (why); Duration = how long it had been here
	DeviceUnregistered Kind = "unregistered" // User, Device; Duration = how long it had been here
	CallStarted        Kind = "call-started" // Call, User (caller), Device, Peer (whom), Text
	CallAnswered       Kind = "call-answered"
	CallMoved          Kind = "call-moved"       // User, Device (to), From (device), Peer (far side), Text (how); Data: how, who, switch_ms, gap_ms, lost, …, and Into for a transfer
	CallMoveFailed     Kind = "move-failed"      // User, Device (to), From (device), Peer (whose device), Text (why); Data: how, who, code (SIP status)
	CompanionJoined    Kind = "companion-joined" // User, Device, Text (how, by whom)
	CompanionLeft      Kind = "companion-left"   // User, Device
	CallLeft           Kind = "call-left"        // User, Device (that was hung up), Peer (who waits), Text (how); Data: how, who
	CallLost           Kind = "call-lost"        // User, Device (that is gone), Peer (who waits), Text (why)
	CallRejoined       Kind = "call-rejoined"    // User, Device (that has the call now), Peer (who has waited), Text (how); Duration = how long the seat was empty
	CallForwarded      Kind = "call-forwarded"   // User (caller), From (who has calls forwarded), Peer (to whom), Text (why)
	CallPickedUp       Kind = "call-picked-up"   // User (who has answered), Device, From (for whom it rang), Peer (who is on the other side)
	CallMissed         Kind = "call-missed"      // User (caller), Peer (who was called), Text (why); Duration = since the call began
	CallEnded          Kind = "call-ended"       // Call, User, Peer, Text (why, by whom); Duration = talk time
)

// Into is the name in Data of the user who has been given a call, where that is another than User: a transfer.
const Into = "into"

// Entry is one line of the log. It is a plain value that any node can read back.
type Entry struct {
	Time     time.Time         `json:"time"`
	Kind     Kind              `json:"kind"`
	User     string            `json:"user,omitempty"`
	Device   string            `json:"device,omitempty"`
	From     string            `json:"from,omitempty"`
	Peer     string            `json:"peer,omitempty"`
	Call     string            `json:"call,omitempty"`
	Text     string            `json:"text,omitempty"`
	Duration time.Duration     `json:"duration,omitempty"` // nanoseconds
	Data     map[string]string `json:"data,omitempty"`
}

// Journal takes entries; Append never blocks and never fails towards its caller (a lost entry is logged by the store).
type Journal interface {
	Append(Entry)
}
