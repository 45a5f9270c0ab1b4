// Package mutate makes bad messages out of good ones, for tests: the same ones in the same order for the same seed. It knows
// nothing of what the messages mean, beside the words and numbers that parsers are known to stumble over.
package mutate

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
)

// Mutator makes messages. It is not safe for use by several goroutines.
type Mutator struct {
	rnd   *rand.Rand
	seeds [][]byte
	words [][]byte
	most  int
}

// New makes a Mutator that starts from seeds, of which there must be one that is not empty, puts words in beside those of Words
// and Numbers, and makes no message longer than most bytes.
func New(seed uint64, most int, seeds [][]byte, words ...string) *Mutator {
	m := &Mutator{rnd: rand.New(rand.NewPCG(seed, 0xba70)), most: most}
	for _, s := range seeds {
		if len(s) > 0 {
			m.seeds = append(m.seeds, s)
		}
	}
	for _, w := range slices.Concat(words, Words, Numbers) {
		m.words = append(m.words, []byte(w))
	}
	return m
}

// Words are what breaks the grammar of a text protocol: line ends whole and in halves, quotes and brackets that do not close,
// escapes, separators, bytes that are no text.
var Words = []string{
	"\r\n", "\r", "\n", "\r\n\r\n", "\r\n ", "\x00", "\x7f", "\xff\xfe", "\xc3\x28", "\"", "\\", "\\\"", "<", ">", "<<", "[", "]",
	"%00", "%0d%0a", "%", "%%", ";", ";;", ",", ",,,,,,,,", ":", "::", "@", "=", "==", "?", "&", "*", " ", "\t", "  ", "\u202e",
}

// Numbers are those at which integers of some size end, and what only looks like one.
var Numbers = []string{
	"0", "-1", "1", "127", "128", "255", "256", "32767", "32768", "65535", "65536", "2147483647", "2147483648", "4294967295",
	"4294967296", "9223372036854775807", "9223372036854775808", "18446744073709551616", "99999999999999999999999999", "00000000001",
	"+1", "1e9", "0x10", "1.5", "",
}

// change is one way to spoil a message. It may keep what it is given, never change it.
type change func(m *Mutator, b []byte) []byte

var changes = []change{
	flip, overwrite, remove, double, splice, insert, number, integer, cut, repeat, swap, dropLine,
}

// Next makes a message: a seed with one to six changes.
func (m *Mutator) Next() []byte {
	b := bytes.Clone(m.seed())
	for range 1 + m.rnd.IntN(6) {
		b = changes[m.rnd.IntN(len(changes))](m, b)
		b = b[:min(len(b), m.most)]
		if len(b) == 0 {
			break
		}
	}
	return b
}

// Int is a number below n, for what a test has to choose beside the message.
func (m *Mutator) Int(n int) int { return m.rnd.IntN(n) }

func (m *Mutator) seed() []byte { return m.seeds[m.rnd.IntN(len(m.seeds))] }

// span is a piece of b of at most most bytes, and never empty.
func (m *Mutator) span(b []byte, most int) (from, to int) {
	from = m.rnd.IntN(len(b))
	return from, from + 1 + m.rnd.IntN(min(most, len(b)-from))
}

// flip turns one bit over.
func flip(m *Mutator, b []byte) []byte {
	b = bytes.Clone(b)
	b[m.rnd.IntN(len(b))] ^= 1 << m.rnd.IntN(8)
	return b
}

// overwrite puts random bytes in place of some.
func overwrite(m *Mutator, b []byte) []byte {
	b = bytes.Clone(b)
	from, to := m.span(b, 8)
	for i := from; i < to; i++ {
		b[i] = byte(m.rnd.Uint32())
	}
	return b
}

// remove takes a piece out.
func remove(m *Mutator, b []byte) []byte {
	from, to := m.span(b, 64)
	return slices.Concat(b[:from], b[to:])
}

// double puts a copy of a piece somewhere else.
func double(m *Mutator, b []byte) []byte {
	from, to := m.span(b, 200)
	at := m.rnd.IntN(len(b) + 1)
	return slices.Concat(b[:at], b[from:to], b[at:])
}

// splice goes on with the end of another seed.
func splice(m *Mutator, b []byte) []byte {
	other := m.seed()
	return slices.Concat(b[:m.rnd.IntN(len(b)+1)], other[m.rnd.IntN(len(other)):])
}

// insert puts a word in.
func insert(m *Mutator, b []byte) []byte {
	at := m.rnd.IntN(len(b) + 1)
	return slices.Concat(b[:at], m.words[m.rnd.IntN(len(m.words))], b[at:])
}

// number puts another number in place of one that is written in digits.
func number(m *Mutator, b []byte) []byte {
	start := m.rnd.IntN(len(b))
	from := bytes.IndexFunc(b[start:], isDigit)
	if from < 0 {
		return insert(m, b)
	}
	from += start
	to := from + 1
	for to < len(b) && isDigit(rune(b[to])) {
		to++
	}
	return slices.Concat(b[:from], []byte(Numbers[m.rnd.IntN(len(Numbers))]), b[to:])
}

func isDigit(c rune) bool { return c >= '0' && c <= '9' }

// integer writes a binary number at which something ends, as a length or a count would stand in a packet.
func integer(m *Mutator, b []byte) []byte {
	var v [4]byte
	edges := []uint32{0, 1, 3, 4, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff, uint32(len(b))}
	binary.BigEndian.PutUint32(v[:], edges[m.rnd.IntN(len(edges))])
	size := []int{1, 2, 4}[m.rnd.IntN(3)]
	b = bytes.Clone(b)
	copy(b[m.rnd.IntN(len(b)):], v[4-size:])
	return b
}

// cut ends the message early.
func cut(m *Mutator, b []byte) []byte { return bytes.Clone(b[:m.rnd.IntN(len(b)+1)]) }

// repeat makes many of a piece: more than anybody has counted on.
func repeat(m *Mutator, b []byte) []byte {
	from, to := m.span(b, 40)
	times := 1 << m.rnd.IntN(10)
	return slices.Concat(b[:to], bytes.Repeat(b[from:to], min(times, m.most/(to-from))), b[to:])
}

// swap exchanges two pieces that stand side by side.
func swap(m *Mutator, b []byte) []byte {
	from, to := m.span(b, 100)
	middle := from + m.rnd.IntN(to-from)
	return slices.Concat(b[:from], b[middle:to], b[from:middle], b[to:])
}

// dropLine takes a whole line out, with its end.
func dropLine(m *Mutator, b []byte) []byte {
	lines := bytes.SplitAfter(b, []byte("\n"))
	i := m.rnd.IntN(len(lines))
	return bytes.Join(slices.Delete(lines, i, i+1), nil)
}
