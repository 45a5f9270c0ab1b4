package media

import "time"

// Twins knows the keys of a phone that tells each of them both by RTP and by signalling, as some do: the same key that comes the other way
// too is the same press. It holds the last few, because signalling is slower than keys can be pressed.
// Most legs have no keys: it is a pointer until the first.
type Twins struct{ last *lastKeys }

type lastKeys struct {
	seen [8]seenKey
	next int
}

type seenKey struct {
	code  uint8
	rtp   bool
	until time.Duration // its twin may come; 0 = it has, or there is none
}

// keyTwice is how long after a key its twin may come.
const keyTwice = time.Second

// Take takes a key that came by RTP or by signalling, when it was pressed and when it ends, and says whether it is the twin of another.
func (t *Twins) Take(code uint8, rtp bool, from, to time.Duration) bool {
	if t.last == nil {
		t.last = new(lastKeys)
	}
	return t.last.take(code, rtp, from, to)
}

func (t *lastKeys) take(code uint8, rtp bool, from, to time.Duration) bool {
	for i := range t.seen { // the oldest first
		k := &t.seen[(t.next+i)%len(t.seen)]
		if k.code == code && k.rtp != rtp && from < k.until {
			k.until = 0
			return true
		}
	}
	t.seen[t.next] = seenKey{code, rtp, to + keyTwice}
	t.next = (t.next + 1) % len(t.seen)
	return false
}

// extend says that the key taken last, if it came by RTP and was no twin, lasts until now.
func (t *Twins) extend(now time.Duration) {
	if t.last != nil {
		t.last.extend(now)
	}
}

func (t *lastKeys) extend(now time.Duration) {
	if k := &t.seen[(t.next+len(t.seen)-1)%len(t.seen)]; k.rtp && k.until > 0 {
		k.until = now + keyTwice
	}
}
