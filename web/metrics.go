package web

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"baton/call"
	"baton/journal"
)

// Metrics counts what the log is told of, on its way there, and shows the counts and what the node holds in the form that
// Prometheus reads. Durations are in seconds.
type Metrics struct {
	// set once
	next     journal.Journal
	registry *prometheus.Registry
	handler  http.Handler

	moves   *prometheus.CounterVec
	lost    *prometheus.CounterVec
	figures map[string]*prometheus.HistogramVec // by the name of the figure in the log
	calls   *prometheus.CounterVec
	talked  prometheus.Histogram
}

// maxScrapes is how many may read the metrics at once: each asks for all calls, and anybody who reaches the port may ask.
const maxScrapes = 4

// triggers are the ways in which a move can be asked for; what is none of them is counted as "other", so that the number of
// series is bounded.
var triggers = []string{"refer", "attended", "pull", "replaces", "code", "cli", "api", "recall"}

// moveFigures are the figures of a move that are histograms, with their buckets in seconds.
var moveFigures = []struct {
	key, name, help string
	buckets         []float64
}{
	{
		"switch_ms", "baton_move_switch_seconds", "From the trigger to audio both ways on the new device, without ringing.",
		[]float64{.01, .02, .03, .05, .075, .1, .15, .2, .3, .5, 1, 2, 5},
	},
	{
		"gap_ms", "baton_move_gap_seconds", "Longest time between two packets that the far side was sent, round the switch.",
		[]float64{.02, .0225, .025, .03, .035, .042, .06, .1, .2, .5, 1},
	},
	{"ring_ms", "baton_move_ring_seconds", "How long the new device rang.", []float64{.05, .1, .2, .5, 1, 2, 5, 10, 20, 30, 60}},
	{
		"held_ms", "baton_move_held_seconds", "How long the old phone had put the call on hold itself before the switch.",
		[]float64{.05, .1, .2, .5, 1, 2, 5, 10, 20, 30, 60},
	},
}

// NewMetrics makes a Metrics before next, the log.
func NewMetrics(next journal.Journal) *Metrics {
	m := &Metrics{
		next: next, registry: prometheus.NewRegistry(), figures: map[string]*prometheus.HistogramVec{},
		moves: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "baton_moves_total", Help: "Moves and transfers of live calls by what asked for them, and the SIP status of their outcome (200 = moved).",
		}, []string{"trigger", "code"}),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "baton_move_lost_packets_total", Help: "Audio packets that a move cost: far = of what the far side was sent, near = of what it sent.",
		}, []string{"trigger", "direction"}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "baton_calls_total", Help: "Calls by how far they came: started, answered, forwarded, picked-up, missed, ended.",
		}, []string{"event"}),
		talked: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "baton_call_seconds", Help: "Talk time of ended calls.", Buckets: []float64{1, 10, 30, 60, 180, 600, 1800, 3600, 4 * 3600},
		}),
	}
	for _, f := range moveFigures {
		m.figures[f.key] = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: f.name, Help: f.help, Buckets: f.buckets}, []string{"trigger"})
		m.registry.MustRegister(m.figures[f.key])
	}
	m.registry.MustRegister(m.moves, m.lost, m.calls, m.talked, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes})
	return m
}

// Append counts e and passes it on.
func (m *Metrics) Append(e journal.Entry) {
	m.next.Append(e)
	switch e.Kind {
	case journal.CallMoved:
		m.moved(e)
	case journal.CallMoveFailed:
		m.moves.WithLabelValues(trigger(e), status(e)).Inc()
	case journal.CallStarted, journal.CallAnswered, journal.CallForwarded, journal.CallPickedUp, journal.CallMissed:
		m.calls.WithLabelValues(string(e.Kind)[len("call-"):]).Inc()
	case journal.CallEnded:
		m.calls.WithLabelValues("ended").Inc()
		m.talked.Observe(e.Duration.Seconds())
	}
}

// moved counts a move that was done, with its figures.
func (m *Metrics) moved(e journal.Entry) {
	how := trigger(e)
	m.moves.WithLabelValues(how, "200").Inc()
	for key, h := range m.figures {
		if v, err := strconv.ParseFloat(e.Data[key], 64); err == nil {
			h.WithLabelValues(how).Observe(v / 1000)
		}
	}
	for direction, key := range map[string]string{"far": "lost", "near": "near_lost"} {
		if n, err := strconv.ParseUint(e.Data[key], 10, 32); err == nil {
			m.lost.WithLabelValues(how, direction).Add(float64(n))
		}
	}
}

func trigger(e journal.Entry) string {
	if how := e.Data["how"]; slices.Contains(triggers, how) {
		return how
	}
	return "other"
}

// status is the SIP status of a failed move, one of a few hundred at most.
func status(e journal.Entry) string {
	if n, err := strconv.ParseUint(e.Data["code"], 10, 16); err == nil && n >= 100 && n < 700 {
		return strconv.FormatUint(n, 10)
	}
	return "other"
}

// Watch adds gauges of what the node holds at the moment it is asked: live calls by state, devices that are here, and the
// counts of Held, and whether the store is well.
func (m *Metrics) Watch(calls Calls, registrar Registrar, held func() (Held, error), healthy func() error) {
	m.registry.MustRegister(&gauges{calls: calls, registrar: registrar, held: held, healthy: healthy})
}

// gauges are read anew each time that Prometheus asks.
type gauges struct {
	calls     Calls
	registrar Registrar
	held      func() (Held, error)
	healthy   func() error // of the store
}

var (
	liveCalls   = prometheus.NewDesc("baton_live_calls", "Calls by state: setup, up, ending.", []string{"state"}, nil)
	liveMedia   = prometheus.NewDesc("baton_live_media", "Calls that are up by the way of their audio: direct, relay.", []string{"way"}, nil)
	liveDevices = prometheus.NewDesc("baton_devices", "Devices that are known, by where they are: here, away.", []string{"state"}, nil)
	storeUp     = prometheus.NewDesc("baton_store_up", "1 = the store takes writes, 0 = it does not: calls go on, what changes is kept in memory.", nil, nil)
	liveDelay   = prometheus.NewDesc("baton_live_mouth_to_ear_seconds", "Average estimated delay from mouth to ear over both ways of the live calls, as far as it is known.", nil, nil)
	endedDelay  = prometheus.NewDesc(
		"baton_mouth_to_ear_seconds", "Estimated delay from mouth to ear of each way of a call, at its end, by who has measured what is heard: node, device.", []string{"by"}, nil,
	)
	deviceReports = prometheus.NewDesc(
		"baton_device_reports_total", "Reports of devices on their audio, by how they came (vq-rtcpxr, getstats, bye) and what became of them: taken, late (the call has just ended), unknown (no call of that user).",
		[]string{"how", "outcome"}, nil,
	)
	heldThings = prometheus.NewDesc("baton_held", "What the node holds: streams, dialogs, transactions, records, subscriptions, connections, web-connections, relays.", []string{"what"}, nil)
)

// Describe implements prometheus.Collector.
func (g *gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{liveCalls, liveMedia, liveDevices, storeUp, liveDelay, endedDelay, deviceReports, heldThings} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, n int, label string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), label)
	}
	states := map[string]int{string(call.StateSetup): 0, string(call.StateUp): 0, string(call.StateEnding): 0}
	calls := g.calls.Calls("")
	ways := map[string]int{"direct": 0, "relay": 0}
	for _, c := range calls {
		states[c.State]++
		if c.State == string(call.StateUp) {
			ways[c.Media]++
		}
	}
	for way, n := range ways {
		gauge(liveMedia, n, way)
	}
	g.collectSound(to, calls)
	for state, n := range states {
		gauge(liveCalls, n, state)
	}
	here, away := 0, 0
	for _, d := range g.registrar.Devices("") {
		if d.Here() {
			here++
		} else {
			away++
		}
	}
	gauge(liveDevices, here, "here")
	gauge(liveDevices, away, "away")
	up := 1.0
	if g.healthy() != nil {
		up = 0
	}
	to <- prometheus.MustNewConstMetric(storeUp, prometheus.GaugeValue, up)
	held, err := g.held()
	if err != nil {
		to <- prometheus.NewInvalidMetric(heldThings, err)
		return
	}
	for what, n := range map[string]int{
		"streams": held.Streams, "dialogs": held.Dialogs, "transactions": held.Transactions, "records": held.Records,
		"subscriptions": held.Subscriptions, "connections": held.Connections.Open,
		"web-connections": held.Web.Open, "relays": held.Relays,
	} {
		gauge(heldThings, n, what)
	}
}

// collectSound tells how long sound takes, and what devices have reported.
func (g *gauges) collectSound(to chan<- prometheus.Metric, calls []call.Info) {
	if m := liveMean(calls); m.Ways > 0 {
		to <- prometheus.MustNewConstMetric(liveDelay, prometheus.GaugeValue, m.Mean/1000)
	}
	for by, d := range g.calls.Delays() {
		buckets := map[float64]uint64{}
		for i, most := range call.DelayBounds {
			buckets[most/1000] = d.Buckets[i]
		}
		to <- prometheus.MustNewConstHistogram(endedDelay, d.Count, d.Sum/1000, buckets, by)
	}
	for of, n := range g.calls.Reports() {
		to <- prometheus.MustNewConstMetric(deviceReports, prometheus.CounterValue, float64(n), of[0], of[1])
	}
}

// ServeHTTP shows the metrics. What cannot be read, as the records of a store that fails, is left out.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.handler.ServeHTTP(w, r) }

// ServeMetrics answers GET /metrics on a listener of its own until ctx ends, and nothing else: there is no password on it.
func ServeMetrics(ctx context.Context, l net.Listener, m *Metrics) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m)
	return serve(ctx, "the metrics", l, mux)
}
