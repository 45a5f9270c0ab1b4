package sip

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// What keeps a node silent whose calls may be another's by now (docs/cluster.md). All that the agent says goes through here, whatever timer or call it comes
// from; what other nodes have it write is theirs.
//
//	may speak until …   a process that has stood still reads, answers and repeats nothing before it is told that it may; what it
//	                    wants to say meanwhile it says then
//	yielded             in the dialogs of a call that another node has nothing is said any more, not even 481: the phone would end the call

// errSilent is why something was not said.
var errSilent = errors.New("another node speaks in this dialog")

// yieldFor is for how long a dialog that is another's is remembered: what a phone repeats, it repeats for half a minute.
const yieldFor = 10 * time.Minute

type silence struct {
	until atomic.Int64 // since began; 0 = for ever
	began time.Time    // set once

	some    atomic.Bool // dialogs are yielded
	mu      sync.Mutex
	yielded map[string]time.Time // by Call-ID, until when it is remembered
}

// SpeakFor lets the agent speak for so long from now; not being told again in time, it falls silent, and what comes waits. An agent that was
// never told speaks always.
func (a *Agent) SpeakFor(d time.Duration) {
	a.silence.until.Store(int64(time.Since(a.silence.began) + d))
}

// mute says that the time for which the agent may speak is over.
func (s *silence) mute() bool {
	until := s.until.Load()
	return until != 0 && int64(time.Since(s.began)) > until
}

// await waits until the agent may speak.
func (a *Agent) await() {
	for a.silence.mute() && !a.over() {
		time.Sleep(time.Millisecond)
	}
}

// Yield has nothing said any more in the dialogs of these Call-IDs, which are another node's: transactions repeat nothing, requests are
// not answered. Attach ends it.
func (a *Agent) Yield(callIDs ...string) {
	s := &a.silence
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.yielded == nil {
		s.yielded = make(map[string]time.Time)
	}
	for _, id := range callIDs {
		s.yielded[id] = time.Now().Add(yieldFor)
	}
	s.some.Store(len(s.yielded) > 0)
}

// claim has the agent speak again in a dialog.
func (s *silence) claim(callID string) {
	if !s.some.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.yielded, callID)
	s.some.Store(len(s.yielded) > 0)
}

// tidy forgets what was yielded long ago.
func (s *silence) tidy(now time.Time) {
	if !s.some.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, until := range s.yielded {
		if now.After(until) {
			delete(s.yielded, id)
		}
	}
	s.some.Store(len(s.yielded) > 0)
}

// yields says that a message of this node is of a dialog that is another's.
func (s *silence) yields(data []byte) bool {
	if !s.some.Load() {
		return false
	}
	id := callIDOf(data)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, gone := s.yielded[id]
	return gone
}

// callIDOf reads the Call-ID of a message that this node has written.
func callIDOf(data []byte) string {
	for _, name := range []string{"\r\nCall-ID: ", "\r\ni: "} {
		if _, rest, ok := bytes.Cut(data, []byte(name)); ok {
			id, _, _ := bytes.Cut(rest, []byte("\r\n"))
			return string(id)
		}
	}
	return ""
}
