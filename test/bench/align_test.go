package bench

import (
	"fmt"
	"testing"
	"time"

	"baton/test/phone"
)

// alignP95 is the limit for a move whose device lacks the codec in use.
const alignP95 = 60 * time.Millisecond

// TestAlignGap moves calls to and fro between two devices that have no codec in common: PCMU alone and opus alone. The far phone has both
// and is asked at every move.
func TestAlignGap(t *testing.T) {
	b := newBench(t, func(c *phone.Config) {
		switch c.UserAgent {
		case "deva/1.0":
			c.Codecs = []phone.Codec{phone.PCMU, phone.DTMF}
		case "devb/1.0":
			c.Codecs = []phone.Codec{phone.OPUS, phone.WideDTMF}
		case "far/1.0":
			c.Codecs = []phone.Codec{phone.PCMU, phone.OPUS, phone.DTMF, phone.WideDTMF}
		}
	})
	for range 3 {
		b.beginFromFar()
		for i := range 100 {
			b.move(ways[i%len(ways)], phone.AutoAnswer)
		}
		b.finishAligned()
	}
	b.judgeAligned("300 moves with another codec")
}

// beginFromFar has the far phone call: its offer tells all that it can play.
func (b *bench) beginFromFar() {
	b.t.Helper()
	far, leg := connect(b.t, b.bob, fmt.Sprintf("101*%d", b.index[0]), b.devices[0])
	b.far, b.legs, b.moves, b.since = far, []*phone.Call{leg}, nil, time.Now()
	time.Sleep(time.Second)
}

// finishAligned ends a series: the far side's stream is one, nothing is missing, and it was asked once for each move.
func (b *bench) finishAligned() {
	b.t.Helper()
	b.series++
	heard, control, direct := b.far.Media().Heard(), b.control.Media().Heard(), b.direct.Media().Heard()
	for _, m := range b.moves {
		m.gap, _ = phone.LongestGap(heard, m.at.Add(-before), m.at.Add(after))
		m.control, _ = phone.LongestGap(control, m.at.Add(-before), m.at.Add(after))
		m.direct, _ = phone.LongestGap(direct, m.at.Add(-before), m.at.Add(after))
		b.done = append(b.done, m)
	}
	r := phone.Analyse(heard, 8000)
	asked := map[string]bool{}
	for _, m := range b.bob.Received(b.since) {
		if m.Method == "INVITE" && m.Get("Call-ID") == b.far.ID() {
			asked[m.Get("CSeq")] = true
		}
	}
	var listeners []*phone.Media
	for _, l := range b.legs {
		listeners = append(listeners, l.Media())
	}
	lost := phone.Lost(b.far.Media(), b.since.Add(100*time.Millisecond), time.Now().Add(-100*time.Millisecond), listeners...)
	whole := r.Missing == 0 && r.Reordered == 0 && r.Duplicates == 0 && len(r.SSRCs) == 1
	verdict(b.t, whole && len(asked) == len(b.moves),
		"series %d, %d moves: far side %d packets, %d missing, %d out of order, %d SSRC, asked %d times; %d of the far side's frames lost",
		b.series, len(b.moves), r.Packets, r.Missing, r.Reordered+r.Duplicates, len(r.SSRCs), len(asked), len(lost))
	must(b.t, b.far.Hangup())
	must(b.t, b.leg().AwaitEnd(5*time.Second))
}

// judgeAligned prints the figures of all series, less the stalls of the machine.
func (b *bench) judgeAligned(what string) {
	b.t.Helper()
	var gaps, media []time.Duration
	stalled := 0
	for _, m := range b.done {
		media = append(media, m.media)
		if m.gap > alignP95 && m.control > stall {
			stalled++
			note("stall: gap %s ms, the call beside %s ms, phones without a node %s ms (%s)", ms(m.gap), ms(m.control), ms(m.direct), m.how)
			continue
		}
		gaps = append(gaps, m.gap)
	}
	verdict(b.t, float64(stalled) <= mostStalls*float64(len(b.done)), "%s: %d stalls left out", what, stalled)
	verdict(b.t, phone.Quantile(gaps, 0.95) <= alignP95, "%s: gap p50 / p95 / max %s (limit p95 %s)", what, three(gaps), ms(alignP95))
	note("%s: answer → both directions on the new device %s", what, three(media))
}
