package doctor

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The free space below which the store is in danger: state.db grows to some 100 MB with a full log.
const (
	littleSpace = 500 << 20
	noSpace     = 50 << 20
)

// Store is what was found of the store when it was opened to read.
type Store struct {
	Running bool // a node has it open
	Shared  bool // it is in Redis, not in the data directory
	Err     error
	Users   int
	Devices int
}

// Data looks at the data directory and the store in it.
func Data(dir string, s Store) []Finding {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		parent := existing(dir)
		if err := unix.Access(parent, unix.W_OK|unix.X_OK); err != nil {
			return []Finding{found(Error, "store", dir, fmt.Sprintf("is not there, and cannot be made in %s: %v", parent, err), owned(dir)...)}
		}
		return []Finding{good("store", dir, "not there yet: the first start makes it"), space(parent)}
	}
	if !Open(dir) {
		return []Finding{foreign(dir)}
	}
	return []Finding{writable(dir), contents(dir, s), space(dir)}
}

// Open says whether this account can look into the data directory, or there is none.
func Open(dir string) bool { return !errors.Is(unix.Access(dir, unix.R_OK|unix.X_OK), unix.EACCES) }

// foreign is a data directory of another account.
func foreign(dir string) Finding {
	owner := "another account"
	if info, err := os.Stat(dir); err == nil {
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			owner = account(s.Uid)
		}
	}
	return found(Error, "store", dir, "belongs to "+owner+": this account cannot look inside, and runs no node on it",
		"sudo baton doctor --data "+Quote(dir)+"   # root sees all",
		fmt.Sprintf("or give it to this account: sudo chown -R %d:%d %s", os.Geteuid(), os.Getegid(), Quote(dir)))
}

// account is the name of a user of this machine.
func account(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "account " + id
}

// existing is the nearest directory above that is there.
func existing(dir string) string {
	for range 100 {
		if _, err := os.Stat(dir); err == nil || dir == "/" || dir == "." {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

// owned makes a directory that this account can use.
func owned(dir string) []string {
	return []string{
		fmt.Sprintf("sudo install -d -m 0700 -o %d -g %d %s", os.Geteuid(), os.Getegid(), Quote(dir)),
		"or use another one: BATON_DATA=DIR baton serve",
	}
}

func writable(dir string) Finding {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		text := fmt.Sprintf("this account cannot write here: %v", err)
		if errors.Is(err, unix.EROFS) {
			return found(Error, "store", dir, text, "mount it writable: sudo mount -o remount,rw "+Quote(dir), "or use another one: BATON_DATA=DIR baton serve")
		}
		return found(Error, "store", dir, text, fmt.Sprintf("sudo chown -R %d:%d %s && sudo chmod 0700 %s", os.Geteuid(), os.Getegid(), Quote(dir), Quote(dir)),
			"or use another one: BATON_DATA=DIR baton serve")
	}
	return good("store", dir, "writable")
}

// contents says what the store holds, or why it cannot be read.
func contents(dir string, s Store) Finding {
	users := filepath.Join(dir, "users.db")
	switch {
	case s.Shared:
		return good("store", dir, "holds certificate and control socket; users, devices and calls are in Redis")
	case s.Running:
		return good("store", dir, "in use by the running node, which answers")
	case errors.Is(s.Err, os.ErrNotExist):
		return good("store", users, "not there yet: the first start makes it")
	case errors.Is(s.Err, os.ErrPermission):
		return found(Error, "store", dir, oneLine(s.Err), readable(s.Err, nil)...)
	case s.Err != nil && strings.Contains(s.Err.Error(), "state.db"):
		return found(Warning, "store", filepath.Join(dir, "state.db"), oneLine(s.Err)+": the next start puts it aside and begins anew; phones register again, the log is lost",
			"baton serve   # that start is the cure", "or put a copy of it back while no node runs")
	case s.Err != nil:
		return found(Error, "store", users, oneLine(s.Err)+": no node starts on it",
			"put a copy of users.db back while no node runs",
			"or begin without users: mv "+Quote(users)+" "+Quote(users+".broken"))
	}
	return good("store", dir, "sound: %d users, %d devices", s.Users, s.Devices)
}

func space(dir string) Finding {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return found(Note, "store", dir, "free space is not known: "+err.Error())
	}
	free := fs.Bavail * uint64(fs.Bsize)
	text := fmt.Sprintf("%d MB free on its disk", free>>20)
	cure := []string{"df -h " + Quote(dir), "du -xh " + Quote(dir) + " | sort -h | tail"}
	switch {
	case free < noSpace:
		return found(Error, "store", dir, text+": users and calls will not be kept", cure...)
	case free < littleSpace:
		return found(Warning, "store", dir, text, cure...)
	}
	return good("store", dir, "%s", text)
}

// oneLine is an error on one line.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
