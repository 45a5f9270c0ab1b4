package e2e

import (
	"cmp"
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

	"golang.org/x/sys/unix"

	"baton/test/e2e/node"
)

// linphone is one running linphonec on a pseudo-terminal of its own: without one its core does not run. It plays a tone
// from a file and records what it hears.
type linphone struct {
	t   *testing.T
	dir string
	cmd *exec.Cmd
	tty *os.File

	mu  sync.Mutex
	out strings.Builder
}

const linphoneConfig = `[sip]
sip_port=%[1]d
sip_tcp_port=%[1]d
sip_tls_port=-1
default_proxy=-1
register_only_when_network_is_up=0
guess_hostname=1
[rtp]
audio_rtp_port=%[2]d
[net]
stun_server=
firewall_policy=0
`

// startLinphone runs one for a user over UDP; it plays a tone of hz and answers by itself. settings are lines of its [sip].
func (w *world) startLinphone(user string, hz float64, settings ...string) *linphone {
	w.t.Helper()
	return w.startLinphoneAt(user, hz, w.UDP, settings...)
}

// startLinphoneAt runs one that finds the node at an address.
func (w *world) startLinphoneAt(user string, hz float64, server netip.AddrPort, settings ...string) *linphone {
	w.t.Helper()
	program := need(w.t, "linphonec", "linphone-cli")
	port, _ := linphonePorts.Next(w.t)
	l := &linphone{t: w.t, dir: w.t.TempDir()}
	w.must(os.MkdirAll(l.dir+"/.local/share/linphone", 0o700))
	w.must(os.MkdirAll(l.dir+"/.config/linphone", 0o700))
	config := fmt.Sprintf(linphoneConfig, port, port+16000)
	config = strings.Replace(config, "[rtp]\n", strings.Join(settings, "")+"[rtp]\n", 1)
	w.must(os.WriteFile(l.dir+"/rc", []byte(config), 0o600))
	writeTone(w.t, l.dir+"/tone.wav", hz, cmp.Or(w.long, 3*time.Minute))
	here := w.here(user)
	l.start(program)
	l.do("soundcard use files")
	l.do("play " + l.dir + "/tone.wav")
	l.do("record " + l.dir + "/heard.wav")
	way := ""
	if server == w.TLS {
		way = ";transport=tls"
	}
	l.do(fmt.Sprintf("register sip:%s@%s sip:%s%s %s", user, server, server, way, node.Password(user)))
	w.Eventually(15*time.Second, "linphonec to be registered", func() error {
		if n := w.here(user); n <= here {
			return fmt.Errorf("%s has %d devices; linphonec said:\n%s", user, n, l.output())
		}
		return nil
	})
	return l
}

func (l *linphone) start(program string) {
	l.t.Helper()
	tty, slave, err := openPTY()
	if err != nil {
		l.t.Fatalf("pseudo-terminal for linphonec: %v", err)
	}
	defer slave.Close()
	l.tty = tty
	l.cmd = exec.Command(program, "-a", "-c", l.dir+"/rc")
	l.cmd.Env = append(os.Environ(), "HOME="+l.dir, "TERM=dumb", "XDG_DATA_HOME="+l.dir+"/.local/share", "XDG_CONFIG_HOME="+l.dir+"/.config")
	l.cmd.Stdin, l.cmd.Stdout, l.cmd.Stderr = slave, slave, slave
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	if err := node.Spawn(l.cmd); err != nil {
		l.t.Fatalf("start linphonec: %v", err)
	}
	go io.Copy(l, tty)
	l.t.Cleanup(l.quit)
	l.await("linphonec>", 20*time.Second)
}

// openPTY is a pseudo-terminal and its other end (ptmx(4)).
func openPTY() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	n := 0
	fd := int(master.Fd())
	if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err == nil {
		n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
	}
	return master, slave, err
}

// Write collects what linphonec prints.
func (l *linphone) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(b)
}

func (l *linphone) output() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.String()
}

// do types a line.
func (l *linphone) do(command string) { fmt.Fprintf(l.tty, "%s\n", command) }

// await waits until linphonec has printed a text.
func (l *linphone) await(text string, limit time.Duration) {
	l.t.Helper()
	for deadline := time.Now().Add(limit); !strings.Contains(l.output(), text); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("linphonec did not say %q within %s, only:\n%s", text, limit, l.output())
		}
	}
}

// quit ends the process, by force if it does not go.
func (l *linphone) quit() {
	l.do("quit")
	done := make(chan struct{})
	go func() { l.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(8 * time.Second):
		l.cmd.Process.Kill()
		<-done
	}
	l.tty.Close()
	if l.t.Failed() {
		l.t.Logf("linphonec said:\n%s", l.output())
	}
}

// found checks that a tone is heard for most of a time.
func (l *linphone) found(hz float64, least time.Duration) {
	l.t.Helper()
	samples, err := readWAV(l.dir + "/heard.wav")
	if err != nil {
		l.t.Error(err)
		return
	}
	got := heardTone(samples, hz)
	if got < least {
		l.t.Errorf("linphonec heard %g Hz for %s of %d ms, want %s", hz, got, len(samples)*1000/rate, least)
		return
	}
	l.t.Logf("linphonec heard %g Hz for %s of %d ms", hz, got, len(samples)*1000/rate)
}
