package media

import (
	"sync/atomic"
	"time"
)

// A peer whose packets came without a pause and have stopped is suspected to be gone. Who pauses as he likes (DTX, comfort noise, a phone that
// sends nothing while it is muted) is not, and who does not send by agreement is not either. It is looked at from the engine's own tick, by
// figures that the packet path keeps anyway.

const (
	silenceTick = 100 * time.Millisecond // how often it is looked
	silence     = 400 * time.Millisecond // without a packet, of one that was continuous
	continuous  = time.Second            // for so long, before its last packet or a look just before that
	justBefore  = 300 * time.Millisecond // a packet, or a look, that is late by less does not make a pause
	samples     = 20                     // 100 ms each: continuous, just before, silence and late ticks
)

// watchman looks when a peer falls silent and when it is heard again. Owned by the engine's Run, but for what is told.
type watchman struct {
	silent atomic.Pointer[func(time.Time)] // told of each silence
	heard  atomic.Pointer[await]           // told once

	at       [samples]moment
	packets  [samples]uint32
	next     int
	reported time.Duration // the last packet before the silence that was told of
}

// moment is a time of the engine's clock in milliseconds, never 0. It comes round in 49 days: what is compared lies seconds apart.
type moment uint32

func momentOf(at time.Duration) moment { return max(moment(at.Milliseconds()), 1) }

// since is how long after o it is, negative before it.
func (m moment) since(o moment) time.Duration { return time.Duration(int32(m-o)) * time.Millisecond }

// await is somebody who waits for the next packet.
type await struct {
	since int64
	tell  func(time.Time)
}

// TellSilence has silent told when the peer, which is to send and has done so without a pause for a second, sends nothing for 400 ms: once, until
// it is heard again. Nine packets of ten are no pause. It must not block; nil is nobody.
func (s *Stream) TellSilence(silent func(at time.Time)) {
	if silent == nil {
		s.watchman.silent.Store(nil)
		return
	}
	s.watchman.silent.Store(&silent)
}

// Await has heard told, once, when the next RTP packet of the peer has come, 100 ms later at most. It must not block; nil is nobody.
func (s *Stream) Await(heard func(at time.Time)) {
	if heard == nil {
		s.watchman.heard.Store(nil)
		return
	}
	s.ear.catchUp()
	s.watchman.heard.Store(&await{since: s.ear.source.last.Load(), tell: heard})
}

// watch looks at all streams. When the last look was long ago the machine has stood still: what has come meanwhile is still to be read, and who
// seems silent may only not have been heard.
func (e *Engine) watch(now time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now-e.looked > 3*silenceTick {
		e.awake = now
	}
	e.looked = now
	for s := range e.streams {
		s.watch(now)
	}
}

// watch looks at the stream; under engine.mu.
func (s *Stream) watch(now time.Duration) {
	defer s.engine.survive("look for silence")
	s.ear.catchUp()
	w, last := &s.watchman, time.Duration(s.ear.source.last.Load())
	if a := w.heard.Load(); a != nil && int64(last) > a.since && w.heard.CompareAndSwap(a, nil) {
		a.tell(s.engine.wall(last))
	}
	if tell := w.silent.Load(); tell != nil && last != 0 && last != w.reported && now-max(last, s.engine.awake) >= silence {
		w.reported = last
		if s.terms != nil && s.terms.direction == SendRecv && s.past.Load() == nil && !s.elsewhere.Load() && w.wasContinuous(momentOf(last), uint32(s.ear.reception.packets.Load()), s.terms.frame) {
			(*tell)(s.engine.wall(last))
		}
	}
	w.at[w.next], w.packets[w.next] = momentOf(now), uint32(s.ear.reception.packets.Load())
	w.next = (w.next + 1) % samples
}

// wasContinuous says that packets came without a pause in the second before the last one, or before a look just before that. One look alone may
// have been at a moment when packets had come that nobody had read yet; the last one's time is when it was read, too.
func (w *watchman) wasContinuous(last moment, packets uint32, frame time.Duration) bool {
	if w.flowed(0, last, packets, frame) {
		return true
	}
	for i := range samples {
		switch at := w.at[w.before(i)]; {
		case at == 0 || last.since(at) > justBefore:
			return false
		case last.since(at) >= 0 && w.flowed(i+1, at, w.packets[w.before(i)], frame):
			return true
		}
	}
	return false
}

// flowed says that packets came without a pause in the second before some moment, by how many there were then and the newest look that is so long
// before it. The look with the index from is the first that may be that one.
func (w *watchman) flowed(from int, at moment, packets uint32, frame time.Duration) bool {
	for i := from; i < samples; i++ {
		if k := w.before(i); w.at[k] != 0 && at.since(w.at[k]) >= continuous {
			return int64(packets-w.packets[k])*10 >= int64(at.since(w.at[k])/frame)*9
		}
	}
	return false
}

// before is the place of a look: 0 is the newest.
func (w *watchman) before(i int) int { return (w.next + samples - 1 - i) % samples }
