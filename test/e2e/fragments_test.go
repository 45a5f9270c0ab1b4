package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// talkative are codecs enough for a description of half a datagram.
var talkative = []phone.Codec{
	phone.OPUS, phone.G722, phone.PCMA, phone.PCMU,
	{Name: "AMR-WB", PT: 96, Rate: 16000, Fmtp: "octet-align=1"},
	{Name: "AMR", PT: 97, Rate: 8000, Fmtp: "octet-align=1"},
	{Name: "G729", PT: 18, Rate: 8000, Fmtp: "annexb=no"},
	phone.DTMF,
}

// wordy makes everything long that a phone says of itself.
func wordy(c *phone.Config) {
	c.Codecs = talkative
	c.ContactUser = c.User + "-" + strings.Repeat("0123456789", 3)
}

// TestFragmentsDropped puts a phone over UDP behind a way that takes packets of 1,400 bytes and drops all fragments. What it
// and its calls are called is long, there is a proxy in front of it, and the call has been forwarded: it is called, calls, has
// its call moved away and back, and hangs up.
func TestFragmentsDropped(t *testing.T) {
	need(t, "iptables", "iptables")
	r := node.NewRouter(t, between, outside)
	r.Known(outside)
	r.MTU(1400)
	w := newWorld(t, node.Options{Users: map[string]string{}, Config: fmt.Sprintf("proxies: [%s]\n", outside)})
	for name, number := range map[string]string{"alice": "101", "bob": "102", "carol": "103", "dave": "104"} {
		_, err := w.CLIWith(node.Password(name)+"\n", "user", "add", name, "--password-stdin", "--number", number,
			"--display", strings.ToUpper(name[:1])+name[1:]+" of the office at the end of the longest corridor, left")
		w.must(err)
	}
	for user, to := range map[string]string{"carol": "104", "dave": "101"} {
		w.must(second(w.CLI("user", "set", user, "--forward-always", to)))
	}
	bob := w.phone("bob", "far", wordy)
	bob.Behave(phone.AutoAnswer)
	alice := w.make("alice", "soft", wordy, beyond(r, outside, 2, r.Node))
	proxy := "<sip:edge-of-the-branch-office.voice.example.com;transport=udp;lr;ob>"
	res, err := alice.Send("REGISTER", "sip:"+r.Node.String(), nil,
		phone.Header{Name: "To", Value: "<" + alice.URI() + ">"}, phone.Header{Name: "Path", Value: proxy},
		phone.Header{Name: "Contact", Value: "<" + alice.Contact() + `>;+sip.instance="<` + alice.Config().Instance + `>"`},
		phone.Header{Name: "Supported", Value: "path"}, phone.Header{Name: "Expires", Value: "600"})
	w.must(err)
	if res.Code != 200 {
		t.Fatalf("REGISTER: %s", res.Line())
	}

	out, in := w.connect(bob, "carol", alice)
	if d := in.Invite().All("Diversion"); len(d) == 0 || phone.UserPart(phone.AddrURI(d[0])) != "104" {
		t.Errorf("alice's phone is told %q, not that dave has forwarded the call last", d)
	}
	w.must(out.Hangup())
	w.ended(in)

	near := w.phone("alice", "desk", wordy)
	out = w.dial(alice, "bob", phone.DialOptions{Headers: []phone.Header{{Name: "Record-Route", Value: proxy}}})
	w.must(out.Await(10 * time.Second))
	in = w.ringing(bob)
	w.talk(out, in)
	for _, to := range []*phone.Phone{near, alice} {
		to.Behave(phone.Behaviour{Ringless: true})
		w.must(second(w.CLI("move", "--user", "alice", w.deviceOf(to).Instance)))
		moved := w.ringing(to)
		w.talk(moved, in)
		w.ended(out)
		out = moved
	}
	w.must(out.Hold(phone.HoldSendonly))
	w.must(out.Resume())
	w.talk(out, in)
	w.must(in.Hangup())
	w.ended(out)
	longest := 0
	for _, m := range alice.Received(time.Time{}) {
		longest = max(longest, len(m.Bytes()))
	}
	t.Logf("the longest message of the node has %d bytes with the long names of its headers", longest)
}
