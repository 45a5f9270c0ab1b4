package sip

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
)

// keepMost is how much is kept while the agent may not speak: some ten thousand messages.
const keepMost = 8 << 20

// errKeptTooMuch is why something was not kept: a transaction that wants to say it fails at once, as if it were lost.
var errKeptTooMuch = errors.New("this node stands silent, and too much waits to be said")

// kept holds what the agent wants to say while it may not, in order, with one goroutine that writes it when the agent may. What is said while
// that one still writes goes behind the rest: an ACK is before its BYE.
type kept struct {
	busy atomic.Bool // something waits, or is being written

	// guarded by mu
	mu       sync.Mutex
	messages []keptMessage
	size     int
	dropped  int
}

type keptMessage struct {
	flow Flow
	data []byte
}

// keep takes a message if the agent may not speak, or still says what it has kept. What is given is the caller's again afterwards.
func (a *Agent) keep(f Flow, data []byte) (taken bool, err error) {
	k := &a.kept
	if !k.busy.Load() && !a.silence.mute() {
		return false, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case !k.busy.Load() && !a.silence.mute():
		return false, nil
	case k.size+len(data) > keepMost:
		k.dropped++
		return true, errKeptTooMuch
	}
	if !k.busy.Load() {
		if !a.spawn(a.sayKept) {
			return true, errStopped
		}
		k.busy.Store(true)
	}
	k.messages, k.size = append(k.messages, keptMessage{f, bytes.Clone(data)}), k.size+len(data)
	return true, nil
}

// sayKept writes what is kept as soon as it may, until nothing is left or the agent stops.
func (a *Agent) sayKept() {
	for {
		a.await()
		m, ok := a.kept.next()
		if !ok {
			break
		}
		a.guard(func() { a.sayLate(m) })
	}
	if n := a.kept.end(); n > 0 {
		a.log.Warn("messages were dropped while this node stood silent: too many waited", "messages", n)
	}
}

// sayLate writes a message, unless its dialog was found to be another's meanwhile.
func (a *Agent) sayLate(m keptMessage) {
	if a.over() || a.silence.yields(m.data) {
		return
	}
	if err := a.write(m.flow, m.data); err != nil {
		a.log.Debug("what was kept is not sent", "flow", m.flow, "err", err)
	}
}

// next is the oldest message. With none left, what comes is not kept any more: false.
func (k *kept) next() (m keptMessage, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.messages) == 0 {
		k.messages = nil
		k.busy.Store(false)
		return m, false
	}
	m, k.messages = k.messages[0], k.messages[1:]
	k.size -= len(m.data)
	return m, true
}

// end is how many were dropped.
func (k *kept) end() (dropped int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	dropped, k.dropped = k.dropped, 0
	return dropped
}
