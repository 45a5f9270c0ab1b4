package doctor

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Socket is one that a port of this machine is taken by: a UDP socket or a TCP listener.
type Socket struct {
	Network string // udp, tcp
	Addr    netip.AddrPort
	UID     int
	PID     int    // 0 = another account's, and not for us to see
	Program string // its name, "" = not known

	inode uint64
}

// Holder names who has the socket, for people.
func (s Socket) Holder() string {
	switch {
	case s.PID == 0:
		return fmt.Sprintf("a process of account %d (as root, doctor says which)", s.UID)
	case s.Program == "":
		return fmt.Sprintf("pid %d", s.PID)
	}
	return fmt.Sprintf("%s (pid %d)", s.Program, s.PID)
}

// maxSockets bounds what is read of each table.
const maxSockets = 200_000

// Sockets lists the taken ports of this network namespace with their holders (proc(5), /proc/net).
func Sockets() ([]Socket, error) {
	var all []Socket
	var errs error
	for _, table := range []string{"udp", "udp6", "tcp", "tcp6"} {
		b, err := os.ReadFile("/proc/net/" + table)
		if errors.Is(err, os.ErrNotExist) && strings.HasSuffix(table, "6") {
			continue // no IPv6 here
		}
		errs = errors.Join(errs, err)
		all = append(all, parseSockets(b, table[:3])...)
	}
	findHolders("/proc", all)
	return all, errs
}

// listening is the state of a TCP listener in /proc/net/tcp.
const listening = "0A"

// parseSockets reads a table of /proc/net.
func parseSockets(table []byte, network string) []Socket {
	var all []Socket
	lines := bufio.NewScanner(bytes.NewReader(table))
	for lines.Scan() && len(all) < maxSockets {
		f := strings.Fields(lines.Text())
		if len(f) < 10 || !strings.HasSuffix(f[0], ":") || network == "tcp" && f[3] != listening {
			continue
		}
		addr, ok := parseAddress(f[1])
		inode, err := strconv.ParseUint(f[9], 10, 64)
		uid, err2 := strconv.Atoi(f[7])
		if ok && err == nil && err2 == nil {
			all = append(all, Socket{Network: network, Addr: addr, UID: uid, inode: inode})
		}
	}
	return all
}

// parseAddress reads 0100007F:13C4: the address in words of 32 bits as the machine has them, the port in hexadecimal.
func parseAddress(s string) (netip.AddrPort, bool) {
	host, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	p, err2 := strconv.ParseUint(port, 16, 16)
	if err != nil || err2 != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.BigEndian.PutUint32(b[i:], binary.NativeEndian.Uint32(b[i:]))
	}
	ip, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(ip.Unmap(), uint16(p)), ok
}

// findHolders looks through the open files of all processes for the sockets.
func findHolders(proc string, sockets []Socket) {
	by := make(map[uint64][]int, len(sockets))
	for i, s := range sockets {
		by[s.inode] = append(by[s.inode], i)
	}
	processes, err := os.ReadDir(proc)
	if err != nil {
		return
	}
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join(proc, p.Name())
		for _, inode := range openSockets(filepath.Join(dir, "fd")) {
			for _, i := range by[inode] {
				sockets[i].PID, sockets[i].Program = pid, program(dir)
			}
		}
	}
}

// openSockets are the inodes of the sockets in a directory of descriptors.
func openSockets(dir string) []uint64 {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil // gone, or another account's
	}
	var all []uint64
	for _, name := range names {
		target, err := os.Readlink(filepath.Join(dir, name.Name()))
		inner, isSocket := strings.CutPrefix(target, "socket:[")
		if err != nil || !isSocket {
			continue
		}
		if inode, err := strconv.ParseUint(strings.TrimSuffix(inner, "]"), 10, 64); err == nil {
			all = append(all, inode)
		}
	}
	return all
}

// program is the name of a process.
func program(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, "comm"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
