package media

import (
	"testing"
	"time"
)

// TestSilence lets a peer send in several ways and stop: only one that has sent without a pause for a second is told of, once, 400 to 500 ms after
// its last packet, and once more when it has gone on and stopped again.
func TestSilence(t *testing.T) {
	every := func(d time.Duration) func(at time.Duration) bool {
		return func(at time.Duration) bool { return at%d == 0 }
	}
	for _, c := range []struct {
		name  string
		frame time.Duration
		dir   Direction
		sends func(at time.Duration) bool // at each 10 ms of three seconds
		want  int
	}{
		{"20 ms", 20, SendRecv, every(20 * time.Millisecond), 1},
		{"40 ms, as agreed", 40, SendRecv, every(40 * time.Millisecond), 1},
		{"one of twenty lost", 20, SendRecv, func(at time.Duration) bool { return at%(20*time.Millisecond) == 0 && at%(400*time.Millisecond) != 0 }, 1},
		{"one of five lost", 20, SendRecv, func(at time.Duration) bool { return at%(20*time.Millisecond) == 0 && at%(100*time.Millisecond) != 0 }, 0},
		{"comfort noise", 20, SendRecv, every(160 * time.Millisecond), 0},
		{"speech and pauses", 20, SendRecv, func(at time.Duration) bool { return at%(20*time.Millisecond) == 0 && at/(500*time.Millisecond)%2 == 0 }, 0},
		{"for half a second", 20, SendRecv, func(at time.Duration) bool { return at%(20*time.Millisecond) == 0 && at >= 2500*time.Millisecond }, 0},
		{"on hold", 20, RecvOnly, every(20 * time.Millisecond), 0},
		{"never", 20, SendRecv, func(time.Duration) bool { return false }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Stream{engine: &Engine{}, terms: &terms{direction: c.dir, frame: c.frame * time.Millisecond}}
			var told []time.Duration
			now := time.Second
			s.TellSilence(func(time.Time) { told = append(told, now) })
			for round := range 2 {
				from := now
				var last time.Duration
				for ; now < from+5*time.Second; now += 10 * time.Millisecond {
					if now-from < 3*time.Second && c.sends(now-from) {
						last = now
						s.ear.source.last.Store(int64(now))
						s.ear.reception.packets.inc()
					}
					if now%silenceTick == 0 {
						s.watch(now)
					}
				}
				if len(told) != (round+1)*c.want {
					t.Fatalf("round %d: told at %v", round, told)
				}
				if c.want > 0 && (told[round]-last < silence || told[round]-last > silence+silenceTick) {
					t.Errorf("told %v after the last packet", told[round]-last)
				}
			}
		})
	}
}

// TestSilenceReadLate has the last packets of a peer, or those around a look, read late by what a busy machine takes: it is told of as one whose
// packets were read at once.
func TestSilenceReadLate(t *testing.T) {
	for _, late := range []time.Duration{0, 60, 120, 180, 240} {
		for _, when := range []time.Duration{0, 100, 1000, 1100} { // before the last packet
			s := &Stream{engine: &Engine{}, terms: &terms{direction: SendRecv, frame: 20 * time.Millisecond}}
			told := 0
			s.TellSilence(func(time.Time) { told++ })
			const end = 4 * time.Second
			stall := end - when*time.Millisecond
			for now := time.Second; now < end+time.Second; now += 10 * time.Millisecond {
				for sent := now - 290*time.Millisecond; sent <= now; sent += 10 * time.Millisecond {
					read := sent
					if sent >= stall-20*time.Millisecond && sent < stall+late*time.Millisecond {
						read = stall + late*time.Millisecond
					}
					if sent%(20*time.Millisecond) == 0 && sent >= time.Second && sent <= end && read == now {
						s.ear.source.last.Store(int64(now))
						s.ear.reception.packets.inc()
					}
				}
				if now%silenceTick == 0 {
					s.watch(now)
				}
			}
			if told != 1 {
				t.Errorf("read late by %d ms, %d ms before the last packet: told %d times", late, when, told)
			}
		}
	}
}

// TestSilenceOfTheMachine: when the engine itself has stood still, nobody is silent whose packets it has not come to read yet.
func TestSilenceOfTheMachine(t *testing.T) {
	for _, c := range []struct {
		gone bool // the peer is, when the machine goes on
		want int
	}{{false, 0}, {true, 1}} {
		s := &Stream{terms: &terms{direction: SendRecv, frame: 20 * time.Millisecond}}
		e := &Engine{streams: map[*Stream]struct{}{s: {}}}
		s.engine = e
		told := 0
		s.TellSilence(func(time.Time) { told++ })
		for now := time.Second; now < 8*time.Second; now += 10 * time.Millisecond {
			still, late := now > 4*time.Second && now < 5*time.Second, now == 5*time.Second+200*time.Millisecond
			if now%(20*time.Millisecond) == 0 && (now <= 4*time.Second || late || now > 5200*time.Millisecond) && !(c.gone && now > 4*time.Second) {
				s.ear.source.last.Store(int64(now))
				s.ear.reception.packets.inc()
				if late { // what has waited in the socket
					s.ear.reception.packets.add(59)
				}
			}
			if now%silenceTick == 0 && !still {
				e.watch(now)
			}
		}
		if told != c.want {
			t.Errorf("gone %v: told %d times, want %d", c.gone, told, c.want)
		}
	}
}

// TestAwait tells once of the next packet, and of none before.
func TestAwait(t *testing.T) {
	s := &Stream{engine: &Engine{}}
	s.ear.source.last.Store(int64(time.Second))
	told := 0
	s.Await(func(time.Time) { told++ })
	for i, c := range []struct {
		last time.Duration
		want int
	}{{time.Second, 0}, {2 * time.Second, 1}, {3 * time.Second, 1}} {
		s.ear.source.last.Store(int64(c.last))
		s.watch(10 * time.Second)
		if told != c.want {
			t.Errorf("%d: told %d times, want %d", i, told, c.want)
		}
	}
	s.Await(func(time.Time) { told++ })
	s.Await(nil)
	s.ear.source.last.Store(int64(4 * time.Second))
	if s.watch(10 * time.Second); told != 1 {
		t.Error("who waits no more was told")
	}
}

// BenchmarkWatch is a look at a thousand streams, which must cost next to nothing: it is done ten times a second.
func BenchmarkWatch(b *testing.B) {
	e := &Engine{streams: map[*Stream]struct{}{}}
	for range 1000 {
		s := &Stream{engine: e, terms: &terms{direction: SendRecv, frame: defaultFrame}}
		s.TellSilence(func(time.Time) {})
		s.ear.source.last.Store(1)
		e.streams[s] = struct{}{}
	}
	b.ReportAllocs()
	for now := time.Second; b.Loop(); now += silenceTick {
		e.watch(now)
	}
}

// TestFence: an engine that is cut off sends to a peer as long as it hears it, and for half a second more.
func TestFence(t *testing.T) {
	e := &Engine{}
	s := &Stream{engine: e}
	const heard = 10 * time.Second
	s.ear.source.last.Store(int64(heard))
	for _, c := range []struct {
		fenced bool
		since  time.Duration
		want   bool
	}{{false, time.Hour, false}, {true, 0, false}, {true, unheard, false}, {true, unheard + time.Millisecond, true}, {false, time.Hour, false}} {
		if e.Fence(c.fenced); s.mute(heard+c.since) != c.want {
			t.Errorf("fenced %v, unheard for %s: mute %v", c.fenced, c.since, !c.want)
		}
	}
	e.Fence(true)
	if s.ctrl.last.Store(int64(heard + time.Hour)); s.mute(heard + time.Hour) {
		t.Error("mute towards a peer whose RTCP is heard")
	}
}
