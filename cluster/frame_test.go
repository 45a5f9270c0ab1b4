package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// TestFrames reads what was written, however it is cut.
func TestFrames(t *testing.T) {
	t.Parallel()
	all := []frame{
		{what: framePing, id: 1},
		{what: frameMessage, kind: "sip", payload: []byte("INVITE")},
		{what: frameRequest, id: 1<<64 - 1, kind: strings.Repeat("k", maxKind), payload: bytes.Repeat([]byte("x"), 200_000)},
		{what: frameAnswer, id: 7},
		{what: frameMessage, kind: "last", payload: bytes.Repeat([]byte("y"), MaxPayload)},
	}
	var text []byte
	for _, f := range all {
		text = f.append(text)
	}
	for _, from := range []io.Reader{bytes.NewReader(text), iotest.HalfReader(bytes.NewReader(text)), iotest.DataErrReader(bytes.NewReader(text))} {
		r := &frames{from: from, most: maxFrame}
		for i, want := range all {
			got, err := r.next()
			if err != nil || got.what != want.what || got.id != want.id || got.kind != want.kind || !bytes.Equal(got.payload, want.payload) {
				t.Fatalf("frame %d: %v, %d bytes of %q", i, err, len(got.payload), got.kind)
			}
		}
		if _, err := r.next(); err != io.EOF {
			t.Errorf("after the last frame: %v", err)
		}
	}
}

// TestBadFrames are refused without making room for what they promise.
func TestBadFrames(t *testing.T) {
	t.Parallel()
	length := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	bad := map[string][]byte{
		"no length":           length(0),
		"too short":           length(frameHead - 1),
		"too long":            length(maxFrame + 1),
		"what is not known":   frame{what: frameEnd}.append(nil),
		"nothing":             frame{}.append(nil),
		"kind beyond its end": append(length(frameHead), 1, 0, 0, 0, 0, 0, 0, 0, 0, 9),
	}
	for name, text := range bad {
		if _, err := (&frames{from: bytes.NewReader(text), most: maxFrame}).next(); !errors.Is(err, errFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
	promised := &frames{from: bytes.NewReader(append(length(maxFrame), "little"...)), most: maxFrame}
	if _, err := promised.next(); !errors.Is(err, io.ErrUnexpectedEOF) || cap(promised.buf) > 1<<20 {
		t.Errorf("a frame that is cut: %v, room for %d bytes was made", err, cap(promised.buf))
	}
	if _, err := (&frames{from: bytes.NewReader(frame{what: frameHello, payload: make([]byte, maxHello)}.append(nil)), most: maxHello}).next(); err == nil {
		t.Error("a hello without end was read")
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(frame{what: frameMessage, kind: "sip", payload: []byte("INVITE")}.append(nil))
	f.Add(frame{what: frameRequest, id: 3, kind: "echo"}.append(frame{what: framePing, id: 1}.append(nil)))
	f.Add([]byte{0, 0, 0, 10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 255})
	f.Fuzz(func(t *testing.T, text []byte) {
		r := &frames{from: iotest.OneByteReader(bytes.NewReader(text)), most: maxFrame}
		var again []byte
		for {
			got, err := r.next()
			if err != nil {
				break
			}
			again = got.append(again)
		}
		if !bytes.HasPrefix(text, again) {
			t.Fatalf("what was read is not what is written of it: %q", again)
		}
		if cap(r.buf) > len(text)+256<<10 {
			t.Fatalf("%d bytes of room for %d", cap(r.buf), len(text))
		}
	})
}

func FuzzHeartbeat(f *testing.F) {
	send := &beats{session: 1, send: make([]byte, 32), take: make([]byte, 32)}
	f.Add(send.next(Load{Calls: 3}))
	f.Add([]byte(beatMagic))
	f.Fuzz(func(t *testing.T, p []byte) {
		id, ok := beatSession(p)
		if !ok {
			return
		}
		take := &beats{session: id, take: make([]byte, 32)}
		load, right, _ := take.open(p)
		if _, again, replayed := take.open(p); right && (again || !replayed) {
			t.Fatalf("%+v was taken twice", load)
		}
	})
}

// TestKey is written, read, and kept from others and from logs.
func TestKey(t *testing.T) {
	t.Parallel()
	k := NewKey()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(k.Text()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadKey(file); err != nil || got != k {
		t.Errorf("read: %v", err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKey(file); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that everybody can read: %v", err)
	}
	for _, bad := range []string{"", "x", k.Text()[4:], k.Text() + "AAAA"} {
		if _, err := ParseKey(bad); err == nil || strings.Contains(err.Error(), k.Text()[8:20]) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if strings.Contains(k.String(), k.Text()) || NewKey() == k {
		t.Error("a key is told, or not drawn")
	}
	for range 2 { // every node makes the same
		a, _ := k.identity()
		b, _ := k.identity()
		if !bytes.Equal(a.Certificates[0].Certificate[0], b.Certificates[0].Certificate[0]) {
			t.Error("two nodes have two certificates of one key")
		}
	}
}
