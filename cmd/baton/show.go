package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"baton/call"
	"baton/media"
)

// showCall is a call in full: its seats with their legs, what is heard, its moves.
func showCall(out io.Writer, c call.Info) error {
	now := time.Now()
	head := fmt.Sprintf("call %s, %s since %s", c.ID, stateOf(c), clock(c.Started, now))
	if c.Up != nil {
		head += ", talking for " + talked(c, now)
	}
	p := &page{out: screenOf(out)}
	p.say("", head)
	if c.Up != nil {
		p.say("", wayOf(c))
	}
	for _, s := range c.Seats {
		p.seat(s)
	}
	if len(c.Ways) > 0 {
		p.say("", "")
		p.ways(c.Ways)
	}
	if len(c.Moves) > 0 {
		p.say("", "")
		p.table([]string{"MOVED AT", "USER", "DEVICES", "HOW", "SWITCH", "GAP FAR/NEAR", "LOST"}, moveRows(c.Moves, now))
	}
	return p.err
}

// wayOf says in words how the sound of a call goes.
func wayOf(c call.Info) string {
	switch {
	case c.Media == "direct" && encrypted(c):
		return "its audio goes straight between the browsers, encrypted end to end"
	case c.Media == "direct":
		return "its audio goes straight between the devices"
	case c.MediaWhy != "":
		return "its audio goes through the node: " + c.MediaWhy
	}
	return "its audio goes through the node"
}

// encrypted says that who has the call is in browsers: what goes straight between them is encrypted there (DTLS).
func encrypted(c call.Info) bool {
	return !slices.ContainsFunc(c.Seats, func(s call.SeatInfo) bool { return len(s.Legs) == 0 || s.Legs[0].Secure != "dtls" })
}

// page writes line after line until one cannot be written.
type page struct {
	out screen
	err error
}

// say writes text behind a label, on more lines where one is too short.
func (p *page) say(label, text string) {
	room := p.out.width - textWidth(label)
	if p.out.width == 0 {
		room = 0
	}
	for _, line := range fold(clean(text), room) {
		if p.err == nil {
			_, p.err = fmt.Fprintln(p.out, strings.TrimRight(label+line, " "))
		}
		label = strings.Repeat(" ", textWidth(label))
	}
}

func (p *page) table(heading []string, rows [][]string) {
	if p.err == nil {
		p.err = table(p.out, heading, rows)
	}
}

func (p *page) seat(s call.SeatInfo) {
	name := orDash(s.User)
	if s.Number != "" {
		name += " (" + s.Number + ")"
	}
	switch {
	case s.Lost:
		name += ": was lost"
	case s.Empty:
		name += ": has left"
	}
	p.say("", "")
	p.say("", name)
	for _, l := range s.Legs {
		p.leg(l)
	}
}

func (p *page) leg(l call.LegInfo) {
	state := l.State
	if l.Held {
		state += " (on hold)"
	}
	if l.Listens {
		state += " (listens)"
	}
	device := strings.TrimPrefix(index(l.Index)+" "+l.Device, "- ")
	p.say("  device  ", fmt.Sprintf("%s, %s; leg %s", device, state, l.ID))
	p.say("  SIP     ", l.Remote)
	audio := orDash(l.Stats.Remote)
	if l.Stats.Remote != "" && !l.Stats.Latched {
		audio += " (not heard yet)"
	}
	if l.Stats.RTT > 0 {
		audio += ", round trip " + milliseconds(l.Stats.RTT)
	}
	p.say("  audio   ", audio+"; agreed on "+orDash(strings.Join(l.Codecs, " "))+"; "+protection(l.Stats.Secure))
	s := l.Stats
	p.table([]string{"", "      ", "CODEC", "PACKETS", "LOST", "JITTER", "DELAY", "MOS"}, [][]string{
		direction("says", s.In, s.In.Packets > 0, l.In),
		direction("hears", s.Out, s.Reported, l.Out),
	})
	if l.Report != nil {
		p.say("  reports ", reported(*l.Report, time.Now()))
	}
	if d := dropped(s.Dropped); d != "-" {
		p.say("  not taken: ", d)
	}
}

// protection says how a leg's audio is protected on its way.
func protection(secure string) string {
	switch secure {
	case "", "none":
		return "not encrypted"
	}
	return "SRTP (" + strings.ToUpper(secure) + ")"
}

// direction is one direction of a leg in figures. Loss and jitter of what the device hears are known if it reports.
func direction(name string, t media.Traffic, known bool, q *media.Quality) []string {
	lost, jitter, delay, mos := "-", "-", "-", "-"
	if known {
		lost, jitter = fmt.Sprintf("%d (%.1f %%)", t.Lost, t.LossPercent), milliseconds(t.Jitter)
	}
	if q != nil {
		delay, mos = milliseconds(q.Delay), fmt.Sprintf("%.2f", q.MOS)
	}
	return []string{"", name, orDash(t.Codec), strconv.FormatUint(t.Packets, 10), lost, jitter, delay, mos}
}

// reported is what a device itself has told, as far as it has.
func reported(r media.Report, now time.Time) string {
	h, words := r.Hears, []string{}
	add := func(known bool, text string) {
		if known {
			words = append(words, text)
		}
	}
	share := func(v *float64, what string) {
		if v != nil {
			words = append(words, fmt.Sprintf("%.1f %% %s", *v, what))
		}
	}
	add(h.Codec != "", h.Codec)
	share(h.Loss, "lost")
	add(h.Discarded > 0, fmt.Sprintf("%.1f %% too late", h.Discarded))
	share(h.Concealed, "made up")
	if h.Jitter != nil {
		words = append(words, "jitter "+milliseconds(*h.Jitter))
	}
	add(h.Buffer > 0, "held in its buffer "+milliseconds(h.Buffer))
	add(r.RTT > 0, "round trip "+milliseconds(r.RTT))
	add(h.MOS > 0, fmt.Sprintf("its MOS %.1f", h.MOS))
	return fmt.Sprintf("by %s, %d s ago: hears %s", orDash(r.By), max(int(now.Sub(r.At).Seconds()), 0), orDash(strings.Join(words, ", ")))
}

// ways shows what each side hears of the other, and where devices have told what they hear, both that and what the node has measured.
func (p *page) ways(all []call.Way) {
	told := slices.ContainsFunc(all, func(w call.Way) bool { return w.Device != nil })
	heading := []string{"FROM MOUTH TO EAR", "DELAY", "MOS"}
	if told {
		heading = append(heading, "BY THE NODE", "BY THE DEVICE")
	}
	var rows [][]string
	for _, w := range all {
		row := []string{w.From + " to " + w.To, milliseconds(w.Delay), fmt.Sprintf("%.2f", w.MOS)}
		if told {
			row = append(row, estimate(w.Node), estimate(w.Device))
		}
		rows = append(rows, row)
	}
	p.table(heading, rows)
}

func estimate(q *media.Quality) string {
	if q == nil {
		return "-"
	}
	return fmt.Sprintf("%s, %.2f", milliseconds(q.Delay), q.MOS)
}

// moveRows are the moves of a call, done and failed.
func moveRows(moves []call.MoveInfo, now time.Time) [][]string {
	var rows [][]string
	for _, m := range moves {
		row := []string{clock(m.At, now), m.User, strings.TrimSpace(m.From + " to " + m.To), m.How + " by " + orDash(m.Who)}
		if r := m.Report; r != nil {
			row = append(row, milliseconds(r.SwitchMS), whole(r.Far.GapMS)+" / "+milliseconds(r.Near.GapMS), fmt.Sprintf("%d / %d", r.Far.Lost, r.Near.Lost))
		} else {
			row = append(row, "failed: "+m.Error)
		}
		rows = append(rows, row)
	}
	return rows
}

// whole is a figure of milliseconds that has its unit behind another one.
func whole(ms float64) string { return strings.TrimSuffix(milliseconds(ms), " ms") }

// dropped counts packets that were not taken, by reason.
func dropped(by map[string]uint64) string {
	var words []string
	for _, reason := range slices.Sorted(maps.Keys(by)) {
		if by[reason] > 0 {
			words = append(words, strconv.FormatUint(by[reason], 10)+" "+reason)
		}
	}
	return orDash(strings.Join(words, ", "))
}
