package e2e

import (
	"strings"
	"testing"
	"time"
)

// trial is what baton devices test --json prints.
type trial struct {
	Device, Verdict string
	Findings        []struct {
		What, Verdict, Text string
		Figures             map[string]float64
	}
}

// TestDeviceTestBaresip tries a baresip by the command line: audio both ways, proved by its own RTCP, hold and back; what was
// found is shown afterwards.
func TestDeviceTestBaresip(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.startBaresip("alice", "udp", 440)
	before := time.Now()
	var got trial
	w.must(w.JSON(&got, "devices", "test", "alice", "1", "--json"))
	if took := time.Since(before); took > 40*time.Second {
		t.Errorf("it took %v", took)
	}
	found := map[string]string{}
	for _, f := range got.Findings {
		found[f.What] = f.Verdict + " " + f.Text
		t.Logf("%-5s %-14s %s %v", f.Verdict, f.What, f.Text, f.Figures)
	}
	for what, want := range map[string]string{
		"answer": "ok by itself after", "codecs": "ok PCMU", "we hear it": "ok PCMU/8000 came", "hold": "ok answered", "resume": "ok answered sendrecv",
		"it hears us": "ok it reports 0.0 % of PCMU/8000 lost", "OPTIONS": "ok answered in", "keys": "ok telephone-event",
	} {
		if !strings.HasPrefix(found[what], want) {
			t.Errorf("%s: %q, want %q", what, found[what], want)
		}
	}
	if got.Verdict == "bad" {
		t.Errorf("the whole is bad; baresip said\n%s", b.output())
	}
	var device struct {
		Answering struct {
			Way   string
			Times int
		}
	}
	w.must(w.JSON(&device, "devices", "show", "alice", "1", "--json"))
	if device.Answering.Way != "headers" || device.Answering.Times != 1 {
		t.Errorf("known of it: %+v", device.Answering)
	}
}
