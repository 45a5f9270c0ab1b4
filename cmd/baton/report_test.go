package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/media"
	"baton/web"
)

// TestShowReports: what a device has told stands with its leg, and both estimates beside the one that counts.
func TestShowReports(t *testing.T) {
	loss, jitter := 2.0, 5.0
	node, device := media.Quality{MOS: 4.31, Delay: 62}, media.Quality{MOS: 4.21, Delay: 97}
	info := call.Info{
		ID: "k3f9aaaa", State: "up", Started: time.Now(),
		Seats: []call.SeatInfo{{User: "alice", Legs: []call.LegInfo{{Device: "desk", State: "up", Report: &media.Report{
			By: "vq-rtcpxr", At: time.Now(), RTT: 40, Hears: media.Heard{Codec: "PCMU", Loss: &loss, Discarded: 1, Jitter: &jitter, Buffer: 70, MOS: 4.1},
		}}}}},
		Ways: []call.Way{
			{From: "bob", To: "alice", Quality: device, By: call.ByDevice, Node: &node, Device: &device},
			{From: "alice", To: "bob", Quality: node, By: call.ByNode, Node: &node},
		},
	}
	var out bytes.Buffer
	if err := showCall(&out, info); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"  reports by vq-rtcpxr, 0 s ago: hears PCMU, 2.0 % lost, 1.0 % too late, jitter 5.0 ms, held in its buffer 70 ms, round trip 40 ms, its MOS 4.1\n",
		"FROM MOUTH TO EAR  DELAY  MOS   BY THE NODE  BY THE DEVICE\n",
		"bob to alice       97 ms  4.21  62 ms, 4.31  97 ms, 4.21\n",
		"alice to bob       62 ms  4.31  62 ms, 4.31  -\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// TestStatusOfSound: averages that stand on something, or that there are none.
func TestStatusOfSound(t *testing.T) {
	for want, m := range map[string]web.MouthToEar{
		"no call was measured yet": {},
		"from mouth to ear 62 ms on average over 4 directions of live calls; 81 ms on average over 2 directions of calls that have ended, as devices reported": {
			Live: web.Mean{Ways: 4, Mean: 62}, Reported: web.Mean{Ways: 2, Mean: 81},
		},
	} {
		if got := soundOf(m); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
