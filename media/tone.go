package media

import (
	"math"
	"slices"
	"sync"
	"time"
)

// Tone names a sound that baton makes itself.
type Tone uint8

// The tones.
const (
	ToneNone    Tone = iota // nothing
	ToneHold                // you are on hold: two quiet beeps every five seconds
	ToneWait                // the other one will be back: one quieter beep every three seconds
	ToneEnded               // the call has ended
	ToneUnknown             // no such number: the special information tone (ITU-T E.180 §7)
	ToneAway                // nobody there
	ToneRing                // ringing at the other side
	ToneDone                // what was dialled is done: two short rising beeps, once a second
)

// beep is a part of a tone; frequency 0 is silence.
type beep struct {
	hertz  float64
	length time.Duration
}

type tone struct {
	name  string
	level float64 // dB below full scale
	beeps []beep  // one cycle; its length is a multiple of 20 ms
}

const ms = time.Millisecond

// tones has the cycles; 425 Hz is the pitch of ITU-T E.180 §4.
var tones = [...]tone{
	ToneHold:    {"hold", 26, []beep{{425, 200 * ms}, {0, 200 * ms}, {425, 200 * ms}, {0, 4400 * ms}}},
	ToneWait:    {"wait", 30, []beep{{425, 120 * ms}, {0, 2880 * ms}}},
	ToneEnded:   {"ended", 20, []beep{{425, 500 * ms}, {0, 500 * ms}}},
	ToneUnknown: {"unknown", 20, []beep{{950, 330 * ms}, {1400, 330 * ms}, {1800, 330 * ms}, {0, 1010 * ms}}},
	ToneAway:    {"away", 20, []beep{{425, 240 * ms}, {0, 240 * ms}}},
	ToneRing:    {"ring", 22, []beep{{425, 1000 * ms}, {0, 4000 * ms}}},
	ToneDone:    {"done", 20, []beep{{620, 120 * ms}, {0, 60 * ms}, {880, 180 * ms}, {0, 640 * ms}}},
}

// samples makes one cycle at 8 kHz, with edges of 5 ms so that nothing clicks.
func (t tone) samples() []int16 {
	const rate, edge = 8000, 40
	peak := 32767 * math.Pow(10, -t.level/20)
	var out []int16
	for _, b := range t.beeps {
		n := int(b.length * rate / time.Second)
		for i := range n {
			gain := min(1, float64(min(i, n-1-i))/edge)
			out = append(out, int16(math.Round(peak*gain*math.Sin(2*math.Pi*b.hertz*float64(i)/rate))))
		}
	}
	return out
}

// frames is the length of one cycle.
func (t tone) frames() int {
	var d time.Duration
	for _, b := range t.beeps {
		d += b.length
	}
	return int(d / toneFrame)
}

// toneFrame is the length of the frames that tones are played in.
const toneFrame = 20 * ms

// voice is a tone in a codec: payloads of 20 ms, one cycle.
type voice [][]byte

var voices struct {
	sync.Mutex
	made map[string]voice // by codec and tone
}

// speaks says whether tones can be had in c.
func speaks(c Codec) bool { return c.Is(pcmu) || c.Is(pcma) || c.Is(g722) || c.Is(opus) }

// voiceOf returns a tone in a codec, made at first use.
func voiceOf(t Tone, c Codec) voice {
	voices.Lock()
	defer voices.Unlock()
	key := c.rtpmap() + tones[t].name
	v, ok := voices.made[key]
	if ok {
		return v
	}
	switch {
	case c.Is(pcmu):
		v = encode(tones[t].samples(), toMu)
	case c.Is(pcma):
		v = encode(tones[t].samples(), toA)
	case c.Is(g722):
		v = prepared(tones[t].name+".g722.gz", tones[t].frames())
	case c.Is(opus):
		v = prepared(tones[t].name+".ogg", tones[t].frames())
	}
	if voices.made == nil {
		voices.made = map[string]voice{}
	}
	voices.made[key] = v
	return v
}

func encode(samples []int16, law func(int16) byte) voice {
	var v voice
	for part := range slices.Chunk(samples, 160) {
		b := make([]byte, len(part))
		for i, s := range part {
			b[i] = law(s)
		}
		v = append(v, b)
	}
	return v
}

// player is a tone being played: a source like any other, paced by the clock.
type player struct {
	source source
	stream *Stream
	tone   Tone

	// owned by run
	terms *terms // for which voice was chosen
	voice voice
	out   *outgoing // never changed, only replaced: the line remembers it
	n     int       // frames played
	p     packet
}

func newPlayer(s *Stream, t Tone) *player {
	return &player{source: source{tone: true}, stream: s, tone: t, p: packet{buf: make([]byte, maxPacket), body: 12, sound: true}}
}

// run plays until the line has left it for good.
func (p *player) run() {
	p.stream.paced("tone", func(due, now time.Duration) (next time.Duration, more bool) {
		if !p.play(due, now) {
			return 0, false
		}
		due += toneFrame
		if missed := (now - due) / toneFrame; missed > 10 { // the machine stood still
			p.skip(int(missed))
			due += missed * toneFrame
		}
		return due, true
	})
}

// paced calls play when the line's next slot is due, and again when play says, until there is no more or the stream is
// closed. A panic costs what is played alone.
func (s *Stream) paced(what string, play func(due, now time.Duration) (next time.Duration, more bool)) {
	e := s.engine
	defer e.survive(what)
	due, more := s.line.nextSlot(e.clock()), true
	timer := time.NewTimer(due - e.clock())
	defer timer.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-timer.C:
		}
		if due, more = play(due, e.clock()); !more {
			return
		}
		timer.Reset(due - e.clock())
	}
}

// nextSlot is when the frame after the last is due: a frame after it on a line that is running, else now.
func (l *line) nextSlot(now time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle()
	if l.at == 0 || now-l.at >= toneFrame {
		return now
	}
	return l.at + toneFrame
}

// play sends the frame that is due; false once nobody listens any more.
func (p *player) play(due, now time.Duration) bool {
	l := &p.stream.line
	if l.cur.Load() != &p.source && l.want.Load() != &p.source {
		return false
	}
	p.choose()
	if len(p.voice) == 0 {
		return true
	}
	body := p.voice[p.n%len(p.voice)]
	p.p.end = 12 + copy(p.p.buf[12:], body)
	p.p.seq++
	p.p.ts += uint32(ticks(toneFrame, p.p.rate))
	p.p.now, p.p.due = now, due
	p.n++
	l.offer(&p.source, &p.p, p.out)
	return true
}

// skip leaves frames out whose time has passed.
func (p *player) skip(n int) {
	p.n += n
	p.p.ts += uint32(n) * uint32(ticks(toneFrame, p.p.rate))
}

// choose takes the codec that is spoken on the line, else the first the peer takes that tones can be had in.
func (p *player) choose() {
	l := &p.stream.line
	l.mu.Lock()
	t, last := l.terms, l.last
	l.mu.Unlock()
	if t == nil || t == p.terms {
		return
	}
	p.terms, p.voice = t, nil
	i := -1
	if last != nil && speaks(last.codec) {
		i = slices.IndexFunc(t.send, last.codec.Is)
	}
	if i < 0 {
		i = slices.IndexFunc(t.send, speaks)
	}
	if i < 0 {
		return
	}
	c := t.send[i]
	p.voice, p.out = voiceOf(p.tone, c), &outgoing{ok: true, pt: c.PT, codec: c}
	p.p.rate = uint32(c.Rate)
}
