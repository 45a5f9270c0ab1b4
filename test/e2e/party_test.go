package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// party is a live call between bob's only phone and one of alice's three, which is to be moved.
type party struct {
	*world
	devices []*phone.Phone // alice's
	bob     *phone.Phone
	far     *phone.Call   // on bob's phone
	legs    []*phone.Call // on alice's devices, the newest last
	at      int           // which of the devices has the call
	since   time.Time     // when both sides heard each other first
	deaf    time.Time     // until then alice was not to hear bob, for she held
	phase   time.Duration
}

func newParty(t *testing.T, o ...node.Options) *party {
	t.Helper()
	w := newWorld(t, o...)
	p := &party{world: w, bob: w.phone("bob", "far")}
	for i, transport := range []string{"udp", "tcp", "udp"} {
		p.devices = append(p.devices, w.phone("alice", fmt.Sprintf("dev%c", 'a'+i), over(transport)))
	}
	p.bob.Behave(phone.AutoAnswer)
	leg := w.dial(p.devices[0], "bob")
	w.must(leg.Await(5 * time.Second))
	p.far, p.legs = w.ringing(p.bob), []*phone.Call{leg}
	w.talk(leg, p.far)
	p.since = time.Now()
	return p
}

func (p *party) leg() *phone.Call { return p.legs[len(p.legs)-1] }

// report is what baton move --json prints.
type report struct {
	From          string  `json:"from"`
	To            string  `json:"to"`
	SwitchMS      float64 `json:"switch_ms"`
	RingMS        float64 `json:"ring_ms"`
	AnswerToMedia float64 `json:"answer_to_media"`
	HeldMS        float64 `json:"held_ms"`
	Far, Near     struct {
		GapMS float64 `json:"gap_ms"`
		Lost  int     `json:"lost"`
	}
}

// The ways to move a call to a device. The first two are asked for by somebody else, then come the old and the new device.
var ways = []string{"cli", "cli --user", "refer", "refer *41", "pull", "pull *40", "replaces"}

// move brings the call to another of alice's devices and waits until it has arrived; answered is what the device does.
func (p *party) move(how string, to int, answered phone.Behaviour) {
	p.t.Helper()
	old, device := p.leg(), p.devices[to]
	p.phase = (p.phase + time.Duration(len(p.legs)%20)*time.Millisecond) % phone.Frame // 1 ms further from the old one's at each move
	device.SetPhase(p.phase)
	device.Behave(answered)
	var leg *phone.Call
	var err error
	switch how {
	case "cli":
		_, err = p.cli(p.id(), p.deviceOf(device).Instance)
	case "cli --user":
		_, err = p.cli("--user", "alice", fmt.Sprint(p.deviceOf(device).Index))
	case "refer":
		err = p.refer(fmt.Sprintf("101*%d", p.deviceOf(device).Index), 200)
	case "refer *41":
		err = p.refer(fmt.Sprintf("*41%d", p.deviceOf(device).Index), 200)
	case "pull":
		leg, err = device.Dial("101")
	case "pull *40":
		leg, err = device.Dial("*40")
	case "replaces":
		leg, err = device.Dial("102", phone.DialOptions{Headers: []phone.Header{{Name: "Replaces", Value: old.Replaces()}}})
	}
	if err == nil && leg != nil {
		err = leg.Await(5 * time.Second)
	}
	if err != nil {
		p.t.Fatalf("move by %s: %v", how, err)
	}
	if leg == nil {
		leg = p.ringing(device)
	}
	p.arrived(how, leg, to)
}

// arrived takes the new leg for the one that has the call, when it does and the old one is gone.
func (p *party) arrived(how string, leg *phone.Call, to int) {
	p.t.Helper()
	old := p.leg()
	p.legs, p.at = append(p.legs, leg), to
	if !leg.Hears(p.far, 2*time.Second) || !p.far.Hears(leg, 2*time.Second) {
		p.t.Fatalf("moved by %s: the new device and bob do not hear each other", how)
	}
	if err := old.AwaitEnd(3 * time.Second); err != nil {
		p.t.Fatalf("moved by %s: %v", how, err)
	}
}

// cli moves by the command line; a refused move is an error with the text that people see.
func (p *party) cli(args ...string) (report, error) {
	var r report
	err := p.JSON(&r, append(append([]string{"move"}, args...), "--json")...)
	return r, err
}

// refer transfers the call from the device that has it, and checks what that device is told.
func (p *party) refer(to string, want int) error {
	r, err := p.leg().Refer(to)
	if err != nil {
		return err
	}
	code, err := r.Wait(10 * time.Second)
	if err == nil && code != want {
		err = fmt.Errorf("REFER to %s: told %d, want %d", to, code, want)
	}
	return err
}

// logged checks what the log says of the one move of a kind.
func (p *party) logged(kind string, want map[string]string) {
	p.t.Helper()
	var entries []struct {
		Kind string
		Data map[string]string
	}
	p.must(p.JSON(&entries, "log", "--json"))
	for _, e := range entries {
		if e.Kind != kind {
			continue
		}
		for key, value := range want {
			if e.Data[key] != value {
				p.t.Errorf("log of %s: %s is %q, want %q", kind, key, e.Data[key], value)
			}
		}
		return
	}
	p.t.Errorf("the log has no %s", kind)
}

// counted checks lines of what Prometheus is shown.
func (p *party) counted(lines ...string) {
	p.t.Helper()
	text, err := p.Get("/metrics")
	p.must(err)
	for _, line := range lines {
		if !strings.Contains(string(text), "\n"+line+"\n") {
			p.t.Errorf("/metrics has no line %s", line)
		}
	}
}

// id is the call's id as baton calls lists it.
func (p *party) id() string {
	p.t.Helper()
	var calls []struct{ ID string }
	p.must(p.JSON(&calls, "calls", "--json"))
	if len(calls) != 1 {
		p.t.Fatalf("baton calls lists %v", calls)
	}
	return calls[0].ID
}

// unbroken checks all that a move promises: bob's stream is one, complete and on time, his phone was sent no SIP message,
// and nothing that he said was lost on its way to alice's devices.
func (p *party) unbroken(limit time.Duration) {
	p.t.Helper()
	pause(300 * time.Millisecond) // what is wrong may show a little later
	now := time.Now()
	p.whole(p.far, p.since, limit, 25*time.Millisecond)
	var listeners []*phone.Media
	for _, l := range p.legs {
		listeners = append(listeners, l.Media())
	}
	from := p.since.Add(100 * time.Millisecond)
	if p.deaf.After(from) {
		from = p.deaf
	}
	lost := phone.Lost(p.far.Media(), from, now.Add(-100*time.Millisecond), listeners...)
	if len(lost) > 0 {
		p.t.Errorf("%d of bob's frames reached none of alice's devices: %v", len(lost), lost)
	}
}

// whole checks what a move promises to the far side: one complete stream on time, and no SIP message since both sides heard each
// other. Its gaps and its timestamps may be off by so much.
func (w *world) whole(far *phone.Call, since time.Time, limit, drift time.Duration) {
	w.t.Helper()
	r := phone.Analyse(far.Media().Heard(), 8000)
	if r.Missing != 0 || r.Reordered != 0 || r.Duplicates != 0 || len(r.SSRCs) != 1 || r.Changed != 0 {
		w.t.Errorf("bob's stream is broken: %s", r)
	}
	if r.Drift > drift {
		w.t.Errorf("bob's timestamps are not true to the clock: %s", r)
	}
	gap, at := phone.LongestGap(far.Media().Heard(), since, time.Now().Add(-50*time.Millisecond))
	if gap > limit {
		w.t.Errorf("bob heard nothing for %s at %s, limit %s", gap, at.Sub(since), limit)
	}
	for _, m := range far.Phone().Received(since) {
		if m.Method == "OPTIONS" && m.Get("Call-ID") != far.ID() {
			continue // is the phone there? that has nothing to do with the call
		}
		w.t.Errorf("bob's phone was sent %s (%s)", m.Line(), m.Get("CSeq"))
	}
	w.t.Logf("bob heard %s; longest gap %s", r, gap.Round(100*time.Microsecond))
}

// toneHeard says whether a tone was played to bob since the call was up.
func (p *party) toneHeard() bool {
	for _, k := range phone.Between(p.far.Media().Heard(), p.since, time.Now()) {
		if k.Source == 0 && k.Event == nil {
			return true
		}
	}
	return false
}

// over hangs up from bob's side and waits for the end at alice's.
func (p *party) over() {
	p.t.Helper()
	p.must(p.far.Hangup())
	p.ended(p.leg())
}

// asBefore checks that a move which failed has left the call with the device that had it.
func (p *party) asBefore() {
	p.t.Helper()
	if s := p.leg().State(); s != phone.Up {
		p.t.Fatalf("the old device's leg is %s", s)
	}
	p.talk(p.leg(), p.far)
	if p.toneHeard() {
		p.t.Error("bob was played a tone")
	}
	p.unbroken(200 * time.Millisecond)
}
