package call_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/test/phone"
)

// The matrix of docs/moves.md: every trigger, in every state of the call, with every way in which the other device takes it. The
// test plays what is written here and wants the document to say the same.

// taking is what the device does that the call is to go to.
type taking string

const (
	byHand   taking = "answered by hand"
	ringless taking = "ring-less"
	refused  taking = "refused"
	timeout  taking = "timeout"
)

var answers = []taking{byHand, ringless, refused, timeout}

// becomes is a cell: what becomes of the call.
type becomes string

const (
	moves  becomes = "moves"
	atOnce becomes = "moves without a hand"
	rings  becomes = "is not asked: rings, moves by hand"
	no486  becomes = "stays, 486"
	no480  becomes = "stays, 480"
	no488  becomes = "stays, 488: no codec in common"
	gone   becomes = "stays: the device is gone"
	none   becomes = "–"

	// of a call that rings for alice
	there     becomes = "is answered there"
	thereSelf becomes = "is answered there without a hand"
	on486     becomes = "rings on, 486"
	on488     becomes = "rings on, 488: no codec in common"
	over480   becomes = "rings on until `call.ring` is over"
	inNoCall  becomes = "rings on, 404: that phone is in no call"
)

// occasion is one cell being played: alice's call with bob is on old and is to go to desk.
type occasion struct {
	*rig
	old, desk, bob *phone.Phone
	out, in        *phone.Call // old's and bob's
	want           becomes
	told           chan int // the status that the trigger is told
}

// trigger is a way to ask for a move. Pushes have desk rung and tell what became of it; pulls are dialled on desk.
type trigger struct {
	name string
	one  bool // it names the one device
	push func(*occasion)
	pull func(*occasion, phone.DialOptions) (*phone.Call, error)
}

var triggersOfMatrix = []trigger{
	{name: "`baton move`, API", one: true, push: (*occasion).byAPI},
	{name: "transfer to one's own number", push: referTo("101")},
	{name: "transfer to `*41`", push: referTo("*41")},
	{name: "transfer to `*41N`", one: true, push: referTo("*412")},
	{name: "transfer to `101*N`", one: true, push: referTo("101*2")},
	{name: "transfer to a device's GRUU", one: true, push: (*occasion).referToGRUU},
	{name: "`*41` as a second call", push: dialAside("*41")},
	{name: "`*41N` as a second call", one: true, push: dialAside("*412")},
	{name: "one's own number dialled", pull: dialled("101")},
	{name: "`*40`", pull: dialled("*40")},
	{name: "`*401`", pull: dialled("*401")},
	{name: "INVITE with Replaces", pull: byReplaces},
}

// expected is what the matrix says of a trigger: the same for a call that is talking and one that is held.
func (g trigger) expected() map[taking]becomes {
	switch {
	case g.pull != nil:
		return map[taking]becomes{byHand: moves, ringless: none, refused: no488, timeout: gone}
	case g.one:
		return map[taking]becomes{byHand: moves, ringless: atOnce, refused: no486, timeout: no480}
	}
	return map[taking]becomes{byHand: moves, ringless: rings, refused: no486, timeout: no480}
}

// expectedRinging is what the matrix says of a trigger while the call rings at alice's phones. A phone that rings is in no dialog
// that a transfer could be sent in.
func (g trigger) expectedRinging() map[taking]becomes {
	switch {
	case g.pull != nil:
		return map[taking]becomes{byHand: there, ringless: none, refused: on488, timeout: none}
	case strings.Contains(g.name, "second call"):
		return map[taking]becomes{byHand: inNoCall, ringless: inNoCall, refused: inNoCall, timeout: inNoCall}
	case strings.HasPrefix(g.name, "transfer"):
		return map[taking]becomes{byHand: none, ringless: none, refused: none, timeout: none}
	}
	return map[taking]becomes{byHand: there, ringless: thereSelf, refused: on486, timeout: over480}
}

func (o *occasion) byAPI() {
	go func() {
		_, err := o.b.Move(o.t.Context(), call.MoveRequest{User: "alice", Device: "2", How: "api"})
		o.tell(codeOfMove(err))
	}()
}

// codeOfMove is the SIP status in the error that a move's caller gets.
func codeOfMove(err error) int {
	var r *call.Refusal
	switch {
	case err == nil:
		return 200
	case errors.As(err, &r):
		return r.Code
	}
	return 0
}

func (o *occasion) tell(code int) { o.told <- code }

func referTo(place string) func(*occasion) {
	return func(o *occasion) {
		ref, err := o.out.Refer(place)
		must(o.t, err)
		go func() {
			code, _ := ref.Wait(8 * time.Second)
			o.tell(code)
		}()
	}
}

func (o *occasion) referToGRUU() {
	referTo("sip:alice@" + o.server.String() + ";gr=" + o.desk.Config().Instance)(o)
}

// dialAside has the old phone dial a code as a second call: where the move fails it hears the tone for that, else both its calls end.
func dialAside(code string) func(*occasion) {
	return func(o *occasion) {
		second, err := o.old.Dial(code)
		must(o.t, err)
		go func() {
			_ = second.AwaitEnd(10 * time.Second)
			select {
			case <-o.out.Done():
				o.tell(200)
			case <-time.After(time.Second):
				o.tell(0) // a phone in a call has no status to be told
			}
		}()
	}
}

func dialled(number string) func(*occasion, phone.DialOptions) (*phone.Call, error) {
	return func(o *occasion, d phone.DialOptions) (*phone.Call, error) { return o.desk.Dial(number, d) }
}

func byReplaces(o *occasion, d phone.DialOptions) (*phone.Call, error) {
	d.Headers = append(d.Headers, phone.Header{Name: "Replaces", Value: o.out.Replaces()})
	return o.desk.Dial("102", d)
}

// TestMatrix plays each cell.
func TestMatrix(t *testing.T) {
	t.Parallel()
	var cells sync.WaitGroup
	defer cells.Wait()
	room := make(chan struct{}, 16) // they wait far more than they compute
	for _, g := range triggersOfMatrix {
		for _, held := range []bool{false, true} {
			for _, a := range answers {
				want := g.expected()[a]
				if want == none {
					continue
				}
				cells.Go(func() {
					room <- struct{}{}
					defer func() { <-room }()
					t.Run(fmt.Sprintf("%s/held %v/%s", g.name, held, a), func(t *testing.T) { playCell(t, g, held, a, want) })
				})
			}
		}
		for _, a := range answers {
			want := g.expectedRinging()[a]
			if want == none {
				continue
			}
			cells.Go(func() {
				room <- struct{}{}
				defer func() { <-room }()
				t.Run(fmt.Sprintf("%s/ringing/%s", g.name, a), func(t *testing.T) { playRinging(t, g, a, want) })
			})
		}
	}
}

// playRinging plays a cell of a call that rings at both of alice's phones.
func playRinging(t *testing.T, g trigger, a taking, want becomes) {
	r := newRig(t, func(c *config.Config) {
		if c.Call.Ring = 2500 * time.Millisecond; want == inNoCall { // the tone before the 404 takes three seconds
			c.Call.Ring = 8 * time.Second
		}
	})
	r.user("alice", "101")
	r.user("bob", "102")
	o := &occasion{rig: r, old: r.phone("alice", 1), desk: r.phone("alice", 2), bob: r.phone("bob", 1), want: want, told: make(chan int, 1)}
	o.desk.Behave(phone.Behaviour{Ringless: a == ringless})
	var err error
	o.in, err = o.bob.Dial("101")
	must(t, err)
	o.out, err = o.old.Ringing(3 * time.Second)
	must(t, err)
	first, err := o.desk.Ringing(3 * time.Second)
	must(t, err)
	r.eventually("both ring, and the node knows", 3*time.Second, func() bool {
		ringing := 0
		for _, leg := range r.b.LegsOf("alice") {
			if strings.HasPrefix(leg, "alice ") && strings.HasSuffix(leg, " ringing") {
				ringing++
			}
		}
		return o.out.State() == phone.Alerting && first.State() == phone.Alerting && ringing == 2
	})
	taken := o.askedWhileRinging(g, a)
	if want == over480 {
		must(t, o.in.AwaitEnd(4*time.Second))
		r.nothingLeft()
		return
	}
	if taken == nil {
		if o.out.State() != phone.Alerting {
			t.Fatalf("the other phone is %s", o.out.State())
		}
		must(t, o.out.Answer())
		taken = o.out
	}
	must(t, o.in.Await(3*time.Second))
	if !taken.Hears(o.in, 3*time.Second) || !o.in.Hears(taken, 3*time.Second) {
		t.Errorf("bob and %s do not hear each other", taken.Phone().Config().UserAgent)
	}
	for _, c := range []*phone.Call{o.out, first} {
		if c != taken {
			must(t, c.AwaitEnd(3*time.Second))
		}
	}
	if rep := phone.Analyse(o.in.Media().Heard(), 8000); rep.Missing+rep.Reordered+rep.Duplicates+rep.Changed > 0 || len(rep.SSRCs) != 1 {
		t.Errorf("bob's stream is broken: %s", rep)
	}
	must(t, o.in.Hangup())
	r.nothingLeft()
}

// askedWhileRinging asks for the move and returns desk's leg where that has taken the call.
func (o *occasion) askedWhileRinging(g trigger, a taking) *phone.Call {
	o.t.Helper()
	if g.pull != nil {
		return o.pulled(g, a)
	}
	if o.want == inNoCall {
		second, err := o.old.Dial(strings.Fields(strings.ReplaceAll(strings.ReplaceAll(g.name, "`", ""), "N", "2"))[0])
		must(o.t, err)
		must(o.t, second.AwaitEnd(8*time.Second))
		if code := second.Final().Code; code != 404 {
			o.t.Errorf("the second call was told %d", code)
		}
		return nil
	}
	if a == refused {
		o.desk.Behave(phone.Behaviour{Reject: 486})
	}
	g.push(o)
	again, err := o.desk.Ringing(3 * time.Second)
	must(o.t, err)
	if !asksRingless(again.Invite()) {
		o.t.Error("it was not asked to answer by itself")
	}
	if a == byHand {
		must(o.t, again.Answer())
	}
	if code, want := <-o.told, map[becomes]int{there: 200, thereSelf: 200, on486: 486, over480: 480}[o.want]; code != want {
		o.t.Errorf("the trigger was told %d, want %d", code, want)
	}
	if o.want == there || o.want == thereSelf {
		return again
	}
	return nil
}

// playCell plays one cell, and checks who has the call after it and that bob's stream was one all the while.
func playCell(t *testing.T, g trigger, held bool, a taking, want becomes) {
	r := newRig(t, func(c *config.Config) { c.Call.Ring = 1500 * time.Millisecond })
	r.user("alice", "101")
	r.user("bob", "102")
	o := &occasion{rig: r, old: r.phone("alice", 1), desk: r.phone("alice", 2), bob: r.phone("bob", 1), want: want, told: make(chan int, 1)}
	o.out, o.in = r.connect(o.old, o.bob)
	since := time.Now()
	if held {
		must(t, o.out.Hold(phone.HoldSendonly))
	}
	var taken *phone.Call
	if g.push != nil {
		taken = o.pushed(g, a)
	} else {
		taken = o.pulled(g, a)
	}
	o.settled(taken, held)
	for _, m := range o.bob.Received(since) {
		if m.Method != "" {
			t.Errorf("bob's phone was sent %s", m.Line())
		}
	}
	if rep := phone.Analyse(phone.Between(o.in.Media().Heard(), since, time.Now()), 8000); rep.Missing+rep.Reordered+rep.Duplicates+rep.Changed > 0 || len(rep.SSRCs) != 1 {
		t.Errorf("bob's stream is broken: %s", rep)
	}
	must(t, o.in.Hangup())
	if want == gone {
		r.eventually("the BYE to the device that is gone is given up", 15*time.Second, func() bool { return r.engine.OpenStreams() == 0 })
	}
	r.nothingLeft()
}

// pushed asks for the move and has desk do what the cell says. It returns desk's leg where that has taken the call.
func (o *occasion) pushed(g trigger, a taking) *phone.Call {
	o.t.Helper()
	o.desk.Behave(map[taking]phone.Behaviour{
		byHand: {Answer: true, After: 200 * time.Millisecond}, ringless: {Ringless: true}, refused: {Reject: 486}, timeout: {},
	}[a])
	began := time.Now()
	g.push(o)
	leg, err := o.desk.Ringing(3 * time.Second)
	must(o.t, err)
	if asked := asksRingless(leg.Invite()); asked != g.one {
		o.t.Errorf("it was asked to answer by itself: %v, want %v", asked, g.one)
	}
	if o.want == rings {
		time.Sleep(200 * time.Millisecond)
		must(o.t, leg.Answer())
	}
	code := <-o.told
	switch o.want {
	case moves, atOnce, rings:
		must(o.t, leg.Await(2*time.Second))
		if code != 200 {
			o.t.Errorf("the trigger was told %d", code)
		}
		if o.want == atOnce && leg.Times().Answered.Sub(began) > 5*300*time.Millisecond {
			o.t.Errorf("it answered after %v", leg.Times().Answered.Sub(began))
		}
		return leg
	}
	if want := map[becomes]int{no486: 486, no480: 480}[o.want]; code != want && code != 0 {
		o.t.Errorf("the trigger was told %d, want %d", code, want)
	}
	must(o.t, leg.AwaitEnd(3*time.Second))
	return nil
}

// pulled dials on desk, in the way that the cell says.
func (o *occasion) pulled(g trigger, a taking) *phone.Call {
	o.t.Helper()
	var d phone.DialOptions
	if a == refused {
		d.Codecs = []phone.Codec{{PT: 18, Name: "G729", Rate: 8000}}
	}
	leg, err := g.pull(o, d)
	must(o.t, err)
	leg.Media().Mute(a == timeout)
	err = leg.Await(3 * time.Second)
	switch a {
	case byHand:
		must(o.t, err)
		return leg
	case refused:
		if status := (*phone.Status)(nil); !errors.As(err, &status) || status.Message.Code != 488 {
			o.t.Errorf("it was told %v, want 488", err)
		}
	case timeout:
		o.desk.Vanish()
		o.eventually("the node gives the device up", 30*time.Second, func() bool {
			calls := o.b.Calls("alice")
			return len(calls) == 1 && len(calls[0].Seats[0].Legs) == 1
		})
	}
	return nil
}

// settled checks who has the call: taken, else the old phone as before.
func (o *occasion) settled(taken *phone.Call, held bool) {
	o.t.Helper()
	leg := o.out
	if taken != nil {
		leg = taken
		must(o.t, o.out.AwaitEnd(3*time.Second))
	} else if held {
		if o.out.State() != phone.Up || !o.in.HearsTone(2*time.Second) {
			o.t.Errorf("the call is not on hold any more")
		}
		must(o.t, o.out.Resume())
	}
	if !leg.Hears(o.in, 3*time.Second) || !o.in.Hears(leg, 3*time.Second) {
		o.t.Errorf("bob and %s do not hear each other", leg.Phone().Config().UserAgent)
	}
	if calls := o.b.Calls("alice"); len(calls) != 1 || len(calls[0].Seats) != 2 || len(calls[0].Seats[0].Legs) != 1 {
		o.t.Errorf("the node lists %+v", calls)
	}
}

// TestMatrixIsDocumented wants each row in docs/moves.md.
func TestMatrixIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/moves.md")
	must(t, err)
	for _, g := range triggersOfMatrix {
		for state, expected := range map[string]map[taking]becomes{"talking, held": g.expected(), "ringing": g.expectedRinging()} {
			row := "| " + g.name + " | " + state + " |"
			for _, a := range answers {
				row += fmt.Sprintf(" %s |", expected[a])
			}
			if !strings.Contains(string(text), "\n"+row+"\n") {
				t.Errorf("docs/moves.md has no row\n%s", row)
			}
		}
	}
}
