package call_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/journal"
	"baton/test/phone"
)

// another opens another node on the store of this one, at an address of its own.
func (r *rig) another(name string, tune func(*config.Config)) *rig {
	r.t.Helper()
	at := addressOfOne()
	next := openNode(r.t, r, name, r.dir, at+":0", at1(at, tune))
	next.pass = r.pass
	return next
}

// claims has a node claim all calls of another and go on with them.
func (r *rig) claims(dead *rig) {
	r.t.Helper()
	stored, err := dead.store.Calls()
	must(r.t, err)
	var mine []call.Stored
	for _, s := range stored {
		if s.Owner != dead.name {
			continue
		}
		c, err := r.store.Claim(s.ID, s.Epoch, r.name)
		must(r.t, err)
		mine = append(mine, c)
	}
	if n := r.b.TakeOver(dead.name, mine...); n != len(mine) {
		r.t.Errorf("%d of %d calls are taken over", n, len(mine))
	}
}

// from lists the addresses that a phone's sound has come from since then.
func from(c *phone.Call, since time.Time) (all []string) {
	for _, p := range c.Media().Heard() {
		if at := p.From.Addr().String(); p.At.After(since) && !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	return all
}

// versions are the o= versions of the SDP that a phone was sent, in order.
func versions(t *testing.T, p *phone.Phone) (all []string) {
	t.Helper()
	for _, m := range p.Received(time.Time{}) {
		for _, line := range strings.Split(string(m.Body), "\r\n") {
			if f := strings.Fields(line); strings.HasPrefix(line, "o=") && len(f) > 2 {
				all = append(all, f[1]+" "+f[2])
			}
		}
	}
	return all
}

// TestTakeOverTalking kills a node with a call over UDP that another goes on with, at another address: both hear each other again, from there
// alone; each side can hold, and hang up, and the log has one call with its whole length.
func TestTakeOverTalking(t *testing.T) {
	t.Parallel()
	for _, ends := range []string{"caller", "callee", "operator"} {
		t.Run(ends, func(t *testing.T) {
			t.Parallel()
			r, alice, bob := lonely(t, nil)
			b := r.another("b", nil)
			out, in := r.connect(alice, bob)
			before := r.written("both sources", latchedBoth)
			r.die()
			since := time.Now()
			b.claims(r)
			b.hears(out, in)
			settled := time.Now()
			time.Sleep(200 * time.Millisecond)
			here := b.server.Addr().String()
			for _, c := range []*phone.Call{out, in} {
				p := c.Phone()
				if at := from(c, settled); len(at) != 1 || at[0] != here {
					t.Errorf("%s hears %v, not %s alone", p.Config().User, at, here)
				}
				told := slices.DeleteFunc(p.Received(since), func(m phone.Logged) bool { return m.Method != "INVITE" })
				if len(told) != 1 || !strings.Contains(told[0].Get("Contact"), b.server.String()) || !strings.Contains(string(told[0].Body), "c=IN IP4 "+here) {
					t.Errorf("%s was told %v", p.Config().User, told)
				}
				v := versions(t, p)
				if was, now := strings.Fields(v[len(v)-2]), strings.Fields(v[len(v)-1]); was[0] != now[0] || was[1] != "1" || now[1] != "2" {
					t.Errorf("%s was sent o= with %v", p.Config().User, v)
				}
				above(t, p, since)
				heard := c.Media().Heard()
				if heard[0].SSRC == heard[len(heard)-1].SSRC {
					t.Errorf("%s hears the SSRC of the dead node", p.Config().User)
				}
			}
			for _, c := range []*phone.Call{in, out} {
				must(t, c.Hold(phone.HoldSendonly))
				must(t, c.Resume())
			}
			b.hears(out, in)
			calls := b.b.Calls("")
			if len(calls) != 1 || calls[0].ID != before.ID || !calls[0].Started.Equal(before.Started) || calls[0].Up == nil || !calls[0].Up.Equal(before.Up) {
				t.Errorf("calls: %+v, was %s up %v", calls, before.ID, before.Up)
			}
			if rec := b.written("its owner's epoch", func(rec call.Record) bool { return rec.Epoch == before.Epoch+1 && latchedBoth(rec) }); rec.Epoch != before.Epoch+1 {
				t.Errorf("epoch %d after %d", rec.Epoch, before.Epoch)
			}
			switch ends {
			case "caller":
				must(t, out.Hangup())
			case "callee":
				must(t, in.Hangup())
			default:
				must(t, b.b.End(t.Context(), before.ID, "test"))
			}
			must(t, out.AwaitEnd(3*time.Second))
			must(t, in.AwaitEnd(3*time.Second))
			b.nothingLeft()
			ended := b.entries(journal.CallEnded)
			if len(ended) != 1 || ended[0].Duration < time.Since(before.Up)-3*time.Second || ended[0].Call != before.ID || strings.Contains(ended[0].Text, "lost") {
				t.Errorf("the log: %+v", ended)
			}
		})
	}
}

// TestTakeOverKinds kills a node with a call to a phone whose connection dies with it. The other side hears the tone until it has registered at
// the other node; then both hear each other, with new keys.
func TestTakeOverKinds(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		name, transport, srtp string
	}{
		{"rtp over tcp", "tcp", phone.Plain},
		{"sdes over tls", "tls", phone.OSRTP},
		{"savp over tls", "tls", phone.SAVP},
		{"dtls over wss", "wss", phone.DTLS},
	} {
		for _, calls := range []string{"it calls", "it is called"} {
			t.Run(k.name+", "+calls, func(t *testing.T) {
				t.Parallel()
				r, alice, _ := lonely(t, listensTLS)
				b := r.another("b", listensTLS)
				bob := r.phone("bob", 2, r.over(k.transport), func(c *phone.Config) {
					if c.SRTP = k.srtp; k.transport == "tcp" {
						c.Server = r.tcp
					}
				})
				var out, in *phone.Call // alice's and bob's
				if calls == "it is called" {
					bob.Behave(phone.AutoAnswer)
					out = mustDial(t, alice, "102*2")
					got, err := bob.Ringing(5 * time.Second)
					must(t, err)
					in = got
					must(t, out.Await(5*time.Second))
				} else {
					in, out = r.connect(bob, alice)
				}
				r.hears(out, in)
				r.written("the legs as they are", func(rec call.Record) bool {
					return rec.State == call.StateUp && len(rec.Seats[0].Legs) == 1 && rec.Seats[0].Legs[0].State == "up" && rec.Seats[1].Legs[0].State == "up"
				})
				r.die()
				b.claims(r)
				if !out.HearsTone(3 * time.Second) {
					t.Error("alice hears nothing while bob's phone is away")
				}
				to := map[string]phone.Relocation{"tcp": {Server: b.tcp}, "tls": {Server: b.tls}, "wss": {}}[k.transport]
				if k.transport == "wss" {
					to.Server = b.website()
				}
				since := time.Now()
				must(t, bob.Relocate(to))
				_, err := bob.Register(10 * time.Minute)
				must(t, err)
				b.hears(out, in)
				above(t, bob, since)
				must(t, in.Hold(phone.HoldSendonly))
				must(t, in.Resume())
				b.hears(out, in)
				if k.srtp == phone.OSRTP || k.srtp == phone.SAVP {
					was, now := ourKeys(bob, time.Time{}, since), ourKeys(bob, since, time.Now())
					if len(was) == 0 || len(now) == 0 || slices.ContainsFunc(now, func(key string) bool { return slices.Contains(was, key) }) {
						t.Errorf("the dead node sent with the keys %v, this one with %v", was, now)
					}
				}
				if k.srtp != phone.Plain && in.Media().Secure() == "" {
					t.Error("the sound is in the clear")
				}
				must(t, out.Hangup())
				must(t, in.AwaitEnd(3*time.Second))
				b.nothingLeft()
				if n := len(b.entries(journal.CallLost)); n != 1 {
					t.Errorf("%d losses in the log", n)
				}
			})
		}
	}
}

// ourKeys are the keys that a phone was told of between two moments.
func ourKeys(p *phone.Phone, since, until time.Time) (all []string) {
	for _, m := range p.Received(since) {
		for _, line := range strings.Split(string(m.Body), "\r\n") {
			if _, key, ok := strings.Cut(line, "inline:"); ok && m.At.Before(until) {
				all = append(all, key)
			}
		}
	}
	return all
}
