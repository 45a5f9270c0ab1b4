package fastpath

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"
)

// Slot is the place of one port's flow in the memory that is shared with the kernel. It has one owner at a time:
//
//	user ──Give──▶ kernel ◀──▶ busy (while it looks at a packet)
//	  ▲              │           │
//	  └────Take──────┴── stopped ◀ a packet that is not the flow's plain next one, which user space gets with all that follow it
//
// forward.c has the same struct; Open compares their sizes.
type Slot struct {
	state uint32 // atomic
	gen   uint32 // atomic, counts what the kernel writes

	fromIP, atIP, outFromIP, outToIP [4]byte
	fromPort, outFromPort, outToPort [2]byte
	seqOff                           uint16
	ifindex                          uint32
	ssrc, outSSRC                    [4]byte
	tsOff, frame, rate               uint32
	pt, outPT                        uint8
	_                                [6]byte
	at, due, sum, offset, transit    int64 // from here on atomic
	jitter, packets, octets          uint64
	highest, ts                      uint32
	recent                           [16]int64
}

const (
	user = iota
	kernel
	busy
	stopped
)

// Give leaves the flow to the kernel; the slot must be the user's. The first packet must be the one after s, of those that follow up to
// seven may be missing.
func (t *Slot) Give(f Flow, s State) {
	t.fromIP, t.atIP, t.outFromIP, t.outToIP = f.From.Addr().As4(), f.At.Addr().As4(), f.OutFrom.Addr().As4(), f.OutTo.Addr().As4()
	t.fromPort, t.outFromPort, t.outToPort = port(f.From), port(f.OutFrom), port(f.OutTo)
	t.ifindex, t.seqOff, t.tsOff, t.frame, t.rate = uint32(f.Interface), f.SeqOff, f.TSOff, f.Frame, f.Rate
	binary.BigEndian.PutUint32(t.ssrc[:], f.SSRC)
	binary.BigEndian.PutUint32(t.outSSRC[:], f.OutSSRC)
	t.pt, t.outPT = f.PT, f.OutPT
	t.at, t.due, t.sum, t.offset, t.transit = int64(s.At), int64(s.Due), s.Sum, int64(s.Offset), s.Transit
	t.jitter, t.packets, t.octets, t.highest, t.ts = s.Jitter, 0, 0, s.Highest, s.TS
	t.recent = [16]int64{}
	atomic.StoreUint32(&t.state, kernel)
}

func port(at netip.AddrPort) (b [2]byte) {
	binary.BigEndian.PutUint16(b[:], at.Port())
	return b
}

// Take takes the flow back from the kernel, which forwards no packet of it any more, and says where it stands.
func (t *Slot) Take() State {
	for {
		switch atomic.LoadUint32(&t.state) {
		case kernel:
			if atomic.CompareAndSwapUint32(&t.state, kernel, user) {
				return t.read()
			}
		case busy: // for less than a microsecond
			runtime.Gosched()
		default:
			atomic.StoreUint32(&t.state, user)
			return t.read()
		}
	}
}

// Peek says where a flow stands, and leaves it to the kernel. False: the kernel wrote each time that it was looked.
func (t *Slot) Peek() (State, bool) {
	for range 100 {
		gen := atomic.LoadUint32(&t.gen)
		if atomic.LoadUint32(&t.state) == busy {
			runtime.Gosched()
			continue
		}
		s := t.read()
		if atomic.LoadUint32(&t.state) != busy && atomic.LoadUint32(&t.gen) == gen {
			return s, true
		}
	}
	return State{}, false
}

// Stopped says whether the kernel has come upon a packet that it left to user space.
func (t *Slot) Stopped() bool { return atomic.LoadUint32(&t.state) == stopped }

func (t *Slot) read() State {
	s := State{
		At: time.Duration(atomic.LoadInt64(&t.at)), Due: time.Duration(atomic.LoadInt64(&t.due)), Sum: atomic.LoadInt64(&t.sum),
		Offset: time.Duration(atomic.LoadInt64(&t.offset)), Transit: atomic.LoadInt64(&t.transit),
		Jitter: atomic.LoadUint64(&t.jitter), Packets: atomic.LoadUint64(&t.packets), Octets: atomic.LoadUint64(&t.octets),
		Highest: atomic.LoadUint32(&t.highest), TS: atomic.LoadUint32(&t.ts),
	}
	for i := range t.recent {
		s.Recent[i] = time.Duration(atomic.LoadInt64(&t.recent[i]))
	}
	return s
}
