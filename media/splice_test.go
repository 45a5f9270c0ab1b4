package media

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// move makes one make-before-break switch of far's peer from old to a new device, and returns the new one.
func (r *room) move(far, old *dev, phase time.Duration, ppm float64, jitter time.Duration) *dev {
	dev := r.phone("198.51.100.9")
	dev.start, dev.ppm, dev.jitter = r.now+phase, ppm, jitter
	far.s.Feed(old.s, dev.s)
	dev.s.Feed(far.s)
	dev.s.Follow(far.s)
	r.run(r.now+40*ms, far, old, dev) // answered, and heard by now
	if dev.heard != 1 {
		r.t.Fatalf("new device heard %d times", dev.heard)
	}
	far.s.Follow(dev.s)
	r.run(r.now+600*ms, far, old, dev)
	old.off = true
	old.s.Close()
	far.s.Feed(dev.s)
	return dev
}

func TestMoveKeepsTheFarLineWhole(t *testing.T) {
	for _, jitter := range []time.Duration{0, 5 * ms} {
		var gaps []time.Duration
		var worst time.Duration
		for range 1000 {
			r := newRoom(t)
			far, old := r.phone("203.0.113.5"), r.phone("198.51.100.7")
			far.start, old.start = r.now+rand.N(20*ms), r.now+rand.N(20*ms)
			far.ppm, old.ppm = rand.Float64()*200-100, rand.Float64()*200-100
			far.jitter, old.jitter = jitter, jitter
			bridge(far, old)
			r.run(r.now+500*ms, far, old)
			r.forget(far)
			dev := r.move(far, old, rand.N(20*ms), rand.Float64()*200-100, jitter)
			k := r.track(far, 8000)
			if k.breaks+k.tsBreaks+k.markers != 0 || k.ssrcs != 1 || k.packets < 30 {
				t.Fatalf("far side heard %+v", k)
			}
			if lost := far.s.Lost(); lost != 0 {
				t.Fatalf("%d of far's packets reached nobody", lost)
			}
			rep := far.s.Splice()
			if jitter == 0 && (rep.Gap-k.gap).Abs() > 10*time.Microsecond || rep.Lost != 0 || rep.Overlap < 500*ms {
				t.Fatalf("report %+v, far side saw %v", rep, k.gap)
			}
			gaps = append(gaps, k.gap)
			worst = max(worst, k.late, -k.early)
			if n := dev.s.Stats().Out.Packets; n < 30 {
				t.Fatalf("new device got %d packets", n)
			}
			r.shut()
		}
		slices.Sort(gaps)
		p50, p95, most := gaps[500], gaps[950], gaps[999]
		t.Logf("jitter %v: gap p50 %v p95 %v max %v, timestamps within %v of the clock", jitter, p50, p95, most, worst)
		if p50 > 20*ms+3*ms+jitter || p95 > 35*ms+jitter || most > 42*ms+jitter || worst > 16*ms+jitter {
			t.Errorf("jitter %v: gap p50 %v p95 %v max %v, timestamps off by %v", jitter, p50, p95, most, worst)
		}
	}
}

// TestManyMovesDoNotAddUp moves one call many times: the schedule must stay where it began.
func TestManyMovesDoNotAddUp(t *testing.T) {
	for range 20 {
		r := newRoom(t)
		far, dev := r.phone("203.0.113.5"), r.phone("198.51.100.7")
		bridge(far, dev)
		r.run(r.now+200*ms, far, dev)
		for range 50 {
			dev = r.move(far, dev, rand.N(20*ms), rand.Float64()*200-100, 0)
		}
		k := r.track(far, 8000)
		if k.breaks+k.tsBreaks != 0 || k.ssrcs != 1 || k.markers != 1 || k.gap > 42*ms || k.late > 20*ms || k.early < -20*ms {
			t.Errorf("after 50 moves the far side had heard %+v", k)
		}
		r.shut()
	}
}

func TestBreakSetsMarkerAndKeepsTheClock(t *testing.T) {
	r := newRoom(t)
	far, old := r.phone("203.0.113.5"), r.phone("198.51.100.7")
	bridge(far, old)
	r.run(r.now+500*ms, far, old)
	old.off = true
	r.forget(far)
	dev := r.phone("198.51.100.9")
	dev.start = r.now + 300*ms
	dev.s.Feed(far.s)
	far.s.Follow(dev.s)
	last := r.now
	r.run(r.now+time.Second, far, dev)
	k := r.track(far, 8000)
	if k.markers != 1 || k.breaks != 0 || k.first-last < 290*ms {
		t.Errorf("%+v", k)
	}
	if rep := far.s.Splice(); rep.Gap < 300*ms || rep.Gap > 360*ms || rep.Lost < 13 || rep.Lost > 17 || rep.Overlap != 0 {
		t.Errorf("report %+v", rep)
	}
}

// TestSourceStartsAnew is a phone that begins a new stream without a word: SSRC, numbers and timestamps change, the far side's do not.
func TestSourceStartsAnew(t *testing.T) {
	for name, change := range map[string]func(*dev){
		"ssrc":           func(d *dev) { d.hdr.SSRC++; d.hdr.SequenceNumber += 9000; d.hdr.Timestamp += 77e6 },
		"sequence":       func(d *dev) { d.hdr.SequenceNumber += 20000 },
		"timestamp":      func(d *dev) { d.hdr.Timestamp -= 5e6 },
		"all, same ssrc": func(d *dev) { d.hdr.SequenceNumber -= 7000; d.hdr.Timestamp += 5e8 },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(t)
			far, dev := r.phone("203.0.113.5"), r.phone("198.51.100.7")
			bridge(far, dev)
			r.run(r.now+200*ms, far, dev)
			change(dev)
			r.run(r.now+400*ms, far, dev)
			if k := r.track(far, 8000); k.breaks+k.tsBreaks != 0 || k.packets != 31 || k.late > ms || k.early < -ms {
				t.Errorf("far side heard %+v", k)
			}
		})
	}
}

// TestPauseByHold lets a held phone's numbers run on for so long that they would go backwards.
func TestPauseByHold(t *testing.T) {
	r := newRoom(t)
	far, dev := r.phone("203.0.113.5"), r.phone("198.51.100.7")
	bridge(far, dev)
	r.run(r.now+200*ms, far, dev)
	held := agreed(far.at, pcmu, dtmf)
	held.Direction = RecvOnly
	far.s.Apply(held)
	n := len(r.got(far))
	for range 40000 { // 13 minutes
		r.now = dev.due()
		dev.send()
	}
	if len(r.got(far)) != n {
		t.Fatal("a peer that does not want to hear was sent to")
	}
	if dev.s.LastHeard().Before(r.e.wall(r.now)) {
		t.Error("packets that go nowhere must count as a sign of life")
	}
	far.s.Apply(agreed(far.at, pcmu, dtmf))
	far.off = true
	r.run(r.now+400*ms, dev)
	if k := r.track(far, 8000); k.breaks != 0 || k.tsBreaks != 0 || k.late > 21*ms || k.early < -21*ms || k.packets < n+18 {
		t.Errorf("far side heard %+v", k)
	}
}

// TestForkSkipsHeld: one of two sinks is on hold and gets nothing, each other line has numbers of its own.
func TestForkSkipsHeld(t *testing.T) {
	r := newRoom(t)
	far, a, b, c := r.phone("203.0.113.5"), r.phone("198.51.100.7"), r.phone("198.51.100.8"), r.phone("198.51.100.9")
	held := agreed(c.at, pcmu)
	held.Direction = Inactive
	c.s.Apply(held)
	far.s.Feed(a.s, b.s, c.s)
	for _, d := range []*dev{a, b, c} {
		d.s.Follow(far.s)
	}
	r.run(r.now+200*ms, far)
	ka, kb, kc := r.track(a, 8000), r.track(b, 8000), r.track(c, 8000)
	if ka.packets != 11 || kb.packets != 11 || kc.packets != 0 || ka.breaks+kb.breaks != 0 {
		t.Errorf("%+v %+v %+v", ka, kb, kc)
	}
	if x, y := r.got(a)[0].b, r.got(b)[0].b; slices.Equal(x[8:12], y[8:12]) || a.s.Stats().Out.SSRC == b.s.Stats().Out.SSRC {
		t.Error("two lines with one SSRC")
	}
}

// TestLatePacketFromBeforeTheSplice: what a new source sent before its first forwarded packet may not come after it.
func TestLatePacketFromBeforeTheSplice(t *testing.T) {
	r := newRoom(t)
	far, dev := r.phone("203.0.113.5"), r.phone("198.51.100.7")
	bridge(far, dev)
	r.run(r.now+100*ms, dev)
	n := len(r.got(far))
	late := *dev
	late.hdr.SequenceNumber -= 20
	late.emit(dev.at, 0, dev.body, dev.hdr.Timestamp-20*160, false)
	if len(r.got(far)) != n || dev.s.ear.lost.Load() == 0 || far.s.Stats().Dropped["late"] != 1 {
		t.Errorf("late packet went out: %v", far.s.Stats().Dropped)
	}
	back := *dev
	back.hdr.SequenceNumber -= 2
	back.emit(dev.at, 0, dev.body, dev.hdr.Timestamp-2*160, false)
	if len(r.got(far)) != n+1 {
		t.Error("a packet that was only reordered must go out")
	}
}

func TestClockRateChange(t *testing.T) {
	r := newRoom(t)
	far := r.phone("203.0.113.5", opus, pcmu)
	wide, narrow := r.phone("198.51.100.7", opus), r.phone("198.51.100.8", pcmu)
	bridge(far, wide)
	far.off = true
	r.run(r.now+200*ms, wide)
	narrow.start = r.now + 7*ms
	narrow.s.Feed(far.s)
	far.s.Follow(narrow.s)
	last := r.got(far)[len(r.got(far))-1]
	r.run(r.now+200*ms, wide, narrow)
	after := r.got(far)[11:]
	for len(after) > 0 && after[0].b[1]&0x7f == opus.PT {
		last, after = after[0], after[1:]
	}
	if len(after) < 8 {
		t.Fatalf("%d packets of the new codec", len(after))
	}
	if step := tsOf(after[0].b) - tsOf(last.b); step != 960 && step != 1920 {
		t.Errorf("timestamp goes on by %d, want a frame of the old clock", step)
	}
	if step := tsOf(after[1].b) - tsOf(after[0].b); step != 160 {
		t.Errorf("then by %d, want a frame of the new clock", step)
	}
	if k := follow(t, r.got(far), 8000); k.breaks+k.tsBreaks != 0 {
		t.Errorf("%+v", k)
	}
}

func TestCodecsBetweenLegs(t *testing.T) {
	r := newRoom(t)
	speex := Codec{Name: "speex", Rate: 16000, PT: 97}
	speex2 := Codec{Name: "SPEEX", Rate: 16000, PT: 110}
	event := Codec{Name: "telephone-event", Rate: 8000, PT: 96}
	cn := Codec{Name: "CN", Rate: 8000, PT: 13}
	a := r.phone("203.0.113.5", pcmu, event, speex, cn)
	b := r.phone("198.51.100.7", pcma, dtmf, speex2)
	bridge(a, b)
	send := func(d *dev, pt uint8, body ...byte) {
		r.now += 20 * ms
		d.emit(d.at, pt, body, d.hdr.Timestamp, false)
		d.hdr.SequenceNumber++
		d.hdr.Timestamp += 160
	}
	send(a, 0, 0xff, 0x80, 0x00)
	send(a, 96, 5, 10, 0, 160)
	send(a, 97, 1, 2, 3)
	send(a, 13, 40)
	send(a, 55, 1)
	got := r.got(b)
	want := [][]byte{{8, 0xd5, muToA[0x80], muToA[0x00]}, {101, 5, 10, 0, 160}, {110, 1, 2, 3}}
	if len(got) != len(want) {
		t.Fatalf("%d packets", len(got))
	}
	for i, w := range want {
		if got[i].b[1]&0x7f != w[0] || !slices.Equal(payloadOf(got[i].b), w[1:]) {
			t.Errorf("packet %d: % x, want % x", i, got[i].b[1:], w)
		}
	}
	if n := a.s.Stats().Dropped["payload"]; n != 2 {
		t.Errorf("%d packets dropped that b cannot take, want comfort noise and the unknown", n)
	}
	if c, ok := a.s.InUse(); !ok || !c.Is(speex) {
		t.Errorf("in use %+v", c)
	}
}

func TestConvertedAndPlainInOneFork(t *testing.T) {
	r := newRoom(t)
	far, law, same := r.phone("203.0.113.5", pcmu), r.phone("198.51.100.7", pcma), r.phone("198.51.100.8", pcmu)
	far.s.Feed(law.s, same.s)
	law.s.Follow(far.s)
	same.s.Follow(far.s)
	for i := range far.body {
		far.body[i] = byte(i)
	}
	r.run(r.now+100*ms, far)
	a, b := r.got(law), r.got(same)
	if len(a) != 6 || len(b) != 6 {
		t.Fatal(len(a), len(b))
	}
	for i := range far.body {
		if payloadOf(b[3].b)[i] != byte(i) || payloadOf(a[3].b)[i] != muToA[i] {
			t.Fatalf("byte %d: %x %x", i, payloadOf(b[3].b)[i], payloadOf(a[3].b)[i])
		}
	}
}

// TestEventEndsBeforeTheSplice: a key pressed on the old device is released before the new one is heard (RFC 4733 §2.5.1.4).
func TestEventEndsBeforeTheSplice(t *testing.T) {
	r := newRoom(t)
	far, old := r.phone("203.0.113.5"), r.phone("198.51.100.7")
	bridge(far, old)
	far.off = true
	r.run(r.now+100*ms, old)
	start := old.hdr.Timestamp
	for i := range 3 {
		r.now += 20 * ms
		old.emit(old.at, dtmf.PT, []byte{7, 10, byte(160 * i >> 8), byte(160 * i)}, start, i == 0)
		old.hdr.SequenceNumber++
	}
	dev := r.phone("198.51.100.9")
	dev.start = r.now + 15*ms
	dev.s.Feed(far.s)
	far.s.Follow(dev.s)
	n := len(r.got(far))
	r.run(r.now+100*ms, dev)
	got := r.got(far)[n:]
	if len(got) < 5 {
		t.Fatal(len(got))
	}
	eventTS := tsOf(r.got(far)[n-1].b)
	for i, p := range got[:3] {
		body := payloadOf(p.b)
		if p.b[1]&0x7f != dtmf.PT || body[0] != 7 || body[1] != 0x80|10 || tsOf(p.b) != eventTS {
			t.Errorf("end packet %d: % x", i, p.b)
		}
		if d := int(body[2])<<8 | int(body[3]); d < 320 || d > 320+160 {
			t.Errorf("end packet %d: duration %d", i, d)
		}
	}
	if got[3].b[1]&0x7f != pcmu.PT {
		t.Errorf("after the end packets came % x", got[3].b[:12])
	}
	if k := r.track(far, 8000); k.breaks+k.tsBreaks != 0 || k.late > 76*ms || k.early < -16*ms {
		t.Errorf("%+v", k) // late: an event's packets keep the timestamp of its start, which lags behind
	}
	r.move(far, dev, 3*ms, 0, 0)
	for _, p := range r.got(far)[n+3:] {
		if p.b[1]&0x7f == dtmf.PT {
			t.Fatal("the event was ended twice")
		}
	}
}

// TestLongPackets: a new source with 60 ms packets that always come just after the old one's is taken all the same.
func TestLongPackets(t *testing.T) {
	r := newRoom(t)
	far, old, dev := r.phone("203.0.113.5"), r.phone("198.51.100.7"), r.phone("198.51.100.9")
	bridge(far, old)
	r.run(r.now+201*ms, old)
	dev.s.Feed(far.s)
	far.s.Follow(dev.s)
	dev.frame = 480
	for range 10 {
		r.run(r.now+60*ms, old)
		dev.send()
	}
	if c := far.s.line.cur.Load(); c != &dev.s.ear.source {
		t.Fatal("the switch never came")
	}
	if k := r.track(far, 8000); k.breaks+k.tsBreaks > 0 || k.gap > 65*ms {
		t.Errorf("%+v", k)
	}
}
