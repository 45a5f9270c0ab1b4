package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Options is how a node differs from one with nothing configured.
type Options struct {
	Config string            // YAML; its listeners are added
	Users  map[string]string // name → number; alice 101, bob 102, carol 103 if nil
	Host   string            // listen on this address only
	Env    []string          // settings that stand over those of Config, as BATON_DOMAIN=example.org

	Network *Network   // it runs in; nil = the tests' own
	Addr    netip.Addr // at which it is reached there; IP(1) if invalid
	Log     io.Writer  // takes what it writes; Output is empty then
}

// Node is a running baton and its data directory.
type Node struct {
	Dir  string
	UDP  netip.AddrPort
	TCP  netip.AddrPort
	TLS  netip.AddrPort
	Web  netip.AddrPort
	UDP6 netip.AddrPort

	t      testing.TB
	config string
	env    []string
	cli    []string // settings of the command line
	within *Network
	log    io.Writer
	http   *http.Client

	mu  sync.Mutex
	cmd *exec.Cmd
	out *bytes.Buffer
	end chan struct{}
}

// Password is the password that Start gives a user.
func Password(user string) string { return "secret-of-" + user }

// ports are those of nodes: UDP and TCP, and TLS two above, for a phone may want the one between. HTTPS is two above TLS.
var ports = NewPorts(5070, 7990, 10)

// Start makes users and runs a node until the end of the test. After the test it must have no call, no stream, no
// dialog, no relay and no connection of a browser left; its log must show no panic and no data race.
func Start(t testing.TB, o Options) *Node {
	t.Helper()
	noteSources()
	dir, err := os.MkdirTemp("", "bt-") // short: the control socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sip, _ := ports.Next(t)
	tls := sip + 2
	if !o.Addr.IsValid() {
		o.Addr = IP(1)
	}
	own := []string{
		fmt.Sprintf("BATON_MEDIA_WEBRTC=%d", tls+2), // or two nodes at once would want the same port for browsers' audio
		"BATON_MEDIA_MODE=relay",                    // what is tested of relayed sound; a test of direct media says so
	}
	n := &Node{
		t: t, Dir: filepath.Join(dir, "data"), config: filepath.Join(dir, "baton.yaml"), env: append(own, o.Env...), out: &bytes.Buffer{},
		UDP: netip.AddrPortFrom(o.Addr, uint16(sip)), TCP: netip.AddrPortFrom(o.Addr, uint16(sip)),
		TLS: netip.AddrPortFrom(o.Addr, uint16(tls)), UDP6: netip.AddrPortFrom(IP6(1), uint16(sip)),
		Web: netip.AddrPortFrom(o.Addr, uint16(tls+2)), within: o.Network, log: o.Log,
	}
	if strings.Contains(o.Config, "store:") { // users are made before the node runs
		n.cli = []string{"BATON_CONFIG=" + n.config}
	}
	n.http = &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(n.Dir, "control.sock"))
		},
	}}
	yaml := fmt.Sprintf("listen:\n  udp: \"%[1]s:%[2]d\"\n  tcp: \"%[1]s:%[2]d\"\n  tls: \"%[1]s:%[3]d\"\n  web: \"%[1]s:%[4]d\"\n%[5]s", o.Host, sip, tls, n.Web.Port(), o.Config)
	if err := os.WriteFile(n.config, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	n.addUsers(o.Users)
	n.Run()
	t.Cleanup(n.finish)
	return n
}

func (n *Node) addUsers(users map[string]string) {
	n.t.Helper()
	if users == nil {
		users = map[string]string{"alice": "101", "bob": "102", "carol": "103"}
	}
	for name, number := range users {
		n.AddUser(name, number)
	}
}

// AddUser makes a user by the command line, with the password of Password.
func (n *Node) AddUser(name, number string) {
	n.t.Helper()
	args := []string{"user", "add", name, "--password-stdin", "--display", strings.ToUpper(name[:1]) + name[1:]}
	if number != "" {
		args = append(args, "--number", number)
	}
	if out, err := n.CLIWith(Password(name)+"\n", args...); err != nil {
		n.t.Fatalf("baton user add %s: %v\n%s", name, err, out)
	}
}

// Run starts the process on the data directory and waits until it answers.
func (n *Node) Run() {
	n.t.Helper()
	cmd := exec.Command(os.Getenv(envBinary), "serve", "--data", n.Dir, "--config", n.config)
	cmd.Env = append(os.Environ(), n.env...)
	cmd.Stdout, cmd.Stderr = &locked{n: n}, &locked{n: n}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.within.Spawn(cmd); err != nil {
		n.t.Fatalf("start baton: %v", err)
	}
	end := make(chan struct{})
	go func() { cmd.Wait(); close(end) }()
	n.mu.Lock()
	n.cmd, n.end = cmd, end
	n.mu.Unlock()
	deadline := time.Now().Add(20 * time.Second)
	for {
		if res, err := n.http.Get("http://node/api/v1/node"); err == nil {
			res.Body.Close()
			return
		}
		select {
		case <-end:
			n.t.Fatalf("baton serve ended at once:\n%s", n.Output())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("baton does not answer on its socket:\n%s", n.Output())
		}
	}
}

// Stop ends the process by SIGTERM, which keeps the calls for the next Run, and gives the time that it took.
func (n *Node) Stop() time.Duration { return n.stopBy(syscall.SIGTERM) }

// Interrupt ends the process as Ctrl-C does, which hangs up all calls, and gives the time that it took.
func (n *Node) Interrupt() time.Duration { return n.stopBy(syscall.SIGINT) }

func (n *Node) stopBy(s syscall.Signal) time.Duration {
	n.t.Helper()
	start := time.Now()
	n.signal(s)
	select {
	case <-n.end:
	case <-time.After(15 * time.Second):
		n.t.Errorf("baton did not end within 15s of %v", s)
		n.signal(syscall.SIGKILL)
		<-n.end
	}
	if code := n.cmd.ProcessState.ExitCode(); code != 0 {
		n.t.Errorf("baton left with status %d:\n%s", code, n.Output())
	}
	return time.Since(start)
}

// Kill ends the process by SIGKILL.
func (n *Node) Kill() {
	n.signal(syscall.SIGKILL)
	<-n.end
}

// Freeze stops the process where it is, and Thaw has it go on.
func (n *Node) Freeze() { n.signal(syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (n *Node) Thaw() { n.signal(syscall.SIGCONT) }

func (n *Node) signal(s syscall.Signal) { n.cmd.Process.Signal(s) }

func (n *Node) running() bool {
	select {
	case <-n.end:
		return false
	default:
		return true
	}
}

// finish is the invariant after every test: nothing is left.
func (n *Node) finish() {
	if n.running() {
		n.Thaw() // a test may have failed while it stood still
		n.expectIdle()
		n.Stop()
	}
	out := n.Output()
	for _, bad := range []string{"DATA RACE", "panic", "fatal error"} {
		if strings.Contains(out, bad) {
			n.t.Errorf("the node's output has %q", bad)
		}
	}
	if n.t.Failed() {
		n.t.Logf("the node said:\n%s", out)
	}
}

// expectIdle waits for longer than a BYE that nobody answers takes, twice: a sipp that takes the repeated 200 of its INVITE for that of its
// BYE is gone while the node has its call.
func (n *Node) expectIdle() {
	n.Eventually(20*time.Second, "all calls and connections of browsers to be gone", func() error {
		var calls []struct{ ID, State string }
		if err := n.JSON(&calls, "calls", "--json"); err != nil {
			return err
		}
		if len(calls) > 0 {
			return fmt.Errorf("baton calls lists %v", calls)
		}
		d, err := n.Debug()
		if err == nil && (d.Calls != 0 || d.Streams != 0 || d.Dialogs != 0 || d.Records != 0 || d.Relays != 0 || d.Web.Open != d.Web.Idle) {
			err = fmt.Errorf("left over: %+v", d)
		}
		return err
	})
}

// Eventually waits until ok says nil, else it fails the test with what ok said last.
func (n *Node) Eventually(limit time.Duration, what string, ok func() error) {
	n.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			n.t.Errorf("waited %s for %s: %v", limit, what, err)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// CLI runs the command line on the node's data directory and gives what it printed.
func (n *Node) CLI(args ...string) (string, error) { return n.CLIWith("", args...) }

// CLIWith runs the command line with something on its standard input.
func (n *Node) CLIWith(stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Getenv(envBinary), append(args, "--data", n.Dir)...)
	cmd.Env = append(os.Environ(), n.cli...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, failed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &failed
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("baton %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(failed.String()))
	}
	return out.String(), nil
}

// JSON runs the command line and reads what it printed.
func (n *Node) JSON(into any, args ...string) error {
	out, err := n.CLI(args...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("baton %s: %w in %q", strings.Join(args, " "), err, out)
	}
	return nil
}

// ExitStatus is the status that a failed command line left with, 0 for none.
func ExitStatus(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// Output is all that the node has written.
func (n *Node) Output() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.out.String()
}

// locked lets the process's two outputs write into one buffer.
type locked struct{ n *Node }

// Write appends to the node's output.
func (l *locked) Write(b []byte) (int, error) {
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	if l.n.log != nil {
		return l.n.log.Write(b)
	}
	return l.n.out.Write(b)
}
