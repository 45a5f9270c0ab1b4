package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"

	"golang.org/x/sys/unix"
)

// TestWatchersWhoReadNothing has a page's event stream and baton calls --watch stop reading beside five calls, while things happen many times a second: the node
// keeps nothing for them, drops them when they have taken nothing for ten seconds, and the calls lose no packet (R18 of docs/failures.md).
func TestWatchersWhoReadNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, node.Options{Config: unlimited, Users: map[string]string{"alice": "101", "bob": "102", "eve": "103", "frank": "104"}})
	alice, bob := w.phone("alice", "desk"), w.phone("bob", "far")
	l := &live{world: w}
	for range 5 {
		out, in := w.connect(alice, "bob", bob)
		l.calls = append(l.calls, [2]*phone.Call{out, in})
	}
	l.since = time.Now()
	eve, frank := w.phone("eve", "desk"), w.phone("frank", "far")
	frank.Behave(phone.Behaviour{Reject: 486})
	made := 0
	eves := func(n int) { // each is some news to both watchers
		for range n {
			w.must(w.dial(eve, "frank").AwaitEnd(5 * time.Second))
			pause(60 * time.Millisecond)
			made++
		}
	}
	eves(50) // as many as the list of her calls holds
	before, err := w.Debug()
	w.must(err)
	w.stream("eve")
	cli := w.stopped("calls", "--watch", "--json")
	w.Eventually(5*time.Second, "both to be connected, and nobody else", func() error {
		if n := w.controls(); n != 1 { // before the node is asked by that way too
			return fmt.Errorf("%d of the command line", n)
		}
		d, err := w.Debug()
		if err == nil && d.Web.Open != 1 {
			err = fmt.Errorf("%d of pages", d.Web.Open)
		}
		return err
	})
	began, most := time.Now(), before.HeapBytes
	var stream, list time.Duration // until they were dropped
	for stream == 0 || list == 0 {
		eves(10)
		now, err := w.Debug()
		w.must(err)
		most = max(most, now.HeapBytes)
		if stream == 0 && now.Web.Open == 0 {
			stream = time.Since(began)
		}
		if list == 0 && w.controls() == 0 {
			list = time.Since(began)
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("they are kept for %s: the stream was dropped after %s, the list after %s (0 = not)", time.Since(began), stream, list)
		}
	}
	grown := int64(most) - int64(before.HeapBytes)
	t.Logf("the stream was dropped after %s, the list after %s; %d calls meanwhile, heap + %d KB", stream, list, made, grown>>10)
	if limit := int64(4<<20 + made*transactions); grown > limit {
		t.Errorf("heap + %d KB (limit %d)", grown>>10, limit>>10)
	}
	l.unharmed()
	if err := cli.Process.Signal(syscall.SIGCONT); err != nil || cli.ProcessState != nil {
		t.Errorf("baton calls --watch has ended: %v", err)
	}
	w.Eventually(5*time.Second, "baton calls --watch to be back when it reads again", func() error {
		if w.controls() == 0 {
			return fmt.Errorf("it is not connected")
		}
		return nil
	})
	l.over()
}

// transactions is what a call leaves behind for half a minute (RFC 3261 §17).
const transactions = 12 << 10

// stream has a user's event stream opened by somebody who reads nothing of it but its head.
func (w *world) stream(user string) {
	w.t.Helper()
	small := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error { // so that little fits on the way
		var err error
		failed := c.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096), unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 536))
		})
		return errors.Join(failed, err)
	}}
	secure := &tls.Config{InsecureSkipVerify: true}
	body, _ := json.Marshal(map[string]string{"user": user, "password": node.Password(user), "device": "page"})
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: secure, DisableKeepAlives: true}}
	res, err := client.Post("https://"+w.Web.String()+"/api/v1/session", "application/json", bytes.NewReader(body))
	w.must(err)
	defer res.Body.Close()
	var session struct{ Token string }
	w.must(json.NewDecoder(res.Body).Decode(&session))
	conn, err := small.Dial("tcp", w.Web.String())
	w.must(err)
	w.t.Cleanup(func() { conn.Close() })
	page := tls.Client(conn, secure)
	fmt.Fprintf(page, "GET /api/v1/me/events HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", w.Web, session.Token)
	head, err := bufio.NewReaderSize(page, 16).ReadString('\n')
	if err != nil || !strings.Contains(head, "200") {
		w.t.Fatalf("no event stream: %q, %v", head, err)
	}
}

// stopped runs a command that is stopped as soon as it has said something.
func (w *world) stopped(args ...string) *exec.Cmd {
	w.t.Helper()
	read, write, err := os.Pipe()
	w.must(err)
	cmd := exec.Command(node.Binary(), append(args, "--data", w.Dir)...)
	cmd.Stdout = write
	w.must(node.Spawn(cmd))
	write.Close()
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		read.Close()
	})
	if _, err := io.ReadFull(read, make([]byte, 1)); err != nil {
		w.t.Fatalf("baton %s: %v", strings.Join(args, " "), err)
	}
	w.must(cmd.Process.Signal(syscall.SIGSTOP))
	return cmd
}

// controls are the connections that the node has at its control socket.
func (w *world) controls() (n int) {
	w.t.Helper()
	all, err := os.ReadFile("/proc/thread-self/net/unix") // of this thread: the first one may be in a namespace of its own
	w.must(err)
	for line := range strings.Lines(string(all)) {
		if f := strings.Fields(line); len(f) == 8 && f[5] == "03" && f[7] == filepath.Join(w.Dir, "control.sock") { // connected
			n++
		}
	}
	return n
}
