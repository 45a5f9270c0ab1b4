package registrar

import (
	"slices"
	"strings"
	"testing"
	"time"

	"baton/sip"
)

const someInstance = "urn:uuid:F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6"

// TestGRUU registers phones that ask for GRUUs and others: the 200 has them for devices with an instance, by the host that the
// phone knows.
func TestGRUU(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice", "bob")
		asks := app("alice", "JsSIP 3.10", someInstance, tcp("198.51.100.8:40000", 1))
		asks.headers = []string{"Supported: path, gruu"}
		a := o.expect(200, asks, "600")
		want := `;pub-gruu="sip:alice@example.org;gr=` + strings.ToLower(someInstance) + `"`
		if c := a.contacts(); len(c) != 1 || !strings.HasSuffix(c[0], want) || strings.Contains(c[0], "temp-gruu") {
			t.Errorf("200 lists %q, want %s", c, want)
		}
		if s := values(a.reply, "Supported"); !slices.Equal(s, []string{"path, gruu"}) {
			t.Errorf("200 supports %q", s)
		}
		// By its number: that is the address that it has registered.
		asks.user = "101"
		if c := o.expect(200, asks, "600").contacts(); len(c) != 1 || !strings.Contains(c[0], `"sip:101@example.org;gr=`) {
			t.Errorf("by number: %q", c)
		}
		asks.user = "alice"
		// What the phone makes of it in its next REGISTER is not believed, and not kept.
		asks.params += `;pub-gruu="sip:bob@example.org;gr=x";temp-gruu="sip:y@example.org;gr"`
		if c := o.expect(200, asks, "600").contacts(); len(c) != 1 || !strings.HasSuffix(c[0], want) || strings.Contains(c[0], "temp-gruu") {
			t.Errorf("after its own: %q", c)
		}

		silent := app("bob", "baresip v1.0.0", "urn:uuid:2", tcp("198.51.100.9:40000", 2))
		if a := o.expect(200, silent, "600"); strings.Contains(a.contacts()[0], "gruu") || len(values(a.reply, "Supported")) > 0 {
			t.Errorf("who did not ask is told %q", a.contacts())
		}
		plain := desk("bob", "Yealink SIP-T46S 66.85.0.5", "198.51.100.7:5060")
		plain.headers = asks.headers
		if c := o.expect(200, plain, "600").contacts(); strings.Contains(c[0], "gruu") {
			t.Errorf("a device without instance has a GRUU: %q", c)
		}
		// RFC 5627 §5.1: a contact that is a GRUU would lead to itself.
		loop := app("bob", "x", "urn:uuid:3", udp("198.51.100.10:5060"))
		loop.contact = "sip:bob@192.0.2.1:7070;gr=urn:uuid:3"
		o.expect(403, loop, "600")
	})
}

// TestGRUUNamesOneDevice looks a device up by what its GRUU says, and by its GRUU as a Contact.
func TestGRUUNamesOneDevice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice", "bob")
		p := app("alice", "JsSIP 3.10", someInstance, tcp("198.51.100.8:40000", 1))
		o.expect(200, p, "600")
		d, err := o.Instance("alice", someInstance)
		if err != nil || d.Name != "jssip" {
			t.Errorf("%v, %v", d, err)
		}
		if _, err := o.Instance("bob", someInstance); err == nil || !strings.Contains(err.Error(), "of bob: not found: it has none") {
			t.Errorf("as bob's: %v", err)
		}
		g := o.GRUU(d)
		if g != "sip:alice@192.0.2.1;gr="+strings.ToLower(someInstance) {
			t.Errorf("shown as %q", g)
		}
		if f, err := o.Find("alice", g); err != nil || f.Key != d.Key {
			t.Errorf("by its GRUU: %v", err)
		}
		u, err := sip.ParseURI(g)
		if err != nil {
			t.Fatal(err)
		}
		if f, ok := o.DeviceOf("alice", tcp("203.0.113.1:999", 7), sip.NameAddr{URI: u}); !ok || f.Key != d.Key {
			t.Error("a request whose Contact is the GRUU is nobody's")
		}
		time.Sleep(11 * time.Minute)
		if d, err := o.Instance("alice", someInstance); err != nil || d.Here() {
			t.Errorf("away: %v %v", d.Here(), err)
		}
	})
}
