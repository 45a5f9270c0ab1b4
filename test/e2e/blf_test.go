package e2e

import (
	"fmt"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// office is a node whose alice picks up for carol, and watches her.
var office = node.Options{Config: "groups:\n  office: [alice, carol]\nwatch:\n  alice: [carol]\n"}

// replacesForms are what phones put into Replaces of a dialog that dialog-info has told them of, in sipp's words.
var replacesForms = map[string]string{
	"call-id": "[$callid]", // Snom
	"tags":    "[$callid];to-tag=[$remote];from-tag=[$local]",
	"swapped": "[$callid];to-tag=[$local];from-tag=[$remote]",
}

// TestSippBLFOfOnesOwn presses a BLF key that watches one's own extension: it shows the call that another of one's phones has,
// and brings it here by what it was told of it.
func TestSippBLFOfOnesOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob, desk := w.phone("bob", "far"), w.phone("alice", "desk")
	port := w.sippPort()
	w.sippPhone("alice", false, port)
	for form, header := range replacesForms {
		t.Run(form, func(t *testing.T) {
			w := &world{Node: w.Node, t: t}
			leg, far := w.connect(desk, "bob", bob)
			since := time.Now()
			r := w.sipp(scenario{file: "uac_blf.xml", user: "alice", to: "101", say: map[string]any{
				"State": "confirmed", "Far": "102", "Replaces": header, "Talk": 300,
			}}, port)
			w.ended(leg)
			w.echoed(far)
			w.Eventually(time.Second, "the move to be reported", func() error {
				if how := w.movedBy(); how != "replaces" {
					return fmt.Errorf("it was moved by %q", how)
				}
				return nil
			})
			w.whole(far, since, 500*time.Millisecond, 100*time.Millisecond) // sipp sends when it is given the time to
			r.wait()
			w.ended(far)
		})
	}
}

// TestSippBLFOfAColleague presses a BLF key that watches a colleague of one's pick-up group, whose phone rings: the call is taken by
// what the key was told of it, and the colleague's phone is told that somebody else has it.
func TestSippBLFOfAColleague(t *testing.T) {
	t.Parallel()
	w := newWorld(t, office)
	bob, carol := w.phone("bob", "far"), w.phone("carol", "desk")
	port := w.sippPort()
	w.sippPhone("alice", false, port)
	for form, header := range replacesForms {
		t.Run(form, func(t *testing.T) {
			w := &world{Node: w.Node, t: t}
			carol.Behave(phone.Behaviour{})
			out := w.dial(bob, "carol")
			rings := w.ringing(carol)
			r := w.sipp(scenario{file: "uac_blf.xml", user: "alice", to: "103", say: map[string]any{
				"State": "early", "Far": "102", "Replaces": header, "Talk": 300,
			}}, port)
			w.must(out.Await(5 * time.Second))
			w.ended(rings)
			if why, last := rings.Why(); why != "cancelled" || phone.Param(last.Get("Reason"), "cause") != "200" {
				t.Errorf("carol's phone: %s, Reason %q", why, last.Get("Reason"))
			}
			w.echoed(out)
			r.wait()
			w.ended(out)
		})
	}
}

// TestSippDialsARingingColleague is a BLF key that dials, with the code before the extension or without.
func TestSippDialsARingingColleague(t *testing.T) {
	w := newWorld(t, office)
	bob, carol := w.phone("bob", "far"), w.phone("carol", "desk")
	port := w.sippPort()
	w.sippPhone("alice", false, port)
	for _, to := range []string{"103", "**103", "*8103", "*8"} {
		t.Run(to, func(t *testing.T) {
			w := &world{Node: w.Node, t: t}
			carol.Behave(phone.Behaviour{})
			out := w.dial(bob, "carol")
			rings := w.ringing(carol)
			r := w.sipp(scenario{file: "uac.xml", user: "alice", to: to, say: map[string]any{"Offer": "sendrecv", "Talk": 700}}, port)
			w.must(out.Await(5 * time.Second))
			w.ended(rings)
			w.echoed(out)
			r.wait()
			w.ended(out)
		})
	}
}

// movedBy is how the one live call was moved last.
func (w *world) movedBy() string {
	w.t.Helper()
	var calls []struct{ Moves []struct{ How string } }
	w.must(w.JSON(&calls, "calls", "--json"))
	if len(calls) != 1 || len(calls[0].Moves) == 0 {
		return ""
	}
	return calls[0].Moves[len(calls[0].Moves)-1].How
}
