package cluster

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"fmt"
)

// Load is what a node says of itself with each heartbeat.
type Load struct {
	Calls    int  `json:"calls"`
	Capacity int  `json:"capacity"` // calls it takes, 0 = no limit is known
	Draining bool `json:"draining"` // it takes no new calls
	Busy     bool `json:"busy"`     // nor now, for the load of its machine or by policy
}

// A heartbeat is one datagram:
//
//	magic "bHB1" | session 8 | counter 8 | calls 4 | capacity 4 | flags 1 | MAC 16
//
// Its key, one for each direction, comes out of the TLS connection that the two nodes have or last had (RFC 5705, RFC 8446 §7.5),
// and the counter of a key only rises. So a heartbeat that was recorded proves nothing later, not of this run of the node
// and not of another, and the nodes' clocks may differ as they like.
const (
	beatMagic = "bHB1"
	beatBody  = 4 + 8 + 8 + 4 + 4 + 1
	beatMAC   = 16
	beatSize  = beatBody + beatMAC
	draining  = 1
	busy      = 2
)

// beats are the keys and counters of heartbeats between two nodes, for as long as a connection and the time until the next.
type beats struct {
	// set once
	session    uint64
	send, take []byte

	// guarded by the mesh's mu
	sent, seen uint64
}

const beatLabel = "EXPORTER-baton-heartbeats"

// newBeats takes the keys out of a connection.
func newBeats(c tls.ConnectionState, dialled bool) (*beats, error) {
	const size = sha256.Size
	secret, err := c.ExportKeyingMaterial(beatLabel, nil, 2*size+8)
	if err != nil {
		return nil, fmt.Errorf("keys of heartbeats: %w", err)
	}
	b := &beats{session: binary.BigEndian.Uint64(secret[2*size:]), send: secret[:size], take: secret[size : 2*size]}
	if !dialled {
		b.send, b.take = b.take, b.send
	}
	return b, nil
}

func beatSum(key, body []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(body)
	return m.Sum(nil)[:beatMAC]
}

// next is the next heartbeat to send.
func (b *beats) next(l Load) []byte {
	b.sent++
	p := make([]byte, 0, beatSize)
	p = binary.BigEndian.AppendUint64(append(p, beatMagic...), b.session)
	p = binary.BigEndian.AppendUint64(p, b.sent)
	p = binary.BigEndian.AppendUint32(p, uint32(l.Calls))
	p = binary.BigEndian.AppendUint32(p, uint32(l.Capacity))
	var flags byte
	if l.Draining {
		flags |= draining
	}
	if l.Busy {
		flags |= busy
	}
	p = append(p, flags)
	return append(p, beatSum(b.send, p)...)
}

// beatSession is the session that a datagram says it belongs to; false if it is no heartbeat at all.
func beatSession(p []byte) (uint64, bool) {
	if len(p) != beatSize || string(p[:len(beatMagic)]) != beatMagic {
		return 0, false
	}
	return binary.BigEndian.Uint64(p[4:]), true
}

// open verifies a heartbeat of beatSize and reads it; replayed says that it is right but not new.
func (b *beats) open(p []byte) (l Load, ok, replayed bool) {
	if !hmac.Equal(p[beatBody:], beatSum(b.take, p[:beatBody])) {
		return l, false, false
	}
	n := binary.BigEndian.Uint64(p[12:])
	if n <= b.seen {
		return l, false, true
	}
	b.seen = n
	return Load{
		Calls: int(binary.BigEndian.Uint32(p[20:])), Capacity: int(binary.BigEndian.Uint32(p[24:])), Draining: p[28]&draining != 0,
		Busy: p[28]&busy != 0,
	}, true, false
}
