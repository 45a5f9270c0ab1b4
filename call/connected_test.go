package call_test

import (
	"strings"
	"testing"
	"time"

	"baton/test/phone"
)

// TestConnectedLine holds that after a transfer the far phone is shown whom it talks to now, by UPDATE; one without UPDATE,
// and one whose other side has merely taken another device, gets nothing.
func TestConnectedLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		headers []phone.Header
		updates int
		from    string // user part of From in the UPDATE: whom alice has dialled, unless that may change
	}{
		{"with UPDATE", nil, 1, "bob"},
		{"with from-change", []phone.Header{header("Supported", "from-change")}, 1, "103"},
		{"without UPDATE", []phone.Header{header("Allow", "INVITE, ACK, CANCEL, BYE")}, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, alice, bob := newPair(t)
			r.user("carol", "103")
			carol, second := r.phone("carol", 1), r.phone("bob", 2)
			bob.Behave(phone.AutoAnswer)
			carol.Behave(phone.AutoAnswer)
			out, err := alice.Dial("bob", phone.DialOptions{Headers: c.headers})
			must(t, err)
			in, err := bob.Ringing(5 * time.Second)
			must(t, err)
			must(t, out.Await(5*time.Second))
			if id := out.Final().Get("P-Asserted-Identity"); !strings.Contains(id, "sip:102@") {
				t.Errorf("the 200 says %s", id)
			}

			pulled, err := second.Dial("bob") // its own user: a pull
			must(t, err)
			must(t, pulled.Await(5*time.Second))
			must(t, in.AwaitEnd(3*time.Second))
			if n := requestsTo(alice, "UPDATE"); len(n) != 0 {
				t.Errorf("a move sent %d UPDATEs to the far phone", len(n))
			}

			ref, err := pulled.Refer("103")
			must(t, err)
			if code, err := ref.Wait(5 * time.Second); code != 200 || err != nil {
				t.Fatalf("transfer: %d %v", code, err)
			}
			last, err := carol.Ringing(5 * time.Second)
			must(t, err)
			if !last.Hears(out, 3*time.Second) {
				t.Error("carol does not hear alice")
			}
			time.Sleep(300 * time.Millisecond)
			updates := requestsTo(alice, "UPDATE")
			if len(updates) != c.updates {
				t.Fatalf("%d UPDATEs, want %d", len(updates), c.updates)
			}
			for _, m := range updates {
				if id := m.Get("P-Asserted-Identity"); !strings.Contains(id, `"carol" <sip:103@`) {
					t.Errorf("UPDATE says %s", id)
				}
				if from := phone.AddrURI(m.Get("From")); phone.UserPart(from) != c.from {
					t.Errorf("UPDATE is from %s, want %s", from, c.from)
				}
				if len(m.Body) > 0 {
					t.Error("it brings an offer")
				}
			}
			must(t, out.Hangup())
			must(t, last.AwaitEnd(3*time.Second))
			r.nothingLeft()
		})
	}
}
