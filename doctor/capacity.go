package doctor

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"baton/config"
)

// What a call needs: two legs, each with a socket for RTP and one for RTCP; and what a node has open beside.
const (
	descriptorsPerCall = 4
	descriptorsBeside  = 50
	pairsPerCall       = 2
	fewCalls           = 10
)

// Calls is for how many calls at a time a port range has room.
func Calls(r config.PortRange) int {
	first, last := int(r.First)+int(r.First)&1, int(r.Last)
	return max(0, (last-first+1)/2) / pairsPerCall
}

// Files compares the limit of open files, of the running node pid or of this process, with the calls that the audio
// ports have room for.
func Files(pid int, r config.PortRange) Finding {
	limit, err := fileLimit(pid)
	if err != nil {
		return found(Note, "files", "", "the limit is not known: "+err.Error(), "run doctor as root or as the node's account")
	}
	return files(limit, pid, r)
}

func files(limit uint64, pid int, r config.PortRange) Finding {
	enough := int64(Calls(r))
	want := enough*descriptorsPerCall + descriptorsBeside
	calls := max(0, int64(min(limit, 1<<40))-descriptorsBeside) / descriptorsPerCall
	where := fmt.Sprintf("limit %d", limit)
	if calls >= enough {
		return good("files", where, "enough open files for all %d calls that the audio ports have room for", enough)
	}
	text := fmt.Sprintf("open files for %d calls at a time, audio ports for %d (%d files a call)", calls, enough, descriptorsPerCall)
	cure := []string{
		fmt.Sprintf("ulimit -n %d   # in the shell, before baton serve", want),
		fmt.Sprintf("LimitNOFILE=%d   # with systemd: under [Service] of the unit", want),
	}
	if pid > 0 {
		cure = append([]string{fmt.Sprintf("sudo prlimit --pid %d --nofile=%d:%d   # at once", pid, want, want)}, cure...)
	}
	switch {
	case calls < fewCalls:
		return found(Error, "files", where, text, cure...)
	case calls < 100:
		return found(Warning, "files", where, text, cure...)
	}
	return found(Note, "files", where, text, cure...)
}

// fileLimit is the soft limit of a process, 0 = this one. Go has raised this one's to the hard limit at its start, as it
// does a node's.
func fileLimit(pid int) (uint64, error) {
	if pid == 0 {
		var l unix.Rlimit
		err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
		return l.Cur, err
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/limits")
	if err != nil {
		return 0, err
	}
	return parseLimit(string(b))
}

// parseLimit reads the soft limit of open files in /proc/PID/limits.
func parseLimit(limits string) (uint64, error) {
	for line := range strings.Lines(limits) {
		rest, ok := strings.CutPrefix(line, "Max open files")
		if !ok {
			continue
		}
		f := strings.Fields(rest)
		if len(f) > 0 && f[0] == "unlimited" {
			return 1 << 40, nil
		}
		if len(f) > 0 {
			return strconv.ParseUint(f[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("no limit of open files is told")
}

// Kernel is what the kernel takes ports of its own choice from.
type Kernel struct {
	Ephemeral config.PortRange // net.ipv4.ip_local_port_range, zero = not known
	Reserved  string           // net.ipv4.ip_local_reserved_ports
}

// ReadKernel reads it from /proc/sys.
func ReadKernel() Kernel {
	var k Kernel
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(b), &k.Ephemeral.First, &k.Ephemeral.Last)
	}
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_reserved_ports"); err == nil {
		k.Reserved = strings.TrimSpace(string(b))
	}
	return k
}

// AudioPorts looks at the range for audio: its size, who else is in it, and who might come.
func AudioPorts(c config.Config, sockets []Socket, k Kernel, pid int) []Finding {
	r := c.Media.Ports
	where := "media.ports " + r.String()
	var all []Finding
	if n := Calls(r); n < fewCalls {
		all = append(all, found(Warning, "audio ports", where, fmt.Sprintf("too small: room for %d calls at a time (a call takes 4 ports, which rest 10 s after use)", n),
			"take 400 ports or more: "+config.Variable("media.ports")+"=20000-29999"))
	} else {
		all = append(all, good("audio ports", where, "room for %d calls at a time", n))
	}
	all = append(all, squatters(where, r, sockets, pid)...)
	all = append(all, overlaps(where, c, k)...)
	return all
}

// squatters are other programs with a port of the range.
func squatters(where string, r config.PortRange, sockets []Socket, pid int) []Finding {
	var who []string
	n := 0
	for _, s := range sockets {
		if s.Network != "udp" || s.Addr.Port() < r.First || s.Addr.Port() > r.Last || s.PID == pid && pid != 0 {
			continue
		}
		if n++; len(who) < 3 {
			who = append(who, fmt.Sprintf("%d by %s", s.Addr.Port(), s.Holder()))
		}
	}
	if n == 0 {
		return nil
	}
	text := "ports of the range are taken: " + strings.Join(who, ", ")
	if n > len(who) {
		text += fmt.Sprintf(" and %d more", n-len(who))
	}
	return []Finding{found(Warning, "audio ports", where, text+"; calls pass over them, so there is room for fewer",
		"take a range that nobody else uses: "+config.Variable("media.ports")+"="+beside(r), "or stop the other program")}
}

// beside is a range of the same size somewhere else.
func beside(r config.PortRange) string {
	size := int(r.Last) - int(r.First)
	for _, first := range []int{10000, 20000, 40000, 50000, 2000} {
		if last := first + size; last <= 65535 && (last < int(r.First) || first > int(r.Last)) {
			return fmt.Sprintf("%d-%d", first, last)
		}
	}
	return "20000-29999"
}

// overlaps are the kernel's own choice of ports, and the SIP listeners, in the range.
func overlaps(where string, c config.Config, k Kernel) []Finding {
	r := c.Media.Ports
	var all []Finding
	if e := k.Ephemeral; e.Last > 0 && e.First <= r.Last && r.First <= e.Last && !reserves(k.Reserved, max(e.First, r.First), min(e.Last, r.Last)) {
		all = append(all, found(Note, "audio ports", where, fmt.Sprintf("the kernel gives ports %s to other programs as they come (net.ipv4.ip_local_port_range)", e),
			fmt.Sprintf("sudo sysctl -w net.ipv4.ip_local_reserved_ports=%s", strings.Trim(k.Reserved+","+r.String(), ",")),
			"or take a range outside: "+config.Variable("media.ports")+"=20000-29999"))
	}
	for _, l := range Listeners(c.Listen) {
		if l.Transport == "udp" && l.Port >= r.First && l.Port <= r.Last {
			all = append(all, found(Warning, "audio ports", where, fmt.Sprintf("the SIP port %d is inside", l.Port),
				"take a range without it: "+config.Variable("media.ports")+"="+beside(r)))
		}
	}
	return all
}

// reserves says whether a list as in 8080,20000-29999 covers all of first-last.
func reserves(list string, first, last uint16) bool {
	for item := range strings.SplitSeq(list, ",") {
		low, high, isRange := strings.Cut(strings.TrimSpace(item), "-")
		if !isRange {
			high = low
		}
		a, err1 := strconv.ParseUint(low, 10, 16)
		b, err2 := strconv.ParseUint(high, 10, 16)
		if err1 == nil && err2 == nil && uint16(a) <= first && last <= uint16(b) {
			return true
		}
	}
	return false
}
