package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/test/phone"
)

// The limits of moves round browsers.
const (
	browserMediaP95 = 300.0 // ms from a browser's answer to sound both ways
	browserMediaAim = 100.0
	concealedMost   = 20.0                // ms that a browser at the far side makes up at a move
	bufferGrowth    = phone.Frame * 5 / 4 // a jitter buffer grows by packets
	onTime          = phone.Frame * 5 / 4 // a device whose packets are further apart at the switch is late itself
	calm            = 3 * phone.Frame     // a longer gap of a device's own is the machine's, and fills jitter buffers
)

// rounds is one call that was moved round four devices, as test/e2e tells of it.
type rounds struct {
	Far            string
	Moves          []roundMove
	Buffer, Beside []time.Duration // the far browser's jitter buffer before the moves and after each ten, and that of another call
}

type roundMove struct {
	From, To, How                      string
	Browser                            bool
	Gap, Switch, SwitchOwn, Own, Stall time.Duration
	AnswerToMedia, Trigger             float64
	Concealed, Control                 float64
}

// TestBrowserMove moves a call from a desk phone to a softphone, to Chromium, to another Chromium and back, ten rounds, with a baresip, a baresip
// with SDES and a Chromium at the far side. The programs and the wire are those of test/e2e, which this runs.
func TestBrowserMove(t *testing.T) {
	for _, r := range measureRounds(t, 10, "chromium") {
		fmt.Printf("      %d moves, far side %s\n", len(r.Moves), r.Far)
		if len(r.Buffer) == 0 {
			judgeGaps(t, r)
		} else {
			judgeEar(t, r)
		}
		judgeMedia(t, r)
	}
}

// measureRounds has test/e2e move its calls, with this program as the second browser, and reads its figures.
func measureRounds(t *testing.T, n int, second string) []rounds {
	t.Helper()
	all, failed := figuresOf[rounds](t, "TestMovesRoundBrowsers", fmt.Sprintf("BATON_TEST_ROUNDS=%d", n), "BATON_TEST_SECOND="+second)
	verdict(t, failed == nil && len(all) == 3, "each far side was sent one stream, whole, and heard every device that it was moved to")
	return all
}

// figuresOf has a test of test/e2e run, which needs real programs, and reads its figures. failed is the test's verdict.
func figuresOf[T any](t *testing.T, name string, env ...string) (all []T, failed error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "figures")
	cmd := exec.Command("go", "test", "../e2e", "-run", "^"+name+"$", "-count", "1", "-timeout", "30m", "-parallel", "3", "-v")
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "BATON_TEST_INSIDE=") }),
		append(env, "BATON_TEST_FIGURES="+path)...)
	out, failed := cmd.CombinedOutput()
	if strings.Contains(string(out), "--- SKIP") {
		t.Skipf("needs programs that are not here:\n%s", out)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("no figures: %v\n%s", failed, out)
	}
	for line := range strings.Lines(string(text)) {
		var r T
		must(t, json.Unmarshal([]byte(line), &r))
		all = append(all, r)
	}
	if failed != nil {
		t.Logf("%s", out)
	}
	return all, failed
}

// judgeGaps looks at what a phone at the far side was sent: from the old device's last packet to the new one's first. A move at which the
// machine stood still, or the new device itself was late with its packet, says nothing of baton.
func judgeGaps(t *testing.T, r rounds) {
	t.Helper()
	var gaps, most []time.Duration
	late, stalled, unseen := 0, 0, 0
	for _, m := range r.Moves {
		most = append(most, m.Gap-max(phone.Frame, m.Own))
		switch {
		case m.Switch == 0:
			unseen++
		case m.Switch > gapP95 && m.SwitchOwn > onTime:
			late++
			note("late: %s → %s by %s: %s ms; the new device's own packets were %s ms apart", m.From, m.To, m.How, ms(m.Switch), ms(m.SwitchOwn))
		case m.Switch > gapP95 && m.Stall > stall:
			stalled++
			note("stall: %s → %s by %s: %s ms; the far phone's own packets were %s ms apart", m.From, m.To, m.How, ms(m.Switch), ms(m.Stall))
		default:
			gaps = append(gaps, m.Switch)
		}
	}
	note("%d moves left out as the machine's stalls, %d as the new device's own gaps; the switch was not made out at %d", stalled, late, unseen)
	p95, longest := phone.Quantile(gaps, 0.95), phone.Quantile(gaps, 1)
	verdict(t, p95 <= gapP95 && longest <= gapMax, "far side %s: gap at the switch p50 / p95 / max %s (limit p95 %s, max %s)", r.Far, three(gaps), ms(gapP95), ms(gapMax))
	for _, m := range r.Moves {
		if m.Switch > gapP95 {
			note("%s → %s by %s: %s ms", m.From, m.To, m.How, ms(m.Switch))
		}
	}
	note("beyond the longest gap that the devices themselves made: p50 / p95 / max %s", three(most))
	lessMS("browser moves, "+r.Far+": gap p95", p95)
	lessMS("browser moves, "+r.Far+": gap max", longest)
}

// judgeEar looks at what a browser at the far side counts.
func judgeEar(t *testing.T, r rounds) {
	t.Helper()
	var concealed []float64
	var longest time.Duration
	busy := 0
	for _, m := range r.Moves {
		longest = max(longest, m.Own, m.Gap)
		if m.Control > 0 || m.Stall > calm || m.Own > calm {
			busy++
			continue
		}
		concealed = append(concealed, m.Concealed)
	}
	slices.Sort(concealed)
	if len(concealed) == 0 {
		verdict(t, false, "far side %s: at each of %d moves the machine stood still", r.Far, len(r.Moves))
		return
	}
	most := concealed[len(concealed)-1]
	verdict(t, most <= concealedMost, "far side %s: made up at a move p50 / max %.1f / %.1f ms of %d moves, %d left out at which the machine stood still (limit %.0f)",
		r.Far, concealed[len(concealed)/2], most, len(concealed), busy, concealedMost)
	grew := func(looks []time.Duration) time.Duration { return looks[len(looks)-1] - looks[0] }
	verdict(t, grew(r.Buffer) <= max(0, grew(r.Beside))+bufferGrowth+max(0, longest-calm),
		"far side %s: jitter buffer before the moves and after each ten %s ms; that of a call beside %s ms; longest gap of the devices %s ms (limit: a packet more, and what of these is beyond %s)",
		r.Far, list(r.Buffer), list(r.Beside), ms(longest), ms(calm))
	less("browser moves: concealed max", most, "ms")
}

// judgeMedia looks at how long a browser that has answered waits for sound.
func judgeMedia(t *testing.T, r rounds) {
	t.Helper()
	var media []time.Duration
	for _, m := range r.Moves {
		if m.Browser {
			media = append(media, time.Duration(m.AnswerToMedia*float64(time.Millisecond)))
		}
	}
	p95 := phone.Quantile(media, 0.95)
	verdict(t, float64(p95)/float64(time.Millisecond) <= browserMediaP95,
		"far side %s: a browser's answer → both directions p50 / p95 / max %s, %d moves (limit p95 %.0f, aim %.0f)", r.Far, three(media), len(media), browserMediaP95, browserMediaAim)
	lessMS("browser moves, "+r.Far+": answer to media p95", p95)
}
