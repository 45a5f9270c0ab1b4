package e2e

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/wire"
)

// baresip is one running baresip without a sound card: it plays a tone from a file and records what it hears.
type baresip struct {
	t    *testing.T
	dir  string
	port int
	rtp  int // the first of its ports for sound
	hz   float64
	args []string
	cmd  *exec.Cmd
	ctrl net.Conn

	server string // of a URI to dial: all behind the user

	mu     sync.Mutex
	cond   *sync.Cond
	events []baresipEvent
	seen   int // events that were waited for already
}

type baresipEvent struct {
	Type, Param string
	Event       bool
	at          time.Time
}

// The ports of the programs beside those of nodes, which have 5070 to 7999, and 20000 to 29999 for sound. For sound linphonecs have those 16000 above
// (18010 to 19479), baresips 10000 to 14775, sipps twice their own (30004 to 32764).
var (
	linphonePorts = node.NewPorts(2010, 3470, 10)
	baresipPorts  = node.NewPorts(8010, 9990, 10)
	sippPorts     = node.NewPorts(15002, 16382, 2)
)

// soundOfBaresip is how many ports a baresip has for sound.
const soundOfBaresip = 24

const baresipConfig = `poll_method		epoll
sip_listen		0.0.0.0:%[1]d
call_local_timeout	60
call_max_calls		8
audio_player		aubridge,none%[1]d
audio_source		aufile,%[2]s/tone.wav
audio_alert		aubridge,alert%[1]d
ausrc_srate		8000
auplay_srate		8000
ausrc_channels		1
auplay_channels		1
rtp_tos			184
rtp_ports		%[4]d-%[5]d
jitter_buffer_delay	5-10
module_path		%[3]s
module			g711.so
module			aufile.so
module			aubridge.so
module			sndfile.so
module			ctrl_tcp.so
module			account.so
module_app		menu.so
snd_path		%[2]s
ctrl_tcp_listen		127.0.0.1:%[6]d
`

// softphone is how one baresip differs from another.
type softphone struct {
	transport string     // udp, tcp, tls; "udp6" is UDP over IPv6 alone
	hz        float64    // of the tone that it plays
	account   string     // parameters of its account, in place of answermode=auto
	config    []string   // lines of its configuration
	path      *wire.Path // between it and the node; nil = none
}

// startBaresip runs one for a user over a transport; it plays a tone of hz and answers by itself.
func (w *world) startBaresip(user, transport string, hz float64, extra ...string) *baresip {
	w.t.Helper()
	return w.runBaresip(user, softphone{transport: transport, hz: hz, config: extra})
}

// runBaresip runs one for a user and waits until it is registered.
func (w *world) runBaresip(user string, s softphone) *baresip {
	w.t.Helper()
	program := baresipProgram(w.t)
	port, n := baresipPorts.Next(w.t)
	b := &baresip{t: w.t, dir: w.t.TempDir(), port: port, rtp: 10000 + n*soundOfBaresip, hz: s.hz}
	b.cond = sync.NewCond(&b.mu)
	writeTone(w.t, b.dir+"/tone.wav", s.hz, cmp.Or(w.long, 3*time.Minute))
	config := fmt.Sprintf(baresipConfig, b.port, b.dir, modulesOf(w.t), b.rtp, b.rtp+soundOfBaresip-2, b.port+5)
	config = strings.Join(s.config, "\n") + "\n" + config // modules before that which reads the account
	at, transport := w.UDP.String(), s.transport
	switch transport {
	case "tls":
		at = w.TLS.String()
	case "udp6":
		at, transport, b.args = w.UDP6.String(), "udp", []string{"-6"}
		config = strings.Replace(config, "0.0.0.0:", "[::]:", 1)
	}
	account := ";answermode=auto"
	if s.account != "" {
		account = ";" + s.account
	}
	if s.path != nil { // the digest's URI must not be one that the path translates
		at = w.UDP.Addr().String()
		account += fmt.Sprintf(";outbound=\"sip:%s;transport=%s\"", s.path.Server(), transport)
	}
	account = fmt.Sprintf("<sip:%s@%s;transport=%s>;auth_user=%s;auth_pass=%s;audio_codecs=PCMU;regint=600%s\n",
		user, at, transport, user, node.Password(user), account)
	w.must(os.WriteFile(b.dir+"/config", []byte(config), 0o600))
	w.must(os.WriteFile(b.dir+"/accounts", []byte(account), 0o600))
	b.server = fmt.Sprintf("@%s;transport=%s", at, transport)
	w.must(os.WriteFile(b.dir+"/contacts", []byte("\"Bob\" <sip:102"+b.server+">\n"), 0o600))
	here := w.here(user)
	b.start(program)
	w.Eventually(10*time.Second, "baresip to be registered", func() error {
		if n := w.here(user); n <= here {
			return fmt.Errorf("%s has %d devices; baresip said:\n%s", user, n, b.output())
		}
		return nil
	})
	return b
}

// envBaresip names another baresip than that of the system, which has its modules beside it.
const envBaresip = "BATON_TEST_BARESIP"

func baresipProgram(t *testing.T) string {
	t.Helper()
	if other := os.Getenv(envBaresip); other != "" {
		return other
	}
	return need(t, "baresip", "baresip-core")
}

// dial calls a user by the way over which baresip is registered.
func (b *baresip) dial(to string) { b.do("dial", "sip:"+to+b.server) }

// here is how many devices of the user are here.
func (w *world) here(user string) int {
	n := 0
	for _, d := range w.devices(user) {
		if d.Here {
			n++
		}
	}
	return n
}

func modulesOf(t *testing.T) string {
	t.Helper()
	if other := os.Getenv(envBaresip); other != "" {
		return filepath.Dir(other)
	}
	dirs, _ := filepath.Glob("/usr/lib*/baresip/modules")
	more, _ := filepath.Glob("/usr/lib/*/baresip/modules")
	for _, d := range append(dirs, more...) {
		if _, err := os.Stat(d + "/ctrl_tcp.so"); err == nil {
			return d
		}
	}
	t.Fatal("baresip has no module ctrl_tcp (Debian package baresip-core)")
	return ""
}

func (b *baresip) start(program string) {
	b.t.Helper()
	b.cmd = exec.Command(program, append(b.args, "-f", b.dir)...)
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.Create(b.dir + "/out")
	if err != nil {
		b.t.Fatal(err)
	}
	defer log.Close()
	b.cmd.Stdout, b.cmd.Stderr = log, log
	if err := node.Spawn(b.cmd); err != nil {
		b.t.Fatalf("start baresip: %v", err)
	}
	b.t.Cleanup(b.quit)
	for deadline := time.Now().Add(10 * time.Second); ; {
		if b.ctrl, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", b.port+5)); err == nil {
			break
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("baresip's control port: %v\n%s", err, b.output())
		}
		time.Sleep(20 * time.Millisecond)
	}
	go b.readEvents()
}

func (b *baresip) output() string {
	text, _ := os.ReadFile(b.dir + "/out")
	return string(text)
}

// old says that it is Debian's 1.0.0, which lacks attended transfer and answering where the caller asks for it.
func (b *baresip) old() bool { return strings.Contains(b.output(), "baresip v1.0.") }

// quit ends the process, by force if it does not go.
func (b *baresip) quit() {
	if b.ctrl != nil {
		b.do("quit", "")
	}
	done := make(chan struct{})
	go func() { b.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		b.cmd.Process.Kill()
		<-done
	}
	if b.ctrl != nil {
		b.ctrl.Close()
	}
	if b.t.Failed() {
		b.t.Logf("baresip %d said:\n%s", b.port, b.output())
	}
}

// do sends a command over ctrl_tcp: JSON in a netstring.
func (b *baresip) do(command, params string) {
	text, _ := json.Marshal(map[string]string{"command": command, "params": params, "token": "x"})
	fmt.Fprintf(b.ctrl, "%d:%s,", len(text), text)
}

func (b *baresip) readEvents() {
	r := bufio.NewReader(b.ctrl)
	for {
		size, err := r.ReadString(':')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(size, ":"))
		if err != nil {
			return
		}
		text := make([]byte, n+1)
		if _, err := io.ReadFull(r, text); err != nil {
			return
		}
		e := baresipEvent{at: time.Now()}
		if json.Unmarshal(text[:n], &e) == nil && e.Event {
			b.mu.Lock()
			b.events = append(b.events, e)
			b.cond.Broadcast()
			b.mu.Unlock()
		}
	}
}

// await waits for an event of that type after those that were waited for before.
func (b *baresip) await(kind string, limit time.Duration) baresipEvent {
	b.t.Helper()
	deadline := time.Now().Add(limit)
	timer := time.AfterFunc(limit, func() { b.mu.Lock(); b.cond.Broadcast(); b.mu.Unlock() })
	defer timer.Stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		for i := b.seen; i < len(b.events); i++ {
			if b.events[i].Type == kind {
				b.seen = i + 1
				return b.events[i]
			}
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("baresip %d: no %s within %s, only %v\n%s", b.port, kind, limit, b.events, b.output())
		}
		b.cond.Wait()
	}
}

// recordings are what baresip has heard, the oldest call first; newer ones than 1.0.0 begin another file after each hold.
func (b *baresip) recordings() []string {
	files, _ := filepath.Glob(b.dir + "/dump-*-dec.wav")
	begun := func(file string) string { return file[max(0, len(file)-len("2026-01-02-03-04-05-dec.wav")):] }
	sort.Slice(files, func(i, j int) bool { return begun(files[i]) < begun(files[j]) })
	return files
}

// heard reads the newest recording.
func (b *baresip) heard() []float64 {
	b.t.Helper()
	files := b.recordings()
	if len(files) == 0 {
		b.t.Fatalf("baresip %d has recorded nothing:\n%s", b.port, b.output())
	}
	samples, err := readWAV(files[len(files)-1])
	if err != nil {
		b.t.Fatal(err)
	}
	return samples
}

// growth is when a recording grew, and how many samples it had then.
type growth struct {
	at      time.Time
	samples int
}

// watch looks how the newest recording grows, until the function it returns is called: that tells when it grew again after the longest
// time in which it did not. Baresip's own jitter buffer delays what it hears by 100 ms all the time; for that nothing is added.
func (b *baresip) watch() func() growth {
	b.t.Helper()
	files := b.recordings()
	if len(files) == 0 {
		b.t.Fatalf("baresip %d has recorded nothing:\n%s", b.port, b.output())
	}
	stop, told := make(chan struct{}), make(chan growth)
	go func() {
		told <- resumed(files[len(files)-1], stop)
	}()
	return func() growth {
		close(stop)
		return <-told
	}
}

// resumed watches a file until it is stopped.
func resumed(file string, stop <-chan struct{}) (after growth) {
	var size int64
	last, longest := time.Now(), time.Duration(0)
	for {
		now := time.Now()
		if f, err := os.Stat(file); err == nil && f.Size() > size {
			if size > 0 && now.Sub(last) > longest {
				longest, after = now.Sub(last), growth{now, int(size-44) / 2}
			}
			size, last = f.Size(), now
		}
		select {
		case <-stop:
			return after
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// found checks that a tone is heard for most of a time.
func (b *baresip) found(hz float64, least time.Duration) {
	b.t.Helper()
	samples := b.heard()
	if got := heardTone(samples, hz); got < least {
		b.t.Errorf("baresip %d heard %g Hz for %s of %d ms, want %s", b.port, hz, got, len(samples)*1000/rate, least)
	} else {
		b.t.Logf("baresip %d heard %g Hz for %s of %d ms", b.port, hz, got, len(samples)*1000/rate)
	}
}
