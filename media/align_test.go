package media

import (
	"net/netip"
	"testing"
)

// TestReofferKeepsPayloadTypes: what a session has had keeps its number, whatever is new goes round it (RFC 3264 §8.3.2).
func TestReofferKeepsPayloadTypes(t *testing.T) {
	at := netip.MustParseAddrPort("192.0.2.1:4000")
	was := NewOffer(Origin{}, []Codec{pcmu, dtmf}, Local{Addr: at}, SendRecv)
	other := opus
	other.PT = dtmf.PT // as the phone had it in another session
	now, err := was.Reoffer([]Codec{other, pcmu, dtmf, wideDTMF, {Name: "red", Rate: 48000, PT: 63}})
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := now.Audio()
	if len(line.Codecs) != 4 || !line.Codecs[0].Is(opus) || !line.Codecs[1].Is(pcmu) || line.Codecs[2].PT != dtmf.PT || !line.Codecs[2].Is(dtmf) || !line.Codecs[3].Is(wideDTMF) {
		t.Fatalf("%+v", line.Codecs)
	}
	if pt := line.Codecs[0].PT; pt == dtmf.PT || pt < 96 {
		t.Errorf("opus has payload type %d", pt)
	}
	if before, _, _ := was.Audio(); len(before.Codecs) != 2 {
		t.Error("the description before was changed")
	}
	if _, err := was.Reoffer([]Codec{dtmf}); err != ErrNoCodec {
		t.Errorf("keys alone: %v", err)
	}
	if _, err := (Description{}).Reoffer([]Codec{pcmu}); err != ErrNoAudio {
		t.Errorf("no audio: %v", err)
	}
}

// TestMissedPacketsLeaveNoHole: what the peer could not play, a key among speech, has no sequence number there.
func TestMissedPacketsLeaveNoHole(t *testing.T) {
	r := newRoom(t)
	a, deaf := r.phone("203.0.113.5", pcmu, dtmf), r.phone("198.51.100.7", pcmu)
	bridge(a, deaf)
	deaf.off = true
	r.run(r.now+200*ms, a)
	for range 10 {
		r.now = a.due()
		a.emit(a.at, dtmf.PT, []byte{5, 10, 0, 160}, a.hdr.Timestamp, false)
		a.hdr.SequenceNumber++
		a.hdr.Timestamp += a.frame
		a.n++
	}
	r.run(r.now+200*ms, a)
	if k := r.track(deaf, 8000); k.breaks+k.tsBreaks != 0 || k.packets < 20 || k.late > 2*ms || k.early < -20*ms {
		t.Errorf("the peer heard %+v", k)
	}
}

// TestExpectedCodec: what has been offered may be sent before the answer is there, and reaches who can play it.
func TestExpectedCodec(t *testing.T) {
	r := newRoom(t)
	far, old, dev := r.phone("203.0.113.5", pcmu, dtmf), r.phone("198.51.100.7", pcmu), r.phone("198.51.100.8", opus)
	far.s.Feed(old.s, dev.s)
	old.s.Follow(far.s)
	dev.s.Follow(far.s)
	send := func(pt uint8) (atOld, atNew int) {
		r.now += 20 * ms
		n, m := len(r.got(old)), len(r.got(dev))
		far.emit(far.at, pt, far.body, far.hdr.Timestamp, false)
		far.hdr.SequenceNumber++
		far.hdr.Timestamp += 960
		return len(r.got(old)) - n, len(r.got(dev)) - m
	}
	if o, n := send(opus.PT); o+n != 0 {
		t.Errorf("before the offer %d packets at the old, %d at the new", o, n)
	}
	far.s.Expect([]Codec{opus, pcmu})
	if o, n := send(opus.PT); o != 0 || n != 1 {
		t.Errorf("of the offered codec %d packets at the old, %d at the new", o, n)
	}
	if o, n := send(pcmu.PT); o != 1 || n != 0 {
		t.Errorf("of the codec in use %d packets at the old, %d at the new", o, n)
	}
	far.s.Apply(agreed(far.at, pcmu, dtmf))
	if o, n := send(opus.PT); o+n != 0 {
		t.Errorf("after the refusal %d packets at the old, %d at the new", o, n)
	}
}

// TestKeyOfAStreamThatLeaves is told as it is, once.
func TestKeyOfAStreamThatLeaves(t *testing.T) {
	r := newRoom(t)
	var heard []Key
	e := listener(r, &heard, dtmf)
	e.key(5, false, 160, 777)
	e.s.Leave()
	e.key(5, false, 320, 777)
	e.key(5, true, 480, 777)
	if spell(heard) != "5:40ms" {
		t.Errorf("heard %s", spell(heard))
	}
}

// TestKeyWhoseClockGoes is ended by the payload type that it has had.
func TestKeyWhoseClockGoes(t *testing.T) {
	r := newRoom(t)
	far := r.phone("203.0.113.5", pcmu, dtmf)
	p := &press{stream: far.s, key: Key{1, 200 * ms}, since: r.now}
	far.s.line.play(p, r.now, r.now)
	far.s.Apply(agreed(far.at, opus, wideDTMF))
	r.now += 20 * ms
	if far.s.line.play(p, r.now, r.now) || far.s.line.key != nil {
		t.Error("it goes on")
	}
	keys := keysIn(r.got(far), dtmf.PT)
	if len(keys) != 4 || keys[0].end || !keys[1].end || !keys[3].end || keys[3].duration != 160 {
		t.Errorf("%+v", keys)
	}
}
