package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"baton/journal"
	"baton/web"
)

// TestMain lets the test binary be baton itself: the tests start real processes.
func TestMain(m *testing.M) {
	if os.Getenv("BATON_IS_MAIN") == "1" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// baton makes a command of this binary in a directory without a baton.yaml. With the race detector a process would sleep for a second at its end.
func baton(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "BATON_IS_MAIN=1", "TZ=UTC", "GORACE=atexit_sleep_ms=10")
	cmd.Dir = t.TempDir()
	return cmd
}

// run runs baton to its end and returns what it wrote and its status.
func run(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := baton(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// wants runs baton and compares what it says with want, a regular expression over all of it.
func wants(t *testing.T, code int, want string, args ...string) string {
	t.Helper()
	out, errs, got := run(t, "", args...)
	if got != code || !regexp.MustCompile(want).MatchString(out+errs) {
		t.Errorf("baton %s: status %d, want %d; said\n%s\nwant %s", strings.Join(args, " "), got, code, out+errs, want)
	}
	if code != 0 && strings.Count(strings.TrimSpace(errs), "\n") > 0 {
		t.Errorf("baton %s: an error is one line, not\n%s", strings.Join(args, " "), errs)
	}
	return out
}

// process is a node in a process of its own.
type process struct {
	cmd  *exec.Cmd
	dir  string
	out  output
	errs output
}

// output collects what a process writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// local is a configuration whose listeners take any free port of loopback.
const local = "listen: {udp: \"127.0.0.1:0\", tcp: \"127.0.0.1:0\", tls: \"127.0.0.1:0\", web: \"127.0.0.1:0\"}\nmedia: {webrtc: 0}\n"

// write puts a configuration into a file of its own.
func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "baton.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// serve starts a node on dir and waits until it answers.
func serve(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	p := &process{dir: dir}
	p.cmd = baton(t, append([]string{"serve", "--data", dir, "--config", write(t, local)}, args...)...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.errs
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.stop(t, syscall.SIGKILL)
		}
		if t.Failed() {
			t.Logf("the node said\n%s", p.errs.String())
		}
	})
	waitFor(t, "the node to run", func() bool { return strings.Contains(p.errs.String(), "node is running") })
	return p
}

// stop ends the process by a signal and returns its status.
func (p *process) stop(t *testing.T, s os.Signal) int {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.cmd.Wait() // its status is asked for below
	}()
	select {
	case <-done:
	case <-time.After(15 * time.Second):
		t.Errorf("the node does not stop\n%s", p.errs.String())
		_ = p.cmd.Process.Kill()
		<-done
	}
	return p.cmd.ProcessState.ExitCode()
}

// waitFor polls until what is awaited has happened.
func waitFor(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !happened(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// shortDir is a directory whose socket path is short enough, wherever the tests' own ones are.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "baton")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "data")
}

// TestUsers goes through the life of a user, with a node running and without.
func TestUsers(t *testing.T) {
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("node running %v", running), func(t *testing.T) {
			dir := shortDir(t)
			if running {
				serve(t, dir)
			}
			on := func(args ...string) []string { return append(args, "--data", dir) }
			wants(t, 0, `(?s)^user +carol\nnumber +103, 104\npassword +\S{10,} +\(shown this once\)\n$`,
				on("user", "add", "carol", "--number", "103", "--number", "104", "--display", "Carol Jones")...)
			wants(t, 1, `^baton: .*carol.*in use`, on("user", "add", "carol")...)
			wants(t, 1, `^baton: .*103.*in use`, on("user", "add", "dave", "--number", "103")...)
			wants(t, 2, `^baton: .*not valid`, on("user", "add", "no good")...)
			if out, errs, code := run(t, "mine-alone\n", on("user", "add", "erin", "--password-stdin")...); code != 0 || strings.Contains(out, "password") {
				t.Errorf("erin: status %d, %s%s", code, out, errs)
			}
			wants(t, 1, `standard input is empty`, on("user", "passwd", "erin", "--password-stdin")...)
			wants(t, 0, `(?m)^USER +NUMBER +DISPLAY +DEVICES\ncarol +103, 104 +Carol Jones +none\nerin +- +- +none\n`, on("user", "list")...)
			wants(t, 0, `(?s)^user +carol\nnumber +103, 104\n.*devices +none\n`, on("user", "show", "104")...)
			wants(t, 4, `^baton: there is no user "zoe"\n$`, on("user", "show", "zoe")...)
			wants(t, 0, `^password +\S{10,} +\(shown this once\)\n$`, on("user", "passwd", "carol")...)
			wants(t, 0, `^$`, on("user", "remove", "103")...)
			wants(t, 4, `there is no user "carol"`, on("user", "remove", "carol")...)
			var users []web.User
			if err := json.Unmarshal([]byte(wants(t, 0, `"name": "erin"`, on("user", "list", "--json")...)), &users); err != nil || len(users) != 1 {
				t.Errorf("users %+v, error %v", users, err)
			}
		})
	}
}

// TestNode asks a node everything that it can tell without a phone.
func TestNode(t *testing.T) {
	dir := shortDir(t)
	p := serve(t, dir)
	on := func(args ...string) []string { return append(args, "--data", dir) }
	wants(t, 0, `^no device has registered yet\n$`, on("devices")...)
	wants(t, 0, `^\[\]\n$`, on("devices", "--json")...)
	wants(t, 4, `^baton: there is no user "zoe"\n$`, on("devices", "zoe")...)
	wants(t, 0, `^no live calls\n$`, on("calls")...)
	wants(t, 0, `^\[\]\n$`, on("calls", "--json")...)
	wants(t, 4, `^baton: .*"zz"`, on("call", "show", "zz")...)
	wants(t, 4, `^baton: .*"zz"`, on("move", "zz", "1")...)
	wants(t, 4, `^baton: .*"zz"`, on("end", "zz")...)
	wants(t, 2, `^baton: move wants a call and a device`, on("move", "zz")...)
	wants(t, 2, `^baton: unknown flag: --sideways`, on("calls", "--sideways")...)
	wants(t, 1, `^baton: a node is already running on `+regexp.QuoteMeta(dir), "serve", "--data", dir, "--config", write(t, local))

	if code := p.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("after SIGTERM the status is %d", code)
	}
	wants(t, 3, `^baton: no node is running on `+regexp.QuoteMeta(dir)+` \(start one with "baton serve --data `, on("calls")...)
	wants(t, 0, `^$`, on("log")...)
	again := serve(t, dir)
	if code := again.stop(t, syscall.SIGKILL); code != -1 {
		t.Errorf("after SIGKILL the status is %d", code)
	}
	if _, err := os.Stat(filepath.Join(dir, "control.sock")); err != nil {
		t.Errorf("the killed node took its socket along: %v", err)
	}
	wants(t, 3, `no node is running`, on("calls")...)
	if code := serve(t, dir).stop(t, os.Interrupt); code != 0 {
		t.Errorf("after SIGINT the status is %d", code)
	}
}

// TestRefusals wants one clear line for each reason not to start.
func TestRefusals(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	taken := fmt.Sprintf("listen: {udp: off, tls: off, web: off, tcp: %q}\n", busy.Addr())
	wants(t, 1, `^baton: .*`+regexp.QuoteMeta(busy.Addr().String())+`.*in use: `+
		fmt.Sprintf(`\S+ \(pid %d\) has tcp .*; to use another port: BATON_LISTEN_TCP=127\.0\.0\.1:\d+ \S+ serve --data `, os.Getpid()), "serve", "--data", shortDir(t), "--config", write(t, taken))
	wants(t, 1, `^baton: make the data directory: .*not a directory`, "serve", "--data", "/dev/null/data", "--config", write(t, local))
	wants(t, 5, `baton.yaml:2: listen.upd: unknown field; here stand: metrics, tcp, tls, udp, web\n`, "serve", "--data", shortDir(t), "--config", write(t, "listen:\n  upd: :1\n"))
	wants(t, 1, `108 bytes long, 107 are possible`, "serve", "--data", "/tmp/"+strings.Repeat("x", 90), "--config", write(t, local))
	wants(t, 1, `no such file`, "serve", "--config", "/nowhere/baton.yaml")
	wants(t, 2, `unknown command "sevre"`, "sevre")
}

func TestCheck(t *testing.T) {
	wants(t, 0, `defaults are used`, "check")
	good := write(t, local)
	wants(t, 0, `is good\n`, "check", good)
	out, errs, code := run(t, "", "check", "--config", write(t, "x: 1\nmedia:\n  ports: 1\n"))
	if code != 5 || out != "" || strings.Count(errs, "\n") != 2 || !strings.Contains(errs, "baton.yaml:3: media.ports: ") {
		t.Errorf("status %d, said %q %q", code, out, errs)
	}
	wants(t, 0, `^baton \S+ \(go`, "version")
}

// TestDemo wants the same settings at every start, kept where only their owner reads them.
func TestDemo(t *testing.T) {
	dir := shortDir(t)
	first := serve(t, dir, "--demo")
	waitFor(t, "the demo's settings", func() bool { return strings.Contains(first.out.String(), "Ctrl-C stops.") })
	said := first.out.String()
	for _, want := range []string{
		`(?m)^  alice \(101\)$`, `(?m)^  bob \(102\)$`, `(?m)^    server     127\.0\.0\.1$`, `(?m)^    port       \d+ for UDP`, `(?m)^    password   [a-z2-9]{14}$`,
		`(?m)^    https://127\.0\.0\.1:\d+/$`, `https://127\.0\.0\.1:\d+/ca\.crt`, `(?m)SHA-256 fingerprint is ([0-9A-F]{2}:){31}[0-9A-F]{2}$`,
	} {
		if !regexp.MustCompile(want).MatchString(said) {
			t.Errorf("no %s in\n%s", want, said)
		}
	}
	first.stop(t, syscall.SIGTERM)
	info, err := os.Stat(filepath.Join(dir, "demo.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("demo.json: %v, error %v", info, err)
	}
	second := serve(t, dir, "--demo")
	waitFor(t, "the demo's settings", func() bool { return strings.Contains(second.out.String(), "Ctrl-C stops.") })
	ports := regexp.MustCompile(`\d+ for |:\d+/`) // these are any free ones
	if again := second.out.String(); ports.ReplaceAllString(again, "") != ports.ReplaceAllString(said, "") {
		t.Errorf("the second start says\n%s\nthe first said\n%s", again, said)
	}
	wants(t, 0, `^password `, "user", "passwd", "bob", "--data", dir)
	wants(t, 0, `^$`, "user", "remove", "alice", "--data", dir)
	second.stop(t, syscall.SIGTERM)
	third := serve(t, dir, "--demo")
	waitFor(t, "the demo's settings", func() bool { return strings.Contains(third.out.String(), "Ctrl-C stops.") })
	for _, want := range []string{"alice was removed", "as it was set since"} {
		if !strings.Contains(third.out.String(), want) {
			t.Errorf("no %q in\n%s", want, third.out.String())
		}
	}
}

// TestReadme wants every command of the README's blocks to work on a demo that runs.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := shortDir(t)
	serve(t, dir, "--demo")
	n := 0
	for _, line := range regexp.MustCompile(`(?m)^\./baton (.*)$`).FindAllStringSubmatch(string(text), -1) {
		n++
		sh := exec.CommandContext(t.Context(), "sh", "-c", `"$0" `+line[1], os.Args[0])
		sh.Env = append(os.Environ(), "BATON_IS_MAIN=1", "GORACE=atexit_sleep_ms=10", "BATON_DATA="+dir)
		if out, err := sh.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", line[0], err, out)
		}
	}
	if n < 5 {
		t.Errorf("only %d commands were found", n)
	}
}

// TestFollow wants a log that is followed to show what happens next, until the node stops.
func TestFollow(t *testing.T) {
	dir := shortDir(t)
	p := serve(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client, err := web.Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	done := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		done <- client.Follow(ctx, journal.Query{}, func() error { close(started); return nil }, func(web.Entry) error { return nil })
	}()
	<-started
	if code := p.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("a follower keeps the node from stopping: status %d", code)
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "the node has stopped") {
		t.Errorf("follow: %v", err)
	}
}
