package media

import (
	"bytes"
	"time"
)

// kept are the packets of the present source that come while a slot is held for the one that is waited for (splice.go). When that one comes
// they are not needed. When its packet was lost on the way, they go out late and whole; without them a switch over a bad network would cost a
// frame now and then. They are copied, and that is the only allocation, at most maxKept times for each try.
type kept struct {
	packet packet
	out    *outgoing
}

const maxKept = 6 // two holds of 20 ms packets

// putBy keeps a packet of the present source back; false if there are too many.
func (l *line) putBy(p *packet, o *outgoing) bool {
	if len(l.kept) == maxKept || l.in.broken {
		return false
	}
	k := kept{*p, o}
	k.packet.out = nil
	k.packet.buf = bytes.Clone(p.buf[p.body-12 : p.end])
	k.packet.body, k.packet.end = 12, len(k.packet.buf)
	l.kept = append(l.kept, k)
	return true
}

// catchUp sends what was kept back for nothing.
func (l *line) catchUp(now time.Duration) {
	if l.in.broken {
		l.giveUp()
	}
	late := l.kept
	l.kept = nil
	for i := range late {
		late[i].packet.now = now
		l.pass(&late[i].packet, late[i].out)
	}
}

// giveUp drops what was kept back: its slots are another source's.
func (l *line) giveUp() {
	l.slot.add(uint64(len(l.kept)))
	l.kept = nil
}
