package e2e

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
)

// pair is a call between two places, of which the calling one's user has a further device.
type pair struct {
	caller, callee, spare *place
	user, number, id      string
	far                   string            // user of the callee
	secure                map[string]string // how baton says that each user's audio is protected
}

func (p *pair) String() string { return p.caller.name + " calls " + p.callee.name }

// TestPairsOfProtection has phones with RTP, phones with SDES and browsers call one another, all nine pairs of them: both hear the other's
// tone and the other's keys, hold is heard and ended, the call moves to a device of another kind and back.
func TestPairsOfProtection(t *testing.T) {
	t.Parallel()
	chrome := theBrowser(t, "chromium")
	w := newWorld(t, node.Options{Config: allowing(chrome), Users: map[string]string{
		"alice": "101", "bob": "102", "carol": "103", "dave": "104", "erin": "105", "frank": "106",
	}})
	kinds := []string{"none", "sdes", "dtls"}
	var callers, callees, spares []*place
	calling, called := []string{"alice", "carol", "erin"}, []string{"bob", "dave", "frank"}
	for i, kind := range kinds {
		callers = append(callers, w.placeOf(kind, calling[i], chrome, 440))
		callees = append(callees, w.placeOf(kind, called[i], chrome, 700))
		spares = append(spares, w.placeOf(kinds[(i+1)%2], calling[i], nil, 900)) // SDES for RTP, RTP for SDES, SDES for the browser
	}
	for round := range kinds {
		var pairs []*pair
		for i := range kinds {
			j := (i + round) % len(kinds)
			p := &pair{
				caller: callers[i], callee: callees[j], spare: spares[i], user: calling[i], far: called[j],
				number: strconv.Itoa(102 + 2*j), secure: map[string]string{calling[i]: kinds[i], called[j]: kinds[j]},
			}
			w.answered(p.caller, p.number, p.callee)
			p.id = w.callOf(p.user)
			pairs = append(pairs, p)
		}
		w.tried(pairs)
		if t.Failed() {
			t.Fatalf("in round %d", round+1)
		}
	}
}

// placeOf is a place whose audio is protected in some way.
func (w *world) placeOf(kind, user string, b *browser, hz float64) *place {
	w.t.Helper()
	switch kind {
	case "dtls":
		return w.browserPlace("DTLS", user, b)
	case "sdes":
		p, _ := w.baresipPlace("SDES", user, secured("srtp-mand", hz))
		return p
	}
	p, _ := w.baresipPlace("RTP", user, plain("udp", hz))
	return p
}

// tried does to several calls at once all that there is to be done.
func (w *world) tried(pairs []*pair) {
	w.t.Helper()
	each := func(do func(*pair) error) {
		for _, p := range pairs {
			if err := do(p); err != nil {
				w.t.Errorf("%s: %v", p, err)
			}
		}
	}
	both := func(here func(*pair) *place) {
		want := map[*place]float64{}
		for _, p := range pairs {
			want[here(p)], want[p.callee] = p.callee.hz, here(p).hz
			if here(p).deaf {
				delete(want, here(p))
			}
		}
		listen(w.t, want)
	}
	caller := func(p *pair) *place { return p.caller }
	both(caller)
	w.pressed(pairs)
	each(func(p *pair) error { p.callee.heard(); return p.caller.hold(true) })
	w.heldTone(pairs)
	w.deaf(pairs)
	each(func(p *pair) error { return p.caller.hold(false) })
	both(caller)
	each(w.asProtected)
	each(w.heldIsSentAgain)
	each(func(p *pair) error { return w.moved(p, p.spare) })
	both(func(p *pair) *place { return p.spare })
	each(func(p *pair) error { return p.caller.dial("*40") })
	each(func(p *pair) error { return p.spare.over() })
	both(caller)
	each(w.asProtected)
	each(func(p *pair) error { p.caller.end(); return p.callee.over() })
	each(func(p *pair) error { return p.caller.over() })
}

// moved brings a pair's call to the caller's other device.
func (w *world) moved(p *pair, to *place) error {
	if _, err := w.CLI("move", "--user", p.user, strconv.Itoa(to.index)); err != nil {
		return err
	}
	if err := to.taken(); err != nil {
		return err
	}
	return p.caller.over()
}

// asProtected checks what baton says of the protection of a pair's legs, and that no packet was taken for forged, but for the one of RTCP
// in the clear by which a baresip opens a NAT.
func (w *world) asProtected(p *pair) error {
	all, err := w.legsOf(p.id)
	for user, legs := range all {
		for _, l := range legs {
			if l.Stats.Secure != p.secure[user] || l.Stats.Dropped["forged"] != 0 || l.Stats.Dropped["rtcp_forged"] > 1 || l.Stats.In.Packets == 0 {
				return fmt.Errorf("%s's leg: %+v, want %s", user, l.Stats, p.secure[user])
			}
		}
	}
	return err
}

// heldIsSentAgain wants a caller that has ended a hold to be sent the far side's sound: Debian's baresip has ended its recording by then.
func (w *world) heldIsSentAgain(p *pair) error {
	var sent [2]uint64
	for i := range sent {
		legs, err := w.legsOf(p.id)
		if err != nil {
			return err
		}
		if sent[i] = legs[p.user][0].Stats.Out.Packets; i == 0 {
			pause(300 * time.Millisecond)
		}
	}
	if got := sent[1] - sent[0]; got < 8 {
		return fmt.Errorf("after its hold the caller was sent %d packets in 300 ms", got)
	}
	return nil
}

// legsOf are the legs of a call, by user.
func (w *world) legsOf(call string) (map[string][]legShown, error) {
	var shown struct {
		Seats []struct {
			User string
			Legs []legShown
		}
	}
	err := w.JSON(&shown, "call", "show", call, "--json")
	all := map[string][]legShown{}
	for _, s := range shown.Seats {
		if len(s.Legs) == 0 {
			return nil, fmt.Errorf("%s has no leg", s.User)
		}
		all[s.User] = s.Legs
	}
	return all, err
}

// pressed has both sides of each call press keys, one after the other, and wants them heard at the other side.
func (w *world) pressed(pairs []*pair) {
	w.t.Helper()
	const keys = "15"
	for _, from := range []func(*pair) (*place, *place){
		func(p *pair) (*place, *place) { return p.caller, p.callee },
		func(p *pair) (*place, *place) { return p.callee, p.caller },
	} {
		steadily(w.t, func() (err error) {
			for _, p := range pairs {
				if _, to := from(p); to.heeds == nil {
					to.heard()
				}
			}
			for _, p := range pairs {
				a, _ := from(p)
				a.keys(keys)
			}
			pause(time.Second)
			for _, p := range pairs {
				a, to := from(p)
				if err2 := to.hasHeard(keys); err2 != nil {
					err = errors.Join(err, fmt.Errorf("%s: %s presses %s: %s has %w", p, a.name, keys, to.name, err2))
				}
			}
			return err
		})
	}
}

// hasHeard wants keys to be what was heard last.
func (p *place) hasHeard(keys string) error {
	if p.heeds == nil {
		if got := keysIn(p.heard()); got != keys {
			return fmt.Errorf("heard the keys %q", got)
		}
		return nil
	}
	for deadline := time.Now().Add(3 * time.Second); !p.heeds(keys); pause(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.New("not heard them")
		}
	}
	return nil
}

// keysIn are the keys that are heard in a recording as two tones each (ITU-T Q.23) for 35 ms or longer. Chromium plays 60 ms of a key that
// was pressed for 160.
func keysIn(samples []float64) string {
	const window = rate / 50
	low, high := []float64{697, 770, 852, 941}, []float64{1209, 1336, 1477, 1633}
	var keys strings.Builder
	last, same := byte(0), 0
	for i := 0; i+window <= len(samples); i += window / 4 {
		key := byte(0)
		if w := samples[i : i+window]; rms(w) > 300 {
			r, c := strongest(w, low), strongest(w, high)
			if a, b := share(w, low[r]), share(w, high[c]); a+b > 0.75 && math.Min(a, b) > 0.15 {
				key = "123A456B789C*0#D"[4*r+c]
			}
		}
		if key != last {
			last, same = key, 0
		}
		if same++; same == 4 && key != 0 {
			keys.WriteByte(key)
		}
	}
	return keys.String()
}

func strongest(samples, hz []float64) int {
	shares := make([]float64, len(hz))
	for i, f := range hz {
		shares[i] = share(samples, f)
	}
	return slices.Index(shares, slices.Max(shares))
}

// heldTone waits until those who are on hold have heard so: two beeps of 425 Hz, every five seconds.
func (w *world) heldTone(pairs []*pair) {
	w.t.Helper()
	heard := make([]time.Duration, len(pairs))
	w.Eventually(8*time.Second, "all who are on hold to hear it", func() (err error) {
		pause(300 * time.Millisecond)
		for i, p := range pairs {
			heard[i] += heardTone(p.callee.heard(), 425)
			if heard[i] < 100*time.Millisecond {
				err = errors.Join(err, fmt.Errorf("%s: it has heard the tone for %s", p, heard[i]))
			}
		}
		return err
	})
}

// deaf wants those who are on hold not to hear who holds.
func (w *world) deaf(pairs []*pair) {
	w.t.Helper()
	steadily(w.t, func() (err error) {
		for _, p := range pairs {
			p.callee.heard()
		}
		pause(500 * time.Millisecond)
		for _, p := range pairs {
			if got := heardTone(p.callee.heard(), p.caller.hz); got > 60*time.Millisecond {
				err = errors.Join(err, fmt.Errorf("%s: on hold it hears the other side for %s", p, got))
			}
		}
		return err
	})
}

// TestKeysAreFoundInSound proves the ear for keys.
func TestKeysAreFoundInSound(t *testing.T) {
	var samples []float64
	for _, hz := range [][2]float64{{697, 1209}, {440, 440}, {770, 1336}, {0, 0}, {941, 1477}} {
		for i := range rate / 8 {
			at := 2 * math.Pi * float64(i) / rate
			samples = append(samples, 3000*math.Sin(hz[0]*at)+3000*math.Sin(hz[1]*at))
		}
	}
	if got := keysIn(samples); got != "15#" {
		t.Errorf("found %q", got)
	}
}
