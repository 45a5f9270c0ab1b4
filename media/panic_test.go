package media

import (
	"net/netip"
	"testing"

	"go.uber.org/goleak"
)

// falling is a socket whose every write panics.
type falling struct{}

func (falling) WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error) { panic("test") }
func (falling) Close() error                                           { return nil }

// TestPanicCostsOneStream has the report and the tone of one stream panic: the other one reports, and
// the node goes on. What a packet that panics costs is tried with the sockets.
func TestPanicCostsOneStream(t *testing.T) {
	defer goleak.VerifyNone(t)
	r := newRoom(t)
	one, other := r.phone("203.0.113.5"), r.phone("198.51.100.7")
	bridge(one, other)
	r.run(r.now+100*ms, one, other)
	one.s.rtp, one.s.rtcp = falling{}, falling{}
	r.e.report(r.now + ahead(1))
	if all, _ := r.reports(other); len(all) == 0 {
		t.Error("the other stream has not reported")
	}
	one.s.Play(ToneWait)
	r.e.readers.Wait() // the tone's goroutine has ended by it
	one.s.rtp, one.s.rtcp = &null{}, &null{}
}
