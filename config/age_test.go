package config

import (
	"testing"
	"time"
)

func TestAge(t *testing.T) {
	const day = 24 * time.Hour
	tests := map[string]time.Duration{
		"90d": 90 * day, "1d": day, "12w": 84 * day, "36h": 36 * time.Hour, "forever": 0, "0s": 0, "2160h0m0s": 90 * day,
	}
	for in, want := range tests {
		if got, err := age(in); err != nil || got != want {
			t.Errorf("%s is %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "d", "90", "1.5d", "-1d", "10m", "99999d", "70000d", "0d", "1e3h"} {
		if got, err := age(in); err == nil {
			t.Errorf("%q is %v", in, got)
		}
	}
}
