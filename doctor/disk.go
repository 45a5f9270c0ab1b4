package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

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
	all := []Finding{writable(dir), contents(dir, s), space(dir)}
	return all
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
		fmt.Sprintf("sudo install -d -m 0700 -o %d -g %d %s", os.Geteuid(), os.Getegid(), dir),
		"or use another one: BATON_DATA=DIR baton serve",
	}
}

func writable(dir string) Finding {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		text := fmt.Sprintf("this account cannot write here: %v", err)
		if errors.Is(err, unix.EROFS) {
			return found(Error, "store", dir, text, "mount it writable: sudo mount -o remount,rw "+dir, "or use another one: BATON_DATA=DIR baton serve")
		}
		return found(Error, "store", dir, text, fmt.Sprintf("sudo chown -R %d:%d %s && sudo chmod 0700 %s", os.Geteuid(), os.Getegid(), dir, dir),
			"or use another one: BATON_DATA=DIR baton serve")
	}
	return good("store", dir, "writable")
}

// contents says what the store holds, or why it cannot be read.
func contents(dir string, s Store) Finding {
	users := filepath.Join(dir, "users.db")
	switch {
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
			"or begin without users: mv "+users+" "+users+".broken")
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
	cure := []string{"df -h " + dir, "du -xh " + dir + " | sort -h | tail"}
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
