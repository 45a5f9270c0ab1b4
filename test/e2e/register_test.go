package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

func TestRegisterByNameAndNumber(t *testing.T) {
	w := newWorld(t)
	for _, user := range []string{"alice", "101"} {
		p := w.make(user, "desk-"+user, func(c *phone.Config) { c.Password = node.Password("alice") })
		res, err := p.Register(600 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		own := 0
		for _, c := range res.All("Contact") {
			if strings.Contains(c, p.Config().Instance) {
				own++
			}
		}
		if own != 1 {
			t.Errorf("%s: the 200 lists %v", user, res.All("Contact"))
		}
	}
	if list := w.devices("alice"); len(list) != 2 || !list[0].Here || !list[1].Here {
		t.Errorf("devices of alice: %+v", list)
	}
}

func TestRegisterOverEachTransport(t *testing.T) {
	w := newWorld(t)
	for _, transport := range []string{"udp", "tcp", "tls"} {
		p := w.phone("alice", transport, over(transport))
		if d := w.deviceOf(p); d.Transport != transport || !d.Here {
			t.Errorf("%s: %+v", transport, d)
		}
	}
}

func TestWrongPasswordAndUnknownUserLookAlike(t *testing.T) {
	w := newWorld(t)
	var shown []string
	for _, user := range []string{"alice", "nobody"} {
		p := w.make(user, "thief", func(c *phone.Config) { c.Password = "wrong" })
		res, err := p.Register(time.Minute)
		var status *phone.Status
		if !errors.As(err, &status) {
			t.Fatalf("%s: %v", user, err)
		}
		var names []string
		for _, h := range res.Headers {
			names = append(names, h.Name)
		}
		shown = append(shown, fmt.Sprint(res.Code, names))
	}
	if shown[0] != shown[1] {
		t.Errorf("they can be told apart: %v", shown)
	}
}

func TestExpiryIsBounded(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ ask, want time.Duration }{{5 * time.Second, time.Minute}, {24 * time.Hour, time.Hour}, {10 * time.Minute, 10 * time.Minute}} {
		p := w.make("alice", "desk")
		res, err := p.Register(c.ask)
		if err != nil && res != nil && res.Code == 423 { // RFC 3261 §10.2.8: asking again with Min-Expires is right too
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		expires := ""
		for _, contact := range res.All("Contact") {
			if strings.Contains(contact, p.Config().Instance) {
				expires = phone.Param(contact, "expires")
			}
		}
		got, _ := strconv.Atoi(expires)
		if most := int(c.want / time.Second); got > most || got < max(most*9/10, 60) {
			t.Errorf("asked for %s, got expires=%s", c.ask, expires)
		}
	}
}

func TestSameDeviceComesBackUnderItsName(t *testing.T) {
	w := newWorld(t)
	p := w.phone("alice", "desk")
	before := w.deviceOf(p)
	w.must(second(p.Unregister()))
	if d := w.deviceOf(p); d.Here {
		t.Errorf("still here after unregistering: %+v", d)
	}
	instance := p.Config().Instance
	p.Close()
	again := w.phone("alice", "desk", func(c *phone.Config) { c.Instance = instance })
	after := w.deviceOf(again)
	if after.Index != before.Index || after.Name != before.Name || !after.Here || len(w.devices("alice")) != 1 {
		t.Errorf("was %+v, is %+v", before, after)
	}
}

func TestUnregisterAll(t *testing.T) {
	w := newWorld(t)
	p, q := w.phone("alice", "desk"), w.phone("alice", "soft")
	w.must(second(p.UnregisterAll()))
	for _, p := range []*phone.Phone{p, q} {
		if d := w.deviceOf(p); d.Here {
			t.Errorf("still here: %+v", d)
		}
	}
}

func TestClosedConnectionIsAway(t *testing.T) {
	w := newWorld(t)
	for _, transport := range []string{"tcp", "tls"} {
		p := w.phone("bob", transport, over(transport))
		p.Disconnect()
		w.Eventually(5*time.Second, "the device to be away", func() error {
			if d := w.deviceOf(p); d.Here {
				return fmt.Errorf("%+v", d)
			}
			return nil
		})
	}
	alice := w.phone("alice", "desk")
	w.status(w.dial(alice, "bob"), 480)
}

func TestOptionsAndRefusedMethods(t *testing.T) {
	w := newWorld(t)
	p := w.phone("alice", "desk")
	for _, c := range []struct {
		method string
		header phone.Header
		want   int
	}{
		{"OPTIONS", phone.Header{}, 200},
		{"SUBSCRIBE", phone.Header{Name: "Event", Value: "presence"}, 489},
		{"PUBLISH", phone.Header{Name: "Event", Value: "presence"}, 489},
		{"MESSAGE", phone.Header{}, 400}, // it says nothing
		{"FROBNICATE", phone.Header{}, 405},
	} {
		var extra []phone.Header
		if c.header.Name != "" {
			extra = append(extra, c.header)
		}
		res, err := p.Send(c.method, p.URI(), nil, extra...)
		if err != nil {
			t.Fatalf("%s: %v", c.method, err)
		}
		if res.Code != c.want {
			t.Errorf("%s: %s, want %d", c.method, res.Line(), c.want)
		}
		if c.want == 405 && (!strings.Contains(res.Get("Allow"), "INVITE") || strings.Contains(res.Get("Allow"), c.method)) {
			t.Errorf("%s: Allow: %s", c.method, res.Get("Allow"))
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestPasswordsOutliveAnAddress(t *testing.T) {
	w := newWorld(t)
	w.phone("alice", "desk")
	w.Stop()
	w.Run()
	moved := w.phone("alice", "soft", func(c *phone.Config) { c.Server = netip.AddrPortFrom(node.IP(20), w.UDP.Port()) })
	named := w.phone("bob", "far", func(c *phone.Config) { c.Domain = node.IP(20).String() })
	out, in := w.connect(moved, "102", named)
	w.must(out.Hangup())
	w.ended(in)
}
