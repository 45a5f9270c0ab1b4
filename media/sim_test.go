package media

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"baton/config"

	"github.com/pion/rtp"
)

// room is an engine without kernel and clock: packets go in by receive and come out into a record, time is what the test says.
type room struct {
	t   testing.TB
	e   *Engine
	now time.Duration

	mu   sync.Mutex
	wire map[netip.AddrPort][]seen // by destination
}

// seen is a packet that was sent.
type seen struct {
	at   time.Duration
	from uint16 // port
	b    []byte
}

type roomConn struct {
	r  *room
	at netip.AddrPort
}

func newRoom(t testing.TB) *room {
	e, err := NewEngine(Options{Config: config.Media{Address: "192.0.2.1"}})
	if err != nil {
		t.Fatal(err)
	}
	r := &room{t: t, e: e, now: time.Second, wire: map[netip.AddrPort][]seen{}}
	e.sockets, e.clock = r, func() time.Duration { return r.now }
	t.Cleanup(r.shut)
	return r
}

// shut runs the engine's own end: every stream closed, every goroutine waited for.
func (r *room) shut() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.e.Run(ctx); err != nil {
		r.t.Error(err)
	}
	if n := r.e.OpenStreams(); n != 0 {
		r.t.Errorf("%d streams open after Run", n)
	}
}

func (r *room) listen(at netip.AddrPort, _ receiver) (conn, error) { return &roomConn{r, at}, nil }

func (c *roomConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.r.wire[to] = append(c.r.wire[to], seen{c.r.now, c.at.Port(), append([]byte(nil), b...)})
	return len(b), nil
}

func (c *roomConn) Close() error { return nil }

// dev is a phone: where it is, how it numbers, when it sends next.
type dev struct {
	r      *room
	s      *Stream
	at     netip.AddrPort
	codec  Codec
	hdr    rtp.Header
	frame  uint32
	body   []byte
	start  time.Duration // true time of frame 0
	n      int
	ppm    float64
	jitter time.Duration
	off    bool
	heard  int
}

var devs uint16

func agreed(at netip.AddrPort, codecs ...Codec) Agreement {
	return Agreement{Remote: at, RemoteRTCP: next(at), Send: codecs, Recv: codecs}
}

// phone opens a stream for a device and agrees with it.
func (r *room) phone(ip string, codecs ...Codec) *dev {
	if len(codecs) == 0 {
		codecs = []Codec{pcmu, dtmf}
	}
	devs++
	at := netip.AddrPortFrom(netip.MustParseAddr(ip), 4000+2*(devs%20000))
	d := &dev{r: r, at: at, codec: codecs[0], body: make([]byte, 160), start: r.now}
	d.frame = uint32(codecs[0].Rate / 50)
	d.hdr = rtp.Header{Version: 2, PayloadType: codecs[0].PT, SSRC: rand.Uint32(), SequenceNumber: uint16(rand.Uint32()), Timestamp: rand.Uint32()}
	s, err := r.e.Open(StreamOptions{Peer: at.Addr(), OnHeard: func(time.Time) { d.heard++ }})
	if err != nil {
		r.t.Fatal(err)
	}
	d.s = s
	s.Apply(agreed(at, codecs...))
	return d
}

// due is when the device's next packet arrives.
func (d *dev) due() time.Duration {
	at := time.Duration(float64(d.n) * float64(20*ms) * (1 + d.ppm*1e-6))
	return d.start + at
}

func (d *dev) send() {
	d.emit(d.at, d.hdr.PayloadType, d.body, d.hdr.Timestamp, d.n == 0)
	d.hdr.SequenceNumber++
	d.hdr.Timestamp += d.frame
	d.n++
}

func (d *dev) emit(from netip.AddrPort, pt uint8, body []byte, ts uint32, marker bool) {
	h := d.hdr
	h.PayloadType, h.Timestamp, h.Marker = pt, ts, marker
	b, err := (&rtp.Packet{Header: h, Payload: body}).Marshal()
	if err != nil {
		d.r.t.Fatal(err)
	}
	d.s.receive(b, from, d.r.now, nil)
}

// run lets time pass with these devices sending. With jitter a packet comes up to that much late, never before an earlier one.
func (r *room) run(until time.Duration, devices ...*dev) {
	at := make([]time.Duration, len(devices))
	for i, d := range devices {
		at[i] = d.arrival()
	}
	for {
		first := -1
		for i := range devices {
			if !devices[i].off && (first < 0 || at[i] < at[first]) {
				first = i
			}
		}
		if first < 0 || at[first] > until {
			r.now = until
			return
		}
		r.now = max(r.now, at[first])
		devices[first].send()
		at[first] = max(devices[first].arrival(), at[first])
	}
}

func (d *dev) arrival() time.Duration {
	if d.jitter == 0 {
		return d.due()
	}
	return d.due() + rand.N(d.jitter)
}

func bridge(a, b *dev) {
	a.s.Feed(b.s)
	b.s.Feed(a.s)
	a.s.Follow(b.s)
	b.s.Follow(a.s)
}

// track is what a device got, checked for continuity.
type track struct {
	packets, breaks, markers, ssrcs int
	gap                             time.Duration
	early, late                     time.Duration // ts against the clock, from the first packet on
	first, last                     time.Duration
	tsBreaks                        int
}

func (r *room) got(d *dev) []seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]seen(nil), r.wire[d.at]...)
}

func (r *room) forget(d *dev) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.wire, d.at)
}

func (r *room) track(d *dev, rate uint32) track { return follow(r.t, r.got(d), rate) }

func follow(t testing.TB, all []seen, rate uint32) track {
	var k track
	var seq uint16
	var ts0, ts uint32
	ssrcs := map[uint32]bool{}
	for _, p := range all {
		if isRTCP(p.b) {
			continue
		}
		var h rtp.Header
		if _, err := h.Unmarshal(p.b); err != nil {
			t.Fatal(err)
		}
		ssrcs[h.SSRC] = true
		if h.Marker {
			k.markers++
		}
		if k.packets == 0 {
			k.first, ts0 = p.at, h.Timestamp
		} else {
			if h.SequenceNumber != seq+1 {
				k.breaks++
			}
			if int32(h.Timestamp-ts) < 0 {
				k.tsBreaks++
			}
			k.gap = max(k.gap, p.at-k.last)
			off := p.at - k.first - duration(int64(h.Timestamp-ts0), rate)
			k.late, k.early = max(k.late, off), min(k.early, off)
		}
		seq, ts, k.last = h.SequenceNumber, h.Timestamp, p.at
		k.packets++
	}
	k.ssrcs = len(ssrcs)
	return k
}

func payloadOf(b []byte) []byte { return b[12:] }

func tsOf(b []byte) uint32 { return binary.BigEndian.Uint32(b[4:]) }
