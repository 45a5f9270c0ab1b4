package mutate

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"
)

var seeds = [][]byte{
	[]byte("INVITE sip:bob@x SIP/2.0\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"),
	{0x80, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 9},
	nil,
}

func sum(m *Mutator, n int) string {
	h := sha256.New()
	for range n {
		h.Write(m.Next())
		h.Write([]byte{0})
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// TestDeterministic: what a failed test tells must come again.
func TestDeterministic(t *testing.T) {
	one, two, other := sum(New(1, 500, seeds), 2000), sum(New(1, 500, seeds), 2000), sum(New(2, 500, seeds), 2000)
	if one != two {
		t.Error("the same seed has made other messages")
	}
	if one == other {
		t.Error("another seed has made the same messages")
	}
}

// TestBounded: no message is longer than asked for, hardly any is a seed, and the seeds stay as they are.
func TestBounded(t *testing.T) {
	before := [][]byte{bytes.Clone(seeds[0]), bytes.Clone(seeds[1])}
	m := New(3, 300, seeds)
	same, long := 0, 0
	for range 5000 {
		b := m.Next()
		if len(b) > 300 {
			t.Fatalf("%d bytes", len(b))
		}
		if len(b) > 200 {
			long++
		}
		if bytes.Equal(b, seeds[0]) || bytes.Equal(b, seeds[1]) {
			same++
		}
	}
	if same > 250 || long == 0 {
		t.Errorf("of 5000 messages %d are as they were and %d long", same, long)
	}
	if !bytes.Equal(before[0], seeds[0]) || !bytes.Equal(before[1], seeds[1]) {
		t.Error("a seed was changed")
	}
}

// TestChanges: each change does its own, for messages as short as they can be too, and leaves what it is given.
func TestChanges(t *testing.T) {
	m := New(4, 4096, seeds, "a word")
	for i, c := range changes {
		changed := 0
		for range 200 {
			for _, b := range [][]byte{seeds[0], seeds[1], []byte("1")} {
				before := bytes.Clone(b)
				if !bytes.Equal(c(m, b), before) {
					changed++
				}
				if !bytes.Equal(b, before) {
					t.Fatalf("change %d has changed what it was given", i)
				}
			}
		}
		if changed < 200 {
			t.Errorf("change %d has changed %d of 600 messages", i, changed)
		}
	}
	if !bytes.Contains(many(m, insert), []byte("a word")) || !bytes.Contains(many(m, number), []byte("18446744073709551616")) {
		t.Error("a word or a number is never used")
	}
}

func many(m *Mutator, c change) []byte {
	var all []byte
	for range 5000 {
		all = append(all, c(m, seeds[0])...)
	}
	return all
}
