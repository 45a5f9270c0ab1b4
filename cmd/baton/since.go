package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// sinceForms are the times that a person may write, in the time zone of this machine.
var sinceForms = []string{
	time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02",
}

// since reads a time: how long ago (90m, 2h, 3d, 2w), today, yesterday, a time of today (14:30), a date or a date with a
// time.
func since(text string, now time.Time) (time.Time, error) {
	text = strings.TrimSpace(text)
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	switch text {
	case "today":
		return midnight, nil
	case "yesterday":
		return midnight.AddDate(0, 0, -1), nil
	}
	if at, ok := ago(text, now); ok {
		return at, nil
	}
	for _, form := range []string{"15:04", "15:04:05"} {
		if at, err := time.ParseInLocation(form, text, now.Location()); err == nil {
			return time.Date(now.Year(), now.Month(), now.Day(), at.Hour(), at.Minute(), at.Second(), 0, now.Location()), nil
		}
	}
	for _, form := range sinceForms {
		if at, err := time.ParseInLocation(form, text, now.Location()); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time; write 2h, 3d, today, yesterday, 14:30, 2026-11-23 or 2026-11-23 14:30", text)
}

// ago is a duration before now. Days are those of the calendar, so that a change of the clocks moves nothing.
func ago(text string, now time.Time) (time.Time, bool) {
	for unit, days := range map[string]int{"d": 1, "w": 7} {
		if count, found := strings.CutSuffix(text, unit); found {
			n, err := strconv.ParseUint(count, 10, 16)
			return now.AddDate(0, 0, -int(n)*days), err == nil
		}
	}
	d, err := time.ParseDuration(text)
	return now.Add(-d), err == nil && d >= 0
}
