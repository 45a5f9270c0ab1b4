package call

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"sync"

	"github.com/klauspost/compress/s2"
)

// A record says much that every record says, and the same codecs five times over. It is stored packed: a byte that names the form, and the JSON as a block of
// S2 (Snappy, extended) with a sample of a record for its dictionary. A quarter of its size, it fits into one page of the store with others, and of the
// writing of it there is less to collect.

// packed is the form of records that are packed with recordSample; JSON begins with a brace.
const packed = 1

// recordSample is the dictionary. What was packed with it can be read with it alone: another sample is another form.
//
//go:embed record.sample
var recordSample []byte

var recordDict = sync.OnceValue(func() *s2.Dict { return s2.MakeDict(recordSample, nil) })

// packMost is how many bytes of JSON a record has at most.
const packMost = 8 << 20

var errTooLong = errors.New("the record is too long")

var packers = sync.Pool{New: func() any {
	p := &packer{}
	p.json = json.NewEncoder(&p.text)
	return p
}}

// packer packs one record after the other.
type packer struct {
	text bytes.Buffer
	json *json.Encoder
	out  []byte
}

// pack writes a value as packed JSON.
func pack(v any) ([]byte, error) {
	p := packers.Get().(*packer)
	defer packers.Put(p)
	p.text.Reset()
	if err := p.json.Encode(v); err != nil {
		return nil, err
	}
	text := bytes.TrimSuffix(p.text.Bytes(), []byte("\n"))
	if len(text) > packMost {
		return nil, errTooLong
	}
	p.out = recordDict().Encode(p.out[:cap(p.out)], text)
	return append(append(make([]byte, 0, 1+len(p.out)), packed), p.out...), nil
}

// unpack gives the JSON of a record. That of an earlier version is not packed.
func unpack(b []byte) ([]byte, error) {
	if len(b) == 0 || b[0] != packed {
		return b, nil
	}
	n, err := s2.DecodedLen(b[1:])
	switch {
	case err != nil:
		return nil, err
	case n > packMost:
		return nil, errTooLong
	}
	return recordDict().Decode(make([]byte, 0, n), b[1:])
}
