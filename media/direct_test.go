package media

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/pion/rtcp"
)

// TestAdjacent: two addresses are in one network if one of this machine's holds both, or both are in those that are named.
func TestAdjacent(t *testing.T) {
	e, err := NewEngine(Options{})
	if err != nil {
		t.Fatal(err)
	}
	named := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24")}
	for _, c := range []struct {
		a, b  string
		named bool
		want  bool
	}{
		{"127.0.0.2", "127.1.2.3", false, true},
		{"127.0.0.2", "198.51.100.7", true, false},
		{"198.51.100.7", "198.51.100.8", false, false},
		{"198.51.100.7", "203.0.113.8", true, true},
		{"198.51.100.7", "192.0.2.8", true, false},
	} {
		nets := named
		if !c.named {
			nets = nil
		}
		if got := e.Adjacent(netip.MustParseAddr(c.a), netip.MustParseAddr(c.b), nets); got != c.want {
			t.Errorf("%s and %s: %v", c.a, c.b, got)
		}
	}
}

// numbers are SSRC and sequence numbers of the packets that a peer was sent, in order.
func (r *room) numbers(d *dev) (ssrcs []uint32, seqs []uint16) {
	for _, g := range r.got(d) {
		ssrcs, seqs = append(ssrcs, binary.BigEndian.Uint32(g.b[8:])), append(seqs, binary.BigEndian.Uint16(g.b[2:]))
	}
	return ssrcs, seqs
}

// TestFaithful: a faithful line is the very stream of its first source, goes on as it when that comes back after it was heard straight, and plays a
// tone under another SSRC, so that no number of the source is used for anything else.
func TestFaithful(t *testing.T) {
	r := newRoom(t)
	a, b := r.phone("203.0.113.5"), r.phone("198.51.100.7")
	b.s.Faithful(true)
	bridge(a, b)
	r.run(r.now+200*ms, a)
	ssrc, seq, ok := a.s.Newest()
	ssrcs, seqs := r.numbers(b)
	if n := len(ssrcs); !ok || n == 0 || ssrcs[n-1] != ssrc || seqs[n-1] != seq || b.s.Stats().Out.SSRC != ssrc {
		t.Fatalf("sent %x %d, came %x %d", ssrcs[n-1], seqs[n-1], ssrc, seq)
	}
	a.s.Bypass(b.s)
	a.hdr.SequenceNumber += 50 // that b has heard straight
	a.hdr.Timestamp += 50 * 160
	a.n += 50
	r.now += time.Second
	a.s.Bypass(nil)
	r.run(r.now+100*ms, a)
	_, seq, _ = a.s.Newest()
	ssrcs, seqs = r.numbers(b)
	if n := len(ssrcs); ssrcs[n-1] != ssrc || seqs[n-1] != seq {
		t.Errorf("after it came back: sent %x %d, came %x %d", ssrcs[n-1], seqs[n-1], ssrc, seq)
	}
	tone, packet := &source{tone: true}, packet{buf: make([]byte, 172), body: 12, end: 172, ssrc: 1, seq: 1, ts: 1, rate: 8000, sound: true, now: r.now, due: r.now}
	b.s.line.follow(tone, r.now)
	r.now += 20 * ms
	packet.now, packet.due = r.now, r.now
	if out := carry(pcmu, []Codec{pcmu}); !b.s.line.offer(tone, &packet, &out) {
		t.Fatal("the tone is not sent")
	}
	if ssrcs, _ = r.numbers(b); ssrcs[len(ssrcs)-1] == ssrc {
		t.Error("the tone has the SSRC of the source")
	}
	b.s.Follow(a.s)
	a.n, a.start = 0, r.now+20*ms
	r.run(r.now+100*ms, a)
	_, seq, _ = a.s.Newest()
	ssrcs, seqs = r.numbers(b)
	if n := len(ssrcs); ssrcs[n-1] != ssrc || seqs[n-1] != seq {
		t.Errorf("after the tone: sent %x %d, came %x %d", ssrcs[n-1], seqs[n-1], ssrc, seq)
	}
}

// TestReplacedSource: when a peer is to hear another device straight than the one that it has heard, that one takes its leave by RTCP, once.
func TestReplacedSource(t *testing.T) {
	r := newRoom(t)
	a, b, c := r.phone("203.0.113.5"), r.phone("198.51.100.7"), r.phone("203.0.113.9")
	b.s.Faithful(true)
	bridge(a, b)
	r.run(r.now+200*ms, a)
	first, _, _ := a.s.Newest()
	byes := func() (gone []uint32) {
		all, _ := r.reports(b)
		for _, p := range all {
			if p, ok := p.(*rtcp.Goodbye); ok {
				gone = append(gone, p.Sources...)
			}
		}
		return gone
	}
	a.s.Bypass(b.s)
	if gone := byes(); len(gone) > 0 {
		t.Errorf("%x has gone, and talks straight", gone)
	}
	a.s.Bypass(nil)
	b.s.Follow(c.s)
	c.start = r.now + 20*ms
	r.run(r.now+200*ms, c)
	if gone := byes(); len(gone) > 0 {
		t.Errorf("%x has gone, and is what b is sent", gone)
	}
	c.s.Bypass(b.s)
	c.s.Bypass(b.s)
	if gone := byes(); !slices.Equal(gone, []uint32{first}) {
		t.Errorf("%x have gone, not %x", gone, first)
	}
}

// TestReportsCadence: how often a peer reports is told by the times between two of its reports, but for one into which an offer fell: it may have begun
// to count anew with that.
func TestReportsCadence(t *testing.T) {
	r := newRoom(t)
	a := r.phone("203.0.113.5")
	report := func(after time.Duration) RTCPReport {
		r.now += after
		buf, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: a.hdr.SSRC}})
		if err != nil {
			t.Fatal(err)
		}
		a.s.receiveRTCP(buf, netip.AddrPortFrom(a.at.Addr(), a.at.Port()+1), r.now, nil)
		return a.s.Report()
	}
	const each = 5 * time.Second
	report(each)
	for range 2 {
		if got := report(each); got.Longest != each || got.Steady != 0 {
			t.Errorf("after two or three reports: longest %s, steady %s", got.Longest, got.Steady)
		}
	}
	if got := report(each); got.Steady != each {
		t.Errorf("after four reports each %s: steady %s", each, got.Steady)
	}
	r.now += 4 * time.Second
	a.s.Apply(agreed(a.at, pcmu, dtmf))
	if got := report(each); got.Longest != each || got.Steady != each {
		t.Errorf("with an offer in the middle: longest %s, steady %s", got.Longest, got.Steady)
	}
	if got := report(9 * time.Second); got.Longest != 9*time.Second || got.Steady != 0 {
		t.Errorf("after one that came late: longest %s, steady %s", got.Longest, got.Steady)
	}
}
