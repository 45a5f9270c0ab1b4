package web

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"baton/journal"
	"baton/load"
)

// scrape reads the metrics as Prometheus does, without comments.
func scrape(t *testing.T, address, path string) (code int, lines map[string]string) {
	t.Helper()
	resp, err := http.Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	lines = map[string]string{}
	for line := range strings.Lines(string(text)) {
		if i := strings.LastIndexByte(strings.TrimSpace(line), ' '); i > 0 && line[0] != '#' {
			lines[line[:i]] = strings.TrimSpace(line[i:])
		}
	}
	return resp.StatusCode, lines
}

// TestMetrics has the log's entries counted by trigger and outcome, with their figures in seconds, and passed on.
func TestMetrics(t *testing.T) {
	log := &entries{}
	m := NewMetrics(log)
	r := newRig(t)
	m.Watch(r.calls, r.users, func() (Held, error) { return Held{Streams: 4, Load: load.Load{}}, nil }, func() error { return nil })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ServeMetrics(ctx, l, m) }()
	defer func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for _, e := range []journal.Entry{
		{Kind: journal.CallStarted},
		{Kind: journal.CallAnswered},
		{Kind: journal.CallMoved, Data: map[string]string{"how": "pull", "switch_ms": "24.5", "gap_ms": "21.0", "ring_ms": "0.0", "held_ms": "0.0", "lost": "2", "near_lost": "1"}},
		{Kind: journal.CallMoved, Data: map[string]string{"how": "pull", "switch_ms": "260.0", "gap_ms": "20.1", "lost": "0", "near_lost": "0"}},
		{Kind: journal.CallMoveFailed, Data: map[string]string{"how": "cli", "code": "486"}},
		{Kind: journal.CallMoveFailed, Data: map[string]string{"how": "something new", "code": "9999"}},
		{Kind: journal.CallEnded, Duration: 90 * time.Second},
	} {
		m.Append(e)
	}
	code, got := scrape(t, l.Addr().String(), "/metrics")
	if code != http.StatusOK {
		t.Fatalf("status %d", code)
	}
	for line, want := range map[string]string{
		`baton_moves_total{code="200",trigger="pull"}`:                   "2",
		`baton_moves_total{code="486",trigger="cli"}`:                    "1",
		`baton_moves_total{code="other",trigger="other"}`:                "1",
		`baton_move_switch_seconds_bucket{trigger="pull",le="0.03"}`:     "1",
		`baton_move_switch_seconds_bucket{trigger="pull",le="0.3"}`:      "2",
		`baton_move_switch_seconds_count{trigger="pull"}`:                "2",
		`baton_move_gap_seconds_bucket{trigger="pull",le="0.0225"}`:      "2",
		`baton_move_ring_seconds_count{trigger="pull"}`:                  "1",
		`baton_move_lost_packets_total{direction="far",trigger="pull"}`:  "2",
		`baton_move_lost_packets_total{direction="near",trigger="pull"}`: "1",
		`baton_calls_total{event="started"}`:                             "1",
		`baton_calls_total{event="ended"}`:                               "1",
		`baton_call_seconds_sum`:                                         "90",
		`baton_devices{state="here"}`:                                    "1",
		`baton_devices{state="away"}`:                                    "1",
		`baton_held{what="streams"}`:                                     "4",
		`baton_mouth_to_ear_seconds_count{by="node"}`:                    "4",
		`baton_device_reports_total{how="vq-rtcpxr",outcome="late"}`:     "3",
		`baton_live_calls{state="setup"}`:                                "0",
		`baton_store_up`:                                                 "1",
	} {
		if got[line] != want {
			t.Errorf("%s is %q, want %s", line, got[line], want)
		}
	}
	if _, ok := got["go_goroutines"]; !ok {
		t.Error("nothing of the process itself")
	}
	if len(log.all) != 7 {
		t.Errorf("%d entries were passed on, want 7", len(log.all))
	}
	if code, _ := scrape(t, l.Addr().String(), "/api/v1/users"); code != http.StatusNotFound {
		t.Errorf("the API answers %d on the port of the metrics, which has no password", code)
	}
}

// TestMetricsOfAFailingStore shows all but what the store has to tell.
func TestMetricsOfAFailingStore(t *testing.T) {
	m, r := NewMetrics(&entries{}), newRig(t)
	m.Watch(r.calls, r.users, func() (Held, error) { return Held{}, errors.New("the disk is gone") }, func() error { return errors.New("full") })
	srv := httptest.NewServer(m)
	defer srv.Close()
	code, lines := scrape(t, srv.Listener.Addr().String(), "/metrics")
	if _, held := lines[`baton_held{what="streams"}`]; code != 200 || lines[`baton_devices{state="away"}`] == "" || held || lines["baton_store_up"] != "0" {
		t.Errorf("the answer is %d with %v", code, lines)
	}
}
