package call_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"baton/test/phone"
)

// withGRUU has a phone ask for its public GRUU, and use it as the Contact of its dialogs.
func withGRUU(c *phone.Config) { c.GRUU = true }

// TestGRUUReachesOneDevice calls one of bob's phones, writes to it and asks for what is not there.
func TestGRUUReachesOneDevice(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	alice, one, two := r.phone("alice", 1), r.phone("bob", 1, withGRUU), r.phone("bob", 2, withGRUU)
	if two.GRUU() != "sip:bob@127.0.0.1;gr=urn:uuid:bob-2" {
		t.Fatalf("bob's second phone was told %q", two.GRUU())
	}
	one.Behave(phone.AutoAnswer)
	two.Behave(phone.AutoAnswer)
	out := mustDial(t, alice, two.GRUU())
	in, err := two.Ringing(3 * time.Second)
	must(t, err)
	must(t, out.Await(3*time.Second))
	if !out.Hears(in, 3*time.Second) || !in.Hears(out, 3*time.Second) {
		t.Error("they do not hear each other")
	}
	if m := methods(one.Received(time.Time{}), "INVITE"); len(m) > 0 {
		t.Error("bob's other phone was called too")
	}
	// Its Contact is its GRUU: what belongs to the dialog goes over its flow all the same.
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	if why, last := in.Why(); why != "remote" || last.URI != two.GRUU() {
		t.Errorf("ended by %s with %v", why, last)
	}

	_, err = alice.Send("MESSAGE", two.GRUU(), []byte("to this one"), phone.Header{Name: "Content-Type", Value: "text/plain"})
	must(t, err)
	if n, m := len(methods(one.Log(), "MESSAGE")), len(methods(two.Log(), "MESSAGE")); n != 0 || m == 0 {
		t.Errorf("the message reached the first phone %d times, the second %d", n, m)
	}

	at := r.server.String()
	for uri, want := range map[string]string{
		"sip:bob@" + at + ";gr=urn:uuid:bob-7":   "404 of bob: not found: there are 1 phonea, 2 phoneb",
		"sip:alice@" + at + ";gr=urn:uuid:bob-2": "404 of alice: not found: there are 1 phonea",
		"sip:carol@" + at + ";gr=urn:uuid:bob-2": "404 there is no user",
		"sip:bob@" + at + ";gr":                  "404 temporary GRUUs are not served",
	} {
		code, why, _ := strings.Cut(want, " ")
		c := mustDial(t, alice, uri, phone.DialOptions{NoSDP: true})
		must(t, c.AwaitEnd(5*time.Second))
		if res := c.Final(); res == nil || fmt.Sprint(res.Code) != code || !strings.Contains(res.Get("Warning"), why) {
			t.Errorf("%s: %v", uri, res)
		}
	}

	_, err = two.Unregister()
	must(t, err)
	gone := "sip:bob@" + at + ";gr=urn:uuid:bob-2"
	c := mustDial(t, alice, gone, phone.DialOptions{NoSDP: true})
	if w := r.refused(c, 480).Get("Warning"); !strings.Contains(w, "phoneb is away since") || !strings.Contains(w, "(unregistered)") {
		t.Errorf("away: %s", w)
	}
	res, err := alice.Send("MESSAGE", gone, []byte("x"), phone.Header{Name: "Content-Type", Value: "text/plain"})
	must(t, err)
	if res.Code != 480 || !strings.Contains(res.Get("Warning"), "phoneb is away since") {
		t.Errorf("a message to it: %v", res)
	}
	r.nothingLeft()
}

// TestGRUUMovesToOneDevice transfers to the GRUU of another of one's own devices: it is asked to answer by itself as `101*2` is.
func TestGRUUMovesToOneDevice(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	alice, bob := r.phone("alice", 1, withGRUU), r.phone("bob", 1)
	desk, other := r.phone("alice", 2, withGRUU), r.phone("alice", 3)
	desk.Behave(phone.Behaviour{Ringless: true})
	out, in := r.connect(alice, bob)
	ref, err := out.Refer(desk.GRUU())
	must(t, err)
	if code, err := ref.Wait(5 * time.Second); err != nil || code != 200 {
		t.Errorf("the transfer: %d %v", code, err)
	}
	must(t, out.AwaitEnd(5*time.Second))
	leg, err := desk.Ringing(3 * time.Second)
	must(t, err)
	if !in.Hears(leg, 3*time.Second) || !leg.Hears(in, 3*time.Second) {
		t.Error("the call did not arrive")
	}
	if m := methods(other.Received(time.Time{}), "INVITE"); len(m) > 0 {
		t.Error("another device rang")
	}
	must(t, in.Hangup())
	must(t, leg.AwaitEnd(3*time.Second))
	r.nothingLeft()
}
