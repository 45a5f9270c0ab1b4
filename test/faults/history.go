package faults

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Span is the time in which one run of a node had a call under one epoch, as it says itself.
type Span struct {
	Call  string
	Epoch uint64
	Node  string
	Run   int
	From  time.Time
	To    time.Time // zero = it still has it
}

func (s Span) owner() string { return fmt.Sprintf("%s (run %d)", s.Node, s.Run) }

// String is for people.
func (s Span) String() string {
	to := "now"
	if !s.To.IsZero() {
		to = clock(s.To)
	}
	return fmt.Sprintf("call %s epoch %d: %s from %s to %s", s.Call, s.Epoch, s.owner(), clock(s.From), to)
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }

// History is who had which call when, gathered from the logs of all nodes.
type History struct {
	mu    sync.Mutex
	spans []*Span
	runs  map[string]int
}

// Began notes that a run of a node begins; what an earlier one had is over.
func (h *History) Began(node string, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.runs == nil {
		h.runs = map[string]int{}
	}
	h.runs[node]++
	h.close(at, func(s *Span) bool { return s.Node == node })
}

// Ended notes that a node's process is gone.
func (h *History) Ended(node string, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.close(at, func(s *Span) bool { return s.Node == node })
}

func (h *History) close(at time.Time, which func(*Span) bool) {
	for _, s := range h.spans {
		if s.To.IsZero() && which(s) {
			s.To = at
		}
	}
}

var ownership = regexp.MustCompile(`^time=(\S+) .*msg="call is (owned|let go)" call=(\S+) epoch=(\d+)`)

// Read takes a line of a node's log; what is not about ownership is passed over.
func (h *History) Read(node, line string) {
	if !strings.Contains(line, `msg="call is `) {
		return
	}
	m := ownership.FindStringSubmatch(line)
	if m == nil {
		return
	}
	at, err := time.Parse(time.RFC3339Nano, m[1])
	epoch, err2 := strconv.ParseUint(m[4], 10, 64)
	if err != nil || err2 != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if m[2] == "owned" {
		h.spans = append(h.spans, &Span{Call: m[3], Epoch: epoch, Node: node, Run: h.runs[node], From: at})
		return
	}
	h.close(at, func(s *Span) bool { return s.Node == node && s.Call == m[3] && s.Epoch == epoch })
}

// Of are the spans of a call, in the order in which they began.
func (h *History) Of(call string) (all []Span) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.spans {
		if s.Call == call {
			all = append(all, *s)
		}
	}
	slices.SortStableFunc(all, func(a, b Span) int { return a.From.Compare(b.From) })
	return all
}

// Owner is the node that has a call under its highest epoch now, "" = none.
func (h *History) Owner(call string) (node string) {
	var top uint64
	for _, s := range h.Of(call) {
		if s.To.IsZero() && s.Epoch >= top {
			node, top = s.Node, s.Epoch
		}
	}
	return node
}

// Calls are all that there were.
func (h *History) Calls() (ids []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.spans {
		ids = append(ids, s.Call)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Forget drops calls that nobody has any more since then: a long run would keep all.
func (h *History) Forget(before time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	live := map[string]bool{}
	for _, s := range h.spans {
		if s.To.IsZero() || s.To.After(before) {
			live[s.Call] = true
		}
	}
	h.spans = slices.DeleteFunc(h.spans, func(s *Span) bool { return !live[s.Call] })
}

// Broken are the rules that the history breaks, each with the spans that show it. Linger is how long a node may go on believing that a call is its
// own which another has under a later epoch: it may stand still, or be cut off. It is silent meanwhile, which the phones know (TwoSpeakers).
func (h *History) Broken(now time.Time, linger time.Duration) (all []string) {
	for _, call := range h.Calls() {
		spans := h.Of(call)
		for i, a := range spans {
			for _, b := range spans[i+1:] {
				if why := clash(a, b, now, linger); why != "" {
					all = append(all, fmt.Sprintf("%s:\n%s", why, list(spans)))
				}
			}
		}
	}
	return all
}

func clash(a, b Span, now time.Time, linger time.Duration) string {
	end := a.To
	if end.IsZero() {
		end = now
	}
	switch {
	case a.Epoch == b.Epoch && a.owner() != b.owner():
		return fmt.Sprintf("call %s has two owners in epoch %d", a.Call, a.Epoch)
	case b.Epoch < a.Epoch:
		return fmt.Sprintf("call %s goes back from epoch %d to %d", a.Call, a.Epoch, b.Epoch)
	case a.Epoch == b.Epoch: // it let go and took it up again
		return ""
	case end.Sub(b.From) > linger:
		return fmt.Sprintf("call %s of epoch %d is not let go of %s after epoch %d has begun", a.Call, a.Epoch, end.Sub(b.From).Round(time.Millisecond), b.Epoch)
	}
	return ""
}

func list(spans []Span) string {
	var lines []string
	for _, s := range spans {
		lines = append(lines, "    "+s.String())
	}
	return strings.Join(lines, "\n")
}
