package call_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/journal"
	"baton/test/phone"
)

// lonely makes a node that is alone at its address, so that nobody takes its ports while it is down; alice and bob are its users.
func lonely(t *testing.T, tune func(*config.Config)) (*rig, *phone.Phone, *phone.Phone) {
	t.Helper()
	at := addressOfOne()
	r := openRig(t, t.TempDir(), at+":0", at1(at, tune))
	r.user("alice", "101")
	r.user("bob", "102")
	return r, r.phone("alice", 1), r.phone("bob", 1)
}

// at1 has a node's audio at one address.
func at1(at string, tune func(*config.Config)) func(*config.Config) {
	return func(c *config.Config) {
		c.Media.Address = at
		if tune != nil {
			tune(c)
		}
	}
}

// addressOfOne is one on loopback that nobody else in this process, or in another one of these tests, has.
func addressOfOne() string {
	n := os.Getpid()<<10 | int(addressesOfOne.Add(1))&1023
	return fmt.Sprintf("127.%d.%d.%d", 128+n>>16&127, n>>8&255, n&255)
}

var addressesOfOne atomic.Uint32

// reborn kills the node and starts it anew on its store, at its address.
func (r *rig) reborn(tune func(*config.Config)) *rig {
	r.t.Helper()
	r.b.Die()
	return r.again(tune)
}

// again starts a node that has no calls any more anew.
func (r *rig) again(tune func(*config.Config)) *rig {
	r.t.Helper()
	tls := r.tls
	r.stop()
	next := openRig(r.t, r.dir, r.server.String(), at1(r.server.Addr().String(), func(c *config.Config) {
		if tls.IsValid() {
			c.Listen.TLS = tls.String()
		}
		if tune != nil {
			tune(c)
		}
	}))
	next.pass = r.pass
	return next
}

// hears waits until both hear each other.
func (r *rig) hears(a, b *phone.Call) {
	r.t.Helper()
	if !a.Hears(b, 3*time.Second) || !b.Hears(a, 3*time.Second) {
		r.t.Fatalf("%s and %s do not hear each other", a.Phone().Config().User, b.Phone().Config().User)
	}
	time.Sleep(200 * time.Millisecond)
}

// written waits until the record of the one call is as it should be.
func (r *rig) written(what string, holds func(call.Record) bool) call.Record {
	r.t.Helper()
	var rec call.Record
	r.eventually("the record has "+what, 4*time.Second, func() bool {
		stored, err := r.store.Calls()
		if err != nil || len(stored) != 1 {
			return false
		}
		rec, err = call.DecodeRecord(r.store.Secret(), stored[0].Blob)
		return err == nil && holds(rec)
	})
	return rec
}

func latchedBoth(rec call.Record) bool {
	return !slices.ContainsFunc(rec.Seats, func(s call.SeatRecord) bool {
		return len(s.Legs) == 0 || s.Legs[0].Place == nil || !s.Legs[0].Place.Source.IsValid() || s.Legs[0].State != "up"
	})
}

// goesOn checks what a phone has heard over a restart: one SSRC, numbers forward by less than 2^12, timestamps by the clock.
func goesOn(t *testing.T, who string, heard []phone.Packet) {
	t.Helper()
	if len(heard) < 2 {
		t.Fatalf("%s has heard %d packets", who, len(heard))
	}
	jumps := 0
	for i, p := range heard[1:] {
		before := heard[i]
		switch step := p.Seq - before.Seq; {
		case p.SSRC != before.SSRC:
			t.Errorf("%s: SSRC %d after %d", who, p.SSRC, before.SSRC)
		case step == 0 || step > 1<<12:
			t.Errorf("%s: number %d after %d", who, p.Seq, before.Seq)
		case step > 50:
			jumps++
		}
		clock, stamped := p.At.Sub(before.At), time.Duration(int32(p.TS-before.TS))*time.Second/8000
		if d := (clock - stamped).Abs(); d > 150*time.Millisecond {
			t.Errorf("%s: the timestamp goes on by %v in %v", who, stamped, clock)
		}
	}
	if jumps != 1 {
		t.Errorf("%s: %d jumps for one restart", who, jumps)
	}
}

// TestRestoreTalking restarts a node with a call over UDP. Both hear each other again on the same streams without a word of SIP; then each
// side can hold, and hang up, and the log has one call with its whole length.
func TestRestoreTalking(t *testing.T) {
	t.Parallel()
	for _, ends := range []string{"caller", "callee", "operator"} {
		t.Run(ends, func(t *testing.T) {
			t.Parallel()
			r, alice, bob := lonely(t, nil)
			out, in := r.connect(alice, bob)
			before := r.written("both sources", latchedBoth)
			r = r.reborn(nil)
			since := time.Now()
			r.hears(out, in)
			for _, p := range []*phone.Phone{alice, bob} {
				for _, m := range p.Received(since) {
					if m.Method != "" {
						t.Errorf("%s was sent %s", p.Config().User, m.Line())
					}
				}
			}
			goesOn(t, "alice", out.Media().Heard())
			goesOn(t, "bob", in.Media().Heard())
			for _, c := range []*phone.Call{in, out} {
				must(t, c.Hold(phone.HoldSendonly))
				must(t, c.Resume())
			}
			r.hears(out, in)
			calls := r.b.Calls("")
			if len(calls) != 1 || calls[0].ID != before.ID || !calls[0].Started.Equal(before.Started) || calls[0].Up == nil || !calls[0].Up.Equal(before.Up) {
				t.Errorf("calls: %+v, was %s up %v", calls, before.ID, before.Up)
			}
			switch ends {
			case "caller":
				must(t, out.Hangup())
			case "callee":
				must(t, in.Hangup())
			default:
				must(t, r.b.End(t.Context(), before.ID, "test"))
			}
			must(t, out.AwaitEnd(3*time.Second))
			must(t, in.AwaitEnd(3*time.Second))
			r.nothingLeft()
			ended := r.entries(journal.CallEnded)
			if len(ended) != 1 || ended[0].Duration < time.Since(before.Up)-3*time.Second || ended[0].Call != before.ID || strings.Contains(ended[0].Text, "killed") {
				t.Errorf("the log: %+v", ended)
			}
			if ends == "operator" {
				above(t, alice, since)
				above(t, bob, since)
			}
		})
	}
}

// above checks that what baton has sent a phone in its dialogs since the restart has CSeqs of the next epoch.
func above(t *testing.T, p *phone.Phone, since time.Time) {
	t.Helper()
	n := 0
	for _, m := range p.Received(since) {
		if m.Method == "BYE" || m.Method == "INVITE" || m.Method == "UPDATE" {
			n++
			if seq, _ := m.CSeq(); seq <= 100_000 {
				t.Errorf("%s was sent %s with CSeq %d after the restart", p.Config().User, m.Method, seq)
			}
		}
	}
	if n == 0 {
		t.Errorf("%s was sent nothing", p.Config().User)
	}
}
