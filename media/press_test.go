package media

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var wideKeys = Codec{Name: "telephone-event", Rate: 48000, PT: 102, Fmtp: "0-16"}

// keyed is a packet of a key as it came out.
type keyed struct {
	seq      uint16
	ts       uint32
	pt       uint8
	marker   bool
	code     uint8
	end      bool
	duration uint16
	i        int // its place among all packets
}

// keysIn are the telephone-event packets among those with one of these payload types.
func keysIn(all []seen, pt uint8) (out []keyed) {
	for i, p := range all {
		if p.b[1]&0x7f != pt {
			continue
		}
		b := payloadOf(p.b)
		out = append(out, keyed{
			seq: binary.BigEndian.Uint16(p.b[2:]), ts: tsOf(p.b), pt: p.b[1] & 0x7f, marker: p.b[1]&0x80 != 0,
			code: b[0], end: b[1]&0x80 != 0, duration: binary.BigEndian.Uint16(b[2:]), i: i,
		})
	}
	return out
}

// press plays a key in the room's time, with devices going on, and gives how many packets were due.
func (r *room) press(far *dev, k Key, devices ...*dev) (packets int) {
	p := &press{stream: far.s, key: k, since: r.now}
	for due := far.s.line.nextSlot(r.now); ; due += keyFrame {
		r.run(due+time.Duration(rand.N(int64(ms))), devices...)
		if packets++; !far.s.line.play(p, due, r.now) {
			return packets
		}
	}
}

// checkKey holds one key's packets against RFC 4733 §2.5: one timestamp, a marker on the first alone, growing durations, three
// end packets, and no number missing.
func checkKey(t *testing.T, keys []keyed, k Key, rate uint32) {
	t.Helper()
	whole := uint16(ticks(k.Length, rate))
	if len(keys) < 3 {
		t.Fatalf("%d packets of the key", len(keys))
	}
	for i, p := range keys {
		last := i >= len(keys)-3
		want := min(uint16(ticks(keyFrame, rate))*uint16(i+1), whole)
		if p.code != k.Code || p.ts != keys[0].ts || p.marker != (i == 0) || p.end != last || p.duration != want {
			t.Errorf("packet %d: %+v, want a duration of %d", i, p, want)
		}
		if i > 0 && (p.seq != keys[i-1].seq+1 || p.i != keys[i-1].i+1) {
			t.Errorf("packet %d: %+v comes after %+v", i, p, keys[i-1])
		}
	}
}

// TestKeyOnTheLine plays a key between speech: the line stays one, in both clocks, whatever the phase of the source.
func TestKeyOnTheLine(t *testing.T) {
	for name, c := range map[string]struct{ sound, event Codec }{"8000": {pcmu, dtmf}, "48000": {opus, wideKeys}} {
		t.Run(name, func(t *testing.T) {
			for range 50 {
				rate, key := uint32(c.sound.Rate), Key{11, 100 * ms}
				r := newRoom(t)
				far, dev := r.phone("203.0.113.5", c.sound, c.event), r.phone("198.51.100.7", c.sound, c.event)
				dev.start, dev.jitter = r.now+rand.N(20*ms), 3*ms
				bridge(far, dev)
				far.off = true
				r.run(r.now+500*ms, dev)
				if n := r.press(far, key, dev); n != 7 {
					t.Fatalf("%d packets were due, want 5 of 20 ms and 2 more ends", n)
				}
				r.run(r.now+500*ms, dev)
				all := r.got(far)
				keys := keysIn(all, c.event.PT)
				checkKey(t, keys, key, rate)
				before := keys[0].i
				if before < 24 || before > 26 || len(all) < before+7+22 {
					t.Fatalf("the key is at %d of %d", before, len(all))
				}
				last, next := all[before-1], all[before+7]
				if step := keys[0].ts - tsOf(last.b); step != rate/50 {
					t.Errorf("the key begins %d ticks after the last frame", step)
				}
				if next.b[1]&0x80 != 0 || next.b[1]&0x7f != c.sound.PT || tsOf(next.b)-keys[0].ts < uint32(ticks(key.Length, rate)) {
					t.Errorf("speech goes on with % x, the key began at %d", next.b[:12], keys[0].ts)
				}
				if next.at-all[before+6].at > 25*ms {
					t.Errorf("speech goes on %v after the key", next.at-all[before+6].at)
				}
				k := follow(t, withoutKeys(all, c.event.PT), rate)
				if k.ssrcs != 1 || k.markers != 1 || k.tsBreaks != 0 || k.late > 25*ms || k.early < -25*ms {
					t.Errorf("speech: %+v", k)
				}
				if k := r.track(far, rate); k.breaks != 0 || k.ssrcs != 1 || k.gap > 45*ms {
					t.Errorf("the line: %+v", k)
				}
				if dev.s.Lost() != 0 {
					t.Errorf("%d packets count as lost that gave way to the key", dev.s.Lost())
				}
				r.shut()
			}
		})
	}
}

// TestManyKeysDoNotAddUp: speech stays where it was on the clock, however many keys come between.
func TestManyKeysDoNotAddUp(t *testing.T) {
	r := newRoom(t)
	far, dev := r.phone("203.0.113.5"), r.phone("198.51.100.7")
	dev.jitter, dev.ppm = 3*ms, 100
	bridge(far, dev)
	far.off = true
	r.run(r.now+500*ms, dev)
	for i := range 200 {
		r.press(far, Key{uint8(i % 10), 40*ms + rand.N(100*ms)}, dev)
		r.run(r.now+rand.N(100*ms), dev)
	}
	r.run(r.now+200*ms, dev)
	if k := r.track(far, 8000); k.breaks+k.tsBreaks != 0 || k.ssrcs != 1 {
		t.Errorf("the line: %+v", k)
	}
	k := follow(t, withoutKeys(r.got(far), dtmf.PT), 8000)
	if drift := time.Duration(float64(r.now) * dev.ppm * 1e-6); k.late > 25*ms+drift || k.early < -25*ms || k.packets < 300 {
		t.Errorf("speech: %+v", k)
	}
}

func withoutKeys(all []seen, pt uint8) (out []seen) {
	for _, p := range all {
		if p.b[1]&0x7f != pt {
			out = append(out, p)
		}
	}
	return out
}

// TestKeyAlone: a line that has never been spoken on, one whose peer has another clock for keys alone.
func TestKeyAlone(t *testing.T) {
	r := newRoom(t)
	far := r.phone("203.0.113.5", pcmu, dtmf)
	r.press(far, Key{5, 60 * ms})
	checkKey(t, keysIn(r.got(far), dtmf.PT), Key{5, 60 * ms}, 8000)
	dev := r.phone("198.51.100.7", pcmu, dtmf)
	bridge(far, dev)
	far.off = true
	dev.start = r.now + 13*ms
	r.run(r.now+300*ms, dev)
	if k := r.track(far, 8000); k.breaks+k.tsBreaks != 0 || k.ssrcs != 1 {
		t.Errorf("%+v", k)
	}
	odd := r.phone("203.0.113.6", opus, dtmf)
	odd.s.Follow(dev.s)
	other := r.phone("198.51.100.8", opus)
	bridge(odd, other)
	odd.off = true
	r.run(r.now+300*ms, other)
	r.press(odd, Key{5, 60 * ms}, other)
	checkKey(t, keysIn(r.got(odd), dtmf.PT), Key{5, 60 * ms}, 8000)
}

// TestLongKey needs more than one segment at the clock of opus (RFC 4733 §2.5.1.3).
func TestLongKey(t *testing.T) {
	r := newRoom(t)
	far, dev := r.phone("203.0.113.5", opus, wideKeys), r.phone("198.51.100.7", opus, wideKeys)
	bridge(far, dev)
	far.off = true
	r.run(r.now+100*ms, dev)
	r.press(far, Key{0, 3 * time.Second}, dev)
	keys := keysIn(r.got(far), wideKeys.PT)
	past, total, ends := uint32(0), uint32(0), 0
	for i, p := range keys {
		if p.ts != keys[0].ts+past {
			if before := keys[i-1]; p.ts != before.ts+0xffff || before.duration != 0xffff || before.end || p.marker {
				t.Fatalf("segment begins with %+v after %+v", p, before)
			}
			past += 0xffff
		}
		total = past + uint32(p.duration)
		if p.end {
			ends++
		}
	}
	if past != 2*0xffff || total != 3*48000 || ends != 3 {
		t.Errorf("%d ticks of segments, %d in all, %d end packets", past, total, ends)
	}
	var heard []Key
	ear := listener(r, &heard, wideKeys)
	for _, p := range keys {
		ear.key(p.code, p.end, p.duration, p.ts)
	}
	if len(heard) != 1 || (heard[0].Length-3*time.Second).Abs() > ms {
		t.Errorf("who hears it takes it for %v", heard)
	}
}

// TestKeyBothWays: a phone that tells a key by RTP and by signalling has pressed it once.
func TestKeyBothWays(t *testing.T) {
	r := newRoom(t)
	far, dev := r.phone("203.0.113.5"), r.phone("198.51.100.7")
	bridge(far, dev)
	far.off = true
	var lastEvent uint32
	byRTP := func(code uint8) {
		start := dev.hdr.Timestamp
		lastEvent = start
		for i := range 6 {
			r.now += 20 * ms
			dev.emit(dev.at, dtmf.PT, []byte{code, 10 | uint8(i/3)<<7, 1, byte(160 * i)}, start, i == 0)
			dev.hdr.SequenceNumber++
		}
		dev.n += 6
		dev.hdr.Timestamp += 6 * 160
		r.run(r.now+60*ms, dev)
	}
	count := func() (n int, codes string) {
		seen := map[uint32]bool{}
		for _, p := range keysIn(r.got(far), dtmf.PT) {
			if !seen[p.ts] {
				seen[p.ts] = true
				codes += string("0123456789*#"[p.code])
			}
		}
		return len(seen), codes
	}
	r.run(r.now+100*ms, dev)
	byRTP(5)
	r.press(far, Key{5, 100 * ms}, dev) // the same
	byRTP(5)
	r.press(far, Key{5, 100 * ms}, dev)
	if n, codes := count(); n != 2 {
		t.Fatalf("by RTP first: %d keys were heard, %s", n, codes)
	}
	r.run(r.now+2*time.Second, dev)
	r.press(far, Key{7, 100 * ms}, dev)
	byRTP(7)
	r.press(far, Key{7, 100 * ms}, dev)
	byRTP(7)
	byRTP(7) // and once by RTP alone
	if n, codes := count(); n != 5 {
		t.Errorf("by signalling first: %d keys were heard, %s", n, codes)
	}
	r.press(far, Key{8, 100 * ms}, dev)
	byRTP(9)
	if n, codes := count(); n != 7 || codes != "5577789" {
		t.Errorf("%d keys: %s", n, codes)
	}
	r.run(r.now+2*time.Second, dev)
	byRTP(3)
	r.press(far, Key{3, 100 * ms}, dev) // the same
	r.press(far, Key{3, 100 * ms}, dev) // another, which comes by RTP only after the last packet of the first, repeated
	again := *dev
	again.emit(dev.at, dtmf.PT, []byte{3, 0x8a, 1, 0}, lastEvent, false)
	dev.hdr.SequenceNumber++
	byRTP(3)
	if n, codes := count(); n != 9 {
		t.Errorf("%d keys: %s", n, codes)
	}
	if k := r.track(far, 8000); k.breaks+k.tsBreaks != 0 || k.ssrcs != 1 {
		t.Errorf("%+v", k)
	}
}

// TestKeyWaits: for the source's own key, and for the one before it, so that no two are mixed.
func TestKeyWaits(t *testing.T) {
	r := newRoom(t)
	far, dev := r.phone("203.0.113.5"), r.phone("198.51.100.7")
	bridge(far, dev)
	far.off = true
	r.run(r.now+100*ms, dev)
	l := &far.s.line
	start := dev.hdr.Timestamp
	one, two := &press{stream: far.s, key: Key{1, 40 * ms}, since: r.now}, &press{stream: far.s, key: Key{2, 40 * ms}, since: r.now}
	for i := range 5 {
		r.now += 20 * ms
		dev.emit(dev.at, dtmf.PT, []byte{3, 10 | uint8(i/4)<<7, 1, byte(160 * i)}, start, i == 0)
		dev.hdr.SequenceNumber++
		if i < 4 && !l.play(one, r.now, r.now) {
			t.Fatal("the key did not wait")
		}
	}
	for first, second := true, true; first || second; r.now += 20 * ms {
		first = first && l.play(one, r.now, r.now)
		second = l.play(two, r.now+ms, r.now+ms)
	}
	var codes []byte
	for _, p := range keysIn(r.got(far), dtmf.PT) {
		codes = append(codes, '0'+p.code)
	}
	if string(codes) != "333331111"+"2222" {
		t.Errorf("packets of keys %s", codes)
	}
	late := &press{stream: far.s, key: Key{1, 40 * ms}, since: r.now - keyWait}
	l.key = two
	if l.play(late, r.now, r.now) {
		t.Error("a key waits for ever")
	}
}

// TestKeyAcrossASwitch: a move of the other side in the midst of a key lets it end, and the new device is heard after it.
func TestKeyAcrossASwitch(t *testing.T) {
	r := newRoom(t)
	far, old, dev := r.phone("203.0.113.5"), r.phone("198.51.100.7"), r.phone("198.51.100.8")
	bridge(far, old)
	far.off = true
	r.run(r.now+200*ms, old)
	dev.start = r.now + 50*ms
	dev.s.Feed(far.s)
	far.s.Follow(dev.s)
	r.press(far, Key{5, 200 * ms}, old, dev)
	checkKey(t, keysIn(r.got(far), dtmf.PT), Key{5, 200 * ms}, 8000)
	r.run(r.now+300*ms, old, dev)
	if far.s.line.cur.Load() != &dev.s.ear.source {
		t.Fatal("the switch never came")
	}
	if k := r.track(far, 8000); k.breaks+k.tsBreaks != 0 || k.ssrcs != 1 || k.gap > 45*ms {
		t.Errorf("%+v", k)
	}
	if k := follow(t, withoutKeys(r.got(far), dtmf.PT), 8000); k.late > 25*ms || k.early < -25*ms {
		t.Errorf("speech: %+v", k)
	}
}

// TestKeyAndAgreement: without telephone-event, or on hold, there is nobody to play to; a new payload type is used from its packet on.
func TestKeyAndAgreement(t *testing.T) {
	r := newRoom(t)
	far := r.phone("203.0.113.5", pcmu)
	if far.s.Press(Key{1, 40 * ms}, func() {}) {
		t.Error("a peer without telephone-event was played a key")
	}
	held := agreed(far.at, pcmu, dtmf)
	held.Direction = RecvOnly
	far.s.Apply(held)
	if far.s.Press(Key{1, 40 * ms}, func() {}) {
		t.Error("a peer on hold was played a key")
	}
	far.s.Apply(agreed(far.at, pcmu, dtmf))
	p := &press{stream: far.s, key: Key{1, 80 * ms}, since: r.now}
	far.s.line.play(p, r.now, r.now)
	other := dtmf
	other.PT = 120
	far.s.Apply(agreed(far.at, pcmu, other))
	r.now += 20 * ms
	far.s.line.play(p, r.now, r.now)
	if was, is := len(keysIn(r.got(far), dtmf.PT)), len(keysIn(r.got(far), 120)); was != 1 || is != 1 {
		t.Errorf("%d packets with the old type, %d with the new", was, is)
	}
	far.s.Apply(held)
	r.now += 20 * ms
	if far.s.line.play(p, r.now, r.now) || far.s.line.key != nil {
		t.Error("a key goes on into the hold")
	}
}

// TestPressByTheClock plays in real time; a stream that is closed lets its key go.
func TestPressByTheClock(t *testing.T) {
	defer goleak.VerifyNone(t)
	e := startEngine(t, 17700)
	peer := newPeer(t, "127.0.0.1")
	s := e.stream(t, "127.0.0.1")
	s.Apply(agreed(peer.at, pcmu, dtmf))
	done := make(chan struct{}, 2)
	told := func() { done <- struct{}{} }
	if !s.Press(Key{4, 100 * ms}, told) {
		t.Fatal("refused")
	}
	<-done
	peer.wait(t, 7)
	keys := keysIn(peer.heard(), dtmf.PT)
	ends := 0
	for i, k := range keys {
		if k.ts != keys[0].ts || k.marker != (i == 0) || k.code != 4 {
			t.Errorf("packet %d: %+v", i, k)
		}
		if k.end {
			ends++
		}
	}
	if ends != 3 || keys[len(keys)-1].duration != 800 {
		t.Errorf("%d ends of %+v", ends, keys)
	}
	if !s.Press(Key{4, time.Hour}, told) {
		t.Fatal("refused")
	}
	s.Close()
	<-done
	if s.Press(Key{4, time.Hour}, told) {
		t.Error("a closed stream plays")
	}
	e.stop(t)
	peer.close()
}

// ears is a phone whose keys are told, because who it is fed to takes none.
type ears struct{ *dev }

func listener(r *room, heard *[]Key, event Codec) *ears {
	sound := pcmu
	if event.Rate == 48000 {
		sound = opus
	}
	d := r.phone("198.51.100.44", sound, event)
	d.s.Tell(nil, func(k Key, rate int) {
		if rate != event.Rate {
			r.t.Errorf("told at clock %d", rate)
		}
		*heard = append(*heard, k)
	})
	deaf := r.phone("203.0.113.44", sound)
	d.s.Feed(deaf.s)
	deaf.s.Follow(d.s)
	return &ears{d}
}

func (e *ears) key(code uint8, end bool, duration uint16, ts uint32) {
	e.r.now += 20 * ms
	b := []byte{code, 10, byte(duration >> 8), byte(duration)}
	if end {
		b[1] |= 0x80
	}
	pt := uint8(dtmf.PT)
	if e.codec.Rate == 48000 {
		pt = wideKeys.PT
	}
	e.emit(e.at, pt, b, ts, false)
	e.hdr.SequenceNumber++
}

// TestKeysHeard: one for each event, whatever is lost, repeated or late of its packets.
func TestKeysHeard(t *testing.T) {
	type pkt struct {
		code     uint8
		end      bool
		duration uint16
		ts       uint32
	}
	at := func(code uint8, ts uint32) []pkt {
		return []pkt{{code, false, 160, ts}, {code, false, 320, ts}, {code, false, 480, ts}, {code, true, 640, ts}, {code, true, 640, ts}, {code, true, 640, ts}}
	}
	one := at(5, 1000)
	for name, c := range map[string]struct {
		sent []pkt
		want string
	}{
		"whole":               {one, "5:80ms"},
		"start lost":          {one[2:], "5:80ms"},
		"only one end":        {one[5:], "5:80ms"},
		"two ends lost":       {one[:4], "5:80ms"},
		"every packet twice":  {append(append([]pkt{}, one...), one...), "5:80ms"},
		"reordered":           {[]pkt{one[3], one[0], one[4], one[1]}, "5:80ms"},
		"ends lost, next key": {append(append([]pkt{}, one[:3]...), at(6, 3000)...), "5:60ms 6:80ms"},
		"ends lost, next end": {append(append([]pkt{}, one[:3]...), at(6, 3000)[5]), "5:60ms 6:80ms"},
		"late repeat":         {append(append([]pkt{}, at(6, 3000)...), one...), "6:80ms"},
		"same key twice":      {append(append([]pkt{}, one...), at(5, 3000)...), "5:80ms 5:80ms"},
		"timestamps restart":  {append(append([]pkt{}, at(6, 900000)...), one...), "6:80ms 5:80ms"},
		"no key":              {at(32, 1000), ""},
		"segments":            {[]pkt{{5, false, 0xffff, 1000}, {5, false, 160, 1000 + 0xffff}, {5, true, 320, 1000 + 0xffff}}, "5:8.231s"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(t)
			var heard []Key
			e := listener(r, &heard, dtmf)
			for _, p := range c.sent {
				e.key(p.code, p.end, p.duration, p.ts)
			}
			if got := spell(heard); got != c.want {
				t.Errorf("heard %q, want %q", got, c.want)
			}
		})
	}
}

func spell(keys []Key) (s string) {
	for i, k := range keys {
		if i > 0 {
			s += " "
		}
		s += string("0123456789*#ABCD!"[k.Code]) + ":" + (k.Length / ms * ms).String()
	}
	return s
}

// TestKeyWithoutEnd: all end packets are lost and speech goes on. What everybody could be passed is not told.
func TestKeyWithoutEnd(t *testing.T) {
	r := newRoom(t)
	var heard []Key
	e := listener(r, &heard, dtmf)
	e.key(5, false, 160, 777)
	e.key(5, false, 320, 777)
	e.start = r.now
	r.run(r.now+100*ms, e.dev)
	if len(heard) != 0 {
		t.Fatal("told while it may go on")
	}
	r.run(r.now+200*ms, e.dev)
	e.key(5, true, 640, 777)
	if spell(heard) != "5:40ms" {
		t.Errorf("heard %s", spell(heard))
	}
	able := r.phone("203.0.113.45", pcmu, dtmf)
	e.s.Feed(able.s)
	e.key(5, true, 640, 99999)
	if len(heard) != 1 {
		t.Error("told of a key that everybody can be passed")
	}
}

// TestKeysAllocateNothing: neither passing events, nor listening to them, nor giving way to a key.
func TestKeysAllocateNothing(t *testing.T) {
	b := newBelt(t, pcmu)
	b.from.s.Tell(nil, func(Key, int) {})
	deaf := b.r.phone("198.51.100.9", pcmu).s
	deaf.rtp = &null{}
	deaf.Follow(b.from.s)
	b.from.s.Feed(append([]*Stream{deaf}, b.from.s.sinks...)...)
	at := netip.AddrPortFrom(b.from.at.Addr(), b.from.at.Port())
	event := make([]byte, 16)
	pass := func() {
		b.seq++
		b.r.now += 20 * ms
		putHeader(event, dtmf.PT, false, b.seq, b.ts, 77)
		event[12], event[13] = 5, 0x80
		b.from.s.receive(event, at, b.r.now, nil)
		b.turn()
	}
	if n := testing.AllocsPerRun(1000, pass); n != 0 {
		t.Errorf("%v allocations for an event", n)
	}
	line := &b.from.s.sinks[1].line
	line.key = &press{}
	if n := testing.AllocsPerRun(1000, b.turn); n != 0 {
		t.Errorf("%v allocations for a packet that gives way", n)
	}
	line.key = nil
	p := &press{stream: b.from.s.sinks[1], key: Key{1, time.Hour}, since: b.r.now}
	line.play(p, b.r.now, b.r.now)
	if n := testing.AllocsPerRun(1000, func() { b.r.now += 20 * ms; line.play(p, b.r.now, b.r.now) }); n != 0 {
		t.Errorf("%v allocations for a packet of a key", n)
	}
}

// TestKeyWhileTheSourceIsSilent: a source that sends nothing during the key, as with voice activity detection, and goes on with its own
// next number, does not repeat the line's; and of two telephone-events the one with the line's clock is taken.
func TestKeyWhileTheSourceIsSilent(t *testing.T) {
	r := newRoom(t)
	far, dev := r.phone("203.0.113.5", opus, dtmf, pcmu, wideKeys), r.phone("198.51.100.7", opus, wideKeys)
	bridge(far, dev)
	far.off = true
	r.run(r.now+200*ms, dev)
	r.press(far, Key{5, 100 * ms})
	dev.start += 140 * ms // its timestamps have stood still too
	r.run(r.now+200*ms, dev)
	checkKey(t, keysIn(r.got(far), wideKeys.PT), Key{5, 100 * ms}, 48000)
	if k := r.track(far, 48000); k.breaks+k.tsBreaks != 0 || k.ssrcs != 1 {
		t.Errorf("%+v", k)
	}
}

// TestTellOthers: from Tell on it is others who are told, of the first packet after an Apply and of keys.
func TestTellOthers(t *testing.T) {
	r := newRoom(t)
	var before, after []Key
	e := listener(r, &before, dtmf)
	e.key(1, true, 800, 1000)
	heard := 0
	e.s.Tell(func(time.Time) { heard++ }, func(k Key, _ int) { after = append(after, k) })
	e.key(2, true, 800, 9000)
	e.s.Apply(Agreement{Remote: e.at, Send: []Codec{pcmu, dtmf}, Recv: []Codec{pcmu, dtmf}, Direction: SendRecv})
	e.key(3, true, 800, 18000)
	if len(before) != 1 || len(after) != 2 || heard != 1 {
		t.Errorf("told before: %v, after: %v, heard %d times", before, after, heard)
	}
}
