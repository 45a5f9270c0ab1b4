package call_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"baton/config"
	"baton/journal"
	"baton/test/phone"
)

// group is a node with alice and eve, who are in no pick-up group, and bob, carol and dave, who are in one.
type group struct {
	*rig
	alice, bob, bobs, carol, dave, eve *phone.Phone
}

func newGroup(t *testing.T, tune ...func(*config.Config)) *group {
	t.Helper()
	r := newRig(t, func(c *config.Config) {
		c.Groups = config.Lists{"sales": {"bob", "103", "dave"}, "other": {"alice"}}
		for _, f := range tune {
			f(c)
		}
	})
	for i, name := range []string{"alice", "bob", "carol", "dave", "eve"} {
		r.user(name, fmt.Sprint(101+i))
	}
	return &group{
		r, r.phone("alice", 1), r.phone("bob", 1), r.phone("bob", 2), r.phone("carol", 1), r.phone("dave", 1), r.phone("eve", 1),
	}
}

// replacing is an INVITE's Replaces header.
func replacing(v string) phone.DialOptions {
	return phone.DialOptions{Headers: []phone.Header{{Name: "Replaces", Value: v}}}
}

// ring has alice call bob, and gives what rings at his phones.
func (g *group) ring(o ...phone.DialOptions) (out, first, second *phone.Call) {
	g.t.Helper()
	out = mustDial(g.t, g.alice, "bob", o...)
	return out, g.rings(g.bob), g.rings(g.bobs)
}

// rings waits until a phone rings, and until the node knows.
func (r *rig) rings(p *phone.Phone) *phone.Call {
	r.t.Helper()
	c, err := p.Ringing(5 * time.Second)
	must(r.t, err)
	r.eventually("the node knows that the phone rings", 3*time.Second, func() bool {
		for _, i := range r.b.Calls(p.Config().User) {
			for _, s := range i.Seats {
				for _, l := range s.Legs {
					if l.State == "ringing" && "sip:"+p.Config().User+"@"+strings.TrimPrefix(l.Remote, "udp:") == p.Contact() {
						return true
					}
				}
			}
		}
		return false
	})
	return c
}

// elsewhere checks that a phone has stopped ringing because the call was completed elsewhere.
func (r *rig) elsewhere(calls ...*phone.Call) {
	r.t.Helper()
	for _, c := range calls {
		must(r.t, c.AwaitEnd(5*time.Second))
		why, m := c.Why()
		if why != "cancelled" || !strings.Contains(m.Get("Reason"), "cause=200") || !strings.Contains(m.Get("Reason"), "Call completed elsewhere") {
			r.t.Errorf("the phone stopped ringing: %s, %v", why, m)
		}
	}
}

// talk checks that two phones hear each other, each one unbroken stream.
func (r *rig) talk(a, b *phone.Call) {
	r.t.Helper()
	must(r.t, a.Await(5*time.Second))
	must(r.t, b.Await(5*time.Second))
	if !a.Hears(b, 3*time.Second) || !b.Hears(a, 3*time.Second) {
		r.t.Fatalf("%s and %s do not hear each other", a.Phone().Config().User, b.Phone().Config().User)
	}
	time.Sleep(200 * time.Millisecond)
	for _, c := range []*phone.Call{a, b} {
		if s := phone.Analyse(c.Media().Heard(), 8000); len(s.SSRCs) != 1 || s.Missing != 0 || s.Changed != 0 {
			r.t.Errorf("%s heard %v", c.Phone().Config().User, s)
		}
	}
}

// TestPickUp takes a call that rings at a colleague's two phones in every way that phones have for it.
func TestPickUp(t *testing.T) {
	t.Parallel()
	named := func(change func(id, to, from string) string) func(*phone.Call) (string, phone.DialOptions) {
		return func(c *phone.Call) (string, phone.DialOptions) {
			return "102", replacing(change(c.ID(), phone.Param(c.Replaces(), "to-tag"), phone.Param(c.Replaces(), "from-tag")))
		}
	}
	dialled := func(to string) func(*phone.Call) (string, phone.DialOptions) {
		return func(*phone.Call) (string, phone.DialOptions) { return to, phone.DialOptions{} }
	}
	for name, how := range map[string]func(*phone.Call) (string, phone.DialOptions){
		"*8": dialled("*8"), "*8 and number": dialled("*8102"), "*8 and name": dialled("*8bob"), "** and number": dialled("**102"),
		"the number": dialled("102"), "the name": dialled("bob"),
		"Replaces":      named(func(id, to, from string) string { return id + ";to-tag=" + to + ";from-tag=" + from }),
		"early-only":    named(func(id, to, from string) string { return id + ";to-tag=" + to + ";from-tag=" + from + ";early-only" }),
		"tags swapped":  named(func(id, to, from string) string { return id + ";to-tag=" + from + ";from-tag=" + to }),
		"tags 0":        named(func(id, to, from string) string { return id + ";to-tag=0;from-tag=0" }),
		"Call-ID alone": named(func(id, to, from string) string { return id }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t)
			out, first, second := g.ring()
			to, o := how(second)
			picked := mustDial(t, g.carol, to, o)
			g.talk(out, picked)
			g.elsewhere(first, second)
			if shown := picked.Final().Get("P-Asserted-Identity"); phone.DisplayName(shown) != "alice" || !strings.Contains(shown, "sip:101@") {
				t.Errorf("carol's display says %s", shown)
			}
			if shown := out.Final().Get("P-Asserted-Identity"); phone.DisplayName(shown) != "carol" || !strings.Contains(shown, "sip:103@") {
				t.Errorf("alice's display says %s", shown)
			}
			if calls := g.b.Calls(""); len(calls) != 1 || len(calls[0].Seats) != 2 || calls[0].Seats[1].User != "carol" || calls[0].Seats[1].Legs[0].Device != "phonea" {
				t.Errorf("the call is %+v", calls)
			}
			must(t, picked.Hangup())
			must(t, out.AwaitEnd(3*time.Second))
			g.nothingLeft()
			e := g.entries(journal.CallPickedUp)
			if len(e) != 1 || e[0].User != "carol" || e[0].From != "bob" || e[0].Peer != "alice" || e[0].Device != "phonea" || e[0].Call == "" {
				t.Errorf("the log says %+v", e)
			}
			if e := g.entries(journal.CallAnswered); len(e) != 1 || e[0].Peer != "carol" {
				t.Errorf("the log says %+v", e)
			}
			g.missed()
		})
	}
}

// TestOwnRingingCall takes the call that rings for oneself on a further device, in every way.
func TestOwnRingingCall(t *testing.T) {
	t.Parallel()
	for _, to := range []string{"*40", "*401", "102", "bob", "**102", "*8", "*8102", "Replaces"} {
		t.Run(to, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t)
			out, first, second := g.ring()
			third := g.phoneThatRingsNot("bob", 3)
			o, dial := phone.DialOptions{}, to
			if to == "Replaces" {
				o, dial = replacing(first.Replaces()), "102"
			}
			taken := mustDial(t, third, dial, o)
			g.talk(out, taken)
			g.elsewhere(first, second)
			must(t, out.Hangup())
			must(t, taken.AwaitEnd(3*time.Second))
			g.nothingLeft()
			if e := g.entries(journal.CallPickedUp); len(e) != 0 {
				t.Errorf("the log says %+v", e)
			}
		})
	}
}

// phoneThatRingsNot is a device that has not registered: it can dial, and nothing rings there.
func (r *rig) phoneThatRingsNot(user string, n int) *phone.Phone {
	r.t.Helper()
	p := r.phone(user, n)
	_, err := p.Register(0)
	must(r.t, err)
	return p
}

// TestPickUpOfTheLongest takes two calls one after the other, the longest first.
func TestPickUpOfTheLongest(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	first, _, _ := g.ring()
	second := mustDial(t, g.eve, "dave")
	ringing := g.rings(g.dave)
	for _, out := range []*phone.Call{first, second} {
		picked := mustDial(t, g.carol, "*8")
		must(t, picked.Await(3*time.Second))
		g.talk(out, picked)
		must(t, picked.Hangup())
		must(t, out.AwaitEnd(3*time.Second))
	}
	g.elsewhere(ringing)
	g.nothingLeft()
}

// TestNothingToPickUp has who may not, and what does not ring: the phones of others never notice.
func TestNothingToPickUp(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	no := func(p *phone.Phone, to string, code int, words string) {
		t.Helper()
		c := mustDial(t, p, to)
		if m := g.refused(c, code); !strings.Contains(m.Get("Warning"), words) {
			t.Errorf("%s dials %s: %s", p.Config().User, to, m.Get("Warning"))
		} else if code == 404 && len(c.Media().Heard()) == 0 {
			t.Errorf("%s dials %s and hears no tone", p.Config().User, to)
		}
	}
	t.Run("nothing rings", func(t *testing.T) {
		no(g.carol, "*8", 404, "nothing rings in the groups of carol")
		no(g.carol, "**102", 404, "nothing rings at 102")
		no(g.carol, "*8999", 404, `there is no user \"999\"`)
		no(g.eve, "*8", 403, "eve is in no pick-up group")
		no(g.bob, "**102", 404, "no live call of bob")
	})
	out, first, second := g.ring()
	t.Run("not one's own to take", func(t *testing.T) {
		for _, to := range []string{"*8102", "**102", "**bob"} {
			no(g.eve, to, 403, "eve and bob are in no pick-up group together")
		}
		no(g.eve, "*8", 403, "eve is in no pick-up group")
		no(g.alice, "*8", 404, "nothing rings") // her group has nobody else
		for _, v := range []string{first.Replaces(), second.ID(), out.Replaces(), "unknown;to-tag=1;from-tag=2"} {
			c := mustDial(t, g.eve, "102", replacing(v))
			if m := g.refused(c, 481); !strings.Contains(m.Get("Warning"), "no such dialog of yours") {
				t.Errorf("eve learns %q", m.Get("Warning"))
			}
		}
	})
	t.Run("a stranger's call of the number is a call", func(t *testing.T) {
		call := mustDial(t, g.eve, "102")
		_, err := g.bob.Ringing(3 * time.Second)
		must(t, err)
		must(t, call.Cancel())
	})
	must(t, first.Answer())
	g.talk(out, first)
	g.elsewhere(second)
	must(t, out.Hangup())
	g.nothingLeft()
}

// TestOrdinaryCallToAColleague: where nothing rings the number of a colleague is a call, and so it is to whom one calls already.
func TestOrdinaryCallToAColleague(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	first := mustDial(t, g.carol, "102")
	one := g.rings(g.bob)
	again := mustDial(t, g.carol, "102")
	two, err := g.bob.Ringing(3 * time.Second)
	must(t, err)
	must(t, two.Answer())
	g.talk(again, two)
	must(t, again.Hangup())
	must(t, first.Cancel())
	must(t, one.AwaitEnd(3*time.Second))
	g.nothingLeft()
}

// TestPickUpWithoutCodec: a picker that has no codec in common gets 488, and the phones ring on.
func TestPickUpWithoutCodec(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	out, first, second := g.ring()
	for _, o := range []phone.DialOptions{{Codecs: []phone.Codec{phone.G722}}, {Codecs: []phone.Codec{phone.G722}, Headers: replacing(first.Replaces()).Headers}} {
		c := mustDial(t, g.carol, "*8", o)
		g.refused(c, 488)
	}
	if first.State() != phone.Alerting || second.State() != phone.Alerting {
		t.Fatalf("bob's phones: %s, %s", first.State(), second.State())
	}
	must(t, second.Answer())
	g.talk(out, second)
	must(t, second.Hangup())
	g.nothingLeft()
}

// TestPickUpWithoutTheCodecInUse: the caller has early media already and plays G.722, which the picker does not know.
func TestPickUpWithoutTheCodecInUse(t *testing.T) {
	t.Parallel()
	g := newGroup(t, quick)
	_, err := g.bob.Register(0)
	must(t, err)
	_, err = g.bobs.Register(0)
	must(t, err)
	wide := func(c *phone.Config) { c.Codecs = []phone.Codec{phone.G722, phone.PCMU} }
	bob := g.phone("bob", 3, wide)
	bob.Behave(phone.Behaviour{Early: true})
	out := mustDial(t, g.phone("alice", 2, wide), "102")
	first := g.rings(bob)
	if !out.Hears(first, 3*time.Second) {
		t.Fatal("no early media")
	}
	g.refused(mustDial(t, g.carol, "*8"), 488)
	must(t, first.Answer())
	must(t, out.Await(3*time.Second))
	if !out.Hears(first, 3*time.Second) || !first.Hears(out, 3*time.Second) {
		t.Error("alice and bob do not hear each other")
	}
	must(t, out.Hangup())
	g.nothingLeft()
}

// TestPickUpCodesAreDialled: they are nothing that a call can be transferred to, nor a message sent.
func TestPickUpCodesAreDialled(t *testing.T) {
	t.Parallel()
	g := newGroup(t, quick)
	out, in := g.connect(g.carol, g.eve)
	ringing := mustDial(t, g.alice, "102")
	first := g.rings(g.bob)
	for _, to := range []string{"*8", "*8102", "**102"} {
		var refused *phone.Status
		if _, err := out.Refer(to); !errors.As(err, &refused) || refused.Code != 404 {
			t.Errorf("transferred to %s: %v", to, err)
		}
		if res, err := g.carol.Send("MESSAGE", "sip:"+to+"@127.0.0.1", []byte("hello"), phone.Header{Name: "Content-Type", Value: "text/plain"}); err == nil && res.Code != 404 {
			t.Errorf("written to %s: %d", to, res.Code)
		}
	}
	if first.State() != phone.Alerting {
		t.Error("bob's phone has stopped ringing")
	}
	g.talk(out, in)
	must(t, ringing.Cancel())
	must(t, out.Hangup())
	g.nothingLeft()
}

// TestPickUpOffers has the caller and the picker make an offer or ask for ours, with and without 100rel, and early media under way.
func TestPickUpOffers(t *testing.T) {
	t.Parallel()
	rel := []phone.Header{{Name: "Require", Value: "100rel"}}
	for name, caller := range map[string]phone.DialOptions{
		"offer": {}, "no offer": {NoSDP: true}, "100rel": {Headers: rel}, "100rel, no offer": {Headers: rel, NoSDP: true},
		"early media": {}, "early media, 100rel": {Headers: rel},
	} {
		for what, picker := range map[string]phone.DialOptions{"offer": {}, "no offer": {NoSDP: true}} {
			t.Run(name+" to "+what, func(t *testing.T) {
				t.Parallel()
				g := newGroup(t)
				early := strings.HasPrefix(name, "early")
				if early {
					_, err := g.bobs.Register(0)
					must(t, err)
					g.bob.Behave(phone.Behaviour{Early: true})
				}
				out := mustDial(t, g.alice, "102", caller)
				first := g.rings(g.bob)
				if early && !out.Hears(first, 3*time.Second) {
					t.Fatal("no early media")
				}
				picked := mustDial(t, g.carol, "*8", picker)
				must(t, out.Await(5*time.Second))
				must(t, picked.Await(5*time.Second))
				if !out.Hears(picked, 3*time.Second) || !picked.Hears(out, 3*time.Second) {
					t.Fatal("alice and carol do not hear each other")
				}
				if s := phone.Analyse(out.Media().Heard(), 8000); len(s.SSRCs) != 1 || s.Missing != 0 {
					t.Errorf("alice heard %v", s)
				}
				g.elsewhere(first)
				must(t, out.Hangup())
				must(t, picked.AwaitEnd(3*time.Second))
				g.nothingLeft()
			})
		}
	}
}

// TestPickUpOffersUnlike: both ask for our offer and know different codecs first; each is sent what it can play.
func TestPickUpOffersUnlike(t *testing.T) {
	t.Parallel()
	for _, codecs := range [][2][]phone.Codec{
		{{phone.PCMU}, {phone.G722, phone.PCMU}},
		{{phone.G722, phone.PCMU}, {phone.PCMU}},
	} {
		t.Run(codecs[0][0].Name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t)
			alice := g.phone("alice", 2, func(c *phone.Config) { c.Codecs = codecs[0] })
			carol := g.phone("carol", 2, func(c *phone.Config) { c.Codecs = codecs[1] })
			out := mustDial(t, alice, "102", phone.DialOptions{NoSDP: true})
			g.rings(g.bob)
			picked := mustDial(t, carol, "*8", phone.DialOptions{NoSDP: true})
			must(t, out.Await(5*time.Second))
			must(t, picked.Await(5*time.Second))
			if !out.Hears(picked, 8*time.Second) || !picked.Hears(out, 8*time.Second) {
				t.Error("they do not hear each other")
			}
			must(t, out.Hangup())
			must(t, picked.AwaitEnd(3*time.Second))
			g.nothingLeft()
		})
	}
}

// TestPickUpOfATransfer: alice talks with eve and transfers her to bob; carol takes the call while it rings there.
func TestPickUpOfATransfer(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"*8", "**102", "Replaces"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t)
			out, in := g.connect(g.alice, g.eve)
			ref, err := out.Refer("102")
			must(t, err)
			first, second := g.rings(g.bob), g.rings(g.bobs)
			dial, o := how, phone.DialOptions{}
			if how == "Replaces" {
				dial, o = "102", replacing(first.Replaces())
			}
			refused := mustDial(t, g.carol, dial, phone.DialOptions{Codecs: []phone.Codec{phone.G722}, Headers: o.Headers})
			g.refused(refused, 488)
			picked := mustDial(t, g.carol, dial, o)
			must(t, picked.Await(3*time.Second))
			if !picked.Hears(in, 3*time.Second) || !in.Hears(picked, 3*time.Second) {
				t.Fatal("carol and eve do not hear each other")
			}
			g.elsewhere(first, second)
			if code, err := ref.Wait(3 * time.Second); err != nil || code != 200 {
				t.Errorf("alice's phone is told %d, %v", code, err)
			}
			must(t, out.AwaitEnd(3*time.Second))
			if s := phone.Analyse(in.Media().Heard(), 8000); len(s.SSRCs) != 1 || s.Missing != 0 {
				t.Errorf("eve heard %v", s)
			}
			if shown := phone.DisplayName(picked.Final().Get("P-Asserted-Identity")); shown != "eve" {
				t.Errorf("carol's display says %q", shown)
			}
			must(t, in.Hangup())
			must(t, picked.AwaitEnd(3*time.Second))
			g.nothingLeft()
			if e := g.entries(journal.CallPickedUp); len(e) != 1 || e[0].User != "carol" || e[0].From != "bob" || e[0].Peer != "eve" {
				t.Errorf("the log says %+v", e)
			}
		})
	}
}

// ownMove has bob talk with alice and send his call to his other phone, which rings.
func (g *group) ownMove() (out, in, ringing *phone.Call) {
	g.t.Helper()
	must(g.t, second(g.bobs.Register(0)))
	out, in = g.connect(g.alice, g.bob)
	must(g.t, second(g.bobs.Register(time.Minute)))
	must(g.t, second(in.Refer("*41")))
	ringing, err := g.bobs.Ringing(3 * time.Second)
	must(g.t, err)
	return out, in, ringing
}

// TestOwnMoveIsNotPickedUp: what rings because bob moves his own live call is not for his group.
func TestOwnMoveIsNotPickedUp(t *testing.T) {
	t.Parallel()
	g := newGroup(t, func(c *config.Config) { c.Call.Announce = false })
	out, _, ringing := g.ownMove()
	g.refused(mustDial(t, g.carol, "*8"), 404)
	g.refused(mustDial(t, g.carol, "**102"), 404)
	if ringing.State() != phone.Alerting {
		t.Fatal("bob's other phone rings no more")
	}
	must(t, ringing.Answer())
	if !out.Hears(ringing, 3*time.Second) {
		t.Error("the move was lost")
	}
	must(t, out.Hangup())
	g.nothingLeft()
}
