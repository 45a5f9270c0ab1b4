package call

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"sync"
)

// A record says much that every record says, and the same codecs five times over. It is stored packed: a byte that names the form, the length
// of the JSON, and that as a block of LZ4 (lz4_Block_format.md) whose window begins with a sample of a record. A quarter of its size, it fits into
// one page of the store with others, and of the writing of it there is less to collect.

// packed is the form of records that are packed with recordSample; JSON begins with a brace.
const packed = 1

// recordSample is what the window begins with. What was packed with it can be read with it alone: another sample is another form.
//
//go:embed record.sample
var recordSample []byte

const (
	packTable = 1 << 12
	packMin   = 4 // shortest match
	packReach = 1<<16 - 1
	packLast  = 12      // no match begins in the last bytes …
	packTail  = 5       // … and the last of them are literals
	packMost  = 8 << 20 // bytes of JSON
)

var (
	errPacked  = errors.New("the packed record is broken")
	errTooLong = errors.New("the record is too long")
)

// packer packs one record after the other.
type packer struct {
	window bytes.Buffer // sample and JSON
	json   *json.Encoder
	table  [packTable]uint32 // where four bytes with this hash were seen last
	out    []byte
}

// sampled is the table of the sample alone.
var sampled = sync.OnceValue(func() *[packTable]uint32 {
	var t [packTable]uint32
	for i := 0; i+packMin <= len(recordSample); i++ {
		t[packHash(recordSample[i:])] = uint32(i)
	}
	return &t
})

var packers = sync.Pool{New: func() any {
	p := &packer{}
	p.json = json.NewEncoder(&p.window)
	return p
}}

func packHash(b []byte) uint32 { return binary.LittleEndian.Uint32(b) * 2654435761 >> (32 - 12) }

// pack writes a value as packed JSON.
func pack(v any) ([]byte, error) {
	p := packers.Get().(*packer)
	defer packers.Put(p)
	p.window.Reset()
	p.window.Write(recordSample)
	if err := p.json.Encode(v); err != nil {
		return nil, err
	}
	w := p.window.Bytes()
	w = w[:len(w)-1] // Encode ends the line
	if len(w) > packMost {
		return nil, errTooLong
	}
	p.out = binary.AppendUvarint(append(p.out[:0], packed), uint64(len(w)-len(recordSample)))
	p.table = *sampled()
	p.block(w)
	return bytes.Clone(p.out), nil
}

// block packs what stands in w behind the sample.
func (p *packer) block(w []byte) {
	at, literals := len(recordSample), len(recordSample)
	for at+packLast <= len(w) {
		h := packHash(w[at:])
		from := int(p.table[h])
		p.table[h] = uint32(at)
		if at-from > packReach || binary.LittleEndian.Uint32(w[from:]) != binary.LittleEndian.Uint32(w[at:]) {
			at++
			continue
		}
		n := packMin
		for at+n < len(w)-packTail && w[from+n] == w[at+n] {
			n++
		}
		p.sequence(w[literals:at], at-from, n)
		for i := at + 2; i < at+n && i+packMin <= len(w); i += 2 {
			p.table[packHash(w[i:])] = uint32(i)
		}
		at += n
		literals = at
	}
	p.sequence(w[literals:], 0, packMin)
}

// sequence writes literals and the match behind them; offset 0 is the end.
func (p *packer) sequence(literals []byte, offset, match int) {
	match -= packMin
	p.out = append(p.out, byte(min(len(literals), 15)<<4|min(match, 15)))
	p.out = packLength(p.out, len(literals))
	p.out = append(p.out, literals...)
	if offset > 0 {
		p.out = packLength(append(p.out, byte(offset), byte(offset>>8)), match)
	}
}

// packLength writes what a length has beyond the 15 in its token.
func packLength(out []byte, n int) []byte {
	if n < 15 {
		return out
	}
	for n -= 15; n >= 255; n -= 255 {
		out = append(out, 255)
	}
	return append(out, byte(n))
}

// unpack gives the JSON of a record. That of an earlier version is not packed.
func unpack(b []byte) ([]byte, error) {
	if len(b) == 0 || b[0] != packed {
		return b, nil
	}
	size, n := binary.Uvarint(b[1:])
	if n <= 0 || size > packMost {
		return nil, errPacked
	}
	u := unpacker{in: b[1+n:]}
	end := len(recordSample) + int(size)
	w := append(make([]byte, 0, end), recordSample...)
	for {
		token := u.next()
		literals := u.length(token >> 4)
		if u.broken || literals > len(u.in) || literals > end-len(w) {
			return nil, errPacked
		}
		w, u.in = append(w, u.in[:literals]...), u.in[literals:]
		if len(u.in) == 0 {
			break
		}
		offset := int(u.next()) | int(u.next())<<8
		match := u.length(token&15) + packMin
		if u.broken || offset == 0 || offset > len(w) || match > end-len(w) {
			return nil, errPacked
		}
		for ; match > 0; match-- {
			w = append(w, w[len(w)-offset])
		}
	}
	if len(w) != end {
		return nil, errPacked
	}
	return w[len(recordSample):], nil
}

// unpacker reads a block.
type unpacker struct {
	in     []byte
	broken bool
}

func (u *unpacker) next() byte {
	if len(u.in) == 0 {
		u.broken = true
		return 0
	}
	b := u.in[0]
	u.in = u.in[1:]
	return b
}

func (u *unpacker) length(nibble byte) int {
	n := int(nibble)
	for more := nibble == 15; more; {
		b := u.next()
		n, more = n+int(b), b == 255
	}
	return n
}
