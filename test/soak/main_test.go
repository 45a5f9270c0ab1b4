package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

const ran = `fuzz: elapsed: 0s, gathering baseline coverage: 17/17 completed, now fuzzing with 2 workers
fuzz: elapsed: 3s, execs: 35841 (11935/sec), new interesting: 0 (total: 17)
fuzz: elapsed: 6s, execs: 82485 (15563/sec), new interesting: 2 (total: 19)
`

func TestFigures(t *testing.T) {
	if r, ok := figures(ran + "PASS\n"); !ok || r != (result{82485, 19}) {
		t.Errorf("%+v %v", r, ok)
	}
	if _, ok := figures("ok  	baton/sip	0.01s [no tests to run]\n"); ok {
		t.Error("a target that did not run has figures")
	}
}

// TestOnlyLate: nothing that a target has found is taken for the end of its time.
func TestOnlyLate(t *testing.T) {
	late := ran + "--- FAIL: FuzzX (9.05s)\n    context deadline exceeded\nFAIL\n"
	if !onlyLate(late) {
		t.Error("the end of the time is taken for a failure")
	}
	for _, out := range []string{
		ran + "--- FAIL: FuzzX (0.5s)\n    --- FAIL: FuzzX (0.00s)\n        x_test.go:1: wrong\n    \n    Failing input written to testdata/fuzz/FuzzX/1\nFAIL\n",
		late + "    Failing input written to testdata/fuzz/FuzzX/1\n", late + "panic: x\n", "", ran,
	} {
		if onlyLate(out) {
			t.Errorf("%q is taken for the end of the time", out)
		}
	}
}

// TestTargets finds what is declared, in every package, and nothing else.
func TestTargets(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a/x_test.go": "package a\n\nfunc FuzzOne(f *testing.F) {\n}\n\nfunc FuzzTwo(f *testing.F) {}\n\nfunc TestFuzzThree(t *testing.T) {}\n",
		"a/b/y.go":    "package b\n\nfunc FuzzFour(f *testing.F) {}\n", "a/b/y_test.go": "package b\n\n// func FuzzFive(\n", ".git/z_test.go": "func FuzzSix(",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	all, err := targets(".")
	if err != nil || !slices.Equal(all, []target{{"./a", "FuzzOne"}, {"./a", "FuzzTwo"}}) {
		t.Errorf("%v, %v", all, err)
	}
}
