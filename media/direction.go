package media

import "fmt"

// Direction says which ways media flows, seen by the one whose description it stands in (RFC 8866 §6.7).
type Direction uint8

// The directions; the zero value is the default of a description that names none.
const (
	SendRecv Direction = iota
	SendOnly
	RecvOnly
	Inactive
)

var directions = [...]string{SendRecv: "sendrecv", SendOnly: "sendonly", RecvOnly: "recvonly", Inactive: "inactive"}

// String returns the attribute's name, "sendrecv" and so on.
func (d Direction) String() string {
	if int(d) < len(directions) {
		return directions[d]
	}
	return fmt.Sprintf("direction(%d)", uint8(d))
}

// MarshalText writes the attribute's name.
func (d Direction) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the attribute's name.
func (d *Direction) UnmarshalText(b []byte) error {
	for i, name := range directions {
		if name == string(b) {
			*d = Direction(i)
			return nil
		}
	}
	return fmt.Errorf("media direction %q: unknown", b)
}

// Reverse returns the direction as the other side sees it.
func (d Direction) Reverse() Direction { return direction(d.receives(), d.sends()) }

func (d Direction) sends() bool    { return d == SendRecv || d == SendOnly }
func (d Direction) receives() bool { return d == SendRecv || d == RecvOnly }

// and returns what both allow, each seen by the same side.
func (d Direction) and(o Direction) Direction {
	return direction(d.sends() && o.sends(), d.receives() && o.receives())
}

func direction(sends, receives bool) Direction {
	switch {
	case sends && receives:
		return SendRecv
	case sends:
		return SendOnly
	case receives:
		return RecvOnly
	}
	return Inactive
}
