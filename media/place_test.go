package media

import (
	"net/netip"
	"testing"
	"time"
)

// TestIdentityOfSecret: a browser must find the same certificate after a restart, and another node must not have it.
func TestIdentityOfSecret(t *testing.T) {
	t.Parallel()
	of := func(secret string) Fingerprint {
		id, err := newIdentity([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		return id.fingerprint
	}
	if of("one") != of("one") || of("one") == of("two") || of("") == of("") {
		t.Errorf("%v %v %v", of("one"), of("one"), of("two"))
	}
}

// TestSealerStartsBehind: no index that the process before may have sealed is sealed again, and the rollover counter is that of the index.
func TestSealerStartsBehind(t *testing.T) {
	t.Parallel()
	for _, at := range []uint64{5, 0xffff, 0x10000, 0x2fffe} {
		k, err := newSealer(Crypto{Suite: "AEAD_AES_128_GCM", Key: make([]byte, 28)})
		if err != nil {
			t.Fatal(err)
		}
		k.startAt(7, at, 900)
		for _, old := range []uint64{at, at - 1, at - 5} {
			if _, ok := k.index.next(uint16(old)); ok && old <= at {
				t.Errorf("from %#x: %#x is sealed again", at, old)
			}
		}
		for n := range uint64(3) {
			want := at + 1 + n
			if roc, ok := k.index.next(uint16(want)); !ok || roc != uint32(want>>16) {
				t.Errorf("from %#x: %#x has the counter %d, %v", at, want, roc, ok)
			}
		}
		if rtp, rtcp := k.stands(7); rtp != at+3 || rtcp != 900 {
			t.Errorf("from %#x it stands at %#x, %d", at, rtp, rtcp)
		}
	}
}

// TestLineGoesOn: the numbers are ahead of all that can have been sent since the place was written, far from 2^15, and the timestamp is the clock's.
func TestLineGoesOn(t *testing.T) {
	t.Parallel()
	r := startEngine(t, 26400)
	for _, c := range []struct {
		since time.Duration
		ahead uint64
	}{{0, 100}, {2 * time.Second, 200}, {6 * time.Second, 400}, {time.Hour, 1<<13 + 100}, {-time.Hour, 100}} {
		s := r.Engine.Ended()
		p := Place{SSRC: 9, Seq: 65_500, TS: 1000, Written: time.Now().Add(-c.since), At: time.Now().Add(-c.since), Rate: 8000, Frame: 160, Sent: 7}
		ahead := s.line.resume(p, headRoom)
		if ahead != c.ahead && ahead != c.ahead+1 || s.line.seq != p.Seq+uint16(ahead) || s.line.ssrc != 9 || s.line.sent.Load() != 7 {
			t.Errorf("after %v: ahead by %d, %+v", c.since, ahead, s.line.seq)
		}
		now := s.line.clockAt(r.Engine.clock())
		if want := 1000 + uint32(max(c.since, 0)/time.Millisecond)*8; now-want > 800 && want-now > 800 {
			t.Errorf("after %v: the timestamp of now is %d, want %d", c.since, now, want)
		}
	}
}

// TestFresh: keys that may have sealed more than is known of are not used again.
func TestFresh(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		age     time.Duration
		browser *Browser
		want    bool
	}{{time.Second, &Browser{}, true}, {2 * time.Minute, &Browser{}, false}, {-time.Minute, &Browser{}, false}, {2 * time.Hour, nil, true}} {
		p := Place{Written: time.Now().Add(-c.age), Browser: c.browser}
		if got := p.Fresh(); got != c.want {
			t.Errorf("after %v, %v: %v", c.age, c.browser, got)
		}
	}
}

// TestLineBegunSince: a line that had sent nothing when it was written may have begun since; it goes on ahead of that too.
func TestLineBegunSince(t *testing.T) {
	t.Parallel()
	s := startEngine(t, 26700).Engine.Ended()
	ahead := s.line.resume(Place{Written: time.Now().Add(-2 * time.Second), Seq: 5, TS: 1000}, headRoom)
	if ahead < 200 || s.line.seq != 5+uint16(ahead) || s.line.ts < 1000+2*48000 || s.line.started {
		t.Errorf("ahead by %d: %d, %d", ahead, s.line.seq, s.line.ts)
	}
}

// TestPortsAgain: a stream that goes on has its ports, unless somebody else has them by now.
func TestPortsAgain(t *testing.T) {
	t.Parallel()
	r := startEngine(t, 26500)
	s, err := r.Engine.Open(StreamOptions{Peer: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	place := *s.Place()
	again := func() uint16 {
		s, err := r.Engine.Open(StreamOptions{Peer: netip.MustParseAddr("127.0.0.1"), Resume: &Resumption{Place: place}})
		if err != nil {
			t.Fatal(err)
		}
		if l := s.Local(); l.SSRC != place.SSRC || l.CNAME != place.CNAME {
			t.Errorf("%+v, was %+v", l, place)
		}
		defer s.Close()
		return s.Endpoint().Port()
	}
	if got := again(); got == place.Port {
		t.Error("two streams have one port")
	}
	s.HandOver()
	r.Engine.mu.Lock()
	delete(r.Engine.ports.until, place.Port) // as in another process
	r.Engine.mu.Unlock()
	if got := again(); got != place.Port {
		t.Errorf("port %d, was %d", got, place.Port)
	}
}

// TestSourceAgain: what the process before had latched is sent to at once, and its packets are believed.
func TestSourceAgain(t *testing.T) {
	t.Parallel()
	r := startEngine(t, 26600)
	s := r.Engine.Ended()
	s.closed = false
	peer := netip.MustParseAddrPort("192.0.2.7:4000")
	s.peer = peer.Addr()
	s.resumed = &Place{Source: netip.MustParseAddrPort("192.0.2.7:61234"), Control: netip.MustParseAddrPort("192.0.2.7:61235")}
	s.Apply(Agreement{Remote: peer, Send: []Codec{pcmu}, Recv: []Codec{pcmu}, Direction: SendRecv})
	if to := s.dest(s.terms); to != netip.MustParseAddrPort("192.0.2.7:61234") {
		t.Errorf("it is sent to %v", to)
	}
	if s.ear.latch.rank != known || s.ctrl.source != netip.MustParseAddrPort("192.0.2.7:61235") {
		t.Errorf("rank %d, RTCP from %v", s.ear.latch.rank, s.ctrl.source)
	}
	s.closed = true
}
