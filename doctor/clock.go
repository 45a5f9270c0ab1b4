package doctor

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// What a clock may be off before it is worth a warning.
const (
	stepAllowed  = 5.0             // seconds since the node started
	aheadAllowed = 2 * time.Minute // of a file over the clock
)

// The years that a right clock can show.
const (
	firstYear = 2026
	lastYear  = 2100
)

var synchronise = []string{"timedatectl   # shows the clock", "sudo timedatectl set-ntp true"}

// Clock looks at now: whether it can be, whether files were written after it, by how many seconds it was set since the
// node started, and whether something keeps it right.
func Clock(now time.Time, dir string, step float64) []Finding {
	var all []Finding
	if now.Year() < firstYear || now.Year() > lastYear {
		all = append(all, found(Error, "clock", "", "shows "+now.Format(time.RFC1123)+": certificates and registrations go by it", synchronise...))
	}
	if name, at := newest(dir); at.Sub(now) > aheadAllowed {
		all = append(all, found(Warning, "clock", name, fmt.Sprintf("was written at %s, %s after now: the clock was ahead then, or is behind now",
			at.Format(time.DateTime), at.Sub(now).Round(time.Second)), synchronise...))
	}
	if math.Abs(step) > stepAllowed {
		all = append(all, found(Warning, "clock", "", fmt.Sprintf("was set by %+.0f s since the node started: times and durations in the log are wrong by that",
			step), append(synchronise, "then restart the node")...))
	}
	if len(all) == 0 {
		all = append(all, good("clock", "", "%s", now.Format("2006-01-02 15:04:05 MST")))
	}
	return append(all, synchronised())
}

// newest is the file in dir that was written last.
func newest(dir string) (string, time.Time) {
	var name string
	var at time.Time
	files, err := os.ReadDir(dir)
	if err != nil {
		return "", at
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil && info.ModTime().After(at) {
			name, at = filepath.Join(dir, f.Name()), info.ModTime()
		}
	}
	return name, at
}

// synchronised asks the kernel whether something keeps the clock right (adjtimex(2), STA_UNSYNC).
func synchronised() Finding {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	switch {
	case err != nil:
		return found(Note, "clock", "", "whether it is synchronised is not known: "+err.Error())
	case state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0:
		return found(Note, "clock", "", "nothing synchronises it (NTP): it will drift", "sudo timedatectl set-ntp true", "or install chrony or systemd-timesyncd")
	}
	return good("clock", "", "synchronised")
}
