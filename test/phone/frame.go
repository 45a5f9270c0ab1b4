package phone

import (
	"encoding/binary"
	"math"
)

// A numbered frame is 160 bytes. Its head carries the number as plain bytes, so that a relay that changes one is found out.
// Its tail carries it again as sound, four bits in the level of each sample, so that it survives G.711's conversion by table.
const (
	frameSize  = 160
	headMagic  = 0xb17e5ac3
	tailAt     = 24
	tailMagic  = 0xa5
	tailBytes  = 16 // magic, source, counter, sent, sum
	levelStep  = 4000
	levelFirst = -30000
)

type frame struct {
	source  uint16
	counter uint32
	sent    int64 // ns since 1970
}

// write puts the frame into b; law is the G.711 law of the codec it is sent with, nil for a codec that no table converts.
func (f frame) write(b []byte, law func(int16) byte) {
	for i := range b {
		b[i] = 0xd5
	}
	binary.BigEndian.PutUint32(b, headMagic)
	binary.BigEndian.PutUint16(b[4:], f.source)
	binary.BigEndian.PutUint32(b[6:], f.counter)
	binary.BigEndian.PutUint64(b[10:], uint64(f.sent))
	if law == nil {
		return
	}
	for i, v := range f.tail() {
		b[tailAt+2*i] = law(level(v >> 4))
		b[tailAt+2*i+1] = law(level(v & 15))
	}
}

func (f frame) tail() [tailBytes]byte {
	var t [tailBytes]byte
	t[0] = tailMagic
	binary.BigEndian.PutUint16(t[1:], f.source)
	binary.BigEndian.PutUint32(t[3:], f.counter)
	binary.BigEndian.PutUint64(t[7:], uint64(f.sent))
	for _, v := range t[:tailBytes-1] {
		t[tailBytes-1] += v
	}
	return t
}

// readFrame finds the number in a payload: exact if not one byte of the head was changed. ok is false for a payload that
// is no numbered frame: a tone, somebody's voice. Where head and tail differ the tail is right: it has a sum.
func readFrame(b []byte, expand func(byte) int16) (f frame, exact, ok bool) {
	if len(b) >= 18 && binary.BigEndian.Uint32(b) == headMagic {
		f.source = binary.BigEndian.Uint16(b[4:])
		f.counter = binary.BigEndian.Uint32(b[6:])
		f.sent = int64(binary.BigEndian.Uint64(b[10:]))
		exact, ok = true, true
	}
	if len(b) != frameSize || expand == nil {
		return f, exact, ok
	}
	if tail, whole := readTail(b, expand); whole && tail != f {
		return tail, false, true
	}
	return f, exact, ok
}

func readTail(b []byte, expand func(byte) int16) (f frame, whole bool) {
	var t [tailBytes]byte
	for i := range t {
		t[i] = unlevel(expand(b[tailAt+2*i]))<<4 | unlevel(expand(b[tailAt+2*i+1]))
	}
	f.source = binary.BigEndian.Uint16(t[1:])
	f.counter = binary.BigEndian.Uint32(t[3:])
	f.sent = int64(binary.BigEndian.Uint64(t[7:]))
	return f, t[0] == tailMagic && t == f.tail()
}

func level(n byte) int16 { return int16(levelFirst + levelStep*int(n)) }

func unlevel(s int16) byte {
	n := math.Round(float64(int(s)-levelFirst) / levelStep)
	return byte(max(0, min(15, n)))
}
