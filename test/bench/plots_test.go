package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/test/chart"
)

// plotted are the numbers of calls of the pictures.
var plotted = []int{10, 20, 50, 100, 200, 500, 1000, 2000, 3000, 5000}

const plottedTime = 4 * time.Second

// mostLost is the share of the packets, in percent, with which a point is drawn hollow.
const mostLost = 0.1

// TestPlots measures each relay with 10 to 5,000 calls and draws what that takes, and how long packets are held up.
func TestPlots(t *testing.T) {
	all := map[string][]passed{}
	for _, r := range relayers {
		t.Run(r.name, func(t *testing.T) {
			g := newGenerator(t)
			s := r.start(t, g)
			for _, calls := range plotted {
				if calls > s.most {
					calls = s.most / 10 * 10
					note("%s may have files open for %d calls, no more", r.name, calls)
				}
				for len(g.legs) < 2*calls {
					s.call(ciphers[0])
				}
				p := s.pass(t, g, calls, 0, plottedTime)
				p.tell(fmt.Sprintf("%s: plot, %d calls, ", r.name, calls))
				all[r.name] = append(all[r.name], p)
			}
		})
	}
	must(t, os.MkdirAll("out", 0o755))
	save := func(name string, text []byte) {
		must(t, os.WriteFile(filepath.Join("out", name), text, 0o644))
		note("written to test/bench/out/%s", name)
	}
	save("measure-cpu.svg", cpuChart(all).SVG())
	save("measure-latency.svg", latencyChart(all).SVG())
	table := plotTable(all)
	fmt.Printf("\n%s\n", table)
	save("measure-plots.md", []byte(table))
}

// Colours of the two, which those tell apart too who see red and green alike.
const (
	blue   = "#0969da"
	orange = "#d4620b"
	grey   = "#8c959f"
)

var plotColours = map[string]string{"engine": blue, "rtpengine": orange}

var plotNames = map[string]string{"engine": "baton's engine", "rtpengine": "rtpengine"}

// where says what the picture was measured on.
func where() string {
	return fmt.Sprintf("one core of %s, user space, 100 packets a second a call, %s; hollow: load too slow, or > %g %% lost", cpuModel(), run.Time.Format("2006-01-02"), mostLost)
}

// points are one figure of all points, each not below the least that is measured.
func points(all []passed, of func(passed) float64) (line []chart.Point) {
	for _, p := range all {
		line = append(line, chart.Point{X: float64(p.calls), Y: of(p), Doubtful: p.short() || p.control.short() || p.lostShare() > mostLost})
	}
	return line
}

func cpuChart(all map[string][]passed) chart.Chart {
	c := chart.Chart{Title: "Processor time of a relay", Subtitle: where(), X: "calls", Y: "CPU-seconds per million packets", LogY: true}
	for _, r := range relayers {
		c.Lines = append(c.Lines, chart.Line{Name: plotNames[r.name], Colour: plotColours[r.name], Points: points(all[r.name], passed.million)})
	}
	if peer := all["rtpengine"]; len(peer) > 0 {
		limit := points(slices.DeleteFunc(slices.Clone(peer), func(p passed) bool { return p.calls < 100 || p.calls > 1000 }), func(p passed) float64 { return relayShare * p.million() })
		for i := range limit {
			limit[i].Doubtful = false
		}
		c.Lines = append(c.Lines, chart.Line{Name: "limit: half of rtpengine's", Colour: grey, Dashed: true, Points: limit})
	}
	return c
}

func latencyChart(all map[string][]passed) chart.Chart {
	c := chart.Chart{Title: "Latency added by a relay", Subtitle: where(), X: "calls", Y: "milliseconds", LogY: true}
	for _, r := range relayers {
		for _, q := range []struct {
			name   string
			of     float64
			dashed bool
		}{{"p50", 0.5, false}, {"p99", 0.99, true}} {
			line := points(all[r.name], func(p passed) float64 { return max(p.added(q.of), time.Microsecond).Seconds() * 1e3 })
			c.Lines = append(c.Lines, chart.Line{Name: plotNames[r.name] + ", " + q.name, Colour: plotColours[r.name], Dashed: q.dashed, Points: line})
		}
	}
	return c
}

// plotTable is the same in words.
func plotTable(all map[string][]passed) string {
	var b strings.Builder
	b.WriteString("| calls | | CPU-seconds per million packets | of its core | latency added p50 / p99 | lost | packets/s |\n|---|---|---|---|---|---|---|\n")
	for i := range plotted {
		for _, r := range relayers {
			if i < len(all[r.name]) {
				p := all[r.name][i]
				fmt.Fprintf(&b, "| %d | %s | %.2f | %.0f %% | %s / %s ms | %s %% | %.0f |\n", p.calls, plotNames[r.name], p.million(), p.core(),
					number(p.added(0.5).Seconds()*1e3), number(p.added(0.99).Seconds()*1e3), number(p.lostShare()), p.rate())
			}
		}
	}
	return b.String()
}
