package registrar

import (
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"baton/sip"
)

// FuzzRegister has a device send any Contact, Expires and User-Agent, twice: what is bound lives no longer than it may, names, keys and
// indexes stay one device's, and the answer is one that can be read.
func FuzzRegister(f *testing.F) {
	for _, seed := range [][3]string{
		{`<sip:a@10.0.0.1:5060>;+sip.instance="<urn:uuid:1>";reg-id=1;expires=3600`, "60", "Yealink SIP-T46S 66"},
		{`<sip:a@10.0.0.1>, "A, B" <sip:b@[::1]:5070;transport=tcp>;q=0.5;expires=0`, "", ""},
		{"*", "0", "x"},
		{"sip:%00@10.0.0.2;q=2;expires=99999999999999999999", "-1", "\xff"},
		{`<sip:a@h;pn-provider=x?Route=%3Csip:evil%3E>`, "4294967296", "(((("},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	now := time.Unix(1_800_000_000, 0)
	flow := sip.Flow{Transport: "udp", Local: netip.MustParseAddrPort("10.0.0.9:5060"), Remote: netip.MustParseAddrPort("10.0.0.1:5060")}
	f.Fuzz(func(t *testing.T, contact, expires, agent string) {
		devices := []Device{{User: "alice", Key: "k", Name: "desk", Index: 1}}
		for cseq := range 2 {
			req, err := sip.ParseRequest(register(cseq+1, contact, expires, agent))
			if err != nil {
				return
			}
			o, err := readOrder(req, flow)
			if err != nil {
				return
			}
			if len(o.wishes) > maxContacts {
				t.Fatalf("%d contacts", len(o.wishes))
			}
			o.user = "alice"
			after, own, err := o.apply(devices, func(Device) bool { return false }, now, "n")
			if err != nil {
				return
			}
			devices = after
			distinct(t, devices, now)
			readable(t, o.answer(devices, own, now))
		}
	})
}

func register(cseq int, contact, expires, agent string) []byte {
	head := "REGISTER sip:h SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1\r\nMax-Forwards: 70\r\nFrom: <sip:alice@h>;tag=1\r\n" +
		"To: <sip:alice@h>\r\nCall-ID: c\r\nCSeq: " + strconv.Itoa(cseq) + " REGISTER\r\n"
	for name, v := range map[string]string{"Contact": contact, "Expires": expires, "User-Agent": agent} {
		if v != "" {
			head += name + ": " + v + "\r\n"
		}
	}
	return []byte(head + "\r\n")
}

// distinct checks what must hold for the devices of a user at any time.
func distinct(t *testing.T, devices []Device, now time.Time) {
	t.Helper()
	names, keys, indexes := map[string]bool{}, map[string]bool{}, map[int]bool{}
	for _, d := range devices {
		if names[d.Name] || keys[d.Key] || d.Index != 0 && indexes[d.Index] || d.Index < 0 || d.Index > maxIndex {
			t.Errorf("%+v is not alone in %+v", d, devices)
		}
		if !deviceName.MatchString(d.Name) {
			t.Errorf("%q is no name", d.Name)
		}
		names[d.Name], keys[d.Key], indexes[d.Index] = true, true, true
		for _, b := range d.bindings() {
			if left := b.Expires.Sub(now); left < minExpires || left > maxPushExpires {
				t.Errorf("%s is bound for %v", b.Contact, left)
			}
			u, err := sip.ParseURI(b.Contact)
			if err != nil || len(u.Headers) > 0 {
				t.Errorf("bound to %q: %v", b.Contact, err)
			}
		}
	}
}

// readable checks that each Contact of an answer can be read, and says how long it holds.
func readable(t *testing.T, r sip.Reply) {
	t.Helper()
	for _, v := range values(r, "Contact") {
		n, err := sip.ParseNameAddr(v)
		left, _ := n.Params.Get("expires")
		seconds, bad := strconv.ParseUint(left, 10, 32)
		if err != nil || bad != nil || seconds == 0 || float64(seconds) > math.Ceil(maxPushExpires.Seconds()) || strings.ContainsAny(v, "\r\n") {
			t.Errorf("Contact: %s (%v)", v, err)
		}
	}
	if r.Code != 200 || slices.ContainsFunc(r.Headers, func(h sip.Header) bool { return h.Name == "Date" && h.Value == "" }) {
		t.Errorf("%+v", r)
	}
}

// FuzzUser makes users of any name, number and words: one that is taken can log in and be called by each of its names.
func FuzzUser(f *testing.F) {
	f.Add("alice", "101", "Alice", "secret")
	f.Add("a*b", "1 2", "\u202e", "\x00")
	f.Fuzz(func(t *testing.T, name, number, display, password string) {
		s := UserSpec{Name: name, Numbers: []string{number}, Display: display, Password: password}
		if s.validate() != nil {
			return
		}
		u := User{Name: name, Numbers: s.Numbers, Realm: "r"}
		for login, secret := range secrets(u, password) {
			uri := sip.URI{Scheme: "sip", User: login, Host: "h"}.String()
			back, err := sip.ParseURI(uri)
			if err != nil || back.User != login || strings.ContainsAny(login, "*#@:") || len(secret.MD5) != 32 || len(secret.SHA256) != 64 {
				t.Errorf("%q logs in as %q: %s, %+v", name, login, uri, secret)
			}
		}
	})
}
