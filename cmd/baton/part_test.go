package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestRunParts wants parts to stop from the top down, whatever ended them, and the first failure to be told.
func TestRunParts(t *testing.T) {
	broken := errors.New("broken")
	tests := []struct {
		name   string
		ready  error
		fails  string // part that fails by itself
		cancel bool
		want   string
	}{
		{name: "asked to stop", cancel: true},
		{name: "not ready", ready: broken, want: "broken"},
		{name: "a part fails", fails: "middle", want: "middle: broken"},
		{name: "a part returns", fails: "top", want: "top stopped by itself"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			var stopped []string
			part := func(name string) part {
				return part{name, func(ctx context.Context) error {
					switch {
					case tt.fails == name && name == "middle":
						return broken
					case tt.fails == name:
						return nil
					}
					<-ctx.Done()
					mu.Lock()
					defer mu.Unlock()
					stopped = append(stopped, name)
					return ctx.Err()
				}}
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ready := func() error {
				if tt.cancel {
					cancel()
				}
				return tt.ready
			}
			err := runParts(ctx, ready, part("bottom"), part("middle"), part("top"))
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			order := slices.DeleteFunc([]string{"top", "middle", "bottom"}, func(s string) bool { return s == tt.fails })
			if !slices.Equal(stopped, order) {
				t.Errorf("stopped %v, want %v", stopped, order)
			}
		})
	}
}
