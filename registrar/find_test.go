package registrar

import (
	"errors"
	"strings"
	"testing"

	"baton/sip"
)

func TestFind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice", "bob")
		o.expect(200, desk("alice", "Yealink SIP-T46S 1", "198.51.100.7:5060"), "")
		p := app("alice", "baresip v3", "urn:uuid:AB-1", tcp("198.51.100.8:40000", 1))
		p.contact = "sip:x4711@198.51.100.8:40000;transport=tcp"
		o.expect(200, p, "")
		o.expect(200, desk("bob", "snom320/1", "198.51.100.9:5060"), "")
		for ref, want := range map[string]string{
			"1": "yealink-t46s", "2": "baresip", "yealink-t46s": "yealink-t46s", "BareSIP": "baresip",
			"urn:uuid:ab-1": "baresip", "<urn:uuid:AB-1>": "baresip", "x4711": "baresip",
			"sip:x4711@198.51.100.8:40000;transport=tcp": "baresip", "<sip:alice@198.51.100.7:5060>": "yealink-t46s",
			"alice": "yealink-t46s", // user part of its contact
			"3":     "", "": "", "snom-320": "", "sip:alice@198.51.100.7": "", "0": "",
		} {
			d, err := o.Find("alice", ref)
			if d.Name != want || (err == nil) != (want != "") {
				t.Errorf("find %q: %q, %v, want %q", ref, d.Name, err, want)
			}
			if err != nil && (!errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "there are 1 yealink-t46s, 2 baresip")) {
				t.Errorf("find %q: %v", ref, err)
			}
		}
		if _, err := o.Find("nobody", "1"); !errors.Is(err, ErrNotFound) {
			t.Errorf("find device of nobody: %v", err)
		}
		if all := o.Devices(""); len(all) != 3 || all[2].User != "bob" {
			t.Errorf("all devices are %+v", all)
		}
		if o.Devices("nobody") != nil || o.Lookup("nobody") != nil {
			t.Error("nobody has devices")
		}
	})
}

func TestDeviceOf(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice", "bob")
		desk1 := desk("alice", "Yealink SIP-T46S 1", "198.51.100.7:5060")
		mobile := app("alice", "baresip v3", "urn:uuid:AB-1", tcp("198.51.100.8:40000", 1))
		proxy := udp("203.0.113.5:5060")
		behind1, behind2 := desk("alice", "snom320/1", "10.0.0.1:5060"), desk("alice", "snom320/1", "10.0.0.2:5060")
		behind1.flow, behind2.flow = proxy, proxy
		for _, p := range []*phone{desk1, mobile, behind1, behind2} {
			p.headers = append(p.headers, "Supported: path")
			o.expect(200, p, "")
		}
		o.want("alice", "1 yealink-t46s here, 2 baresip here, 3 snom-320 here, 4 snom-320-2 here")
		mapped := udp("[::ffff:198.51.100.7]:5060")
		for _, c := range []struct {
			what    string
			user    string
			flow    sip.Flow
			contact string
			want    string
		}{
			{"its flow", "alice", desk1.flow, "", "yealink-t46s"},
			{"its flow, IPv4 in IPv6", "alice", mapped, "", "yealink-t46s"},
			{"its flow, another contact", "alice", desk1.flow, "<sip:z@10.1.1.1:9>", "yealink-t46s"},
			{"its connection", "alice", mobile.flow, "", "baresip"},
			{"another connection", "alice", tcp("198.51.100.8:40000", 9), "", ""},
			{"another connection, its instance", "alice", tcp("198.51.100.8:40009", 9), `<sip:q@h>;+sip.instance="<urn:uuid:ab-1>"`, "baresip"},
			{"its instance over another's flow", "alice", desk1.flow, `<sip:q@h>;+sip.instance="<urn:uuid:ab-1>"`, "baresip"},
			{"an unknown instance", "alice", desk1.flow, `<sip:q@h>;+sip.instance="<urn:uuid:zz>"`, "yealink-t46s"},
			{"another port, its contact", "alice", udp("198.51.100.7:61000"), "<sip:alice@198.51.100.7:5060>", "yealink-t46s"},
			{"behind a proxy", "alice", proxy, "<sip:alice@10.0.0.2:5060>", "snom-320-2"},
			{"behind a proxy", "alice", proxy, "<sip:alice@10.0.0.1:5060>", "snom-320"},
			{"a stranger", "alice", udp("198.51.100.99:5060"), "<sip:alice@198.51.100.99>", ""},
			{"another user", "bob", desk1.flow, "", ""},
			{"nobody", "nobody", desk1.flow, "", ""},
		} {
			var contact sip.NameAddr
			if c.contact != "" {
				var err error
				if contact, err = sip.ParseNameAddr(c.contact); err != nil {
					t.Fatal(err)
				}
			}
			d, ok := o.DeviceOf(c.user, c.flow, contact)
			if d.Name != c.want || ok != (c.want != "") {
				t.Errorf("%s: %q, want %q", c.what, d.Name, c.want)
			}
		}
	})
}

func TestRenameAndForget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		p := desk("alice", "Yealink SIP-T46S 1", "198.51.100.7:5060")
		o.expect(200, p, "")
		o.expect(200, desk("alice", "snom320/1", "198.51.100.8:5060"), "")
		if err := o.Rename("alice", "1", "Kitchen"); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]error{"snom-320": ErrTaken, "2": ErrInvalid, "": ErrInvalid, "a b": ErrInvalid, "ü": ErrInvalid} {
			if err := o.Rename("alice", "kitchen", name); !errors.Is(err, want) {
				t.Errorf("rename to %q: %v, want %v", name, err, want)
			}
		}
		if err := o.Rename("alice", "kitchen", "kitchen"); err != nil {
			t.Errorf("rename to its own name: %v", err)
		}
		if err := o.Rename("alice", "9", "x"); !errors.Is(err, ErrNotFound) {
			t.Errorf("rename of nothing: %v", err)
		}
		o.expect(200, p, "") // keeps the name it was given
		o.want("alice", "1 kitchen here, 2 snom-320 here")
		if err := o.Forget("alice", "kitchen"); err != nil {
			t.Fatal(err)
		}
		o.want("alice", "2 snom-320 here")
		if left, _ := o.store.Devices(); len(left) != 1 {
			t.Errorf("%d devices are stored", len(left))
		}
		o.expect(200, p, "")
		o.want("alice", "1 yealink-t46s here, 2 snom-320 here")
		o.store.set(func() { o.store.fail = errors.New("disk full") })
		if err := o.Rename("alice", "1", "hall"); err == nil {
			t.Error("a name that is not stored is given")
		}
		o.want("alice", "1 yealink-t46s here, 2 snom-320 here")
	})
}

func TestWatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice", "bob")
		var seen []string
		note := func(d Device) { seen = append(seen, d.Name+" "+d.Binding.Flow.Remote.String()) }
		stop := o.Watch("alice", note)
		p := desk("alice", "Yealink SIP-T46S 1", "198.51.100.7:5060")
		o.expect(200, p, "")
		o.expect(200, p, "") // a refresh
		o.expect(200, desk("bob", "snom320/1", "198.51.100.8:5060"), "")
		p.flow = udp("198.51.100.7:6000") // NAT has changed
		o.expect(200, p, "")
		o.expect(200, p, "0")
		o.expect(200, p, "")
		stop()
		o.expect(200, p, "0")
		o.expect(200, p, "")
		want := "yealink-t46s 198.51.100.7:5060, yealink-t46s 198.51.100.7:6000, yealink-t46s 198.51.100.7:6000"
		if got := strings.Join(seen, ", "); got != want {
			t.Errorf("seen %s\nwant %s", got, want)
		}
		if len(o.watchers.by) != 0 {
			t.Errorf("watchers are left: %v", o.watchers.by)
		}
	})
}
