// Package redis starts real Redis servers and sentinels for tests, each in a directory of its own on loopback, and ends them by
// their process ids. It knows nothing of what is stored.
package redis

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"baton/test/e2e/node"
)

// patience is how long a server may take to begin or end.
const patience = 20 * time.Second

// Need leaves a test out where there is no redis-server, and fails it where there must be one.
func Need(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("there is no redis-server (Debian: redis-server; .ci/setup installs it)")
	}
	t.Skip("there is no redis-server (Debian: redis-server; make setup installs it)")
}

// Server is one redis-server, or one sentinel.
type Server struct {
	Addr string // host:port
	Host string
	Port string

	Password string // that Do logs in with

	t       testing.TB
	dir     string
	args    []string
	command []string // before redis-server
	within  *node.Network
	mu      sync.Mutex
	cmd     *exec.Cmd
	out     bytes.Buffer
	over    chan struct{}
}

// Options is what a server is to be.
type Options struct {
	Args    []string // settings, as --maxmemory 1mb
	Host    string   // 127.0.0.1
	Command []string // that starts it, as ip netns exec x
	Dir     string   // where it keeps its files; "" = a new directory
	Further []string // addresses at which it is reached too; it speaks from Host alone

	Network *node.Network // it runs in, with Host an address of it that the tests reach; nil = the tests' own
}

// Start starts a server, which ends with the test. It keeps nothing on the disk unless it is told to.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	Need(t)
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	for try := 1; ; try++ {
		s := &Server{t: t, Host: o.Host, Port: freePort(t), dir: o.Dir, command: o.Command, within: o.Network}
		s.Addr = net.JoinHostPort(s.Host, s.Port)
		s.args = append([]string{
			"--port", s.Port, "--bind", s.Host, "--dir", s.dir, "--save", "", "--appendonly", "no", "--daemonize", "no", "--protected-mode", "no",
			"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1",
		}, o.Args...)
		if len(o.Further) > 0 {
			s.args = append(append(s.args, "--bind-source-addr", s.Host, "--bind", s.Host), o.Further...)
		}
		err := s.run()
		if err == nil {
			t.Cleanup(s.Kill)
			return s
		}
		if try == 3 || !strings.Contains(err.Error(), "Address already in use") { // somebody else has got the port meanwhile
			t.Fatal(err)
		}
	}
}

// given are the ports of all servers of this process: one in another namespace does not hold its own here.
var given sync.Map

// freePort is one that nobody has now, and no server of this process has had.
func freePort(t testing.TB) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
		l.Close()
		if _, had := given.LoadOrStore(port, true); !had {
			return port
		}
	}
}

// Run starts a server that has ended, with the settings that it had.
func (s *Server) Run() {
	s.t.Helper()
	if err := s.run(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) run() error {
	args := append(append(append([]string{}, s.command...), "redis-server"), s.args...)
	s.mu.Lock()
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	err := s.within.Spawn(s.cmd)
	cmd, over := s.cmd, make(chan struct{})
	s.over = over
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("start redis-server: %w", err)
	}
	go func() {
		_ = cmd.Wait()
		close(over)
	}()
	answers := false
	for end := time.Now().Add(patience); ; {
		if text, err := s.Do("PING"); err == nil && (strings.HasPrefix(text, "+PONG") || strings.Contains(text, "NOAUTH")) {
			answers = true
		}
		select {
		case <-over: // also where another's server answers at the port
			return fmt.Errorf("redis-server has ended: %s", s.out.String())
		case <-time.After(20 * time.Millisecond):
		}
		if answers {
			return nil
		}
		if time.Now().After(end) {
			s.Kill()
			return fmt.Errorf("redis-server at %s does not answer", s.Addr)
		}
	}
}

// Do sends one command on a connection of its own and returns the raw answer, as much of it as comes at once.
func (s *Server) Do(words ...string) (string, error) {
	if s.command != nil {
		return s.cli(words)
	}
	c, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	r := bufio.NewReaderSize(c, 1<<20)
	if s.Password != "" {
		send(c, "AUTH", s.Password)
		if _, err := r.ReadString('\n'); err != nil {
			return "", err
		}
	}
	send(c, words...)
	if _, err := r.Peek(1); err != nil {
		return "", err
	}
	time.Sleep(5 * time.Millisecond)
	b, err := r.Peek(max(r.Buffered(), 1))
	return string(b), err
}

func send(c net.Conn, words ...string) {
	fmt.Fprintf(c, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(c, "$%d\r\n%s\r\n", len(w), w)
	}
}

// cli asks a server that only its own command reaches.
func (s *Server) cli(words []string) (string, error) {
	args := append(append(append([]string{}, s.command...), "redis-cli", "--no-raw", "-h", s.Host, "-p", s.Port), words...)
	b, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	text := string(b)
	if strings.HasPrefix(text, "PONG") {
		text = "+" + text
	}
	return text, err
}

func (s *Server) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.cmd.Process.Signal(sig)
}

// Kill ends it as a power cut would.
func (s *Server) Kill() {
	s.signal(syscall.SIGKILL)
	select {
	case <-s.over:
	case <-time.After(patience):
		s.t.Errorf("redis-server at %s does not end", s.Addr)
	}
}

// Freeze stops it without closing anything, and Thaw has it go on.
func (s *Server) Freeze() { s.signal(syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

// PID is the server's process.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd.Process.Pid
}

// Dir is where it keeps its files.
func (s *Server) Dir() string { return s.dir }

// Set is a master with replicas, and the sentinels that watch it.
type Set struct {
	Name      string
	Servers   []*Server
	Sentinels []*Server
}

// StartSet starts one master, two replicas and three sentinels that take a master for dead after downAfter. At says where: one server and
// one sentinel at each of three places; none = all here.
func StartSet(t testing.TB, downAfter time.Duration, at ...Options) *Set {
	t.Helper()
	if at == nil {
		at = make([]Options, 3)
	}
	return startSet(t, downAfter, at, at)
}

// StartSetAt is StartSet with the master at one address, and all others at another, from which they also speak to the master. At further addresses
// they are reached, and speak from none.
func StartSetAt(t testing.TB, downAfter time.Duration, at, others string, further ...string) *Set {
	t.Helper()
	other := Options{Host: others, Further: further}
	return startSet(t, downAfter, []Options{{Host: at}, other, other}, []Options{other, other, other})
}

// startSet starts a server for each of servers, of which the first is the master, and a sentinel for each of sentinels.
func startSet(t testing.TB, downAfter time.Duration, servers, sentinels []Options) *Set {
	t.Helper()
	set := &Set{Name: "mymaster"}
	master := Start(t, servers[0])
	set.Servers = []*Server{master}
	for _, o := range servers[1:] {
		set.Servers = append(set.Servers, startReplica(t, master, o))
	}
	for _, o := range sentinels {
		set.Sentinels = append(set.Sentinels, startSentinel(t, set.Name, master, downAfter, o))
	}
	for _, s := range set.Sentinels {
		until(t, "sentinels that know each other", func() bool {
			text, _ := s.Do("SENTINEL", "MASTER", set.Name)
			return strings.Contains(text, "num-slaves\r\n$1\r\n2") && strings.Contains(text, "num-other-sentinels\r\n$1\r\n2")
		})
	}
	return set
}

// StartReplica starts a server that follows another, and waits until it does.
func StartReplica(t testing.TB, master *Server) *Server {
	t.Helper()
	return startReplica(t, master, Options{})
}

func startReplica(t testing.TB, master *Server, o Options) *Server {
	t.Helper()
	online := func() int {
		text, _ := master.Do("INFO", "replication")
		return strings.Count(text, "state=online")
	}
	had := online()
	o.Args = append(slices.Clone(o.Args), "--replicaof", master.Host, master.Port)
	s := Start(t, o)
	until(t, "replicas online", func() bool { return online() > had })
	return s
}

// startSentinel writes what a sentinel wants to have in a file that it may change.
func startSentinel(t testing.TB, name string, master *Server, downAfter time.Duration, o Options) *Server {
	t.Helper()
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	s := &Server{t: t, Host: o.Host, Port: freePort(t), dir: t.TempDir(), within: o.Network}
	s.Addr = net.JoinHostPort(s.Host, s.Port)
	file := filepath.Join(s.dir, "sentinel.conf")
	text := fmt.Sprintf("port %s\nbind %s\nbind-source-addr %s\ndir %s\nprotected-mode no\nsentinel monitor %s %s %s 2\nsentinel down-after-milliseconds %s %d\nsentinel failover-timeout %s 5000\nsentinel parallel-syncs %s 2\n",
		s.Port, strings.Join(append([]string{s.Host}, o.Further...), " "), s.Host, s.dir, name, master.Host, master.Port, name, downAfter.Milliseconds(), name, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.args = []string{file, "--sentinel"}
	s.Run()
	t.Cleanup(s.Kill)
	return s
}

func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("there are no %s", what)
		}
	}
}

// Master is the server that the sentinels name.
func (s *Set) Master() *Server {
	for _, sentinel := range s.Sentinels {
		text, err := sentinel.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.Name)
		if err != nil {
			continue
		}
		for _, one := range s.Servers {
			if strings.Contains(text, "\r\n"+one.Port+"\r\n") {
				return one
			}
		}
	}
	return nil
}

// URL is where the set is.
func (s *Set) URL() string {
	var all []string
	for _, one := range s.Sentinels {
		all = append(all, one.Addr)
	}
	return "redis-sentinel://" + strings.Join(all, ",") + "/" + s.Name
}
