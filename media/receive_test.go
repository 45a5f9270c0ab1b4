package media

import (
	"net/netip"
	"testing"
	"time"

	"github.com/pion/rtp"
)

// null is a socket that takes everything.
type null struct{}

func (*null) WriteToUDPAddrPort(b []byte, _ netip.AddrPort) (int, error) { return len(b), nil }
func (*null) Close() error                                               { return nil }

// belt is a bridged pair whose packets go nowhere, and the packet that goes round.
type belt struct {
	r    *room
	from *dev
	buf  []byte
	seq  uint16
	ts   uint32
}

func newBelt(t testing.TB, sinks ...Codec) *belt {
	r := newRoom(t)
	b := &belt{r: r, from: r.phone("203.0.113.5", pcmu, dtmf)}
	var to []*Stream
	for _, c := range sinks {
		s := r.phone("198.51.100.7", c, dtmf).s
		s.rtp = &null{}
		s.Follow(b.from.s)
		to = append(to, s)
	}
	b.from.s.Feed(to...)
	buf, err := (&rtp.Packet{Header: rtp.Header{Version: 2, SSRC: 77}, Payload: make([]byte, 160)}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b.buf = buf
	for range 10 {
		b.turn()
	}
	return b
}

// turn sends one packet on its way.
func (b *belt) turn() {
	b.seq++
	b.ts += 160
	b.r.now += 20 * ms
	putHeader(b.buf, 0, false, b.seq, b.ts, 77)
	b.from.s.receive(b.buf, b.from.at, b.r.now, nil)
}

func TestNoAllocations(t *testing.T) {
	for name, sinks := range map[string][]Codec{
		"plain": {pcmu}, "converted": {pcma}, "fork": {pcmu, pcma, pcmu}, "nobody": {},
	} {
		b := newBelt(t, sinks...)
		if n := testing.AllocsPerRun(1000, b.turn); n != 0 {
			t.Errorf("%s: %v allocations a packet", name, n)
		}
		if b.from.s.Lost() != 0 {
			t.Errorf("%s: %d packets lost", name, b.from.s.Lost())
		}
	}
	foreign := newBelt(t, pcmu)
	at := netip.MustParseAddrPort("203.0.113.66:9")
	if n := testing.AllocsPerRun(1000, func() { foreign.from.s.receive(foreign.buf, at, foreign.r.now, nil) }); n != 0 {
		t.Errorf("foreign: %v allocations a packet", n)
	}
}

func BenchmarkReceive(b *testing.B) {
	for _, c := range []struct {
		name  string
		sinks []Codec
	}{{"plain", []Codec{pcmu}}, {"PCMU to PCMA", []Codec{pcma}}, {"fork", []Codec{pcmu, pcmu}}} {
		b.Run(c.name, func(b *testing.B) {
			k := newBelt(b, c.sinks...)
			b.ReportAllocs()
			for b.Loop() {
				k.turn()
			}
		})
	}
}

// BenchmarkSockets is the whole way by the kernel's sockets: sent, relayed, heard.
func BenchmarkSockets(b *testing.B) {
	e := startEngine(b, 17500)
	far, near := newPeer(b, "127.0.0.1"), newPeer(b, "127.0.0.1")
	sf, sn := e.stream(b, "127.0.0.1"), e.stream(b, "127.0.0.1")
	sf.Apply(agreed(far.at, pcmu))
	sn.Apply(agreed(near.at, pcmu))
	sn.Feed(sf)
	sf.Follow(sn)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		near.send(b, sn.Endpoint())
		n++
		far.wait(b, n)
	}
	e.stop(b)
}

// TestParse: what is left behind of a packet, and what is no packet.
func TestParse(t *testing.T) {
	full := &rtp.Packet{Payload: []byte{1, 2, 3}, PaddingSize: 4, Header: rtp.Header{
		Version: 2, Padding: true, CSRC: []uint32{5, 6}, PayloadType: 8, Marker: true, SequenceNumber: 9, Timestamp: 10, SSRC: 11,
	}}
	if err := full.SetExtension(1, []byte{1, 2, 3, 4, 5}); err != nil {
		t.Fatal(err)
	}
	b, err := full.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var p packet
	if !p.parse(b) || string(b[p.body:p.end]) != "\x01\x02\x03" || !p.marker || p.pt != 8 || p.seq != 9 || p.ts != 10 || p.ssrc != 11 {
		t.Errorf("%+v", p)
	}
	for n := range len(b) - 4 {
		cut := append([]byte(nil), b[:n]...)
		if n > 0 && n < p.body && p.parse(cut) {
			t.Errorf("%d bytes of it were taken for a packet", n)
		}
		p = packet{body: p.body}
	}
	for _, bad := range []string{"", "x", "\x80\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01", "\x40\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01zz"} {
		if p.parse([]byte(bad)) {
			t.Errorf("%q was taken for a packet", bad)
		}
	}
}

// FuzzReceive throws bytes at a stream as RTP and RTCP, on a path with every kind of sink.
func FuzzReceive(f *testing.F) {
	f.Add([]byte{0x80, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 9}, []byte{0x80, 101, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1, 5, 10, 0, 80})
	f.Add([]byte{0xb2, 0x88, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0xbe, 0xde, 0, 1, 1, 2, 3, 4, 7, 1}, []byte{0x80})
	f.Add([]byte{0x81, 200, 0, 12, 1, 2, 3, 4}, []byte{0x81, 201, 0, 7, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		r := newRoom(t)
		far, a, b := r.phone("203.0.113.5", pcmu, opus, dtmf), r.phone("198.51.100.7", pcma, dtmf), r.phone("198.51.100.8", pcmu, opus)
		bridge(far, a)
		b.s.Follow(far.s)
		far.s.Feed(a.s, b.s)
		for i := range 4 {
			for _, buf := range [][]byte{one, two} {
				if len(buf) > maxPacket {
					return
				}
				r.now += 7 * ms
				far.s.receive(append([]byte(nil), buf...), far.at, r.now, nil)
				far.s.receiveRTCP(append([]byte(nil), buf...), next(far.at), r.now, nil)
				a.s.receive(append([]byte(nil), buf...), a.at, r.now, nil)
			}
			if i == 1 {
				far.s.Follow(b.s)
			}
			far.send()
		}
		r.now += time.Minute
		r.e.report(r.now)
		r.reports(far) // fails on what does not parse
		for _, d := range []*dev{far, a, b} {
			if k := r.track(d, 8000); k.ssrcs > 1 {
				t.Errorf("%d SSRCs", k.ssrcs)
			}
		}
	})
}
