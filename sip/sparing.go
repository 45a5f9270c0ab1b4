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
