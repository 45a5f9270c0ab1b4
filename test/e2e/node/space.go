// Package node runs the built baton as its users do, in a network namespace made for the test: it starts and stops it,
// asks its command line, and looks at it from outside. It imports nothing of baton.
package node

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// What the process inside the namespace is told by the one outside.
const (
	envInside = "BATON_TEST_INSIDE"
	envBinary = "BATON_TEST_BINARY"
)

// addresses is how many addresses of each family the namespace has.
const addresses = 20

// IP is the n-th address of the namespace, 1..20, on an interface that is not lo: real clients refuse loopback.
func IP(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, byte(n)}) }

// IP6 is the n-th IPv6 address of the namespace, 1..20.
func IP6(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd77::%x", n)) }

// Main is for TestMain: it builds baton and runs the tests in a network namespace that has no name and vanishes with the
// last process in it, however that ends. What shall be done after the tests is called inside.
func Main(m *testing.M, after ...func() error) {
	flag.Parse()
	if os.Getenv(envInside) != "" {
		os.Exit(inside(m, after))
	}
	if testing.Short() {
		fmt.Println("skipped: -short")
		os.Exit(0)
	}
	os.Exit(outside())
}

func outside() int {
	dir, err := os.MkdirTemp("", "baton-e2e-")
	if err != nil {
		return fail("make a directory for the binary: %v", err)
	}
	defer os.RemoveAll(dir)
	if _, err := exec.LookPath("ip"); err != nil {
		return missing("the program ip (package iproute2)")
	}
	binary := filepath.Join(dir, "baton")
	if err := build(binary); err != nil {
		return fail("%v", err)
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), envInside+"=1", envBinary+"="+binary)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	runtime.LockOSThread() // Pdeathsig is the death of the thread
	if err := cmd.Start(); err != nil {
		return missing("the right to make a network namespace (run as root): " + err.Error())
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	go func() { cmd.Process.Signal(<-stop) }()
	return exitStatus(cmd.Wait())
}

// Binary is the baton that was built for the tests.
func Binary() string { return os.Getenv(envBinary) }

func exitStatus(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	}
	return fail("tests in the namespace: %v", err)
}

// missing ends a run that cannot be: a failure where everything must be tried.
func missing(what string) int {
	if os.Getenv("CI") == "true" {
		return fail("needs %s", what)
	}
	fmt.Printf("skipped: needs %s\n", what)
	return 0
}

func fail(format string, args ...any) int {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	return 1
}

// build makes the binary as the Makefile does; BATON_TEST_RACE=1 builds it with the race detector.
func build(to string) error {
	args := []string{"build", "-o", to}
	if os.Getenv("BATON_TEST_RACE") != "" {
		args = append(args, "-race")
	} else {
		os.Setenv("CGO_ENABLED", "0")
	}
	cmd := exec.Command("go", append(args, "baton/cmd/baton")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build baton: %w\n%s", err, out)
	}
	return nil
}

// inside sets the namespace up and runs the tests. What they mount is seen by them alone, and vanishes with them.
func inside(m *testing.M, after []func() error) int {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fail("keep mounts to the tests: %v", err)
	}
	commands := []string{
		"link set lo up",
		"link add b0 type veth peer name b1",
		"link set b0 up",
		"link set b1 up",
	}
	for n := 1; n <= addresses; n++ {
		commands = append(commands, fmt.Sprintf("addr add %s/24 dev b0", IP(n)), fmt.Sprintf("-6 addr add %s/64 dev b0 nodad", IP6(n)))
	}
	commands = append(commands, "route add default via 10.77.0.250 dev b0", "-6 route add default via fd77::250 dev b0")
	for _, c := range commands {
		if out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			return fail("ip %s: %v: %s", c, err, out)
		}
	}
	status := m.Run()
	for _, do := range after {
		if err := do(); err != nil {
			return fail("after the tests: %v", err)
		}
	}
	return status
}

// noteSources opens baton's sources and the scripts of the tests, so that the go command sees that a test's result depends on
// them and does not show an old one for a new binary.
var noteSources = sync.OnceFunc(func() {
	root := "../.."
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules" || d.Name() == "data") {
			return fs.SkipDir
		}
		switch filepath.Ext(path) {
		case ".go", ".mod", ".js", ".mjs", ".html", ".css":
			if f, err := os.Open(path); err == nil {
				f.Close()
			}
		}
		return nil
	})
})
