package sip

import (
	"encoding/binary"
	"hash/maphash"
	"time"
)

// answered keeps the final answers of requests other than INVITE for as long as these may be repeated (Timer J of RFC 3261
// §17.2.2). All lie one behind the other in a few large pieces without a pointer, so that the collector has nothing to look at:
// after a storm of registrations there are hundreds of thousands.
type answered struct {
	slabs [][]byte // entries in order of time, oldest first
	gone  uint32   // slabs that were dropped: places count from the very first
	head  int      // of the oldest entry, in slabs[0]
	index map[uint64]answerPlace
}

// answerPlace is where an entry begins.
type answerPlace struct{ slab, at uint32 }

// answeredSince is what the times of entries count from: by the clock that nobody sets.
var answeredSince = time.Now()

// An entry is when it was made, the lengths of its transaction's key and of the answer, and these two.
const (
	answerHead = 8 + 4 + 4
	slabSize   = 16 << 10
)

// keep takes an answer.
func (s *answered) keep(key string, answer []byte, now time.Time) {
	need := answerHead + len(key) + len(answer)
	last := len(s.slabs) - 1
	if last < 0 || cap(s.slabs[last])-len(s.slabs[last]) < need {
		s.slabs = append(s.slabs, make([]byte, 0, max(slabSize, need)))
		last++
	}
	b := s.slabs[last]
	if s.index == nil {
		s.index = make(map[uint64]answerPlace)
	}
	s.index[maphash.String(seed, key)] = answerPlace{s.gone + uint32(last), uint32(len(b))}
	b = binary.LittleEndian.AppendUint64(b, uint64(now.Sub(answeredSince)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(key)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(answer)))
	s.slabs[last] = append(append(b, key...), answer...)
}

// find gives the answer of a transaction, nil if there is none. It may be sent, and must not be changed.
func (s *answered) find(key string) []byte {
	at, ok := s.index[maphash.String(seed, key)]
	if !ok {
		return nil
	}
	e := answerAt(s.slabs[at.slab-s.gone], int(at.at))
	if string(e.key) != key {
		return nil
	}
	return e.answer
}

// expire drops what was kept before a time.
func (s *answered) expire(before time.Time) {
	for len(s.slabs) > 0 {
		e := answerAt(s.slabs[0], s.head)
		if e.at >= int64(before.Sub(answeredSince)) {
			return
		}
		if h := maphash.Bytes(seed, e.key); s.index[h] == (answerPlace{s.gone, uint32(s.head)}) {
			delete(s.index, h)
		}
		if s.head += e.size(); s.head == len(s.slabs[0]) {
			s.slabs[0] = nil
			s.slabs, s.gone, s.head = s.slabs[1:], s.gone+1, 0
		}
	}
	s.slabs, s.index = nil, nil // a map does not shrink
}

// count is how many answers there are.
func (s *answered) count() int { return len(s.index) }

// answerEntry is one entry, in place.
type answerEntry struct {
	at          int64
	key, answer []byte
}

func answerAt(slab []byte, at int) answerEntry {
	b := slab[at:]
	key, answer := int(binary.LittleEndian.Uint32(b[8:])), int(binary.LittleEndian.Uint32(b[12:]))
	rest := b[answerHead:]
	return answerEntry{int64(binary.LittleEndian.Uint64(b)), rest[:key:key], rest[key : key+answer : key+answer]}
}

func (e answerEntry) size() int { return answerHead + len(e.key) + len(e.answer) }
