package media

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// mixed is a peer that only listens to two others, in the room's time.
type mixed struct {
	*room
	a, b, ear *dev
	m         *mixer
	at        time.Duration
}

func newMixed(t testing.TB, a, b, ear Codec) *mixed {
	r := newRoom(t)
	x := &mixed{room: r, a: r.phone("203.0.113.5", a), b: r.phone("198.51.100.7", b), ear: r.phone("198.51.100.8", ear, dtmf), at: r.now}
	bridge(x.a, x.b)
	x.m = newMixer(x.ear.s)
	r.e.mu.Lock()
	x.ear.s.mixer = x.m
	x.m.take([]*Stream{x.a.s, x.b.s})
	x.ear.s.rebuild()
	r.e.mu.Unlock()
	x.ear.s.line.follow(&x.m.source, r.now)
	return x
}

// frames lets time pass with the devices talking, and the mixer playing.
func (x *mixed) frames(n int, devices ...*dev) {
	for range n {
		x.at += 20 * ms
		x.run(x.at, devices...)
		x.m.play(x.at, x.at)
	}
}

// level is what the listener heard last, decoded, at its loudest.
func (x *mixed) level(law func(byte) int16) int {
	got, peak := x.got(x.ear), 0
	for _, b := range payloadOf(got[len(got)-1].b) {
		v := int(law(b))
		if v < 0 {
			v = -v
		}
		peak = max(peak, v)
	}
	return peak
}

// say fills a device's packets with one sample.
func (d *dev) say(v int16, law func(int16) byte) {
	for i := range d.body {
		d.body[i] = law(v)
	}
}

// TestMixAdds: both are heard together whatever their laws, one alone when the other is silent, and what is too loud is cut, not turned over.
func TestMixAdds(t *testing.T) {
	for _, c := range []struct {
		name     string
		a, b     int16
		law      func(int16) byte // of b
		b0, ear  Codec
		back     func(byte) int16
		together int
	}{
		{"PCMU and PCMA", 4000, 3000, toA, pcma, pcmu, fromMu, 7000},
		{"to PCMA", 4000, 3000, toMu, pcmu, pcma, fromA, 7000},
		{"too loud", 30000, 30000, toA, pcma, pcmu, fromMu, 32000},
		{"against each other", 4000, -4000, toMu, pcmu, pcmu, fromMu, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newMixed(t, pcmu, c.b0, c.ear)
			x.a.say(c.a, toMu)
			x.b.say(c.b, c.law)
			x.frames(10, x.a, x.b)
			if got := x.level(c.back); math.Abs(float64(got-c.together)) > 0.04*float64(c.together)+64 {
				t.Errorf("together %d, want %d", got, c.together)
			}
			x.b.off = true
			x.frames(10, x.a)
			if got := x.level(c.back); math.Abs(float64(got)-float64(c.a)) > 0.04*float64(c.a)+64 {
				t.Errorf("alone %d, want %d", got, c.a)
			}
			x.a.off = true
			x.frames(10)
			if got := x.level(c.back); got > 16 {
				t.Errorf("nobody talks, and %d is heard", got)
			}
		})
	}
}

// TestMixIsOneLine: whoever talks, comes late in bursts or falls silent, the listener hears a packet every 20 ms, by the clock.
func TestMixIsOneLine(t *testing.T) {
	x := newMixed(t, pcmu, pcmu, pcmu)
	x.a.jitter = 30 * ms
	x.a.ppm, x.b.ppm = 300, -300
	x.frames(1500, x.a, x.b)
	x.b.off = true
	x.frames(200, x.a)
	k := x.track(x.ear, 8000)
	if k.packets != 1700 || k.breaks+k.tsBreaks != 0 || k.ssrcs != 1 || k.markers != 1 || k.gap != 20*ms || k.late > ms || k.early < -ms {
		t.Errorf("%+v", k)
	}
	for _, f := range []*dev{x.a, x.b} {
		if n := f.s.taps[x.m].over.Load(); n != 0 {
			t.Errorf("%d packets found no room", n)
		}
	}
	if k := x.track(x.b, 8000); k.breaks != 0 || k.ssrcs != 1 {
		t.Errorf("the call itself: %+v", k)
	}
}

// TestMixCatchesUp: of what comes in a burst the oldest is left out, so that the listener is not behind for ever.
func TestMixCatchesUp(t *testing.T) {
	x := newMixed(t, pcmu, pcmu, pcmu)
	x.frames(10, x.a, x.b)
	for range 10 {
		x.a.send()
	}
	x.m.play(x.at, x.at)
	q := x.a.s.taps[x.m]
	if n := q.in.Load() - q.out.Load(); n > poolFirst {
		t.Errorf("%d samples wait", n)
	}
}

// TestMixTakesEachPacketOnce: what comes twice, or behind a later packet, is not heard in the wrong place.
func TestMixTakesEachPacketOnce(t *testing.T) {
	x := newMixed(t, pcmu, pcmu, pcmu)
	x.frames(10, x.a, x.b)
	q := x.a.s.taps[x.m]
	for _, step := range []struct {
		by   int // from the number of the next packet
		want uint32
	}{{0, mixFrame}, {-1, 0}, {1, mixFrame}, {-2, 0}, {1, mixFrame}} {
		x.a.hdr.SequenceNumber += uint16(step.by)
		before := q.in.Load()
		x.a.send()
		if n := q.in.Load() - before; n != step.want {
			t.Errorf("%+d: %d samples, want %d", step.by, n, step.want)
		}
	}
}

// TestMixLosesNoSound: every sample that is said is heard, without a hole, though the network's jitter is most of a frame.
func TestMixLosesNoSound(t *testing.T) {
	x := newMixed(t, pcmu, pcmu, pcmu)
	var said []int16
	frame := 0 * ms
	for i := range 100 {
		arrives := x.at + 20*time.Duration(i)*ms + 14*ms
		if i > 0 {
			arrives += rand.N(12 * ms) // before or after the mixer's turn
		}
		for ; x.at+frame < arrives; frame += 20 * ms {
			x.m.play(x.at+frame, x.at+frame)
		}
		v := int16(100 + 200*i)
		said = append(said, fromMu(toMu(v)))
		x.a.say(v, toMu)
		x.now = arrives
		x.a.send()
	}
	for range 5 {
		x.m.play(x.at+frame, x.at+frame)
		frame += 20 * ms
	}
	var heard []int16
	last := 0
	for i, p := range x.got(x.ear) {
		if v := fromMu(payloadOf(p.b)[80]); v > 50 {
			if heard = append(heard, v); last > 0 && i != last+1 {
				t.Errorf("a hole of %d frames", i-last-1)
			}
			last = i
		}
	}
	if len(heard) != len(said) {
		t.Fatalf("%d of %d frames were heard", len(heard), len(said))
	}
	for i := range said {
		if heard[i] != said[i] {
			t.Fatalf("frame %d: %d, said %d", i, heard[i], said[i])
		}
	}
}

// TestMixMutesItsPeer: what the listener says reaches nobody and is counted, its keys too.
func TestMixMutesItsPeer(t *testing.T) {
	x := newMixed(t, pcmu, pcmu, pcmu)
	x.ear.s.Tell(func(time.Time) {}, func(Key, int) { t.Error("told of a key") })
	x.frames(10, x.a, x.b)
	n := len(x.got(x.a)) + len(x.got(x.b))
	for range 10 {
		x.ear.send()
	}
	x.ear.emit(x.ear.at, dtmf.PT, []byte{5, 0x8a, 0, 160}, 1, true)
	if got := len(x.got(x.a)) + len(x.got(x.b)); got != n {
		t.Errorf("%d packets of the listener were passed", got-n)
	}
	if d := x.ear.s.Stats().Dropped["muted"]; d != 11 {
		t.Errorf("%d counted", d)
	}
}

// TestMixByTheClock runs a mix in real time, changes whose it is, and ends it in each way: nothing goes on behind it.
func TestMixByTheClock(t *testing.T) {
	defer goleak.VerifyNone(t)
	e := startEngine(t, 17700)
	a, b, ear := newPeer(t, "127.0.0.1"), newPeer(t, "127.0.0.1"), newPeer(t, "127.0.0.1")
	sa, sb, s := e.stream(t, "127.0.0.1"), e.stream(t, "127.0.0.1"), e.stream(t, "127.0.0.1")
	sa.Apply(agreed(a.at, pcmu))
	sb.Apply(agreed(b.at, pcmu))
	s.Apply(agreed(ear.at, pcmu))
	s.Feed(sa, sb)
	s.Mix(sa, sb)
	if len(s.sinks)+len(sa.feeders) != 0 {
		t.Error("a listener feeds others")
	}
	ear.wait(t, 5)
	kept := sa.taps[s.mixer]
	s.Mix(sa)
	if sa.taps[s.mixer] != kept || len(sb.taps) != 0 {
		t.Error("the pools are not those of who is mixed")
	}
	s.Follow(sb)
	if len(sa.taps) != 0 || s.mixer != nil || s.path.Load().muted {
		t.Error("the mix goes on behind a Follow")
	}
	s.Mix(sa, sb)
	s.Play(ToneHold)
	if len(sa.taps)+len(sb.taps) != 0 {
		t.Error("the mix goes on behind a tone")
	}
	s.Mix(sa, sb)
	sa.Close()
	s.Mix(sa, sb)
	if len(s.mixer.from) != 1 {
		t.Error("a closed stream is mixed")
	}
	s.Close()
	e.stop(t)
	for _, p := range []*peer{a, b, ear} {
		p.close()
	}
}

// TestMixAllocatesNothing: neither the tap nor the mixer.
func TestMixAllocatesNothing(t *testing.T) {
	turn := mixTurn(t)
	for range 20 {
		turn()
	}
	if n := testing.AllocsPerRun(1000, turn); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

// mixTurn is one frame of a mix of two.
func mixTurn(t testing.TB) func() {
	k := newBelt(t, pcmu)
	ear := k.r.phone("198.51.100.9", pcma).s
	ear.rtp = &null{}
	m := newMixer(ear)
	k.r.e.mu.Lock()
	ear.mixer = m
	m.take([]*Stream{k.from.s, k.from.s.sinks[0]})
	k.r.e.mu.Unlock()
	ear.line.follow(&m.source, k.r.now)
	return func() {
		k.turn()
		m.play(k.r.now, k.r.now)
	}
}

func BenchmarkMix(b *testing.B) {
	turn := mixTurn(b)
	b.ReportAllocs()
	for b.Loop() {
		turn()
	}
}
