package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"baton/test/phone"
)

// said waits until a text stands in what a program prints.
func said(w *world, who, text string, output func() string) {
	w.t.Helper()
	w.Eventually(10*time.Second, who+" to show "+text, func() error {
		if out := output(); !strings.Contains(out, text) {
			return fmt.Errorf("it says:\n%s", tail(out, 2000))
		}
		return nil
	})
}

// TestMessagesOfRealPhones: baresip writes to all of bob's devices, linphonec among them, and one of these to it and to the other.
// (linphonec 5.1's own chat command sends nothing.)
func TestMessagesOfRealPhones(t *testing.T) {
	w := newWorld(t)
	need(t, "linphonec", "linphone-cli")
	b, l := w.startBaresip("alice", "udp", 440, "module_app contact.so"), w.startLinphone("bob", 660)
	desk := w.phone("bob", "desk", over("tcp"))
	b.do("message", "from baresip")
	said(w, "linphonec", "from baresip", l.output)
	w.Eventually(5*time.Second, "the desk phone to have it too", func() error {
		for _, m := range desk.Received(time.Time{}) {
			if m.Method == "MESSAGE" && string(m.Body) == "from baresip" && phone.UserPart(phone.AddrURI(m.Get("From"))) == "101" {
				return nil
			}
		}
		return fmt.Errorf("it has received %v", desk.Received(time.Time{}))
	})
	for to, text := range map[string]string{"101": "from the desk", "102": "to oneself"} {
		res, err := desk.Send("MESSAGE", "sip:"+to+"@"+w.UDP.Addr().String(), []byte(text), phone.Header{Name: "Content-Type", Value: "text/plain"})
		if err != nil || res.Code != 200 {
			t.Fatalf("message to %s: %s, %v", to, line(res), err) // baresip shows it nowhere, but its 200 is what we pass on
		}
	}
	said(w, "linphonec", "to oneself", l.output)
}
