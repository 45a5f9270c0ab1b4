package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/call"
	"baton/media"
	"baton/test/phone"
)

// crowd is n calls between people with long names.
func crowd(n int) []call.Info {
	long := strings.Repeat("long-name-", 6)
	up := time.Now().Add(-100 * time.Hour)
	var all []call.Info
	for i := range n {
		leg := call.LegInfo{
			ID: "d23p2lxq", Device: long + "電話機", Index: 1, State: "up", Held: true, Codecs: []string{"opus", "G722", "PCMA", "PCMU", "telephone-event"},
			Remote: "tls:[2001:db8:1234:5678:9abc:def0:1234:5678]:50611",
			Stats: media.Stats{
				Remote: "[2001:db8:1234:5678:9abc:def0:1234:5678]:40000", RTT: 1234.5, Reported: true,
				In:      media.Traffic{Codec: "opus/48000/2", Packets: 123456789, Lost: 1234567, LossPercent: 12.3, Jitter: 1234},
				Out:     media.Traffic{Codec: "telephone-event/48000", Packets: 123456789, Lost: 1234567, LossPercent: 100, Jitter: 1234},
				Dropped: map[string]uint64{"foreign": 1234567, "early": 1234567, "malformed": 1234567, "payload": 1234567, "rtcp_foreign": 1234567},
			},
			In: &media.Quality{MOS: 1, Delay: 12345}, Out: &media.Quality{MOS: 4.41, Delay: 2},
		}
		seat := call.SeatInfo{User: long + "alice", Number: "+4930123456789", Legs: []call.LegInfo{leg, leg}}
		all = append(all, call.Info{
			ID: fmt.Sprintf("c%07d", i), State: "up", Started: up, Up: &up, Unsafe: true, Seats: []call.SeatInfo{seat, seat, seat},
			Ways: []call.Way{{From: long, To: long + "b", Quality: media.Quality{MOS: 4.1, Delay: 100}}},
			Moves: []call.MoveInfo{
				{At: up, User: long, From: long, To: long, How: "refer", Who: long, Report: &call.MoveReport{SwitchMS: 12345, Far: call.Gap{GapMS: 12345, Lost: 123}, Near: call.Gap{GapMS: 12345}}},
				{At: up, User: long, From: long, To: long, How: "refer", Who: long, Error: strings.Repeat("no ", 60)},
			},
		})
	}
	return all
}

// TestEightyColumns: however long the names, no line of what a person looks at is longer than the terminal is wide, and
// there is no more of it than fits.
func TestEightyColumns(t *testing.T) {
	for _, width := range []int{80, 60, 132, 30} {
		var b bytes.Buffer
		out := screen{Writer: &b, width: width}
		for _, c := range crowd(2) {
			if err := showCall(out, c); err != nil {
				t.Fatal(err)
			}
		}
		if err := callTable(out, crowd(3), time.Now()); err != nil {
			t.Fatal(err)
		}
		for _, s := range []sight{{calls: crowd(40)}, {calls: crowd(1)}, {}, {lost: time.Now()}} {
			frame := string(s.frame(out, 24, time.Now()))
			if strings.Count(frame, "\n") > 23 || strings.Contains(frame, "\x1b[2J") {
				t.Errorf("the frame scrolls or flickers: %q", frame)
			}
			b.WriteString(regexp.MustCompile(`\x1b\[[HKJ]|\r`).ReplaceAllString(frame, "") + "\n")
		}
		lines := strings.Split(b.String(), "\n")
		for _, line := range lines {
			if textWidth(line) > width {
				t.Errorf("%d columns, want %d: %s", textWidth(line), width, line)
			}
		}
		if len(lines) < 80 || !strings.Contains(b.String(), "… and ") {
			t.Errorf("only %d lines: nothing was tried", len(lines))
		}
	}
}

// TestFrameTicks: how long a call lasts is counted between changes.
func TestFrameTicks(t *testing.T) {
	now := time.Now()
	up := now.Add(-75 * time.Second)
	s := sight{calls: []call.Info{{ID: "k3f9aaaa", State: "up", Started: up, Up: &up}}}
	out := screen{width: 80}
	if first, later := string(s.frame(out, 24, now)), string(s.frame(out, 24, now.Add(time.Second))); !strings.Contains(first, " 1m15s ") || !strings.Contains(later, " 1m16s ") {
		t.Errorf("%q, a second later %q", first, later)
	}
}

// ring calls bob with alice's phone and waits until they talk.
func (p *party) ring() *phone.Call {
	p.t.Helper()
	out, err := p.desk.Dial("bob")
	if err != nil {
		p.t.Fatal(err)
	}
	if err := out.Await(5 * time.Second); err != nil {
		p.t.Fatal(err)
	}
	return out
}

// TestWatchLines goes through a call and a restart of the node with what is no terminal.
func TestWatchLines(t *testing.T) {
	p := newParty(t)
	watch := baton(t, "calls", "--watch", "--data", p.dir)
	var said output
	watch.Stdout, watch.Stderr = &said, &said
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	next := 0
	wants := func(want string) {
		t.Helper()
		waitFor(t, want+" in\n"+said.String(), func() bool {
			at := regexp.MustCompile(want).FindStringIndex(said.String()[next:])
			if at != nil {
				next += at[1]
			}
			return at != nil
		})
	}
	wants(`^\d\d:\d\d:\d\d  no live calls\n\n`)
	out := p.ring()
	wants(`  1 live call\nCALL .*\n\S+ +up +.*alice \(desk.*\)  bob \(`)
	wantsMove(t, p)
	wants(`alice \(hall.*\)  bob \(.* 1\n\n`)
	if err := p.it.Calls()[0].Hangup(); err != nil {
		t.Fatal(err)
	}
	wants(`no live calls\n\n$`)
	_ = out
	p.stop(t, syscall.SIGKILL)
	wants(`the node has stopped; waiting for it\n\n$`)
	again := serve(t, p.dir)
	wants(`no live calls\n\n$`)
	if err := watch.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := watch.Wait(); err != nil {
		t.Errorf("watch: %v", err)
	}
	if strings.Contains(said.String(), "\x1b") {
		t.Errorf("a file is no terminal: %q", said.String())
	}
	again.stop(t, syscall.SIGTERM)
	if _, errs, code := run(t, "", "calls", "--watch", "--data", p.dir); code != 3 {
		t.Errorf("without a node: status %d, %s", code, errs)
	}
}

func wantsMove(t *testing.T, p *party) {
	t.Helper()
	wants(t, 0, `alice went from desk`, "move", "--user", "alice", "2", "--data", p.dir)
}

// pty is a terminal whose other end the test holds.
func pty(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { ours.Close() })
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		theirs, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	return ours, theirs
}

// TestWatchScreen holds a terminal: the list stays on a screen of its own, follows its size, and whatever ends it leaves
// the terminal as it was.
func TestWatchScreen(t *testing.T) {
	p := newParty(t)
	p.ring()
	for _, end := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		ours, theirs := pty(t)
		resize := func(width, height uint16) {
			if err := unix.IoctlSetWinsize(int(ours.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}); err != nil {
				t.Fatal(err)
			}
		}
		resize(80, 24)
		before, err := unix.IoctlGetTermios(int(theirs.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		watch := baton(t, "calls", "--watch", "--data", p.dir)
		watch.Env = append(watch.Env, "TERM=xterm", "NO_COLOR=")
		watch.Stdin, watch.Stdout, watch.Stderr = theirs, theirs, theirs
		watch.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		var said output
		if err := watch.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { // ends with the terminal
			b := make([]byte, 4096)
			for {
				n, err := ours.Read(b)
				_, _ = said.Write(b[:n])
				if err != nil {
					return
				}
			}
		}()
		waitFor(t, "the list", func() bool {
			return regexp.MustCompile(`1 live call at .*CALL +STATE(?s:.*)bob \(`).MatchString(strings.ReplaceAll(said.String(), "\r\n", " "))
		})
		if during, err := unix.IoctlGetTermios(int(theirs.Fd()), unix.TCGETS); err != nil || during.Lflag&unix.ECHO != 0 {
			t.Errorf("what is typed is seen: %+v, %v", during, err)
		}
		resize(50, 24)
		waitFor(t, "the list to become narrow", func() bool { return strings.Contains(said.String(), "…") })
		if err := watch.Process.Signal(end); err != nil {
			t.Fatal(err)
		}
		if err := watch.Wait(); err != nil {
			t.Errorf("%v: %v", end, err)
		}
		waitFor(t, "the terminal to be left", func() bool { return strings.HasSuffix(said.String(), leaveScreen) })
		if !strings.HasPrefix(said.String(), enterScreen) || !strings.Contains(said.String(), "\x1b[1m") {
			t.Errorf("%v: %q", end, said.String())
		}
		after, err := unix.IoctlGetTermios(int(theirs.Fd()), unix.TCGETS)
		if err != nil || *after != *before {
			t.Errorf("%v: terminal was %+v, is %+v, %v", end, before, after, err)
		}
	}
}

// TestPlain: NO_COLOR and a dumb terminal keep every escape sequence away.
func TestPlain(t *testing.T) {
	p := newParty(t)
	for _, env := range []string{"NO_COLOR=1", "TERM=dumb"} {
		for _, args := range [][]string{{"devices"}, {"log"}} {
			ours, theirs := pty(t)
			cmd := baton(t, append(args, "--data", p.dir)...)
			cmd.Env = append(cmd.Env, "TERM=xterm", env)
			got := onTerminal(t, cmd, ours, theirs)
			if !strings.Contains(got, "alice") || strings.Contains(got, "\x1b") {
				t.Errorf("%s: %q", env, got)
			}
		}
	}
	ours, theirs := pty(t)
	cmd := baton(t, "devices", "--data", p.dir)
	cmd.Env = append(cmd.Env, "TERM=xterm", "NO_COLOR=")
	if got := onTerminal(t, cmd, ours, theirs); !strings.Contains(got, "\x1b[1mUSER") {
		t.Errorf("no colour: %q", got)
	}
}

// onTerminal runs a command on a terminal and returns what it wrote.
func onTerminal(t *testing.T, cmd *exec.Cmd, ours, theirs *os.File) string {
	t.Helper()
	cmd.Stdout = theirs
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	var got bytes.Buffer
	_, _ = got.ReadFrom(ours) // ends with an error when nobody has the other end
	return got.String()
}
