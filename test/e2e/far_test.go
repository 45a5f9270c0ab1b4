package e2e

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
	"baton/test/wire"
)

// far is a party whose phones are all behind bad networks of their own.
type far struct {
	*party
	paths   map[*phone.Phone]*wire.Path
	reports []report
}

// The path of the acceptance: 100 ms each way, two in a hundred packets of sound lost.
var distant = wire.Ways{SIP: wire.Way{Delay: 100 * time.Millisecond}, Media: wire.Way{Delay: 100 * time.Millisecond, Loss: 0.02}}

// roundTrip is that of distant.
const roundTrip = 200 * time.Millisecond

func newFar(t *testing.T, ways wire.Ways, transports ...string) *far {
	t.Helper()
	f := &far{paths: map[*phone.Phone]*wire.Path{}}
	f.party = &party{world: newWorld(t)}
	f.bob = f.remote("bob", "far", ways, "udp")
	for i, transport := range transports {
		f.devices = append(f.devices, f.remote("alice", fmt.Sprintf("dev%c", 'a'+i), ways, transport))
	}
	f.bob.Behave(phone.AutoAnswer)
	leg := f.dial(f.devices[0], "bob")
	f.must(leg.Await(20 * time.Second))
	f.party.far, f.legs = f.ringing(f.bob), []*phone.Call{leg}
	f.talk(leg, f.party.far)
	f.since = time.Now()
	return f
}

// remote registers a phone behind a path.
func (f *far) remote(user, model string, ways wire.Ways, transport string) *phone.Phone {
	f.t.Helper()
	f.next++
	at := node.IP(f.next)
	path, err := wire.New(wire.Config{Phone: at, UDP: f.UDP, TCP: f.TCP, Up: ways, Down: ways, Seed: uint64(f.next)})
	f.must(err)
	f.t.Cleanup(path.Close)
	p, err := phone.New(phone.Config{
		User: user, Password: node.Password(user), Server: path.Server(), Domain: f.UDP.Addr().String(), Transport: transport, Addr: at,
		UserAgent: model + "/1.0", Instance: fmt.Sprintf("urn:uuid:00000000-0000-4000-8000-%012d", f.next), Phase: time.Duration(f.next) * time.Millisecond,
	})
	f.must(err)
	f.t.Cleanup(p.Close)
	f.paths[p] = path
	_, err = p.Register(10 * time.Minute)
	f.must(err)
	return p
}

// shift moves the call to another device, which answers by itself, and reads baton's figures.
func (f *far) shift(how string, to int) report {
	f.t.Helper()
	before := len(f.moves())
	old, device := f.leg(), f.devices[to]
	f.phase = (f.phase + 7*time.Millisecond) % phone.Frame
	device.SetPhase(f.phase)
	device.Behave(phone.Behaviour{Ringless: true})
	leg := f.trigger(how, old, device)
	f.legs, f.at = append(f.legs, leg), to
	if !leg.Hears(f.party.far, 5*time.Second) || !f.party.far.Hears(leg, 5*time.Second) {
		f.t.Fatalf("moved by %s: the new device and bob do not hear each other", how)
	}
	f.must(old.AwaitEnd(10 * time.Second))
	var r report
	f.Eventually(5*time.Second, "the figures of the move", func() error {
		all := f.moves()
		if len(all) <= before {
			return fmt.Errorf("%d moves are told", len(all))
		}
		r = *all[len(all)-1].Report
		return nil
	})
	return r
}

func (f *far) trigger(how string, old *phone.Call, device *phone.Phone) *phone.Call {
	f.t.Helper()
	switch how {
	case "cli":
		_, err := f.cli("--user", "alice", f.deviceOf(device).Instance)
		f.must(err)
	case "api":
		f.must(f.Post("/api/v1/moves", map[string]string{"user": "alice", "device": fmt.Sprint(f.deviceOf(device).Index)}, nil))
	case "refer":
		r, err := old.Refer(fmt.Sprintf("101*%d", f.deviceOf(device).Index))
		f.must(err)
		code, err := r.Wait(20 * time.Second)
		if f.must(err); code != 200 {
			f.t.Fatalf("REFER: told %d", code)
		}
	default:
		leg := f.dial(device, "101")
		f.must(leg.Await(20 * time.Second))
		return leg
	}
	return f.ringing(device)
}

type shownMove struct {
	Error  string
	Report *report
}

// moves are those that baton tells of the call.
func (f *far) moves() []shownMove {
	f.t.Helper()
	var shown struct{ Moves []shownMove }
	f.must(f.JSON(&shown, "call", "show", f.id(), "--json"))
	return slices.DeleteFunc(shown.Moves, func(m shownMove) bool { return m.Report == nil })
}

// tag names a numbered frame: who sent it, and which it is.
type tag struct {
	source  uint16
	counter uint32
}

// tagOf reads the number that a phone has written into a packet; false for a tone.
func tagOf(b []byte) (tag, bool) {
	if len(b) < 30 || binary.BigEndian.Uint32(b[12:]) != 0xb17e5ac3 {
		return tag{}, false
	}
	return tag{binary.BigEndian.Uint16(b[16:]), binary.BigEndian.Uint32(b[18:])}, true
}

// given are the packets of sound that reached the node's side of a path, or that left it: what the wire did to them
// afterwards does not matter.
func given(path *wire.Path, up bool) []wire.Packet {
	return slices.DeleteFunc(path.Packets(), func(p wire.Packet) bool { return p.Up != up || p.Kind != wire.RTP || up && p.Dropped })
}

// verdict is what a whole call came to.
type verdict struct {
	sent     phone.Report  // baton's stream to bob as it left the node
	dropped  int           // of alice's frames by her wires, between those that bob got
	lostFar  int           // of alice's frames by baton: they reached the node while their device was heard
	late     int           // either way, of those that the wire had held up until the switch was over
	lostNear int           // of bob's by baton
	byWire   int           // of all packets
	sip      []string      // that bob's phone was sent
	stall    time.Duration // longest time between two packets of a phone before the wire, beyond a frame: the machine's own
	still    time.Duration // the same of all that the phones said, one after the other: a clock that stands still takes the timestamps with it
}

// judge looks at what entered and left the node.
func (f *far) judge() verdict {
	f.t.Helper()
	now := time.Now()
	var v verdict
	out := given(f.paths[f.bob], false)
	v.sent = phone.Analyse(streamOf(out), 8000)
	passed := map[tag]bool{}
	for _, p := range out {
		if t, ok := tagOf(p.Data); ok {
			passed[t] = true
		}
	}
	v.countFar(f, passed)
	v.countNear(f, now)
	v.byWire = f.dropped()
	for _, path := range f.paths {
		said := map[uint32][]phone.Packet{} // alice's devices have the call at different times
		for _, p := range streamOf(slices.DeleteFunc(path.Packets(), func(p wire.Packet) bool { return !p.Up || p.Kind != wire.RTP })) {
			said[p.SSRC] = append(said[p.SSRC], p)
		}
		for _, own := range said {
			held := longestOf(own) - phone.Frame
			if v.stall = max(v.stall, held); held > phone.Frame {
				v.still += held
			}
		}
	}
	for _, m := range f.bob.Received(f.since) {
		if m.Method != "OPTIONS" || m.Get("Call-ID") == f.party.far.ID() {
			v.sip = append(v.sip, m.Line())
		}
	}
	return v
}

// dropped counts what the wires have let nobody have so far.
func (f *far) dropped() int {
	n := 0
	for _, path := range f.paths {
		for _, p := range path.Packets() {
			if p.Dropped {
				n++
			}
		}
	}
	return n
}

// countFar compares what alice's devices got through to the node with what the node sent to bob: between the first and the
// last frame of a device that he was sent, all are his.
func (v *verdict) countFar(f *far, passed map[tag]bool) {
	first, last := map[uint16]uint32{}, map[uint16]uint32{}
	for t := range passed {
		if n, ok := first[t.source]; !ok || t.counter < n {
			first[t.source] = t.counter
		}
		last[t.source] = max(last[t.source], t.counter)
	}
	for _, d := range f.devices {
		for _, p := range f.paths[d].Packets() {
			t, ok := tagOf(p.Data)
			if !ok || !p.Up || p.Kind != wire.RTP || t.counter <= first[t.source] || t.counter >= last[t.source] {
				continue
			}
			switch {
			case p.Dropped:
				v.dropped++
			case !passed[t] && p.Held:
				v.late++
			case !passed[t]:
				v.lostFar++
			}
		}
	}
}

// countNear looks for frames of bob's that reached the node and went to none of alice's devices.
func (v *verdict) countNear(f *far, now time.Time) {
	heard := map[tag]bool{}
	for _, d := range f.devices {
		for _, p := range given(f.paths[d], false) {
			if t, ok := tagOf(p.Data); ok {
				heard[t] = true
			}
		}
	}
	for _, p := range given(f.paths[f.bob], true) {
		if p.At.Before(f.since) || p.At.After(now.Add(-400*time.Millisecond)) {
			continue
		}
		t, ok := tagOf(p.Data)
		switch {
		case !ok || heard[t]:
		case p.Held:
			v.late++
		default:
			v.lostNear++
		}
	}
}

// streamOf reads RTP headers.
func streamOf(packets []wire.Packet) []phone.Packet {
	var all []phone.Packet
	for _, p := range packets {
		b := p.Data
		t, _ := tagOf(b)
		all = append(all, phone.Packet{
			At: p.At, Seq: binary.BigEndian.Uint16(b[2:]), TS: binary.BigEndian.Uint32(b[4:]), SSRC: binary.BigEndian.Uint32(b[8:]),
			Marker: b[1]&0x80 != 0, PT: b[1] & 0x7f, Source: t.source, Counter: t.counter, Exact: true,
		})
	}
	return all
}

// switches are the figures of all moves, sorted.
func switches(all []report) []time.Duration {
	var ds []time.Duration
	for _, r := range all {
		ds = append(ds, time.Duration(r.SwitchMS*float64(time.Millisecond)))
	}
	slices.Sort(ds)
	return ds
}

// TestMovesFarAway moves a call 24 times where every packet takes 100 ms and one of fifty is lost: baton must add no loss
// and no time of its own.
func TestMovesFarAway(t *testing.T) {
	t.Parallel()
	f := newFar(t, distant, "udp", "tcp")
	for i := range 24 {
		f.reports = append(f.reports, f.shift([]string{"cli", "api", "refer", "pull"}[i%4], 1-f.at))
	}
	pause(time.Second)
	v := f.judge()
	all := switches(f.reports)
	t.Logf("%d moves: switch_ms p50 %v, p95 %v, max %v; the wires dropped %d packets", len(all),
		phone.Quantile(all, 0.5), phone.Quantile(all, 0.95), all[len(all)-1], v.byWire)
	t.Logf("baton sent bob %s; alice's wires had dropped %d of these; lost by baton: %d and %d", v.sent, v.dropped, v.lostFar, v.lostNear)
	t.Logf("the machine stood still for up to %v", v.stall)
	if p95 := phone.Quantile(all, 0.95); p95 > 2*roundTrip+100*time.Millisecond+v.stall {
		t.Errorf("switch_ms p95 %v, limit %v", p95, 2*roundTrip+100*time.Millisecond)
	}
	if v.sent.Reordered != 0 || v.sent.Duplicates != 0 || v.sent.Missing != v.dropped {
		t.Errorf("bob's stream has %d missing (%d by the wires), %d out of order, %d twice", v.sent.Missing, v.dropped, v.sent.Reordered, v.sent.Duplicates)
	}
	f.oneStream(v, 25*time.Millisecond)
	f.over()
}

// TestMovesOverARestlessPath adds 30 ms of jitter, packets that overtake others and packets that come twice.
func TestMovesOverARestlessPath(t *testing.T) {
	t.Parallel()
	media := wire.Way{Delay: 100 * time.Millisecond, Jitter: 30 * time.Millisecond, Loss: 0.02, Duplicate: 0.01, Reorder: 0.03}
	f := newFar(t, wire.Ways{SIP: wire.Way{Delay: 100 * time.Millisecond, Jitter: 30 * time.Millisecond}, Media: media}, "udp", "tcp")
	for i := range 12 {
		f.reports = append(f.reports, f.shift([]string{"cli", "refer", "pull"}[i%3], 1-f.at))
	}
	pause(time.Second)
	v := f.judge()
	all := switches(f.reports)
	t.Logf("%d moves: switch_ms p50 %v, max %v; the wires dropped %d packets", len(all), phone.Quantile(all, 0.5), all[len(all)-1], v.byWire)
	t.Logf("baton sent bob %s; lost by baton: %d and %d, %d that came too late", v.sent, v.lostFar, v.lostNear, v.late)
	if v.late > len(f.reports) {
		t.Errorf("%d frames that were held up on the way were not passed on", v.late)
	}
	// The grid is that of the packet which a device was heard by first: the jitter may have held that up, and it may be one that others overtook.
	f.oneStream(v, 2*media.Jitter+wire.HeldUp+phone.Frame)
	f.over()
}

// TestLossySignalling loses and doubles one SIP datagram of ten in each direction: calls and moves come about all the same,
// each once.
func TestLossySignalling(t *testing.T) {
	t.Parallel()
	way := wire.Way{Delay: 20 * time.Millisecond, Loss: 0.1, Duplicate: 0.1}
	f := newFar(t, wire.Ways{SIP: way, Media: wire.Way{Delay: 20 * time.Millisecond}}, "udp", "udp")
	for i := 0; i < 12 || f.dropped() < 12 && i < 60; i++ { // twelve moves lose eight to sixteen as a rule, but now and then five
		f.reports = append(f.reports, f.shift([]string{"cli", "refer", "pull"}[i%3], 1-f.at))
		f.id() // one call is listed
	}
	v := f.judge()
	all := switches(f.reports)
	t.Logf("%d moves: switch_ms p50 %v, max %v; the wires dropped %d datagrams", len(all), phone.Quantile(all, 0.5), all[len(all)-1], v.byWire)
	if v.byWire < 12 {
		t.Errorf("the wires dropped %d datagrams in %d moves: nothing was tried", v.byWire, len(all))
	}
	f.oneStream(v, 25*time.Millisecond)
	f.over()
	f.noneLeft()
	for i := range 6 {
		f.callOnce(i)
	}
}

// callOnce makes a call and ends it; bob's phone must ring once for it.
func (f *far) callOnce(i int) {
	f.t.Helper()
	out := f.dial(f.devices[i%2], "bob")
	f.must(out.Await(20 * time.Second))
	in := f.ringing(f.bob)
	f.talk(out, in)
	f.id()
	f.must(out.Hangup())
	f.must(in.AwaitEnd(10 * time.Second))
	select {
	case again := <-f.bob.Incoming():
		f.t.Errorf("bob's phone rang a second time: %s", again.ID())
	default:
	}
	f.noneLeft()
}

// noneLeft waits until the node has let go of every call: a phone hears of its end at once, the node that the phone has
// heard of it only when an answer to one of its BYEs gets through.
func (f *far) noneLeft() {
	f.t.Helper()
	f.Eventually(10*time.Second, "no call to be listed", func() error {
		var calls []struct{ ID, State string }
		if err := f.JSON(&calls, "calls", "--json"); err != nil || len(calls) == 0 {
			return err
		}
		return fmt.Errorf("baton calls lists %v", calls)
	})
}

// oneStream checks what holds on every network.
func (f *far) oneStream(v verdict, drift time.Duration) {
	f.t.Helper()
	if v.lostFar != 0 || v.lostNear != 0 {
		f.t.Errorf("baton lost %d frames to bob and %d to alice", v.lostFar, v.lostNear)
	}
	if len(v.sent.SSRCs) != 1 || v.sent.Tones != 0 || v.sent.Drift > drift+max(v.stall, v.still) {
		f.t.Errorf("bob's stream: %s; the machine stood still for up to %v, in all %v", v.sent, v.stall, v.still)
	}
	if len(v.sip) > 0 {
		f.t.Errorf("bob's phone was sent %s", strings.Join(v.sip, ", "))
	}
}
