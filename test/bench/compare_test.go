package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// row is one line of the comparison: what was done, and what each program made of it in this run.
type row struct {
	Work   string   `json:"work"`
	Unit   string   `json:"unit"`
	Limit  string   `json:"limit,omitempty"`
	OK     *bool    `json:"ok,omitempty"` // nil = no limit, or nothing to hold it against
	Values []amount `json:"values"`
}

// amount is what one program made of it.
type amount struct {
	Of    string  `json:"of"`
	Value float64 `json:"value"`
}

// ours are the names under which baton is measured.
var ours = []string{"baton", "engine", "baton with Redis"}

// beside records what one program made of a work that others do too; guarded by reportMu.
func beside(work, unit, of string, value float64) {
	reportMu.Lock()
	defer reportMu.Unlock()
	r := rowOf(work)
	r.Unit = unit
	r.Values = append(r.Values, amount{of, value})
}

// held records the limit of a work, and whether it is held.
func held(work, limit string, ok bool) {
	reportMu.Lock()
	defer reportMu.Unlock()
	r := rowOf(work)
	r.Limit, r.OK = limit, &ok
}

// rowOf finds or makes the line; reportMu is held.
func rowOf(work string) *row {
	i := slices.IndexFunc(run.Compared, func(r *row) bool { return r.Work == work })
	if i < 0 {
		i = len(run.Compared)
		run.Compared = append(run.Compared, &row{Work: work})
	}
	return run.Compared[i]
}

// comparison is the table of all that was compared, in Markdown.
func (r report) comparison() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| work | baton | limit | | beside it in the same run | ratio |\n|---|---|---|---|---|---|\n")
	for _, w := range r.Compared {
		fmt.Fprintln(&b, w.markdown())
	}
	return b.String()
}

func (r row) markdown() string {
	own, peers, ratios := "", []string(nil), []string(nil)
	first := 0.0
	for _, a := range r.Values {
		text := number(a.Value) + " " + r.Unit
		if slices.Contains(ours, a.Of) {
			own, first = text, a.Value
			continue
		}
		peers = append(peers, a.Of+" "+text)
	}
	for _, a := range r.Values {
		if !slices.Contains(ours, a.Of) && own != "" && a.Value != 0 {
			ratios = append(ratios, fmt.Sprintf("%.2f", first/a.Value))
		}
	}
	verdict := ""
	if r.OK != nil {
		verdict = map[bool]string{true: "PASS", false: "FAIL"}[*r.OK]
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |", r.Work, own, r.Limit, verdict, strings.Join(peers, ", "), strings.Join(ratios, ", "))
}

// writeComparison prints the table and keeps it beside the report.
func (r report) writeComparison() error {
	if len(r.Compared) == 0 {
		return nil
	}
	text := r.comparison()
	fmt.Printf("\n%s", text)
	name := filepath.Join("out", "compare-"+r.Time.Format("2006-01-02-150405")+".md")
	if err := os.MkdirAll("out", 0o755); err != nil {
		return err
	}
	fmt.Printf("\nwritten to test/bench/%s\n", name)
	return os.WriteFile(name, []byte(r.machine()+"\n\n"+text), 0o644)
}
