// Package doctor finds what keeps a node from being heard: ports, addresses, firewall, certificate, store, clock,
// limits. It looks and changes nothing; of users, calls and SIP it knows next to nothing.
package doctor

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Level says how bad a finding is.
type Level int

// The levels, from good to bad.
const (
	OK      Level = iota // looked at and good
	Note                 // worth knowing
	Warning              // something will not work for somebody
	Error                // the node does not work
)

var levels = [...]string{"ok", "note", "warning", "error"}

// String is ok, note, warning or error.
func (l Level) String() string { return levels[l] }

// MarshalText is the level's word.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads the level's word.
func (l *Level) UnmarshalText(b []byte) error {
	i := slices.Index(levels[:], string(b))
	if i < 0 {
		return fmt.Errorf("%q is no level", b)
	}
	*l = Level(i)
	return nil
}

// Finding is one thing that was looked at, with what to do about it.
type Finding struct {
	Level Level    `json:"level"`
	Check string   `json:"check"`           // which part: ports, firewall, clock, …
	Where string   `json:"where,omitempty"` // port, file, setting, device
	Text  string   `json:"text"`            // what was found
	Cure  []string `json:"cure,omitempty"`  // commands, settings or a sentence, one a line
}

// Worst is the worst level of all findings, OK when there are none.
func Worst(all []Finding) Level {
	worst := OK
	for _, f := range all {
		worst = max(worst, f.Level)
	}
	return worst
}

// Count says how many findings there are of a level.
func Count(all []Finding, l Level) int {
	n := 0
	for _, f := range all {
		if f.Level == l {
			n++
		}
	}
	return n
}

// Sort puts the worst first; what is equally bad stays in its order.
func Sort(all []Finding) {
	slices.SortStableFunc(all, func(a, b Finding) int { return int(b.Level - a.Level) })
}

// good is a finding of what is right.
func good(check, where, format string, args ...any) Finding {
	return Finding{Level: OK, Check: check, Where: where, Text: fmt.Sprintf(format, args...)}
}

// found is a finding with its cure.
func found(level Level, check, where, text string, cure ...string) Finding {
	return Finding{Level: level, Check: check, Where: where, Text: text, Cure: cure}
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:=@%+,-]+$`)

// Quote makes of s a word that a shell takes as it is, so that a command can be copied.
func Quote(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
