package sip

import (
	"sync"
	"time"
)

// sparing lets a few lines a second through to the log: strangers must not fill a disk.
type sparing struct {
	mu     sync.Mutex
	second int64
	lines  int
}

const linesPerSecond = 10

func (s *sparing) allow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now().Unix(); now != s.second {
		s.second, s.lines = now, 0
	}
	s.lines++
	return s.lines <= linesPerSecond
}

// seldom lets one line of a kind through in a while, and counts those that it held back. Kinds are few and our own.
type seldom struct {
	mu    sync.Mutex
	kinds map[string]*heldBack
}

type heldBack struct {
	last  time.Time
	lines int
}

const seldomEvery = 10 * time.Second

// allow says whether a line may be written, and how many of its kind were not since the last.
func (s *seldom) allow(kind string) (unsaid int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.kinds[kind]
	if h == nil {
		if s.kinds == nil {
			s.kinds = make(map[string]*heldBack)
		}
		h = &heldBack{}
		s.kinds[kind] = h
	}
	if now := time.Now(); h.last.IsZero() || now.Sub(h.last) >= seldomEvery {
		unsaid = h.lines
		h.last, h.lines = now, 0
		return unsaid, true
	}
	h.lines++
	return 0, false
}
