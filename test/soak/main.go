// Command soak runs every fuzz target of the module for a while, one after the other, and stops at the first that fails.
//
//	go run ./test/soak -for 60s [-only REGEXP]
package main

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func main() {
	long := flag.Duration("for", time.Minute, "how long each target runs")
	only := flag.String("only", "", "run the targets that this expression fits")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := soak(ctx, *long, *only); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func soak(ctx context.Context, long time.Duration, only string) error {
	fits, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	all, err := targets(".")
	if err != nil {
		return err
	}
	fmt.Printf("%-14s %-20s %12s %10s %8s\n", "package", "target", "executions", "per second", "corpus")
	var total uint64
	for _, t := range all {
		if !fits.MatchString(t.String()) {
			continue
		}
		r, err := t.run(ctx, long)
		if err != nil {
			return err
		}
		total += r.executions
		fmt.Printf("%-14s %-20s %12d %10.0f %8d\n", strings.TrimPrefix(t.dir, "./"), t.name, r.executions, float64(r.executions)/long.Seconds(), r.corpus)
	}
	fmt.Printf("%-14s %-20s %12d\n", "", "all", total)
	return nil
}

// target is one fuzz target and the directory of its package.
type target struct{ dir, name string }

func (t target) String() string { return t.dir + " " + t.name }

var declared = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)

// targets finds all fuzz targets below a directory by their declarations.
func targets(root string) ([]target, error) {
	var all []target
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			all = append(all, target{"./" + filepath.ToSlash(filepath.Dir(path)), string(m[1])})
		}
		return err
	})
	return all, err
}

// result is what the go command says of a target's run.
type result struct {
	executions, corpus uint64
}

// run fuzzes one target. Its error shows what the go command has said. What reaches new code is made smaller in a few tries only: by
// default that can take the whole time, a hundred executions in place of ten thousand.
func (t target) run(ctx context.Context, long time.Duration) (result, error) {
	args := []string{"test", t.dir, "-run", "^$", "-fuzz", "^" + t.name + "$", "-fuzztime", long.String(), "-fuzzminimizetime", "50x"}
	out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput()
	if err != nil && (ctx.Err() != nil || !onlyLate(string(out))) {
		return result{}, fmt.Errorf("%s has failed (%w):\n%s\ngo %s", t, err, out, strings.Join(args, " "))
	}
	r, ok := figures(string(out))
	if !ok {
		return r, fmt.Errorf("%s has not run:\n%s", t, out)
	}
	return r, nil
}

// onlyLate says whether a target failed for nothing but that its time was over: the go command takes a worker that is not ready at
// that moment for a failure.
func onlyLate(out string) bool {
	return strings.Contains(out, "\n    context deadline exceeded\n") && !strings.Contains(out, "Failing input") && !strings.Contains(out, "panic")
}

var progress = regexp.MustCompile(`execs: (\d+) .*\(total: (\d+)\)`)

// figures are those of the last line of progress.
func figures(out string) (r result, ok bool) {
	all := progress.FindAllStringSubmatch(out, -1)
	if len(all) == 0 {
		return r, false
	}
	last := all[len(all)-1]
	r.executions, _ = strconv.ParseUint(last[1], 10, 64)
	r.corpus, _ = strconv.ParseUint(last[2], 10, 64)
	return r, r.executions > 0
}
