package media

import (
	"crypto/x509"
	"net/netip"
	"testing"
	"time"
)

// TestIdentityOfSecret: a browser must find the same certificate after a restart, and another node must not have it.
func TestIdentityOfSecret(t *testing.T) {
	of := func(secret string) Fingerprint {
		id, err := newIdentity([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		return id.fingerprint
	}
	one, again, two, drawn, other := of("one"), of("one"), of("two"), of(""), of("")
	if one != again || one == two || drawn == other {
		t.Errorf("%v %v %v %v %v", one, again, two, drawn, other)
	}
	numbers := map[string]bool{}
	for _, secret := range []string{"one", "two", "", ""} {
		id, err := newIdentity([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(id.certificate.Certificate[0])
		if err != nil || numbers[c.SerialNumber.String()] || c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) != nil {
			t.Errorf("the certificate of %q: number %v, %v", secret, c.SerialNumber, err)
		}
		numbers[c.SerialNumber.String()] = true
	}
}

// TestSealerStartsBehind: no index that the process before may have sealed is sealed again, and the rollover counter is that of the index.
func TestSealerStartsBehind(t *testing.T) {
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
	r := startEngine(t, 17900)
	defer r.stop(t)
	for _, c := range []struct {
		since time.Duration
		ahead uint64
	}{{0, 100}, {2 * time.Second, 200}, {6 * time.Second, 400}, {time.Hour, 1<<13 + 100}, {-time.Hour, 100}} {
		s := r.Engine.Ended()
		p := Place{SSRC: 9, Seq: 65_500, TS: 1000, Written: time.Now().Add(-c.since), At: time.Now().Add(-c.since), Rate: 8000, Frame: 160, Sent: 7}
		ahead := s.line.resume(p, headRoom)
		if ahead != c.ahead && ahead != c.ahead+1 || s.line.seq != p.Seq+uint16(ahead) || s.line.ssrc.Load() != 9 || s.line.sent.Load() != 7 {
			t.Errorf("after %v: ahead by %d, %+v", c.since, ahead, s.line.seq)
		}
		now := s.line.clockAt(r.Engine.clock())
		if want := 1000 + uint32(max(c.since, 0)/time.Millisecond)*8; now-want > 800 && want-now > 800 {
			t.Errorf("after %v: the timestamp of now is %d, want %d", c.since, now, want)
		}
	}
}

// TestPlaceAfterTheClockWasSet: what a place says of its last frame is true to the clock of now, also where that was set since the start, as on
// a machine without a clock of its own.
func TestPlaceAfterTheClockWasSet(t *testing.T) {
	e := newRoom(t).e
	e.epoch = e.epoch.Add(-20 * 365 * 24 * time.Hour)
	s := e.Ended()
	s.line.started, s.line.rate, s.line.frame, s.line.due = true, 8000, 160, e.clock()-time.Second
	p := s.line.place()
	if age := p.Written.Sub(p.At); (age - time.Second).Abs() > 500*time.Millisecond {
		t.Errorf("the frame of a second ago was %v before the place was written", age)
	}
}

// TestFresh: keys that may have sealed more than is known of are not used again.
func TestFresh(t *testing.T) {
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
	r := startEngine(t, 18200)
	defer r.stop(t)
	s := r.Engine.Ended()
	ahead := s.line.resume(Place{Written: time.Now().Add(-2 * time.Second), Seq: 5, TS: 1000}, headRoom)
	if ahead < 200 || s.line.seq != 5+uint16(ahead) || s.line.ts < 1000+2*48000 || s.line.started {
		t.Errorf("ahead by %d: %d, %d", ahead, s.line.seq, s.line.ts)
	}
}

// TestPortsAgain: a stream that goes on has its ports, unless somebody else has them by now.
func TestPortsAgain(t *testing.T) {
	r := startEngine(t, 18000)
	defer r.stop(t)
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
	s.Close()
	r.Engine.mu.Lock()
	delete(r.Engine.ports.until, place.Port) // as in another process
	r.Engine.mu.Unlock()
	if got := again(); got != place.Port {
		t.Errorf("port %d, was %d", got, place.Port)
	}
}

// TestSourceAgain: what the process before had latched is sent to at once, and its packets are believed.
func TestSourceAgain(t *testing.T) {
	r := startEngine(t, 18100)
	defer r.stop(t)
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

// TestBrowserAgain: a browser's leg has its way, credentials, keys and indexes at once, and line and sealer count as one.
func TestBrowserAgain(t *testing.T) {
	r := startWebRTC(t, false)
	defer r.stop(t)
	key := func(b byte) Crypto {
		k := make([]byte, 28)
		k[0] = b
		return Crypto{Suite: "AEAD_AES_128_GCM", Key: k}
	}
	p := Place{
		Written: time.Now(), SSRC: 5, CNAME: "c", Seq: 1, TS: 7, At: time.Now(), Rate: 8000, Frame: 160, Source: netip.MustParseAddrPort("127.0.0.1:9999"),
		Browser: &Browser{Ufrag: "abcdefgh", Pwd: Secret("of-ours"), Their: "theirs", In: key(1), Out: key(2)},
	}
	s, err := r.Open(StreamOptions{Peer: netip.MustParseAddr("127.0.0.1"), WebRTC: true, Resume: &Resumption{Place: p, SRTP: &Standing{Sealed: 0x1fff0, RTCP: 3}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	peer := []Fingerprint{{Hash: "sha-256", Value: "AB:CD"}}
	s.Apply(Agreement{Send: []Codec{pcmu}, Recv: []Codec{pcmu}, Direction: SendRecv, Security: DTLS, ICE: ICE{Ufrag: "theirs"}, Fingerprints: peer})
	if got := s.ice.dest(); got != p.Source {
		t.Errorf("it is sent to %v", got)
	}
	if l := s.Local(); l.SSRC != 5 || l.CNAME != "c" || l.ICE.Ufrag != "abcdefgh" || string(l.ICE.Pwd) != "of-ours" {
		t.Errorf("%+v", l)
	}
	k := s.guards.sealer
	if k == nil || s.path.Load().opener == nil {
		t.Fatal("it has no keys")
	}
	if at, rtcp := k.stands(5); at < 0x1fff0+sealedRoom || at > 0x1fff0+2*sealedRoom || uint16(at) != s.line.seq || rtcp != 3+reportRoom {
		t.Errorf("it goes on at %#x, the line at %#x, reports at %d", at, s.line.seq, rtcp)
	}
	if again := s.Place(); again.Browser == nil || !again.Browser.Out.same(key(2)) || again.Source != p.Source || again.Browser.Ufrag != "abcdefgh" {
		t.Errorf("written again: %+v", again)
	}
	s.Apply(Agreement{Send: []Codec{pcmu}, Recv: []Codec{pcmu}, Direction: SendRecv, Security: DTLS, ICE: ICE{Ufrag: "theirs"}, Fingerprints: []Fingerprint{{Hash: "sha-256", Value: "EF:01"}}})
	if s.Place() != nil {
		t.Error("another certificate has the keys of the one before")
	}
}

// TestStandsWhereItStood: a source that has said nothing since the restart still counts as it did: the process after this one has to know.
func TestStandsWhereItStood(t *testing.T) {
	k, err := newInbound(Crypto{Suite: "AEAD_AES_128_GCM", Key: make([]byte, 28)})
	if err != nil {
		t.Fatal(err)
	}
	k.expect([]Rollover{{SSRC: 7, ROC: 3}, {SSRC: 9, ROC: 5}})
	k.ctx.SetROC(9, 6)
	k.known = append(k.known, 9)
	if got := k.rolled(); len(got) != 2 || got[0] != (Rollover{SSRC: 9, ROC: 6}) || got[1] != (Rollover{SSRC: 7, ROC: 3}) {
		t.Errorf("it stands at %+v", got)
	}
}
