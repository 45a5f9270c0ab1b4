package house

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	testFunc  = regexp.MustCompile(`(?m)^func ((?:Test|Benchmark)\w+)\(`)
	testName  = regexp.MustCompile("`(Test[A-Z]\\w*)`")
	testRun   = regexp.MustCompile(`go test (?:-\w+ )?\./(\S*) -run ('[^']*'|[^\s` + "`" + `]+)`)
	benchName = regexp.MustCompile(`-bench ([A-Z]\w*)`)
)

// testsOf are the names of all tests and benchmarks, by the directory that they are in.
func testsOf(t *testing.T, root string) map[string][]string {
	all := map[string][]string{}
	files, err := filepath.Glob(filepath.Join(root, "*", "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	deeper, _ := filepath.Glob(filepath.Join(root, "*", "*", "*_test.go"))
	for _, f := range append(files, deeper...) {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		dir, _ := filepath.Rel(root, filepath.Dir(f))
		for _, m := range testFunc.FindAllStringSubmatch(string(text), -1) {
			all[dir] = append(all[dir], m[1])
		}
	}
	return all
}

// strayTests are the tests that a document names and that are not there.
func strayTests(text string, tests map[string][]string) (stray []string) {
	matching := func(names []string, expr string) bool {
		e, err := regexp.Compile(expr)
		return err == nil && slices.ContainsFunc(names, e.MatchString)
	}
	var everywhere []string
	for _, names := range tests {
		everywhere = append(everywhere, names...)
	}
	for _, m := range testName.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(everywhere, m[1]) {
			stray = append(stray, m[1])
		}
	}
	for _, m := range testRun.FindAllStringSubmatch(text, -1) {
		dir, expr := strings.TrimSuffix(m[1], "/"), strings.ReplaceAll(strings.Trim(m[2], "'"), `\|`, "|") // as a table has it
		if expr != "none" && expr != "xxx" && !matching(tests[dir], strings.Split(expr, "/")[0]) {
			stray = append(stray, m[0])
		}
	}
	for _, m := range benchName.FindAllStringSubmatch(text, -1) {
		if !matching(everywhere, "^Benchmark.*"+m[1]) {
			stray = append(stray, m[0])
		}
	}
	return stray
}

// TestNamedTests: every test that the documents tell people to run is there.
func TestNamedTests(t *testing.T) {
	tests := testsOf(t, "../..")
	docs, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(docs) == 0 {
		t.Fatal("no documents", err)
	}
	named := 0
	for _, f := range append(docs, "../../README.md") {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		named += len(testName.FindAll(text, -1)) + len(testRun.FindAll(text, -1))
		for _, name := range strayTests(string(text), tests) {
			t.Errorf("%s names %s, and there is none", filepath.Base(f), name)
		}
	}
	if named < 30 {
		t.Errorf("the documents name %d tests: they are not found", named)
	}
}

// TestStrayTests: a name that is none is found, whichever way it is written.
func TestStrayTests(t *testing.T) {
	tests := map[string][]string{"store": {"TestRedisMasterKilled", "BenchmarkRedisPut"}}
	good := "`TestRedisMasterKilled`, `go test ./store -run 'TestRedisMaster(Killed\\|Frozen)'`, `go test ./store -run none -bench RedisPut`"
	if stray := strayTests(good, tests); len(stray) > 0 {
		t.Errorf("good names are stray: %q", stray)
	}
	for _, text := range []string{"`TestRedisMaster`", "`go test ./store -run Frozen`", "`go test ./sip -run Killed`", "`go test ./store -run none -bench Put2`", "`go test ./store -bench Other`"} {
		if stray := strayTests(text, tests); len(stray) != 1 {
			t.Errorf("%s: %q", text, stray)
		}
	}
}
