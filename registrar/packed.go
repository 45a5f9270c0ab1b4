package registrar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"baton/sip"
)

// A device is kept in memory, and may be stored, as a run of bytes: a fifth of what its fields, their strings and their
// allocations take. What is wanted of it is read when it is wanted.
//
//	packed  = version fields              in the order of Pack
//	string  = uvarint(4·length) bytes     a new one
//	        | uvarint(4·n + 1)            the n-th string, counted from those that everybody knows
//	        | uvarint(4·n + 2)            the same in < >
//	number  = varint
//	time    = varint of the nanoseconds since another time of the device, which is its Since; that since 1970
//	list    = uvarint(length) elements
//
// Strings that stand several times, as an instance does, are there once; only the first maxNumbered are counted.
const packedVersion = 1

// packedWords are the strings that need not be written. They are part of the format: they may be added to only with another
// version.
var packedWords = [...]string{
	"", "udp", "tcp", "tls", "ws", "wss", "desk phone", "softphone", "browser", "+sip.instance", "reg-id", "q", "ob",
	"transport", "phone", "methods", "audio", "video", "lr", "line", "rinstance",
}

// usualSize is room for most devices.
const usualSize = 320

var errPacked = errors.New("device is cut short or from another version")

// Pack appends the device as bytes. Of times it keeps the instant, not the zone.
func (d Device) Pack(to []byte) []byte {
	if to == nil {
		to = make([]byte, 0, usualSize)
	}
	w := packer{b: append(to, packedVersion)}
	w.words(d.User, d.Name, d.Key, d.Instance, string(d.Kind), d.UserAgent, d.Reason)
	w.number(int64(d.Index))
	w.number(nanos(d.Since))
	w.words(d.Trace.Product, d.Trace.User, d.Trace.Host, d.Trace.CallID, d.Trace.Transport, d.Trace.Addr)
	w.number(int64(d.Trace.Port))
	w.length(len(d.Profile))
	if len(d.Profile) > 0 {
		for _, name := range slices.Sorted(maps.Keys(d.Profile)) {
			w.words(name, d.Profile[name])
		}
	}
	w.flag(d.Binding != nil)
	if d.Binding != nil {
		w.binding(d.Binding, d.Since)
	}
	w.length(len(d.Spare))
	for i := range d.Spare {
		w.binding(&d.Spare[i], d.Since)
	}
	return w.b
}

// Unpack reads a device that Pack has written.
func Unpack(packed string) (Device, error) {
	r := unpacker{s: packed}
	d := r.device()
	if r.bad || r.s != "" {
		return Device{}, fmt.Errorf("%w: %d bytes", errPacked, len(packed))
	}
	return d, nil
}

func (r *unpacker) device() Device {
	if r.byte() != packedVersion {
		r.fail()
	}
	d := Device{User: r.word(), Name: r.word(), Key: r.word(), Instance: r.word(), Kind: Kind(r.word()), UserAgent: r.word(), Reason: r.word()}
	d.Index = int(r.number())
	d.Since = instant(r.number())
	d.Trace = Trace{Product: r.word(), User: r.word(), Host: r.word(), CallID: r.word(), Transport: r.word(), Addr: r.word()}
	d.Trace.Port = int(r.number())
	for range r.length() {
		if d.Profile == nil {
			d.Profile = make(map[string]string)
		}
		name := r.word()
		d.Profile[name] = r.word()
	}
	if r.flag() {
		b := r.binding(d.Since)
		d.Binding = &b
	}
	if n := r.length(); n > 0 {
		d.Spare = make([]Binding, n)
		for i := range d.Spare {
			d.Spare[i] = r.binding(d.Since)
		}
	}
	return d
}

// binding leaves out whose the flow is: Node says so, and list names it.
func (w *packer) binding(b *Binding, since time.Time) {
	w.words(b.Contact, b.CallID, b.Node, b.Flow.Transport)
	w.address(b.Flow.Local)
	w.address(b.Flow.Remote)
	w.number(int64(b.Flow.ID))
	w.number(int64(b.CSeq))
	w.number(int64(b.RegID))
	w.number(nanos(b.Registered) - nanos(since))
	w.number(nanos(b.Expires) - nanos(b.Registered))
	w.flag(b.Silent)
	w.length(len(b.Params))
	for _, p := range b.Params {
		w.words(p.Name, p.Value)
	}
	w.length(len(b.Path))
	w.words(b.Path...)
}

func (r *unpacker) binding(since time.Time) Binding {
	b := Binding{Contact: r.word(), CallID: r.word(), Node: r.word()}
	b.Flow = sip.Flow{Transport: r.word(), Local: r.address(), Remote: r.address(), ID: uint64(r.number())}
	b.CSeq, b.RegID = uint32(r.number()), int(r.number())
	registered := nanos(since) + r.number()
	b.Registered, b.Expires = instant(registered), instant(registered+r.number())
	b.Silent = r.flag()
	if n := r.length(); n > 0 {
		b.Params = make(sip.Params, n)
		for i := range b.Params {
			b.Params[i] = sip.Param{Name: r.word(), Value: r.word()}
		}
	}
	if n := r.length(); n > 0 {
		b.Path = make([]string, n)
		for i := range b.Path {
			b.Path[i] = r.word()
		}
	}
	return b
}

// nanos is a time as a number: 0 is no time at all.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func instant(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// maxNumbered is how many strings of a device can be said again by their number. A device has some twenty.
const maxNumbered = 32

// numbered are the strings of a device that have a number, behind packedWords.
type numbered struct {
	words [maxNumbered]string
	count int
}

func (n *numbered) add(s string) {
	if n.count < maxNumbered {
		n.words[n.count] = s
		n.count++
	}
}

// packer writes.
type packer struct {
	b    []byte
	seen numbered
}

func (w *packer) words(all ...string) {
	for _, s := range all {
		w.word(s)
	}
}

func (w *packer) word(s string) {
	if n := w.find(s); n >= 0 {
		w.length(4*n + 1)
		return
	}
	if inner, ok := strings.CutPrefix(s, "<"); ok && strings.HasSuffix(inner, ">") {
		if n := w.find(inner[:len(inner)-1]); n >= 0 {
			w.length(4*n + 2)
			return
		}
	}
	w.length(4 * len(s))
	w.b = append(w.b, s...)
	w.seen.add(s)
}

// find is the number of a string that need not be written, -1 if it must be.
func (w *packer) find(s string) int {
	for n := range packedWords {
		if packedWords[n] == s {
			return n
		}
	}
	for n := range w.seen.count {
		if w.seen.words[n] == s {
			return len(packedWords) + n
		}
	}
	return -1
}

func (w *packer) length(n int)   { w.b = binary.AppendUvarint(w.b, uint64(n)) }
func (w *packer) number(n int64) { w.b = binary.AppendVarint(w.b, n) }

func (w *packer) flag(set bool) {
	if set {
		w.length(1)
		return
	}
	w.length(0)
}

func (w *packer) address(a netip.AddrPort) {
	at := len(w.b)
	w.b, _ = a.AppendBinary(append(w.b, 0)) // it never fails
	w.b[at] = byte(len(w.b) - at - 1)
}

// unpacker reads. After an error it reads nothing more.
type unpacker struct {
	s    string
	bad  bool
	seen numbered
}

func (r *unpacker) fail() { r.s, r.bad = "", true }

func (r *unpacker) byte() byte {
	if r.s == "" {
		r.fail()
		return 0
	}
	b := r.s[0]
	r.s = r.s[1:]
	return b
}

func (r *unpacker) unsigned() uint64 {
	if r.s != "" && r.s[0] < 0x80 {
		n := r.s[0]
		r.s = r.s[1:]
		return uint64(n)
	}
	var n uint64
	for shift := 0; shift < 64; shift += 7 {
		b := r.byte()
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
	r.fail()
	return 0
}

func (r *unpacker) number() int64 {
	n := r.unsigned()
	return int64(n>>1) ^ -int64(n&1)
}

// length reads the length of what follows: an element has a byte at least.
func (r *unpacker) length() int {
	n := r.unsigned()
	if n > uint64(len(r.s)) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *unpacker) flag() bool { return r.unsigned() == 1 }

func (r *unpacker) take(n uint64) string {
	if n > uint64(len(r.s)) {
		r.fail()
		return ""
	}
	s := r.s[:n]
	r.s = r.s[n:]
	return s
}

func (r *unpacker) word() string {
	switch n := r.unsigned(); n & 3 {
	case 0:
		s := r.take(n >> 2)
		r.seen.add(s)
		return s
	case 1:
		return r.known(n >> 2)
	case 2:
		return "<" + r.known(n>>2) + ">"
	}
	r.fail()
	return ""
}

func (r *unpacker) known(n uint64) string {
	if n < uint64(len(packedWords)) {
		return packedWords[n]
	}
	if n -= uint64(len(packedWords)); n < uint64(r.seen.count) {
		return r.seen.words[n]
	}
	r.fail()
	return ""
}

func (r *unpacker) address() netip.AddrPort {
	b := r.take(uint64(r.byte()))
	if len(b) == 6 { // IPv4
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{b[0], b[1], b[2], b[3]}), uint16(b[4])|uint16(b[5])<<8)
	}
	var a netip.AddrPort
	if err := a.UnmarshalBinary([]byte(b)); err != nil {
		r.fail()
	}
	return a
}
