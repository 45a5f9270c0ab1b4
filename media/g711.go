package media

// G.711 (ITU-T): two ways to put 13 or 14 bits into 8, converted by table.

var (
	muToA [256]byte // PCMU → PCMA
	aToMu [256]byte
)

func init() {
	for i := range 256 {
		muToA[i] = toA(fromMu(byte(i)))
		aToMu[i] = toMu(fromA(byte(i)))
	}
	// Both zeroes of each law are zeroes of the other: silence must stay silence.
	muToA[0xff], muToA[0x7f] = 0xd5, 0x55
	aToMu[0xd5], aToMu[0x55] = 0xff, 0x7f
}

// toMu encodes a 16-bit sample as PCMU.
func toMu(v int16) byte {
	const bias, clip = 0x84, 32635
	x, sign := int(v), byte(0)
	if x < 0 {
		x, sign = -x, 0x80
	}
	x = min(x, clip) + bias
	exp := 7
	for mask := 0x4000; x&mask == 0 && exp > 0; mask >>= 1 {
		exp--
	}
	return ^(sign | byte(exp<<4) | byte(x>>(exp+3))&0x0f)
}

// fromMu decodes PCMU.
func fromMu(b byte) int16 {
	b = ^b
	v := (int(b&0x0f)<<3+0x84)<<(b>>4&7) - 0x84
	if b&0x80 != 0 {
		v = -v
	}
	return int16(v)
}

// toA encodes a 16-bit sample as PCMA.
func toA(v int16) byte {
	x, sign := int(v), byte(0x80)
	if x < 0 {
		x, sign = -x-1, 0
	}
	exp := 7
	for mask := 0x4000; x&mask == 0 && exp > 0; mask >>= 1 {
		exp--
	}
	shift := max(exp+3, 4)
	return (sign | byte(exp<<4) | byte(x>>shift)&0x0f) ^ 0x55
}

// fromA decodes PCMA.
func fromA(b byte) int16 {
	b ^= 0x55
	v, exp := int(b&0x0f)<<4+8, b>>4&7
	if exp > 0 {
		v = (v + 0x100) << (exp - 1)
	}
	if b&0x80 == 0 {
		v = -v
	}
	return int16(v)
}
