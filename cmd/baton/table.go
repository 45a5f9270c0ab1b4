package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
)

// table writes rows under a heading, in columns two apart. Every cell is cleaned. On a screen the widest columns give way
// until all fits; a row with fewer cells than the heading may use the rest of the line for its last.
func table(out io.Writer, heading []string, rows [][]string) error {
	s := screenOf(out)
	all := make([][]string, 0, len(rows)+1)
	for _, row := range append([][]string{heading}, rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = clean(cell)
		}
		all = append(all, cells)
	}
	widths := fit(measure(all, len(heading)), s.width)
	var b strings.Builder
	for i, row := range all {
		line := layout(row, widths, s.width)
		if i == 0 {
			line = s.colour(bold, line)
		}
		b.WriteString(line + "\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

const between = 2 // columns between two cells

// measure is how wide each column wants to be.
func measure(rows [][]string, n int) []int {
	widths := make([]int, n)
	for _, row := range rows {
		for i, cell := range row {
			if i < len(row)-1 || len(row) == n {
				widths[i] = max(widths[i], textWidth(cell))
			}
		}
	}
	return widths
}

// fit takes columns away from the widest until the line is no longer than width (0 = any).
func fit(widths []int, width int) []int {
	const least = 4
	total := between * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	for width > 0 && total > width {
		widest := 0
		for i, w := range widths {
			if w > widths[widest] {
				widest = i
			}
		}
		if widths[widest] <= least {
			break
		}
		widths[widest]--
		total--
	}
	return widths
}

// layout is one line of a table.
func layout(row []string, widths []int, width int) string {
	var b strings.Builder
	used := 0
	for i, cell := range row {
		room := widths[i]
		if i == len(row)-1 && len(row) < len(widths) {
			room = max(width-used, 1)
			if width == 0 {
				room = textWidth(cell)
			}
		}
		cell = cut(cell, room)
		b.WriteString(cell)
		if i < len(row)-1 {
			pad := room - textWidth(cell) + between
			b.WriteString(strings.Repeat(" ", pad))
			used += room + between
		}
	}
	line := strings.TrimRight(b.String(), " ")
	if width > 0 {
		line = cut(line, width) // where not even the least of each column fits
	}
	return line
}

// printJSON writes v for programs.
func printJSON(out io.Writer, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeJSON(out, b)
}

// printJSONLine writes v for programs on one line.
func printJSONLine(out io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeJSON(out, b)
}

// writeJSON writes JSON with what a terminal might obey escaped, as JSON escapes it. encoding/json does so only for
// ASCII control characters; others can stand in strings alone.
func writeJSON(out io.Writer, b []byte) error {
	var safe strings.Builder
	for _, r := range string(b) {
		if r < 0x7f || !unprintable(r) {
			safe.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&safe, `\u%04x`, unit)
		}
	}
	safe.WriteByte('\n')
	_, err := io.WriteString(out, safe.String())
	return err
}

// clean makes text that came from the network harmless to a terminal: control and format characters (escape
// sequences, right-to-left overrides) are shown by their escapes.
func clean(s string) string {
	if strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unprintable(r) {
			q := strconv.QuoteToASCII(string(r))
			b.WriteString(q[1 : len(q)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func unprintable(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }

// lasted is a duration as people say it: 4.2s, 3m05s, 2h10m, 3d4h.
func lasted(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Truncate(100*time.Millisecond).Seconds(), 'f', -1, 64) + "s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

// clock is a time as people read it today: the time of day, with the date when it is another day.
func clock(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.Year() == now.Year() && t.YearDay() == now.YearDay() {
		return t.Format("15:04:05")
	}
	return t.Format("2006-01-02 15:04:05")
}

// milliseconds is a figure as it is read: whole from 10 up.
func milliseconds(ms float64) string {
	if ms < 10 {
		return strconv.FormatFloat(ms, 'f', 1, 64) + " ms"
	}
	return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
}

// plural is n with its word.
func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return strconv.Itoa(n) + " " + word + "s"
}

// orDash is s, or a dash where there is nothing.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
