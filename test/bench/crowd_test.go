package bench

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"baton/test/e2e/node"
)

// inFlight is how many exchanges of a saturating load are under way at any time, from crowdSockets sockets.
const (
	inFlight     = 64
	crowdSockets = 2
)

// crowd is a saturating load of registrations from one socket: it sends a round of them at once, and the next when all of
// the round are answered. Messages are written and read without a parser, so that the load takes less of the machine than
// the server that it loads.
type crowd struct {
	server netip.AddrPort
	conn   *net.UDPConn
	at     netip.AddrPort
	round  int
	slots  []crowdSlot
	out    []byte
	in     []byte
}

// crowdSlot is one registration that is under way.
type crowdSlot struct {
	user   string
	device int
	asked  string // WWW-Authenticate of its challenge, "" = not challenged yet
	left   bool   // its answer has not come yet
}

func newCrowd(t *testing.T, host netip.Addr, server netip.AddrPort) *crowd {
	t.Helper()
	conn, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, 0)), net.UDPAddrFromAddrPort(server))
	must(t, err)
	conn.SetReadBuffer(4 << 20)
	t.Cleanup(func() { conn.Close() })
	return &crowd{server: server, conn: conn, at: conn.LocalAddr().(*net.UDPAddr).AddrPort(), in: make([]byte, 4096)}
}

// send sends the REGISTER of a slot, with credentials once it has been challenged. It says what agent.register does.
func (s *crowd) send(i int) {
	slot := &s.slots[i]
	uri, seq := "sip:"+s.server.String(), 1
	if slot.asked != "" {
		seq = 2
	}
	s.out = fmt.Appendf(s.out[:0], "REGISTER %[1]s SIP/2.0\r\nVia: SIP/2.0/UDP %[2]s;branch=z9hG4bK%032[3]d-%[4]d;rport\r\n"+
		"Max-Forwards: 70\r\nFrom: <sip:%[5]s@%[6]s>;tag=%08[3]d\r\nTo: <sip:%[5]s@%[6]s>\r\nCall-ID: %[7]d-%[3]d@%[2]s\r\n"+
		"CSeq: %[4]d REGISTER\r\nContact: <sip:%[5]s@%[2]s;d=%[8]d>;expires=3600;"+
		"+sip.instance=\"<urn:uuid:00000000-0000-4000-8000-%012[8]d>\"\r\nExpires: 3600\r\nUser-Agent: bench/1.0\r\n",
		uri, s.at, s.round*inFlight+i, seq, slot.user, s.server, i, slot.device)
	if slot.asked != "" {
		s.out = fmt.Appendf(s.out, "Authorization: %s\r\n", credentials(slot.asked, slot.user, "REGISTER", uri))
	}
	s.out = append(s.out, "Content-Length: 0\r\n\r\n"...)
	s.conn.Write(s.out)
}

// run registers each of these once more, a round at a time, and gives how many failed.
func (s *crowd) run(all []crowdSlot, size int) (failed int) {
	for len(all) > 0 {
		n := min(size, len(all))
		s.slots, all = all[:n], all[n:]
		for range 2 { // without credentials, and with them
			failed += s.exchange()
		}
		s.round++
	}
	return failed
}

// exchange sends the slots' requests and waits for all answers; what has none within patience has failed.
func (s *crowd) exchange() (failed int) {
	left := 0
	for i := range s.slots {
		s.slots[i].left = true
		left++
		s.send(i)
	}
	s.conn.SetReadDeadline(time.Now().Add(patience))
	for left > 0 {
		n, err := s.conn.Read(s.in)
		if err != nil {
			note("%d of %d REGISTERs were not answered", left, len(s.slots))
			return left
		}
		slot := s.slotOf(s.in[:n])
		if slot == nil || !slot.left {
			continue
		}
		slot.left = false
		left--
		switch code := string(s.in[8:min(11, n)]); {
		case code == "401" && slot.asked == "":
			slot.asked = headerOf(s.in[:n], "WWW-Authenticate")
		case code != "200":
			if failed++; failed <= 3 {
				note("a REGISTER of %s was answered %q", slot.user, s.in[8:min(40, n)])
			}
		}
	}
	return failed
}

// slotOf finds whom an answer is for: its Call-ID begins with the number of the slot, a hyphen, and a number of the round's.
func (s *crowd) slotOf(answer []byte) *crowdSlot {
	slot, rest, _ := strings.Cut(headerOf(answer, "Call-ID"), "-")
	serial, _, _ := strings.Cut(rest, "@")
	i, err := strconv.Atoi(slot)
	if n, wrong := strconv.Atoi(serial); err != nil || wrong != nil || i >= len(s.slots) || n != s.round*inFlight+i {
		return nil
	}
	return &s.slots[i]
}

func headerOf(message []byte, name string) string {
	_, rest, _ := bytes.Cut(message, []byte("\r\n"+name+": "))
	value, _, _ := bytes.Cut(rest, []byte("\r\n"))
	return string(value)
}

// saturated registers so many devices of each user, turns times, with inFlight registrations under way at any time, and gives how
// many failed.
func saturated(t *testing.T, at netip.AddrPort, users, devices, turns int) int {
	t.Helper()
	parts := make([][]crowdSlot, crowdSockets)
	for i := range users * devices * turns {
		p := &parts[i%users%crowdSockets]
		*p = append(*p, crowdSlot{user: userName(i % users), device: i / users % devices})
	}
	var wg sync.WaitGroup
	var failed atomic.Int64
	for i, part := range parts {
		s := newCrowd(t, node.IP(2+i), at)
		wg.Go(func() { failed.Add(int64(s.run(part, inFlight/crowdSockets))) })
	}
	wg.Wait()
	return int(failed.Load())
}
