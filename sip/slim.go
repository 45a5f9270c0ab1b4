package sip

import (
	"bytes"
	"strings"
)

// A datagram beyond the path's MTU is cut into fragments, and many firewalls and NATs let only the first of them pass. What
// goes over UDP is therefore kept within what passes everywhere (RFC 3261 §18.1.1), by leaving out what the peer can do
// without, then by the short names of headers (§7.3.3). What is too long even so goes out all the same: it may pass.

// maxDatagram is the longest message, in bytes, that goes over UDP as it was built.
const maxDatagram = 1300

// expendable lists the headers that are left out of a message that is too long, the least missed first, and how many of
// each stay: the first Diversion is who has forwarded the call last.
var expendable = []struct {
	name string
	keep int
}{
	{"User-Agent", 0},
	{"Server", 0},
	{"Accept", 0},
	{"History-Info", 0},
	{"Allow", 0},
	{"Diversion", 1},
	{"P-Asserted-Identity", 0}, // From says the same in a request
}

// shortNames are those of the headers that the agent or its callers write.
var shortNames = map[string]string{
	"Via": "v", "From": "f", "To": "t", "Call-ID": "i", "Contact": "m", "Content-Type": "c", "Content-Length": "l",
	"Supported": "k", "Event": "o", "Allow-Events": "u", "Refer-To": "r", "Referred-By": "b", "Session-Expires": "x",
	"Subject": "s",
}

// fit makes a message that was just built as short as its transport wants it.
func (f Flow) fit(msg []byte) []byte {
	if f.reliable() || len(msg) <= maxDatagram {
		return msg
	}
	return slim(msg, maxDatagram)
}

// slim leaves out headers, then shortens names, until the message has no more than limit bytes. It knows only messages as
// the writer makes them: one line per header.
func slim(msg []byte, limit int) []byte {
	head, body, _ := bytes.Cut(msg, []byte("\r\n\r\n"))
	lines := strings.Split(string(head), "\r\n")
	over := len(msg) - limit
	for _, e := range expendable {
		lines, over = leaveOut(lines, e.name, e.keep, over)
	}
	if over > 0 {
		shorten(lines)
	}
	return append([]byte(strings.Join(lines, "\r\n")+"\r\n\r\n"), body...)
}

// leaveOut takes lines of one header away, from the last up to the one that keeps its place, as long as over bytes are too
// many.
func leaveOut(lines []string, name string, keep, over int) ([]string, int) {
	var at []int
	for i, line := range lines {
		if i > 0 && strings.HasPrefix(line, name+": ") {
			at = append(at, i)
		}
	}
	for len(at) > keep && over > 0 {
		last := at[len(at)-1]
		over -= len(lines[last]) + len("\r\n")
		lines, at = append(lines[:last], lines[last+1:]...), at[:len(at)-1]
	}
	return lines, over
}

func shorten(lines []string) {
	for i, line := range lines {
		name, value, ok := strings.Cut(line, ": ")
		if short := shortNames[name]; i > 0 && ok && short != "" {
			lines[i] = short + ": " + value
		}
	}
}

// TooLong says that a request would go over UDP and is longer than what passes there for certain: over a connection to
// the same device, where there is one, it needs nothing left out.
func (a *Agent) TooLong(out Outgoing) bool {
	if out.Dialog.Flow.reliable() {
		return false
	}
	d, err := a.draft(out)
	return err == nil && len(a.whole(d)) > maxDatagram
}
