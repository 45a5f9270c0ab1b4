package faults

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/test/phone"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

// said is a line as a node writes it.
func said(ms int, what, call string, epoch int) string {
	return fmt.Sprintf(`time=%s level=DEBUG msg="call is %s" call=%s epoch=%d`, at(ms).Format(time.RFC3339Nano), what, call, epoch)
}

// TestHistory shows each rule on a history that breaks it, and on those next to it that do not.
func TestHistory(t *testing.T) {
	tests := []struct {
		name string
		make func(*History)
		want string
	}{
		{"one owner after the other", func(h *History) {
			h.Read("n1", said(0, "owned", "x", 0))
			h.Ended("n1", at(100))
			h.Read("n2", said(150, "owned", "x", 1))
			h.Read("n2", said(900, "let go", "x", 1))
		}, ""},
		{"two owners in one epoch", func(h *History) {
			h.Read("n1", said(0, "owned", "x", 0))
			h.Ended("n1", at(100))
			h.Read("n2", said(150, "owned", "x", 1))
			h.Read("n3", said(160, "owned", "x", 1))
		}, "two owners in epoch 1"},
		{"two owners in one epoch, one long after the other", func(h *History) {
			h.Read("n1", said(0, "owned", "x", 3))
			h.Read("n1", said(50, "let go", "x", 3))
			h.Read("n2", said(60000, "owned", "x", 3))
		}, "two owners in epoch 3"},
		{"two runs of one node in one epoch", func(h *History) {
			h.Began("n1", at(0))
			h.Read("n1", said(10, "owned", "x", 2))
			h.Began("n1", at(500))
			h.Read("n1", said(510, "owned", "x", 2))
		}, "two owners in epoch 2"},
		{"the same epoch of two calls", func(h *History) {
			h.Read("n1", said(0, "owned", "x", 1))
			h.Read("n2", said(10, "owned", "y", 1))
		}, ""},
		{"an epoch that goes back", func(h *History) {
			h.Read("n1", said(0, "owned", "x", 4))
			h.Ended("n1", at(10))
			h.Read("n2", said(20, "owned", "x", 3))
		}, "goes back from epoch 4 to 3"},
		{"an owner that wakes and lets go", func(h *History) {
			h.Read("n1", said(0, "owned", "x", 0))
			h.Read("n2", said(4000, "owned", "x", 1))
			h.Read("n1", said(10000, "let go", "x", 0))
		}, ""},
		{"an owner that does not let go", func(h *History) {
			h.Read("n1", said(0, "owned", "x", 0))
			h.Read("n2", said(4000, "owned", "x", 1))
		}, "not let go of"},
	}
	for _, tt := range tests {
		h := &History{}
		tt.make(h)
		broken := h.Broken(at(60000), 15*time.Second)
		switch {
		case tt.want == "" && len(broken) > 0, tt.want != "" && len(broken) == 0:
			t.Errorf("%s: broken %q, want %q", tt.name, broken, tt.want)
		case tt.want != "" && !strings.Contains(broken[0], tt.want):
			t.Errorf("%s: %s, want %q", tt.name, broken[0], tt.want)
		}
	}
}

func TestOwnerOfACall(t *testing.T) {
	h := &History{}
	h.Read("n1", said(0, "owned", "x", 0))
	h.Read("n2", said(10, "owned", "x", 1))
	h.Read("n1", `time=2026-01-02T03:04:05Z level=INFO msg="call goes on" call=x user=alice epoch=7`)
	if got := h.Owner("x"); got != "n2" {
		t.Errorf("the owner is %q", got)
	}
	h.Ended("n2", at(20))
	h.Read("n1", said(30, "let go", "x", 0))
	if got := h.Owner("x"); got != "" {
		t.Errorf("the owner of a call that nobody has is %q", got)
	}
	if h.Forget(at(25)); len(h.Calls()) != 1 {
		t.Error("a call was forgotten that has just been let go of")
	}
	if h.Forget(at(50)); len(h.Calls()) != 0 {
		t.Error("a call is kept that nobody has")
	}
}

// stream is packets of 20 ms from a port.
func stream(port, from, to int) (all []phone.Packet) {
	for ms := from; ms < to; ms += 20 {
		all = append(all, phone.Packet{At: at(ms), From: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), uint16(port))})
	}
	return all
}

func TestTwoSpeakersAtOnce(t *testing.T) {
	tests := []struct {
		name  string
		heard []phone.Packet
		least time.Duration
		most  time.Duration
	}{
		{"one", stream(1, 0, 5000), 0, 0},
		{"one after the other", slices.Concat(stream(1, 0, 2000), stream(2, 2010, 5000)), 0, both},
		{"one after the other, with a hole", slices.Concat(stream(1, 0, 2000), stream(2, 2600, 5000), stream(1, 5600, 9000)), 0, 0},
		{"both for two seconds", slices.Concat(stream(1, 0, 4000), stream(2, 2005, 6000)), 1900 * time.Millisecond, 2100 * time.Millisecond},
		{"a late packet of the first now and then", slices.Concat(stream(1, 0, 2000), stream(2, 2010, 9000), stream(1, 4000, 4020), stream(1, 6000, 6020)), 0, both + 20*time.Millisecond},
	}
	for _, tt := range tests {
		got, _ := TwoSpeakers(tt.heard)
		if got < tt.least || got > tt.most {
			t.Errorf("%s: %s, want %s to %s", tt.name, got, tt.least, tt.most)
		}
	}
}

func TestLostCalls(t *testing.T) {
	if (Fate{}).Lost() {
		t.Error("a call is lost that nothing has happened to")
	}
	for _, f := range []Fate{{Call: "a1", State: "talking", Fault: "kill", Ended: []string{"b1: remote"}}, {Call: "a1", Fault: "kill", Silent: []string{"a1"}}} {
		if !f.Lost() || !strings.Contains(f.String(), "call a1") || !strings.Contains(f.String(), "lost to kill") {
			t.Errorf("%+v: lost %v, %s", f, f.Lost(), f)
		}
	}
}

func TestWordsOfALog(t *testing.T) {
	for line, bad := range map[string]bool{
		"WARNING: DATA RACE": true, `msg="call agent panicked" err=x`: true, "fatal error: concurrent map writes": true,
		`level=WARN msg="store is away"`: false,
	} {
		if scan(line) != bad {
			t.Errorf("%q: bad %v", line, !bad)
		}
	}
}
