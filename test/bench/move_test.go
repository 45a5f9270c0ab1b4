package bench

import (
	"fmt"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// The limits of a move in relay, DESIGN §10 and §11.
const (
	gapOverControl = time.Millisecond
	gapP50         = 22 * time.Millisecond
	gapP95         = 35 * time.Millisecond
	gapMax         = 42 * time.Millisecond
	mediaP50       = 25 * time.Millisecond
	mediaP95       = 45 * time.Millisecond
	stall          = 30 * time.Millisecond // a control stream with a longer gap was held up by the machine
	mostStalls     = 0.05                  // of the moves; with more the machine is too busy to judge by
)

// The window round a switch in which gaps are looked for.
const before, after = 100 * time.Millisecond, 500 * time.Millisecond

// moved is one move as the phones saw it.
type moved struct {
	how     string
	at      time.Time     // first frame of the new device at the far side
	gap     time.Duration // longest time between two packets at the far side
	control time.Duration // the same of the call beside it, through the same node
	direct  time.Duration // the same of two phones that call each other without a node
	media   time.Duration // answer → both directions on the new device
	asked   time.Duration // trigger → both directions on the new device
}

// bench is a live call that is moved to and fro, and one beside it that is not.
type bench struct {
	t       *testing.T
	node    *node.Node
	devices []*phone.Phone
	bob     *phone.Phone
	far     *phone.Call
	control *phone.Call
	direct  *phone.Call
	legs    []*phone.Call
	index   []int
	since   time.Time
	phase   time.Duration
	moves   []moved
	done    []moved // of all series
	series  int
	tick    time.Duration // by which a relay with much to do may be later; 0 = it is judged by the call beside
}

// newBench makes the call's users and their phones; change is of alice's.
func newBench(t *testing.T, change ...func(*phone.Config)) *bench {
	return newBenchOn(t, node.Start(t, node.Options{Users: benchUsers}), change...)
}

var benchUsers = map[string]string{"alice": "101", "bob": "102", "carol": "103", "dave": "104"}

// newBenchOn is one on a node that has these users.
func newBenchOn(t *testing.T, n *node.Node, change ...func(*phone.Config)) *bench {
	b := &bench{t: t, node: n}
	for i := range 2 {
		b.devices = append(b.devices, newPhone(t, n, "alice", fmt.Sprintf("dev%c", 'a'+i), change...))
		b.devices[i].Behave(phone.AutoAnswer)
	}
	var list []struct {
		Instance string
		Index    int
	}
	must(t, n.JSON(&list, "devices", "alice", "--json"))
	for _, d := range b.devices {
		for _, l := range list {
			if l.Instance == d.Config().Instance {
				b.index = append(b.index, l.Index)
			}
		}
	}
	b.bob = newPhone(t, n, "bob", "far", change...)
	carol, dave := newPhone(t, n, "carol", "one"), newPhone(t, n, "dave", "other", func(c *phone.Config) { c.Phase = 9 * time.Millisecond })
	_, b.control = connect(t, carol, "dave", dave)
	b.direct = callDirectly(t)
	return b
}

// callDirectly is a call of two phones with no node between them, at the side that was called.
func callDirectly(t *testing.T) *phone.Call {
	var ends []*phone.Phone
	for i, user := range []string{"straight", "direct"} {
		p, err := phone.New(phone.Config{User: user, Addr: node.IP(19 + i), Phase: 5 * time.Millisecond})
		must(t, err)
		t.Cleanup(p.Close)
		ends = append(ends, p)
	}
	ends[1].Behave(phone.AutoAnswer)
	out, err := ends[0].Dial(ends[1].Contact())
	must(t, err)
	must(t, out.Await(5*time.Second))
	in, err := ends[1].Ringing(time.Second)
	must(t, err)
	return in
}

func (b *bench) begin() {
	leg, far := connect(b.t, b.devices[0], "bob", b.bob)
	b.far, b.legs, b.moves, b.since = far, []*phone.Call{leg}, nil, time.Now()
	b.devices[0].Behave(phone.AutoAnswer)
	time.Sleep(time.Second) // a second of talk before the first move
}

func (b *bench) leg() *phone.Call { return b.legs[len(b.legs)-1] }

var ways = []string{"cli", "refer", "pull", "replaces"}

// move brings the call to the other device; answered is what that does.
func (b *bench) move(how string, answered phone.Behaviour) {
	b.t.Helper()
	to := len(b.legs) % 2
	device, old := b.devices[to], b.leg()
	b.phase = (b.phase + time.Duration(len(b.legs)%20)*time.Millisecond) % phone.Frame // 1 ms further from the old one's at each move
	device.SetPhase(b.phase)
	device.Behave(answered)
	asked := time.Now()
	leg, err := b.ask(how, device, to)
	if err == nil && leg == nil {
		leg, err = device.Ringing(5 * time.Second)
	}
	if err == nil {
		err = leg.Await(5*time.Second + answered.After)
	}
	if err != nil {
		b.t.Fatalf("move %d by %s: %v", len(b.legs), how, err)
	}
	m := moved{how: how}
	first, ok := b.far.Media().Await(b.since, 5*time.Second, func(p phone.Packet) bool { return p.Source == leg.Media().Source() })
	heard, also := leg.Media().Await(b.since, 5*time.Second, func(p phone.Packet) bool { return p.Source == b.far.Media().Source() })
	if !ok || !also {
		b.t.Fatalf("move %d by %s: no sound on the new device", len(b.legs), how)
	}
	m.at = first.At
	m.media, m.asked = later(first.At, heard.At).Sub(leg.Times().Answered), later(first.At, heard.At).Sub(asked)
	b.legs = append(b.legs, leg)
	b.moves = append(b.moves, m)
	must(b.t, old.AwaitEnd(5*time.Second))
	apart := time.Duration(len(b.legs)*7370%20000) * time.Microsecond          // so that moves are asked for at any time of a frame
	time.Sleep(max(0, time.Until(m.at.Add(after+150*time.Millisecond+apart)))) // the windows of two moves do not overlap
}

// ask triggers a move; the two ways of the new device give its call.
func (b *bench) ask(how string, device *phone.Phone, to int) (*phone.Call, error) {
	switch how {
	case "cli":
		failed := make(chan error, 1)
		go func() {
			failed <- b.node.Post("/api/v1/moves", map[string]string{"user": "alice", "device": fmt.Sprint(b.index[to]), "how": "cli"}, nil)
		}()
		leg, err := device.Ringing(5 * time.Second)
		if err != nil {
			return nil, <-failed
		}
		return leg, nil
	case "refer":
		_, err := b.leg().Refer(fmt.Sprintf("101*%d", b.index[to]))
		return nil, err
	case "replaces":
		return device.Dial("102", phone.DialOptions{Headers: []phone.Header{{Name: "Replaces", Value: b.leg().Replaces()}}})
	}
	return device.Dial("101")
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// finish ends a series: it looks at the whole stream and adds the moves' gaps to those of the other series.
func (b *bench) finish(from time.Duration) {
	b.t.Helper()
	b.series++
	heard, control, direct := b.far.Media().Heard(), b.control.Media().Heard(), b.direct.Media().Heard()
	for _, m := range b.moves {
		m.gap, _ = phone.LongestGap(heard, m.at.Add(-before-from), m.at.Add(after))
		m.control, _ = phone.LongestGap(control, m.at.Add(-before-from), m.at.Add(after))
		m.direct, _ = phone.LongestGap(direct, m.at.Add(-before-from), m.at.Add(after))
		b.done = append(b.done, m)
	}
	r := phone.Analyse(heard, 8000)
	var listeners []*phone.Media
	for _, l := range b.legs {
		listeners = append(listeners, l.Media())
	}
	lost := phone.Lost(b.far.Media(), b.since.Add(100*time.Millisecond), time.Now().Add(-100*time.Millisecond), listeners...)
	told := 0
	for _, m := range b.bob.Received(b.since) {
		if m.Method == "OPTIONS" && m.Get("Call-ID") != b.far.ID() {
			continue // is the phone there? that has nothing to do with the call
		}
		b.t.Logf("the far phone was sent %s", m.Line())
		told++
	}
	whole := r.Missing == 0 && r.Reordered == 0 && r.Duplicates == 0 && len(r.SSRCs) == 1 && r.Tones == 0 && r.Markers <= 1
	verdict(b.t, whole && r.Drift <= 25*time.Millisecond && told == 0 && len(lost) == 0,
		"series %d, %d moves: far side %d packets, %d missing, %d out of order, %d SSRC, timestamps within %s ms of the clock, %d frames skipped, %d SIP messages; %d of the far side's frames lost",
		b.series, len(b.moves), r.Packets, r.Missing, r.Reordered+r.Duplicates, len(r.SSRCs), ms(r.Drift), r.Skipped, told, len(lost))
	b.over()
}

// over hangs up.
func (b *bench) over() {
	b.t.Helper()
	must(b.t, b.far.Hangup())
	must(b.t, b.leg().AwaitEnd(5*time.Second))
}

// judge prints the figures of all series. Gaps over the limit that the call beside had too are listed as the machine's and
// left out, with what the call beside had then; a stall that the phones without a node did not have may be the node's own.
func (b *bench) judge(what string) {
	b.t.Helper()
	var gaps, controls, media []time.Duration
	byWay := map[string][]time.Duration{}
	stalled, alone := 0, 0
	for _, m := range b.done {
		media = append(media, m.media)
		byWay[m.how] = append(byWay[m.how], m.media)
		if m.gap > gapP95 && m.control > stall {
			stalled++
			if m.direct <= stall {
				alone++
			}
			note("stall: gap %s ms, the call beside %s ms, phones without a node %s ms (%s)", ms(m.gap), ms(m.control), ms(m.direct), m.how)
			continue
		}
		gaps, controls = append(gaps, m.gap), append(controls, m.control)
	}
	verdict(b.t, float64(stalled) <= mostStalls*float64(len(b.done)),
		"%s: %d stalls left out, %d of them not seen by phones without a node (with more than %.0f %% the figures below say nothing)", what, stalled, alone, 100*mostStalls)
	if len(gaps) == 0 {
		verdict(b.t, false, "%s: no gap is left to judge by", what)
		return
	}
	p50, p95, most := phone.Quantile(gaps, 0.5), phone.Quantile(gaps, 0.95), phone.Quantile(gaps, 1)
	control := phone.Quantile(controls, 0.5)
	limit := control + gapOverControl
	if b.tick > 0 {
		limit = gapP50 + b.tick
	}
	verdict(b.t, p50 <= limit, "%s: gap p50 %s ms, control %s ms (limit %s ms)", what, ms(p50), ms(control), ms(limit))
	verdict(b.t, p95 <= gapP95+b.tick, "%s: gap p95 %s ms, control %s ms (limit %s)", what, ms(p95), ms(phone.Quantile(controls, 0.95)), ms(gapP95+b.tick))
	verdict(b.t, most <= gapMax+b.tick, "%s: gap max %s ms, control %s ms (limit %s)", what, ms(most), ms(phone.Quantile(controls, 1)), ms(gapMax+b.tick))
	m50, m95 := mediaP50+b.tick, mediaP95+b.tick
	verdict(b.t, phone.Quantile(media, 0.5) <= m50 && phone.Quantile(media, 0.95) <= m95,
		"%s: answer → both directions on the new device p50 / p95 / max %s (limit %s / %s)", what, three(media), ms(m50), ms(m95))
	if b.tick > 0 {
		for _, f := range []struct {
			name      string
			is, limit time.Duration
		}{{"gap p50", p50, limit}, {"gap p95", p95, gapP95 + b.tick}, {"gap max", most, gapMax + b.tick}} {
			beside(what+": "+f.name, "ms", "baton", f.is.Seconds()*1e3)
			held(what+": "+f.name, "≤ "+ms(f.limit)+" ms", f.is <= f.limit)
		}
	}
	for _, how := range ways {
		if len(byWay[how]) > 0 {
			note("by %-8s answer → media %s, %d moves", how, three(byWay[how]), len(byWay[how]))
		}
	}
}

func TestMoveGap(t *testing.T) {
	b := newBench(t)
	for range 5 {
		b.begin()
		for i := range 100 {
			b.move(ways[i%len(ways)], phone.AutoAnswer)
		}
		b.finish(0)
	}
	b.judge("500 moves")
}

func TestMoveGapWhileRinging(t *testing.T) {
	const ring = 2 * time.Second
	b := newBench(t)
	b.begin()
	for i := range 80 { // the p50 of twenty differs by half a millisecond from run to run
		b.move(ways[i%2], phone.Behaviour{Answer: true, After: ring})
	}
	b.finish(ring)
	b.judge("80 moves to a device that rings for 2 s")
}
