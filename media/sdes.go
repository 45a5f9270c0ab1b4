package media

import (
	"encoding/base64"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
)

// Suites returns the crypto suites of SDES that are served, the preferred first, without keys: enough to see whether an offer could be
// answered at all.
func Suites() []Crypto {
	all := make([]Crypto, len(preferred))
	for i, name := range preferred {
		all[i] = Crypto{Tag: i + 1, Suite: name}
	}
	return all
}

// Limits on what is kept of a line.
const (
	maxCrypto       = 16
	maxFingerprints = 8
)

// readCryptos reads the a=crypto attributes of a line that can be honoured, in their order.
func readCryptos(attrs []sdp.Attribute) []Crypto {
	var all []Crypto
	for _, a := range attrs {
		if a.Key != "crypto" || len(all) == maxCrypto {
			continue
		}
		if c, ok := readCrypto(a.Value); ok {
			all = append(all, c)
		}
	}
	return all
}

// readCrypto reads `1 AES_CM_128_HMAC_SHA1_80 inline:…|2^20|1:4 WSH=64` (RFC 4568 §9.1). False is a suite that is not served, a session
// parameter that cannot be honoured, or nonsense: such an attribute is passed over.
func readCrypto(v string) (Crypto, bool) {
	f := strings.Fields(v)
	if len(f) < 3 || slices.ContainsFunc(f[3:], binding) {
		return Crypto{}, false
	}
	tag, err := strconv.ParseUint(f[0], 10, 30)
	c := Crypto{Tag: int(tag), Suite: f[1]}
	return c, err == nil && c.readKey(f[2])
}

// binding says whether a session parameter changes how packets are made, and nothing here can do that (RFC 4568 §6.3). A window size is a
// hint, a rate of 0 is the default, and "-" marks what may be passed over.
func binding(param string) bool {
	name, value, _ := strings.Cut(param, "=")
	return name != "WSH" && !(name == "KDR" && value == "0") && !strings.HasPrefix(name, "-")
}

// readKey reads the first of `inline:key||salt|lifetime|MKI:length;inline:…`. The lifetime (2^48 packets by default) is checked, not
// counted: at 50 packets a second the shortest that was seen, 2^20, lasts for six hours.
func (c *Crypto) readKey(params string) bool {
	first, _, _ := strings.Cut(params, ";")
	method, info, _ := strings.Cut(first, ":")
	f := strings.Split(info, "|")
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(f[0], "="))
	c.Key = key
	if err != nil || !strings.EqualFold(method, "inline") || !c.Usable() {
		return false
	}
	rest := f[1:]
	if len(rest) > 0 && !strings.Contains(rest[0], ":") {
		if !lifetime(rest[0]) {
			return false
		}
		rest = rest[1:]
	}
	switch len(rest) {
	case 0:
		return true
	case 1:
		return c.readMKI(rest[0])
	}
	return false
}

// lifetime checks a number of packets, which may be a power of two.
func lifetime(v string) bool {
	power, isPower := strings.CutPrefix(v, "2^")
	if isPower {
		n, err := strconv.ParseUint(power, 10, 6)
		return err == nil && n <= 48
	}
	n, err := strconv.ParseUint(v, 10, 49)
	return err == nil && n > 0
}

// readMKI reads `1:4`: a number and how many bytes it takes in each packet.
func (c *Crypto) readMKI(v string) bool {
	value, length, _ := strings.Cut(v, ":")
	size, err := strconv.ParseUint(length, 10, 8)
	n, ok := new(big.Int).SetString(value, 10)
	if err != nil || !ok || n.Sign() < 0 || size == 0 || size > maxMKI || n.BitLen() > int(size)*8 {
		return false
	}
	c.MKI = n.FillBytes(make([]byte, size))
	return true
}

// value is what stands behind `a=crypto:`. The key is padded: there are phones that cannot do without.
func (c Crypto) value() string {
	v := strconv.Itoa(c.Tag) + " " + c.Suite + " inline:" + base64.StdEncoding.EncodeToString(c.Key)
	if len(c.MKI) > 0 {
		v += "|" + new(big.Int).SetBytes(c.MKI).String() + ":" + strconv.Itoa(len(c.MKI))
	}
	return v
}

// chooseCrypto returns our key to answer with: of the suite that stands first in ours and that theirs has, under the tag that it has there
// (RFC 4568 §5.1.2).
func chooseCrypto(theirs, ours []Crypto) (Crypto, bool) {
	for _, o := range ours {
		for _, t := range theirs {
			if t.Suite == o.Suite {
				o.Tag = t.Tag
				return o, true
			}
		}
	}
	return Crypto{}, false
}

// pairCrypto finds the keys that an offer and its answer have settled on, whichever of the two is ours. They have one tag; a peer that
// answers under another is understood by the suite alone.
func pairCrypto(ours, theirs []Crypto) (out, in Crypto, ok bool) {
	for _, tagged := range []bool{true, false} {
		for _, o := range ours {
			for _, t := range theirs {
				if o.Suite == t.Suite && (o.Tag == t.Tag || !tagged) {
					return o, t, true
				}
			}
		}
	}
	return Crypto{}, Crypto{}, false
}
