package sip

import "sync"

// writeBytes is how much may wait to be written to one connection.
const writeBytes = 1 << 20

// writeAtOnce is how much is written in one go: each has its own time, so that a slow peer that reads is not given up.
const writeAtOnce = 16 << 10

// batch is several messages, one behind the other.
type batch struct {
	data []byte
	ends []int // where each ends, in data
}

// outbox holds what waits to be written to a connection, one message behind the other. What has gathered while the writer
// was busy goes out together.
type outbox struct {
	wake chan struct{} // has one element when there is news for the writer

	// guarded by mu
	mu    sync.Mutex
	batch batch
	taken int  // octets that the writer has taken and not written yet
	last  bool // nothing follows: the connection closes after it
}

func newOutbox() outbox { return outbox{wake: make(chan struct{}, 1)} }

// put queues a message; false: there is no room.
func (o *outbox) put(message []byte) bool {
	o.mu.Lock()
	b := &o.batch
	fits := o.taken+len(b.data)+len(message) <= writeBytes
	if fits {
		b.data = append(b.data, message...)
		b.ends = append(b.ends, len(b.data))
	}
	o.mu.Unlock()
	o.signal()
	return fits
}

// finish has the connection closed once everything queued has been written.
func (o *outbox) finish() {
	o.mu.Lock()
	o.last = true
	o.mu.Unlock()
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take gives what has gathered, and says whether it is the last. What is given is the writer's own.
func (o *outbox) take() (messages batch, last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	messages, o.batch = o.batch, batch{}
	o.taken = len(messages.data)
	return messages, o.last
}

// wrote makes room: so many octets of what was taken are gone.
func (o *outbox) wrote(n int) {
	o.mu.Lock()
	o.taken -= n
	o.mu.Unlock()
}
