package load

import (
	"bufio"
	"bytes"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
)

// Shares of the memory that there is: at the first Go collects garbage more often, at the second a node is busy.
const (
	collectAt = 0.7
	busyAt    = 0.85
)

// Memory is how much of the memory that the process may have makes it busy, in bytes, 0 = not known. What it may have is
// set, 0 = GOMEMLIMIT, the limit of its cgroup or the machine's memory, whichever is least. Go's runtime is told of it.
func Memory(set uint64) uint64 {
	soft := debug.SetMemoryLimit(-1)
	all := set
	if all == 0 {
		all = there(os.DirFS("/"))
		if soft != math.MaxInt64 && (all == 0 || uint64(soft) < all) {
			all = uint64(soft)
		}
	}
	if all > 0 && soft == math.MaxInt64 {
		debug.SetMemoryLimit(int64(collectAt * float64(all)))
	}
	return uint64(busyAt * float64(all))
}

// there is the limit of the cgroup, version 1 or 2, or the machine's memory, 0 where neither is told.
func there(root fs.FS) uint64 {
	least := machine(root)
	groups, _ := fs.ReadFile(root, "proc/self/cgroup")
	for line := range strings.Lines(string(groups)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		switch {
		case f[0] == "0" && f[1] == "":
			least = lesser(least, limitOf(root, "sys/fs/cgroup", f[2], "memory.max"))
		case slices.Contains(strings.Split(f[1], ","), "memory"):
			least = lesser(least, limitOf(root, "sys/fs/cgroup/memory", f[2], "memory.limit_in_bytes"))
		}
	}
	return least
}

// limitOf is the least limit of a group and of those that it is in. A container may see its own group as the root.
func limitOf(root fs.FS, mount, group, file string) (least uint64) {
	for {
		text, err := fs.ReadFile(root, path.Join(mount, group, file))
		if err == nil {
			n, _ := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 64) // "max" is none
			least = lesser(least, n)
		}
		if group == "/" || group == "." || group == "" {
			return least
		}
		group = path.Dir(group)
	}
}

// machine is MemTotal of proc(5).
func machine(root fs.FS) uint64 {
	text, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0
	}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		if f := strings.Fields(s.Text()); len(f) == 3 && f[0] == "MemTotal:" {
			kb, _ := strconv.ParseUint(f[1], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// lesser of two limits, 0 being none.
func lesser(a, b uint64) uint64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
