package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// six makes a phone one of IPv6 alone, at the n-th address.
func (w *world) six(n int) func(*phone.Config) {
	return func(c *phone.Config) { c.Server, c.Addr = w.UDP6, node.IP6(n) }
}

// TestFamilies calls and moves between phones of IPv4 and of IPv6: each is told addresses of its own family alone.
func TestFamilies(t *testing.T) {
	w := newWorld(t)
	for _, transport := range []string{"udp", "tcp", "tls"} {
		bob := w.phone("bob", "far6-"+transport, over(transport), w.six(2))
		four := w.phone("alice", "four-"+transport, over(transport))
		six := w.phone("alice", "six-"+transport, over(transport), w.six(3))
		out, in := w.connect(four, "bob", bob)
		family(t, out, out.Final(), "IP4")
		family(t, in, in.Invite(), "IP6")
		for _, to := range []*phone.Phone{six, four, six} {
			moved := w.dial(to, "101")
			w.must(moved.Await(5 * time.Second))
			w.ended(out)
			w.talk(moved, in)
			family(t, moved, moved.Final(), map[*phone.Phone]string{four: "IP4", six: "IP6"}[to])
			out = moved
		}
		if transport == "udp" { // pushed too: the INVITE to a device of the other family
			four.Behave(phone.Behaviour{Ringless: true})
			w.must(second(w.CLI("move", "--user", "alice", w.deviceOf(four).Instance)))
			moved := w.ringing(four)
			w.ended(out)
			w.talk(moved, in)
			family(t, moved, moved.Invite(), "IP4")
			out = moved
		}
		w.must(out.Hold(phone.HoldSendonly))
		w.must(out.Resume())
		w.talk(out, in)
		w.must(in.Hangup())
		w.ended(out)
		again, _ := w.connect(bob, "alice", six)
		w.must(again.Hangup())
		for _, p := range []*phone.Phone{bob, four, six} {
			w.must(second(p.Unregister()))
		}
	}
}

// family checks that what the node says of itself in a message is of one family.
func family(t *testing.T, c *phone.Call, m *phone.Message, want string) {
	t.Helper()
	sdp := string(m.Body)
	if strings.Count(sdp, "IN "+want+" ") != 2 || strings.Count(sdp, "IN IP") != 2 { // o= and c=
		t.Errorf("%s is told\n%s\nwant %s alone", c.Phone().Config().UserAgent, sdp, want)
	}
	at := c.Peer().Addr.Addr()
	if !at.IsValid() || at.IsUnspecified() || at.Is4In6() || at.Zone() != "" || at.Is6() != (want == "IP6") {
		t.Errorf("%s is told to send its sound to %s", c.Phone().Config().UserAgent, at)
	}
	contact := phone.AddrURI(m.Get("Contact"))
	_, host, _ := strings.Cut(contact, "@")
	if strings.HasPrefix(host, "[") != (want == "IP6") || strings.Contains(host, "%") || strings.Contains(host, "::ffff:") {
		t.Errorf("%s is told the Contact %s", c.Phone().Config().UserAgent, contact)
	}
}

// TestLinkLocal has a phone at a link-local address, whose zone belongs to the machine and must be told nobody.
func TestLinkLocal(t *testing.T) {
	r := node.NewRouter(t, netip.MustParsePrefix("fe80::/64"), netip.MustParsePrefix("fd78::/64"))
	w := newWorld(t)
	bob := w.phone("bob", "far")
	alice := w.phone("alice", "near", func(c *phone.Config) {
		c.Within, c.Addr = r.Do, r.Near.WithZone("near")
		c.Server = netip.AddrPortFrom(r.Node.WithZone("near"), c.Server.Port())
		c.Domain = w.UDP.Addr().String()
	})
	for _, c := range [][2]*phone.Phone{{alice, bob}, {bob, alice}} {
		out, in := w.connect(c[0], c[1].Config().User, c[1])
		at := out
		if c[1] == alice {
			at = in
		}
		if peer := at.Peer().Addr.Addr(); peer != r.Node {
			t.Errorf("alice's phone is told to send its sound to %s, want %s", peer, r.Node)
		}
		w.must(out.Hangup())
		w.ended(in)
	}
}

// TestRealClientsOnIPv6 registers softphones over IPv6; they call each other and a phone of IPv4, and hear one another.
func TestRealClientsOnIPv6(t *testing.T) {
	t.Parallel()
	t.Run("baresip and baresip", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.startBaresip("alice", "udp6", 440), w.startBaresip("bob", "udp6", 660)
		a.dial("102")
		b.await("CALL_ESTABLISHED", 10*time.Second)
		a.await("CALL_ESTABLISHED", 10*time.Second)
		pause(3 * time.Second)
		b.do("hangup", "")
		a.await("CALL_CLOSED", 5*time.Second)
		a.quit()
		b.quit()
		a.found(660, 2*time.Second)
		b.found(440, 2*time.Second)
	})
	for _, first := range []string{"baresip", "linphonec"} {
		t.Run(first+" calls the other", func(t *testing.T) {
			w := newWorld(t)
			need(t, "linphonec", "linphone-cli")
			b, l := w.startBaresip("alice", "udp6", 440), w.startLinphoneAt("bob", 660, w.UDP6)
			for _, user := range []string{"alice", "bob"} {
				if d := w.devices(user)[0]; !strings.Contains(d.Contact, "[fd77::") {
					t.Fatalf("the contact of %s is %s", user, d.Contact)
				}
			}
			hearEachOther(b, l, first, w.UDP6)
		})
	}
	t.Run("to IPv4 and back", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.startBaresip("alice", "udp6", 440), w.startBaresip("bob", "udp", 660)
		for i, c := range [][2]*baresip{{a, b}, {b, a}} {
			c[0].dial([]string{"102", "101"}[i])
			c[1].await("CALL_ESTABLISHED", 10*time.Second)
			c[0].await("CALL_ESTABLISHED", 10*time.Second)
			pause(2500 * time.Millisecond)
			c[1].do("hangup", "")
			c[0].await("CALL_CLOSED", 5*time.Second)
		}
		a.quit()
		b.quit()
		for _, c := range []struct {
			*baresip
			hz float64
		}{{a, 660}, {b, 440}} {
			files := c.recordings()
			if len(files) != 2 {
				t.Fatalf("recordings: %s", fmt.Sprint(files))
			}
			c.found(c.hz, 1500*time.Millisecond)
		}
	})
}
