package call

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"baton/media"
	"baton/sip"
)

// TestPack packs what is long, short, repeats itself and does not: it comes back as it was.
func TestPack(t *testing.T) {
	noise := make([]byte, 5000)
	rnd := rand.NewChaCha8([32]byte{1})
	_, _ = rnd.Read(noise)
	for _, s := range []string{
		"", "a", "abcdefghijklm", strings.Repeat("a", 3), strings.Repeat("a", 1000), strings.Repeat("abcdefg", 20_000), string(recordSample),
		hex.EncodeToString(noise), strings.Repeat(hex.EncodeToString(noise), 8), strings.Repeat("x", 14), strings.Repeat("xy", 150),
	} {
		want, _ := json.Marshal(s)
		b, err := pack(s)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := unpack(b); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes of %.20q: %v, %d bytes come back", len(s), s, err, len(got))
		}
	}
	if got, err := unpack([]byte(`{"id":"c"}`)); err != nil || string(got) != `{"id":"c"}` {
		t.Errorf("the record of an earlier version: %q, %v", got, err)
	}
}

// TestPackedRecord holds what it is done for: the record of a call takes a third of its JSON at most, and writing it leaves little to collect.
func TestPackedRecord(t *testing.T) {
	r := sampleRecord()
	plain, _ := json.Marshal(r)
	b, err := pack(&r)
	if err != nil || len(b) > len(plain)/3 {
		t.Errorf("%v: %d bytes of JSON are %d packed", err, len(plain), len(b))
	}
	t.Logf("%d bytes of JSON are %d packed", len(plain), len(b))
}

// TestRecordSample: what was packed is not read with another sample.
func TestRecordSample(t *testing.T) {
	const of1 = "b61d0543672d42d2"
	if sum := sha256.Sum256(recordSample); hex.EncodeToString(sum[:8]) != of1 {
		t.Errorf("the sample has changed to %x: records of form 1 cannot be read any more", sum[:8])
	}
}

func sampleRecord() Record {
	r := Record{ID: "4kd93mfa", Form: recordForm, State: StateUp, Started: time.Unix(1795783299, 531272459), Up: time.Unix(1795783301, 2342459), Saved: time.Unix(1795783401, 82342459), By: "carol"}
	for i, user := range []string{"carol", "dave"} {
		at, to := netip.MustParseAddrPort("203.0.113.7:21344"), netip.MustParseAddrPort("198.51.100.23:41002")
		codecs := []media.Codec{{Name: "PCMA", Rate: 8000, PT: 8}, {Name: "telephone-event", Rate: 8000, PT: 96, Fmtp: "0-15"}}
		line := media.Line{Kind: "audio", Proto: "RTP/AVP", Addr: at, RTCP: at, Codecs: codecs, Direction: media.SendRecv}
		there := line
		there.Addr, there.RTCP, there.Formats = to, to, []string{"8", "96"}
		r.Seats = append(r.Seats, SeatRecord{User: user, Number: "55" + user[:1], Legs: []LegRecord{{
			ID: user + "-leg", Device: "urn:uuid:8c0cd2a4-17f2-4e9b-9d55-f7f3c1a0b2d" + user[:1], Called: "snom-d785", State: legUp, Holds: true, Incoming: i == 0,
			Began: r.Started, Answer: r.Up,
			Dialog: sip.Dialog{
				CallID: "b5f1c2d9e0" + user, Local: sip.NameAddr{URI: sip.URI{Scheme: "sip", User: "dave", Host: "example.net"}},
				Remote: sip.NameAddr{URI: sip.URI{Scheme: "sip", User: user, Host: "example.net"}}, LocalTag: "9f2e", RemoteTag: "71ac",
				Target: "sip:" + user + "@198.51.100.23:5062", Flow: sip.Flow{Transport: "udp", Local: at, Remote: to},
			},
			Local:  media.Description{Origin: media.Origin{User: "baton", ID: 1795783299531, Version: 2}, Addr: at.Addr(), Lines: []media.Line{line}},
			Remote: media.Description{Origin: media.Origin{User: "snom", ID: 839102, Version: 1}, Addr: to.Addr(), Lines: []media.Line{there}},
			Agreed: media.Agreement{Remote: to, RemoteRTCP: to, Send: codecs, Recv: codecs, Direction: media.SendRecv, Ptime: 20}, Knows: codecs,
			Place: &media.Place{Written: r.Saved, Port: 21344, SSRC: 3918273645, CNAME: "Zk3p0qLmXv1T8aYu", Seq: 40213, TS: 918273645, At: r.Saved, Rate: 8000, Frame: 160, Sent: 4900, Octets: 784000},
		}}})
	}
	return r
}

func BenchmarkPack(b *testing.B) {
	r := sampleRecord()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := pack(&r); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzUnpack: whatever the store gives back is an error or the length that it says; packed, anything is read again.
func FuzzUnpack(f *testing.F) {
	b, _ := pack("abcabcabcabcabcabcabcabcabcabcabc")
	f.Add(b)
	f.Add([]byte{packed})
	f.Add(append([]byte{packed, 0xff, 0xff, 0x03}, bytes.Repeat([]byte{0xff}, 100)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := unpack(b); err == nil && len(b) > 0 && b[0] == packed {
			if size, _ := binary.Uvarint(b[1:]); uint64(len(got)) != size {
				t.Fatalf("%d bytes, it says %d", len(got), size)
			}
		}
		want, _ := json.Marshal(b)
		p, err := pack(b)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := unpack(p); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%v: %d bytes come back of %d", err, len(got), len(want))
		}
	})
}

func BenchmarkSecrets(b *testing.B) {
	r := sampleRecord()
	b.ReportAllocs()
	for b.Loop() {
		secrets(reflect.ValueOf(&r).Elem(), func(*media.Secret) {})
	}
}
