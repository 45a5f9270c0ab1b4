package call_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/test/phone"
)

// fourHours is a call that lives through four hours (of four seconds each) on alice's devices, one after the other.
type fourHours struct {
	*rig
	devices []*phone.Phone
	at      int // whose turn it is
	leg, in *phone.Call
}

// tenMoves are the ways in which the call goes on to the next device. Each gives the leg there.
var tenMoves = []struct {
	how  string
	move func(*fourHours) *phone.Call
}{
	{"API", func(h *fourHours) *phone.Call { return h.rung(h.api) }},
	{"pull by one's own number", func(h *fourHours) *phone.Call { return h.dials("101") }},
	{"*40", func(h *fourHours) *phone.Call { return h.dials("*40") }},
	{"REFER to one's own number", func(h *fourHours) *phone.Call { return h.rung(h.refers("101")) }},
	{"REFER to *41N", func(h *fourHours) *phone.Call { return h.rung(h.refers("*41" + h.next())) }},
	{"REFER to 101*N", func(h *fourHours) *phone.Call { return h.rung(h.refers("101*" + h.next())) }},
	{"Replaces", func(h *fourHours) *phone.Call {
		return h.dials("102", phone.DialOptions{Headers: []phone.Header{header("Replaces", h.leg.Replaces())}})
	}},
	{"push code while held", func(h *fourHours) *phone.Call {
		return h.rung(func() { dialCode(h.t, h.leg, "*41"+h.next()) })
	}},
	{"API after a change of network", func(h *fourHours) *phone.Call {
		since := time.Now()
		must(h.t, h.leg.Phone().Relocate(phone.Relocation{Addr: netip.MustParseAddr("127.0.0.9")}))
		must(h.t, second(h.leg.Phone().Register(10*time.Minute)))
		hearAgain(h.t, since, h.leg, h.in)
		return h.rung(h.api)
	}},
	{"recall", (*fourHours).recalled},
}

func (h *fourHours) next() string         { return string(rune('1' + (h.at+1)%len(h.devices))) }
func (h *fourHours) device() *phone.Phone { return h.devices[(h.at+1)%len(h.devices)] }

func (h *fourHours) api() {
	_, err := h.b.Move(context.Background(), call.MoveRequest{User: "alice", Device: h.next(), Who: "test", How: "api"})
	must(h.t, err)
}

func (h *fourHours) refers(to string) func() {
	return func() { must(h.t, second(h.leg.Refer(to))) }
}

// rung has a move ring the next device alone, which answers at once.
func (h *fourHours) rung(move func()) *phone.Call {
	h.t.Helper()
	for _, d := range h.devices {
		d.Behave(phone.Behaviour{Reject: 486})
		for len(d.Incoming()) > 0 { // calls of before, which it has refused
			<-d.Incoming()
		}
	}
	h.device().Behave(phone.Behaviour{Answer: true, Headers: []phone.Header{header("Session-Expires", "2;refresher=uac"), header("Require", "timer")}})
	move()
	c, err := h.device().Ringing(3 * time.Second)
	must(h.t, err)
	return c
}

func (h *fourHours) dials(to string, o ...phone.DialOptions) *phone.Call {
	h.t.Helper()
	opt := timed()
	for _, more := range o {
		opt.Headers = append(opt.Headers, more.Headers...)
	}
	c, err := h.device().Dial(to, opt)
	must(h.t, err)
	must(h.t, c.Await(3*time.Second))
	return c
}

// recalled transfers and hangs up; nobody takes the call, and it rings the transferor again.
func (h *fourHours) recalled() *phone.Call {
	for _, d := range h.devices {
		d.Behave(phone.Behaviour{})
	}
	must(h.t, second(h.leg.Refer("101*"+h.next())))
	must(h.t, second(h.device().Ringing(3*time.Second)))
	must(h.t, h.leg.Hangup())
	back, err := h.leg.Phone().Ringing(8 * time.Second)
	must(h.t, err)
	must(h.t, back.Answer())
	h.at-- // it stays where it was
	return back
}

// TestFourHoursOfMoves has a call live through four such hours with sessions that are refreshed on both sides, reports by RTCP,
// times of hold, and ten moves by different triggers: bob hears one stream to the end, and nothing is left of it.
func TestFourHoursOfMoves(t *testing.T) {
	if testing.Short() {
		t.Skip("-short")
	}
	t.Parallel()
	r := newRig(t, func(c *config.Config) {
		hurried(c)
		c.Call.Session, c.Call.SessionMin, c.Call.Ring = 2*time.Second, time.Second, 1500*time.Millisecond
	})
	r.user("alice", "101")
	r.user("bob", "102")
	h := &fourHours{rig: r}
	for n := range 3 {
		h.devices = append(h.devices, r.phone("alice", n+1))
	}
	bob := r.phone("bob", 1)
	bob.Behave(phone.Behaviour{Answer: true, Headers: []phone.Header{header("Session-Expires", "2;refresher=uac"), header("Require", "timer")}})
	var err error
	h.leg, err = h.devices[0].Dial("102", timed())
	must(t, err)
	must(t, h.leg.Await(3*time.Second))
	h.in, err = bob.Ringing(3 * time.Second)
	must(t, err)
	hearEachOther(t, h.leg, h.in)
	began := time.Now()
	for i, m := range tenMoves {
		old := h.leg
		h.leg = m.move(h)
		h.at++
		if !h.leg.Hears(h.in, 3*time.Second) || !h.in.Hears(h.leg, 3*time.Second) {
			t.Fatalf("after the move by %s the phones do not hear each other", m.how)
		}
		if err := old.AwaitEnd(5 * time.Second); err != nil {
			t.Fatalf("after the move by %s: %v", m.how, err)
		}
		if i%3 == 1 {
			must(t, afterGlare(func() error { return h.leg.Hold(phone.HoldSendonly) }))
			time.Sleep(hour / 10)
			must(t, afterGlare(h.leg.Resume))
		}
		time.Sleep(time.Until(began.Add(time.Duration(i+1) * 4 * hour / time.Duration(len(tenMoves)))))
	}
	hearEachOther(t, h.leg, h.in)
	h.refreshed(bob, time.Since(began))
	if rep := phone.Analyse(h.in.Media().Heard(), 8000); len(rep.SSRCs) != 1 || rep.Duplicates != 0 || rep.Missing > 60 { // what was said into the network that was left
		t.Errorf("bob was sent %v", rep)
	}
	if n := len(r.b.Calls("bob")[0].Moves); n < len(tenMoves) {
		t.Errorf("%d moves are told of", n)
	}
	must(t, h.in.Hangup())
	must(t, h.leg.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// afterGlare tries a change again as a phone does whose re-INVITE has met a refresh of ours (491, RFC 3261 §14.1).
func afterGlare(change func() error) error {
	for tries := 5; ; tries-- {
		err := change()
		if refused := (*phone.Status)(nil); !errors.As(err, &refused) || refused.Message.Code != 491 || tries == 0 {
			return err
		}
		time.Sleep(150 * time.Millisecond)
	}
}

// refreshed checks that bob's session was refreshed, and that the reports that he had by RTCP are of the one stream.
func (h *fourHours) refreshed(bob *phone.Phone, lasted time.Duration) {
	n := len(requestsTo(bob, "INVITE")) + len(requestsTo(bob, "UPDATE"))
	if least := int(lasted / (3 * time.Second)); n < least {
		h.t.Errorf("his session was refreshed %d times in %v", n, lasted)
	}
	reports := h.in.Media().Reports()
	var ssrcs []uint32
	last := uint32(0)
	for _, rep := range reports {
		if !slices.Contains(ssrcs, rep.SSRC) {
			ssrcs = append(ssrcs, rep.SSRC)
		}
		if rep.Packets < last {
			h.t.Errorf("a report counts %d packets after one of %d", rep.Packets, last)
		}
		last = rep.Packets
	}
	if len(ssrcs) != 1 || len(reports) < 2 {
		h.t.Errorf("%d reports of %d streams", len(reports), len(ssrcs))
	}
}
