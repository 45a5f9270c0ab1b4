package call

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"baton/journal"
)

// reportsOf tells the figures that a leg is part of before its stream is closed.
func (c *Call) reportsOf(l *Leg) {
	for _, m := range slices.Clone(c.reports) {
		if m.to == l || m.far == l {
			c.report(m)
		}
	}
}

// report completes the figures of a switch and tells them, once.
func (c *Call) report(m *move) {
	for i, k := range c.reports {
		if k != m {
			continue
		}
		c.reports = append(c.reports[:i], c.reports[i+1:]...)
		m.set(moveReported)
		r := m.figures(c.id)
		data := r.data()
		maps.Copy(data, m.asked())
		if m.into.user.Name != m.seat.user.Name {
			data[journal.Into] = m.into.user.Name
		}
		c.history = append(c.history, m.info("", &r))
		c.note(journal.CallMoved, journal.Entry{
			User: m.seat.user.Name, From: r.From, Device: r.To, Peer: m.far.seat.user.Name, Text: m.how, Data: data,
		})
		if m.reported != nil {
			m.reported(r, nil)
		}
		return
	}
}

// asked is how a move came to be and who wanted it, for the log.
func (m *move) asked() map[string]string { return map[string]string{"how": m.how, "who": m.who} }

// figures measures a move at the streams of both sides.
func (m *move) figures(call string) MoveReport {
	far := m.far.stream.Splice()
	both := m.switched // both directions on the new device: the later of the two
	for _, t := range []time.Time{far.At, m.to.stream.FirstSent()} {
		if t.After(both) {
			both = t
		}
	}
	answer := m.to.answer
	if m.handover != nil { // it had answered before, in another call
		answer = m.overlap
	}
	if m.promoted {
		answer = m.began
	}
	r := MoveReport{
		Call: call, User: m.into.user.Name, From: m.from.device.Name, To: m.to.device.Name,
		RingMS: ms(m.rang), SwitchMS: ms(both.Sub(m.began) - m.rang), AnswerToMedia: ms(both.Sub(answer)),
		HeldMS: ms(m.heldFor), OverlapMS: ms(m.switched.Sub(m.overlap)), AlignMS: ms(m.align.took),
		Far: Gap{GapMS: ms(far.Gap), Lost: far.Lost},
	}
	near := m.to.stream.Splice() // of its line's beginning: the far side's media reaches both devices by then
	r.Near = Gap{GapMS: ms(near.Gap), Lost: int(m.far.stream.Lost() - m.lost)}
	return r
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// data is the report for the log, as text by name.
func (r MoveReport) data() map[string]string {
	f := func(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }
	d := map[string]string{
		"switch_ms": f(r.SwitchMS), "ring_ms": f(r.RingMS), "answer_to_media_ms": f(r.AnswerToMedia),
		"held_ms": f(r.HeldMS), "overlap_ms": f(r.OverlapMS), "align_ms": f(r.AlignMS),
	}
	maps.Copy(d, map[string]string{
		"gap_ms": f(r.Far.GapMS), "lost": strconv.Itoa(r.Far.Lost), "near_lost": strconv.Itoa(r.Near.Lost),
	})
	return d
}
