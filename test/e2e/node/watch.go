package node

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Debug is what the node tells of its inside at GET /api/v1/debug.
type Debug struct {
	Goroutines   int    `json:"goroutines"`
	HeapBytes    uint64 `json:"heap_bytes"` // live, after a collection
	Calls        int    `json:"calls"`
	Streams      int    `json:"streams"`
	Dialogs      int    `json:"dialogs"`
	Transactions int    `json:"transactions"`
	Records      int    `json:"records"`

	Subscriptions int `json:"subscriptions"`

	Connections Connections `json:"connections"`
	Web         Web         `json:"web"`
	Relays      int         `json:"relays"` // allocations of TURN
	Traffic     Traffic     `json:"traffic"`
	Load        Load        `json:"load"`
}

// Traffic is what the node tells of SIP that it did not serve, by reason.
type Traffic struct {
	Dropped map[string]int `json:"dropped"`
	Refused map[string]int `json:"refused"`
	Kernel  int            `json:"kernel"`
}

// Load is how much it has to do.
type Load struct {
	CPU    float64 `json:"cpu"`
	WaitMS float64 `json:"wait_ms"`
	Busy   bool    `json:"busy"`
	Times  int     `json:"times"`
}

// Connections is what the node tells of those over TCP and TLS.
type Connections struct {
	Open         int            `json:"open"`
	Devices      int            `json:"devices"`
	Closed       map[string]int `json:"closed"`
	Refused      map[string]int `json:"refused"`
	AcceptErrors int            `json:"accept_errors"`
}

// Web is what the node tells of the connections of its HTTPS port.
type Web struct {
	Open int `json:"open"`
	Idle int `json:"idle"` // of those: a browser keeps them for what it may ask later
}

// Debug asks the node for its inside.
func (n *Node) Debug() (Debug, error) {
	var d Debug
	body, err := n.Get("/api/v1/debug")
	if err == nil {
		err = json.Unmarshal(body, &d)
	}
	return d, err
}

// Get asks the control socket for a page.
func (n *Node) Get(path string) ([]byte, error) {
	res, err := n.http.Get("http://node" + path)
	if err != nil {
		return nil, fmt.Errorf("ask the node: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", path, res.Status, body)
	}
	return body, err
}

// Post sends JSON to the API over the control socket and reads the answer; a refusal is an error with its text.
func (n *Node) Post(path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	res, err := n.http.Post("http://node"+path, "application/json", bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("POST %s: %w", path, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return err
	case res.StatusCode >= 300:
		return fmt.Errorf("POST %s: %s: %s", path, res.Status, answer)
	case into == nil || len(answer) == 0:
		return nil
	}
	return json.Unmarshal(answer, into)
}

// PID is the node's process.
func (n *Node) PID() int { return n.cmd.Process.Pid }

// FDs is how many file descriptors the node has open.
func (n *Node) FDs() int {
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.PID()))
	if err != nil {
		return -1
	}
	return len(list)
}

// UDPPorts is how many UDP sockets are open in the namespace; the phones' are among them.
// It asks for the thread: the process has the namespace of its first one, and that may have made one for a Network.
func UDPPorts() int {
	lines := 0
	for _, name := range []string{"/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"} {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		for s := bufio.NewScanner(f); s.Scan(); lines++ {
		}
		f.Close()
		lines-- // the heading
	}
	return lines
}

// UDPSockets is how many UDP sockets the node has open.
func (n *Node) UDPSockets() int {
	proc := fmt.Sprintf("/proc/%d", n.PID())
	open := map[string]bool{}
	list, err := os.ReadDir(proc + "/fd")
	if err != nil {
		return -1
	}
	for _, fd := range list {
		if to, err := os.Readlink(proc + "/fd/" + fd.Name()); err == nil { // socket:[12345]
			open[strings.Trim(strings.TrimPrefix(to, "socket:"), "[]")] = true
		}
	}
	sockets := 0
	for _, name := range []string{"/net/udp", "/net/udp6"} {
		text, err := os.ReadFile(proc + name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > 9 && open[f[9]] { // the tenth is the inode
				sockets++
			}
		}
	}
	return sockets
}

// RSS is the node's resident memory in bytes.
func (n *Node) RSS() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.PID()))
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(b), "\n") {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// CPU is the processor time that the node has used.
func (n *Node) CPU() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.PID()))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// spawner starts processes from one thread that never ends, because Pdeathsig tells of the death of the thread.
var spawner = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go spawning(work)
	return work
})

// spawning is named so that tests which look for goroutines that are left can leave it out.
func spawning(work <-chan func()) {
	runtime.LockOSThread()
	for do := range work {
		do()
	}
}

func spawn(cmd *exec.Cmd) error {
	failed := make(chan error)
	spawner() <- func() { failed <- cmd.Start() }
	return <-failed
}

// Spawn starts a process that is killed if the test process dies.
func Spawn(cmd *exec.Cmd) error { return spawn(cmd) }
