package bench

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"baton/test/e2e/node"
)

// server is a program that is measured: baton, or one that it is compared with.
type server struct {
	name string
	pid  int
	node *node.Node // nil for others
	also []int      // processes that work for it
}

func of(n *node.Node) server { return server{name: "baton", pid: n.PID(), node: n} }

var profiles = flag.String("profile", "", "directory for profiles of the node under the loads")

// profileFor is how long a profile lasts, in seconds; a load of less is profiled to its end and beyond.
const profileFor = 3

// profiled has the node profile itself from now on, if that is wanted; the file bears the name of the load. What it gives waits
// for the profile.
func (s server) profiled(t *testing.T, load string) (wait func()) {
	if *profiles == "" || s.node == nil {
		return func() {}
	}
	done := make(chan error, 2)
	save := func(page, kind string) { done <- s.save(page, load, kind) }
	go save(fmt.Sprintf("profile?seconds=%d", profileFor), ".cpu")
	return func() {
		save("allocs", ".allocs") // all since its start
		must(t, <-done)
		must(t, <-done)
	}
}

// heldBy has the node write down who has allocated what it holds, if profiles are wanted.
func (s server) heldBy(t *testing.T, what string) {
	if *profiles == "" || s.node == nil {
		return
	}
	must(t, s.save("heap", what, ".heap"))
}

// save writes a profile of the node into the directory for them.
func (s server) save(page, load, kind string) error {
	p, err := s.node.Get("/debug/pprof/" + page)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*profiles, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(*profiles, strings.NewReplacer(" ", "-", "/", "-", ",", "").Replace(load)+kind), p, 0o644)
}

// startPeer runs a program beside which baton is measured until the end of the test; without the program the test is skipped.
func startPeer(t *testing.T, pkg, program string, args ...string) server {
	t.Helper()
	return startPeerBehind(t, nil, pkg, program, args...)
}

// startPeerBehind starts one by another command, as taskset.
func startPeerBehind(t *testing.T, before []string, pkg, program string, args ...string) server {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		fmt.Printf("SKIP  %s is not installed: apt-get install %s\n", program, pkg)
		t.Skipf("%s is not installed (package %s)", program, pkg)
	}
	var said bytes.Buffer
	command := slices.Concat(before, []string{path}, args)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, node.Spawn(cmd))
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
		cmd.Wait()
		late.Stop()
		if t.Failed() {
			t.Logf("%s said at last:\n%s", program, said.Bytes()[max(0, said.Len()-2000):])
		}
	})
	return server{name: program, pid: cmd.Process.Pid}
}

// processes are the server's process and its children.
func (s server) processes() []int {
	all := append([]int{s.pid}, s.also...)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		f := statFields(name)
		if len(f) > 1 && f[1] == strconv.Itoa(s.pid) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			all = append(all, pid)
		}
	}
	return all
}

// cpu is the processor time that the server has used, in user space and in the kernel.
func (s server) cpu() time.Duration { return s.clock()() }

// clock reads the processor time of the server's processes, of those that there are now: to the nanosecond, and without reading files.
func (s server) clock() func() time.Duration {
	all := s.processes()
	return func() (sum time.Duration) {
		for _, pid := range all {
			sum += cpuClock(int32(^pid)<<3 | 2) // CPUCLOCK_SCHED of a process: clock_getcpuclockid(3)
		}
		return sum
	}
}

// statFields are the fields of proc/pid/stat from the third, the state, on: the second may hold spaces.
func statFields(name string) []string {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

// resident is memory in bytes: a process's own, and its share of what files it has mapped.
type resident struct{ own, file int64 }

func (r resident) all() int64 { return r.own + r.file }
func (r resident) minus(other resident) resident {
	return resident{r.own - other.own, r.file - other.file}
}

// memory is the server's share of resident memory; what its processes share counts once.
func (s server) memory() resident {
	var r resident
	for _, pid := range s.processes() {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) < 2 {
				continue
			}
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			switch f[0] {
			case "Pss_Anon:", "Pss_Shmem:":
				r.own += kb << 10
			case "Pss_File:":
				r.file += kb << 10
			}
		}
	}
	return r
}

// perSecond is how many of something there are for each second of processor time.
func perSecond(count int, cpu time.Duration) float64 {
	return float64(count) / max(cpu, 10*time.Millisecond).Seconds()
}
