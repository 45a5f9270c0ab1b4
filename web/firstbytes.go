package web

import (
	"encoding/binary"
	"io"
)

// enough is how many bytes tell what a connection is for.
const enough = 12

// magic is the cookie of every STUN message (RFC 8489 §5).
const magic = 0x2112A442

// purpose is what a connection is for.
type purpose int

// The purposes, as the first bytes tell them.
const (
	unclear purpose = iota // more bytes are needed
	forHTTP
	forTLS
	forTURN // STUN as it is: TURN or a binding request over TCP (RFC 8656)
	forICE  // STUN behind a length of two bytes: ICE-TCP (RFC 4571, 6544)
	forALPN // nothing follows: an ACME authority has looked at the certificate (RFC 8737)
)

var purposes = [...]string{"unclear", "http", "tls", "turn", "ice", "acme"}

func (p purpose) String() string { return purposes[p] }

// purposeOf tells by the first bytes. What begins like nothing else is HTTP, whose server refuses it.
func purposeOf(b []byte) purpose {
	cookie := func(at int) bool { return len(b) >= at+4 && binary.BigEndian.Uint32(b[at:]) == magic }
	switch {
	case len(b) == 0:
		return unclear
	case b[0]>>6 != 0: // a letter
		return forHTTP
	case b[0] == 22 && len(b) == 1:
		return unclear
	case b[0] == 22 && b[1] == 3: // a handshake of SSL 3.0 or newer (RFC 8446 §5.1)
		return forTLS
	case cookie(4):
		return forTURN
	case cookie(6):
		return forICE
	case len(b) < 10:
		return unclear
	}
	return forHTTP
}

// peek reads until it is clear what a connection is for, and gives what it has read.
func peek(r io.Reader) ([]byte, purpose, error) {
	b := make([]byte, 0, enough)
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if p := purposeOf(b); p != unclear {
			return b, p, nil
		}
		if err != nil {
			return b, unclear, err
		}
	}
}
