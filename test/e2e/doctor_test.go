package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// finding is what "baton doctor --json" lists.
type finding struct {
	Level, Check, Where, Text string
	Cure                      []string
}

func (f finding) String() string {
	return fmt.Sprintf("%s %s: %s: %s\n  %s", f.Level, f.Check, f.Where, f.Text, strings.Join(f.Cure, "\n  "))
}

// patient is a data directory with settings of its own, and no node on it.
type patient struct {
	t     *testing.T
	dir   string
	yaml  string
	shell string              // before the command, in the same shell
	as    *syscall.Credential // nil = as the tests run
}

// sipPort is the listener's of every patient here; no node of these tests has it.
const sipPort = 4060

func newPatient(t *testing.T, settings string) *patient {
	t.Helper()
	dir, err := os.MkdirTemp("", "bt-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	yaml := filepath.Join(dir, "baton.yaml")
	text := fmt.Sprintf("listen: {udp: \":%d\", tcp: \":%d\", tls: \":%d\", web: \":%d\"}\n%s", sipPort, sipPort, sipPort+1, sipPort+3, settings)
	if err := os.WriteFile(yaml, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return &patient{t: t, dir: filepath.Join(dir, "data"), yaml: yaml}
}

// run runs the built baton on the patient and gives what it said and its status.
func (p *patient) run(args ...string) (stdout, stderr string, status int) {
	p.t.Helper()
	if args = append(args, "--data", p.dir); args[0] != "user" {
		args = append(args, "--config", p.yaml)
	}
	cmd := exec.CommandContext(p.t.Context(), "sh", append([]string{"-c", p.shell + ` exec "$0" "$@"`, node.Binary()}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if p.as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// doctor runs it and holds its status against what it found.
func (p *patient) doctor() []finding {
	p.t.Helper()
	out, errs, status := p.run("doctor", "--json")
	var said struct {
		Worst    string
		Findings []finding
	}
	if err := json.Unmarshal([]byte(out), &said); err != nil {
		p.t.Fatalf("%v in %s%s", err, out, errs)
	}
	if want := map[string]int{"ok": 0, "note": 0, "warning": 1, "error": 2}[said.Worst]; status != want {
		p.t.Errorf("the worst is %q, the status %d", said.Worst, status)
	}
	if len(said.Findings) == 0 || said.Findings[0].Level != said.Worst {
		p.t.Errorf("the worst, %q, does not stand first:\n%v", said.Worst, said.Findings)
	}
	return said.Findings
}

// finds wants one finding of that level and check whose text and cure match.
func (p *patient) finds(level, check, text, cure string) {
	p.t.Helper()
	all := p.doctor()
	for _, f := range all {
		if f.Level == level && f.Check == check && matches(text, f.Where+": "+f.Text) && matches(cure, strings.Join(f.Cure, "\n")) {
			return
		}
	}
	p.t.Errorf("no %s of %s with %q and the cure %q in", level, check, text, cure)
	for _, f := range all {
		p.t.Log(f)
	}
}

func matches(pattern, text string) bool { return regexp.MustCompile(pattern).MatchString(text) }

// start makes the data directory as a first start does, and stops the node again.
func (p *patient) start() {
	p.t.Helper()
	if _, errs, status := p.run("user", "add", "alice"); status != 0 {
		p.t.Fatalf("user add: status %d, %s", status, errs)
	}
}

// TestDoctorHealthy wants nothing bad of a machine and a node with which nothing is wrong, and a terminal of 80 columns
// to be enough.
func TestDoctorHealthy(t *testing.T) {
	p := newPatient(t, "")
	for _, f := range p.doctor() {
		if f.Level == "error" || f.Level == "warning" {
			t.Errorf("before the first start: %s", f)
		}
	}
	w := newWorld(t)
	w.phone("alice", "desk")
	out, err := w.CLI("doctor")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{`(?m)^ok       node: .*running since`, `(?m)^ok       ports: udp :\d+: held by the running node \(pid \d+\)`, `(?m)^ok       devices: 1 of 1 heard`} {
		if !matches(want, out) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	for line := range strings.Lines(out) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 && !strings.HasPrefix(line, "           > ") {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// TestDoctorFindsPlantedFaults plants one fault after the other; each must be found, with its cure.
func TestDoctorFindsPlantedFaults(t *testing.T) {
	t.Run("port taken", func(t *testing.T) {
		conn, err := net.ListenPacket("udp", fmt.Sprintf(":%d", sipPort))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		p := newPatient(t, "")
		holder := fmt.Sprintf(`e2e\.test \(pid %d\)`, os.Getpid())
		elsewhere := fmt.Sprintf(`BATON_LISTEN_UDP=:%d BATON_LISTEN_TCP=:%d `, sipPort+2, sipPort+2)
		p.finds("error", "ports", fmt.Sprintf(`^udp :%d: taken by `, sipPort)+holder, `^`+elsewhere+`baton serve`)

		_, errs, status := p.run("serve")
		if status != 1 || !matches(`^baton: listen on udp :4060: .*in use: `+holder+` has udp :4060; to use another port: `+elsewhere+`\S+ serve --data`, errs) {
			t.Errorf("serve: status %d, said %s", status, errs)
		}
		tryAdvice(t, p, errs)
	})
	t.Run("port filtered", func(t *testing.T) {
		need(t, "iptables", "iptables")
		p := newPatient(t, "")
		filter(t, "-p", "udp", "--dport", fmt.Sprint(sipPort), "-j", "DROP")
		p.finds("error", "firewall", `^udp 4060 at 10\.77\.0\.1: filtered: .*does not arrive; by -A INPUT .*-j DROP`, `^sudo iptables -I INPUT -p udp --dport 4060 -j ACCEPT$`)
		cure(t, "iptables -I INPUT -p udp --dport 4060 -j ACCEPT")
		if all := p.doctor(); strings.Contains(fmt.Sprint(all), "filtered") {
			t.Errorf("after the cure:\n%v", all)
		}
	})
	t.Run("audio filtered", func(t *testing.T) {
		need(t, "iptables", "iptables")
		p := newPatient(t, "media: {ports: 24000-24999}\n")
		filter(t, "-p", "udp", "--dport", "24000:24999", "-j", "REJECT")
		p.finds("error", "firewall", `^udp 24000-24999 at 10\.77\.0\.1: filtered`, `--dport 24000:24999 -j ACCEPT`)
	})
	t.Run("port filtered for others only", func(t *testing.T) {
		need(t, "iptables", "iptables")
		p := newPatient(t, "")
		filter(t, "!", "-i", "lo", "-p", "tcp", "--dport", fmt.Sprint(sipPort), "-j", "DROP")
		p.finds("error", "firewall", `^tcp 4060: filtered by -A INPUT`, `^sudo iptables -I INPUT -p tcp --dport 4060 -j ACCEPT$`)
	})
	t.Run("port filtered, node running", func(t *testing.T) {
		need(t, "iptables", "iptables")
		w := newWorld(t)
		filter(t, "-p", "udp", "--dport", fmt.Sprint(w.UDP.Port()), "-j", "DROP")
		out, err := w.CLI("doctor")
		if node.ExitStatus(err) != 2 || !matches(fmt.Sprintf(`ERROR    firewall: udp %d at 10\.77\.0\.1: filtered`, w.UDP.Port()), out) {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("wrong media address", func(t *testing.T) {
		p := newPatient(t, "media: {address: 10.99.0.1}\n")
		p.finds("error", "address", `media\.address 10\.99\.0\.1: this machine does not have this address`, `BATON_MEDIA_ADDRESS=10\.77\.0\.`)
	})
	t.Run("wrong advertised address", func(t *testing.T) {
		p := newPatient(t, "advertise: {sip: 192.168.99.1, media: 192.168.99.1}\n")
		p.finds("warning", "address", `advertise\.media 192\.168\.99\.1: a private address that this machine does not have`, `BATON_ADVERTISE_MEDIA=`)
	})
	t.Run("certificate expired", func(t *testing.T) {
		p := newPatient(t, "")
		p.start()
		p.certificate(time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour))
		p.finds("error", "certificate", `tls\.crt: expired on \d{4}-\d\d-\d\d`, `^rm .*/tls\.crt .*/tls\.key`)
	})
	t.Run("certificate expires soon", func(t *testing.T) {
		p := newPatient(t, "")
		p.start()
		p.certificate(time.Now().Add(-48*time.Hour), time.Now().Add(10*24*time.Hour+time.Hour))
		p.finds("warning", "certificate", `tls\.crt: expires on .*, in 10 days`, `^rm .*/tls\.crt`)
	})
	t.Run("key of another certificate", func(t *testing.T) {
		p := newPatient(t, "")
		p.start()
		p.certificate(time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
		key, err := os.ReadFile(filepath.Join(p.dir, "tls.key"))
		if err != nil {
			t.Fatal(err)
		}
		p.certificate(time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
		p.write("tls.key", key)
		p.finds("error", "certificate", `does not work with .*tls\.key: .*does not match`, `^rm .*/tls\.crt .*/tls\.key`)
	})
	t.Run("store unreadable", func(t *testing.T) {
		p := newPatient(t, "")
		p.start()
		p.write("users.db", bytes.Repeat([]byte("nonsense"), 4096))
		p.finds("error", "store", `users\.db: .*no node starts on it`, `copy of users\.db back`)
	})
	t.Run("data directory not writable", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("needs root to become another account")
		}
		p := newPatient(t, "")
		p.as = &syscall.Credential{Uid: 65534, Gid: 65534}
		if err := errors.Join(os.Mkdir(p.dir, 0o755), os.Chmod(filepath.Dir(node.Binary()), 0o755)); err != nil {
			t.Fatal(err)
		}
		p.finds("error", "store", regexp.QuoteMeta(p.dir)+`: this account cannot write here`, `sudo chown -R 65534:65534 `)
	})
	t.Run("data directory of another account", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("needs root to become another account")
		}
		p := newPatient(t, "")
		if err := errors.Join(os.Mkdir(p.dir, 0o700), os.Chmod(filepath.Dir(node.Binary()), 0o755)); err != nil {
			t.Fatal(err)
		}
		p.as = &syscall.Credential{Uid: 65534, Gid: 65534}
		p.finds("error", "store", `belongs to root: this account cannot look inside`, `^sudo baton doctor --data `)
	})
	t.Run("clock off", func(t *testing.T) {
		p := newPatient(t, "")
		p.start()
		ahead := time.Now().Add(3 * time.Hour)
		if err := os.Chtimes(filepath.Join(p.dir, "users.db"), ahead, ahead); err != nil {
			t.Fatal(err)
		}
		p.finds("warning", "clock", `users\.db: was written at .* after now`, `timedatectl set-ntp true`)
	})
	t.Run("file limit 64", func(t *testing.T) {
		p := newPatient(t, "")
		p.shell = "ulimit -n 64;"
		p.finds("error", "files", `^limit 64: open files for 3 calls`, `(?m)^ulimit -n 10050.*\nLimitNOFILE=10050`)
	})
	t.Run("file limit of the node", func(t *testing.T) {
		w := newWorld(t)
		low := unix.Rlimit{Cur: 64, Max: 64}
		if err := unix.Prlimit(w.PID(), unix.RLIMIT_NOFILE, &low, nil); err != nil {
			t.Fatal(err)
		}
		out, err := w.CLI("doctor")
		if node.ExitStatus(err) != 2 || !matches(fmt.Sprintf(`(?s)ERROR    files: limit 64: .*sudo prlimit --pid %d --nofile=10050:10050`, w.PID()), out) {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("audio ports taken", func(t *testing.T) {
		conn, err := net.ListenPacket("udp", ":24100")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		p := newPatient(t, "media: {ports: 24000-24999}\n")
		p.finds("warning", "audio ports", fmt.Sprintf(`taken: 24100 by e2e\.test \(pid %d\)`, os.Getpid()), `BATON_MEDIA_PORTS=10000-10999`)
	})
	t.Run("audio ports too few", func(t *testing.T) {
		p := newPatient(t, "media: {ports: 24000-24015}\n")
		p.finds("warning", "audio ports", `24000-24015: too small: room for 4 calls`, `BATON_MEDIA_PORTS=20000-29999`)
	})
	t.Run("device elsewhere than it claims", func(t *testing.T) {
		w := newWorld(t)
		behind := nat(t, w.UDP, node.IP(19))
		p := w.phone("alice", "desk", func(c *phone.Config) { c.Server, c.Domain = behind, w.UDP.Addr().String() })
		out, err := w.CLI("doctor", "--json")
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		claimed := strings.TrimPrefix(p.Contact(), "sip:alice@")
		want := `(?s)"devices",\s+"where": "alice/desk",\s+"text": "heard from 10\.77\.0\.19:\d+ over UDP, but says it is at ` + regexp.QuoteMeta(claimed) + `: it is behind NAT;.*switch SIP ALG off`
		if !matches(want, out) {
			t.Errorf("no %s in\n%s", want, out)
		}
	})
	t.Run("settings", func(t *testing.T) {
		p := newPatient(t, "log: {level: loud}\n")
		p.shell = "BATON_LISTEN_UPD=:1 BATON_CALL_RING=no;export BATON_LISTEN_UPD BATON_CALL_RING;"
		p.finds("error", "settings", `baton\.yaml:2: log\.level: "loud"`, `baton check`)
		p.finds("error", "settings", `BATON_CALL_RING: call\.ring: "no"`, `baton check`)
		p.finds("warning", "settings", `BATON_LISTEN_UPD: this variable names no setting`, `unset BATON_LISTEN_UPD`)
	})
}

// tryAdvice runs the command that serve has advised, as a person would copy it.
func tryAdvice(t *testing.T, p *patient, said string) {
	t.Helper()
	_, advice, _ := strings.Cut(strings.TrimSpace(said), "to use another port: ")
	cmd := exec.Command("sh", "-c", "exec env "+advice)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := node.Spawn(cmd); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", advice, err)
		}
	}()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		out, _, status := p.run("doctor")
		if status < 2 && strings.Contains(out, fmt.Sprintf("udp :%d: held by the running node", sipPort+2)) {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s does not run: %s", advice, out)
			return
		}
	}
}

// filter adds a rule to this namespace until the end of the test.
func filter(t *testing.T, rule ...string) {
	t.Helper()
	if out, err := exec.Command("iptables", append([]string{"-A", "INPUT"}, rule...)...).CombinedOutput(); err != nil {
		t.Fatalf("iptables: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("iptables", append([]string{"-D", "INPUT"}, rule...)...).CombinedOutput(); err != nil {
			t.Errorf("iptables: %v: %s", err, out)
		}
	})
}

// cure runs a command that doctor has advised, and takes it back at the end of the test.
func cure(t *testing.T, command string) {
	t.Helper()
	words := strings.Fields(command)
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	t.Cleanup(func() {
		back := strings.Fields(strings.Replace(command, "-I", "-D", 1))
		if out, err := exec.Command(back[0], back[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v: %s", back, err, out)
		}
	})
}

// write puts a file into the data directory.
func (p *patient) write(name string, data []byte) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), data, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// certificate writes one of its own with that validity.
func (p *patient) certificate(from, to time.Time) {
	p.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		p.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write("tls.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	p.write("tls.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// nat is a router in front of one phone: what it sends to the inner side leaves by outer, and back. It gives the inner
// side's address.
func nat(t *testing.T, server netip.AddrPort, outer netip.Addr) netip.AddrPort {
	t.Helper()
	inside, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(node.IP(18), 0)))
	if err != nil {
		t.Fatal(err)
	}
	out, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(outer, 0)), net.UDPAddrFromAddrPort(server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inside.Close(); out.Close() })
	phones := make(chan netip.AddrPort, 1)
	go func() {
		buf := make([]byte, 65535)
		for {
			n, from, err := inside.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			select {
			case phones <- from:
			default:
			}
			_, _ = out.Write(buf[:n])
		}
	}()
	go func() {
		buf := make([]byte, 65535)
		var to netip.AddrPort
		for {
			n, err := out.Read(buf)
			if err != nil {
				return
			}
			select {
			case to = <-phones:
			default:
			}
			_, _ = inside.WriteToUDPAddrPort(buf[:n], to)
		}
	}()
	return inside.LocalAddr().(*net.UDPAddr).AddrPort()
}
