package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestExamples: whoever asks a command for help is shown how it is used, by lines that begin with it.
func TestExamples(t *testing.T) {
	n := 0
	each(root(), func(cmd *cobra.Command) {
		n++
		if cmd.Example == "" || cmd.Short == "" {
			t.Errorf("%s has no example or no short text", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Example) {
			if !strings.Contains(line, "baton") || !strings.HasPrefix(line, "  ") {
				t.Errorf("%s: the example %q is none", cmd.CommandPath(), line)
			}
		}
	})
	if n < 15 {
		t.Errorf("only %d commands", n)
	}
}

// TestCompletion asks as a shell does after Tab.
func TestCompletion(t *testing.T) {
	p := newParty(t)
	p.ring()
	said, _, _ := run(t, "", "calls", "--json", "--data", p.dir)
	id := strings.SplitN(strings.SplitN(said, `"id": "`, 2)[1], `"`, 2)[0]
	tests := []struct {
		line  []string
		want  []string // each with its description, or the beginning of it
		wants int
	}{
		{[]string{"call", "show", ""}, []string{id + "\talice (desk) with bob ("}, 1},
		{[]string{"call", "show", id[:2]}, []string{id}, 1},
		{[]string{"end", "zz"}, nil, 0},
		{[]string{"devices", ""}, []string{"alice\t101", "bob"}, 8},
		{[]string{"devices", "forget", ""}, []string{"alice\t101", "bob"}, 2},
		{[]string{"devices", "forget", "alice", ""}, []string{"desk\talice's device 1, here", "hall"}, 2},
		{[]string{"devices", "test", "alice", ""}, []string{"desk\talice's device 1, here", "hall"}, 2},
		{[]string{"devices", "forget", "alice", "desk", ""}, nil, 0},
		{[]string{"move", ""}, []string{id}, 1},
		{[]string{"move", id[:3], ""}, []string{"desk\talice's device 1", "hall", "phone\tbob's device 1"}, 3},
		{[]string{"move", "--user", "alice", "h"}, []string{"hall"}, 1},
		{[]string{"move", id, "desk", "--seat", ""}, []string{"alice", "bob"}, 2},
		{[]string{"log", "--user", "b"}, []string{"bob"}, 1},
		{[]string{"log", "--call", ""}, []string{id}, 1},
		{[]string{"user", "show", "al"}, []string{"alice"}, 1},
	}
	for _, tt := range tests {
		args := append([]string{"__complete", "--data", p.dir}, tt.line...)
		out, _, code := run(t, "", args...)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		offered := lines[:len(lines)-1] // the last is the directive
		if code != 0 || len(offered) != tt.wants || lines[len(lines)-1] != ":4" {
			t.Errorf("%q: %d, %q", tt.line, code, lines)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains("\n"+out, "\n"+want) {
				t.Errorf("%q: offers %q, want %q", tt.line, offered, want)
			}
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out, _, code := run(t, "", "completion", shell); code != 0 || !strings.Contains(out, "__complete") {
			t.Errorf("%s: status %d, %d bytes", shell, code, len(out))
		}
	}
	if out, _, code := run(t, "", "__complete", "--data", shortDir(t), "call", "show", ""); code != 0 || strings.TrimSpace(out) != ":4" {
		t.Errorf("without a node: %d, %q", code, out)
	}
}
