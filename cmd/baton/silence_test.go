package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"baton/config"
	"baton/load"
	"baton/media"
	"baton/web"
)

// cutOffNode is as much of a node as decides whether something is begun.
func cutOffNode(degraded string, log *bytes.Buffer) *node {
	c := config.Default()
	c.Store.Degraded = degraded
	n := &node{config: config.Loaded{Config: c}, engine: &media.Engine{}, load: load.NewMeter(load.Limits{}, discard()), log: slog.New(slog.NewTextHandler(log, nil))}
	n.heirs = &heirs{n: n}
	return n
}

// TestCutOff: a node that is cut off moves no calls, says so once, and moves them again later; one that is told to go on alone does. Both take new ones.
func TestCutOff(t *testing.T) {
	for degraded, refuses := range map[string]bool{config.DegradedServe: true, config.DegradedAlone: false} {
		var log bytes.Buffer
		n := cutOffNode(degraded, &log)
		if n.cutOff() || n.busy() {
			t.Fatalf("%s: a node that reaches all is cut off", degraded)
		}
		since := time.Now().Add(-2 * time.Second)
		for range 3 {
			n.heirs.mark(true, since)
		}
		if n.cutOff() != refuses || n.busy() {
			t.Errorf("%s: cut off it refuses moves: %v, new calls: %v", degraded, n.cutOff(), n.busy())
		}
		if got := n.heirs.cutOff(); refuses && !got.Equal(since) {
			t.Errorf("since %s, not %s", got, since)
		}
		if text := log.String(); strings.Count(text, "reaches neither the store nor any other node") != 1 {
			t.Errorf("%s: the log says %q", degraded, text)
		}
		if n.heirs.mark(false, time.Time{}); n.cutOff() || n.busy() {
			t.Errorf("%s: it goes on to refuse", degraded)
		}
	}
	if (&node{}).cutOff() {
		t.Error("a node that is alone is cut off")
	}
}

// TestStatusCutOff: baton status says since when.
func TestStatusCutOff(t *testing.T) {
	at := time.Now().Add(-time.Minute)
	var out bytes.Buffer
	err := showStatus(&out, web.Node{Name: "n1", Store: &web.StoreHealth{Kind: "redis", Error: "timeout", CutOff: &at}})
	if text := out.String(); err != nil || !strings.Contains(text, "redis: timeout; no other node is reached either since "+clock(at, time.Now())+": moves are refused") {
		t.Errorf("%v\n%s", err, text)
	}
}
