package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

var home = netip.MustParseAddr("127.0.0.1")

// ends are a phone's and a node's sockets with a path between them.
type ends struct {
	t           *testing.T
	path        *Path
	phone, node *net.UDPConn // SIP
}

func newEnds(t *testing.T, up, down Ways) *ends {
	e := &ends{t: t, phone: listen(t), node: listen(t)}
	path, err := New(Config{Phone: home, UDP: at(e.node), TCP: at(e.node), Up: up, Down: down, Seed: 7})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(path.Close)
	e.path = path
	return e
}

func listen(t *testing.T) *net.UDPConn {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(home, 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// listenEven takes a port that RTP may have.
func listenEven(t *testing.T) *net.UDPConn {
	for range 50 {
		if c := listen(t); at(c).Port()%2 == 0 {
			return c
		}
	}
	t.Fatal("no even port")
	return nil
}

func at(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

func (e *ends) read(c *net.UDPConn, limit time.Duration) ([]byte, netip.AddrPort, bool) {
	_ = c.SetReadDeadline(time.Now().Add(limit))
	buf := make([]byte, 65536)
	n, from, err := c.ReadFromUDPAddrPort(buf)
	return buf[:n], from, err == nil
}

func message(first string, audio netip.AddrPort, contact netip.AddrPort) []byte {
	body := fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 %s\r\ns=-\r\nc=IN IP4 %s\r\nt=0 0\r\nm=audio %d RTP/AVP 0\r\n", audio.Addr(), audio.Addr(), audio.Port())
	return fmt.Appendf(nil, "%s\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK1;rport\r\nContact: <sip:x@%s>\r\nl: %d\r\n\r\n%s", first, contact, contact, len(body), body)
}

// TestNeitherKnowsOfIt sends an offer, an answer and sound both ways: each side must see addresses of the path alone, and
// get its own back.
func TestNeitherKnowsOfIt(t *testing.T) {
	e := newEnds(t, Ways{}, Ways{})
	ours, theirs := listenEven(t), listenEven(t)
	_, _ = e.phone.WriteToUDPAddrPort(message("INVITE sip:b@x SIP/2.0", at(ours), at(e.phone)), e.path.Server())
	got, image, ok := e.read(e.node, 5*time.Second)
	if !ok || bytes.Contains(got, []byte(at(e.phone).String())) || !bytes.Contains(got, []byte("<sip:x@"+image.String()+">")) {
		t.Fatalf("the node got %q from %s", got, image)
	}
	toPhone := audioOf(t, got)
	_, _ = e.node.WriteToUDPAddrPort(message("SIP/2.0 200 OK", at(theirs), at(e.node)), image)
	got, from, ok := e.read(e.phone, 5*time.Second)
	if !ok || from != e.path.Server() || bytes.Contains(got, []byte("<sip:x@"+at(e.node).String()+">")) {
		t.Fatalf("the phone got %q from %s", got, from)
	}
	toNode := audioOf(t, got)
	_, _ = ours.WriteToUDPAddrPort(sound(1), toNode)
	if got, from, ok := e.read(theirs, 5*time.Second); !ok || from != toPhone || !bytes.Equal(got, sound(1)) {
		t.Errorf("the node heard %x from %s, want it from %s", got, from, toPhone)
	}
	_, _ = theirs.WriteToUDPAddrPort(sound(2), toPhone)
	if got, from, ok := e.read(ours, 5*time.Second); !ok || from != toNode || !bytes.Equal(got, sound(2)) {
		t.Errorf("the phone heard %x from %s, want it from %s", got, from, toNode)
	}
	e.path.Forget()
	if n := e.path.Sockets(); n != 2 {
		t.Errorf("%d ports are open after the call, want those of SIP", n)
	}
	_, _ = theirs.WriteToUDPAddrPort(sound(3), toPhone)
	if got, _, ok := e.read(ours, 100*time.Millisecond); ok {
		t.Errorf("the phone heard %x through a port that is forgotten", got)
	}
	e.path.Rebind()
	_, _ = e.node.WriteToUDPAddrPort(message("OPTIONS sip:x SIP/2.0", at(theirs), at(e.node)), image)
	if got, _, ok := e.read(e.phone, 100*time.Millisecond); ok {
		t.Errorf("after Rebind the phone is reached at its old port: %q", got)
	}
	_, _ = e.phone.WriteToUDPAddrPort([]byte("\r\n\r\n"), e.path.Server())
	if _, again, ok := e.read(e.node, 5*time.Second); !ok || again == image {
		t.Errorf("after Rebind the phone is at %s, as before", again)
	}
}

// audioOf reads where a message wants sound, and checks its length.
func audioOf(t *testing.T, msg []byte) netip.AddrPort {
	t.Helper()
	head, body, _ := strings.Cut(string(msg), "\r\n\r\n")
	if !strings.Contains(head, fmt.Sprintf("Content-Length: %d", len(body))) {
		t.Errorf("the body has %d bytes in %q", len(body), msg)
	}
	var host string
	var port uint16
	for _, line := range strings.Split(body, "\r\n") {
		_, _ = fmt.Sscanf(line, "c=IN IP4 %s", &host)
		_, _ = fmt.Sscanf(line, "m=audio %d", &port)
	}
	return netip.AddrPortFrom(netip.MustParseAddr(host), port)
}

func sound(seq uint16) []byte {
	b := make([]byte, 172)
	b[0] = 0x80
	binary.BigEndian.PutUint16(b[2:], seq)
	return b
}

// TestEveryPacketIsAccountedFor sends a thousand packets over a bad path: what is listed as dropped, doubled and held up
// must be exactly what arrives.
func TestEveryPacketIsAccountedFor(t *testing.T) {
	const n, delay = 1000, 30 * time.Millisecond
	bad := Way{Delay: delay, Jitter: 5 * time.Millisecond, Loss: 0.1, Duplicate: 0.05, Reorder: 0.05}
	e := newEnds(t, Ways{Media: bad}, Ways{})
	ours, theirs := listenEven(t), listenEven(t)
	_, _ = e.phone.WriteToUDPAddrPort(message("INVITE sip:b@x SIP/2.0", at(ours), at(e.phone)), e.path.Server())
	_, image, _ := e.read(e.node, 5*time.Second)
	_, _ = e.node.WriteToUDPAddrPort(message("SIP/2.0 200 OK", at(theirs), at(e.node)), image)
	got, _, _ := e.read(e.phone, 5*time.Second)
	to := audioOf(t, got)
	begin := time.Now()
	go func() {
		for i := range n {
			_, _ = ours.WriteToUDPAddrPort(sound(uint16(i)), to)
			time.Sleep(time.Millisecond)
		}
	}()
	var arrived []uint16
	for {
		b, _, ok := e.read(theirs, 500*time.Millisecond)
		if !ok && len(arrived) > 0 {
			break
		}
		if len(arrived) == 0 && time.Since(begin) < delay {
			t.Errorf("the first arrived after %v", time.Since(begin))
		}
		if ok {
			arrived = append(arrived, binary.BigEndian.Uint16(b[2:]))
		}
	}
	var inOrder []uint16
	want, held := map[uint16]int{}, map[uint16]bool{}
	for _, p := range e.path.Packets() {
		seq := binary.BigEndian.Uint16(p.Data[2:])
		switch {
		case p.Kind != RTP || p.Dropped:
			continue
		case p.Twice:
			want[seq]++
		}
		want[seq]++
		held[seq] = p.Held
	}
	seen := map[uint16]bool{}
	for _, seq := range arrived {
		want[seq]--
		if !held[seq] && !seen[seq] { // a second copy comes later
			seen[seq] = true
			inOrder = append(inOrder, seq)
		}
	}
	for seq, k := range want {
		if k != 0 {
			t.Errorf("packet %d arrived %d times less than listed", seq, k)
		}
	}
	if slices.IsSorted(arrived) || len(inOrder) < n/2 {
		t.Errorf("%d arrived, %d of them not held up; in order: %v", len(arrived), len(inOrder), slices.IsSorted(arrived))
	}
	if !slices.IsSorted(inOrder) {
		t.Errorf("packets overtook others that were not held up: %v", inOrder)
	}
}

func TestReplaceBoth(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.0.0.1:506"), netip.MustParseAddrPort("10.0.0.2:70")
	c := netip.MustParseAddrPort("10.0.0.3:9")
	for in, want := range map[string]string{
		"sip:x@10.0.0.1:506>":             "sip:x@10.0.0.2:70>",
		"10.0.0.1:5060 110.0.0.1:506":     "10.0.0.1:5060 110.0.0.1:506",
		"10.0.0.2:70,10.0.0.1:506":        "10.0.0.3:9,10.0.0.2:70",
		"10.0.0.1:5061 then 10.0.0.1:506": "10.0.0.1:5061 then 10.0.0.2:70",
		"":                                "",
	} {
		if got := replaceBoth(in, [2]swap{{a, b}, {b, c}}); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func FuzzTranslate(f *testing.F) {
	f.Add([]byte("INVITE x SIP/2.0\r\nl: 3\r\n\r\nc=\r\nm=audio 5 RTP/AVP 0\r\n"), true)
	f.Add(message("SIP/2.0 200 OK", netip.MustParseAddrPort("192.0.2.1:0"), netip.MustParseAddrPort("192.0.2.1:5060")), false)
	f.Add([]byte("\r\n\r\n"), true)
	a, b := netip.MustParseAddrPort("192.0.2.1:5060"), netip.MustParseAddrPort("192.0.2.2:5070")
	f.Fuzz(func(t *testing.T, msg []byte, up bool) {
		p := &Path{closed: true, front: map[netip.AddrPort]*socket{}, back: map[netip.AddrPort]*socket{}}
		out := p.translate(msg, up, [2]swap{{a, b}, {b, a}})
		if _, body, ok := bytes.Cut(msg, []byte("\r\n\r\n")); ok && !bytes.HasSuffix(out, body) && !bytes.Contains(body, []byte("m=audio ")) {
			t.Errorf("the body of %q became %q", msg, out)
		}
	})
}
