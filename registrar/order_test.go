package registrar

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"baton/sip"
)

func TestReadExpires(t *testing.T) {
	const own, pushed = "<sip:alice@192.0.2.7>", "<sip:alice@192.0.2.7;pn-provider=fcm;pn-prid=tok;pn-param=p>"
	for _, c := range []struct {
		contact, header string
		want            time.Duration
		code            int
	}{
		{own, "", time.Hour, 0},
		{own, "60", time.Minute, 0},
		{own, "59", 0, 423},
		{own, "1", 0, 423},
		{own, "0", 0, 0},
		{own, "3600", time.Hour, 0},
		{own, "3601", time.Hour, 0},
		{own, "4294967296", time.Hour, 0},
		{own, "99999999999999999999999999", time.Hour, 0},
		{own, "soon", time.Hour, 0},
		{own + ";expires=120", "600", 2 * time.Minute, 0},
		{own + ";EXPIRES=120", "600", 2 * time.Minute, 0},
		{own + ";expires=0", "600", 0, 0},
		{own + ";expires=600", "0", 10 * time.Minute, 0},
		{own + ";expires=30", "600", 0, 423},
		{own + ";expires=-1", "600", time.Hour, 0},
		{own + `;expires="x"`, "600", time.Hour, 0},
		{pushed, "2678400", 7 * 24 * time.Hour, 0},
		{pushed, "86400", 24 * time.Hour, 0},
		{pushed, "", time.Hour, 0},
		{pushed, "10", 0, 423},
		{"<sip:alice@192.0.2.7;pn-provider>", "86400", time.Hour, 0}, // asks whether push is known, RFC 8599 §4.1.1
		{"<sip:alice@192.0.2.7;app-id=org.x;pn-type=apple;pn-tok=t>", "86400", 24 * time.Hour, 0},
	} {
		p := &phone{user: "alice", flow: udp("192.0.2.7:5060"), callID: "c"}
		o, err := readOrder(p.request(t, c.header, c.contact), p.flow)
		if code(err) != c.code {
			t.Errorf("%s, Expires %q: %v, want %d", c.contact, c.header, err, c.code)
			continue
		}
		if err == nil && o.wishes[0].expires != c.want {
			t.Errorf("%s, Expires %q: %v, want %v", c.contact, c.header, o.wishes[0].expires, c.want)
		}
		var no *refusal
		if errors.As(err, &no) && (len(no.headers) != 1 || no.headers[0] != sip.Header{Name: "Min-Expires", Value: "60"}) {
			t.Errorf("423 has headers %v", no.headers)
		}
	}
}

func code(err error) int {
	var no *refusal
	if errors.As(err, &no) {
		return no.code
	}
	return 0
}

func TestReadOrder(t *testing.T) {
	for _, c := range []struct {
		name, expires string
		contacts      []string
		code          int
		want          string // order of the contact users
	}{
		{"star", "0", []string{"*"}, 0, "*"},
		{"star without Expires", "", []string{"*"}, 400, ""},
		{"star with time", "60", []string{"*"}, 400, ""},
		{"star in company", "0", []string{"*", "<sip:a@192.0.2.7>"}, 400, ""},
		{"question", "", []string{""}, 0, ""},
		{"by q", "60", []string{"<sip:a@192.0.2.7>;q=0.1, <sip:b@192.0.2.7>;q=0.9", "<sip:c@192.0.2.7>"}, 0, "c b a"},
		{"unbound last", "60", []string{"<sip:a@192.0.2.7>;expires=0", "<sip:b@192.0.2.7>;q=0.2"}, 0, "b a"},
		{"without brackets", "60", []string{"sip:a@192.0.2.7;expires=70"}, 0, "a"},
		{"tel", "60", []string{"<tel:101>"}, 400, ""},
		{"bad reg-id", "60", []string{"<sip:a@192.0.2.7>;+sip.instance=\"<urn:x:1>\";reg-id=0"}, 400, ""},
		{"too many", "60", []string{strings.Repeat("<sip:a@192.0.2.7>,", maxContacts) + "<sip:a@192.0.2.7>"}, 403, ""},
	} {
		p := &phone{user: "alice", flow: udp("192.0.2.7:5060"), callID: "c"}
		o, err := readOrder(p.request(t, c.expires, c.contacts...), p.flow)
		if code(err) != c.code {
			t.Errorf("%s: %v, want %d", c.name, err, c.code)
			continue
		}
		var users []string
		for _, w := range o.wishes {
			users = append(users, w.uri.User)
		}
		if o.star {
			users = append(users, "*")
		}
		if got := strings.Join(users, " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestReadContact(t *testing.T) {
	p := &phone{
		user: "alice", agent: "Linphone Desktop/5.1.2", flow: tcp("[2001:db8::9]:40001", 7), callID: "c",
		headers: []string{"Supported: outbound, path", "Path: <sip:edge.example.org;lr>, <sip:inner.example.org;lr>"},
	}
	req := p.request(t, "", `"A" <sip:alice-0x5603ea12@192.0.2.7:5070;transport=tcp;pn-prid=a%3Ab?X=1>;`+
		`+sip.instance="<urn:uuid:ABCD-1>";reg-id=2;q=0.3;expires=100;+sip.ice`)
	o, err := readOrder(req, p.flow)
	if err != nil {
		t.Fatal(err)
	}
	w := o.wishes[0]
	if w.instance != "urn:uuid:abcd-1" || w.regID != 2 || w.q != 0.3 {
		t.Errorf("instance %q, reg-id %d, q %v", w.instance, w.regID, w.q)
	}
	want := Trace{Product: "linphone", User: "alice", Host: "192.0.2.7", Port: 5070, CallID: "c", Transport: "tcp", Addr: "2001:db8::9"}
	if w.Trace != want {
		t.Errorf("trace %+v, want %+v", w.Trace, want)
	}
	if len(o.path) != 2 || o.path[0] != "<sip:edge.example.org;lr>" {
		t.Errorf("path %q", o.path)
	}
	b := o.binding(w, time.Unix(1_700_000_000, 0), "n1")
	if b.Contact != "sip:alice-0x5603ea12@192.0.2.7:5070;transport=tcp;pn-prid=a:b" {
		t.Errorf("contact is kept as %s", b.Contact)
	}
	if got := b.header(90500 * time.Millisecond); got != `<`+b.Contact+`>;+sip.instance="<urn:uuid:ABCD-1>";reg-id=2;q=0.3;+sip.ice;expires=91` {
		t.Errorf("Contact of the answer is %s", got)
	}
	if o, err := readOrder(p.request(t, "", "<sip:alice@192.0.2.7>;reg-id=3"), p.flow); err != nil || o.wishes[0].regID != 0 {
		t.Errorf("reg-id without an instance (RFC 5626 §6): %+v, %v", o.wishes, err)
	}
	p.headers = p.headers[1:]
	if o, err = readOrder(p.request(t, "", "<sip:alice@192.0.2.7>"), p.flow); err != nil || o.path != nil {
		t.Errorf("Path of a phone that does not support it: %q, %v", o.path, err)
	}
}

func TestCheckContact(t *testing.T) {
	const phoneAddr, local, linkLocal, self = "198.51.100.7:40000", "127.0.0.1:40000", "[fe80::7]:40000", "192.0.2.1:40000"
	for _, c := range []struct {
		uri, source string
		ok          bool
	}{
		{"sip:a@192.168.1.20:5060", phoneAddr, true}, // behind NAT
		{"sip:a@phone.example.com", phoneAddr, true},
		{"sip:a@abc123.invalid;transport=ws", phoneAddr, true},
		{"sip:a@127.0.0.1:5070", phoneAddr, false},
		{"sip:a@127.0.0.1:5070", local, true},
		{"sip:a@127.0.0.1:5070", "[::ffff:127.0.0.1]:40000", true},
		{"sip:a@127.0.0.1:5070", self, true}, // from this machine's own address
		{"sip:a@127.0.0.1:5060", local, false},
		{"sip:a@127.0.0.1", local, true}, // names no port; the packet came from there
		{"sip:a@127.0.0.2", local, false},
		{"sip:a@[::1]:5070", phoneAddr, false},
		{"sip:a@[::1]:5070", "[::1]:40000", true},
		{"sip:a@[::ffff:127.0.0.1]:5070", phoneAddr, false},
		{"sip:a@169.254.169.254", phoneAddr, false},
		{"sip:a@[fe80::8]:5060", phoneAddr, false},
		{"sip:a@[fe80::8]:5060", linkLocal, true},
		{"sip:a@224.0.0.1", phoneAddr, false},
		{"sip:a@[ff02::1]", phoneAddr, false},
		{"sip:a@255.255.255.255", phoneAddr, false},
		{"sip:a@0.0.0.0:5070", phoneAddr, false},
		{"sip:a@[::]:5070", phoneAddr, false},
		{"sip:a@192.0.2.1:5060", phoneAddr, false},
		{"sip:a@192.0.2.1", phoneAddr, false},
		{"sip:a@192.0.2.1:5060;transport=tcp", phoneAddr, false},
		{"sips:a@192.0.2.1", phoneAddr, false},
		{"sip:a@192.0.2.1:5061;transport=tls", phoneAddr, false},
		{"sip:a@192.0.2.1:5061", self, true}, // UDP beside the TLS listener
		{"sip:a@192.0.2.1:5070", self, true},
		{"sip:alice@example.org", phoneAddr, false}, // his own address-of-record: a loop
	} {
		u, err := sip.ParseURI(c.uri)
		if err != nil {
			t.Fatal(err)
		}
		flow := udp("192.0.2.9:1")
		flow.Remote = netip.MustParseAddrPort(c.source)
		if err := checkContact(u, flow, new(network)); (err == nil) != c.ok || err != nil && code(err) != 403 {
			t.Errorf("%s from %s: %v, want ok %v", c.uri, c.source, err, c.ok)
		}
	}
}

// TestContactOnLoopback: where the node listens at one address of loopback, its port at another is a phone's.
func TestContactOnLoopback(t *testing.T) {
	only := onlyAt{new(network), netip.MustParseAddrPort("127.0.0.1:5060")}
	for contact, ok := range map[string]bool{
		"sip:a@127.0.1.44:5060": true, "sip:a@[::1]:5060": true, "sip:a@127.0.0.1:5060": false, "sip:a@[::ffff:127.0.0.1]:5060": false, "sip:a@192.0.2.1:5060": false,
	} {
		u, err := sip.ParseURI(contact)
		if err != nil {
			t.Fatal(err)
		}
		flow := udp("192.0.2.9:1")
		flow.Remote = netip.MustParseAddrPort("127.0.1.44:5060")
		if err := checkContact(u, flow, only); (err == nil) != ok {
			t.Errorf("%s: %v, want ok %v", contact, err, ok)
		}
	}
}

// onlyAt listens at one address, over UDP.
type onlyAt struct {
	*network
	at netip.AddrPort
}

func (o onlyAt) Addrs() map[string]netip.AddrPort { return map[string]netip.AddrPort{"udp": o.at} }
