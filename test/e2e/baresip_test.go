package e2e

import (
	"bufio"
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
)

// baresip is one running baresip without a sound card: it plays a tone from a file and records what it hears.
type baresip struct {
	t    *testing.T
	dir  string
	port int
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

var lastBaresip = 6000

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
module_tmp		account.so
module_app		menu.so
snd_path		%[2]s
ctrl_tcp_listen		127.0.0.1:%[6]d
`

// startBaresip runs one for a user over a transport ("udp6" is UDP over IPv6 alone); it plays a tone of hz and answers by
// itself.
func (w *world) startBaresip(user, transport string, hz float64, extra ...string) *baresip {
	w.t.Helper()
	program := need(w.t, "baresip", "baresip-core")
	lastBaresip += 10
	b := &baresip{t: w.t, dir: w.t.TempDir(), port: lastBaresip, hz: hz}
	b.cond = sync.NewCond(&b.mu)
	writeTone(w.t, b.dir+"/tone.wav", hz, 3*time.Minute)
	config := fmt.Sprintf(baresipConfig, b.port, b.dir, modulesOf(w.t), 10000+20*(lastBaresip-6000), 10000+20*(lastBaresip-6000)+190, b.port+5)
	config += strings.Join(extra, "\n") + "\n"
	at := w.UDP
	switch transport {
	case "tls":
		at = w.TLS
	case "udp6":
		at, transport, b.args = w.UDP6, "udp", []string{"-6"}
		config = strings.Replace(config, "0.0.0.0:", "[::]:", 1)
	}
	account := fmt.Sprintf("<sip:%s@%s;transport=%s>;auth_user=%s;auth_pass=%s;answermode=auto;audio_codecs=PCMU;regint=600\n",
		user, at, transport, user, node.Password(user))
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

// recordings are what baresip has heard, the oldest call first.
func (b *baresip) recordings() []string {
	files, _ := filepath.Glob(b.dir + "/dump-*-dec.wav")
	sort.Strings(files)
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
