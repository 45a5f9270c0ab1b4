package cluster

import "sync"

const (
	outboxBytes = 8 << 20  // that may wait for one peer
	writeAtOnce = 64 << 10 // that go into one write, unless one frame is longer
)

// outbox holds the frames that wait to be written to a peer. Who puts one in never waits; when there is no room the new
// one is dropped. What keeps the connection going is written first.
type outbox struct {
	wake chan struct{} // has one element when there is something to write

	// guarded by mu
	mu     sync.Mutex
	urgent []byte
	frames [][]byte
	bytes  int
	last   bool // nothing follows
}

func newOutbox() outbox { return outbox{wake: make(chan struct{}, 1)} }

// put queues a frame; false: there is no room, or nothing follows any more.
func (o *outbox) put(f frame) bool {
	size := lengthSize + frameHead + len(f.kind) + len(f.payload)
	o.mu.Lock()
	fits := !o.last && o.bytes+size <= outboxBytes
	if fits {
		o.frames = append(o.frames, f.append(make([]byte, 0, size)))
		o.bytes += size
	}
	o.mu.Unlock()
	o.signal()
	return fits
}

// hurry queues a frame without payload before the others.
func (o *outbox) hurry(f frame) {
	o.mu.Lock()
	if len(o.urgent) < writeAtOnce {
		o.urgent = f.append(o.urgent)
	}
	o.mu.Unlock()
	o.signal()
}

// finish has the writer end once all is written, f last.
func (o *outbox) finish(f frame) {
	o.mu.Lock()
	o.frames, o.last = append(o.frames, f.append(nil)), true
	o.mu.Unlock()
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take gives what is to be written next, in one piece, into the writer's buffer; over says that nothing follows it.
func (o *outbox) take(buf []byte) (data []byte, over bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	data, o.urgent = append(buf[:0], o.urgent...), o.urgent[:0]
	for len(o.frames) > 0 && (len(data) == 0 || len(data)+len(o.frames[0]) <= writeAtOnce) {
		data = append(data, o.frames[0]...)
		o.bytes -= len(o.frames[0])
		o.frames[0], o.frames = nil, o.frames[1:]
	}
	if len(o.frames) == 0 {
		o.frames = nil
	}
	return data, o.last && len(o.frames) == 0
}
