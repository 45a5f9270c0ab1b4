package call_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"baton/registrar"
	"baton/test/phone"
)

// TestLongInviteTakesTheConnection forwards a call so often that its INVITE is too long for UDP, to a device that has
// registered over UDP last and over TCP as well (RFC 5626).
func TestLongInviteTakesTheConnection(t *testing.T) {
	users := []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace"}
	r := newOffice(t, nil, users...)
	alice := r.phone("alice", 1)
	for i, name := range users[1 : len(users)-1] {
		r.set(name, func(s *registrar.Settings) { s.Forward.Always = users[i+2] })
	}
	ways := map[string]*phone.Phone{"1": r.way("grace", "tcp", "1"), "2": r.way("grace", "udp", "2")}
	for dialled, way := range map[string]string{"grace": "2", "bob": "1"} {
		out, err := alice.Dial(dialled)
		must(t, err)
		in, err := ways[way].Ringing(3 * time.Second)
		must(t, err)
		must(t, out.Await(3*time.Second))
		if !out.Hears(in, 3*time.Second) || !in.Hears(out, 3*time.Second) {
			t.Errorf("calling %s: they do not hear each other", dialled)
		}
		if got := len(in.Invite().All("History-Info")); dialled == "bob" && got != 6 {
			t.Errorf("over TCP %d History-Info headers were sent, want 6", got)
		}
		must(t, out.Hangup())
		must(t, in.AwaitEnd(3*time.Second))
	}
	known := func(way string) {
		t.Helper()
		r.eventually("it is known how long messages reach it: "+way, 3*time.Second, func() bool {
			return r.reg.Devices("grace")[0].Profile[registrar.LearntLarge] == way
		})
	}
	known("connection")
	ways["1"].Disconnect()
	r.eventually("the connection is known to be closed", 3*time.Second, func() bool {
		return !slices.ContainsFunc(r.reg.Lookup("grace")[0].Spare, func(b registrar.Binding) bool { return b.Flow.Transport == "tcp" })
	})
	out, err := alice.Dial("bob")
	must(t, err)
	in, err := ways["2"].Ringing(3 * time.Second)
	must(t, err)
	if size := len(in.Invite().Bytes()); size > 1300+60 { // the phone writes long names
		t.Errorf("over UDP %d bytes were sent", size)
	}
	must(t, out.Await(3*time.Second))
	must(t, out.Hangup())
	known("udp")
	r.nothingLeft()
}

// way registers one flow of a user's one device.
func (r *rig) way(user, transport, regID string) *phone.Phone {
	r.t.Helper()
	cfg := phone.Config{
		User: user, Password: r.pass[user], Server: r.server, Addr: netip.MustParseAddr("127.0.0.1"), Transport: transport,
		UserAgent: "both/1.0", Instance: "urn:uuid:" + user,
	}
	if transport == "tcp" {
		cfg.Server = r.tcp
	}
	p, err := phone.New(cfg)
	must(r.t, err)
	r.t.Cleanup(p.Close)
	p.Behave(phone.AutoAnswer)
	contact := "<" + p.Contact() + `>;+sip.instance="<urn:uuid:` + user + `>";reg-id=` + regID
	res, err := p.Send("REGISTER", "sip:"+r.server.Addr().String(), nil, phone.Header{Name: "To", Value: "<" + p.URI() + ">"},
		phone.Header{Name: "Contact", Value: contact}, phone.Header{Name: "Expires", Value: "600"})
	must(r.t, err)
	if res.Code != 200 {
		r.t.Fatalf("REGISTER: %s", res.Line())
	}
	return p
}
