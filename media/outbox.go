package media

import "net/netip"

// outbox is where one who reads many packets at once puts what he sends on account of them; it goes out together a moment later. Only he adds to
// it. Who else has something to send meanwhile sends it straight, or puts it behind what it must not overtake.
type outbox interface {
	// add takes a copy of a packet, and says in which round; false: it cannot, and the packet is to be sent straight. What the kernel
	// refuses afterwards is counted as unsent.
	add(by conn, b []byte, to netip.AddrPort, unsent *counter) (round uint64, ok bool)

	// behind takes a copy of a packet that follows one of a round, from any goroutine; false: that round has been sent.
	behind(round uint64, by conn, b []byte, to netip.AddrPort, unsent *counter) bool

	// flush sends what was added.
	flush()
}

// order keeps what one line sends in order, whoever sends it: guarded by the line's mutex.
type order struct {
	out    outbox // of the reader whose packet is on its way; nil = what is sent goes straight
	last   outbox // where the newest packet lies, or lay
	round  uint64
	behind bool // it is behind those that were added
}

// send sends a packet, straight or by the outbox, and never before one that was sent earlier.
func (o *order) send(by conn, b []byte, to netip.AddrPort, unsent *counter) {
	if o.last != nil && (o.last != o.out || o.behind) {
		if o.last.behind(o.round, by, b, to, unsent) {
			o.behind = true
			return
		}
		o.last, o.behind = nil, false
	}
	if o.out != nil {
		if round, ok := o.out.add(by, b, to, unsent); ok {
			o.last, o.round = o.out, round
			return
		}
		if o.last != nil {
			o.out.flush()
		}
	}
	if _, err := by.WriteToUDPAddrPort(b, to); err != nil {
		unsent.share()
	}
}
