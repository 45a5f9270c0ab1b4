package main

import (
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
)

// screen is where a person reads. What is written to it as it is goes through; tables and the log look at its width.
type screen struct {
	io.Writer
	width int  // columns, 0 = as many as it takes
	paint bool // colours may be used
}

// fallbackWidth is the width of a terminal that does not say how wide it is.
const fallbackWidth = 80

// screenOf finds out what out is. A terminal has its width; into a file or pipe nothing is cut, unless COLUMNS says how
// wide it shall be.
func screenOf(out io.Writer) screen {
	if s, ok := out.(screen); ok {
		return s
	}
	s := screen{Writer: out}
	if f, ok := out.(*os.File); ok && isTerminal(f) {
		s.width, _ = terminalSize(f)
		s.paint = os.Getenv("NO_COLOR") == "" && !dumb()
		return s
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n >= 20 {
		s.width = n
	}
	return s
}

// dumb says whether the terminal understands no escape sequences.
func dumb() bool { return os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == "" }

// The colours that are used (ECMA-48 SGR).
const (
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
)

// colour paints text, which must be clean, if that is wanted.
func (s screen) colour(code, text string) string {
	if !s.paint || code == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// textWidth is how many columns clean text takes on a terminal.
func textWidth(text string) int {
	n := 0
	for _, r := range text {
		n += runeColumns(r)
	}
	return n
}

// runeColumns is 0 for what is drawn over the character before it, 2 for East Asian wide characters and pictures.
func runeColumns(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf, r >= 0xac00 && r <= 0xd7a3, r >= 0xf900 && r <= 0xfaff,
		r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6, r >= 0x1f300 && r <= 0x1faff,
		r >= 0x20000 && r <= 0x3fffd:
		return 2
	}
	return 1
}

// cut shortens text to so many columns, with a mark where something is missing.
func cut(text string, width int) string {
	if textWidth(text) <= width {
		return text
	}
	head, _ := split(text, width-1)
	if textWidth(head) >= width {
		return "…"
	}
	return strings.TrimRight(head, " ") + "…"
}

// split takes what fits into so many columns, at least one character.
func split(text string, width int) (head, rest string) {
	used := 0
	for i, r := range text {
		if used += runeColumns(r); used > width && i > 0 {
			return text[:i], text[i:]
		}
	}
	return text, ""
}

// fold breaks text into lines of so many columns, between words where that can be done.
func fold(text string, width int) []string {
	if width <= 0 {
		return []string{text}
	}
	var lines []string
	for textWidth(text) > width {
		head, rest := split(text, width)
		if at := strings.LastIndexByte(head, ' '); at > 0 && !strings.HasPrefix(rest, " ") {
			head, rest = text[:at], text[at+1:]
		}
		lines = append(lines, strings.TrimRight(head, " "))
		text = strings.TrimLeft(rest, " ")
	}
	return append(lines, text)
}
