package call

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"testing"

	"baton/media"
)

// sealedRecord has a key in every place that a record can have one.
func sealedRecord() (Record, [][]byte) {
	var all [][]byte
	key := func(n int) media.Secret {
		k := bytes.Repeat([]byte{byte(0x41 + len(all))}, n)
		k[n-1] = 0xfb
		all = append(all, k)
		return k
	}
	leg := func(id string) LegRecord {
		return LegRecord{
			ID: id, State: legUp, Agreed: media.Agreement{
				Remote: netip.MustParseAddrPort("192.0.2.1:4000"), Direction: media.SendRecv, Security: media.SDES,
				In: media.Crypto{Tag: 1, Suite: "AEAD_AES_128_GCM", Key: key(28), MKI: key(4)}, Out: media.Crypto{Tag: 1, Suite: "AEAD_AES_128_GCM", Key: key(28)},
				ICE: media.ICE{Ufrag: "abcd", Pwd: key(24)},
			},
			SRTP: &media.Standing{In: []media.Rollover{{SSRC: 7, ROC: 3}}},
		}
	}
	r := Record{ID: "k3f9", State: StateUp, Epoch: 1, Seats: []SeatRecord{{User: "alice", Legs: []LegRecord{leg("a"), leg("b")}}, {User: "bob", Legs: []LegRecord{leg("c")}}}}
	return r, all
}

// TestSeal: no key stands in the blob, in any form; with the node's secret they all come back in their places.
func TestSeal(t *testing.T) {
	t.Parallel()
	v := newVault(bytes.Repeat([]byte{9}, 32))
	r, keys := sealedRecord()
	blob, err := v.encode(r)
	if err != nil {
		t.Fatal(err)
	}
	text, err := unpack(blob)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range keys {
		for _, form := range [][]byte{k, []byte(base64.StdEncoding.EncodeToString(k)), []byte(base64.RawStdEncoding.EncodeToString(k)), []byte(fmt.Sprintf("%x", k))} {
			if bytes.Contains(text, form) || bytes.Contains(blob, form) {
				t.Errorf("key %d stands in the record: %s", i, form)
			}
		}
	}
	got, err := v.decode(blob)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, r) {
		t.Errorf("came back as %#v, was %#v", got, r)
	}
	again, err := v.encode(r)
	if err != nil || bytes.Equal(again, blob) {
		t.Errorf("sealed twice with one nonce (%v)", err)
	}
}

// TestSealBroken: what cannot be opened says so, and the rest of the record can be read all the same.
func TestSealBroken(t *testing.T) {
	t.Parallel()
	v := newVault(bytes.Repeat([]byte{9}, 32))
	r, _ := sealedRecord()
	blob, err := v.encode(r)
	if err != nil {
		t.Fatal(err)
	}
	blob, err = unpack(blob)
	if err != nil {
		t.Fatal(err)
	}
	var plain map[string]any
	if err := json.Unmarshal(blob, &plain); err != nil {
		t.Fatal(err)
	}
	with := func(field string, value any) []byte {
		was, had := plain[field]
		plain[field] = value
		b, err := json.Marshal(plain)
		if err != nil {
			t.Fatal(err)
		}
		if plain[field] = was; !had {
			delete(plain, field)
		}
		return b
	}
	for name, c := range map[string]struct {
		vault vault
		blob  []byte
	}{
		"another node's":      {newVault(bytes.Repeat([]byte{8}, 32)), blob},
		"a node without any":  {newVault(nil), blob},
		"another call's":      {v, with("id", "other")},
		"cut":                 {v, with("sealed", "AAAA")},
		"gone":                {v, with("sealed", nil)},
		"a place more":        {v, bytes.Replace(blob, []byte(`"key":"…"`), []byte(`"mki":"…","key":"…"`), 2)},
		"a place less":        {v, bytes.Replace(blob, []byte(`"key":"…"`), []byte(`"key":""`), 1)},
		"places without seal": {v, bytes.Replace(with("sealed", nil), []byte(`,"sealed":null`), nil, 1)},
	} {
		got, err := c.vault.decode(c.blob)
		if !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v", name, err)
		}
		if len(got.Seats) != 2 || got.Seats[0].Legs[0].Agreed.In.Key != nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestSealNothing: a call without keys has a record without a seal.
func TestSealNothing(t *testing.T) {
	t.Parallel()
	blob, err := newVault(nil).encode(Record{ID: "a", Seats: []SeatRecord{{Legs: []LegRecord{{ID: "x", Agreed: media.Agreement{Direction: media.SendRecv}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if text, err := unpack(blob); err != nil || bytes.Contains(text, []byte("sealed")) {
		t.Errorf("%s (%v)", text, err)
	}
	if _, err := newVault(nil).decode(blob); err != nil {
		t.Error(err)
	}
}

func BenchmarkEncodeRecord(b *testing.B) {
	v := newVault(nil)
	r, _ := sealedRecord()
	b.Run("sealed", func(b *testing.B) {
		for b.Loop() {
			if _, err := v.encode(r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("JSON alone", func(b *testing.B) {
		for b.Loop() {
			if _, err := json.Marshal(r); err != nil {
				b.Fatal(err)
			}
		}
	})
}
