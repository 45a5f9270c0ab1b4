package media

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestToneFiles holds the prepared tones against the generated ones; with TONES_RAW it writes the latter for tones/make.sh.
func TestToneFiles(t *testing.T) {
	dir := os.Getenv("TONES_RAW")
	for _, one := range tones[1:] {
		samples := one.samples()
		if len(samples)%160 != 0 {
			t.Errorf("%s: %d samples are no whole frames", one.name, len(samples))
		}
		if dir != "" {
			var b bytes.Buffer
			if err := binary.Write(&b, binary.LittleEndian, samples); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, one.name+".raw"), b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		frames := len(samples) / 160
		for _, ext := range []string{".ogg", ".g722.gz"} {
			if v := prepared(one.name+ext, frames); len(v) != frames || frames != one.frames() {
				t.Errorf("%s%s: %d frames, want %d (%d)", one.name, ext, len(v), frames, one.frames())
			}
		}
	}
}

// TestToneOnTheLine: stream, tone, another tone, stream: the line stays whole, in every codec that tones can be had in.
func TestToneOnTheLine(t *testing.T) {
	for _, c := range []Codec{pcmu, pcma, g722, opus} {
		t.Run(c.Name, func(t *testing.T) {
			r := newRoom(t)
			far, dev := r.phone("203.0.113.5", c, dtmf), r.phone("198.51.100.7", c, dtmf)
			far.off = true
			bridge(far, dev)
			r.run(r.now+505*ms, dev)
			r.play(far, ToneHold, 100, dev)
			r.play(far, ToneAway, 50, dev)
			if n := len(r.got(far)); n < 26+148 || n > 26+151 {
				t.Errorf("%d packets", n)
			}
			for i, b := range r.got(far)[30:60] {
				if len(payloadOf(b.b)) == 0 || b.b[1]&0x7f != c.PT {
					t.Fatalf("packet %d: % x", i, b.b[:12])
				}
			}
			far.s.Follow(dev.s)
			r.run(r.now+500*ms, dev)
			k := r.track(far, uint32(c.Rate))
			if k.breaks+k.tsBreaks != 0 || k.markers != 1 || k.ssrcs != 1 || k.gap > 42*ms || k.late > 16*ms || k.early < -16*ms {
				t.Errorf("%+v", k)
			}
			if rep := far.s.Splice(); rep.Gap > 42*ms || rep.Lost != 0 || rep.Overlap != 0 {
				t.Errorf("report %+v", rep)
			}
		})
	}
}

// play has far hear n frames of a tone, with devices going on.
func (r *room) play(far *dev, tone Tone, n int, devices ...*dev) {
	p := newPlayer(far.s, tone)
	due := far.s.line.nextSlot(r.now)
	far.s.line.follow(&p.source, r.now)
	for range n {
		r.run(due+time.Duration(rand.N(int64(ms))), devices...)
		if !p.play(due, r.now) {
			r.t.Fatal("the tone stopped by itself")
		}
		due += toneFrame
	}
}

// TestToneAlone: a line that never had a source starts with a marker, keeps time, and falls silent when told to.
func TestToneAlone(t *testing.T) {
	r := newRoom(t)
	far := r.phone("203.0.113.5", Codec{Name: "G729", Rate: 8000, PT: 18}, pcma)
	r.play(far, ToneUnknown, 60)
	k := r.track(far, 8000)
	if k.packets != 60 || k.markers != 1 || k.breaks+k.tsBreaks != 0 || k.gap > 22*ms {
		t.Errorf("%+v", k)
	}
	if loud := payloadOf(r.got(far)[5].b); bytes.Count(loud, []byte{0xd5}) > 20 {
		t.Error("the tone is silence")
	}
	if quiet := payloadOf(r.got(far)[55].b); bytes.Count(quiet, []byte{0xd5}) < 150 {
		t.Error("the pause is not silence")
	}
	p := newPlayer(far.s, ToneHold)
	far.s.line.follow(&p.source, r.now)
	far.s.Play(ToneNone)
	if p.play(r.now, r.now) {
		t.Error("a tone that was stopped goes on")
	}
}

// TestToneByTheClock plays in real time.
func TestToneByTheClock(t *testing.T) {
	defer goleak.VerifyNone(t)
	e := startEngine(t, 17400)
	peer := newPeer(t, "127.0.0.1")
	s := e.stream(t, "127.0.0.1")
	s.Apply(agreed(peer.at, pcmu))
	s.Play(ToneRing)
	peer.wait(t, 30)
	s.Play(ToneEnded)
	peer.wait(t, 60)
	s.Close()
	k := follow(t, peer.heard(), 8000)
	if k.breaks+k.tsBreaks != 0 || k.markers != 1 || k.ssrcs != 1 {
		t.Errorf("%+v", k)
	}
	e.stop(t)
	peer.close()
}

// TestG711 holds the tables against the law's own rule: what is converted there and back is the same step or, where PCMA is coarser, next to it.
func TestG711(t *testing.T) {
	for i := range 256 {
		mu, a := byte(i), byte(i)
		if back := toMu(fromMu(mu)); back != mu && mu != 0x7f {
			t.Errorf("PCMU %02x decodes and encodes to %02x", mu, back)
		}
		if back := toA(fromA(a)); back != a {
			t.Errorf("PCMA %02x decodes and encodes to %02x", a, back)
		}
		for _, c := range []struct{ is, was int16 }{{fromA(muToA[mu]), fromMu(mu)}, {fromMu(aToMu[a]), fromA(a)}} {
			if diff, allowed := abs(int(c.is)-int(c.was)), 16+abs(int(c.was))/16; diff > allowed {
				t.Errorf("%02x: %d became %d", i, c.was, c.is)
			}
		}
	}
	// ITU-T G.711 tables 1a and 2a: the ends of the scales.
	if fromMu(0x80) != 32124 || fromMu(0x00) != -32124 || fromA(0xaa) != 32256 || fromA(0x2a) != -32256 || fromMu(0xff) != 0 {
		t.Error(fromMu(0x80), fromMu(0x00), fromA(0xaa), fromA(0x2a), fromMu(0xff))
	}
}

func abs(v int) int { return max(v, -v) }
