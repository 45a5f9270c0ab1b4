package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"baton/test/e2e/node"
)

// browser is one running browser without a screen, which a program of test/browser drives. Its microphone plays a tone.
type browser struct {
	kind    string // chromium or firefox
	hz      float64
	Version string
	Origin  string // of the pages that the driver serves, for web.origins

	dir  string
	cmd  *exec.Cmd
	in   io.WriteCloser
	gone chan struct{}

	mu      sync.Mutex
	last    int
	waiting map[int]chan answer
	said    strings.Builder
}

// answer is what the driver says of a command.
type answer struct {
	ID      int
	Value   json.RawMessage
	Error   string
	Ready   bool
	Version string
	Origin  string
}

// The browsers that are tried, with the tones that their microphones play.
var browserKinds = map[string]struct {
	program string
	hz      float64
}{
	"chromium": {"chromium", 500},
	"firefox":  {"firefox-esr", 600},
}

// browserScripts is where the driver is.
const browserScripts = "../browser"

// shared are the browsers that the tests of the common namespace share: one of a kind, begun by the first that needs it.
var shared = struct {
	sync.Mutex
	running map[string]*browser
}{running: map[string]*browser{}}

// theBrowser is the shared one of a kind.
func theBrowser(t *testing.T, kind string) *browser {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	b := shared.running[kind]
	if b == nil || b.dead() {
		b = runBrowser(t, kind, node.IP(1), node.Spawn)
		shared.running[kind] = b
	}
	return b
}

// closeBrowsers ends the shared ones, after all tests.
func closeBrowsers() error {
	shared.Lock()
	defer shared.Unlock()
	for _, b := range shared.running {
		b.close()
	}
	return nil
}

// browserWithin runs a browser of the test's own in another network, which knows the node by an address.
func browserWithin(t *testing.T, kind string, n *node.Network, at netip.Addr) *browser {
	t.Helper()
	b := runBrowser(t, kind, at, func(cmd *exec.Cmd) (err error) {
		n.Do(func() { err = cmd.Start() })
		return err
	})
	t.Cleanup(b.close)
	return b
}

// needBrowser ends the test where something for it is missing, and gives the program.
func needBrowser(t *testing.T, kind string) string {
	t.Helper()
	need(t, "node", "nodejs")
	if kind == "firefox" {
		need(t, "pulseaudio", "pulseaudio")
	}
	if _, err := os.Stat(browserScripts + "/node_modules/.package-lock.json"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("the packages of test/browser are not installed: run .ci/setup")
		}
		t.Skip("the packages of test/browser are not installed: run .ci/setup")
	}
	program := browserKinds[kind].program
	return need(t, program, program)
}

// nodeName is the name by which browsers can know the node.
const nodeName = "baton.example"

// runBrowser starts one, which knows the node's name. It and all that it starts are alone in a namespace of processes, and so end
// with the driver, however that ends.
func runBrowser(t *testing.T, kind string, at netip.Addr, start func(*exec.Cmd) error) *browser {
	t.Helper()
	program := needBrowser(t, kind)
	dir, err := os.MkdirTemp("", "bt-browser-")
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{kind: kind, hz: browserKinds[kind].hz, dir: dir, gone: make(chan struct{}), waiting: map[int]chan answer{}}
	writeTone(t, dir+"/tone.wav", b.hz, 20*time.Second) // whole periods: it is played again and again
	options, _ := json.Marshal(map[string]any{
		"browser": kind, "executable": program, "wav": dir + "/tone.wav", "hz": b.hz, "log": os.Getenv("BATON_TEST_CONSOLE") != "",
	})
	for name, text := range map[string]string{
		"hosts":       fmt.Sprintf("127.0.0.1 localhost\n%s %s\n", at, nodeName),
		"resolv.conf": "nameserver 127.0.0.1\n", // nobody is there, which is known at once; one beyond a router would be waited for
	} {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b.cmd = exec.Command("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c",
		`mount --bind "$1/hosts" /etc/hosts && mount --bind "$1/resolv.conf" /etc/resolv.conf && exec node "$2" "$3"`,
		"sh", dir, browserScripts+"/driver.mjs", string(options))
	b.cmd.Env = append(os.Environ(), "TMPDIR="+dir, "NO_COLOR=1")
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	b.cmd.Stderr = (*console)(b)
	out, err := b.cmd.StdoutPipe()
	if err == nil {
		b.in, err = b.cmd.StdinPipe()
	}
	ready := b.expect(0)
	if err == nil {
		err = start(b.cmd)
	}
	if err != nil {
		t.Fatalf("start %s: %v", kind, err)
	}
	go b.read(out)
	a, err := b.await(ready, 60*time.Second)
	if err != nil {
		b.close()
		t.Fatalf("start %s: %v\n%s", kind, err, b.output())
	}
	b.Version, b.Origin = a.Version, a.Origin
	return b
}

// console keeps what pages and driver write.
type console browser

// Write appends to the browser's output.
func (c *console) Write(text []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said.Write(text)
}

func (b *browser) output() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.said.String()
}

func (b *browser) dead() bool {
	select {
	case <-b.gone:
		return true
	default:
		return false
	}
}

// close ends the browser, by force if it does not go.
func (b *browser) close() {
	b.in.Close()
	select {
	case <-b.gone:
	case <-time.After(10 * time.Second):
		b.cmd.Process.Kill()
		<-b.gone
	}
	os.RemoveAll(b.dir)
}

// read gives the driver's answers to those who wait for them.
func (b *browser) read(out io.Reader) {
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadBytes('\n')
		var a answer
		if err != nil || json.Unmarshal(line, &a) != nil {
			break
		}
		b.mu.Lock()
		to := b.waiting[a.ID]
		delete(b.waiting, a.ID)
		b.mu.Unlock()
		if to != nil {
			to <- a
		}
	}
	b.cmd.Wait()
	close(b.gone)
}

func (b *browser) expect(id int) chan answer {
	to := make(chan answer, 1)
	b.mu.Lock()
	b.waiting[id] = to
	b.mu.Unlock()
	return to
}

func (b *browser) await(from chan answer, limit time.Duration) (answer, error) {
	select {
	case a := <-from:
		if a.Error != "" {
			return a, errors.New(a.Error)
		}
		return a, nil
	case <-b.gone:
		return answer{}, fmt.Errorf("%s is gone", b.kind)
	case <-time.After(limit):
		return answer{}, fmt.Errorf("%s did not answer within %s", b.kind, limit)
	}
}

// do has the driver obey a command and reads its answer into a value, if there is one to read it into.
func (b *browser) do(into any, command string, more map[string]any) error {
	b.mu.Lock()
	b.last++
	id := b.last
	b.mu.Unlock()
	from := b.expect(id)
	line := map[string]any{"id": id, "command": command}
	for k, v := range more {
		line[k] = v
	}
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	if _, err := b.in.Write(append(text, '\n')); err != nil {
		return err
	}
	a, err := b.await(from, 30*time.Second)
	if err != nil || into == nil {
		return err
	}
	return json.Unmarshal(a.Value, into)
}

// tab is an open page.
type tab struct {
	*browser
	t     *testing.T
	n     int
	short bool // only what was heard last is kept
}

// open opens a page as a person of its own, with nothing kept from other pages; it is closed after the test.
func (b *browser) open(t *testing.T, url string, more ...map[string]any) *tab {
	t.Helper()
	p := &tab{browser: b, t: t}
	args := map[string]any{"url": url}
	for _, m := range more {
		for k, v := range m {
			args[k] = v
		}
	}
	before := len(b.output())
	if err := b.do(&p.n, "open", args); err != nil {
		t.Fatalf("%s: open %s: %v\n%s", b.kind, url, err, b.output()[before:])
	}
	t.Cleanup(func() {
		b.do(nil, "close", map[string]any{"page": p.n})
		if t.Failed() {
			t.Logf("%s said:\n%s", b.kind, b.output()[before:])
		}
	})
	return p
}

// run calls a function of the page's phone.
func (p *tab) run(into any, name string, args ...any) error {
	if args == nil {
		args = []any{}
	}
	if err := p.do(into, "run", map[string]any{"page": p.n, "name": name, "args": args}); err != nil {
		return fmt.Errorf("%s %d: %s: %w", p.kind, p.n, name, err)
	}
	return nil
}

// must calls a function of the page's phone, without which the test cannot go on.
func (p *tab) must(into any, name string, args ...any) {
	p.t.Helper()
	if err := p.run(into, name, args...); err != nil {
		p.t.Fatal(err)
	}
}

// heard is what a page heard since it was asked last; args name the call, if there are several.
func (p *tab) heard(args ...any) []float64 {
	p.t.Helper()
	var text string
	p.must(&text, "heard", args...)
	samples, err := pcm(text)
	if err != nil {
		p.t.Fatal(err)
	}
	return samples
}

// ear is one who should hear a tone: in the call of that name, if the page can have several.
type ear struct {
	*tab
	hz   float64
	args []any
}

// hear has all of them listen for a time, and wants each to hear its tone for nearly all of it.
func hear(t *testing.T, long time.Duration, ears ...ear) {
	t.Helper()
	steadily(t, func() (err error) {
		for _, e := range ears {
			e.heard(e.args...)
		}
		pause(long)
		for _, e := range ears {
			samples := e.heard(e.args...)
			want := long
			if e.short {
				want = min(want, 600*time.Millisecond)
			}
			if got := heardTone(samples, e.hz); got < want*8/10 {
				err = errors.Join(err, fmt.Errorf("%s heard %g Hz for %s of %d ms, listening for %s", e.kind, e.hz, got, len(samples)*1000/rate, long))
			}
		}
		return err
	})
}

// steadily wants ok to be content once in four times: a browser that the machine lets wait sounds like one that is sent nothing.
func steadily(t *testing.T, ok func() error) {
	t.Helper()
	for try := 1; ; try++ {
		err := ok()
		if err == nil {
			return
		}
		if try == 4 {
			t.Error(err)
			return
		}
		t.Logf("once more: %v", err)
	}
}

// figures are the browser's own of one connection.
type figures struct {
	Received, Lost, Discarded, Sent int
	Samples, Concealed, Silent      float64 // at the codec's rate
	Concealments                    int
	Jitter, Delay, RTT              float64 // seconds
	Buffered, Emitted               float64 // the delay is their quotient
	SSRC                            uint32
	Codec                           string
	Local, Remote                   *candidate
	ICE, Connection                 string
}

// candidate is one end of the pair that is used.
type candidate struct {
	Type, Protocol, Relay, TCP, Address string
	Port                                int
}

func (c *candidate) String() string {
	if c == nil {
		return "none"
	}
	return fmt.Sprintf("%s at %s:%d (%s)", c.way(), c.Address, c.Port, c.Type)
}

// way is how packets leave by a candidate: udp, tcp, or a relay and the way to it.
func (c *candidate) way() string {
	if c.Type == "relay" {
		return fmt.Sprintf("relay %s over %s", c.Protocol, c.Relay)
	}
	return c.Protocol
}

func (f figures) String() string {
	return fmt.Sprintf("received %d, lost %d, concealed %.2f %%, jitter buffer %.0f ms, rtt %.1f ms, %s, %s <-> %s",
		f.Received, f.Lost, 100*f.concealed(), 1000*f.Delay, 1000*f.RTT, f.Codec, f.Local, f.Remote)
}

// concealed is the part of what was played that was made up.
func (f figures) concealed() float64 { return f.Concealed / max(1, f.Samples) }

// since takes away what was counted before.
func (f figures) since(b figures) figures {
	f.Received, f.Lost, f.Discarded, f.Sent = f.Received-b.Received, f.Lost-b.Lost, f.Discarded-b.Discarded, f.Sent-b.Sent
	f.Samples, f.Concealed, f.Silent = f.Samples-b.Samples, f.Concealed-b.Concealed, f.Silent-b.Silent
	f.Concealments -= b.Concealments
	f.Buffered, f.Emitted = f.Buffered-b.Buffered, f.Emitted-b.Emitted
	f.Delay = f.Buffered / max(1, f.Emitted)
	return f
}

// figures asks the browser; args name the call, if there are several.
func (p *tab) figures(args ...any) figures {
	p.t.Helper()
	var f figures
	p.must(&f, "figures", args...)
	return f
}

// faultless listens for a time and wants each to hear its tone and, by what its browser counts, no packet to be lost and less
// than one sample in a hundred to be made up.
func faultless(t *testing.T, long time.Duration, ears ...ear) {
	t.Helper()
	steadily(t, func() (err error) {
		var before []figures
		for _, e := range ears {
			before = append(before, e.figures(e.args...))
		}
		hear(t, long, ears...)
		for i, e := range ears {
			f := e.figures(e.args...).since(before[i])
			t.Logf("%s: %s", e.kind, f)
			if f.Received == 0 || f.Lost != 0 {
				t.Errorf("%s: received %d packets, lost %d", e.kind, f.Received, f.Lost)
			}
			if f.concealed() >= 0.01 {
				err = errors.Join(err, fmt.Errorf("%s: %.1f %% is concealed", e.kind, 100*f.concealed()))
			}
		}
		return err
	})
}
