// Package fastpath has the kernel forward plain RTP from one media port to the next phone, by a small program at the machine's network
// interfaces and memory that both share. It knows nothing of streams or calls: of who may be given away, and what a packet means.
package fastpath

import (
	"net/netip"
	"time"
)

// Flow is one direction of RTP: what a packet must be to be forwarded, and how it leaves. IPv4 only.
type Flow struct {
	From, At       netip.AddrPort // whence packets come, and to where
	OutFrom, OutTo netip.AddrPort
	Interface      int // by which they leave
	SSRC, OutSSRC  uint32
	PT, OutPT      uint8
	SeqOff         uint16 // added to each sequence number
	TSOff          uint32 // and to each timestamp
	Frame, Rate    uint32 // ticks between packets, and in a second
}

// State is where a flow stands. Times are on the clock that Open was given.
type State struct {
	At, Due time.Duration     // of the newest packet: when it came, and when its source meant it to
	Sum     int64             // ticks since the source's start; not negative
	Offset  time.Duration     // mean of arrival less Sum
	Transit int64             // arrival less timestamp in ticks, of the newest packet (RFC 3550 A.8)
	Jitter  uint64            // ticks × 16
	Packets uint64            // that the kernel has forwarded since Give
	Octets  uint64            // of payload, in them
	Highest uint32            // extended sequence number of the newest packet
	TS      uint32            // and its timestamp
	Recent  [16]time.Duration // when packets came: that with the number n since Give at n%16
}

// Route is how the machine sends to an address.
type Route struct {
	From      netip.Addr // its own
	Interface int
}
