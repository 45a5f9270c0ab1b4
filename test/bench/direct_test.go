package bench

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// The limits of direct media: what the other side hears of a move where the node can step in, and how long a call whose way is blocked takes
// from its answer to sound both ways.
const (
	directGap    = 60 * time.Millisecond
	directWorst  = 300 * time.Millisecond
	directRounds = 20
	blockedSound = 3 * time.Second
	blockedHole  = 2500 * time.Millisecond // of the one try
)

// directNode sends sound straight where it can.
func directNode(t *testing.T) *node.Node {
	return node.Start(t, node.Options{
		Users: map[string]string{"alice": "101", "bob": "102"}, Env: []string{"BATON_MEDIA_MODE=auto"},
	})
}

// reportsOften is a phone whose reports need not be waited for.
func reportsOften(c *phone.Config) { c.RTCP = time.Second }

// way waits until the sound of the only call goes a way, and gives the reason.
func way(t *testing.T, n *node.Node, want string, limit time.Duration) (why string, ok bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var calls []struct {
			Media string
			Why   string `json:"media_why"`
		}
		must(t, n.JSON(&calls, "calls", "--json"))
		if len(calls) == 1 {
			if why = calls[0].Why; calls[0].Media == want {
				return why, true
			}
		}
	}
	return why, false
}

// TestDirectMedia moves a direct call to and fro between two phones, twenty times: from the wish to move until it is direct again.
func TestDirectMedia(t *testing.T) {
	n := directNode(t)
	bob := newPhone(t, n, "bob", "far", reportsOften)
	var devices []*phone.Phone
	for i := range 2 {
		d := newPhone(t, n, "alice", fmt.Sprintf("dev%c", 'a'+i), reportsOften)
		d.Behave(phone.AutoAnswer)
		devices = append(devices, d)
	}
	control := callDirectly(t)
	_, far := connect(t, devices[0], "bob", bob)
	if why, ok := way(t, n, "direct", 30*time.Second); !ok {
		t.Fatalf("not direct: %s", why)
	}
	var gaps, whole []time.Duration
	stalls, back, missing := 0, 0, 0
	for i := range directRounds {
		to := devices[(i+1)%2]
		to.SetPhase(time.Duration(i) * time.Millisecond)
		began := time.Now()
		out, err := n.CLI("move", "--user", "alice", fmt.Sprint((i+1)%2+1))
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		why, ok := way(t, n, "direct", 30*time.Second)
		if !ok {
			note("move %d: not direct again: %s", i, why)
			continue
		}
		back++
		time.Sleep(after)
		heard := phone.Between(far.Media().Heard(), began, time.Now())
		gap, at := phone.LongestGap(heard, began, time.Now())
		still, _ := phone.LongestGap(control.Media().Heard(), at.Add(-gap-before), at.Add(before))
		missing += lost(heard)
		whole = append(whole, gap)
		if still > stall {
			stalls++
			note("move %d: the machine stood still for %s ms beside a gap of %s ms", i, ms(still), ms(gap))
			continue
		}
		gaps = append(gaps, gap)
	}
	slices.Sort(gaps)
	slices.Sort(whole)
	if len(gaps) == 0 {
		t.Fatalf("the machine stood still beside every one of %d moves: it is too busy to judge by; gaps with that %s", directRounds, three(whole))
	}
	ok := back == directRounds && missing == 0 && phone.Quantile(gaps, 0.95) <= directGap && phone.Quantile(gaps, 1) <= directWorst
	verdict(t, ok, "%d moves of a direct call, phone to phone, direct again after %d: other side's gap p50 / p95 / max %s (limit %s ms p95, %s ms at the most; %d moves beside which the machine stood still are left out, with them %s); %d packets missing",
		directRounds, back, three(gaps), ms(directGap), ms(directWorst), stalls, three(whole), missing)
	must(t, far.Hangup())
}

// directMoves are those of one direct call of real programs, as test/e2e tells of them.
type directMoves struct {
	Far   string
	Moves []directMove
}

type directMove struct {
	From, To, How string
	Browser       bool          // is the new device; the call is relayed with it
	Gap           time.Duration // longest time between two packets to the far side, until the call goes its way again; of a page, its longest pause
	Own, Stall    time.Duration // longest time between two packets of the devices, and of the far side
	Back          time.Duration // until the call goes its way again
	AtNode        int           // packets at the node while the call was direct
	Missing       time.Duration // of the recording of a far side's page, which was too busy to keep it
}

// TestDirectClients moves direct calls of real phones, twenty times each: between two phones with a baresip and a linphonec at the far side, and to a
// browser and back. The programs and the wire are those of test/e2e, which this runs.
func TestDirectClients(t *testing.T) {
	all, failed := figuresOf[directMoves](t, "TestDirectMovesOfClients", fmt.Sprintf("BATON_TEST_ROUNDS=%d", directRounds))
	verdict(t, failed == nil && len(all) == 3, "each far side heard every device that its call was moved to, and was heard by the browser")
	for _, r := range all {
		browsers := slices.ContainsFunc(r.Moves, func(m directMove) bool { return m.Browser })
		if !browsers {
			judgeDirect(t, "phone → phone", r.Far, r.Moves)
			continue
		}
		there, back := []directMove{}, []directMove{}
		for _, m := range r.Moves {
			if m.Browser {
				there = append(there, m)
			} else {
				back = append(back, m)
			}
		}
		judgeDirect(t, "phone → browser", r.Far, there)
		judgeDirect(t, "browser → phone", r.Far, back)
	}
}

// TestDirectBrowsers moves a direct call from one page to another page of the same user in Chromium and back, twenty times, with a third page at the far
// side: how long that plays nothing. The pages and the wire are those of test/e2e, which this runs.
func TestDirectBrowsers(t *testing.T) {
	all, failed := figuresOf[directMoves](t, "TestBrowsersDirect", fmt.Sprintf("BATON_TEST_ROUNDS=%d", directRounds))
	verdict(t, failed == nil && len(all) == 1, "the pages hear each other straight after each move, and nothing of it passes the node")
	for _, r := range all {
		judgeDirect(t, "browser → browser", r.Far, r.Moves)
	}
}

// judgeDirect looks at what the far side's phone was sent, or its page played. A longer gap beside which the machine held up the devices or the far side as
// long is the machine's, and a page that could not keep all that it played says nothing.
func judgeDirect(t *testing.T, what, far string, moves []directMove) {
	t.Helper()
	var gaps, whole, back []time.Duration
	past, stalls := 0, 0
	for _, m := range moves {
		past += m.AtNode
		back, whole = append(back, m.Back), append(whole, m.Gap)
		if held := max(m.Own, m.Stall); m.Missing > stall || m.Gap > stall && held > stall && held > m.Gap-phone.Frame {
			stalls++
			note("%s → %s by %s: gap %s ms, the devices' own %s ms, the far side's %s ms, missing of its recording %s ms", m.From, m.To, m.How, ms(m.Gap), ms(m.Own), ms(m.Stall), ms(m.Missing))
			continue
		}
		gaps = append(gaps, m.Gap)
	}
	left := fmt.Sprintf("%d moves beside which the machine stood still are left out", stalls)
	if len(gaps) < len(moves)/2 { // what is left says little
		gaps, left = whole, fmt.Sprintf("beside %d moves the machine stood still: they are judged, too", stalls)
	}
	ok := len(moves) == directRounds && past == 0 && phone.Quantile(gaps, 0.95) <= directGap && phone.Quantile(gaps, 1) <= directWorst
	verdict(t, ok, "%d moves of a direct call, %s, far side %s: its gap p50 / p95 / max %s (limit %s ms p95, %s ms at the most; %s; of all %s); %d packets at the node while direct",
		len(moves), what, far, three(gaps), ms(directGap), ms(directWorst), left, three(whole), past)
	note("%s, far side %s: the call goes its way again after %s", what, far, three(back))
}

// lost counts the numbers that are missing, of each source.
func lost(heard []phone.Packet) (n int) {
	by := map[uint32][]phone.Packet{}
	for _, p := range heard {
		by[p.SSRC] = append(by[p.SSRC], p)
	}
	for _, one := range by {
		n += phone.Analyse(one, 8000).Missing
	}
	return n
}

// TestDirectBlocked makes twenty calls between pairs of phones with a firewall between them, which no try has told of yet.
func TestDirectBlocked(t *testing.T) {
	n := directNode(t)
	wall := func(c *phone.Config) {
		reportsOften(c)
		c.Hears = func(from netip.AddrPort) bool { return from.Addr() == node.IP(1) && from.Port() >= 20000 }
	}
	var sound, holes []time.Duration
	good, tried := 0, 0
	for i := range directRounds {
		a := newPhone(t, n, "alice", fmt.Sprintf("a%d", i), wall)
		b := newPhone(t, n, "bob", fmt.Sprintf("b%d", i), wall)
		b.Behave(phone.AutoAnswer)
		out, err := a.Dial("bob")
		must(t, err)
		must(t, out.Await(10*time.Second))
		answered := time.Now()
		in, err := b.Ringing(5 * time.Second)
		must(t, err)
		both := out.Hears(in, blockedSound) && in.Hears(out, blockedSound)
		took := time.Since(answered)
		for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			if why, _ := way(t, n, "relay", time.Second); strings.Contains(why, "hears nothing") {
				tried++
				break
			}
		}
		time.Sleep(after)
		hole := time.Duration(0)
		for _, c := range []*phone.Call{out, in} {
			gap, _ := phone.LongestGap(c.Media().Heard(), answered, time.Now())
			hole = max(hole, gap)
		}
		again := out.Hears(in, blockedSound) && in.Hears(out, blockedSound)
		if both && took <= blockedSound && hole <= blockedHole && again {
			good++
		}
		sound, holes = append(sound, took), append(holes, hole)
		must(t, out.Hangup())
		a.Unregister()
		b.Unregister()
		time.Sleep(300 * time.Millisecond)
	}
	slices.Sort(sound)
	slices.Sort(holes)
	verdict(t, good == directRounds && tried == directRounds, "calls whose direct way is blocked: %d of %d with sound both ways within %s ms of the answer, %s; %d tried the way once, which cost %s (limit %s ms)",
		good, directRounds, ms(blockedSound), three(sound), tried, three(holes), ms(blockedHole))
}
