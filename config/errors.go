package config

import (
	"fmt"
	"strings"
)

// Error is one thing wrong with a configuration file, with the place where it stands.
type Error struct {
	File  string
	Line  int    // 1-based, 0 = the file as a whole
	Field string // dotted name, "" = not about one field
	Text  string // what is wrong with which value, and what to do
}

// Error is the line shown to people: baton.yaml:12: media.ports: ….
func (e Error) Error() string {
	place := e.File
	if e.Line > 0 {
		place = fmt.Sprintf("%s:%d", e.File, e.Line)
	}
	if e.Field == "" {
		return place + ": " + e.Text
	}
	return place + ": " + e.Field + ": " + e.Text
}

// Errors is everything wrong with a configuration file, in the order of its lines.
type Errors []Error

// Error has one line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}
