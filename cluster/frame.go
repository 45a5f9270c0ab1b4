package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A frame is what goes over a connection between nodes, one behind the other:
//
//	length   4 bytes, of all that follows
//	what     1 byte
//	id       8 bytes: which request an answer belongs to
//	kind     1 byte of length, then as many
//	payload  the rest
type frame struct {
	what    what
	id      uint64
	kind    string
	payload []byte
}

type what uint8

const (
	frameHello   what = iota + 1
	framePing         // answered by framePong with the same id
	framePong         //
	frameMessage      // nobody waits for an answer
	frameRequest      // answered by frameAnswer or frameFailure with the same id
	frameAnswer       //
	frameFailure      // payload: what went wrong, for people
	frameBye          // the node stops; nothing is wrong with it
	frameEnd          // not one
)

const (
	lengthSize = 4
	frameHead  = 1 + 8 + 1
	maxKind    = 255
	// MaxPayload is how long the payload of a message, request or answer may be.
	MaxPayload = 4 << 20
	maxFrame   = frameHead + maxKind + MaxPayload
	maxHello   = 4 << 10
)

var errFrame = errors.New("not a frame of the mesh")

// append writes the frame behind b.
func (f frame) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(frameHead+len(f.kind)+len(f.payload)))
	b = binary.BigEndian.AppendUint64(append(b, byte(f.what)), f.id)
	b = append(append(b, byte(len(f.kind))), f.kind...)
	return append(b, f.payload...)
}

// frames reads frames off a connection.
type frames struct {
	from io.Reader
	most int    // how long a frame may be
	buf  []byte // used again for each frame
}

// next reads one frame; its payload is good until the next one is read.
func (r *frames) next() (frame, error) {
	var head [lengthSize]byte
	if _, err := io.ReadFull(r.from, head[:]); err != nil {
		return frame{}, err
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	if n < frameHead || n > r.most {
		return frame{}, fmt.Errorf("%w: %d bytes", errFrame, n)
	}
	if err := r.fill(n); err != nil {
		return frame{}, err
	}
	return parseFrame(r.buf)
}

// fill reads n bytes; room is made as they come, not as they are promised.
func (r *frames) fill(n int) error {
	const step = 64 << 10
	r.buf = r.buf[:0]
	if cap(r.buf) > step && n <= step {
		r.buf = nil // one long frame does not keep its room for ever
	}
	for len(r.buf) < n {
		at := len(r.buf)
		more := min(n-at, step)
		r.buf = append(r.buf, make([]byte, more)...)
		if _, err := io.ReadFull(r.from, r.buf[at:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// parseFrame reads what stands behind the length.
func parseFrame(b []byte) (frame, error) {
	if len(b) < frameHead {
		return frame{}, fmt.Errorf("%w: %d bytes", errFrame, len(b))
	}
	f := frame{what: what(b[0]), id: binary.BigEndian.Uint64(b[1:])}
	kind, rest := int(b[frameHead-1]), b[frameHead:]
	if f.what < frameHello || f.what >= frameEnd || kind > len(rest) {
		return frame{}, fmt.Errorf("%w: type %d", errFrame, b[0])
	}
	f.kind, f.payload = string(rest[:kind]), rest[kind:]
	return f, nil
}
