package bench

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

var compare = flag.String("compare", "", "report of an earlier run to print ratios against")

// figure is one measured number; Better says which way is good, "more" or "less".
type figure struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Better string  `json:"better"`
}

// report is what a run leaves behind: its figures and the machine that they were measured on.
type report struct {
	Time     time.Time `json:"time"`
	Commit   string    `json:"commit"`
	Go       string    `json:"go"`
	Kernel   string    `json:"kernel"`
	CPU      string    `json:"cpu"`
	Cores    int       `json:"cores"`
	LoadFrom string    `json:"load_at_start"` // load average of 1, 5 and 15 minutes
	LoadTo   string    `json:"load_at_end"`
	Stolen   float64   `json:"stolen_percent"` // of the processors' time, by the machine's own host
	Failed   []string  `json:"failed"`         // verdicts
	Figures  []figure  `json:"figures"`
	Compared []*row    `json:"compared,omitempty"`
}

var (
	reportMu sync.Mutex
	run      = report{Time: time.Now(), LoadFrom: loadAverage()}
	begun    = ticks()
)

// more records a figure that is better the greater it is.
func more(name string, value float64, unit string) { keep(figure{name, value, unit, "more"}) }

// less records a figure that is better the smaller it is.
func less(name string, value float64, unit string) { keep(figure{name, value, unit, "less"}) }

func keep(f figure) {
	reportMu.Lock()
	defer reportMu.Unlock()
	run.Figures = append(run.Figures, f)
}

func keepFailed(what string) {
	reportMu.Lock()
	defer reportMu.Unlock()
	run.Failed = append(run.Failed, what)
}

// lessMS records a time in milliseconds.
func lessMS(name string, d time.Duration) { less(name, float64(d)/float64(time.Millisecond), "ms") }

// finish prints the table, writes the report and compares it with an earlier one.
func finish() error {
	run.LoadTo, run.Commit, run.Go, run.Cores = loadAverage(), output("git", "describe", "--always", "--dirty"), runtime.Version(), runtime.NumCPU()
	run.Kernel, run.CPU, run.Stolen = output("uname", "-r"), cpuModel(), stolen(begun, ticks())
	if len(run.Figures)+len(run.Compared) == 0 {
		return nil
	}
	was := map[string]float64{}
	if *compare != "" {
		old, err := readReport(*compare)
		if err != nil {
			return fmt.Errorf("compare with %s: %w", *compare, err)
		}
		fmt.Printf("\nbefore: %s\n", old.machine())
		for _, f := range old.Figures {
			was[f.Name] = f.Value
		}
	}
	fmt.Printf("\n%s\n\n| figure | value | unit | better | before | ratio |\n|---|---|---|---|---|---|\n", run.machine())
	for _, f := range run.Figures {
		fmt.Println(f.row(was))
	}
	if err := run.writeComparison(); err != nil {
		return err
	}
	return run.write(filepath.Join("out", "bench-"+run.Time.Format("2006-01-02-150405")+".json"))
}

func (f figure) row(was map[string]float64) string {
	before, ratio := "", ""
	if old, ok := was[f.Name]; ok {
		before = number(old)
		if old != 0 {
			ratio = fmt.Sprintf("%.2f", f.Value/old)
		}
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |", f.Name, number(f.Value), f.Unit, f.Better, before, ratio)
}

// number has three digits at least, and none that mean nothing.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

func (r report) machine() string {
	return fmt.Sprintf("%s, commit %s, %s, %d cores (%s), kernel %s, load average %s at the start, %s at the end, %.1f %% stolen by the host",
		r.Time.Format("2006-01-02 15:04"), r.Commit, r.Go, r.Cores, r.CPU, r.Kernel, r.LoadFrom, r.LoadTo, r.Stolen)
}

func (r report) write(name string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	fmt.Printf("\nwritten to test/bench/%s\n", name)
	return os.WriteFile(name, append(text, '\n'), 0o644)
}

func readReport(name string) (report, error) {
	var r report
	text, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	return r, err
}

func output(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func loadAverage() string {
	b, _ := os.ReadFile("/proc/loadavg")
	f := strings.Fields(string(b))
	return strings.Join(f[:min(3, len(f))], " ")
}

// ticks are the processors' times since the machine's start, by kind: proc_stat(5).
func ticks() (kinds [8]float64) {
	b, _ := os.ReadFile("/proc/stat")
	fmt.Sscanf(string(b), "cpu %g %g %g %g %g %g %g %g", &kinds[0], &kinds[1], &kinds[2], &kinds[3], &kinds[4], &kinds[5], &kinds[6], &kinds[7])
	return kinds
}

// stolen is the share of the time between two looks, in percent, in which a processor had work and the machine's own host ran something else.
func stolen(from, to [8]float64) float64 {
	all := 0.0
	for i := range to {
		all += to[i] - from[i]
	}
	return 100 * (to[7] - from[7]) / max(all, 1)
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
