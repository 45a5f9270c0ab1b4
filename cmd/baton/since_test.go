package main

import (
	"strings"
	"testing"
	"time"
)

func TestSince(t *testing.T) {
	zone := time.FixedZone("here", 3600)
	now := time.Date(2026, 11, 23, 15, 4, 5, 0, zone)
	tests := map[string]string{
		"2h":                   "2026-11-23T13:04:05+01:00",
		"90m":                  "2026-11-23T13:34:05+01:00",
		"1h30m":                "2026-11-23T13:34:05+01:00",
		"0s":                   "2026-11-23T15:04:05+01:00",
		"3d":                   "2026-11-20T15:04:05+01:00",
		"2w":                   "2026-11-09T15:04:05+01:00",
		"today":                "2026-11-23T00:00:00+01:00",
		"yesterday":            "2026-11-22T00:00:00+01:00",
		"14:30":                "2026-11-23T14:30:00+01:00",
		"14:30:15":             "2026-11-23T14:30:15+01:00",
		"2026-11-20":           "2026-11-20T00:00:00+01:00",
		" 2026-11-20 14:30 ":   "2026-11-20T14:30:00+01:00",
		"2026-11-20T14:30":     "2026-11-20T14:30:00+01:00",
		"2026-11-20T14:30:05Z": "2026-11-20T15:30:05+01:00",
	}
	for in, want := range tests {
		at, err := since(in, now)
		if got := at.In(zone).Format(time.RFC3339); err != nil || got != want {
			t.Errorf("since(%q) = %s, %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "-2h", "d", "-3d", "2x", "25:00", "2026-13-01", "2026-02-30", "tomorrow", "99999999d"} {
		if at, err := since(in, now); err == nil {
			t.Errorf("since(%q) = %v", in, at)
		}
	}
}

// FuzzSince: what is taken for a time ago lies before now.
func FuzzSince(f *testing.F) {
	for _, text := range []string{"2h", "3d", "2w", "today", "yesterday", "14:30", "2026-11-23 14:30", "99999w", "-1h", "1e9d", ""} {
		f.Add(text)
	}
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		at, err := since(text, now)
		if _, ago := ago(text, now); err == nil && ago && at.After(now) {
			t.Errorf("%q is %v, which is to come", text, at)
		}
		if err != nil && !strings.Contains(err.Error(), "is no time") {
			t.Errorf("%q: %v", text, err)
		}
	})
}
