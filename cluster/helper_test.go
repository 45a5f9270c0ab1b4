package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// asNode makes the test binary a node of its own, and inSpace has it run the tests that need a network namespace.
const (
	asNode  = "BATON_MESH_NODE"
	inSpace = "BATON_MESH_SPACE"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(asNode); text != "" {
		os.Exit(runNode(text))
	}
	goleak.VerifyTestMain(m)
}

// nodeOptions is what a node process is told.
type nodeOptions struct {
	ID, Key, Listen string
	Peers           []string
}

// runNode is a node process: it prints where it listens, echoes what it is asked, and ends with SIGTERM in good order.
func runNode(text string) int {
	var o nodeOptions
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Println(err)
		return 1
	}
	key, err := ParseKey(o.Key)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	m, err := New(Options{ID: o.ID, Listen: o.Listen, Key: key, Directory: Static(o.Peers), Log: testLog()})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	m.HandleCall("echo", func(_ context.Context, _ string, b []byte) ([]byte, error) { return b, nil })
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	fmt.Println(m.Addr())
	_ = m.Run(ctx)
	return 0
}

func testLog() *slog.Logger {
	if os.Getenv("BATON_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// process is a node in a process of its own.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	addr string
	done chan struct{}
}

func spawnNode(t *testing.T, o nodeOptions) *process {
	t.Helper()
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	text, _ := json.Marshal(o)
	p := &process{t: t, cmd: exec.Command(os.Args[0]), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), asNode+"="+string(text))
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("node does not start: %v", err)
	}
	p.addr = strings.TrimSpace(line)
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// member is a mesh in this process, with all that has happened to it.
type member struct {
	*Mesh
	t    *testing.T
	stop func()

	mu     sync.Mutex
	events []Event
}

// join runs a mesh until the test ends.
func join(t *testing.T, id string, key Key, d Directory, tune ...func(*Mesh)) *member {
	t.Helper()
	m, err := New(Options{ID: id, Listen: "127.0.0.1:0", Key: key, Directory: d, Log: testLog()})
	if err != nil {
		t.Fatal(err)
	}
	return run(t, m, tune...)
}

func run(t *testing.T, m *Mesh, tune ...func(*Mesh)) *member {
	t.Helper()
	b := &member{Mesh: m, t: t}
	m.HandleCall("echo", func(_ context.Context, _ string, p []byte) ([]byte, error) { return p, nil })
	for _, fn := range tune {
		fn(m)
	}
	m.Subscribe(func(e Event) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.events = append(b.events, e)
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.Run(ctx)
	}()
	b.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Errorf("mesh %s does not stop", m.self.ID)
		}
	})
	t.Cleanup(b.stop)
	return b
}

// happened are the events of a node so far.
func (b *member) happened(id string) []Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []Event
	for _, e := range b.events {
		if e.Node.ID == id {
			all = append(all, e)
		}
	}
	return all
}

// gone are the events that say that a node is dead or frozen.
func (b *member) gone(id string) []Event {
	var all []Event
	for _, e := range b.happened(id) {
		if e.To.Gone() {
			all = append(all, e)
		}
	}
	return all
}

// firstGone is the first of them. An event is told after the state that it is of can be read, so it is waited for.
func (b *member) firstGone(t *testing.T, id string) Event {
	t.Helper()
	var first Event
	eventually(t, 5*time.Second, func() error {
		all := b.gone(id)
		if len(all) == 0 {
			return fmt.Errorf("%s was not told that %s is gone", b.self.ID, id)
		}
		first = all[0]
		return nil
	})
	return first
}

func (b *member) is(id string, want State) func() error {
	return func() error {
		p, _ := b.Peer(id)
		if p.State != want {
			return fmt.Errorf("%s is %q (%s) to %s, want %s", id, p.State, p.Why, b.self.ID, want)
		}
		return nil
	}
}

// linked says that there is a connection and that heartbeats come.
func (b *member) linked(id string) func() error {
	return func() error {
		p, _ := b.Peer(id)
		if p.State != Alive || !p.Linked || p.Age > 300*time.Millisecond {
			return fmt.Errorf("%s is %s (%s) to %s, linked %v, heard %v ago", id, p.State, p.Why, b.self.ID, p.Linked, p.Age)
		}
		return nil
	}
}

// eventually waits until ok says so.
func eventually(t *testing.T, limit time.Duration, ok func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	t.Fatalf("after %v: %v", limit, err)
}
