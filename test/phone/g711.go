package phone

import "math/bits"

// The G.711 laws, written from ITU-T G.711 and not taken from the relay under test.

func lawOf(c Codec) func(int16) byte {
	switch {
	case c.same(PCMU):
		return toMu
	case c.same(PCMA):
		return toA
	}
	return nil
}

func expandOf(c Codec) func(byte) int16 {
	switch {
	case c.same(PCMU):
		return fromMu
	case c.same(PCMA):
		return fromA
	}
	return nil
}

func toMu(s int16) byte {
	v, sign := int(s), byte(0)
	if v < 0 {
		v, sign = -v, 0x80
	}
	v = min(v, 32635) + 132
	exp := bits.Len(uint(v)) - 8
	return ^(sign | byte(exp)<<4 | byte(v>>(exp+3))&15)
}

func fromMu(b byte) int16 {
	b = ^b
	exp := b >> 4 & 7
	v := (int(b&15)<<3+132)<<exp - 132
	if b&0x80 != 0 {
		v = -v
	}
	return int16(v)
}

func toA(s int16) byte {
	v, sign := int(s), byte(0x80)
	if v < 0 {
		v, sign = -v-1, 0
	}
	v >>= 4
	code := byte(v)
	if v > 15 {
		exp := bits.Len(uint(v)) - 4
		code = byte(exp)<<4 | byte(v>>(exp-1))&15
	}
	return (sign | code) ^ 0x55
}

func fromA(b byte) int16 {
	b ^= 0x55
	exp := b >> 4 & 7
	v := int(b&15)<<4 + 8
	if exp > 0 {
		v = (v + 256) << (exp - 1)
	}
	if b&0x80 == 0 {
		v = -v
	}
	return int16(v)
}

// EncodePCMU is sound as bytes of G.711 µ-law, for what is played to others.
func EncodePCMU(samples []int16) []byte {
	b := make([]byte, len(samples))
	for i, s := range samples {
		b[i] = toMu(s)
	}
	return b
}
