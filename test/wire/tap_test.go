package wire

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTapSeesRTPAlone has the tap see each RTP packet once, over both families, and nothing of STUN, DTLS, RTCP and TCP.
func TestTapSeesRTPAlone(t *testing.T) {
	tap, err := Listen()
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs the right to open a packet socket (run as root)")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close()
	since := time.Now().Add(-time.Millisecond)
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		to, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
		if err != nil {
			t.Fatal(err)
		}
		defer to.Close()
		from, err := net.DialUDP("udp", nil, to.LocalAddr().(*net.UDPAddr))
		if err != nil {
			t.Fatal(err)
		}
		defer from.Close()
		mine := func(h Heard) bool { return h.To == to.LocalAddr().(*net.UDPAddr).AddrPort() }
		for i := range 5 {
			b := make([]byte, 172)
			b[0], b[1] = 0x80, 0x80|111
			binary.BigEndian.PutUint16(b[2:], uint16(65534+i))
			binary.BigEndian.PutUint32(b[4:], uint32(160*i))
			binary.BigEndian.PutUint32(b[8:], 77)
			b[1] = []byte{0x80 | 111, 111}[min(i, 1)]
			from.Write(b)
		}
		for _, first := range [][2]byte{{0, 1}, {22, 254}, {0x80, 200}, {0x80, 201}, {0x40, 0}} { // STUN, DTLS, RTCP
			from.Write(append(first[:], make([]byte, 100)...))
		}
		var got []Heard
		for deadline := time.Now().Add(5 * time.Second); len(got) < 5 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			got = tap.Packets(since, mine)
		}
		time.Sleep(50 * time.Millisecond)
		if got = tap.Packets(since, mine); len(got) != 5 {
			t.Fatalf("%s: saw %d packets of 5: %+v", at, len(got), got)
		}
		for i, h := range got {
			if h.Seq != uint16(65534+i) || h.TS != uint32(160*i) || h.SSRC != 77 || h.PT != 111 || h.Marker != (i == 0) ||
				h.From != from.LocalAddr().(*net.UDPAddr).AddrPort() || time.Since(h.At).Abs() > 10*time.Second {
				t.Errorf("%s: packet %d is seen as %+v", at, i, h)
			}
		}
	}
}
