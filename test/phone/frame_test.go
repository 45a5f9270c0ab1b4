package phone

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestFrameSurvivesTheTable(t *testing.T) {
	want := frame{source: 513, counter: 70000, sent: 1234567890123456789}
	var b [frameSize]byte
	want.write(b[:], toMu)
	if got, exact, ok := readFrame(b[:], fromMu); !ok || !exact || got != want {
		t.Fatalf("plain: %+v exact=%v ok=%v", got, exact, ok)
	}
	for i := range b {
		b[i] = toA(fromMu(b[i]))
	}
	if got, exact, ok := readFrame(b[:], fromA); !ok || exact || got != want {
		t.Fatalf("µ to A: %+v exact=%v ok=%v", got, exact, ok)
	}
	want.write(b[:], toA)
	for i := range b {
		b[i] = toMu(fromA(b[i]))
	}
	if got, exact, ok := readFrame(b[:], fromMu); !ok || exact || got != want {
		t.Fatalf("A to µ: %+v exact=%v ok=%v", got, exact, ok)
	}
	for i := range b {
		b[i] = toMu(int16(1000 * (i % 8)))
	}
	if _, _, ok := readFrame(b[:], fromMu); ok {
		t.Error("a tone was taken for a numbered frame")
	}
}

func TestG711(t *testing.T) { // corner values of ITU-T G.711 tables 1a, 2a
	for _, c := range []struct {
		s     int16
		mu, a byte
	}{{0, 0xff, 0xd5}, {32767, 0x80, 0xaa}, {-32768, 0x00, 0x2a}, {1000, 0xce, 0xfa}} {
		if toMu(c.s) != c.mu || toA(c.s) != c.a {
			t.Errorf("%d: µ %#x want %#x, A %#x want %#x", c.s, toMu(c.s), c.mu, toA(c.s), c.a)
		}
	}
	for i := range 256 {
		if b := byte(i); toA(fromA(b)) != b || (toMu(fromMu(b)) != b && b != 0x7f) {
			t.Errorf("%#x is not its own code", b)
		}
	}
}

func stream(n int) []Packet {
	start := time.Unix(1000, 0)
	all := make([]Packet, n)
	for i := range all {
		all[i] = Packet{At: start.Add(time.Duration(i) * Frame), Seq: uint16(65530 + i), TS: uint32(160 * i), SSRC: 7, Source: 1}
	}
	return all
}

func TestAnalyseSeesWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func([]Packet) []Packet
		bad   func(Report) bool
	}{
		{"nothing", func(p []Packet) []Packet { return p }, func(r Report) bool {
			return r.Missing == 0 && r.Reordered == 0 && r.Drift == 0 && r.Gap == Frame && len(r.SSRCs) == 1
		}},
		{"lost", func(p []Packet) []Packet { return append(p[:50:50], p[52:]...) }, func(r Report) bool { return r.Missing == 2 && r.Gap == 3*Frame }},
		{"swapped", func(p []Packet) []Packet { p[3].Seq, p[4].Seq = p[4].Seq, p[3].Seq; return p }, func(r Report) bool { return r.Reordered == 1 && r.Missing == 0 }},
		{"twice", func(p []Packet) []Packet { return append(p, p[99]) }, func(r Report) bool { return r.Duplicates == 1 }},
		{"new SSRC", func(p []Packet) []Packet { p[9].SSRC = 8; return p }, func(r Report) bool { return len(r.SSRCs) == 2 }},
		{"slips", func(p []Packet) []Packet {
			for i := 60; i < len(p); i++ {
				p[i].TS += 480
			}
			return p
		}, func(r Report) bool { return r.Drift == 60*time.Millisecond }},
		{"late ones are no slip", func(p []Packet) []Packet { p[30].At = p[30].At.Add(15 * time.Millisecond); return p }, func(r Report) bool { return r.Drift == 0 }},
	} {
		if r := Analyse(c.spoil(stream(100)), 8000); !c.bad(r) {
			t.Errorf("%s: %s", c.name, r)
		}
	}
}

func TestLongestGapSeesSilence(t *testing.T) {
	p := stream(100)
	from, to := p[20].At, p[70].At
	if gap, _ := LongestGap(p, from, to); gap != Frame {
		t.Errorf("unbroken: %s", gap)
	}
	if gap, _ := LongestGap(p[:40], from, to); gap != 31*Frame {
		t.Errorf("broken off: %s", gap)
	}
	if gap, _ := LongestGap(nil, from, to); gap != to.Sub(from) {
		t.Errorf("nothing: %s", gap)
	}
}

// TestFrameWithOneZero has 0x7f in its head, which a relay that decodes and encodes turns into the other zero of the law: the tail tells.
func TestFrameWithOneZero(t *testing.T) {
	sent := frame{source: 0x7f, counter: 0x7f7f, sent: 1}
	var b [frameSize]byte
	sent.write(b[:], toMu)
	for i := range b {
		b[i] = toMu(fromMu(b[i]))
	}
	if f, exact, ok := readFrame(b[:], fromMu); f != sent || exact || !ok {
		t.Errorf("%+v, exact %v, %v", f, exact, ok)
	}
}

// TestSoundBeforeAnswer: a frame in G.711 that was converted on its way is known although nothing has been agreed yet.
func TestSoundBeforeAnswer(t *testing.T) {
	m, err := openMedia(netip.MustParseAddr("127.0.0.1"), 7, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	b := make([]byte, 12+frameSize)
	b[0], b[1] = 0x80, PCMU.PT
	frame{source: 42, counter: 3, sent: 5}.write(b[12:], toA)
	for i, v := range b[12:] {
		b[12+i] = toMu(fromA(v))
	}
	c, err := net.Dial("udp", m.conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(3 * time.Second); len(m.Heard()) == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if h := m.Heard(); len(h) != 1 || h[0].Source != 42 || h[0].Counter != 3 || h[0].Exact {
		t.Errorf("heard %+v", h)
	}
}
