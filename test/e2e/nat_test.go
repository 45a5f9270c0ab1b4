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

// Networks of documentation (RFC 5737) stand for the internet.
var (
	inside  = netip.MustParsePrefix("192.168.5.0/24")
	between = netip.MustParsePrefix("10.80.0.0/24")
	public  = netip.MustParsePrefix("198.51.100.0/24")
	outside = netip.MustParsePrefix("203.0.113.0/24")
)

// beyond is a phone at the n-th address behind a router; server is where it finds the node.
func beyond(r *node.Router, far netip.Prefix, n int, server netip.Addr) func(*phone.Config) {
	return func(c *phone.Config) {
		c.Within, c.Addr = r.Beyond.Do, node.Host(far, n)
		c.Server = netip.AddrPortFrom(server, c.Server.Port())
	}
}

// TestPhoneBehindNAT has a phone whose Contact and SDP name an address that the node cannot reach: it is called, calls, and
// its call is moved away and back.
func TestPhoneBehindNAT(t *testing.T) {
	need(t, "iptables", "iptables")
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			r := node.NewRouter(t, public, inside)
			r.Masquerade("40000-44999")
			w := newWorld(t)
			bob := w.phone("bob", "far")
			alice := w.phone("alice", "home", over(transport), beyond(r, inside, 2, r.Node))
			if d := w.deviceOf(alice); !strings.Contains(d.Contact, "192.168.5.2") {
				t.Fatalf("the device's contact is %s", d.Contact)
			}
			out, in := w.connect(bob, "alice", alice)
			w.must(out.Hangup())
			w.ended(in)

			near := w.phone("alice", "desk")
			out, in = w.connect(alice, "bob", bob)
			for _, to := range []*phone.Phone{near, alice, near} {
				moved := w.dial(to, "101")
				w.must(moved.Await(5 * time.Second))
				w.ended(out)
				w.talk(moved, in)
				out = moved
			}
			w.must(in.Hangup())
			w.ended(out)
		})
	}
}

// TestNATRebinds gives a phone's signalling and audio other ports in the middle of a call: the audio is back within a
// second, and what the phone sends next tells the node its new place.
func TestNATRebinds(t *testing.T) {
	need(t, "iptables", "iptables")
	ports := 40000
	for name, tell := range map[string]func(*world, *phone.Call){
		"request in the dialog": func(w *world, c *phone.Call) { w.must(c.Hold(phone.HoldSendonly)); w.must(c.Resume()) },
		"registration":          func(w *world, c *phone.Call) { w.must(second(c.Phone().Register(10 * time.Minute))) },
	} {
		t.Run(name, func(t *testing.T) {
			r := node.NewRouter(t, public, inside)
			r.Masquerade(fmt.Sprintf("%d-%d", ports, ports+999))
			w := newWorld(t)
			bob, alice := w.phone("bob", "far"), w.phone("alice", "home", beyond(r, inside, 2, r.Node))
			out, in := w.connect(alice, "bob", bob)
			ports += 1000
			since := time.Now()
			r.Masquerade(fmt.Sprintf("%d-%d", ports, ports+999))
			rebound := time.Now()
			for _, c := range [][2]*phone.Call{{out, in}, {in, out}} {
				if !c[0].Hears(c[1], 3*time.Second) {
					t.Fatalf("%s hears nothing any more", c[0].Phone().Config().User)
				}
			}
			pause(500 * time.Millisecond)
			for _, c := range []*phone.Call{out, in} {
				gap, _ := phone.LongestGap(c.Media().Heard(), since.Add(-100*time.Millisecond), time.Now())
				t.Logf("%s heard nothing for %s; the router took %s", c.Phone().Config().User, gap, rebound.Sub(since))
				if gap > time.Second+rebound.Sub(since) {
					t.Errorf("%s heard nothing for %s, limit 1s", c.Phone().Config().User, gap)
				}
			}
			tell(w, out)
			w.must(in.Hangup())
			w.must(out.AwaitEnd(3 * time.Second))
			if why, _ := out.Why(); why != "remote" {
				t.Errorf("alice's phone ended the call: %s", why)
			}
			w.must(second(alice.Register(10 * time.Minute)))
			again, _ := w.connect(bob, "alice", alice)
			w.must(again.Hangup())
		})
	}
}

// TestNodeBehindNAT puts the node behind a router that forwards its ports: phones outside are told the advertised address,
// those inside the node's own, and they hear each other.
func TestNodeBehindNAT(t *testing.T) {
	need(t, "iptables", "iptables")
	r := node.NewRouter(t, between, outside)
	r.Known(outside)
	r.Forward("5000:29999")
	w := newWorld(t, node.Options{Config: fmt.Sprintf("advertise:\n  sip: %s\n  media: %s\n", r.Far, r.Far)})
	for _, transport := range []string{"udp", "tcp", "tls"} {
		far := w.phone("bob", "out-"+transport, over(transport), beyond(r, outside, 2, r.Far))
		near := w.phone("alice", "in-"+transport, over(transport))
		out, in := w.connect(far, "alice", near)
		tells(t, out, out.Final(), r.Far)
		tells(t, in, in.Invite(), w.UDP.Addr())
		w.must(out.Hangup())
		w.ended(in)
		out, in = w.connect(near, "bob", far)
		tells(t, out, out.Final(), w.UDP.Addr())
		tells(t, in, in.Invite(), r.Far)
		moved := w.dial(w.phone("alice", "other"), "101")
		w.must(moved.Await(5 * time.Second))
		w.talk(moved, in)
		w.must(in.Hangup())
		w.ended(moved, out)
		w.must(second(far.Unregister()))
		w.must(second(near.Unregister()))
	}
}

// tells checks that a message of the node names it by an address: as the source of its Contact and where it hears.
func tells(t *testing.T, c *phone.Call, m *phone.Message, at netip.Addr) {
	t.Helper()
	if uri := phone.AddrURI(m.Get("Contact")); !strings.Contains(uri, at.String()+":") {
		t.Errorf("%s is told the Contact %s, want %s", c.Phone().Config().UserAgent, uri, at)
	}
	if media := c.Peer().Addr.Addr(); media != at {
		t.Errorf("%s is told to send its sound to %s, want %s", c.Phone().Config().UserAgent, media, at)
	}
}
