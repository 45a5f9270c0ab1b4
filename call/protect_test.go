package call_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"baton/config"
	"baton/media"
	"baton/registrar"
	"baton/test/phone"
)

// kinds are the three kinds of legs, with the way of their signalling.
var kinds = []struct {
	name      string
	transport string
	srtp      string
	secure    string // as a call shows it
	media     string // as the phone has it
}{
	{"rtp", "udp", phone.Plain, "none", ""},
	{"sdes", "tls", phone.OSRTP, "sdes", "AES_CM_128_HMAC_SHA1_80"},
	{"dtls", "wss", phone.DTLS, "dtls", phone.DTLS},
}

// ofKind has a phone be of that kind.
func (r *rig) ofKind(n int) func(*phone.Config) {
	return func(c *phone.Config) {
		r.over(kinds[n].transport)(c)
		c.SRTP = kinds[n].srtp
	}
}

// TestNinePairs has each kind of leg with each other: both hear each other, keys and hold pass, and both seats move to devices of all
// kinds while the other side hears one stream.
func TestNinePairs(t *testing.T) {
	t.Parallel()
	for a := range kinds {
		for b := range kinds {
			t.Run(kinds[a].name+" with "+kinds[b].name, func(t *testing.T) {
				t.Parallel()
				pairOfKinds(t, a, b)
			})
		}
	}
}

// side is a user in a pair: the devices by kind, and the leg that the user talks on.
type side struct {
	devices [3]*phone.Phone
	kind    int
	leg     *phone.Call
}

func pairOfKinds(t *testing.T, a, b int) {
	r := newRig(t, listensTLS)
	sides := [2]*side{{kind: a}, {kind: b}}
	for i, user := range []string{"alice", "bob"} {
		r.user(user, fmt.Sprint(101+i))
		for k := range kinds {
			sides[i].devices[k] = r.phone(user, k+1, r.ofKind(k))
			sides[i].devices[k].Behave(phone.Behaviour{})
		}
	}
	alice, bob := sides[0], sides[1]
	to := bob.devices[b]
	to.Behave(phone.AutoAnswer)
	var err error
	alice.leg, err = alice.devices[a].Dial(fmt.Sprintf("102*%d", b+1))
	must(t, err)
	bob.leg, err = to.Ringing(5 * time.Second)
	must(t, err)
	must(t, alice.leg.Await(5*time.Second))
	r.talkInKinds(alice, bob)
	must(t, alice.leg.Hold(phone.HoldSendonly))
	if !bob.leg.HearsTone(3 * time.Second) {
		t.Error("no tone is heard on hold")
	}
	must(t, alice.leg.Resume())
	r.talkInKinds(alice, bob)
	for i, s := range sides {
		far := sides[1-i]
		for range kinds { // round once, and back to the first
			since := time.Now()
			s.kind = (s.kind + 1) % len(kinds)
			was := s.leg
			s.leg, err = s.devices[s.kind].Dial("*40")
			must(t, err)
			must(t, s.leg.Await(5*time.Second))
			must(t, was.AwaitEnd(5*time.Second))
			r.talkInKinds(alice, bob)
			heard := phone.Between(far.leg.Media().Heard(), since, time.Now())
			if rep := phone.Analyse(heard, 8000); rep.Missing+rep.Reordered+rep.Duplicates+rep.Changed > 0 || len(rep.SSRCs) != 1 {
				t.Errorf("after the move to %s the other side's stream (%s) is broken: %s", kinds[s.kind].name, kinds[far.kind].name, rep)
			}
		}
	}
	must(t, alice.leg.Hangup())
	must(t, bob.leg.AwaitEnd(5*time.Second))
	for _, s := range sides {
		for _, p := range s.devices {
			for _, c := range p.Made() {
				if n := c.Media().Forged(); n > 0 {
					t.Errorf("%s could not open %d packets", p.Config().UserAgent, n)
				}
			}
		}
	}
	r.nothingLeft()
}

// talkInKinds checks that both hear each other, that keys pass both ways, and how each leg is protected.
func (r *rig) talkInKinds(alice, bob *side) {
	r.t.Helper()
	for _, way := range [][2]*side{{alice, bob}, {bob, alice}} {
		from, to := way[0], way[1]
		if !to.leg.Hears(from.leg, 5*time.Second) {
			r.t.Fatalf("%s is not heard at %s", kinds[from.kind].name, kinds[to.kind].name)
		}
		since := time.Now()
		from.leg.Media().Press('7', 60*time.Millisecond)
		if _, ok := to.leg.Media().Await(since, 3*time.Second, func(p phone.Packet) bool { return p.Event != nil && p.Event.End && p.Event.Digit == '7' }); !ok {
			r.t.Errorf("a key of %s does not reach %s", kinds[from.kind].name, kinds[to.kind].name)
		}
		if got := from.leg.Media().Secure(); got != kinds[from.kind].media {
			r.t.Errorf("the sound of %s is protected by %q", kinds[from.kind].name, got)
		}
	}
	for i, s := range []*side{alice, bob} {
		legs := r.b.Calls("alice")[0].Seats[i].Legs
		if legs[0].Secure != kinds[s.kind].secure || legs[0].Via != "udp" {
			r.t.Errorf("%s is shown as %q via %q", kinds[s.kind].name, legs[0].Secure, legs[0].Via)
		}
	}
}

var (
	_ = strings.Contains
	_ = config.Default
	_ = media.Clear
	_ = registrar.LearntSRTP
)
