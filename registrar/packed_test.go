package registrar

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"baton/sip"
)

// fill puts something into every field of a value, so that none can be forgotten.
func fill(v reflect.Value, rnd *rand.Rand) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(0, rnd.Int64()).UTC()))
		return
	case netip.AddrPort:
		addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(rnd.Uint32())})
		if rnd.IntN(2) == 0 {
			addr = netip.MustParseAddr(fmt.Sprintf("fe80::%x%%eth0", rnd.Uint32N(1<<16)))
		}
		v.Set(reflect.ValueOf(netip.AddrPortFrom(addr, uint16(rnd.Uint32()))))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), rnd)
		}
		if f, ok := v.Addr().Interface().(*sip.Flow); ok {
			f.Node = "" // whose it is stands in its Binding
		}
	case reflect.String:
		v.SetString([]string{"udp", "urn:uuid:1", "<urn:uuid:1>", "<udp>", "<", fmt.Sprint(rnd.Uint32()), "x\x00\xff", "<>"}[rnd.IntN(8)] + "")
	case reflect.Int:
		v.SetInt(rnd.Int64N(1 << 31))
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(rnd.Uint32()) + 1)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1+rnd.IntN(3), 3))
		for i := range v.Len() {
			fill(v.Index(i), rnd)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 1 + rnd.IntN(3) {
			name, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(name, rnd)
			fill(value, rnd)
			v.SetMapIndex(name, value)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), rnd)
	default:
		panic("no value for " + v.Type().String())
	}
}

// TestPackedKeepsAll packs devices with something in every field, those that were added to Device since among them.
func TestPackedKeepsAll(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var d Device
		fill(reflect.ValueOf(&d).Elem(), rnd)
		got, err := Unpack(string(d.Pack(nil)))
		if err != nil || !reflect.DeepEqual(got, d) {
			t.Fatalf("%v\n%+v\n%+v", err, d, got)
		}
		if string(got.Pack(nil)) != string(d.Pack(nil)) {
			t.Fatalf("%+v is packed in two ways", d)
		}
	}
	if got, err := Unpack(string(Device{}.Pack(nil))); err != nil || !reflect.DeepEqual(got, Device{}) {
		t.Errorf("nothing: %v, %+v", err, got)
	}
}

// TestSameSeesEveryField changes one field after the other, at every depth.
func TestSameSeesEveryField(t *testing.T) {
	var d Device
	fill(reflect.ValueOf(&d).Elem(), rand.New(rand.NewPCG(1, 2)))
	d.Spare = d.Spare[:1]
	var change func(v reflect.Value, path string)
	whole := string(d.Pack(nil))
	change = func(v reflect.Value, path string) {
		if v.Kind() == reflect.Struct && v.NumField() > 0 && v.Type().Field(0).IsExported() {
			for i := range v.NumField() {
				change(v.Field(i), path+"."+v.Type().Field(i).Name)
			}
			return
		}
		if strings.HasSuffix(path, ".Flow.Node") {
			return
		}
		was := reflect.ValueOf(v.Interface())
		v.Set(reflect.Zero(v.Type()))
		original, _ := Unpack(whole)
		if same(original, d) || same(d, original) {
			t.Errorf("%s is not looked at", path)
		}
		v.Set(was)
	}
	change(reflect.ValueOf(&d).Elem(), "Device")
	change(reflect.ValueOf(d.Binding).Elem(), "Binding")
	change(reflect.ValueOf(&d.Spare[0]).Elem(), "Spare")
	if original, _ := Unpack(whole); !same(original, d) {
		t.Error("a device is not the same as itself")
	}
}

// usual is a device as most are: its instance stands in key, instance and contact.
func usual() Device {
	const instance = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
	now := time.Unix(1_790_000_000, 123_456_789)
	return Device{
		User: "alice", Name: "yealink-t46s", Index: 1, Key: instance, Instance: instance, Kind: DeskPhone, UserAgent: "Yealink SIP-T46S 66.86.0.15",
		Since: now, Trace: Trace{Product: "yealink-t46s", User: "alice", Host: "192.0.2.7", Port: 5060, CallID: "0_1234567890@192.0.2.7", Transport: "udp", Addr: "192.0.2.7"},
		Binding: &Binding{
			Contact: "sip:alice@192.0.2.7:5060;transport=udp", Params: sip.Params{{Name: "+sip.instance", Value: "<" + instance + ">"}},
			Flow:   sip.Flow{Transport: "udp", Local: netip.MustParseAddrPort("192.0.2.1:5060"), Remote: netip.MustParseAddrPort("192.0.2.7:5060")},
			CallID: "0_1234567890@192.0.2.7", CSeq: 7, Registered: now.Add(time.Hour), Expires: now.Add(2 * time.Hour), Node: "office",
		},
	}
}

func TestPackedIsSmall(t *testing.T) {
	if n := len(usual().Pack(nil)); n > 240 {
		t.Errorf("a device takes %d bytes", n)
	}
}

// FuzzUnpack: what is read means the same after it was written and read again, and nothing makes it panic.
func FuzzUnpack(f *testing.F) {
	f.Add(usual().Pack(nil))
	f.Add(Device{}.Pack(nil))
	f.Fuzz(func(t *testing.T, packed []byte) {
		d, err := Unpack(string(packed))
		if err != nil {
			return
		}
		again, err := Unpack(string(d.Pack(nil)))
		if err != nil || !same(again, d) {
			t.Errorf("%v\n%+v\n%+v", err, d, again)
		}
	})
}

func BenchmarkUnpack(b *testing.B) {
	packed := string(usual().Pack(nil))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Unpack(packed); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPack(b *testing.B) {
	d, room := usual(), make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		d.Pack(room)
	}
}
