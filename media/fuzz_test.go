package media

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// FuzzAgree has any two descriptions be each other's offer and answer: what they come to is what both have said, it can be sent to, and
// the path that is made of it serves every payload type that was agreed.
func FuzzAgree(f *testing.F) {
	for _, a := range offers {
		f.Add(a, offers["yealink"])
		f.Add(offers["baresip"], a)
		f.Add(a, a)
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		local, err := ParseSDP(one)
		if err != nil {
			return
		}
		remote, err := ParseSDP(two)
		if err != nil {
			return
		}
		written(t, local)
		a, err := Agree(local, remote)
		if err != nil {
			return
		}
		ours, theirs, _ := commonLine(local, remote)
		if clear := a.Security == Clear; clear && (ours.secure() || theirs.secure()) || a.Security == SDES != (len(a.In.Key) > 0) || a.In.Suite != a.Out.Suite {
			t.Errorf("%s and %s come to %+v", ours.Proto, theirs.Proto, a)
		}
		for _, c := range a.Recv {
			if !slices.Contains(ours.Codecs, c) || !slices.ContainsFunc(theirs.Codecs, c.Is) {
				t.Errorf("%+v is received, but was not agreed", c)
			}
		}
		for _, c := range a.Send {
			if !slices.Contains(theirs.Codecs, c) || !slices.ContainsFunc(ours.Codecs, c.Is) {
				t.Errorf("%+v is sent, but was not agreed", c)
			}
		}
		if a.Direction != ours.Direction.and(theirs.willing().Reverse()) || !hasSound(a.Send) {
			t.Errorf("%+v", a)
		}
		p := newPath(newTerms(a, netip.MustParseAddr("203.0.113.5"), 1), nil)
		for _, to := range []netip.AddrPort{p.remote, p.control} {
			if ip := to.Addr(); to.IsValid() && (ip.IsLoopback() || ip.IsMulticast() || ip.IsUnspecified() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255})) {
				t.Errorf("it may be sent to %v", to)
			}
		}
		for _, c := range a.Recv {
			if c.PT < 128 && c.Rate > 0 && p.index[c.PT] == 0 {
				t.Errorf("payload type %d would not be known", c.PT)
			}
		}
	})
}

// written checks that a description is written in whole lines, of the kinds that there are, and means the same when it is read again.
func written(t *testing.T, d Description) {
	t.Helper()
	out := string(d.Marshal())
	for line := range strings.SplitSeq(strings.TrimSuffix(out, "\r\n"), "\r\n") {
		if len(line) < 2 || line[1] != '=' || !strings.ContainsRune("vosctma", rune(line[0])) || strings.ContainsAny(line, "\r\n\x00") {
			t.Fatalf("line %q in %q", line, out)
		}
	}
	if strings.Count(out, "\r\nm=") != len(d.Lines) {
		t.Fatalf("%d lines became %q", len(d.Lines), out)
	}
	again, err := ParseSDP([]byte(out))
	if err != nil {
		t.Fatalf("%v: %q", err, out)
	}
	for i, l := range again.Lines {
		if was := d.Lines[i]; l.Kind != was.Kind || l.Proto != was.Proto || l.Addr.Port() != was.Addr.Port() {
			t.Fatalf("%+v became %+v", was, l)
		}
	}
	once := again.Marshal() // an address that was no number has become 0.0.0.0
	if again, err = ParseSDP(once); err != nil || string(again.Marshal()) != string(once) {
		t.Fatalf("%q (%v)\nwas %q", again.Marshal(), err, once)
	}
}

// FuzzControl throws bytes at a stream as RTCP, on both ports and from strangers: nothing is sent in return, and what baton reports
// afterwards is well-formed.
func FuzzControl(f *testing.F) {
	f.Add([]byte{0x81, 201, 0, 7, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0x80, 200, 0, 6, 0, 0, 0, 1, 0xe0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1, 0x81, 202, 0, 2, 0, 0, 0, 1, 1, 0, 0, 0})
	f.Add([]byte{0x81, 203, 0, 1, 0, 0, 0, 1})
	f.Add([]byte{0x84, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxPacket {
			return
		}
		r := newRoom(t)
		far, a := r.phone("203.0.113.5", pcmu), r.phone("198.51.100.7", pcmu)
		bridge(far, a)
		r.run(r.now+60*ms, far, a)
		sent := len(r.got(far)) + len(r.got(a))
		stranger := netip.MustParseAddrPort("192.0.2.66:5005")
		for range 3 {
			r.now += 5 * ms
			far.s.control(b, stranger, r.now, false)
		}
		if far.s.ctrl.foreign.Load() != 3 || far.s.ctrl.last.Load() != 0 {
			t.Error("a stranger's RTCP was taken")
		}
		for range 3 {
			r.now += 5 * ms
			far.s.control(b, next(far.at), r.now, false)
			far.s.control(b, far.at, r.now, true)
		}
		if all, _ := r.reports(far); len(all) != 0 || len(r.got(far))+len(r.got(a)) != sent {
			t.Error("something was sent in return")
		}
		if st := far.s.Stats(); st.RTT < 0 {
			t.Errorf("%+v", st)
		}
		r.run(r.now+60*ms, far, a)
		r.e.report(r.now + ahead(1))
		if all, _ := r.reports(far); len(all) == 0 { // fails on what does not parse
			t.Error("no report")
		}
		if k := r.track(far, 8000); k.breaks != 0 || k.ssrcs != 1 {
			t.Errorf("%+v", k)
		}
	})
}

// FuzzEvent dials with any payloads and leaves the source: the line goes on unbroken, and a key that was begun ends at most once, in
// three equal packets.
func FuzzEvent(f *testing.F) {
	f.Add([]byte{5, 10, 0, 160, 5, 10, 1, 64})
	f.Add([]byte{5, 10, 0xff, 0xff, 5, 0x8a, 0xff, 0xff, 16, 0, 0, 0, 255, 255, 255, 255})
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, keys []byte) {
		r := newRoom(t)
		far, a, b := r.phone("203.0.113.5"), r.phone("198.51.100.7"), r.phone("198.51.100.8")
		bridge(far, a)
		r.run(r.now+60*ms, a)
		for chunk := range slices.Chunk(keys[:min(len(keys), 400)], 4) {
			r.now += 20 * ms
			a.emit(a.at, dtmf.PT, chunk, a.hdr.Timestamp, false)
			a.hdr.SequenceNumber++
			a.n++
		}
		before := len(r.got(far))
		b.s.Feed(far.s)
		far.s.Follow(b.s)
		b.start = r.now
		r.run(r.now+200*ms, b)
		var ends [][]byte
		for _, p := range r.got(far)[before:] {
			if p.b[1]&0x7f == dtmf.PT {
				ends = append(ends, p.b)
			}
		}
		if n := len(ends); n != 0 && n != 3 {
			t.Fatalf("%d packets end the key", n)
		}
		for _, e := range ends {
			if len(e) != 16 || e[13]&0x80 == 0 || string(e[12:]) != string(ends[0][12:]) || tsOf(e) != tsOf(ends[0]) {
				t.Errorf("%x ends the key", e)
			}
		}
		if k := r.track(far, 8000); k.breaks != 0 || k.ssrcs != 1 || k.packets < before+len(ends)+5 {
			t.Errorf("%+v of %d and %d", k, before, len(ends))
		}
	})
}
